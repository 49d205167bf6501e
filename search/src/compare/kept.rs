//! What a comparison has finished, on disk, so that the same comparison goes on where it was stopped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{At, Error, Result};

/// The file in a comparison's folder.
const FILE: &str = "finished.jsonl";

/// One line of it.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: Value,
}

/// Finished searches and fits by a key that says all they depend on.
#[derive(Debug, Default)]
pub struct Kept {
    known: BTreeMap<String, Value>,
    /// `None`: nothing outlasts the process.
    file: Option<(PathBuf, Mutex<File>)>,
}

impl Kept {
    /// What was kept in this folder, which is made where it is missing.
    ///
    /// # Errors
    /// The disk's; [`Error::Unusable`] for a folder that another comparison is writing to, and for a line that nobody here wrote. A last
    /// line that was cut off is dropped.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).at(folder)?;
        let path = folder.join(FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path).at(&path)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::Unusable {
                thing: folder.display().to_string(),
                problem: "another comparison is writing there".to_owned(),
                next: "wait until it is over, or name another folder".to_owned(),
            });
        }
        let text = std::fs::read_to_string(&path).at(&path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut known = BTreeMap::new();
        for (at, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|error| Error::Unusable {
                thing: format!("{} line {}", path.display(), at + 1),
                problem: error.to_string(),
                next: "name another folder".to_owned(),
            })?;
            known.insert(line.key, line.value);
        }
        file.set_len(whole as u64).at(&path)?;
        Ok(Self { known, file: Some((path, Mutex::new(file))) })
    }

    /// Number of finished searches and fits that were found.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// What was kept under this key, else what `make` gives, which is then kept.
    ///
    /// # Errors
    /// Those of `make`; the disk's.
    pub fn or<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        // What another version wrote in another form is made again.
        if let Some(found) = self.known.get(key).and_then(|value| T::deserialize(value).ok()) {
            return Ok(found);
        }
        let made = make()?;
        if let Some((path, file)) = &self.file {
            let value = serde_json::to_value(&made).unwrap_or(Value::Null);
            let line = serde_json::to_string(&Line { key: key.to_owned(), value }).unwrap_or_default();
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // In one write, so that a line is whole or the last.
            file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).at(path)?;
        }
        Ok(made)
    }
}

/// Changes with what samplers and predictors compute: what older programs kept in a folder is then made again.
const VERSION: usize = 3;

/// The key of what depends on these parts, on the order they stand in, and on the version of the program.
pub(super) fn key(parts: &[&dyn std::fmt::Debug]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{} {VERSION}", env!("CARGO_PKG_VERSION")));
    for part in parts {
        hash.update(format!("\u{0}{part:?}"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_is_not_done_again_and_a_cut_line_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let never = || -> Result<Vec<f64>> { panic!("it was kept") };
        {
            let kept = Kept::open(folder.path()).expect("opens");
            assert_eq!(kept.or("a", || Ok(vec![0.1, f64::MAX])).expect("made"), [0.1, f64::MAX]);
            assert_eq!(kept.or("b", || Ok(vec![2.0])).expect("made"), [2.0]);
            let error = Kept::open(folder.path()).expect_err("locked").to_string();
            assert!(error.contains("another comparison is writing"), "{error}");
        }
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).expect("text");
        std::fs::write(&path, &text[..text.len() - 3]).expect("cut");
        let kept = Kept::open(folder.path()).expect("opens");
        assert_eq!(kept.count(), 1);
        assert_eq!(kept.or("a", never).expect("kept"), [0.1, f64::MAX]);
        assert_eq!(kept.or("b", || Ok(vec![3.0])).expect("made again"), [3.0]);
        drop(kept);
        let kept = Kept::open(folder.path()).expect("opens");
        assert_eq!(kept.or("b", never).expect("kept"), [3.0]);
        drop(kept);
        std::fs::write(&path, "{}\n").expect("written");
        let error = Kept::open(folder.path()).expect_err("a stranger's").to_string();
        assert!(error.contains("line 1"), "{error}");
        assert_ne!(key(&[&"a", &"b"]), key(&[&"ab", &""]));
    }
}
