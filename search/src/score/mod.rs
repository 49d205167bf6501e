//! Scores rate architectures without labels.

mod fusion;
pub mod relation;

pub use fusion::Fusion;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::images::Images;
use crate::recipe::Recipe;
use crate::space::{Genes, VitSpace};
use crate::supernet::Supernet;
use crate::teacher::Teacher;
use crate::train::Lanes;

/// Registered scores of a trained supernet.
pub const NAMES: &[&str] = &["relation-consistency"];

/// What the score of a supernet is made of.
pub struct Parts<'a> {
    /// The trained supernet.
    pub supernet: Supernet,
    /// Whom it learnt from.
    pub teacher: &'a dyn Teacher,
    /// The space whose members are rated.
    pub space: VitSpace,
    /// Images; those of the val split are looked at.
    pub images: &'a Images,
    /// What the search was told.
    pub recipe: &'a Recipe,
    /// Who computes.
    pub lanes: Arc<Lanes>,
}

/// The score registered under `recipe.score.name`.
///
/// # Errors
/// Unknown names, with a suggestion; what the score meets on the images.
pub fn by_name(parts: Parts<'_>) -> Result<Box<dyn Score>> {
    let Parts { supernet, teacher, space, images, recipe, lanes } = parts;
    match recipe.score.name.as_str() {
        "relation-consistency" => {
            let score = relation::RelationConsistency::new(
                supernet,
                teacher,
                space,
                images,
                &recipe.score,
                recipe.seed,
                lanes,
            )?;
            // A decoder that never learnt to guess pixels says nothing about its encoder.
            let guesses = recipe.objective.pixel > 0.0;
            Ok(Box::new(if guesses { score } else { score.without_reconstruction() }))
        }
        name => Err(Error::UnknownName {
            what: "score",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, NAMES.iter().copied()),
        }),
    }
}

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
