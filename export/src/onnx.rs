//! Writes a [`Graph`] as an ONNX file.
//!
//! Standard operators only (`ai.onnx`), elements as `raw_data`, no stored shapes of inner values (they
//! make some runtimes refuse a changed batch), metadata sorted by key. The same graph gives the same bytes.

use masktas_runtime::onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute_type,
};
use masktas_runtime::{Attribute, Data, Dim, Graph, Node, Tensor, ValueInfo};
use prost::Message;
use prost::bytes::Bytes;

use crate::error::{Error, Result};

/// What the `producer_name` of our files says.
pub const PRODUCER: &str = "masktas";

/// The bytes of an ONNX file that holds `graph`.
///
/// # Errors
/// As [`Graph::validate`]; [`masktas_runtime::Error::Unset`] when a constant has no elements;
/// [`Error::TooLarge`] above 2 GiB, which the format cannot hold.
pub fn write(graph: &Graph) -> Result<Vec<u8>> {
    graph.validate()?;
    graph.check_weights()?;
    let weights: u64 = graph.constants.values().map(|t| t.elements() as u64 * t.dtype().bytes() as u64).sum();
    check_size(graph, weights)?;
    let model = model(graph)?;
    check_size(graph, model.encoded_len() as u64)?;
    Ok(model.encode_to_vec())
}

fn check_size(graph: &Graph, got: u64) -> Result<()> {
    let limit = i32::MAX as u64;
    if got > limit {
        return Err(Error::TooLarge { what: format!("model '{}'", graph.name), got, limit });
    }
    Ok(())
}

/// Oldest version of the file format that may carry an operator set (the standard's table of releases).
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=20 => 9,
        21 | 22 => 10,
        _ => 11,
    }
}

fn model(graph: &Graph) -> Result<ModelProto> {
    let entry = |(key, value): (&String, &String)| StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    // The checker refuses a graph without a name.
    let name = if graph.name.is_empty() { "model" } else { &graph.name };
    let graph_proto = GraphProto {
        node: graph.nodes.iter().map(node).collect::<Result<_>>()?,
        name: Some(name.to_owned()),
        initializer: graph
            .constants
            .iter()
            .map(|(name, value)| tensor(name, value))
            .collect::<Result<_>>()?,
        input: graph.inputs.iter().map(value_info).collect(),
        output: graph.outputs.iter().map(value_info).collect(),
        sparse_initializer: vec![],
    };
    Ok(ModelProto {
        ir_version: Some(ir_version(graph.opset)),
        producer_name: Some(PRODUCER.to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph_proto),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(graph.opset) }],
        metadata_props: graph.metadata.iter().map(entry).collect(),
    })
}

fn value_info(info: &ValueInfo) -> ValueInfoProto {
    let dim = |dim: &Dim| DimensionProto {
        value: Some(match dim {
            // Extents are checked against overflow by `validate` only where they are fixed; a cast of
            // one beyond i64 cannot occur in memory.
            Dim::Fixed(extent) => DimensionValue::Value(*extent as i64),
            Dim::Symbol(symbol) => DimensionValue::Param(symbol.clone()),
        }),
    };
    let shape = TensorShapeProto { dim: info.shape.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: Some(info.dtype.to_onnx()), shape: Some(shape) };
    ValueInfoProto {
        name: Some(info.name.clone()),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
    }
}

fn node(node: &Node) -> Result<NodeProto> {
    let attributes = node.attributes.iter().map(|(name, value)| attribute(name, value));
    Ok(NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        attribute: attributes.collect::<Result<_>>()?,
        domain: None,
    })
}

fn attribute(name: &str, value: &Attribute) -> Result<AttributeProto> {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    proto.r#type = Some(match value {
        Attribute::Int(value) => {
            proto.i = Some(*value);
            attribute_type::INT
        }
        Attribute::Float(value) => {
            proto.f = Some(*value);
            attribute_type::FLOAT
        }
        Attribute::Text(value) => {
            proto.s = Some(Bytes::copy_from_slice(value.as_bytes()));
            attribute_type::STRING
        }
        Attribute::Ints(values) => {
            proto.ints.clone_from(values);
            attribute_type::INTS
        }
        Attribute::Floats(values) => {
            proto.floats.clone_from(values);
            attribute_type::FLOATS
        }
        Attribute::Tensor(value) => {
            proto.t = Some(Box::new(tensor(name, value)?));
            attribute_type::TENSOR
        }
    });
    Ok(proto)
}

fn tensor(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    Ok(TensorProto {
        dims: tensor.shape().iter().map(|extent| *extent as i64).collect(),
        data_type: Some(tensor.dtype().to_onnx()),
        name: Some(name.to_owned()),
        raw_data: Some(Bytes::from(raw(name, tensor)?)),
        ..TensorProto::default()
    })
}

/// Little-endian bytes of the elements. Also the layout of safetensors.
///
/// # Errors
/// [`masktas_runtime::Error::Unset`] naming the tensor.
pub(crate) fn raw(name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(match tensor.data() {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U8(v) => v.to_vec(),
        Data::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::Bool(v) => v.iter().map(|x| u8::from(*x)).collect(),
        Data::Other(_, v) => v.to_vec(),
        Data::Unset(_) => return Err(masktas_runtime::Error::Unset { value: name.to_owned() }.into()),
    })
}
