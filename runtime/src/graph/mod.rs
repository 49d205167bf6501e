//! The only model representation of masktas: ONNX operations over named values.

mod build;
mod features;
pub(crate) mod shapes;
mod validate;

use std::collections::BTreeMap;

use crate::tensor::{Dtype, Tensor};

pub use build::GraphBuilder;
pub use features::{FEATURES_VERSION, Features};
pub use validate::{OPSET_MAX, OPSET_MIN, RANK_MAX};

/// A model: operations in topological order over named values.
///
/// Operation names and attributes are those of the ONNX standard (domain `ai.onnx`), so reading and
/// writing a file loses nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// Version of the ONNX operator set the nodes are written in.
    pub opset: i64,
    /// Values the caller gives.
    pub inputs: Vec<ValueInfo>,
    /// Values the caller gets.
    pub outputs: Vec<ValueInfo>,
    /// Operations; each reads only inputs, constants and outputs of earlier nodes.
    pub nodes: Vec<Node>,
    /// Weights and other fixed values, by value name.
    pub constants: BTreeMap<String, Tensor>,
    /// Free text carried in the file: preprocessing, class names, provenance.
    pub metadata: BTreeMap<String, String>,
}

/// Name, type and shape of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Name of the value.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<Dim>,
}

/// One extent of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known when the file was made.
    Fixed(usize),
    /// Known only when the model is run, such as a batch.
    Symbol(String),
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique name, shown in errors and profiles.
    pub name: String,
    /// ONNX operator, such as `MatMul`.
    pub op: String,
    /// Operator domain; empty for the standard one.
    pub domain: String,
    /// Values read; an empty name is an optional input left out.
    pub inputs: Vec<String>,
    /// Values written.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// Value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// Text.
    Text(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// A tensor.
    Tensor(Tensor),
}

impl Node {
    /// The attribute `name` when it is one integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// The attribute `name` when it is one float.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// The attribute `name` when it is a list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(value)) => Some(value),
            _ => None,
        }
    }

    /// The attribute `name` when it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::Text(value)) => Some(value),
            _ => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(extent: usize) -> Self {
        Dim::Fixed(extent)
    }
}

impl From<&str> for Dim {
    fn from(symbol: &str) -> Self {
        Dim::Symbol(symbol.to_owned())
    }
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Attribute::Int(value)
    }
}

impl From<f32> for Attribute {
    fn from(value: f32) -> Self {
        Attribute::Float(value)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Attribute::Text(value.to_owned())
    }
}

impl From<Vec<i64>> for Attribute {
    fn from(value: Vec<i64>) -> Self {
        Attribute::Ints(value)
    }
}

impl<const N: usize> From<[i64; N]> for Attribute {
    fn from(value: [i64; N]) -> Self {
        Attribute::Ints(value.to_vec())
    }
}

impl From<Tensor> for Attribute {
    fn from(value: Tensor) -> Self {
        Attribute::Tensor(value)
    }
}
