//! Architecture predictors: guess a score from an architecture, for samplers that can afford to rate
//! only a few (recipes `ssnenas` and `seminas`).
//!
//! No predictor is built in yet: the default recipe rates every candidate, and says so by `none`.

use crate::error::{Error, Result};
use crate::recipe;
use crate::space::{Genes, Space};

/// Registered predictors.
pub const NAMES: &[&str] = &["none"];

/// A guessed score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The most likely value, in the unit of what was fitted.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub low: f64,
    /// Upper end of the 90 % interval.
    pub high: f64,
}

/// Guesses scores; sees genes, and what the space says of them, only.
pub trait Predictor: Send {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Learns from rated architectures; what was learnt before is forgotten.
    ///
    /// # Errors
    /// With too few architectures.
    fn fit(&mut self, space: &dyn Space, rated: &[(Genes, f64)]) -> Result<()>;
    /// Guesses the score of each member of a batch.
    ///
    /// # Errors
    /// Before the first fit.
    fn predict(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Guess>>;
}

/// The predictor registered under the recipe's name; `None` for `none`.
///
/// # Errors
/// Unknown names, with a suggestion.
pub fn by_name(settings: &recipe::Predictor) -> Result<Option<Box<dyn Predictor>>> {
    match settings.name.as_str() {
        "none" => Ok(None),
        name => Err(Error::UnknownName {
            what: "predictor",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, NAMES.iter().copied()),
        }),
    }
}
