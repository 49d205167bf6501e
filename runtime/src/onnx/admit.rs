//! Whether bytes from a stranger may be handed to an engine: a weaker question than whether we can read them.

use prost::Message;
use prost::bytes::Bytes;

use super::{limits, order};
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto, attribute_type};

/// Refuses what is no sane, self-contained, loop-free ONNX file, whatever its operators and element types.
///
/// An engine that is given the file then reads no other file, and does an amount of work that the nodes bound. Functions of
/// the model's own are unknown to [`ModelProto`] and refused by engines as operators that do not exist.
///
/// # Errors
/// [`Error::NotOnnx`] and [`Error::Limit`] for bytes that are no sane protobuf; [`Error::InvalidNode`] for a cycle or
/// a value that is written twice; [`Error::Unsupported`] for elements in another file and for subgraphs (`If`, `Loop`, `Scan`).
pub fn admit(bytes: &[u8]) -> Result<()> {
    let graph = decode(bytes)?;
    for tensor in &graph.initializer {
        self_contained(tensor)?;
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for proto in graph.node {
        let node = Node {
            name: proto.name.unwrap_or_default(),
            op: proto.op_type.unwrap_or_default(),
            domain: proto.domain.unwrap_or_default(),
            inputs: proto.input,
            outputs: proto.output,
            attributes: std::collections::BTreeMap::new(),
        };
        for attribute in &proto.attribute {
            let kind = attribute.r#type.unwrap_or(0);
            if matches!(kind, attribute_type::GRAPH | attribute_type::GRAPHS) {
                let name = attribute.name.as_deref().unwrap_or_default();
                return Err(node.unsupported(format!("attribute '{name}' is a subgraph")));
            }
            if let Some(tensor) = &attribute.t {
                self_contained(tensor)?;
            }
        }
        nodes.push(node);
    }
    order::sort(nodes).map(drop)
}

/// Names of the nodes in an ONNX file, whatever their operators, in the file's order. A node without a name is an empty text.
///
/// # Errors
/// [`Error::NotOnnx`] and [`Error::Limit`] for bytes that are no sane protobuf.
pub fn node_names(bytes: &[u8]) -> Result<Vec<String>> {
    let graph = decode(bytes)?;
    Ok(graph.node.into_iter().map(|node| node.name.unwrap_or_default()).collect())
}

fn decode(bytes: &[u8]) -> Result<GraphProto> {
    limits::check(bytes)?;
    let model = ModelProto::decode(Bytes::copy_from_slice(bytes))
        .map_err(|error| Error::NotOnnx { why: error.to_string() })?;
    model.graph.ok_or_else(|| Error::NotOnnx { why: "it holds no graph".into() })
}

fn self_contained(tensor: &TensorProto) -> Result<()> {
    if tensor.data_location.unwrap_or(0) == 0 && tensor.external_data.is_empty() {
        return Ok(());
    }
    let what = format!("tensor '{}'", tensor.name.as_deref().unwrap_or_default());
    Err(Error::Unsupported { what, why: "its elements are in another file".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{AttributeProto, NodeProto, StringStringEntryProto};

    fn file(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
        let mut graph = GraphProto { name: Some("g".into()), ..GraphProto::default() };
        change(&mut graph);
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    fn node(op: &str, input: &str, output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: vec![input.into()],
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    #[test]
    fn operators_and_types_we_lack_are_admitted() {
        let half = TensorProto { data_type: Some(10), name: Some("w".into()), ..TensorProto::default() };
        let bytes = file(|graph| {
            graph.initializer = vec![half];
            graph.node = vec![node("SomethingNew", "w", "y")];
        });
        assert!(super::super::read(&bytes).is_err());
        admit(&bytes).unwrap();
    }

    #[test]
    fn loops_are_refused_in_both_senses() {
        let cycle = file(|graph| graph.node = vec![node("Add", "a", "b"), node("Add", "b", "a")]);
        assert!(admit(&cycle).unwrap_err().to_string().contains("cycle"));
        let mut repeat = node("Loop", "a", "b");
        repeat.attribute = vec![AttributeProto {
            name: Some("body".into()),
            r#type: Some(attribute_type::GRAPH),
            ..AttributeProto::default()
        }];
        let text = admit(&file(|graph| graph.node = vec![repeat])).unwrap_err().to_string();
        assert!(text.contains("Loop") && text.contains("subgraph"), "{text}");
    }

    #[test]
    fn other_files_are_never_read() {
        let elsewhere = TensorProto {
            name: Some("w".into()),
            external_data: vec![StringStringEntryProto {
                key: Some("location".into()),
                value: Some("/etc/passwd".into()),
            }],
            ..TensorProto::default()
        };
        let text = admit(&file(|graph| graph.initializer = vec![elsewhere])).unwrap_err().to_string();
        assert!(text.contains("another file"), "{text}");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(admit(b"#!/bin/sh\nrm -rf /\n").is_err());
        assert!(admit(b"").is_err());
        assert!(admit(&[0xff; 64]).is_err());
    }
}
