//! Static shape inference, with the small integer arithmetic that shapes of exported models need.
//!
//! Every operator is one rule: types and shapes of the inputs in, those of the outputs out. Integer
//! tensors of at most [`KNOWN_MAX`] elements that depend only on constants and on shapes are computed as
//! well, so that chains such as Shape → Slice → Concat → Expand resolve once the symbols have sizes.

pub(crate) mod attention;
mod elementwise;
mod index;
pub(crate) mod layout;
pub(crate) mod matrix;
mod quantised;
pub(crate) mod resample;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::graph::validate::check_extents;
use crate::graph::{Dim, Graph, Node};
use crate::tensor::{Data, Dtype, Tensor};

/// Integer tensors with more elements are not computed.
pub(crate) const KNOWN_MAX: usize = 1024;

/// What is known of a value before anything runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The elements, row-major, where they follow from constants and shapes alone.
    pub known: Option<Vec<i64>>,
    /// The elements of a small constant of floats, such as the scales of a `Resize`.
    pub real: Option<Vec<f32>>,
    /// Whether the value is a constant of the graph (a weight).
    pub constant: bool,
}

impl Value {
    pub(crate) fn new(dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { dtype, shape, known: None, real: None, constant: false }
    }

    fn known(dtype: Dtype, shape: Vec<usize>, known: Option<Vec<i64>>) -> Self {
        Self { known, ..Self::new(dtype, shape) }
    }

    /// Elements; shapes are checked against overflow when values are made.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }

    fn of(tensor: &Tensor) -> Self {
        let known = match tensor.data() {
            _ if tensor.elements() > KNOWN_MAX => None,
            Data::I64(v) => Some(v.to_vec()),
            Data::I32(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Data::Bool(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Data::U8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Data::I8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            _ => None,
        };
        let real = tensor.as_f32().filter(|v| v.len() <= KNOWN_MAX).map(<[f32]>::to_vec);
        Self { constant: true, real, ..Self::known(tensor.dtype(), tensor.shape().to_vec(), known) }
    }
}

pub(crate) type Values<'g> = HashMap<&'g str, Value>;

impl Graph {
    /// Type and shape of every value: inputs, constants and node outputs. `symbols` gives the sizes of
    /// symbolic extents (such as a batch).
    ///
    /// # Errors
    /// [`Error::UnboundSymbol`] for a symbol without a size; [`Error::UnsupportedOp`] for an operator
    /// without a rule; [`Error::InvalidNode`] where the inputs of a node do not fit together;
    /// [`Error::Unsupported`] where a shape depends on the data; and as [`Graph::validate`] for values
    /// that nothing writes.
    pub fn shapes(&self, symbols: &BTreeMap<String, usize>) -> Result<BTreeMap<String, (Dtype, Vec<usize>)>> {
        let values = self.infer(symbols)?;
        Ok(self
            .names()
            .filter_map(|n| values.get(n).map(|v| (n.to_owned(), (v.dtype, v.shape.clone()))))
            .collect())
    }

    /// The integer and boolean values (as 0 and 1) that follow from constants and shapes alone, with at
    /// most 1,024 elements each: what a node that computes a shape will compute. A runtime need not run such nodes.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn known_integers(&self, symbols: &BTreeMap<String, usize>) -> Result<BTreeMap<String, Vec<i64>>> {
        let mut values = self.infer(symbols)?;
        let known = self.names().filter_map(|n| Some((n.to_owned(), values.get_mut(n)?.known.take()?)));
        Ok(known.collect())
    }

    /// Names of the symbolic extents of inputs and outputs: what [`Graph::shapes`] and a plan take sizes for. An output alone may
    /// have one that follows from the others, and then need not be given.
    pub fn symbols(&self) -> BTreeSet<&str> {
        let ports = self.inputs.iter().chain(&self.outputs);
        let named = ports.flat_map(|port| &port.shape).filter_map(|dim| match dim {
            Dim::Symbol(symbol) => Some(symbol.as_str()),
            Dim::Fixed(_) => None,
        });
        named.collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let inputs = self.inputs.iter().map(|info| info.name.as_str());
        let outputs = self.nodes.iter().flat_map(|node| &node.outputs).map(String::as_str);
        inputs.chain(self.constants.keys().map(String::as_str)).chain(outputs).filter(|name| !name.is_empty())
    }

    pub(crate) fn infer(&self, symbols: &BTreeMap<String, usize>) -> Result<Values<'_>> {
        let mut values: Values<'_> = HashMap::with_capacity(self.constants.len() + self.nodes.len() + 4);
        for (name, tensor) in &self.constants {
            check_extents(name, tensor.shape(), tensor.dtype().bytes())?;
            values.insert(name, Value::of(tensor));
        }
        for input in &self.inputs {
            let shape = bind(&input.name, &input.shape, symbols)?;
            check_extents(&input.name, &shape, input.dtype.bytes())?;
            values.insert(&input.name, Value::new(input.dtype, shape));
        }
        for node in &self.nodes {
            let outputs = Call::new(node, &values, self.opset)?.infer()?;
            if outputs.len() < node.outputs.len() {
                let (got, want) = (node.outputs.len(), outputs.len());
                return Err(
                    node.unsupported(format!("it has {got} outputs, of which only {want} can be computed"))
                );
            }
            for (name, value) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
                check_extents(name, &value.shape, value.dtype.bytes())?;
                values.insert(name, value);
            }
        }
        for output in &self.outputs {
            self.check_output(output.name.as_str(), output.dtype, &output.shape, &values, symbols)?;
        }
        Ok(values)
    }

    fn check_output(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[Dim],
        values: &Values<'_>,
        symbols: &BTreeMap<String, usize>,
    ) -> Result<()> {
        let invalid = |why| Error::InvalidModel { what: format!("output '{name}'"), why };
        let Some(value) = values.get(name) else {
            return Err(invalid("no node writes it".into()));
        };
        // A symbol may be an exporter's invention for an extent that is only computed: accept those.
        let fits = |(declared, got): (&Dim, &usize)| match declared {
            Dim::Fixed(extent) => extent == got,
            Dim::Symbol(symbol) => symbols.get(symbol).is_none_or(|extent| extent == got),
        };
        if dtype != value.dtype
            || shape.len() != value.shape.len()
            || !shape.iter().zip(&value.shape).all(fits)
        {
            let why =
                format!("declared {dtype:?} {shape:?}, but computed {:?} {:?}", value.dtype, value.shape);
            return Err(invalid(why));
        }
        Ok(())
    }
}

fn bind(name: &str, shape: &[Dim], symbols: &BTreeMap<String, usize>) -> Result<Vec<usize>> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => Ok(*extent),
        Dim::Symbol(symbol) => symbols
            .get(symbol)
            .copied()
            .ok_or_else(|| Error::UnboundSymbol { value: name.to_owned(), symbol: symbol.clone() }),
    };
    shape.iter().map(extent).collect()
}

/// One node with what is known of its inputs.
pub(crate) struct Call<'a> {
    pub node: &'a Node,
    pub inputs: Vec<Option<&'a Value>>,
    pub opset: i64,
}

impl<'a> Call<'a> {
    pub(crate) fn new(node: &'a Node, values: &'a Values<'_>, opset: i64) -> Result<Self> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            inputs.push(match values.get(name.as_str()) {
                Some(value) => Some(value),
                None if name.is_empty() => None,
                None => {
                    return Err(node.invalid(format!("it reads '{name}', which nothing before it writes")));
                }
            });
        }
        Ok(Self { node, inputs, opset })
    }

    /// The rule of the operator. Adding an operator is one line here and one function.
    fn infer(&self) -> Result<Vec<Value>> {
        if !self.node.domain.is_empty() {
            return Err(self.unknown());
        }
        let one = match self.node.op.as_str() {
            "MatMul" => matrix::matmul(self),
            "Gemm" => matrix::gemm(self),
            "Conv" => matrix::conv(self),
            "MaxPool" => return matrix::max_pool(self),
            "AveragePool" | "LpPool" => matrix::pool(self),
            "GlobalAveragePool" | "GlobalMaxPool" => matrix::global_pool(self),
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "PRelu" | "Pow" | "Max" | "Min" | "Sum" | "Mean" => {
                elementwise::arithmetic(self)
            }
            "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Xor" => {
                elementwise::comparison(self)
            }
            "Where" => elementwise::select(self),
            "Sqrt" | "Erf" | "Gelu" | "Tanh" | "Sigmoid" | "Relu" | "Exp" | "Log" | "Neg" | "Abs"
            | "Reciprocal" | "Clip" | "Elu" | "LeakyRelu" | "HardSigmoid" | "HardSwish" | "Identity"
            | "Softplus" | "Softsign" | "Selu" | "Celu" | "Mish" | "ThresholdedRelu" | "Round" | "Sign"
            | "Floor" | "Ceil" | "Sin" | "Cos" | "Not" | "Trilu" => elementwise::unary(self),
            "Softmax" | "LogSoftmax" | "Hardmax" | "LpNormalization" => elementwise::softmax(self),
            "CumSum" => elementwise::cumulative(self),
            "Dropout" => return elementwise::dropout(self),
            "LayerNormalization" => return elementwise::layer_norm(self),
            "RMSNormalization" | "BatchNormalization" | "InstanceNormalization" | "GroupNormalization" => {
                elementwise::normalised(self)
            }
            "Cast" => elementwise::cast(self),
            "Constant" => elementwise::constant(self),
            "ConstantOfShape" => elementwise::constant_of_shape(self),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
            | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => layout::reduce(self),
            "ArgMax" | "ArgMin" => index::arg(self),
            "TopK" => return index::top(self),
            "GatherElements" => index::gather_elements(self),
            "GatherND" => index::gather_nd(self),
            "ScatterElements" => index::scatter_elements(self),
            "ScatterND" => index::scatter_nd(self),
            "OneHot" => index::one_hot(self),
            "EyeLike" => index::eye_like(self),
            "Range" => index::range(self),
            "Size" => index::size(self),
            "Resize" => resample::resize(self),
            "Pad" => resample::pad(self),
            "Tile" => resample::tile(self),
            "DepthToSpace" | "SpaceToDepth" => resample::depth_and_space(self),
            "QuantizeLinear" => quantised::quantize(self),
            "DequantizeLinear" => quantised::dequantize(self),
            "DynamicQuantizeLinear" => return quantised::dynamic(self),
            "MatMulInteger" => quantised::matmul_integer(self),
            "ConvInteger" => quantised::conv_integer(self),
            "QLinearMatMul" | "QLinearConv" => quantised::linear(self),
            "Attention" => return attention::attention(self),
            "RotaryEmbedding" => attention::rotary(self),
            "Transpose" => layout::transpose(self),
            "Reshape" => layout::reshape(self),
            "Flatten" => layout::flatten(self),
            "Squeeze" => layout::squeeze(self),
            "Unsqueeze" => layout::unsqueeze(self),
            "Slice" => layout::slice(self),
            "Split" => return layout::split(self),
            "Concat" => layout::concat(self),
            "Gather" => layout::gather(self),
            "Expand" => layout::expand(self),
            "Shape" => layout::shape(self),
            _ => return Err(self.unknown()),
        };
        one.map(|value| vec![value])
    }

    fn unknown(&self) -> Error {
        let op = match self.node.domain.as_str() {
            "" => self.node.op.clone(),
            domain => format!("{domain}.{}", self.node.op),
        };
        Error::UnsupportedOp { node: self.node.name.clone(), op }
    }

    pub(crate) fn input(&self, index: usize) -> Result<&'a Value> {
        self.optional(index).ok_or_else(|| {
            let (got, want) = (self.inputs.len(), index + 1);
            self.node.invalid(format!("input {want} is missing; it has {got} inputs"))
        })
    }

    fn optional(&self, index: usize) -> Option<&'a Value> {
        self.inputs.get(index).copied().flatten()
    }

    fn name(&self, index: usize) -> &str {
        self.node.inputs.get(index).map_or("", String::as_str)
    }

    /// The elements of an integer input, which shapes depend on.
    fn integers(&self, index: usize) -> Result<&'a [i64]> {
        let value = self.input(index)?;
        if value.dtype != Dtype::I64 && value.dtype != Dtype::I32 {
            let why = format!("'{}' must hold integers, but holds {:?}", self.name(index), value.dtype);
            return Err(self.node.invalid(why));
        }
        value.known.as_deref().ok_or_else(|| self.depends(index))
    }

    /// Whether input `index`, one boolean, is true.
    fn flag(&self, index: usize) -> Result<bool> {
        match self.input(index)?.known.as_deref() {
            Some([flag]) => Ok(*flag != 0),
            Some(_) => Err(self.node.invalid(format!("'{}' is not one boolean", self.name(index)))),
            None => Err(self.depends(index)),
        }
    }

    /// The error of a shape that input `index` decides when the model runs.
    fn depends(&self, index: usize) -> Error {
        let name = self.name(index);
        self.node
            .unsupported(format!("its shape depends on '{name}', which is known only when the model runs"))
    }

    /// `axis` counted from the front, when it lies in `-rank..rank`.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let signed = rank as i64;
        let from_front = if axis < 0 { axis.saturating_add(signed) } else { axis };
        match usize::try_from(from_front) {
            Ok(axis) if axis < rank => Ok(axis),
            _ => Err(self.node.invalid(format!("axis {axis} is outside -{rank} to {}", signed - 1))),
        }
    }
}

/// Shape of two operands by multidirectional broadcasting.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(j) => shape.get(j).copied().unwrap_or(1),
        None => 1,
    };
    let mut shape = Vec::with_capacity(rank);
    for i in 0..rank {
        shape.push(match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return None,
        });
    }
    Some(shape)
}

#[cfg(test)]
mod tests;
