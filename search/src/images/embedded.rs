//! The built-in photographs: 1,413 pictures of clothes in the public domain, in one packed file.
//!
//! The pack begins with a text part: a magic line, then a line per image, `length path`, then an
//! empty line. The JPEG files follow one after the other in the same order. Provenance:
//! `search/assets/clothing/README.md`; made by `search/examples/pack_images.rs`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::decode::{self, Picture, Reason};
use super::labels::{LabelSet, LabelSource};
use super::source::{EMBEDDED, Hash, ImageSource, Item, Part, Scan};
use super::{ImagesError, Progress, Stage};
use crate::error::Result;

/// First line of a pack.
pub const MAGIC: &str = "masktas image pack 1";

static CLOTHING: &[u8] = include_bytes!("../../assets/clothing/clothing.pack");

/// A pack of images held in memory.
pub struct Embedded {
    entries: Vec<Entry>,
}

struct Entry {
    path: String,
    bytes: &'static [u8],
}

impl Embedded {
    /// The built-in photographs.
    ///
    /// # Errors
    /// The pack in this binary is damaged.
    pub fn new() -> Result<Embedded> {
        Self::from_bytes(CLOTHING)
    }

    /// Reads a pack.
    ///
    /// # Errors
    /// The bytes are not a pack, or a length in it does not agree with the data.
    pub fn from_bytes(pack: &'static [u8]) -> Result<Embedded> {
        let invalid = |what, found: String, expected: String| ImagesError::Invalid {
            path: PathBuf::from(EMBEDDED),
            what,
            found,
            expected,
        };
        let end = pack.windows(2).position(|w| w == b"\n\n");
        let text = end.and_then(|end| std::str::from_utf8(pack.get(..end)?).ok()).unwrap_or_default();
        let mut lines = text.lines();
        let magic = lines.next().unwrap_or_default();
        if magic != MAGIC {
            return Err(invalid("first line of the pack", format!("{magic:?}"), format!("{MAGIC:?}")).into());
        }
        let mut data = pack.get(end.unwrap_or_default() + 2..).unwrap_or_default();
        let mut entries = Vec::new();
        for line in lines {
            let parsed = line.split_once(' ').and_then(|(n, path)| Some((n.parse::<usize>().ok()?, path)));
            let Some((length, path)) = parsed else {
                return Err(
                    invalid("line of the pack", format!("{line:?}"), "a length and a path".into()).into()
                );
            };
            let Some((bytes, rest)) = data.split_at_checked(length) else {
                let (found, expected) = (format!("{} bytes", data.len()), format!("{length} bytes"));
                return Err(invalid("data of the pack", found, expected).into());
            };
            entries.push(Entry { path: path.to_owned(), bytes });
            data = rest;
        }
        if !data.is_empty() {
            let found = format!("{} bytes after the last image", data.len());
            return Err(invalid("data of the pack", found, "none".into()).into());
        }
        Ok(Embedded { entries })
    }
}

impl ImageSource for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn origin(&self) -> String {
        EMBEDDED.into()
    }

    fn native(&self) -> Option<u32> {
        None
    }

    fn scan(&self, _memory: Option<&Path>, progress: &Progress) -> Result<Scan> {
        let count = progress.counter(Stage::Hash, self.entries.len());
        let item = |(place, entry): (usize, &Entry)| {
            count.one();
            let part = if entry.path.starts_with("test/") { Part::Test } else { Part::Free };
            Item { place, hash: Sha256::digest(entry.bytes).into(), part }
        };
        Ok(Scan { items: self.entries.iter().enumerate().map(item).collect(), ..Scan::default() })
    }

    fn load(&self, place: usize, _expected: &Hash) -> std::result::Result<Picture, Reason> {
        decode::decode(self.entries.get(place).ok_or(Reason::NotAFile)?.bytes)
    }

    fn describe(&self, place: usize) -> String {
        self.entries.get(place).map(|e| e.path.clone()).unwrap_or_default()
    }

    fn labels(&self) -> Option<&dyn LabelSource> {
        Some(self)
    }
}

impl LabelSource for Embedded {
    fn label_sets(&self, places: &[usize]) -> Result<Vec<LabelSet>> {
        let class = |&place: &usize| self.entries.get(place)?.path.split('/').nth(1).map(str::to_owned);
        let classes: Vec<Option<String>> = places.iter().map(class).collect();
        Ok(LabelSet::from_names("folder", &classes).into_iter().collect())
    }
}
