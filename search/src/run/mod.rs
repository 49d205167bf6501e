//! A run: one folder that holds everything a search was told and found.
//!
//! | in the folder | what |
//! | --- | --- |
//! | `run.toml` | the recipe as it took effect, versions, machine; written once |
//! | `run.db` | every record, committed as it happens (SQLite, WAL, `synchronous = FULL`) |
//! | `checkpoints/` | training states, each replaced atomically |
//! | `models/` | exported models |
//! | `targets/` | further devices of the same search, a run each |
//! | `trials.jsonl` | the trials for other programs, written by [`Run::export_trials`] |
//! | `run.lock` | held by the one process that writes; the operating system frees it when that ends |
//!
//! Nothing that was committed is lost by `kill -9`, and no record depends on a clock: times stand in
//! a table of their own.

mod file;
mod log;
mod manifest;
mod store;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub use file::{write_atomic, write_atomic_with};
pub(crate) use manifest::differences;
pub use manifest::{Further, Manifest, machine};
pub use store::{CurveRow, Phase, ReferenceRecord, Table, TrialRecord};

use crate::error::{At, Error, Result};

/// Version of the layout of run folders. A run of a newer layout is refused.
pub const FORMAT: u32 = 1;

/// Names of the documents that every search stores; other names are free.
pub mod document {
    /// What was used of the image source, with skipped files and channel statistics.
    pub const IMAGES: &str = "images";
    /// Which image trains, scores, and tests.
    pub const SPLIT: &str = "split";
    /// What the members of the space cost.
    pub const INTERVALS: &str = "intervals";
    /// Where the reference subnets lie.
    pub const FUSION: &str = "fusion";
}

/// An open run.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    manifest: Manifest,
    database: Connection,
    /// Held while open for writing; `None`: open for reading.
    lock: Option<Lock>,
}

impl Run {
    /// Begins a run in `folder`, which must not exist or be empty.
    ///
    /// # Errors
    /// When there is a run or something else in the folder, another process is beginning one there, or
    /// the disk refuses.
    pub fn create(folder: &Path, manifest: Manifest) -> Result<Self> {
        std::fs::create_dir_all(folder).at(folder)?;
        // Asked by name: a run holds other files too, and a listing has no order.
        if folder.join("run.toml").exists() {
            return Err(Error::Taken {
                path: folder.to_owned(),
                problem: "there is a run already".to_owned(),
                next: "continue it with --resume, or choose another folder".to_owned(),
            });
        }
        for entry in std::fs::read_dir(folder).at(folder)? {
            let name = entry.at(folder)?.file_name();
            let name = name.to_string_lossy();
            // What a process leaves that was killed before its run began.
            if name != "run.lock" && !name.starts_with("run.toml.") {
                return Err(Error::Taken {
                    path: folder.to_owned(),
                    problem: format!("the folder is not empty: it holds {name}"),
                    next: "choose another folder".to_owned(),
                });
            }
        }
        let lock = lock(folder)?;
        // From here on the folder is a run, and whatever else is missing is made when it is opened.
        write_atomic(&folder.join("run.toml"), manifest.to_toml()?.as_bytes())?;
        Self::writing(folder, manifest, lock)
    }

    /// Opens a run to go on with it.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process writes to it, [`Error::NoRun`] when it is none,
    /// [`Error::NotARun`] when it is damaged or comes from a newer version.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let lock = lock(folder)?;
        Self::writing(folder, manifest, lock)
    }

    /// Opens a run to look at it, while another process may be writing.
    ///
    /// # Errors
    /// [`Error::NoRun`] when it is none, [`Error::NotARun`] when it is damaged or comes from a newer version.
    pub fn open_read_only(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let database = store::open_read_only(&folder.join("run.db"))?;
        Ok(Self { folder: folder.to_owned(), manifest, database, lock: None })
    }

    fn writing(folder: &Path, manifest: Manifest, lock: Lock) -> Result<Self> {
        for part in ["checkpoints", "models"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path).at(&path)?;
            file::sweep(&path).at(&path)?;
        }
        file::sweep(folder).at(folder)?;
        let database = store::open(&folder.join("run.db"))?;
        Ok(Self { folder: folder.to_owned(), manifest, database, lock: Some(lock) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the run was told when it began.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether this process may write.
    pub fn is_writer(&self) -> bool {
        self.lock.is_some()
    }

    /// The file of a checkpoint, such as `supernet`.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.join("checkpoints").join(format!("{name}.safetensors"))
    }

    /// The folder of exported models.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The folder of the run for a further device.
    pub fn target(&self, name: &str) -> PathBuf {
        self.folder.join("targets").join(name)
    }

    fn database_path(&self) -> PathBuf {
        self.folder.join("run.db")
    }
}

/// The write lock. It ends with the process however that ends.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a child process that is just being started still holds a copy of
    /// the file, and with it the lock.
    fn drop(&mut self) {
        // Nothing is lost when it fails: the lock then ends with the file.
        let _ = self.0.unlock();
    }
}

/// Takes the write lock.
fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join("run.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| file::disk_error(&path, "the lock", source))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
    }
}

#[cfg(test)]
mod tests;
