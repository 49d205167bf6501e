//! Writing a graph by hand, tersely.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::graph::{Attribute, Dim, Graph, Node, ValueInfo};
use crate::tensor::{Dtype, Tensor};

/// Builds a [`Graph`] node by node. A node with one output gives it the node's own name, so names
/// in an error, a profile and the file are the same.
///
/// Nothing is checked until [`GraphBuilder::finish`], which validates the whole graph.
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An empty graph called `name`, in operator set `opset`.
    pub fn new(name: &str, opset: i64) -> Self {
        Self { graph: Graph { name: name.to_owned(), opset, ..Graph::default() } }
    }

    /// Declares an input and returns its name.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: impl IntoIterator<Item = Dim>) -> String {
        let shape = shape.into_iter().collect();
        self.graph.inputs.push(ValueInfo { name: name.to_owned(), dtype, shape });
        name.to_owned()
    }

    /// Declares `value` as an output of the graph.
    pub fn output(&mut self, value: &str, dtype: Dtype, shape: impl IntoIterator<Item = Dim>) {
        let shape = shape.into_iter().collect();
        self.graph.outputs.push(ValueInfo { name: value.to_owned(), dtype, shape });
    }

    /// Adds a constant and returns its name. A constant of the same name is replaced.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> String {
        self.graph.constants.insert(name.to_owned(), tensor);
        name.to_owned()
    }

    /// Whether a constant of this name was added.
    pub fn has_constant(&self, name: &str) -> bool {
        self.graph.constants.contains_key(name)
    }

    /// Adds a list of integers as a constant (a shape, axes) and returns its name.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let tensor = Tensor::i64(vec![values.len()], values.to_vec());
        // Shape and data are of one length by construction, so there is no error to lose.
        if let Ok(tensor) = tensor {
            self.graph.constants.insert(name.to_owned(), tensor);
        }
        name.to_owned()
    }

    /// Adds a node with one output, called like the node, and returns the output's name.
    pub fn node<const N: usize>(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: [(&str, Attribute); N],
    ) -> String {
        self.node_many(op, name, inputs, &[name], attributes);
        name.to_owned()
    }

    /// Adds a node with named outputs.
    pub fn node_many<const N: usize>(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: [(&str, Attribute); N],
    ) {
        let attributes: BTreeMap<_, _> = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            op: op.to_owned(),
            domain: String::new(),
            inputs: inputs.iter().map(|s| (*s).to_owned()).collect(),
            outputs: outputs.iter().map(|s| (*s).to_owned()).collect(),
            attributes,
        });
    }

    /// Adds an entry of the file's metadata.
    pub fn metadata(&mut self, key: &str, value: &str) {
        self.graph.metadata.insert(key.to_owned(), value.to_owned());
    }

    /// The graph as it stands, unchecked.
    #[cfg(test)]
    pub(crate) fn graph_for_tests(self) -> Graph {
        self.graph
    }

    /// The graph.
    ///
    /// # Errors
    /// As [`Graph::validate`].
    pub fn finish(self) -> Result<Graph> {
        self.graph.validate()?;
        Ok(self.graph)
    }
}
