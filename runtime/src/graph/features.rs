//! What a graph costs, as a fixed vector of named, non-negative terms: the input of a latency model.
//!
//! The vector depends only on operations and shapes, never on weights, so it can be taken of a graph
//! that was lowered without them. Names and their order are the same for every graph of one version;
//! [`FEATURES_VERSION`] changes whenever a name, a unit or a rule of counting changes, and fits of
//! different versions must not be mixed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::shapes::{Value, Values};
use crate::graph::{Graph, Node};

/// Version of the names and of the rules of counting.
pub const FEATURES_VERSION: u32 = 2;

/// Kinds of operations that compute or move data, in the order of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Convolution.
    Conv,
    /// Matrix product with a constant.
    Linear,
    /// Matrix product of two computed values, as in attention.
    Matmul,
    Softmax,
    /// Layer, RMS, batch or instance normalisation.
    Norm,
    Gelu,
    /// Any other function of single elements.
    Elementwise,
    /// Reductions and pooling.
    Reduce,
    /// Moves elements without computing: transpose, concat, slice, gather, expand.
    Copy,
    /// Only reinterprets a shape: reshape, flatten, squeeze.
    View,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Conv, "conv"),
    (Kind::Linear, "linear"),
    (Kind::Matmul, "matmul"),
    (Kind::Softmax, "softmax"),
    (Kind::Norm, "norm"),
    (Kind::Gelu, "gelu"),
    (Kind::Elementwise, "elementwise"),
    (Kind::Reduce, "reduce"),
    (Kind::Copy, "copy"),
    (Kind::View, "view"),
];

/// Terms per kind and their units.
const TERMS: [(&str, &str); 4] =
    [("launches", "1"), ("flops", "FLOP"), ("elements", "element"), ("bytes", "byte")];

/// Kinds whose work can be bound by computing or by moving, and machine balances, in FLOP per byte, at which one turns into the
/// other: edge processors lie between a few (a small core) and tens (a GPU or a matrix unit).
const ROOFED: [(Kind, &str); 3] = [(Kind::Conv, "conv"), (Kind::Linear, "linear"), (Kind::Matmul, "matmul")];
const BALANCES: [u32; 3] = [4, 16, 64];

/// Terms of the whole graph and their units.
const TOTALS: [(&str, &str); 5] = [
    ("total.launches", "1"),
    ("total.flops", "FLOP"),
    ("total.bytes", "byte"),
    ("total.weight_bytes", "byte"),
    ("total.activation_bytes", "byte"),
];

/// A named vector of non-negative terms that says what a graph costs to run.
///
/// Per kind of operation (`conv`, `linear` for products with a constant, `matmul` for products of two
/// computed values, `softmax`, `norm`, `gelu`, `elementwise`, `reduce`, `copy`, `view`):
/// `launches`, the number of operations; `flops`, two for each multiply-add of products and
/// convolutions and nothing for the other kinds; `elements` written; `bytes` read and written
/// (constants included). `total.launches` leaves views out; `total.weight_bytes` counts each
/// constant once, however often it is read. `roof_B` of `conv`, `linear` and `matmul`, with `B` = 4, 16 and 64, sums
/// `max(FLOP, B x byte)` over single operations: on a machine that computes `B` FLOP in the time in which it moves one byte an
/// operation takes as long as the slower of both (the roofline of Williams, Waterman and Patterson, 2009), and a non-negative sum of
/// a few such terms follows any balance between them, which sums of FLOP and bytes cannot. Operations whose result follows from shapes alone cost nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// Version of names and rules.
    pub version: u32,
    /// Names, in a fixed order.
    pub names: Vec<String>,
    /// Unit of each term: `1`, `FLOP`, `element` or `byte`.
    pub units: Vec<String>,
    /// The terms.
    pub values: Vec<f64>,
}

impl Features {
    /// The term called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        let index = self.names.iter().position(|own| own == name)?;
        self.values.get(index).copied()
    }
}

impl Graph {
    /// What the graph costs, when all its extents are fixed.
    ///
    /// # Errors
    /// As [`Graph::shapes`]; in particular a symbolic extent is refused: use [`Graph::features_with`].
    pub fn features(&self) -> Result<Features> {
        self.features_with(&BTreeMap::new())
    }

    /// What the graph costs at the given sizes of its symbolic extents.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn features_with(&self, symbols: &BTreeMap<String, usize>) -> Result<Features> {
        let values = self.infer(symbols)?;
        let mut table = [[0.0f64; TERMS.len()]; KINDS.len()];
        let mut roofs = [[0.0f64; BALANCES.len()]; ROOFED.len()];
        let mut activations = 0.0;
        for node in &self.nodes {
            let Some(first) = node.outputs.first().and_then(|name| values.get(name.as_str())) else {
                continue;
            };
            // Known integers are computed when the model is planned, constants when it is loaded.
            if first.known.is_some() || first.constant {
                continue;
            }
            let kind = kind(node, &values);
            let Some(row) = KINDS.iter().position(|(own, _)| *own == kind).and_then(|i| table.get_mut(i))
            else {
                continue;
            };
            let written: f64 = known(node.outputs.iter(), &values).map(|value| value.bytes() as f64).sum();
            let read: f64 = known(node.inputs.iter(), &values).map(|value| value.bytes() as f64).sum();
            let elements: f64 =
                known(node.outputs.iter(), &values).map(|value| value.elements() as f64).sum();
            let moved = if kind == Kind::View { 0.0 } else { read + written };
            let work = flops(node, kind, first, &values);
            for (term, more) in row.iter_mut().zip([1.0, work, elements, moved]) {
                *term += more;
            }
            if let Some(roofs) =
                ROOFED.iter().position(|(own, _)| *own == kind).and_then(|i| roofs.get_mut(i))
            {
                for (term, balance) in roofs.iter_mut().zip(BALANCES) {
                    *term += work.max(f64::from(balance) * moved);
                }
            }
            if kind != Kind::View {
                activations += written;
            }
        }
        let weights: f64 =
            self.constants.values().map(|t| t.elements() as f64 * t.dtype().bytes() as f64).sum();
        Ok(assemble(&table, &roofs, weights, activations))
    }
}

fn assemble(
    table: &[[f64; TERMS.len()]; KINDS.len()],
    roofs: &[[f64; BALANCES.len()]; ROOFED.len()],
    weights: f64,
    activations: f64,
) -> Features {
    let mut features = Features { version: FEATURES_VERSION, names: vec![], units: vec![], values: vec![] };
    let mut push = |name: String, unit: &str, value: f64| {
        features.names.push(name);
        features.units.push(unit.to_owned());
        features.values.push(value);
    };
    let [mut launches, mut flops, mut bytes] = [0.0; 3];
    for ((kind, kind_name), row) in KINDS.iter().zip(table) {
        let [ops, work, _, moved] = row;
        if *kind != Kind::View {
            launches += ops;
        }
        flops += work;
        bytes += moved;
        for ((term, unit), value) in TERMS.iter().zip(row) {
            push(format!("{kind_name}.{term}"), unit, *value);
        }
    }
    for ((name, unit), value) in TOTALS.iter().zip([launches, flops, bytes, weights, activations]) {
        push((*name).to_owned(), unit, value);
    }
    for ((_, kind), terms) in ROOFED.iter().zip(roofs) {
        for (balance, value) in BALANCES.iter().zip(terms) {
            push(format!("{kind}.roof_{balance}"), "FLOP", *value);
        }
    }
    features
}

fn known<'a>(
    names: impl Iterator<Item = &'a String>,
    values: &'a Values<'_>,
) -> impl Iterator<Item = &'a Value> {
    names.filter_map(|name| values.get(name.as_str()))
}

fn kind(node: &Node, values: &Values<'_>) -> Kind {
    match node.op.as_str() {
        "Conv" | "ConvInteger" | "QLinearConv" => Kind::Conv,
        "Attention" => Kind::Matmul,
        "MatMul" | "Gemm" | "MatMulInteger" | "QLinearMatMul" => {
            let operands = [node.inputs.first(), node.inputs.get(second(node))].into_iter().flatten();
            let constant = known(operands, values).any(|value| value.constant);
            if constant { Kind::Linear } else { Kind::Matmul }
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => Kind::Softmax,
        "LayerNormalization"
        | "RMSNormalization"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LpNormalization" => Kind::Norm,
        "Gelu" | "Erf" => Kind::Gelu,
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "MaxPool" | "AveragePool"
        | "GlobalAveragePool" | "GlobalMaxPool" | "ReduceProd" | "ReduceL1" | "ReduceL2" | "ReduceLogSum"
        | "ReduceLogSumExp" | "ReduceSumSquare" | "LpPool" | "ArgMax" | "ArgMin" | "TopK" | "CumSum" => {
            Kind::Reduce
        }
        "Transpose" | "Concat" | "Slice" | "Split" | "Gather" | "Expand" | "GatherElements" | "GatherND"
        | "ScatterElements" | "ScatterND" | "Pad" | "Tile" | "Resize" | "DepthToSpace" | "SpaceToDepth" => {
            Kind::Copy
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout" => Kind::View,
        _ => Kind::Elementwise,
    }
}

/// Place of a product's second operand, or of a convolution's filters.
fn second(node: &Node) -> usize {
    if node.op.starts_with("QLinear") { 3 } else { 1 }
}

/// Two for each multiply-add of a product or a convolution.
fn flops(node: &Node, kind: Kind, output: &Value, values: &Values<'_>) -> f64 {
    let shape =
        |index: usize| node.inputs.get(index).and_then(|name| values.get(name.as_str())).map(|v| &v.shape);
    let depth = match kind {
        // Filters are [out, in / group, window...].
        Kind::Conv => shape(second(node)).map(|w| w.iter().skip(1).map(|extent| *extent as f64).product()),
        // Every query meets every key twice: for its score, and for its share of the value.
        Kind::Matmul if node.op == "Attention" => {
            let extent = |index: usize| shape(index).and_then(|s| s.get(s.len().checked_sub(2)?)).copied();
            let keys = (extent(1).unwrap_or(0) + extent(4).unwrap_or(0)) as f64;
            let queries: f64 = shape(0).map_or(0.0, |q| q.iter().map(|extent| *extent as f64).product());
            return 2.0 * keys * (queries + output.elements() as f64);
        }
        Kind::Linear | Kind::Matmul => {
            let turned = node.op == "Gemm" && node.int("transA").unwrap_or(0) != 0;
            shape(0).and_then(|a| if turned { a.first() } else { a.last() }).map(|extent| *extent as f64)
        }
        _ => None,
    };
    depth.map_or(0.0, |depth: f64| 2.0 * depth * output.elements() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Dim, GraphBuilder};
    use crate::tensor::{Dtype, Tensor};

    fn graph() -> Graph {
        let mut b = GraphBuilder::new("g", 20);
        let x = b.input("x", Dtype::F32, [Dim::Fixed(5), Dim::Fixed(3)]);
        let w = b.constant("w", Tensor::unset([3, 4], Dtype::F32));
        let y = b.node("MatMul", "y", &[&x, &w], []);
        let t = b.node("Transpose", "t", &[&y], []);
        let z = b.node("MatMul", "z", &[&y, &t], []);
        let s = b.node("Softmax", "s", &[&z], []);
        let axes = b.integers("axes", &[0]);
        let u = b.node("Unsqueeze", "u", &[&s, &axes], []);
        b.output(&u, Dtype::F32, [Dim::Fixed(1), Dim::Fixed(5), Dim::Fixed(5)]);
        b.finish().unwrap()
    }

    #[test]
    fn terms_by_hand() {
        let features = graph().features().unwrap();
        let expected = [
            ("linear.launches", 1.0),
            ("linear.flops", 2.0 * 5.0 * 3.0 * 4.0),
            ("linear.bytes", 4.0 * (15.0 + 12.0 + 20.0)),
            ("matmul.flops", 2.0 * 5.0 * 4.0 * 5.0),
            // 47 numbers of 4 bytes are moved: 752 FLOP at 4 per byte, more than the 120 that are computed.
            ("linear.roof_4", 752.0),
            ("matmul.roof_16", 16.0 * 4.0 * 65.0),
            ("conv.roof_64", 0.0),
            ("softmax.elements", 25.0),
            ("copy.bytes", 4.0 * 40.0),
            ("view.launches", 1.0),
            ("view.bytes", 0.0),
            ("total.launches", 4.0),
            ("total.flops", 120.0 + 200.0),
            ("total.weight_bytes", 4.0 * 12.0 + 8.0),
            ("total.activation_bytes", 4.0 * (20.0 + 20.0 + 25.0 + 25.0)),
        ];
        for (name, value) in expected {
            assert_eq!(features.get(name), Some(value), "{name}");
        }
        assert_eq!(features.get("no such term"), None);
    }

    #[test]
    fn names_do_not_depend_on_the_graph() {
        let mut b = GraphBuilder::new("other", 17);
        let x = b.input("x", Dtype::F32, [Dim::Fixed(1)]);
        let y = b.node("Relu", "y", &[&x], []);
        b.output(&y, Dtype::F32, [Dim::Fixed(1)]);
        let (a, b) = (graph().features().unwrap(), b.finish().unwrap().features().unwrap());
        assert_eq!((&a.names, &a.units, a.version), (&b.names, &b.units, b.version));
        assert_eq!(a.names.len(), KINDS.len() * TERMS.len() + TOTALS.len() + ROOFED.len() * BALANCES.len());
        assert!(a.values.iter().chain(&b.values).all(|v| *v >= 0.0 && v.is_finite()));
    }

    #[test]
    fn a_symbolic_batch_needs_a_size() {
        let mut b = GraphBuilder::new("dynamic", 20);
        let x = b.input("x", Dtype::F32, [Dim::from("N"), Dim::Fixed(3)]);
        let y = b.node("Relu", "y", &[&x], []);
        b.output(&y, Dtype::F32, [Dim::from("N"), Dim::Fixed(3)]);
        let graph = b.finish().unwrap();
        assert!(graph.features().unwrap_err().to_string().contains("symbolic extent 'N'"));
        let sized = graph.features_with(&BTreeMap::from([("N".to_owned(), 4)])).unwrap();
        assert_eq!(sized.get("elementwise.elements"), Some(12.0));
    }
}
