//! What `masktas data` shows: what would be used of a source, and what would not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cache::{Cache, Origin};
use super::decode::Geometry;
use super::source::Skipped;
use super::stats::Stats;

/// Two files of the same content: the first is used, the second is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The one that counts.
    pub kept: String,
    /// The one that does not.
    pub dropped: String,
}

/// Sizes of the originals in px, width then height, ordered by pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Fewest pixels.
    pub smallest: [u32; 2],
    /// The middle one (of an even number, the lower).
    pub median: [u32; 2],
    /// Most pixels.
    pub largest: [u32; 2],
}

/// A source as it would be used. Written into the run, and shown by `masktas data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Kind of source.
    pub kind: String,
    /// What the user pointed at.
    pub origin: String,
    /// Identity of the images, hexadecimal.
    pub source_sha: String,
    /// Different images that can be used.
    pub images: usize,
    /// Images of the train part.
    pub train: usize,
    /// Images of the val part.
    pub val: usize,
    /// Images of the test part.
    pub test: usize,
    /// Whether the source has a validation part of its own.
    pub own_val: bool,
    /// Whether the source has a test part of its own.
    pub own_test: bool,
    /// Images by file format.
    pub formats: BTreeMap<String, usize>,
    /// Sizes of the originals.
    pub sizes: Option<Sizes>,
    /// How they become the network's input.
    pub geometry: Geometry,
    /// Channel statistics of the train part.
    pub stats: Stats,
    /// Candidates that cannot be used, by path.
    pub skipped: Vec<Skipped>,
    /// Files of equal content. Only one of them is used, so that no image is in two parts.
    pub duplicates: Vec<Duplicate>,
    /// Files passed over, by reason.
    pub ignored: BTreeMap<String, usize>,
    /// The cache file.
    pub cache: PathBuf,
    /// Its length.
    pub cache_bytes: u64,
    /// Where it came from.
    pub cache_origin: Origin,
}

pub(crate) fn formats(cache: &Cache) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for entry in &cache.entries {
        *count.entry(entry.format.name().to_owned()).or_default() += 1;
    }
    count
}

pub(crate) fn sizes(cache: &Cache) -> Option<Sizes> {
    let mut all: Vec<[u32; 2]> = cache.entries.iter().map(|e| [e.width, e.height]).collect();
    all.sort_by_key(|&[w, h]| (u64::from(w) * u64::from(h), w));
    let median = all.get(all.len().checked_sub(1)? / 2)?;
    Some(Sizes { smallest: *all.first()?, median: *median, largest: *all.last()? })
}
