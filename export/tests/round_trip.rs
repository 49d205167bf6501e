//! What is written can be read, and equals what was written.

mod common;
mod edit;

use std::collections::BTreeMap;

use masktas_export::{Arch, Weights, lower, onnx};
use masktas_runtime::onnx::read;
use masktas_runtime::{Attribute, Data, Dim, Dtype, Graph, Node, Tensor, ValueInfo};
use proptest::prelude::*;

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(0usize..4, 0..4);
    (shape, 0usize..6, any::<u64>()).prop_map(|(shape, kind, seed)| {
        let count: usize = shape.iter().product();
        let numbers = (0..count as u64).map(|i| seed.rotate_left((i % 64) as u32).wrapping_mul(2 * i + 1));
        let data = match kind {
            // Any finite float, and both infinities; NaN is not equal to itself.
            0 => Data::F32(
                numbers.map(|n| f32::from_bits(n as u32)).map(|f| if f.is_nan() { 0.5 } else { f }).collect(),
            ),
            1 => Data::I64(numbers.map(|n| n as i64).collect()),
            2 => Data::I32(numbers.map(|n| n as i32).collect()),
            3 => Data::U8(numbers.map(|n| n as u8).collect()),
            4 => Data::I8(numbers.map(|n| n as i8).collect()),
            _ => Data::Bool(numbers.map(|n| n & 1 == 1).collect()),
        };
        Tensor::new(shape, data).unwrap()
    })
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        any::<i64>().prop_map(Attribute::Int),
        any::<i32>().prop_map(|f| Attribute::Float(f as f32 / 7.0)),
        ".{0,8}".prop_map(Attribute::Text),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(Attribute::Ints),
        prop::collection::vec(-1e9f32..1e9, 0..4).prop_map(Attribute::Floats),
        tensor().prop_map(Attribute::Tensor),
    ]
}

prop_compose! {
    /// A well-formed graph of made-up operators: the file format does not know what they mean.
    fn graph()(
        name in "[a-z]{1,8}",
        opset in 13i64..=23,
        dims in prop::collection::vec(prop_oneof![(0usize..9).prop_map(Dim::Fixed), "[A-Z]{1,3}".prop_map(Dim::Symbol)], 0..4),
        constants in prop::collection::vec(tensor(), 0..4),
        nodes in prop::collection::vec(
            ("[A-Z][a-z]{0,6}", prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1usize..3,
             prop::collection::btree_map("[a-z]{1,6}", attribute(), 0..3)), 1..12),
        metadata in prop::collection::btree_map(".{0,8}", ".{0,16}", 0..4),
    ) -> Graph {
        let mut values = vec!["in".to_owned(), String::new()];
        let constants: BTreeMap<String, Tensor> =
            constants.into_iter().enumerate().map(|(i, tensor)| (format!("c{i}"), tensor)).collect();
        values.extend(constants.keys().cloned());
        let mut all = vec![];
        for (i, (op, inputs, outputs, attributes)) in nodes.into_iter().enumerate() {
            let inputs: Vec<String> = inputs.iter().map(|index| index.get(&values).clone()).collect();
            let outputs: Vec<String> = (0..outputs).map(|o| format!("v{i}.{o}")).collect();
            values.extend(outputs.iter().cloned());
            // The reader turns `Constant` nodes into constants, so they would not come back.
            let op = if op == "Constant" { "Other".into() } else { op };
            all.push(Node { name: format!("n{i}"), op, domain: String::new(), inputs, outputs, attributes });
        }
        let value = |name: &str, shape| ValueInfo { name: name.to_owned(), dtype: Dtype::F32, shape };
        let outputs = vec![value(values.last().unwrap(), vec![Dim::from("Q")])];
        let graph = Graph { name, opset, inputs: vec![value("in", dims)], outputs, nodes: all, constants, metadata };
        graph.validate().unwrap();
        graph
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_graph_comes_back(graph in graph()) {
        let bytes = onnx::write(&graph).unwrap();
        prop_assert_eq!(read(&bytes).unwrap(), graph);
    }

    #[test]
    fn any_network_comes_back(arch in common::arch(), options in common::options(), seed in any::<u64>()) {
        let arch = Arch::Vit(arch);
        let weights = Weights::random(&arch, options.head.classes(), seed).unwrap();
        let graph = lower(&arch, Some(&weights), &options).unwrap();
        let bytes = onnx::write(&graph).unwrap();
        prop_assert_eq!(&bytes, &onnx::write(&graph).unwrap());
        prop_assert_eq!(read(&bytes).unwrap(), graph);
    }

    /// Shuffled nodes are sorted back into an order in which each value is written before it is read.
    #[test]
    fn any_order_of_nodes_is_read(arch in common::arch(), options in common::options(), seed in any::<u64>()) {
        let graph = lower(&Arch::Vit(arch), None, &options).unwrap();
        let mut proto_order: Vec<usize> = (0..graph.nodes.len()).collect();
        proto_order.sort_by_key(|i| (*i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        let mut filled = graph.clone();
        for tensor in filled.constants.values_mut() {
            if tensor.data().len().is_none() {
                *tensor = Tensor::f32(tensor.shape(), vec![0.0; tensor.elements()]).unwrap();
            }
        }
        let bytes = edit::edited(&filled, |model| {
            let graph = model.graph.as_mut().unwrap();
            graph.node = proto_order.iter().map(|i| graph.node[*i].clone()).collect();
        });
        let read = read(&bytes).unwrap();
        let names = |g: &Graph| -> std::collections::BTreeSet<String> { g.nodes.iter().map(|n| n.name.clone()).collect() };
        prop_assert_eq!(names(&read), names(&graph));
        let symbols = BTreeMap::from([("N".to_owned(), 2)]);
        prop_assert_eq!(read.shapes(&symbols).unwrap(), graph.shapes(&symbols).unwrap());
    }
}
