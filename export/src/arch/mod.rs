//! What a network looks like, by family.

mod vit;

use serde::{Deserialize, Serialize};

pub use vit::{NORM_EPSILON, VitArch, VitBlock};

/// A network architecture. Lowering gives it its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum Arch {
    /// A pre-norm vision transformer.
    Vit(VitArch),
}

impl Arch {
    /// Parameters, plus a linear classifier when `classes` is given.
    pub fn parameters(&self, classes: Option<usize>) -> u64 {
        match self {
            Arch::Vit(vit) => vit.parameters(classes),
        }
    }

    /// FLOPs on one image, without a classifier; see [`VitArch::flops`] for what counts.
    pub fn flops(&self) -> u64 {
        match self {
            Arch::Vit(vit) => vit.flops(),
        }
    }

    /// Checks that the numbers describe a network that can be built.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArch`].
    pub fn check(&self) -> crate::Result<()> {
        match self {
            Arch::Vit(vit) => vit.check(),
        }
    }
}
