//! Search spaces: which genes exist, and which architecture they stand for.

mod genes;
mod graph;
mod vit;

pub use genes::{Gene, Genes};
pub use graph::{ArchGraph, PathCode};
pub use vit::{VitDefinition, VitSpace};

use masktas_export::Arch;

use crate::error::Result;
use crate::rand::Rng;

/// Names of the spaces that come with the program.
pub fn names() -> Vec<&'static str> {
    vit::EMBEDDED.iter().map(|(name, _)| *name).collect()
}

/// The space registered under a name, or defined by a TOML file.
///
/// # Errors
/// Unknown names (with a suggestion), unreadable files, definitions that make no sense.
pub fn by_name_or_path(name_or_path: &str) -> Result<Box<dyn Space>> {
    Ok(Box::new(VitSpace::load(name_or_path)?))
}

/// A set of architectures written as categorical genes, some of them conditional on others.
///
/// Samplers and predictors see genes only; a space backed by a table of measured accuracies maps
/// them to no [`Arch`].
pub trait Space: Send + Sync {
    /// Name it is registered under, such as `vit-micro`.
    fn name(&self) -> &str;
    /// SHA-256 of the definition, in hexadecimal: part of every cache key.
    fn hash(&self) -> String;
    /// The genes, in order.
    fn genes(&self) -> &[Gene];
    /// Which genes matter under these values. The activity mask of [`Genes`] comes from here.
    fn active(&self, values: &[u16]) -> Vec<bool>;
    /// Number of distinct architectures.
    fn count(&self) -> u128;
    /// The smallest and the largest member, then the other corners (every scalar gene at an end).
    fn corners(&self) -> Vec<Genes>;
    /// Members whose parts are all alike: the nets a person would draw. None where nothing is alike.
    fn uniform(&self) -> Vec<Genes> {
        Vec::new()
    }
    /// Every member, in a space that lists them; `None` where they are counted only.
    fn listed(&self) -> Option<Vec<Genes>> {
        None
    }
    /// A member, uniform over each gene given the ones it depends on.
    fn sample(&self, rng: &mut Rng) -> Genes;
    /// Every member that differs in one active gene, and in the genes that it switches on or off.
    fn neighbours(&self, genes: &Genes) -> Vec<Genes>;
    /// AutoFormer's mutation: each structural gene (depth, width) is redrawn with probability
    /// `structural`, each other active gene with probability `each`; genes switched on are drawn.
    fn mutate(&self, genes: &Genes, structural: f64, each: f64, rng: &mut Rng) -> Genes;
    /// Uniform crossover; `None` when the parents' structures do not fit each other.
    fn cross(&self, a: &Genes, b: &Genes, rng: &mut Rng) -> Option<Genes>;
    /// The member with these values: inactive genes are set to 0. In a space where not every combination exists, one of the nearest.
    fn member(&self, values: Vec<u16>, rng: &mut Rng) -> Genes;
    /// A fixed-length numeric encoding for predictors; inactive genes are zero.
    fn encode(&self, genes: &Genes) -> Vec<f32>;
    /// The member as a graph: what graph predictors and edit distances read.
    fn graph(&self, genes: &Genes) -> ArchGraph;
    /// Equal exactly for members that compute the same function of their input, weights aside.
    fn key(&self, genes: &Genes) -> String {
        self.graph(genes).key()
    }
    /// Canonical id: equal exactly for equal architectures, short enough to be typed.
    fn id(&self, genes: &Genes) -> String;
    /// The member with this id, or `None`.
    fn parse(&self, id: &str) -> Option<Genes>;
    /// The architecture, or `None` in a space backed by a table.
    fn arch(&self, genes: &Genes) -> Option<Arch>;
    /// Parameters of the encoder.
    fn parameters(&self, genes: &Genes) -> Option<u64>;
    /// Floating-point operations of one forward pass of one image, as
    /// [`VitArch::flops`](masktas_export::VitArch::flops) counts them: two for each multiply-add.
    fn flops(&self, genes: &Genes) -> Option<u64>;
}
