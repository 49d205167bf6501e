//! Architecture predictors: guess a score from an architecture, for samplers that can afford to rate only a few.
//!
//! Every one is fitted to normal scores (the ranks of what was rated), says what a guess may be off by from architectures that it left
//! out, and sees the architecture alone: no operations counted, nothing trained.

mod gin;
mod graph;
mod heads;
mod kernel;
mod latent;
mod mlp;
mod net;
pub mod pretrain;
mod ridge;
mod scale;
mod stored;

pub use graph::GinPredictor;
pub use latent::EncoderDecoder;
pub use mlp::Mlp;
pub use ridge::Ridge;

use crate::error::{Error, Result};
use crate::recipe;
use crate::space::{Genes, Space};

/// Registered predictors.
pub const NAMES: &[&str] = &["none", "ridge", "mlp", "gin", "encoder-decoder", "encoder-decoder-supervised"];

/// Rated architectures that a predictor needs, at least.
pub const FEWEST: usize = 5;

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
///
/// One predictor has a head for each thing that is guessed, such as the score of all trials and the accuracy of the few that were
/// trained to the end: what a head learns, the others learn with it (but for ridge regression, whose heads share nothing). A search
/// fits one head; `masktas compare --beside` fits two.
pub trait Predictor: Send {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Learns from rated architectures, each with one value a head, NaN where it has none; what was learnt before is forgotten.
    ///
    /// # Errors
    /// With fewer than [`FEWEST`] values for a head, and for architectures with different numbers of values.
    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()>;
    /// Guesses what each head was fitted to, for each member of a batch.
    ///
    /// # Errors
    /// Before the first fit.
    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>>;

    /// [`Predictor::fit_heads`] with one head.
    ///
    /// # Errors
    /// As there.
    fn fit(&mut self, space: &dyn Space, rated: &[(Genes, f64)]) -> Result<()> {
        let rated: Vec<(Genes, Vec<f64>)> =
            rated.iter().map(|(genes, value)| (genes.clone(), vec![*value])).collect();
        self.fit_heads(space, &rated)
    }
    /// The guesses of the first head.
    ///
    /// # Errors
    /// As [`Predictor::predict_heads`].
    fn predict(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Guess>> {
        let first = |guesses: Vec<Guess>| guesses.into_iter().next();
        Ok(self.predict_heads(space, batch)?.into_iter().filter_map(first).collect())
    }
}

/// The predictor registered under the recipe's name; `None` for `none`.
///
/// # Errors
/// Unknown names, with a suggestion; pre-training for a predictor that has none.
pub fn by_name(settings: &recipe::Predictor) -> Result<Option<Box<dyn Predictor>>> {
    let predictor: Box<dyn Predictor> = match settings.name.as_str() {
        "none" => return Ok(None),
        "gin" => return Ok(Some(Box::new(GinPredictor::new(&settings.pretrain)))),
        "ridge" => Box::new(Ridge::default()),
        "encoder-decoder" => Box::new(EncoderDecoder::new(true)),
        "encoder-decoder-supervised" => Box::new(EncoderDecoder::new(false)),
        "mlp" => Box::new(Mlp::default()),
        name => {
            let hint = crate::suggest::hint(name, NAMES.iter().copied());
            return Err(Error::UnknownName { what: "predictor", name: name.to_owned(), hint });
        }
    };
    if settings.pretrain != "none" {
        return Err(Error::NotSupported {
            thing: format!(
                "predictor.pretrain = \"{}\" with predictor.name = \"{}\"",
                settings.pretrain, settings.name
            ),
            reason: "only the graph network is pre-trained".to_owned(),
            next: "set predictor.pretrain=none, or predictor.name=gin".to_owned(),
        });
    }
    Ok(Some(predictor))
}

fn unfitted(name: &str) -> Error {
    Error::Unusable {
        thing: format!("predictor {name}"),
        problem: "0 architectures were fitted".to_owned(),
        next: "fit it before it guesses".to_owned(),
    }
}

#[cfg(test)]
mod tests;
