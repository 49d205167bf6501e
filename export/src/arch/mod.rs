//! What a network looks like, by family.

mod vit;

use serde::{Deserialize, Serialize};

pub use vit::{VitArch, VitBlock, NORM_EPSILON};

/// A network architecture. Lowering gives it its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum Arch {
    /// A pre-norm vision transformer.
    Vit(VitArch),
}
