//! Files that lie, break off or were tampered with: each is refused by name, none panics.

mod edit;

use edit::edited;
use masktas_export::{Arch, Batch, LowerOptions, VitArch, VitBlock, Weights, lower, onnx};
use masktas_runtime::onnx::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};
use masktas_runtime::onnx::{read, read_file};
use masktas_runtime::{Error, Graph};
use proptest::prelude::*;
use prost::bytes::Bytes;

fn small(batch: Batch) -> Graph {
    let blocks = vec![VitBlock { heads: 1, hidden: 3 }];
    let arch = Arch::Vit(VitArch { image: 4, patch: 2, embed: 4, head_dim: 2, blocks, relative: Some(1) });
    let weights = Weights::random(&arch, None, 1).unwrap();
    lower(&arch, Some(&weights), &LowerOptions { batch, ..Default::default() }).unwrap()
}

fn refused(change: impl FnOnce(&mut GraphProto)) -> String {
    let bytes = edited(&small(Batch::Fixed(1)), |model| change(model.graph.as_mut().unwrap()));
    read(&bytes).expect_err("the reader must refuse this").to_string()
}

fn named<'a>(nodes: &'a mut [NodeProto], name: &str) -> &'a mut NodeProto {
    nodes.iter_mut().find(|node| node.name.as_deref() == Some(name)).unwrap()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

#[test]
fn cycles_and_undefined_values() {
    let message = refused(|g| named(&mut g.node, "tokens").input[1] = "norm".into());
    says(&message, &["cycle"]);
    let message = refused(|g| named(&mut g.node, "norm").input[0] = "norm".into());
    says(&message, &["'norm' (LayerNormalization)", "cycle"]);
    let message = refused(|g| named(&mut g.node, "norm").input[1] = "ghost".into());
    says(&message, &["'norm' (LayerNormalization)", "reads 'ghost'"]);
    let message = refused(|g| g.output[0].name = Some("ghost".into()));
    says(&message, &["output 'ghost'", "no node writes it"]);
}

#[test]
fn names_used_twice() {
    let message = refused(|g| named(&mut g.node, "norm").output[0] = "tokens".into());
    says(&message, &["'tokens', which exists already"]);
    let message = refused(|g| named(&mut g.node, "norm").name = Some("tokens".into()));
    says(&message, &["another node has the same name"]);
    let message = refused(|g| g.initializer.push(g.initializer[0].clone()));
    says(&message, &["the name is used twice"]);
    let message = refused(|g| named(&mut g.node, "norm").output[0] = "pos_embed".into());
    says(&message, &["'pos_embed', which exists already"]);
    let bytes = edited(&small(Batch::Fixed(1)), |m| {
        let entry = StringStringEntryProto { key: Some("k".into()), value: None };
        m.metadata_props = vec![entry.clone(), entry];
    });
    says(&read(&bytes).unwrap_err().to_string(), &["metadata key 'k'", "given twice"]);
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name.as_deref() == Some(name)).unwrap()
}

#[test]
fn tensors_that_lie() {
    let message = refused(|g| tensor(g, "pos_embed").raw_data = Some(Bytes::from(vec![0; 79])));
    says(&message, &["tensor 'pos_embed'", "[1, 5, 4]", "80 bytes", "79 are stored"]);
    let message = refused(|g| tensor(g, "pos_embed").raw_data = None);
    says(&message, &["'pos_embed'", "20 elements", "0 are stored"]);
    let message = refused(|g| tensor(g, "pos_embed").dims = vec![1 << 40, 1 << 40]);
    says(&message, &["'pos_embed'", "more bytes than can be addressed"]);
    let message = refused(|g| tensor(g, "pos_embed").dims = vec![-1, 20]);
    says(&message, &["'pos_embed'", "extent -1"]);
    let message = refused(|g| tensor(g, "pos_embed").dims = vec![1; 17]);
    says(&message, &["extents of tensor 'pos_embed' is 17", "limit of 16"]);
    let message = refused(|g| tensor(g, "pos_embed").data_type = Some(17));
    says(&message, &["'pos_embed'", "type number 17", "not supported"]);
    let message = refused(|g| {
        let location =
            StringStringEntryProto { key: Some("location".into()), value: Some("../../secret".into()) };
        tensor(g, "pos_embed").external_data = vec![location];
    });
    says(&message, &["'pos_embed'", "in another file", "not supported"]);
    let message = refused(|g| {
        let own = tensor(g, "pos_embed");
        (own.raw_data, own.data_type, own.int32_data) = (None, Some(3), vec![300; 20]);
    });
    says(&message, &["'pos_embed'", "300, outside -128 to 127"]);
    // A zero extent hides the others from a product.
    let message = refused(|g| {
        let own = tensor(g, "pos_embed");
        (own.dims, own.raw_data) = (vec![0, i64::MAX, i64::MAX], Some(Bytes::new()));
    });
    says(&message, &["too large"]);
}

#[test]
fn typed_fields_are_read_like_raw_data() {
    let bytes = edited(&small(Batch::Fixed(1)), |m| {
        let own = tensor(m.graph.as_mut().unwrap(), "pos_embed");
        (own.raw_data, own.float_data) = (None, (0..20).map(|i| i as f32).collect());
    });
    let graph = read(&bytes).unwrap();
    assert_eq!(graph.constants["pos_embed"].as_f32().unwrap()[19], 19.0);
}

#[test]
fn what_is_valid_but_not_for_us() {
    let message = refused(|g| named(&mut g.node, "norm").domain = Some("com.microsoft".into()));
    says(&message, &["node 'norm'", "com.microsoft.LayerNormalization is not supported"]);
    let message = refused(|g| {
        let body = AttributeProto { name: Some("body".into()), r#type: Some(5), ..Default::default() };
        named(&mut g.node, "norm").attribute.push(body);
    });
    says(&message, &["'norm'", "'body' is a subgraph", "not supported"]);
    let message = refused(|g| g.sparse_initializer = vec![Bytes::new()]);
    says(&message, &["sparse"]);
    let message = refused(|g| g.input[0].r#type.as_mut().unwrap().tensor_type = None);
    says(&message, &["'pixels'", "not a tensor"]);
    for (version, want) in [(12, "operator set 12"), (24, "operator set 24"), (i64::MIN, "outside 13 to 23")]
    {
        let bytes = edited(&small(Batch::Fixed(1)), |m| m.opset_import[0].version = Some(version));
        says(&read(&bytes).unwrap_err().to_string(), &[want]);
    }
}

#[test]
fn absurd_extents_of_inputs_do_not_overflow() {
    for extent in [i64::MAX, 1 << 62, 1 << 40] {
        let bytes = edited(&small(Batch::Fixed(1)), |m| {
            let kind = m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
            let shape = kind.tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
            shape.dim.iter_mut().for_each(|dim| dim.value = Some(DimensionValue::Value(extent)));
        });
        let shapes = read(&bytes).unwrap().shapes(&Default::default());
        assert!(matches!(shapes, Err(Error::TooLarge { .. })), "{shapes:?}");
    }
}

#[test]
fn nodes_without_names_get_one_and_constants_become_constants() {
    let bytes = edited(&small(Batch::Fixed(1)), |m| {
        let g = m.graph.as_mut().unwrap();
        named(&mut g.node, "norm").name = None;
        let mut value = tensor(g, "pos_embed").clone();
        g.initializer.retain(|t| t.name.as_deref() != Some("pos_embed"));
        value.name = None;
        let attribute = AttributeProto {
            name: Some("value".into()),
            r#type: Some(4),
            t: Some(Box::new(value)),
            ..Default::default()
        };
        let output = vec!["pos_embed".into()];
        g.node.push(NodeProto {
            op_type: Some("Constant".into()),
            output,
            attribute: vec![attribute],
            ..Default::default()
        });
    });
    let graph = read(&bytes).unwrap();
    assert_eq!(graph.constants, small(Batch::Fixed(1)).constants);
    assert!(graph.nodes.iter().all(|node| node.op != "Constant"));
    let unnamed = graph.nodes.iter().find(|node| node.outputs == ["norm"]).unwrap();
    assert!(unnamed.name.starts_with("LayerNormalization_"), "{}", unnamed.name);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = onnx::write(&small(Batch::Dynamic)).unwrap();
    let mut accepted = 0;
    for cut in (0..bytes.len()).step_by(7) {
        // A cut between two top-level fields leaves a whole graph without metadata or operator set.
        accepted += usize::from(read(&bytes[..cut]).is_ok());
    }
    assert_eq!(accepted, 0);
    assert!(read(&[]).unwrap_err().to_string().contains("it holds no graph"));
    assert!(read(&bytes).is_ok());
}

#[test]
fn deep_nesting_and_other_files() {
    // A field of unknown number, nested a hundred thousand times.
    let mut bytes = vec![];
    for _ in 0..20 {
        let mut outer = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(&bytes);
        bytes = outer;
    }
    assert!(read(&bytes).is_err());
    let groups = vec![0x0b; 100_000];
    assert!(read(&groups).is_err());
    for other in ["PNG\r\n", "{}", "PK\x03\x04 zip", "<html></html>"] {
        assert!(
            matches!(read(other.as_bytes()), Err(Error::NotOnnx { .. } | Error::InvalidModel { .. })),
            "{other}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.onnx");
    assert!(read_file(&missing).unwrap_err().to_string().contains("none.onnx"));
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, onnx::write(&small(Batch::Dynamic)).unwrap()).unwrap();
    assert_eq!(read_file(&path).unwrap(), small(Batch::Dynamic));
}

/// Reads, infers shapes and counts: whatever the bytes, an answer or an error.
fn survive(bytes: &[u8]) {
    if let Ok(graph) = read(bytes) {
        for batch in [0, 3, usize::MAX] {
            let symbols = [("N".to_owned(), batch)].into();
            let _ = graph.shapes(&symbols);
            let _ = graph.known_integers(&symbols);
            let _ = graph.features_with(&symbols);
        }
        let _ = graph.check_weights();
        let _ = onnx::write(&graph);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn changed_bytes_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        dynamic in any::<bool>(),
    ) {
        let batch = if dynamic { Batch::Dynamic } else { Batch::Fixed(2) };
        let mut bytes = onnx::write(&small(batch)).unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survive(&bytes);
    }

    /// Mutations that keep the protobuf whole reach deeper than changed bytes do.
    #[test]
    fn changed_messages_never_panic(seed in any::<u64>(), dynamic in any::<bool>()) {
        let batch = if dynamic { Batch::Dynamic } else { Batch::Fixed(2) };
        let bytes = edited(&small(batch), |model| scramble(model, seed));
        survive(&bytes);
    }
}

/// Swaps inputs, operators and attributes of nodes, and extents and elements of integer constants.
fn scramble(model: &mut ModelProto, seed: u64) {
    let mut state = seed;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below.max(1)
    };
    let graph = model.graph.as_mut().unwrap();
    for _ in 0..=draw(3) {
        let (a, b) = (draw(graph.node.len()), draw(graph.node.len()));
        let other = graph.node[b].clone();
        let node = &mut graph.node[a];
        match draw(6) {
            0 => node.op_type = other.op_type,
            1 => node.attribute = other.attribute,
            2 => node.input = other.input,
            3 => drop(node.input.pop()),
            4 => node.output.push(format!("extra{a}")),
            _ => {
                for attribute in &mut node.attribute {
                    let wild = [0, -1, 1, 7, i64::MAX, i64::MIN][draw(6)];
                    attribute.i = attribute.i.map(|_| wild);
                    attribute.ints.iter_mut().for_each(|i| *i = wild);
                }
            }
        }
        let place = draw(graph.initializer.len());
        let tensor = &mut graph.initializer[place];
        match draw(3) {
            0 if tensor.data_type == Some(7) => {
                let count = tensor.raw_data.as_ref().map_or(0, |raw| raw.len() / 8);
                let wild = [0i64, -1, 2, 1 << 40, i64::MAX, i64::MIN][draw(6)];
                tensor.raw_data = Some(wild.to_le_bytes().repeat(count).into());
            }
            1 => tensor.dims.reverse(),
            _ => {}
        }
    }
}
