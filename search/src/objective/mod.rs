//! Supernet losses: named terms over a subnet, a masked batch and a teacher.

pub mod masked_distillation;
pub mod scale;
pub mod terms;

use burn::tensor::Tensor;
use masktas_export::VitArch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::recipe;
use crate::supernet::{Leaves, MaskedBatch, Supernet};
use crate::teacher::Features;

/// Registered objectives.
pub const NAMES: &[&str] = &["masked-distillation"];

/// The objective registered under the recipe's name. `in_place` weighs the distillation from the
/// largest subnet, which the recipe keeps with the supernet's sampling.
///
/// # Errors
/// Unknown names, with a suggestion.
pub fn by_name(settings: &recipe::Objective, in_place: f64) -> Result<Box<dyn Objective>> {
    let weights = TermWeights {
        pixel: settings.pixel,
        feature: settings.feature,
        relation: settings.relation,
        in_place,
    };
    match settings.name.as_str() {
        "masked-distillation" => {
            let steps = settings.scale_steps as u64;
            Ok(Box::new(masked_distillation::MaskedDistillation::new(weights, settings.temperature, steps)))
        }
        name => Err(Error::UnknownName {
            what: "objective",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, NAMES.iter().copied()),
        }),
    }
}

/// One subnet's part of a training step.
pub struct Pass<'a> {
    /// The network.
    pub supernet: &'a Supernet,
    /// Its weights, as leaves that collect gradients.
    pub leaves: &'a Leaves,
    /// The subnet.
    pub arch: &'a VitArch,
    /// The masked images.
    pub batch: &'a MaskedBatch,
    /// The teacher's features of the seen patches.
    pub teacher: Option<&'a Features>,
    /// The largest subnet's features of the same patches in this step, without gradient; `None` for
    /// the largest itself or without in-place distillation.
    pub largest: Option<&'a Tensor<3>>,
}

/// One term of a loss, on one lane's images.
pub struct Term {
    /// Name.
    pub name: &'static str,
    /// Its weight in the sum.
    pub weight: f64,
    /// Its value, a mean over the images, `[1]`.
    pub loss: Tensor<1>,
}

/// A supernet loss. It owns its state, which is checkpointed with it.
pub trait Objective: Send + Sync {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// The terms of one subnet on one lane's images, and the subnet's features of the seen patches
    /// without gradient, `[batch, seen, embed]`.
    ///
    /// # Errors
    /// When the objective lacks what it needs (a teacher, a projector).
    fn terms(&self, pass: &Pass<'_>) -> Result<(Vec<Term>, Tensor<3>)>;
    /// Whether [`Objective::factor`] knows its terms; if not, their values over a batch are noted before the first
    /// step.
    fn scaled(&self) -> bool {
        true
    }
    /// What to multiply a term by, beside its weight. It depends on earlier steps only, so that parts of a batch can be
    /// learnt one by one.
    fn factor(&self, _term: &str) -> f64 {
        1.0
    }
    /// Whether [`Objective::note`] of this term would change anything; where not, its value need not be known.
    fn wants(&self, _term: &str) -> bool {
        false
    }
    /// Takes note of a term's value over the whole batch.
    fn note(&mut self, _term: &str, _value: f64) {}
    /// Called once after each optimiser step.
    fn end_step(&mut self) {}
    /// State to checkpoint.
    fn state(&self) -> serde_json::Value;
    /// State from a checkpoint.
    ///
    /// # Errors
    /// When it is not this objective's.
    fn restore(&mut self, state: &serde_json::Value) -> Result<()>;
}

/// Weights of the terms; 0 switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermWeights {
    /// Masked-pixel error.
    pub pixel: f64,
    /// Feature Smooth-L1 through the projector.
    pub feature: f64,
    /// Token-relation divergence from the teacher.
    pub relation: f64,
    /// Token-relation divergence from the largest subnet.
    pub in_place: f64,
}
