//! An untrusted ONNX file to a checked graph.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use crate::error::{Error, Result};
use crate::graph::{Attribute, Dim, Graph, Node, ValueInfo};
use crate::onnx::proto::{AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, attribute_type};
use crate::onnx::proto::{OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};
use crate::onnx::{limits, order, tensor};
use crate::tensor::{Dtype, Tensor};

/// Reads a model from the bytes of an ONNX file.
///
/// Nodes come out in topological order. Nodes without a name get one from their operator and place; `Constant` nodes
/// become constants; an input that also has an initialiser becomes a constant. Documentation
/// strings and stored shapes of inner values are dropped.
///
/// # Errors
/// [`Error::NotOnnx`] and [`Error::Limit`] for bytes that are no sane protobuf; [`Error::InvalidModel`]
/// and [`Error::InvalidNode`] for broken models (cycles, names used twice, values that nothing
/// writes, elements that do not fit their shape); [`Error::Unsupported`] for valid ones that are not for us: another
/// operator set or domain, subgraphs, external data, other element types.
pub fn read(bytes: &[u8]) -> Result<Graph> {
    limits::check(bytes)?;
    decode(Bytes::copy_from_slice(bytes))
}

/// Reads a model from an ONNX file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; as [`read`], within [`Error::InFile`].
pub fn read_file(path: &Path) -> Result<Graph> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > limits::FILE_MAX {
        let what = format!("the size of {} in bytes", path.display());
        return Err(Error::Limit { what, got: length, limit: limits::FILE_MAX });
    }
    let mut bytes = Vec::new();
    // A device or pipe has no length; never read more than the limit.
    file.take(limits::FILE_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    limits::check(&bytes).and_then(|()| decode(Bytes::from(bytes))).map_err(|error| error.in_file(path))
}

fn decode(bytes: Bytes) -> Result<Graph> {
    let model = ModelProto::decode(bytes).map_err(|error| Error::NotOnnx { why: error.to_string() })?;
    let Some(proto) = model.graph else {
        return Err(Error::NotOnnx { why: "it holds no graph".into() });
    };
    let opset = opset(&model.opset_import)?;
    let metadata = metadata(model.metadata_props)?;
    let graph = graph(proto, opset, metadata)?;
    graph.validate()?;
    Ok(graph)
}

fn invalid(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::InvalidModel { what: what.into(), why: why.into() }
}

fn standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Version of the standard operator set; sets of other domains matter only if a node uses them.
fn opset(imports: &[OperatorSetIdProto]) -> Result<i64> {
    let mut own = imports.iter().filter(|set| standard(set.domain.as_deref().unwrap_or("")));
    let first =
        own.next().ok_or_else(|| invalid("the model", "it names no version of the standard operator set"))?;
    if own.next().is_some() {
        return Err(invalid("the model", "it names the standard operator set twice"));
    }
    Ok(first.version.unwrap_or(0))
}

fn metadata(entries: Vec<StringStringEntryProto>) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for entry in entries {
        let (key, value) = (entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
        if metadata.contains_key(&key) {
            return Err(invalid(format!("metadata key '{key}'"), "it is given twice"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn graph(proto: GraphProto, opset: i64, metadata: BTreeMap<String, String>) -> Result<Graph> {
    if !proto.sparse_initializer.is_empty() {
        let why = "it has sparse initialisers".into();
        return Err(Error::Unsupported { what: "the model".into(), why });
    }
    let mut constants = BTreeMap::new();
    for initializer in proto.initializer {
        let name = initializer.name.clone().unwrap_or_default();
        let tensor = tensor::tensor(&initializer, &name)?;
        if constants.contains_key(&name) {
            return Err(invalid(format!("initialiser '{name}'"), "the name is used twice"));
        }
        constants.insert(name, tensor);
    }
    let mut inputs = Vec::with_capacity(proto.input.len());
    for input in proto.input {
        // Before IR version 4 every initialiser had to be listed as an input too.
        if !constants.contains_key(input.name.as_deref().unwrap_or("")) {
            inputs.push(value_info(input)?);
        }
    }
    let outputs = proto.output.into_iter().map(value_info).collect::<Result<Vec<_>>>()?;
    let nodes = name_nodes(proto.node.into_iter().map(node).collect::<Result<Vec<_>>>()?);
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes {
        match constant_node(&node)? {
            Some((name, tensor)) => {
                if constants.contains_key(&name) {
                    return Err(node.invalid(format!("it writes '{name}', which exists already")));
                }
                constants.insert(name, tensor);
            }
            None => kept.push(node),
        }
    }
    // Told apart before sorting, where such a node would look like a cycle.
    let given: HashSet<&str> =
        constants.keys().chain(inputs.iter().map(|input| &input.name)).map(String::as_str).collect();
    for node in &kept {
        if let Some(output) = node.outputs.iter().find(|name| given.contains(name.as_str())) {
            return Err(node.invalid(format!("it writes '{output}', which exists already")));
        }
    }
    let nodes = order::sort(kept)?;
    Ok(Graph { name: proto.name.unwrap_or_default(), opset, inputs, outputs, nodes, constants, metadata })
}

fn value_info(proto: ValueInfoProto) -> Result<ValueInfo> {
    let name = proto.name.unwrap_or_default();
    let what = || format!("value '{name}'");
    let Some(tensor) = proto.r#type.and_then(|kind| kind.tensor_type) else {
        return Err(Error::Unsupported { what: what(), why: "it is not a tensor".into() });
    };
    let number = tensor.elem_type.unwrap_or(0);
    let dtype = Dtype::from_onnx(i64::from(number)).ok_or_else(|| Error::Unsupported {
        what: what(),
        why: format!("it has the ONNX type number {number}"),
    })?;
    let Some(shape) = tensor.shape else {
        return Err(Error::Unsupported { what: what(), why: "the number of its extents is unknown".into() });
    };
    let mut extents = Vec::with_capacity(shape.dim.len().min(64));
    for (index, dim) in shape.dim.into_iter().enumerate() {
        extents.push(match dim.value {
            Some(DimensionValue::Value(extent)) => Dim::Fixed(
                usize::try_from(extent)
                    .map_err(|_| invalid(what(), format!("it has the extent {extent}")))?,
            ),
            Some(DimensionValue::Param(symbol)) if !symbol.is_empty() => Dim::Symbol(symbol),
            // Unnamed extents differ from one another, so each gets a symbol of its own.
            _ => Dim::Symbol(format!("{name}.{index}")),
        });
    }
    Ok(ValueInfo { name, dtype, shape: extents })
}

fn node(proto: NodeProto) -> Result<Node> {
    let domain = proto.domain.filter(|domain| !standard(domain)).unwrap_or_default();
    let mut node = Node {
        name: proto.name.unwrap_or_default(),
        op: proto.op_type.unwrap_or_default(),
        domain,
        inputs: proto.input,
        outputs: proto.output,
        attributes: BTreeMap::new(),
    };
    if node.op.is_empty() {
        return Err(node.invalid("it has no operator"));
    }
    for proto in proto.attribute {
        let name = proto.name.clone().unwrap_or_default();
        let value = attribute(proto, &node, &name)?;
        if node.attributes.contains_key(&name) {
            return Err(node.invalid(format!("attribute '{name}' is given twice")));
        }
        node.attributes.insert(name, value);
    }
    Ok(node)
}

fn attribute(proto: AttributeProto, node: &Node, name: &str) -> Result<Attribute> {
    if proto.ref_attr_name.is_some_and(|reference| !reference.is_empty()) {
        return Err(node.unsupported(format!("attribute '{name}' refers to a function's attribute")));
    }
    let missing = || node.invalid(format!("attribute '{name}' has no value"));
    Ok(match proto.r#type.unwrap_or(0) {
        attribute_type::FLOAT => Attribute::Float(proto.f.ok_or_else(missing)?),
        attribute_type::INT => Attribute::Int(proto.i.ok_or_else(missing)?),
        attribute_type::STRING => {
            let bytes = proto.s.ok_or_else(missing)?;
            let text = String::from_utf8(bytes.to_vec());
            Attribute::Text(text.map_err(|_| node.invalid(format!("attribute '{name}' is not UTF-8")))?)
        }
        attribute_type::TENSOR => {
            let value = proto.t.ok_or_else(missing)?;
            Attribute::Tensor(tensor::tensor(&value, &format!("{}.{name}", node.name))?)
        }
        attribute_type::FLOATS => Attribute::Floats(proto.floats),
        attribute_type::INTS => Attribute::Ints(proto.ints),
        attribute_type::GRAPH | attribute_type::GRAPHS => {
            return Err(node.unsupported(format!("attribute '{name}' is a subgraph")));
        }
        attribute_type::STRINGS => {
            return Err(node.unsupported(format!("attribute '{name}' is a list of texts")));
        }
        0 => return Err(node.invalid(format!("attribute '{name}' has no type"))),
        other => return Err(node.unsupported(format!("attribute '{name}' has the type number {other}"))),
    })
}

/// Gives nodes without a name one that no other node has.
fn name_nodes(mut nodes: Vec<Node>) -> Vec<Node> {
    let taken: HashSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.name.is_empty()) {
        let mut name = format!("{}_{index}", node.op);
        while taken.contains(&name) {
            name.push('_');
        }
        node.name = name;
    }
    nodes
}

/// Name and value of a `Constant` node's output; `None` for other nodes.
fn constant_node(node: &Node) -> Result<Option<(String, Tensor)>> {
    if node.op != "Constant" || !node.domain.is_empty() {
        return Ok(None);
    }
    let [name] = node.outputs.as_slice() else {
        return Err(node.invalid(format!("it has {} outputs, but the operator has 1", node.outputs.len())));
    };
    let mut values = node.attributes.iter();
    let (Some((attribute, value)), None) = (values.next(), values.next()) else {
        return Err(node.invalid(format!("it has {} attributes, but needs one value", node.attributes.len())));
    };
    let tensor = match (attribute.as_str(), value) {
        ("value", Attribute::Tensor(tensor)) => tensor.clone(),
        ("value_int", Attribute::Int(value)) => Tensor::i64(vec![], vec![*value])?,
        ("value_ints", Attribute::Ints(values)) => Tensor::i64(vec![values.len()], values.clone())?,
        ("value_float", Attribute::Float(value)) => Tensor::f32(vec![], vec![*value])?,
        ("value_floats", Attribute::Floats(values)) => Tensor::f32(vec![values.len()], values.clone())?,
        _ => return Err(node.unsupported(format!("a constant given by '{attribute}'"))),
    };
    Ok(Some((name.clone(), tensor)))
}
