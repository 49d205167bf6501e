//! Architecture predictors: guess a score from an architecture, for samplers that can afford to rate only a few.
//!
//! Every one is fitted to normal scores (the ranks of what was rated), says what a guess may be off by from architectures that it left
//! out, and sees the architecture alone: no operations counted, nothing trained.

mod gin;
mod graph;
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
pub trait Predictor: Send {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Learns from rated architectures; what was learnt before is forgotten.
    ///
    /// # Errors
    /// With fewer than [`FEWEST`] architectures.
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

/// An error unless there are enough rated architectures.
fn few(name: &str, rated: usize) -> Result<()> {
    if rated >= FEWEST {
        return Ok(());
    }
    Err(Error::Unusable {
        thing: format!("predictor {name}"),
        problem: format!("{rated} rated architectures, and it needs {FEWEST}"),
        next: "rate more architectures first".to_owned(),
    })
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
