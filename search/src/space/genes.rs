//! The categorical genome every sampler works on.

use serde::{Deserialize, Serialize};

/// One gene: a name and its options, as shown to people.
#[derive(Clone, Debug, PartialEq)]
pub struct Gene {
    /// Name, such as `heads.3`.
    pub name: String,
    /// The options, as text.
    pub options: Vec<String>,
    /// Whether it shapes the whole network (width, depth) rather than one block.
    pub structural: bool,
}

/// Values of all genes of one member of a space. Inactive genes hold 0, so equal members are equal.
///
/// A graph view (nodes, operations, edges: what graph predictors and edit distances read) belongs to
/// the [`Space`](super::Space), which knows what the genes mean, and not here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Genes {
    /// Index of the option taken, gene by gene.
    pub values: Vec<u16>,
    /// Whether the gene matters under the others.
    pub active: Vec<bool>,
}
