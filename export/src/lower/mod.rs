//! Gives an architecture its meaning: turns it into a graph of standard ONNX operators.

mod relative;
mod vit;

use masktas_runtime::Graph;

use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::weights::Weights;

pub use relative::relative_bucket;

/// Name of the only input: `[batch, 3, side, side]` floats, normalised.
pub const INPUT: &str = "pixels";
/// Name of the output of [`Head::Features`]: `[batch, embed]`.
pub const FEATURES: &str = "features";
/// Name of the output of [`Head::Classifier`]: `[batch, classes]`.
pub const LOGITS: &str = "logits";
/// Name of the symbolic batch of [`Batch::Dynamic`].
pub const BATCH: &str = "N";

/// Images per run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Always this many; what TensorRT wants.
    Fixed(usize),
    /// Any number, the symbol [`BATCH`].
    Dynamic,
}

/// What the model puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The mean of the patch tokens after the last norm, as [`FEATURES`].
    Features,
    /// A linear classifier on that mean, as [`LOGITS`].
    Classifier {
        /// Number of classes.
        classes: usize,
    },
}

impl Head {
    /// Number of classes, when there are classes.
    pub fn classes(self) -> Option<usize> {
        match self {
            Head::Features => None,
            Head::Classifier { classes } => Some(classes),
        }
    }
}

/// How to lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerOptions {
    /// Images per run; one by default.
    pub batch: Batch,
    /// What the model puts out; features by default.
    pub head: Head,
    /// ONNX operator set: 17 (GELU spelt out with Erf), 20 (the default) or 23.
    pub opset: i64,
}

impl Default for LowerOptions {
    fn default() -> Self {
        Self { batch: Batch::Fixed(1), head: Head::Features, opset: 20 }
    }
}

/// Turns an architecture into a graph. Without weights the constants have shapes but no elements
/// ([`masktas_runtime::Data::Unset`]): cheap, and enough for counting and for shapes. Names and shapes
/// of the constants do not depend on whether weights are given.
///
/// # Errors
/// As [`Arch::check`] and [`Weights::check`] (a classifier in the weights may go unused);
/// [`Error::UnsupportedOption`] for another operator set; [`Error::InvalidArch`] for a batch or class count of zero.
pub fn lower(arch: &Arch, weights: Option<&Weights>, options: &LowerOptions) -> Result<Graph> {
    if !matches!(options.opset, 17 | 20 | 23) {
        return Err(Error::UnsupportedOption {
            what: "operator set",
            got: options.opset,
            want: "17, 20 or 23",
        });
    }
    arch.check()?;
    let within = |what: &str, got: usize, most: usize| match got {
        got if (1..=most).contains(&got) => Ok(()),
        got => Err(Error::InvalidArch { what: what.into(), got: got as u64, want: format!("1 to {most}") }),
    };
    if let Batch::Fixed(batch) = options.batch {
        within("the batch", batch, 1 << 16)?;
    }
    let classes = options.head.classes();
    within("the number of classes", classes.unwrap_or(1), 1 << 24)?;
    if let Some(weights) = weights {
        let unused = match weights.tensors.get("head.weight").map(|tensor| tensor.shape()) {
            Some([classes, _]) => Some(*classes),
            _ => None,
        };
        weights.check(arch, classes.or(unused))?;
    }
    match arch {
        Arch::Vit(vit) => vit::lower(vit, weights, options),
    }
}
