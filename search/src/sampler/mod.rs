//! Samplers propose architectures and learn from their scores (ask/tell).
//!
//! A search asks for proposal `n` with the stream [`proposal_rng`]`(seed, n)`, commits its score, and
//! tells it. To go on after a stop it tells the committed trials again, in order: a sampler's state is
//! a function of the trials told, so the next proposal is the one it would have been.

mod block_dp;
mod evolution;
mod log;
mod npenas;
mod random;
mod regularised;
mod rounds;
mod seminas;
mod tpe;

pub use block_dp::BlockDp;
pub use evolution::Evolution;
pub use npenas::Npenas;
pub use random::Random;
pub use regularised::Regularised;
pub use seminas::Seminas;
pub use tpe::Tpe;

use crate::error::{Error, Result};
use crate::rand::{Rng, stream};
use crate::recipe::{Predictor, SamplerChoice};
use crate::space::{Genes, Space};

/// Registered samplers.
pub const NAMES: &[&str] =
    &["evolution", "random", "regularised-evolution", "tpe", "npenas", "seminas", "block-dp"];

/// The sampler registered under `choice.name`, with the numbers of `choice`; `predictor` is what those that guess scores guess by.
///
/// # Errors
/// Unknown names, with a suggestion, of samplers and predictors; a sampler without the predictor that it needs.
pub fn by_name(choice: &SamplerChoice, predictor: &Predictor) -> Result<Box<dyn Sampler>> {
    match choice.name.as_str() {
        "evolution" => Ok(Box::new(Evolution::new(choice))),
        "random" => Ok(Box::new(Random::default())),
        "regularised-evolution" => Ok(Box::new(Regularised::new(choice))),
        "tpe" => Ok(Box::new(Tpe::new(choice))),
        "npenas" => Ok(Box::new(Npenas::new(choice, predictor)?)),
        "seminas" => Ok(Box::new(Seminas::new(choice, predictor)?)),
        "block-dp" => Ok(Box::new(BlockDp::new(choice))),
        name => {
            let hint = crate::suggest::hint(name, NAMES.iter().copied());
            Err(Error::UnknownName { what: "sampler", name: name.to_owned(), hint })
        }
    }
}

/// The random stream of proposal number `index`, from 0: trials told plus proposals pending.
pub fn proposal_rng(seed: u64, index: usize) -> Rng {
    stream(seed, "sampler", index as u64)
}

/// A judged architecture, as a sampler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The architecture.
    pub genes: Genes,
    /// Fused score; higher is better.
    pub score: f64,
    /// What the budget limits (predicted milliseconds, parameters, FLOPs); lower is better.
    pub cost: f64,
}

/// Says what an architecture costs and whether the budget allows it; asked before evaluation.
pub trait Budget {
    /// The cost, in the budget's unit.
    ///
    /// # Errors
    /// When the cost cannot be told.
    fn cost(&self, genes: &Genes) -> Result<f64>;
    /// Whether the budget allows it.
    ///
    /// # Errors
    /// When the cost cannot be told.
    fn allows(&self, genes: &Genes) -> Result<bool>;
    /// How far above its limits it is, without unit: 0 or below exactly where the budget allows it, and the less the
    /// nearer. Under a single limit on the cost it orders what is above that limit as the cost does.
    ///
    /// # Errors
    /// When the cost cannot be told.
    fn excess(&self, genes: &Genes) -> Result<f64>;
    /// A member it allows that was found before, or is found now; `None` when none is.
    ///
    /// # Errors
    /// When the cost cannot be told.
    fn known(&self) -> Result<Option<Genes>>;
    /// The error for a space of which the budget allows nothing, or nothing that was found: what its members cost, and
    /// one next step.
    fn infeasible(&self) -> Error;
}

/// Proposes architectures. Its state is a function of the seed and the trials told, so a search
/// resumes by telling the log again.
pub trait Sampler: Send {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// How many proposals may be asked before the next is told without changing what is proposed:
    /// at least 1. A search that rates candidates in batches asks for no more.
    fn ahead(&self) -> usize {
        1
    }
    /// The next architecture: legal, within budget, not proposed before; `None` when the space is exhausted.
    ///
    /// # Errors
    /// [`Error::Infeasible`] when the budget allows nothing, [`Error::Together`] when its limits are each met and no
    /// member was found that meets them all; the budget's own.
    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>>;
    /// The outcome of a proposal. Outcomes are told in the order of the proposals.
    fn tell(&mut self, trial: Trial);
}

#[cfg(test)]
mod conformance;
