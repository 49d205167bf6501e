//! Labels, kept apart from everything a search sees.
//!
//! [`Images`] has no field and no method that leads here, and holds neither paths
//! nor the source. Only `evaluate` and `finetune` call [`Labels::read`], which goes back to the
//! source and finds each image by its content.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Hash, ImageSource};
use super::{Images, ImagesError, Progress};
use crate::error::Result;

/// What a source can say about labels.
pub trait LabelSource {
    /// The label sets of these places of the source, the most useful one first; none where the
    /// source has none.
    ///
    /// # Errors
    /// A label is out of range.
    fn label_sets(&self, places: &[usize]) -> Result<Vec<LabelSet>>;
}

/// One way of labelling images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// `folder`, `class`, `fine` or `coarse`.
    pub name: String,
    /// Name of each class, by label.
    pub classes: Vec<String>,
    /// Label of each image, `None` where it has none.
    pub of: Vec<Option<u32>>,
}

impl LabelSet {
    /// Numbers the classes in the order of their names. `None` where no image has one.
    pub fn from_names(name: &str, of: &[Option<String>]) -> Option<LabelSet> {
        let classes: BTreeSet<&String> = of.iter().flatten().collect();
        if classes.is_empty() {
            return None;
        }
        let number: BTreeMap<&String, u32> = classes.iter().copied().zip(0u32..).collect();
        let labels = of.iter().map(|c| c.as_ref().and_then(|c| number.get(c).copied())).collect();
        Some(LabelSet { name: name.into(), classes: classes.into_iter().cloned().collect(), of: labels })
    }
}

/// The labels of some images, in the order of those images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Every label set of the source, the default one first; never empty. `of` has one entry per
    /// image of the [`Images`] they were read for.
    pub sets: Vec<LabelSet>,
    /// Images without a label, because equal copies of them carry different ones (default set).
    pub ambiguous: usize,
}

impl Labels {
    /// Reads the labels of `images` from their source.
    ///
    /// # Errors
    /// The source has no labels, cannot be read, or is not the source of these images.
    pub fn read(source: &dyn ImageSource, images: &Images) -> Result<Labels> {
        let missing = || ImagesError::NoLabels { origin: source.origin() };
        let reader = source.labels().ok_or_else(missing)?;
        let mut items = source.scan(images.cache_folder(), &Progress::none())?.items;
        items.sort_by_key(|item| (item.hash, item.place));
        let places: Vec<usize> = items.iter().map(|item| item.place).collect();
        let mut found: BTreeMap<&Hash, Vec<usize>> = BTreeMap::new();
        for (row, item) in items.iter().enumerate() {
            found.entry(&item.hash).or_default().push(row);
        }
        let mut sets = Vec::new();
        let mut ambiguous = Vec::new();
        for set in reader.label_sets(&places)? {
            let mut of = Vec::with_capacity(images.len());
            let mut unclear = 0;
            for hash in images.hashes() {
                let rows = found.get(hash).ok_or_else(|| ImagesError::SourceChanged {
                    expected: super::hex(&images.source_sha()),
                    found: format!("{} without image {}", source.origin(), super::hex(hash)),
                })?;
                let given: BTreeSet<u32> =
                    rows.iter().filter_map(|&row| set.of.get(row).copied().flatten()).collect();
                unclear += usize::from(given.len() > 1);
                of.push(if given.len() == 1 { given.first().copied() } else { None });
            }
            sets.push(LabelSet { of, ..set });
            ambiguous.push(unclear);
        }
        if sets.is_empty() {
            return Err(missing().into());
        }
        Ok(Labels { sets, ambiguous: ambiguous.first().copied().unwrap_or_default() })
    }

    /// The default label set.
    pub fn default_set(&self) -> Option<&LabelSet> {
        self.sets.first()
    }
}
