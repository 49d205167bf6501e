//! Images: found, decoded once, divided, and served as batches.
//!
//! ```text
//! path ─► ImageSource ─► cache (squares of RGB, one file) ─► Images ─► augmented / plain batches
//!          folder · CIFAR · embedded                            │
//!              └──────► Labels (evaluate and finetune only)     └─► Split, Stats
//! ```
//!
//! - What an image *is* is its content: files are ordered by the SHA-256 of their bytes, never by
//!   their path. Renaming every file changes nothing.
//! - Equal content counts once. Where copies lie in different parts, test goes before val before
//!   train, so that no image of the test part is ever trained on.
//! - What cannot be decoded is skipped, counted and listed in the [`Summary`].
//! - [`Images`] knows no label, no path and no source: see [`labels`].
//!
//! What it does not do: it keeps no float image in memory, and downloads nothing.

pub mod augment;
mod cache;
mod cifar;
pub mod decode;
mod embedded;
mod error;
mod folder;
pub mod labels;
mod memo;
mod progress;
pub mod source;
pub mod split;
pub mod stats;
pub mod summary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

pub use augment::{Augment, Batches};
pub use cache::folder as cache_folder;
pub use cifar::CLASSES10;
pub use decode::{Geometry, Reason, decode_for};
pub use embedded::MAGIC as PACK_MAGIC;
pub use error::ImagesError;
pub use labels::{LabelSet, Labels};
pub use progress::{Progress, Stage};
pub use source::{EMBEDDED, Hash, ImageSource, KINDS, open};
pub use split::{Shares, Split};
pub use stats::Stats;
pub use summary::Summary;

use crate::error::Result;
use cache::Cache;
use source::{Part, Skipped};
use summary::Duplicate;

/// How a source is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Side of the network's input, px.
    pub side: u32,
    /// Seed of the split.
    pub seed: u64,
    /// Sizes of the parts that the source does not have of its own.
    pub shares: Shares,
    /// A split made earlier, for going on with a run; `seed` and `shares` are then unused.
    pub split: Option<Split>,
    /// Folder of the cache; `None` asks [`cache_folder`].
    pub cache: Option<PathBuf>,
}

impl Options {
    /// The usual ones: a tenth each for val and test, the cache in its usual place.
    pub fn new(side: u32, seed: u64) -> Options {
        Options { side, seed, shares: Shares::default(), split: None, cache: None }
    }
}

/// Every usable image of a source, ordered by content hash, resized, in a memory-mapped file.
///
/// This is all that a search sees: pixels, content hashes and the split. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    cache: Arc<Cache>,
    hashes: Arc<[Hash]>,
    split: Arc<Split>,
    geometry: Geometry,
    source_sha: Hash,
    stats: Stats,
}

impl Images {
    /// Reads a source: finds and hashes the candidates, opens or builds the cache, divides the
    /// images and computes the channel statistics of the train part.
    ///
    /// # Errors
    /// The source is empty or none of it can be read; too few images; the cache cannot be written;
    /// a given split belongs to other images.
    pub fn open(
        source: &dyn ImageSource,
        options: &Options,
        progress: &Progress,
    ) -> Result<(Images, Summary)> {
        let geometry = Geometry::of(source.native(), options.side.min(Geometry::MAX + 1));
        geometry.check()?;
        let folder = options.cache.clone().map_or_else(cache_folder, Ok)?;
        let found = source.scan(Some(&folder), progress)?;
        let mut skipped = found.skipped;
        let mut by_content: BTreeMap<Hash, (usize, Part)> = BTreeMap::new();
        let mut duplicates = Vec::new();
        let mut items = found.items;
        items.sort_by_key(|item| item.place);
        for item in items {
            by_content
                .entry(item.hash)
                .and_modify(|(kept, part)| {
                    *part = (*part).max(item.part);
                    let (kept, dropped) = (source.describe(*kept), source.describe(item.place));
                    duplicates.push(Duplicate { kept, dropped });
                })
                .or_insert((item.place, item.part));
        }
        let candidates = by_content.len() + skipped.len();
        if candidates == 0 {
            let seen = found.ignored.values().sum();
            return Err(ImagesError::Empty { origin: source.origin(), seen }.into());
        }

        let hashes: Vec<Hash> = by_content.keys().copied().collect();
        let places: Vec<usize> = by_content.values().map(|(place, _)| *place).collect();
        let place = |at: usize| places.get(at).copied().unwrap_or(usize::MAX);
        let load = |at: usize| match hashes.get(at) {
            Some(hash) => source.load(place(at), hash),
            None => Err(Reason::NotAFile),
        };
        let name = |at| source.describe(place(at));
        let (cache, cache_origin) = Cache::open(&folder, geometry.resize, &hashes, &load, &name, progress)?;

        for bad in &cache.bad {
            let path =
                by_content.get(&bad.hash).map(|(place, _)| source.describe(*place)).unwrap_or_default();
            skipped.push(Skipped { path, reason: bad.reason.clone() });
        }
        skipped.sort_by(|a, b| a.path.cmp(&b.path));
        if cache.entries.is_empty() {
            let first = skipped.first().map(|s| format!("{} {}", s.path, s.reason)).unwrap_or_default();
            return Err(ImagesError::AllUnreadable { origin: source.origin(), candidates, first }.into());
        }
        let with_parts: Vec<(Hash, Part)> = cache
            .entries
            .iter()
            .map(|e| (e.hash, by_content.get(&e.hash).map_or(Part::Free, |(_, part)| *part)))
            .collect();
        let source_sha = split::source_sha(&with_parts);
        let split = match &options.split {
            Some(split) => {
                split.check(&source_sha, with_parts.len())?;
                split.clone()
            }
            None => Split::draw(&with_parts, options.seed, options.shares, &source.origin())?,
        };
        let train: Vec<&[u8]> = split.train.iter().filter_map(|&i| cache.pixels(i as usize)).collect();
        let stats = Stats::of(train);
        let has = |part| with_parts.iter().any(|(_, p)| *p == part);
        let summary = Summary {
            kind: source.kind().into(),
            origin: source.origin(),
            source_sha: hex(&source_sha),
            images: with_parts.len(),
            train: split.train.len(),
            val: split.val.len(),
            test: split.test.len(),
            own_val: has(Part::Val),
            own_test: has(Part::Test),
            formats: summary::formats(&cache),
            sizes: summary::sizes(&cache),
            geometry,
            stats,
            skipped,
            duplicates,
            ignored: found.ignored,
            cache: cache.path().into(),
            cache_bytes: cache.bytes(),
            cache_origin,
        };
        let hashes = with_parts.iter().map(|(hash, _)| *hash).collect();
        let images =
            Images { cache: Arc::new(cache), hashes, split: Arc::new(split), geometry, source_sha, stats };
        Ok((images, summary))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Never: a source without images cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Content hash of each image, ascending.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The division into train, val and test.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// How the images were resized and are cropped.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Channel statistics of the train part; batches are normalised with them.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Identity of the images and the parts they were found in.
    pub fn source_sha(&self) -> Hash {
        self.source_sha
    }

    fn cache_folder(&self) -> Option<&Path> {
        self.cache.path().parent()
    }

    /// Numbers of one image in a batch: `3 * side * side`.
    pub fn numbers(&self) -> usize {
        3 * (self.geometry.crop as usize).pow(2)
    }

    /// The cached square of one image: `resize * resize * 3` RGB bytes, interleaved.
    ///
    /// # Errors
    /// There is no such image.
    pub fn square(&self, index: u32) -> Result<&[u8]> {
        let missing = || ImagesError::OutOfRange { index, count: self.len() };
        Ok(self.cache.pixels(index as usize).ok_or_else(missing)?)
    }

    /// The centre crop of one image, as [`decode_for`] gives it for the same file: `crop * crop * 3`
    /// RGB bytes, interleaved.
    ///
    /// # Errors
    /// There is no such image.
    pub fn bytes(&self, index: u32) -> Result<Vec<u8>> {
        let rows = decode::centre(self.square(index)?, self.geometry.resize, self.geometry.crop);
        Ok(rows.flatten().copied().collect())
    }

    /// Writes the centre crops of `indices`, normalised, as `[n, 3, side, side]`.
    ///
    /// # Errors
    /// There is no such image, or `out` has not n times [`Images::numbers`] numbers.
    pub fn plain(&self, indices: &[u32], out: &mut [f32]) -> Result<()> {
        let (crop, line) = (self.geometry.crop as usize, self.stats.line());
        self.fill(indices, out, |_, square, out| {
            for (c, (plane, (scale, bias))) in out.chunks_exact_mut(crop * crop).zip(line).enumerate() {
                let rows = decode::centre(square, self.geometry.resize, self.geometry.crop);
                for (to, from) in plane.chunks_exact_mut(crop).zip(rows) {
                    for (to, pixel) in to.iter_mut().zip(from.as_chunks::<3>().0) {
                        *to = f32::from(pixel[c]) * scale + bias;
                    }
                }
            }
        })
    }

    /// Writes a random view of each of `indices`, normalised, as `[n, 3, side, side]`. The view
    /// depends on (seed, epoch, index) alone: not on the batch, its order or the threads.
    ///
    /// # Errors
    /// As [`Images::plain`], or a range of `augment` is wrong.
    pub fn augmented(
        &self,
        indices: &[u32],
        augment: &Augment,
        seed: u64,
        epoch: u32,
        out: &mut [f32],
    ) -> Result<()> {
        augment.check()?;
        let Geometry { resize, crop } = self.geometry;
        let line = self.stats.line();
        self.fill(indices, out, |index, square, out| {
            let view = augment.draw(seed, epoch, index, resize);
            augment::resample(square, resize as usize, view, crop as usize, &line, out);
        })
    }

    /// Hands each image of a batch its square and its piece of `out`, in parallel.
    fn fill(
        &self,
        indices: &[u32],
        out: &mut [f32],
        write: impl Fn(u32, &[u8], &mut [f32]) + Sync,
    ) -> Result<()> {
        let (found, needed) = (out.len(), indices.len() * self.numbers());
        if found != needed {
            let (images, side) = (indices.len(), self.geometry.crop);
            return Err(ImagesError::Buffer { images, side, needed, found }.into());
        }
        out.par_chunks_exact_mut(self.numbers()).zip(indices).try_for_each(|(out, &index)| {
            write(index, self.square(index)?, out);
            Ok(())
        })
    }
}

/// Bytes as hexadecimal digits, and the serde functions for a hash written that way.
mod hex_digits {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Hash;

    pub fn to_hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |at: usize| text.get(at * 2..at * 2 + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        bytes
            .filter(|_| text.len() == 64)
            .and_then(|b| b.try_into().ok())
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not 64 hexadecimal digits")))
    }
}

pub(crate) use hex_digits::to_hex as hex;

#[cfg(test)]
mod tests;
