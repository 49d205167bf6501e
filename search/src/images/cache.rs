//! Images decoded and resized once: squares of RGB bytes in a memory-mapped file.
//!
//! The file's name is the hash of what went in (every image's content, the side, the version of
//! this format), so a changed source never meets an old cache. Layout, little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic `MTIMAGES` |
//! | 4, 4 | format version, side in px |
//! | 8, 8 | images, length of the list of skipped ones |
//! | 32 | key |
//! | 32 | digest of everything after the header |
//! | 32 | SHA-256 of the header up to here |
//! | images * side * side * 3 | pixels, rows from the top, interleaved |
//! | images * 48 | content hash, original width and height, format, 7 zero bytes |
//! | rest | skipped images, JSON |
//!
//! It is written beside its final place, synced and renamed: a file of that name is whole, and is
//! checked again whenever it is opened.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fast_image_resize::Resizer;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::decode::{self, Format, Picture, Reason};
use super::progress::Counter;
use super::source::Hash;
use super::{ImagesError, Progress, Stage};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"MTIMAGES";
/// Raised whenever the same image would become other bytes.
const VERSION: u32 = 1;
const HEADER: usize = 128;
const ENTRY: usize = 48;
/// The digest is taken over the digests of pieces of this many bytes, so that all cores can check.
const PIECE: usize = 1 << 20;
/// Pixels decoded between two writes; bounds the memory of a build.
const BLOCK_BYTES: usize = 32 << 20;

/// What the cache knows about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub hash: Hash,
    pub width: u32,
    pub height: u32,
    pub format: Format,
}

/// An image that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bad {
    #[serde(with = "super::hex_digits")]
    pub hash: Hash,
    pub reason: String,
}

/// An open cache.
pub(crate) struct Cache {
    path: PathBuf,
    map: Mmap,
    side: u32,
    pub entries: Vec<Entry>,
    pub bad: Vec<Bad>,
}

/// Where a cache came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was there.
    Reused,
    /// It was not there.
    Built,
    /// What was there was damaged, in this way.
    Rebuilt(String),
}

/// The folder of image caches: `images` in [`crate::cache`]'s.
///
/// # Errors
/// There is no such folder.
pub fn folder() -> Result<PathBuf> {
    crate::cache::folder("images").ok_or_else(|| ImagesError::NoCacheFolder.into())
}

/// Identity of a cache: the format, the side and every candidate's content.
pub(crate) fn key(side: u32, hashes: &[Hash]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(MAGIC);
    sha.update(VERSION.to_le_bytes());
    sha.update(side.to_le_bytes());
    for hash in hashes {
        sha.update(hash);
    }
    sha.finalize().into()
}

impl Cache {
    /// Opens the cache of `hashes` (sorted, each once) in `folder`, building it where it is absent
    /// or damaged. `load` decodes the image at a place of `hashes`.
    pub fn open(
        folder: &Path,
        side: u32,
        hashes: &[Hash],
        load: &(dyn Fn(usize) -> std::result::Result<Picture, Reason> + Sync),
        name: &dyn Fn(usize) -> String,
        progress: &Progress,
    ) -> Result<(Cache, Origin)> {
        Self::open_through(folder, side, hashes, load, name, progress, |file| file)
    }

    /// [`Cache::open`] with what is written passing through `wrap`, so that a test can fill the disk.
    fn open_through<W: Write + Seek>(
        folder: &Path,
        side: u32,
        hashes: &[Hash],
        load: &(dyn Fn(usize) -> std::result::Result<Picture, Reason> + Sync),
        name: &dyn Fn(usize) -> String,
        progress: &Progress,
        wrap: impl Fn(File) -> W,
    ) -> Result<(Cache, Origin)> {
        let key = key(side, hashes);
        let stem: String = super::hex(&key).chars().take(32).collect();
        let path = folder.join(format!("{stem}-{side}.rgb"));
        if let Ok(cache) = Self::read(&path, side, &key, progress) {
            return Ok((cache, Origin::Reused));
        }
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ImagesError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        // One builder at a time. The lock is on a file of its own that is never renamed or removed:
        // a waiter must not wake up holding the finished cache.
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        lock.lock().map_err(io(&lock_path))?;
        let origin = match Self::read(&path, side, &key, progress) {
            Ok(cache) => return Ok((cache, Origin::Reused)),
            Err(Unusable::Absent) => Origin::Built,
            Err(Unusable::Damaged(why)) => {
                tracing::warn!("{}: {why}; building the image cache again", path.display());
                Origin::Rebuilt(why)
            }
        };
        let count = progress.counter(Stage::Decode, hashes.len());
        let mut build = Build { side, hashes, load, name, count, written: 0 };
        let temporary = Temporary(path.with_extension("tmp"));
        let done = File::create(&temporary.0).map_err(Failed::Io).and_then(|file| {
            let sync = file.try_clone().map_err(Failed::Io)?;
            build.write(&mut BufWriter::with_capacity(1 << 20, wrap(file)), &key)?;
            sync.sync_all().map_err(Failed::Io)?;
            fs::rename(&temporary.0, &path).map_err(Failed::Io)?;
            // The rename itself must survive a power cut; where folders cannot be synced, it may not.
            if let Ok(folder) = File::open(folder) {
                let _ = folder.sync_all();
            }
            Ok(())
        });
        match done {
            Ok(()) => {}
            Err(Failed::Picture(error)) => return Err(error.into()),
            Err(Failed::Stopped) => return Err(Error::Interrupted),
            Err(Failed::Io(source)) => {
                let needed =
                    (hashes.len() as u64) * (u64::from(side).pow(2) * 3 + ENTRY as u64) + HEADER as u64;
                let written = build.written;
                return Err(ImagesError::CacheWrite { path, written, needed, source }.into());
            }
        }
        match Self::read(&path, side, &key, &Progress::none()) {
            Ok(cache) => Ok((cache, origin)),
            Err(unusable) => {
                let source = io::Error::other(unusable.to_string());
                Err(ImagesError::Io { path, source }.into())
            }
        }
    }

    /// Opens and checks a cache file.
    fn read(path: &Path, side: u32, key: &Hash, progress: &Progress) -> std::result::Result<Cache, Unusable> {
        let damaged = |why: String| Err(Unusable::Damaged(why));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Unusable::Absent),
            Err(e) => return damaged(e.to_string()),
        };
        // SAFETY: the mapping is only read, as plain bytes. Nobody writes to a finished cache: it is
        // replaced by renaming, which leaves this mapping the old file.
        let map = match unsafe { Mmap::map(&file) } {
            Ok(map) => map,
            Err(e) => return damaged(e.to_string()),
        };
        let Some((header, body)) = map.split_first_chunk::<HEADER>() else {
            return damaged(format!("has {} bytes, a header has {HEADER}", map.len()));
        };
        let Some(expected) = Header::read(header) else {
            return damaged("its header is damaged or of another version".into());
        };
        if (expected.side, &expected.key) != (side, key) {
            return damaged("it was made for other images".into());
        }
        let image = u64::from(side).pow(2) * 3;
        let length =
            expected.images.checked_mul(image + ENTRY as u64).and_then(|n| n.checked_add(expected.skipped));
        if length != Some(body.len() as u64) {
            return damaged(format!("has {} bytes of data, its header says {length:?}", body.len()));
        }
        let count = progress.counter(Stage::Check, body.len().div_ceil(PIECE));
        if digest(body, &count) != expected.digest {
            return damaged("its data do not match their digest".into());
        }
        let pixels = (expected.images * image) as usize;
        let (table, skipped) = body
            .get(pixels..)
            .and_then(|rest| rest.split_at_checked(expected.images as usize * ENTRY))
            .unwrap_or_default();
        let entries: Option<Vec<Entry>> = table.chunks_exact(ENTRY).map(Entry::read).collect();
        let (Some(entries), Ok(bad)) = (entries, serde_json::from_slice(skipped)) else {
            return damaged("its list of images cannot be read".into());
        };
        Ok(Cache { path: path.into(), map, side, entries, bad })
    }

    /// The square of one image, `side * side * 3` bytes.
    pub fn pixels(&self, index: usize) -> Option<&[u8]> {
        if index >= self.entries.len() {
            return None;
        }
        let image = (self.side as usize).pow(2) * 3;
        let at = HEADER + index * image;
        self.map.get(at..at + image)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("is not there")]
    Absent,
    #[error("{0}")]
    Damaged(String),
}

enum Failed {
    Io(io::Error),
    Picture(ImagesError),
    Stopped,
}

/// Removes a half-written file, whatever ends the build.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

struct Header {
    side: u32,
    images: u64,
    skipped: u64,
    key: Hash,
    digest: Hash,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.side.to_le_bytes());
        out.extend_from_slice(&self.images.to_le_bytes());
        out.extend_from_slice(&self.skipped.to_le_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.digest);
        let own: Hash = Sha256::digest(&out).into();
        out.extend_from_slice(&own);
        out
    }

    fn read(bytes: &[u8; HEADER]) -> Option<Header> {
        let (data, own) = bytes.split_last_chunk::<32>()?;
        let good: Hash = Sha256::digest(data).into();
        let (magic, rest) = data.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        if &good != own || magic != MAGIC || u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (side, rest) = rest.split_first_chunk::<4>()?;
        let (images, rest) = rest.split_first_chunk::<8>()?;
        let (skipped, rest) = rest.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let digest = rest.first_chunk::<32>()?;
        Some(Header {
            side: u32::from_le_bytes(*side),
            images: u64::from_le_bytes(*images),
            skipped: u64::from_le_bytes(*skipped),
            key: *key,
            digest: *digest,
        })
    }
}

impl Entry {
    fn bytes(&self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        out[..32].copy_from_slice(&self.hash);
        out[32..36].copy_from_slice(&self.width.to_le_bytes());
        out[36..40].copy_from_slice(&self.height.to_le_bytes());
        out[40] = self.format.code();
        out
    }

    fn read(bytes: &[u8]) -> Option<Entry> {
        let (hash, rest) = bytes.split_first_chunk::<32>()?;
        let (width, rest) = rest.split_first_chunk::<4>()?;
        let (height, rest) = rest.split_first_chunk::<4>()?;
        let format = Format::from_code(*rest.first()?)?;
        let (width, height) = (u32::from_le_bytes(*width), u32::from_le_bytes(*height));
        Some(Entry { hash: *hash, width, height, format })
    }
}

/// SHA-256 over the SHA-256 of each piece.
fn digest(body: &[u8], count: &Counter) -> Hash {
    let pieces: Vec<Hash> = body
        .par_chunks(PIECE)
        .map(|piece| {
            count.one();
            Sha256::digest(piece).into()
        })
        .collect();
    Sha256::digest(pieces.as_flattened()).into()
}

/// The same digest, fed as the data are written.
#[derive(Default)]
struct Feed {
    pieces: Vec<Hash>,
    piece: Sha256,
    filled: usize,
}

impl Feed {
    fn update(&mut self, mut data: &[u8]) {
        while let Some((now, later)) = data.split_at_checked(data.len().min(PIECE - self.filled)) {
            if now.is_empty() {
                break;
            }
            self.piece.update(now);
            self.filled += now.len();
            data = later;
            if self.filled == PIECE {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.pieces.push(std::mem::take(&mut self.piece).finalize().into());
        self.filled = 0;
    }

    fn finish(mut self) -> Hash {
        if self.filled > 0 {
            self.close();
        }
        Sha256::digest(self.pieces.as_flattened()).into()
    }
}

struct Build<'a> {
    side: u32,
    hashes: &'a [Hash],
    load: &'a (dyn Fn(usize) -> std::result::Result<Picture, Reason> + Sync),
    name: &'a dyn Fn(usize) -> String,
    count: Counter<'a>,
    written: u64,
}

impl Build<'_> {
    fn write(&mut self, out: &mut (impl Write + Seek), key: &Hash) -> std::result::Result<(), Failed> {
        let mut feed = Feed::default();
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        self.put(out, None, &[0; HEADER])?;
        let block = (BLOCK_BYTES / ((self.side as usize).pow(2) * 3)).clamp(1, 4096);
        for start in (0..self.hashes.len()).step_by(block) {
            // Decoded in parallel, collected and written in order: the file does not depend on threads.
            let decoded: Option<Vec<_>> = (start..self.hashes.len().min(start + block))
                .into_par_iter()
                .map_init(Resizer::new, |resizer, at| {
                    if self.count.stopped() {
                        return None;
                    }
                    let done = (self.load)(at).and_then(|picture| {
                        let square = decode::prepare(&picture, self.side, resizer)?;
                        Ok((square, picture.width, picture.height, picture.format))
                    });
                    self.count.one();
                    Some((at, done))
                })
                .collect();
            for (at, done) in decoded.ok_or(Failed::Stopped)? {
                let Some(&hash) = self.hashes.get(at) else { continue };
                match done {
                    Ok((square, width, height, format)) => {
                        self.put(out, Some(&mut feed), &square)?;
                        entries.push(Entry { hash, width, height, format });
                    }
                    // It could be read a moment ago, so its content is not to blame: a cache must
                    // not remember this.
                    Err(
                        reason @ (Reason::Unreadable(_)
                        | Reason::NotAFile
                        | Reason::TooManyBytes(_)
                        | Reason::Changed),
                    ) => {
                        let path = PathBuf::from((self.name)(at));
                        return Err(Failed::Picture(ImagesError::Picture { path, reason }));
                    }
                    Err(reason) => bad.push(Bad { hash, reason: reason.to_string() }),
                }
            }
        }
        for entry in &entries {
            self.put(out, Some(&mut feed), &entry.bytes())?;
        }
        let skipped = serde_json::to_vec(&bad).map_err(|e| Failed::Io(e.into()))?;
        self.put(out, Some(&mut feed), &skipped)?;
        let header = Header {
            side: self.side,
            images: entries.len() as u64,
            skipped: skipped.len() as u64,
            key: *key,
            digest: feed.finish(),
        };
        out.seek(SeekFrom::Start(0)).map_err(Failed::Io)?;
        out.write_all(&header.bytes()).map_err(Failed::Io)?;
        out.flush().map_err(Failed::Io)
    }

    fn put(
        &mut self,
        out: &mut impl Write,
        feed: Option<&mut Feed>,
        data: &[u8],
    ) -> std::result::Result<(), Failed> {
        out.write_all(data).map_err(Failed::Io)?;
        if let Some(feed) = feed {
            feed.update(data);
        }
        self.written += data.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/cache.rs"]
mod tests;
