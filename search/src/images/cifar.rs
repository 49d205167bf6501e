//! The official binary files of CIFAR-10 and CIFAR-100.
//!
//! A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3,072
//! pixel bytes: 1,024 red, 1,024 green, 1,024 blue, each 32 rows of 32.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{Format, Picture, Reason};
use super::labels::{LabelSet, LabelSource};
use super::source::{Hash, ImageSource, Item, Part, Scan};
use super::{ImagesError, Progress, Stage};
use crate::error::Result;

/// Side of a CIFAR image, px.
pub const SIDE: u32 = 32;
/// Pixels of one plane.
const PLANE: usize = 32 * 32;
/// Bytes of one image.
const PIXELS: usize = 3 * PLANE;

/// The ten classes, in the order of their labels.
pub const CLASSES10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Ten,
    Hundred,
}

impl Which {
    fn labels(self) -> usize {
        match self {
            Which::Ten => 1,
            Which::Hundred => 2,
        }
    }

    fn record(self) -> usize {
        self.labels() + PIXELS
    }

    fn subfolder(self) -> &'static str {
        match self {
            Which::Ten => "cifar-10-batches-bin",
            Which::Hundred => "cifar-100-binary",
        }
    }

    /// File names with their parts.
    fn files(self) -> Vec<(String, Part)> {
        match self {
            Which::Ten => (1..=5)
                .map(|n| (format!("data_batch_{n}.bin"), Part::Free))
                .chain([("test_batch.bin".to_owned(), Part::Test)])
                .collect(),
            Which::Hundred => vec![("train.bin".to_owned(), Part::Free), ("test.bin".to_owned(), Part::Test)],
        }
    }
}

/// One of the two sets, mapped into memory.
pub struct Cifar {
    which: Which,
    root: PathBuf,
    files: Vec<File>,
}

struct File {
    name: String,
    part: Part,
    bytes: Arc<Mmap>,
    /// Place of the file's first record.
    first: usize,
    records: usize,
}

/// Recognises `data_batch_*.bin`, in the folder itself or in `cifar-10-batches-bin` below it.
///
/// # Errors
/// A file is there but has the wrong length.
pub fn detect10(path: &Path) -> Result<Option<Box<dyn ImageSource>>> {
    detect(path, Which::Ten)
}

/// Recognises `train.bin` and `test.bin` in the folder itself or in `cifar-100-binary` below it.
///
/// # Errors
/// A file is there but has the wrong length.
pub fn detect100(path: &Path) -> Result<Option<Box<dyn ImageSource>>> {
    detect(path, Which::Hundred)
}

fn detect(path: &Path, which: Which) -> Result<Option<Box<dyn ImageSource>>> {
    for root in [path.to_path_buf(), path.join(which.subfolder())] {
        let present: Vec<(String, Part)> =
            which.files().into_iter().filter(|(name, _)| root.join(name).is_file()).collect();
        // `test.bin` alone says too little; a training file is what makes the folder a CIFAR set.
        if present.iter().any(|(_, part)| *part == Part::Free) {
            return Ok(Some(Box::new(Cifar::open(root, which, present)?)));
        }
    }
    Ok(None)
}

impl Cifar {
    fn open(root: PathBuf, which: Which, present: Vec<(String, Part)>) -> Result<Cifar> {
        let mut files: Vec<File> = Vec::new();
        let mut first = 0;
        for (name, part) in present {
            let path = root.join(&name);
            let io = |source| ImagesError::Io { path: path.clone(), source };
            let length = fs::metadata(&path).map_err(io)?.len();
            let record = which.record() as u64;
            if length == 0 || !length.is_multiple_of(record) {
                return Err(ImagesError::Invalid {
                    path,
                    what: "length",
                    found: format!("{length} bytes"),
                    expected: format!("a multiple of {record} bytes, one record each"),
                }
                .into());
            }
            let file = fs::File::open(&path).map_err(io)?;
            // SAFETY: the mapping is only read, as plain bytes; another program that shortens the
            // file meanwhile breaks this process as it would break any reader of a mapped file.
            let bytes = Arc::new(unsafe { Mmap::map(&file) }.map_err(io)?);
            let records = bytes.len() / which.record();
            files.push(File { name, part, bytes, first, records });
            first += records;
        }
        Ok(Cifar { which, root, files })
    }

    /// The record at a place, labels first, and the file that holds it.
    fn record(&self, place: usize) -> Option<(&File, &[u8])> {
        let file = self.files.iter().find(|f| (f.first..f.first + f.records).contains(&place))?;
        let at = (place - file.first) * self.which.record();
        Some((file, file.bytes.get(at..at + self.which.record())?))
    }

    fn names(&self, file: &str) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        let names: Vec<String> =
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        (!names.is_empty()).then_some(names)
    }

    fn label_set(
        &self,
        places: &[usize],
        name: &'static str,
        byte: usize,
        names: Vec<String>,
    ) -> Result<LabelSet> {
        let mut of = Vec::with_capacity(places.len());
        for &place in places {
            let label = self.record(place).and_then(|(file, record)| Some((file, *record.get(byte)?)));
            if let Some((file, label)) = label
                && usize::from(label) >= names.len()
            {
                return Err(ImagesError::Invalid {
                    path: self.root.join(&file.name),
                    what: "label byte",
                    found: label.to_string(),
                    expected: format!("less than {}", names.len()),
                }
                .into());
            }
            of.push(label.map(|(_, label)| u32::from(label)));
        }
        Ok(LabelSet { name: name.into(), classes: names, of })
    }
}

impl ImageSource for Cifar {
    fn kind(&self) -> &'static str {
        match self.which {
            Which::Ten => "cifar10",
            Which::Hundred => "cifar100",
        }
    }

    fn origin(&self) -> String {
        self.root.display().to_string()
    }

    fn native(&self) -> Option<u32> {
        Some(SIDE)
    }

    fn scan(&self, _memory: Option<&Path>, progress: &Progress) -> Result<Scan> {
        let count = progress.counter(Stage::Hash, self.files.iter().map(|f| f.records).sum());
        let items = self
            .files
            .iter()
            .flat_map(|f| (f.first..f.first + f.records).map(|place| (place, f.part)))
            .collect::<Vec<_>>()
            .into_par_iter()
            .filter_map(|(place, part)| {
                if count.stopped() {
                    return None;
                }
                // The label bytes are cut off before the content is hashed.
                let pixels = self.record(place)?.1.get(self.which.labels()..)?;
                count.one();
                Some(Item { place, hash: Sha256::digest(pixels).into(), part })
            })
            .collect();
        progress.check()?;
        Ok(Scan { items, ..Scan::default() })
    }

    fn load(&self, place: usize, _expected: &Hash) -> std::result::Result<Picture, Reason> {
        let pixels =
            self.record(place).and_then(|(_, r)| r.get(self.which.labels()..)).ok_or(Reason::NotAFile)?;
        let mut rgb = vec![0; PIXELS];
        for (channel, plane) in pixels.chunks_exact(PLANE).enumerate() {
            for (to, &from) in rgb.iter_mut().skip(channel).step_by(3).zip(plane) {
                *to = from;
            }
        }
        Ok(Picture { width: SIDE, height: SIDE, rgb, format: Format::Raw })
    }

    fn describe(&self, place: usize) -> String {
        match self.record(place) {
            Some((file, _)) => format!("{} record {}", file.name, place - file.first),
            None => format!("record {place}"),
        }
    }

    fn labels(&self) -> Option<&dyn LabelSource> {
        Some(self)
    }
}

impl LabelSource for Cifar {
    /// CIFAR-10: `class`. CIFAR-100: `fine`, then `coarse`. Class names come from the text files
    /// that travel with the binaries; without them CIFAR-10's are known, and CIFAR-100's classes
    /// are called by their numbers.
    fn label_sets(&self, places: &[usize]) -> Result<Vec<LabelSet>> {
        let numbered = |count: usize, what: &str| (0..count).map(|n| format!("{what} {n}")).collect();
        match self.which {
            Which::Ten => {
                let known = || CLASSES10.iter().map(|&c| c.to_owned()).collect();
                let names = self.names("batches.meta.txt").unwrap_or_else(known);
                Ok(vec![self.label_set(places, "class", 0, names)?])
            }
            Which::Hundred => {
                let fine = self.names("fine_label_names.txt").unwrap_or_else(|| numbered(100, "fine"));
                let coarse = self.names("coarse_label_names.txt").unwrap_or_else(|| numbered(20, "coarse"));
                Ok(vec![
                    self.label_set(places, "fine", 1, fine)?,
                    self.label_set(places, "coarse", 0, coarse)?,
                ])
            }
        }
    }
}
