//! The only model representation of masktas: ONNX operations over named values.

use std::collections::BTreeMap;

use crate::tensor::{Dtype, Tensor};

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
