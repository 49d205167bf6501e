//! Scores rate architectures without labels.

mod fusion;
pub mod relation;

pub use fusion::Fusion;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::space::Genes;

/// One named measurement of an architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Name, such as `relation` or `reconstruction`.
    pub name: String,
    /// Value, in the component's own unit.
    pub value: f64,
    /// Standard error over images and masks.
    pub error: f64,
    /// Whether higher is better.
    pub higher_is_better: bool,
}

/// Rates architectures.
pub trait Score {
    /// Names of the components, in the order they are returned.
    fn components(&self) -> Vec<&'static str>;
    /// Rates each member of a batch.
    ///
    /// # Errors
    /// When an architecture cannot be evaluated.
    fn rate(&mut self, batch: &[Genes]) -> Result<Vec<Vec<Component>>>;
}
