//! ONNX operations as kernels: the one place that knows the operators' names.
//!
//! Shapes, types and integer arithmetic come from the graph's own inference. Movement of data
//! becomes a view where the pass is on and the layout allows it, else a copy.

mod activation;
mod attention;
mod elementwise;
mod index;
mod layout;
mod matrix;
mod norm;
mod packed;
mod quantised;
mod resample;
mod rows;
mod window;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::graph::shapes::{Value as Known, Values};
use crate::graph::{Graph, Node};
use crate::kernels::{Core, Expr, Instr, Op, Operand, View};
use crate::plan::Passes;
use crate::plan::program::{Program, Role, Value};
use crate::tensor::{Dtype, Tensor};

/// A graph on its way to a program.
pub(crate) struct Lowering<'g> {
    graph: &'g Graph,
    known: &'g Values<'g>,
    /// Where each named value lies.
    places: HashMap<&'g str, Operand>,
    program: Program,
    passes: &'g Passes,
    /// What was packed into words: the operand, along which of its axes, and the words.
    packed: Vec<(Operand, usize, Operand)>,
}

/// Lowers every node of `graph`, whose values are `known`. With the pass `views`, movement costs no kernel
/// where a view can express it; with `pack`, products of 8-bit integers are of words of four.
pub(crate) fn lower(graph: &Graph, known: &Values<'_>, passes: &Passes) -> Result<Program> {
    let mut lowering = Lowering {
        graph,
        known,
        places: HashMap::new(),
        program: Program::default(),
        passes,
        packed: Vec::new(),
    };
    for input in &graph.inputs {
        let value = lowering.value(&input.name)?;
        let (dtype, view) = (value.dtype, View::contiguous(&value.shape));
        nonempty(&input.name, &value.shape)?;
        let value = lowering.program.add(Value::new(&input.name, dtype, &view.shape, Role::Input));
        lowering.places.insert(&input.name, Operand { value, dtype: on_adapter(dtype), view });
    }
    for node in &graph.nodes {
        lowering.node(node)?;
    }
    for output in &graph.outputs {
        let from = lowering.operand(&output.name)?;
        nonempty(&output.name, &from.view.shape)?;
        let known = lowering.value(&output.name)?.dtype;
        let (dtype, view) = (on_adapter(known), View::contiguous(&from.view.shape));
        let value = lowering.program.add(Value::new(&output.name, known, &view.shape, Role::Output));
        lowering.program.ops.push(Op {
            nodes: vec![output.name.clone()],
            core: Core::Map,
            inputs: vec![from],
            expr: Expr::load(0),
            output: Operand { value, dtype, view },
        });
    }
    Ok(lowering.program)
}

/// Most elements of one value, beyond what the buffers of any adapter hold.
const ELEMENTS_MAX: usize = 1 << 32;
/// Longest axis of which a table is made when a model is planned: counting numbers, padding, resizing.
const TABLE_MAX: usize = 1 << 22;

/// Refuses an axis that would need too long a table.
fn short(what: &str, extent: usize) -> Result<()> {
    if extent <= TABLE_MAX {
        return Ok(());
    }
    let what = format!("the length of an axis of {what}");
    Err(Error::Limit { what, got: extent as u64, limit: TABLE_MAX as u64 })
}

fn nonempty(name: &str, shape: &[usize]) -> Result<()> {
    let count = shape.iter().fold(1usize, |n, extent| n.saturating_mul(*extent));
    if count > ELEMENTS_MAX {
        let what = format!("the number of elements of value '{name}'");
        return Err(Error::Limit { what, got: count as u64, limit: ELEMENTS_MAX as u64 });
    }
    if shape.contains(&0) {
        let why = format!("its shape {shape:?} has no elements");
        return Err(Error::Unsupported { what: format!("value '{name}'"), why });
    }
    Ok(())
}

/// The type that a kernel computes with: 32-bit floats for floats; all others are its integers.
fn on_adapter(dtype: Dtype) -> Dtype {
    if dtype.is_float() { Dtype::F32 } else { dtype }
}

/// `tensor` with elements of the types that only files have as 32-bit floats and 64-bit integers.
fn widened(name: &str, tensor: &Tensor) -> Result<Tensor> {
    use crate::tensor::{Data, Number, numbers};
    if !matches!(tensor.data(), Data::Other(..)) {
        return Ok(tensor.clone());
    }
    let too_wide = || Error::Unsupported {
        what: format!("value '{name}'"),
        why: "it holds an integer beyond the adapter's 32 bits".into(),
    };
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    for number in numbers(tensor.data()) {
        match number.ok_or_else(too_wide)? {
            Number::Float(value) => floats.push(value as f32),
            Number::Int(value) => integers.push(value),
        }
    }
    let shape = tensor.shape().to_vec();
    if tensor.dtype().is_float() { Tensor::f32(shape, floats) } else { Tensor::i64(shape, integers) }
}

/// Attributes each operator may have; any other is refused rather than ignored. `None`: not an
/// operator of this runtime.
fn attributes(op: &str) -> Option<&'static [&'static str]> {
    Some(match op {
        "Add"
        | "Sub"
        | "Mul"
        | "Div"
        | "Pow"
        | "Max"
        | "Min"
        | "Sum"
        | "Equal"
        | "Less"
        | "Greater"
        | "LessOrEqual"
        | "GreaterOrEqual"
        | "Where"
        | "Sqrt"
        | "Erf"
        | "Tanh"
        | "Sigmoid"
        | "Relu"
        | "Exp"
        | "Log"
        | "Neg"
        | "Abs"
        | "Reciprocal"
        | "Clip"
        | "HardSwish"
        | "Identity"
        | "MatMul"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "Expand"
        | "Mean"
        | "And"
        | "Or"
        | "Xor"
        | "Not"
        | "PRelu"
        | "Round"
        | "Sign"
        | "Floor"
        | "Ceil"
        | "Sin"
        | "Cos"
        | "Softplus"
        | "Softsign"
        | "Mish"
        | "GatherElements"
        | "Size"
        | "Range"
        | "Tile"
        | "DynamicQuantizeLinear"
        | "MatMulInteger"
        | "QLinearMatMul" => match op {
            "GatherElements" => &["axis"],
            _ => &[],
        },
        "Gelu" => &["approximate"],
        "LeakyRelu" | "Elu" | "Celu" | "ThresholdedRelu" => &["alpha"],
        "Selu" => &["alpha", "gamma"],
        "Mod" => &["fmod"],
        "Trilu" => &["upper"],
        "CumSum" => &["exclusive", "reverse"],
        "ArgMax" | "ArgMin" => &["axis", "keepdims", "select_last_index"],
        "TopK" => &["axis", "largest", "sorted"],
        "GatherND" => &["batch_dims"],
        "ScatterElements" => &["axis", "reduction"],
        "ScatterND" => &["reduction"],
        "OneHot" => &["axis"],
        "EyeLike" => &["dtype", "k"],
        "ConstantOfShape" => &["value"],
        "Dropout" => &["seed"],
        "Pad" => &["mode"],
        "DepthToSpace" => &["blocksize", "mode"],
        "SpaceToDepth" => &["blocksize"],
        "Resize" => &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ],
        "QuantizeLinear" => &["axis", "block_size", "output_dtype", "precision", "saturate"],
        "DequantizeLinear" => &["axis", "block_size", "output_dtype"],
        "Attention" => &[
            "is_causal",
            "kv_num_heads",
            "q_num_heads",
            "qk_matmul_output_mode",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        "RotaryEmbedding" => &["interleaved", "num_heads", "rotary_embedding_dim"],
        "BatchNormalization" => &["epsilon", "momentum", "training_mode"],
        "InstanceNormalization" => &["epsilon"],
        "GroupNormalization" => &["epsilon", "num_groups", "stash_type"],
        "LpNormalization" => &["axis", "p"],
        "MaxPool" => {
            &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]
        }
        "AveragePool" => {
            &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]
        }
        "LpPool" => &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"],
        "HardSigmoid" => &["alpha", "beta"],
        "Cast" => &["to", "saturate", "round_mode"],
        "Gemm" => &["alpha", "beta", "transA", "transB"],
        "Conv" | "ConvInteger" | "QLinearConv" => {
            &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => &["axis"],
        "LayerNormalization" | "RMSNormalization" => &["axis", "epsilon", "stash_type"],
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => {
            &["axes", "keepdims", "noop_with_empty_axes"]
        }
        "Transpose" => &["perm"],
        "Reshape" => &["allowzero"],
        "Flatten" | "Concat" | "Gather" => &["axis"],
        "Squeeze" | "Unsqueeze" => &["axes"],
        "Slice" => &["axes", "starts", "ends"],
        "Split" => &["axis", "split", "num_outputs"],
        _ => return None,
    })
}

impl<'g> Lowering<'g> {
    fn node(&mut self, node: &'g Node) -> Result<()> {
        // Integers that follow from shapes and constants are already computed.
        let done = |name: &String| {
            name.is_empty() || self.known.get(name.as_str()).is_some_and(|v| v.known.is_some())
        };
        if node.outputs.iter().all(done) {
            return Ok(());
        }
        if node.op == "Constant" {
            return self.constant(node);
        }
        let Some(allowed) = attributes(&node.op).filter(|_| node.domain.is_empty()) else {
            return Err(Error::UnsupportedOp { node: node.name.clone(), op: node.op.clone() });
        };
        if let Some(other) = node.attributes.keys().find(|name| !allowed.contains(&name.as_str())) {
            return Err(node.unsupported(format!("it has the attribute '{other}'")));
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            nonempty(output, &self.value(output)?.shape)?;
        }
        match node.op.as_str() {
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "Conv" => self.conv(node),
            "MatMulInteger" | "ConvInteger" => self.integers_only(node),
            "QLinearMatMul" | "QLinearConv" => self.linear(node),
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "DynamicQuantizeLinear" => self.dynamic_quantize(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Hardmax" => self.hardmax(node),
            "LayerNormalization" | "RMSNormalization" => self.layer_norm(node),
            "BatchNormalization" => self.batch_norm(node),
            "InstanceNormalization" | "GroupNormalization" => self.group_norm(node),
            "LpNormalization" => self.lp_norm(node),
            "Attention" => self.attention(node),
            "RotaryEmbedding" => self.rotary(node),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
            | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => self.reduce(node),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(node),
            "MaxPool" | "AveragePool" | "LpPool" => self.pool(node),
            "ArgMax" | "ArgMin" => self.arg(node),
            "TopK" => self.top(node),
            "CumSum" => self.cumulative(node),
            "GatherElements" => self.gather_elements(node),
            "GatherND" => self.gather_nd(node),
            "ScatterElements" => self.scatter_elements(node),
            "ScatterND" => self.scatter_nd(node),
            "OneHot" => self.one_hot(node),
            "EyeLike" => self.eye_like(node),
            "Range" => self.range(node),
            "Trilu" => self.triangle(node),
            "ConstantOfShape" => self.constant_of_shape(node),
            "Resize" => self.resize(node),
            "Pad" => self.pad(node),
            "Tile" => self.tile(node),
            "DepthToSpace" | "SpaceToDepth" => self.depth_and_space(node),
            "Dropout" => self.dropout(node),
            "Transpose" => self.transpose(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" => self.reshape(node),
            "Slice" => self.slice(node),
            "Split" => self.split(node),
            "Concat" => self.concat(node),
            "Gather" => self.gather(node),
            "Expand" => self.expand(node),
            _ => self.elementwise(node),
        }
    }

    fn constant(&mut self, node: &'g Node) -> Result<()> {
        let tensor = match node.attributes.get("value") {
            Some(crate::graph::Attribute::Tensor(tensor)) => tensor.clone(),
            _ => match (node.float("value_float"), node.attributes.get("value_floats")) {
                (Some(value), _) => Tensor::f32([], vec![value])?,
                (_, Some(crate::graph::Attribute::Floats(values))) => {
                    Tensor::f32([values.len()], values.clone())?
                }
                _ => return Err(node.unsupported("its value is neither a tensor nor a float")),
            },
        };
        let [name, ..] = node.outputs.as_slice() else { return Ok(()) };
        let operand = self.program.add_constant(name, widened(name, &tensor)?);
        self.places.insert(name, operand);
        Ok(())
    }

    /// What inference says of a value.
    fn value(&self, name: &str) -> Result<&'g Known> {
        let known: &'g Values<'g> = self.known;
        known.get(name).ok_or_else(|| Error::InvalidModel {
            what: format!("value '{name}'"),
            why: "nothing writes it".to_owned(),
        })
    }

    /// Shape of output `index` of `node`.
    fn shape(&self, node: &Node, index: usize) -> Result<&'g [usize]> {
        let name = node
            .outputs
            .get(index)
            .ok_or_else(|| node.invalid(format!("output {} is missing", index + 1)))?;
        Ok(&self.value(name)?.shape)
    }

    /// Where a named value lies; constants are added when first read.
    fn operand(&mut self, name: &'g str) -> Result<Operand> {
        if let Some(operand) = self.places.get(name) {
            // An empty Constant may stand there for what is left out, such as the region of a Resize; only to read it is refused.
            nonempty(name, &operand.view.shape)?;
            return Ok(operand.clone());
        }
        let known = self.value(name)?;
        let tensor = match (self.graph.constants.get(name), &known.known) {
            (Some(tensor), _) => widened(name, tensor)?,
            (None, Some(values)) => match known.dtype {
                Dtype::Bool => Tensor::new(
                    known.shape.clone(),
                    crate::tensor::Data::Bool(values.iter().map(|v| *v != 0).collect()),
                )?,
                Dtype::I32 => Tensor::new(
                    known.shape.clone(),
                    crate::tensor::Data::I32(values.iter().map(|v| *v as i32).collect()),
                )?,
                _ => Tensor::i64(known.shape.clone(), values.clone())?,
            },
            _ => {
                let what = format!("value '{name}'");
                return Err(Error::InvalidModel { what, why: "nothing writes it".to_owned() });
            }
        };
        nonempty(name, tensor.shape())?;
        let operand = self.program.add_constant(name, tensor);
        self.places.insert(name, operand.clone());
        Ok(operand)
    }

    /// Input `index` of `node`, which must be there.
    fn input(&mut self, node: &'g Node, index: usize) -> Result<Operand> {
        self.optional(node, index)?.ok_or_else(|| {
            node.invalid(format!("input {} is missing; it has {}", index + 1, node.inputs.len()))
        })
    }

    /// Input `index` of `node`, when it is given.
    fn optional(&mut self, node: &'g Node, index: usize) -> Result<Option<Operand>> {
        match node.inputs.get(index) {
            Some(name) if !name.is_empty() => self.operand(name).map(Some),
            _ => Ok(None),
        }
    }

    /// The integers of an input, which inference has checked to be known.
    fn integers(&self, node: &Node, index: usize) -> Result<Option<&'g [i64]>> {
        match node.inputs.get(index) {
            Some(name) if !name.is_empty() => Ok(self.value(name)?.known.as_deref()),
            _ => Ok(None),
        }
    }

    /// Says where output `index` of `node` lies.
    fn put(&mut self, node: &'g Node, index: usize, operand: Operand) {
        if let Some(name) = node.outputs.get(index).filter(|name| !name.is_empty()) {
            self.places.insert(name, operand);
        }
    }

    /// A new value for output `index` of `node`.
    fn fresh(&mut self, node: &Node, index: usize) -> Result<Operand> {
        let name = node.outputs.get(index).cloned().unwrap_or_default();
        let known = self.value(&name)?;
        let (dtype, view) = (on_adapter(known.dtype), View::contiguous(&known.shape));
        let value = self.program.add(Value::new(&name, dtype, &view.shape, Role::Scratch));
        Ok(Operand { value, dtype, view })
    }

    /// The type of output `index` of `node` on the adapter.
    fn fresh_dtype(&self, node: &Node, index: usize) -> Result<Dtype> {
        let name = node.outputs.get(index).map_or("", String::as_str);
        Ok(on_adapter(self.value(name)?.dtype))
    }

    /// A new value between the kernels of one node.
    fn temporary(&mut self, node: &Node, dtype: Dtype, shape: &[usize]) -> Operand {
        let name = format!("{}.{}", node.name, self.program.values.len());
        let value = self.program.add(Value::new(&name, dtype, shape, Role::Scratch));
        Operand { value, dtype, view: View::contiguous(shape) }
    }

    /// Adds a kernel that writes `output`.
    fn push(&mut self, node: &Node, core: Core, inputs: Vec<Operand>, expr: Expr, output: Operand) {
        self.program.ops.push(Op { nodes: vec![node.name.clone()], core, inputs, expr, output });
    }

    /// `operand` under another shape: a view where one can do it, else a copy.
    fn reshaped(&mut self, node: &Node, operand: Operand, shape: &[usize]) -> Result<Operand> {
        if let Some(view) = operand.view.reshape(shape) {
            return Ok(Operand { view, ..operand });
        }
        let whole = self.temporary(node, operand.dtype, &operand.view.shape);
        let misfit = || node.invalid(format!("{:?} cannot become {shape:?}", operand.view.shape));
        let view = whole.view.reshape(shape).ok_or_else(misfit)?;
        self.push(node, Core::Map, vec![operand], Expr::load(0), whole.clone());
        Ok(Operand { view, ..whole })
    }

    /// Adds a kernel that writes the whole of output 0 of `node`, looping over `view` of it.
    fn emit(
        &mut self,
        node: &'g Node,
        core: Core,
        inputs: Vec<Operand>,
        expr: Expr,
        view: Option<View>,
    ) -> Result<()> {
        let place = self.fresh(node, 0)?;
        let output = Operand { view: view.unwrap_or_else(|| place.view.clone()), ..place.clone() };
        self.push(node, core, inputs, expr, output);
        self.put(node, 0, place);
        Ok(())
    }

    /// Puts `operand` as output `index` of `node`: as a view where allowed, else as a copy.
    fn movement(&mut self, node: &'g Node, index: usize, operand: Operand, alias: bool) -> Result<()> {
        if self.passes.views || alias {
            self.put(node, index, operand);
            return Ok(());
        }
        let place = self.copy(node, index, operand)?;
        self.put(node, index, place);
        Ok(())
    }

    /// Copies `operand` to a new value of output `index`'s type and of `operand`'s shape.
    fn copy(&mut self, node: &Node, index: usize, operand: Operand) -> Result<Operand> {
        let mut place = self.fresh(node, index)?;
        place.view = View::contiguous(&operand.view.shape);
        self.program.ops.push(Op {
            nodes: vec![node.name.clone()],
            core: Core::Map,
            inputs: vec![operand],
            expr: Expr::load(0),
            output: place.clone(),
        });
        Ok(place)
    }

    /// An instruction for `operand` seen as `shape`: the number itself for a constant of one element,
    /// else a load of an input that is appended.
    fn load(
        &self,
        node: &Node,
        inputs: &mut Vec<Operand>,
        operand: &Operand,
        shape: &[usize],
    ) -> Result<Instr> {
        if let Some(tensor) = self.program.constant(operand.value).filter(|t| t.elements() == 1) {
            match tensor.data() {
                crate::tensor::Data::F32(v) => return Ok(Instr::Float(v.first().copied().unwrap_or(0.0))),
                crate::tensor::Data::I64(v) => return Ok(Instr::Int(v.first().copied().unwrap_or(0))),
                crate::tensor::Data::I32(v) => return Ok(Instr::Int(v.first().copied().unwrap_or(0).into())),
                crate::tensor::Data::U8(v) => return Ok(Instr::Int(v.first().copied().unwrap_or(0).into())),
                crate::tensor::Data::I8(v) => return Ok(Instr::Int(v.first().copied().unwrap_or(0).into())),
                crate::tensor::Data::Bool(v) => {
                    return Ok(Instr::Int(v.first().copied().unwrap_or(false).into()));
                }
                _ => {}
            }
        }
        let view = operand.view.broadcast(shape).ok_or_else(|| {
            node.invalid(format!("shape {:?} does not broadcast to {shape:?}", operand.view.shape))
        })?;
        inputs.push(Operand { view, ..operand.clone() });
        Ok(Instr::Load(inputs.len() - 1))
    }

    /// Refuses types other than 32-bit floats.
    fn floats(&self, node: &Node, operand: &Operand) -> Result<()> {
        if operand.dtype == Dtype::F32 {
            return Ok(());
        }
        Err(node.unsupported(format!("it computes with elements of the type {:?}, not F32", operand.dtype)))
    }
}

/// `axis` counted from the front; inference has checked that it lies in `-rank..rank`.
fn axis(node: &Node, axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| node.invalid(format!("axis {axis} is outside -{rank} to {}", rank as i64 - 1)))
}
