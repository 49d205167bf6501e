//! Samplers propose architectures and learn from their scores (ask/tell).

use crate::error::Result;
use crate::rand::Rng;
use crate::space::{Genes, Space};

/// Registered samplers.
pub const NAMES: &[&str] = &["evolution", "random"];

/// A judged architecture, as a sampler sees it.
#[derive(Clone, Debug)]
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
    fn cost(&self, genes: &Genes) -> Result<f64>;
    /// Whether the budget allows it.
    fn allows(&self, genes: &Genes) -> Result<bool>;
}

/// Proposes architectures. Its state is a function of the seed and the trials told, so a search
/// resumes by telling the log again.
pub trait Sampler: Send {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// The next architecture: legal, within budget, not proposed before; `None` when the space is exhausted.
    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>>;
    /// The outcome of a proposal.
    fn tell(&mut self, trial: Trial);
}
