//! A folder tree of JPEG, PNG and WebP files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{self, Picture, Reason};
use super::labels::{LabelSet, LabelSource};
use super::memo::Memo;
use super::source::{Hash, ImageSource, Item, Part, Scan, Skipped};
use super::{ImagesError, Progress, Stage};
use crate::error::Result;

/// Names a file may end in to be a candidate, in any case of letters. What it is decided by its
/// content.
pub const EXTENSIONS: &[&str] = &["jpg", "jpeg", "jpe", "jfif", "png", "webp"];

/// A folder tree. Two names mean something at its top level, in any case of letters: `test` is the
/// test part, and `val`, `valid` or `validation` the validation part. Everything else, `train`
/// included, is divided by the split. The first folder below (in `train` and the parts: the first one
/// below those) is an image's class, however deep the image lies in it.
pub struct Folder {
    root: PathBuf,
    walked: Walk,
    /// Where the last scan remembered what it read.
    memory: OnceLock<Option<PathBuf>>,
}

#[derive(Default)]
struct Walk {
    /// Candidates, sorted by path so that two walks agree on their places.
    files: Vec<PathBuf>,
    ignored: BTreeMap<String, usize>,
    unreadable: Vec<Skipped>,
}

/// Any folder is taken for a folder of images.
///
/// # Errors
/// The folder itself cannot be listed.
pub fn detect(path: &Path) -> Result<Option<Box<dyn ImageSource>>> {
    Ok(Some(Box::new(Folder::new(path)?)))
}

impl Folder {
    /// Walks the tree and lists the candidates; nothing is read yet.
    ///
    /// # Errors
    /// The folder itself cannot be listed. A folder below that cannot is skipped and listed.
    pub fn new(root: &Path) -> Result<Folder> {
        Ok(Folder { root: root.into(), walked: walk(root)?, memory: OnceLock::new() })
    }

    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The part named by the first folder below the root, and whether it is a part's name at all.
    fn part(&self, path: &Path) -> (Part, bool) {
        let relative = self.relative(path);
        let mut components = relative.components();
        let first = components.next().map(|c| c.as_os_str().to_string_lossy().to_lowercase());
        match (first.as_deref(), components.next()) {
            (Some("test"), Some(_)) => (Part::Test, true),
            (Some("val" | "valid" | "validation"), Some(_)) => (Part::Val, true),
            (Some("train"), Some(_)) => (Part::Free, true),
            _ => (Part::Free, false),
        }
    }

    /// The class: the name of the first folder below the root, or below the part's folder. None for an
    /// image that lies directly there.
    fn class(&self, path: &Path) -> Option<String> {
        let (_, in_part) = self.part(path);
        let mut below = self.relative(path).components().skip(usize::from(in_part));
        let first = below.next()?;
        // With nothing below it, it is the image itself.
        below.next()?;
        Some(first.as_os_str().to_string_lossy().into_owned())
    }
}

impl ImageSource for Folder {
    fn kind(&self) -> &'static str {
        "folder"
    }

    fn origin(&self) -> String {
        self.root.display().to_string()
    }

    fn native(&self) -> Option<u32> {
        None
    }

    fn scan(&self, memory: Option<&Path>, progress: &Progress) -> Result<Scan> {
        let count = progress.counter(Stage::Hash, self.walked.files.len());
        let memo = Memo::read(memory, &self.root);
        let _ = self.memory.set(memory.map(Path::to_path_buf));
        let read: Vec<std::result::Result<(Item, fs::Metadata), Skipped>> = self
            .walked
            .files
            .par_iter()
            .enumerate()
            .map(|(place, path)| {
                let name = self.describe(place);
                if count.stopped() {
                    return Err(Skipped { path: name, reason: "not read".into() });
                }
                // Taken before the file is read: a change in between shows the next time.
                let hashed =
                    fs::metadata(path).map_err(|e| Reason::Unreadable(e.to_string())).and_then(|meta| {
                        let hash = match memo.get(&name, &meta) {
                            Some(hash) => hash,
                            None => match decode::read_file(path)? {
                                bytes if bytes.is_empty() => return Err(Reason::Empty),
                                bytes => Sha256::digest(&bytes).into(),
                            },
                        };
                        Ok((Item { place, hash, part: self.part(path).0 }, meta))
                    });
                count.one();
                hashed.map_err(|reason| Skipped { path: name, reason: reason.to_string() })
            })
            .collect();
        let mut scan = Scan {
            ignored: self.walked.ignored.clone(),
            skipped: self.walked.unreadable.clone(),
            ..Scan::default()
        };
        memo.write(read.iter().flatten().map(|(i, meta)| (self.describe(i.place), meta.clone(), i.hash)));
        // What was read so far is remembered, and need not be read again.
        progress.check()?;
        for one in read {
            match one {
                Ok((item, _)) => scan.items.push(item),
                Err(skipped) => scan.skipped.push(skipped),
            }
        }
        Ok(scan)
    }

    fn load(&self, place: usize, expected: &Hash) -> std::result::Result<Picture, Reason> {
        let path = self.walked.files.get(place).ok_or(Reason::NotAFile)?;
        let bytes = decode::read_file(path)?;
        if &Hash::from(Sha256::digest(&bytes)) != expected {
            Memo::forget(self.memory.get().and_then(Option::as_deref), &self.root);
            return Err(Reason::Changed);
        }
        decode::decode(&bytes)
    }

    fn describe(&self, place: usize) -> String {
        self.walked.files.get(place).map(|p| self.relative(p).display().to_string()).unwrap_or_default()
    }

    fn labels(&self) -> Option<&dyn LabelSource> {
        Some(self)
    }
}

impl LabelSource for Folder {
    fn label_sets(&self, places: &[usize]) -> Result<Vec<LabelSet>> {
        let classes: Vec<Option<String>> =
            places.iter().map(|&p| self.walked.files.get(p).and_then(|path| self.class(path))).collect();
        Ok(LabelSet::from_names("folder", &classes).into_iter().collect())
    }
}

/// Lists a tree without recursion. Links are followed; a folder is entered once however many links
/// lead to it, so a loop ends.
fn walk(root: &Path) -> Result<Walk> {
    let mut walk = Walk::default();
    let mut entered: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let unreadable = |e: &std::io::Error| Skipped {
            path: folder.strip_prefix(root).unwrap_or(&folder).display().to_string(),
            reason: format!("cannot be read: {e}"),
        };
        let entries = fs::canonicalize(&folder).and_then(|real| {
            if !entered.insert(real) {
                return Ok(None);
            }
            fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<PathBuf>>>().map(Some)
        });
        let mut entries = match entries {
            Ok(Some(entries)) => entries,
            Ok(None) => {
                *walk.ignored.entry("already visited".into()).or_default() += 1;
                continue;
            }
            Err(source) if folder == root => {
                return Err(ImagesError::Io { path: root.into(), source }.into());
            }
            Err(e) => {
                walk.unreadable.push(unreadable(&e));
                continue;
            }
        };
        // Sorted, and the stack taken from its end: which of two links to one folder is entered
        // does not depend on the file system's order.
        entries.sort();
        for path in entries.into_iter().rev() {
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden {
                *walk.ignored.entry("hidden".into()).or_default() += 1;
                continue;
            }
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => open.push(path),
                Ok(_) | Err(_) if !is_candidate(&path) => {
                    *walk.ignored.entry("other type".into()).or_default() += 1;
                }
                Ok(_) => walk.files.push(path),
                Err(e) => walk.unreadable.push(Skipped {
                    path: path.strip_prefix(root).unwrap_or(&path).display().to_string(),
                    reason: format!("cannot be read: {e}"),
                }),
            }
        }
    }
    walk.files.sort();
    walk.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk)
}

fn is_candidate(path: &Path) -> bool {
    let Some(extension) = path.extension() else { return false };
    let extension = extension.to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}
