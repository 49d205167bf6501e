//! Where images come from, and how a path says which kind of source it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::decode::{Picture, Reason};
use super::labels::LabelSource;
use super::{Progress, cifar, embedded, folder};
use crate::error::Result;
use crate::images::ImagesError;

/// SHA-256 of an image's content. Of a file: all its bytes. Of a CIFAR record: its 3,072 pixel
/// bytes, never the label.
pub type Hash = [u8; 32];

/// The part of the source an image was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The source says nothing, or says "train": the split decides between train and val.
    Free,
    /// The source's own validation part.
    Val,
    /// The source's own test part.
    Test,
}

/// A candidate: something that may turn out to be an image once it is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where the source finds it again; meaningless outside the source.
    pub place: usize,
    /// Its content.
    pub hash: Hash,
    /// Its part.
    pub part: Part,
}

/// A candidate that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file, as found from the source's root.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What a walk over a source found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Candidates, in no particular order.
    pub items: Vec<Item>,
    /// Candidates that could not even be read.
    pub skipped: Vec<Skipped>,
    /// Files passed over in silence, by reason: `hidden`, `other type`, `already visited`.
    pub ignored: BTreeMap<String, usize>,
}

/// A source of images. It has no way to give a label: [`LabelSource`] is a trait of its own.
pub trait ImageSource: Send + Sync {
    /// Name of the kind: `folder`, `cifar10`, `cifar100`, `embedded`.
    fn kind(&self) -> &'static str;
    /// What the user pointed at.
    fn origin(&self) -> String;
    /// Side in px, where all images are squares of one size.
    fn native(&self) -> Option<u32>;
    /// Finds every candidate and hashes its content. In the folder `memory` the source may remember
    /// what it read, to be quicker the next time.
    ///
    /// # Errors
    /// The source as a whole cannot be read.
    fn scan(&self, memory: Option<&Path>, progress: &Progress) -> Result<Scan>;
    /// Decodes one candidate, whose content has the hash `expected`. Called from many threads.
    ///
    /// # Errors
    /// Why this candidate cannot be used.
    fn load(&self, place: usize, expected: &Hash) -> std::result::Result<Picture, Reason>;
    /// What to call a candidate in a list for people.
    fn describe(&self, place: usize) -> String;
    /// The labels of this source. For `evaluate` and `finetune` only.
    fn labels(&self) -> Option<&dyn LabelSource>;
}

/// The word that names the built-in photographs where a path is asked for.
pub const EMBEDDED: &str = "embedded";

/// Opens a folder as one kind of source; `None` where it is not of this kind.
pub type Detect = fn(&Path) -> Result<Option<Box<dyn ImageSource>>>;

/// A kind of source: its name and how it recognises a folder as its own.
pub struct Kind {
    /// Name of the kind.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Recognises and opens it.
    pub detect: Detect,
}

/// Every kind, in the order they are asked. The folder tree takes any folder, so it stands last.
pub const KINDS: &[Kind] = &[
    Kind { name: "cifar10", about: "CIFAR-10, official binary batches", detect: cifar::detect10 },
    Kind { name: "cifar100", about: "CIFAR-100, official binary files", detect: cifar::detect100 },
    Kind { name: "folder", about: "a tree of JPEG, PNG and WebP files", detect: folder::detect },
];

/// Opens the source at `path`. `None`, or the word `embedded` where no such folder exists, opens
/// the built-in photographs.
///
/// # Errors
/// The path does not exist, is a file, or is of a kind that is damaged.
pub fn open(path: Option<&Path>) -> Result<Box<dyn ImageSource>> {
    let Some(path) = path else { return Ok(Box::new(embedded::Embedded::new()?)) };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(_) if path == Path::new(EMBEDDED) => return Ok(Box::new(embedded::Embedded::new()?)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(ImagesError::Missing { path: path.into() }.into());
        }
        Err(source) => return Err(ImagesError::Io { path: path.into(), source }.into()),
    };
    if !meta.is_dir() {
        return Err(ImagesError::NotAFolder { path: path.into() }.into());
    }
    for kind in KINDS {
        if let Some(source) = (kind.detect)(path)? {
            return Ok(source);
        }
    }
    Err(ImagesError::Missing { path: PathBuf::from(path) }.into())
}
