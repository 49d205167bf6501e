//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to `path` so that a reader, and a crash at any moment, sees the old file or the new
/// one: a temporary file in the same folder, flushed to the disk, then renamed. The temporary file is
/// removed when anything fails.
///
/// # Errors
/// [`Error::Io`] naming the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // The process id keeps two writers apart; the name stays recognisable if a crash leaves it behind.
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(failed(source));
    }
    sync_folder(path).map_err(failed)
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`], or [`Error::InvalidFile`] with both sizes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let too_long = |got: u64| {
        let why = format!("it has {got} bytes or more, above the limit of {limit}");
        Error::InvalidFile { path: path.to_owned(), why }
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > limit {
        return Err(too_long(length));
    }
    let mut bytes = Vec::new();
    // A device or pipe has no length, so the limit holds while reading too.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Makes the rename itself durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened as files here; the file itself has been flushed.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, &[7; 10]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap(), [7; 10]);
        let refused = read_bounded(&path, 9).unwrap_err().to_string();
        assert!(refused.contains("10 bytes or more, above the limit of 9"), "{refused}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder of that name cannot be replaced by a file.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("inside"), b"x").unwrap();
        let refused = write_atomic(&taken, b"new").unwrap_err().to_string();
        assert!(refused.contains("taken"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
