//! Which images train the supernet, which score it, and which are kept for the end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ImagesError;
use super::source::{Hash, Part};
use crate::error::Result;

/// A division of images into three parts. Indices count the images in the order of their content
/// hashes, so they mean the same whatever the files are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The seed it was drawn with.
    pub seed: u64,
    /// Identity of the images it divides, hexadecimal.
    pub source_sha: String,
    /// Train the teacher and the supernet. Ascending.
    pub train: Vec<u32>,
    /// Score subnets. Ascending.
    pub val: Vec<u32>,
    /// Used once, at the end. Ascending.
    pub test: Vec<u32>,
}

/// How large the parts become that a source does not have of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The validation part, as a share of the images outside the test part: above 0, below 1.
    pub val: f64,
    /// The test part, as a share of all images: from 0 (none is made) to below 1.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { val: 0.1, test: 0.1 }
    }
}

impl Shares {
    fn check(self) -> Result<()> {
        let fail = |what, found: f64, expected| {
            Err(ImagesError::Option { what, found: found.to_string(), expected }.into())
        };
        if !(self.val > 0.0 && self.val < 1.0) {
            return fail("the share of validation images", self.val, "above 0 and below 1");
        }
        if !(0.0..1.0).contains(&self.test) {
            return fail("the share of test images", self.test, "at least 0 and below 1");
        }
        Ok(())
    }
}

/// Identity of a set of images: the content of each and the part it was found in.
pub(crate) fn source_sha(images: &[(Hash, Part)]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(b"masktas source 1");
    for (hash, part) in images {
        sha.update(hash);
        sha.update([match part {
            Part::Free => 0,
            Part::Val => 1,
            Part::Test => 2,
        }]);
    }
    sha.finalize().into()
}

impl Split {
    /// Divides images, which are sorted by hash and each there once.
    ///
    /// The source's own test and validation parts are kept; where it has none, they are made in the
    /// sizes that `shares` gives, of at least one image. Each image draws a number from the seed and
    /// its own content, and the smallest go first, so that adding images moves few of the others.
    ///
    /// # Errors
    /// A share is out of range, or there are too few images for the parts that have to be made.
    pub fn draw(images: &[(Hash, Part)], seed: u64, shares: Shares, origin: &str) -> Result<Split> {
        shares.check()?;
        let of = |part| (0u32..).zip(images).filter(move |(_, i)| i.1 == part).map(|(n, _)| n);
        let mut free: Vec<(Hash, u32)> = of(Part::Free)
            .filter_map(|n| {
                let mut sha = Sha256::new();
                sha.update(b"split");
                sha.update(seed.to_le_bytes());
                sha.update(images.get(n as usize)?.0);
                Some((sha.finalize().into(), n))
            })
            .collect();
        free.sort_unstable();
        let mut free: Vec<u32> = free.into_iter().map(|(_, n)| n).collect();
        let (mut val, mut test): (Vec<u32>, Vec<u32>) = (of(Part::Val).collect(), of(Part::Test).collect());

        let (make_val, make_test) = (val.is_empty(), test.is_empty() && shares.test > 0.0);
        let parts = match (make_val, make_test) {
            (true, true) => "train, val and test",
            (true, false) => "train and val",
            (false, true) => "train and test, beside the validation part there is",
            (false, false) => "train, beside the parts there are",
        };
        let needed = 1 + usize::from(make_val) + usize::from(make_test);
        if free.len() < needed {
            let (origin, found) = (origin.to_owned(), free.len());
            return Err(ImagesError::TooFew { origin, found, needed, parts }.into());
        }
        // At least one image for the part, and one left for each part that comes after it.
        let mut take = |share: f64, after: usize| {
            let count = (free.len() as f64 * share).round() as usize;
            free.drain(..count.clamp(1, free.len() - after)).collect()
        };
        if make_test {
            test = take(shares.test, 1 + usize::from(make_val));
        }
        if make_val {
            val = take(shares.val, 1);
        }
        let mut train = free;
        for part in [&mut train, &mut val, &mut test] {
            part.sort_unstable();
        }
        Ok(Split { seed, source_sha: super::hex(&source_sha(images)), train, val, test })
    }

    /// Checks a split that was read from a run: made for these images, every index there is, none
    /// in two parts.
    ///
    /// # Errors
    /// It was made for other images, or is damaged.
    pub fn check(&self, source_sha: &Hash, count: usize) -> Result<()> {
        let found = super::hex(source_sha);
        if self.source_sha != found {
            return Err(ImagesError::SourceChanged { expected: self.source_sha.clone(), found }.into());
        }
        let mut seen = BTreeSet::new();
        for &index in self.train.iter().chain(&self.val).chain(&self.test) {
            if index as usize >= count || !seen.insert(index) {
                return Err(ImagesError::OutOfRange { index, count }.into());
            }
        }
        Ok(())
    }
}
