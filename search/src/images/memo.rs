//! What was in a folder's files when they were last read, so that a second start does not read
//! gigabytes of photographs only to find that they are the same.
//!
//! A file whose length and time of change are as remembered is taken to have the remembered content.
//! A file changed less than two seconds before it was read is not remembered: it could change again
//! within the same tick of the file system's clock. What is remembered is checked once more whenever
//! an image is decoded.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::Hash;

/// Younger files are not remembered.
const SETTLED: Duration = Duration::from_secs(2);
/// A longer memory is not read.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    length: u64,
    /// Nanoseconds since 1970.
    changed: u64,
    #[serde(with = "super::hex_digits")]
    hash: Hash,
}

/// The memory of one folder.
#[derive(Default)]
pub(crate) struct Memo {
    path: Option<PathBuf>,
    lines: BTreeMap<String, Line>,
}

fn changed(meta: &Metadata) -> Option<u64> {
    u64::try_from(meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

impl Memo {
    /// Reads what is remembered about `root`. Whatever is wrong with it, the answer is an empty
    /// memory: it saves time and decides nothing.
    pub fn read(folder: Option<&Path>, root: &Path) -> Memo {
        let Some(folder) = folder else { return Memo::default() };
        let real = fs::canonicalize(root).unwrap_or_else(|_| root.into());
        let name: Hash = Sha256::digest(real.as_os_str().as_encoded_bytes()).into();
        let stem: String = super::hex(&name).chars().take(32).collect();
        let path = folder.join(format!("{stem}.memo"));
        let small = fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_BYTES);
        let text = if small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        // The first line is the digest of the rest.
        let lines = text
            .split_at_checked(65)
            .filter(|(digest, rest)| *digest == format!("{}\n", super::hex(&Sha256::digest(rest))).as_bytes())
            .and_then(|(_, rest)| serde_json::from_slice(rest).ok())
            .unwrap_or_default();
        Memo { path: Some(path), lines }
    }

    /// The content of a file, where it is as remembered.
    pub fn get(&self, name: &str, meta: &Metadata) -> Option<Hash> {
        let line = self.lines.get(name)?;
        (line.length == meta.len() && Some(line.changed) == changed(meta)).then_some(line.hash)
    }

    /// Replaces the memory by these files. A memory that cannot be written costs time, not results.
    pub fn write(&self, files: impl Iterator<Item = (String, Metadata, Hash)>) {
        let Some(path) = &self.path else { return };
        let now = SystemTime::now();
        let settled = |meta: &Metadata| {
            meta.modified().ok().and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age >= SETTLED)
        };
        let lines: BTreeMap<String, Line> = files
            .filter(|(_, meta, _)| settled(meta))
            .filter_map(|(name, meta, hash)| {
                Some((name, Line { length: meta.len(), changed: changed(&meta)?, hash }))
            })
            .collect();
        if lines == self.lines {
            return;
        }
        let saved = serde_json::to_vec(&lines).map_err(std::io::Error::from).and_then(|rest| {
            let mut text = format!("{}\n", super::hex(&Sha256::digest(&rest))).into_bytes();
            text.extend(rest);
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            let temporary = path.with_extension(format!("memo.{}", std::process::id()));
            fs::write(&temporary, text)
                .and_then(|()| fs::rename(&temporary, path))
                .inspect_err(|_| drop(fs::remove_file(&temporary)))
        });
        if let Err(e) = saved {
            tracing::debug!("{}: {e}; the files will be read again next time", path.display());
        }
    }

    /// Forgets this folder, after a file turned out to be other than remembered.
    pub fn forget(folder: Option<&Path>, root: &Path) {
        if let Some(path) = Memo::read(folder, root).path {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[path = "tests/memo.rs"]
mod tests;
