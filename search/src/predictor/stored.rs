//! Pre-trained networks on disk, in the folder for what can be made again.
//!
//! A file is the SHA-256 of what follows, then every network's parameters as little-endian floats. What is damaged or cannot be written
//! is made again.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::run::write_atomic;

/// Length of the hash.
const HASH: usize = 32;

/// The file of what `key` stands for; `None` without a folder.
pub(super) fn path(key: &str) -> Option<PathBuf> {
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    crate::cache::folder("predictors").map(|folder| folder.join(hash))
}

/// `members` lists of `count` parameters; `None` where they are not, or not whole.
pub(super) fn read(path: &Path, members: usize, count: usize) -> Option<Vec<Vec<f32>>> {
    let bytes = std::fs::read(path).ok()?;
    let (hash, body) = bytes.split_at_checked(HASH)?;
    if count == 0 || body.len() != 4 * members * count || Sha256::digest(body).as_slice() != hash {
        return None;
    }
    let list = |part: &[u8]| {
        part.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
    };
    Some(body.chunks_exact(4 * count).map(list).collect())
}

/// Keeps the lists. A disk that takes nothing is no error: next time they are made again.
pub(super) fn write<'a>(path: &Path, members: impl Iterator<Item = &'a [f32]>) {
    let body: Vec<u8> = members.flatten().flat_map(|value| value.to_le_bytes()).collect();
    let mut bytes = Sha256::digest(&body).to_vec();
    bytes.extend(body);
    let made = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok());
    if made && let Err(error) = write_atomic(path, &bytes) {
        tracing::info!("pre-trained networks are not kept: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper").join("file");
        let lists = [vec![1.5f32, -0.25, f32::MIN_POSITIVE], vec![0.0, 3.0, -7.5]];
        assert_eq!(read(&path, 2, 3), None);
        write(&path, lists.iter().map(Vec::as_slice));
        assert_eq!(read(&path, 2, 3).expect("there"), lists);
        assert_eq!(
            (read(&path, 3, 2), read(&path, 2, 2)),
            (Some(vec![vec![1.5, -0.25], vec![f32::MIN_POSITIVE, 0.0], vec![3.0, -7.5]]), None)
        );
        let mut bytes = std::fs::read(&path).expect("bytes");
        bytes[40] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(read(&path, 2, 3), None);
        std::fs::write(&path, [0; 7]).expect("written");
        assert_eq!(read(&path, 2, 3), None);
    }
}
