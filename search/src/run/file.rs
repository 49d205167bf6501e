//! Files that are either whole or not there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Ending of files that are being written.
const TEMPORARY: &str = ".tmp";

/// Writes `bytes` so that `path` holds either its old content or all of the new, even when the
/// machine stops in between: temporary file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// [`Error::DiskFull`] or [`Error::Io`], with the path; the old content then still stands.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, &format!("{} bytes", bytes.len()), |file| file.write_all(bytes))
}

/// Like [`write_atomic`], for content too large to hold in one piece; `what` is how the disk-full
/// error calls it.
///
/// # Errors
/// Those of [`write_atomic`] and of `write`.
pub fn write_atomic_with(
    path: &Path,
    what: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let temporary = temporary(path);
    let result = File::create(&temporary).and_then(|file| fill(file, write)).and_then(|()| {
        std::fs::rename(&temporary, path)?;
        sync_folder(path)
    });
    result.map_err(|source| {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        disk_error(path, what, source)
    })
}

fn fill(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = BufWriter::new(file);
    write(&mut buffer)?;
    buffer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Beside `path`, so that the rename stays on one file system.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    PathBuf::from(name)
}

/// Makes a rename outlast a power failure. Only Unix can open a folder as a file.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

pub(super) fn disk_error(path: &Path, what: &str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::DiskFull { path: path.to_owned(), what: what.to_owned() }
        }
        _ => Error::Io { path: path.to_owned(), source },
    }
}

/// Removes what a killed writer left behind in a folder.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn writes_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.bin");
        write_atomic(&path, b"one").expect("writes");
        write_atomic(&path, b"two!").expect("replaces");
        assert_eq!(std::fs::read(&path).expect("reads"), b"two!");
        assert_eq!(names(folder.path()), ["model.bin"]);
    }

    #[test]
    fn a_failure_half_way_keeps_the_old_content() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.bin");
        write_atomic(&path, b"old").expect("writes");
        let error = write_atomic_with(&path, "a model", |file| {
            file.write_all(&[7; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let error = error.expect_err("full").to_string();
        assert!(error.contains("model.bin") && error.contains("full (writing a model)"), "{error}");
        assert_eq!(std::fs::read(&path).expect("reads"), b"old");
        assert_eq!(names(folder.path()), ["model.bin"]);
        let missing = folder.path().join("no/such/file");
        let error = write_atomic(&missing, b"x").expect_err("no folder").to_string();
        assert!(error.contains("no/such/file"), "{error}");
    }

    /// The kernel's own full device gives the error a full disk gives.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_called_full() {
        let full = File::options().write(true).open("/dev/full").expect("device");
        let error = fill(full, |file| file.write_all(b"x")).expect_err("full");
        let error = disk_error(Path::new("ckpt"), "1 bytes", error);
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    }

    /// Unmounts however the test ends.
    #[cfg(target_os = "linux")]
    struct Small(tempfile::TempDir);

    #[cfg(target_os = "linux")]
    impl Small {
        /// A file system of 64 KiB; `None` without the right to mount one.
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().expect("folder");
            let mounted = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
                .arg(folder.path())
                .output()
                .is_ok_and(|output| output.status.success());
            mounted.then_some(Self(folder))
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for Small {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_fills_up_keeps_the_last_checkpoint() {
        let Some(disk) = Small::mount() else {
            eprintln!("skipped: no right to mount a small file system");
            return;
        };
        let path = disk.0.path().join("checkpoint.safetensors");
        write_atomic(&path, &[1; 30_000]).expect("fits");
        let error = write_atomic(&path, &[2; 200_000]).expect_err("does not fit");
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("200000 bytes"), "{error}");
        assert_eq!(std::fs::read(&path).expect("reads"), [1; 30_000]);
        assert_eq!(names(disk.0.path()), ["checkpoint.safetensors"]);
        write_atomic(&path, &[3; 10_000]).expect("there is room again");
    }

    #[test]
    fn leftovers_are_swept() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.bin.123.tmp"), b"half").expect("writes");
        std::fs::write(folder.path().join("a.bin"), b"whole").expect("writes");
        sweep(folder.path()).expect("sweeps");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }
}
