use std::collections::BTreeMap;

use super::*;
use crate::graph::{Attribute, GraphBuilder};

/// Shape and known integers of the only output of one node over inputs and constants.
fn infer(
    opset: i64,
    op: &str,
    inputs: &[(&str, Vec<usize>)],
    constants: &[(&str, Vec<i64>)],
    attributes: Vec<(&str, Attribute)>,
) -> Result<(Vec<usize>, Option<Vec<i64>>)> {
    let mut b = GraphBuilder::new("one", opset);
    let mut names = Vec::new();
    for (name, shape) in inputs {
        names.push(b.input(name, Dtype::F32, shape.iter().map(|e| Dim::Fixed(*e))));
    }
    for (name, values) in constants {
        names.push(b.integers(name, values));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    b.node(op, "out", &names, []);
    let mut graph = b.graph_for_tests();
    graph.nodes[0].attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let values = graph.infer(&BTreeMap::new())?;
    let out = &values["out"];
    Ok((out.shape.clone(), out.known.clone()))
}

fn shape_of(
    op: &str,
    inputs: &[(&str, Vec<usize>)],
    constants: &[(&str, Vec<i64>)],
    attributes: Vec<(&str, Attribute)>,
) -> Vec<usize> {
    infer(20, op, inputs, constants, attributes).unwrap().0
}

fn refusal(
    op: &str,
    inputs: &[(&str, Vec<usize>)],
    constants: &[(&str, Vec<i64>)],
    attributes: Vec<(&str, Attribute)>,
) -> String {
    infer(20, op, inputs, constants, attributes).unwrap_err().to_string()
}

#[test]
fn matrix_products() {
    let a = |x: &[usize], y: &[usize]| [("a", x.to_vec()), ("b", y.to_vec())];
    assert_eq!(shape_of("MatMul", &a(&[1, 5, 3], &[3, 4]), &[], vec![]), [1, 5, 4]);
    assert_eq!(shape_of("MatMul", &a(&[2, 1, 5, 3], &[7, 3, 4]), &[], vec![]), [2, 7, 5, 4]);
    assert_eq!(shape_of("MatMul", &a(&[3], &[3, 4]), &[], vec![]), [4]);
    assert_eq!(shape_of("MatMul", &a(&[5, 3], &[3]), &[], vec![]), [5]);
    assert_eq!(shape_of("Gemm", &a(&[2, 3], &[4, 3]), &[], vec![("transB", 1.into())]), [2, 4]);
    let refused = refusal("MatMul", &a(&[5, 3], &[4, 3]), &[], vec![]);
    assert!(refused.contains("'out' (MatMul): cannot multiply [5, 3] by [4, 3]"), "{refused}");
    assert!(refusal("Gemm", &a(&[2, 3], &[4, 3]), &[], vec![]).contains("[4, 3]"));
}

#[test]
fn convolutions_and_pooling() {
    let image = ("x", vec![1, 3, 32, 32]);
    let patch = [image.clone(), ("w", vec![96, 3, 4, 4])];
    assert_eq!(shape_of("Conv", &patch, &[], vec![("strides", [4, 4].into())]), [1, 96, 8, 8]);
    assert_eq!(shape_of("Conv", &patch, &[], vec![("pads", [1, 1, 2, 2].into())]), [1, 96, 32, 32]);
    let depthwise = [image.clone(), ("w", vec![3, 1, 3, 3])];
    let attributes = vec![("group", 3.into()), ("pads", [1, 1, 1, 1].into()), ("strides", [2, 2].into())];
    assert_eq!(shape_of("Conv", &depthwise, &[], attributes), [1, 3, 16, 16]);
    assert!(refusal("Conv", &depthwise, &[], vec![]).contains("3 channels in 1 groups"));
    let same = vec![("auto_pad", "SAME_UPPER".into()), ("strides", [3, 3].into())];
    assert_eq!(shape_of("Conv", &patch, &[], same), [1, 96, 11, 11]);
    let wide = [image.clone(), ("w", vec![8, 3, 64, 64])];
    assert!(refusal("Conv", &wide, &[], vec![]).contains("a window of 64 does not fit into 32"));
    let pool = vec![("kernel_shape", [3, 3].into()), ("strides", [2, 2].into()), ("ceil_mode", 1.into())];
    assert_eq!(shape_of("MaxPool", std::slice::from_ref(&image), &[], pool), [1, 3, 16, 16]);
    assert_eq!(shape_of("GlobalAveragePool", &[image], &[], vec![]), [1, 3, 1, 1]);
}

#[test]
fn broadcasting() {
    let pair = |x: &[usize], y: &[usize]| [("a", x.to_vec()), ("b", y.to_vec())];
    assert_eq!(shape_of("Add", &pair(&[2, 1, 4], &[3, 1]), &[], vec![]), [2, 3, 4]);
    assert_eq!(shape_of("Pow", &pair(&[2], &[]), &[], vec![]), [2]);
    assert!(refusal("Mul", &pair(&[2], &[3]), &[], vec![]).contains("[2] and [3] do not broadcast"));
    let norm = [("x", vec![1, 5, 8]), ("g", vec![8]), ("b", vec![8])];
    assert_eq!(shape_of("LayerNormalization", &norm, &[], vec![]), [1, 5, 8]);
    let wrong = [("x", vec![1, 5, 8]), ("g", vec![7])];
    assert!(refusal("LayerNormalization", &wrong, &[], vec![]).contains("'g' has shape [7]"));
}

#[test]
fn layout() {
    let x = || [("x", vec![2, 3, 4])];
    assert_eq!(shape_of("Transpose", &x(), &[], vec![("perm", [0, 2, 1].into())]), [2, 4, 3]);
    assert_eq!(shape_of("Reshape", &x(), &[("s", vec![0, -1])], vec![]), [2, 12]);
    assert_eq!(shape_of("Flatten", &x(), &[], vec![]), [2, 12]);
    assert_eq!(shape_of("Unsqueeze", &x(), &[("axes", vec![0, -1])], vec![]), [1, 2, 3, 4, 1]);
    assert_eq!(shape_of("Squeeze", &[("x", vec![1, 3, 1])], &[("axes", vec![0])], vec![]), [3, 1]);
    assert_eq!(shape_of("Expand", &[("x", vec![3, 1])], &[("s", vec![2, 1, 4])], vec![]), [2, 3, 4]);
    assert_eq!(shape_of("ReduceMean", &x(), &[("axes", vec![1])], vec![("keepdims", 0.into())]), [2, 4]);
    let old = infer(17, "ReduceMean", &x(), &[], vec![("axes", [1].into()), ("keepdims", 0.into())]);
    assert_eq!(old.unwrap().0, [2, 4]);
    assert_eq!(shape_of("Split", &x(), &[("sizes", vec![3])], vec![("axis", 1.into())]), [2, 3, 4]);
    let cut = [("s", vec![1]), ("e", vec![i64::MAX]), ("a", vec![1])];
    assert_eq!(shape_of("Slice", &x(), &cut, vec![]), [2, 2, 4]);
    let back = [("s", vec![-1]), ("e", vec![i64::MIN]), ("a", vec![2]), ("t", vec![-2])];
    assert_eq!(shape_of("Slice", &x(), &back, vec![]), [2, 3, 2]);
    assert_eq!(shape_of("Gather", &x(), &[("i", vec![0, 2, 1, 1])], vec![("axis", 1.into())]), [2, 4, 4]);

    assert!(
        refusal("Transpose", &x(), &[], vec![("perm", [0, 0, 1].into())]).contains("does not permute 3 axes")
    );
    assert!(
        refusal("Reshape", &x(), &[("s", vec![5, -1])], vec![]).contains("'x' of shape [2, 3, 4] to [5, -1]")
    );
    assert!(
        refusal("Gather", &x(), &[("i", vec![2])], vec![]).contains("index 2 is outside the 2 of axis 0")
    );
    assert!(
        refusal("Split", &x(), &[("s", vec![2])], vec![("axis", 1.into())]).contains("do not make up the 3")
    );
    assert!(refusal("ReduceSum", &x(), &[("axes", vec![3])], vec![]).contains("axis 3 is outside -3 to 2"));
    assert!(refusal("Concat", &x(), &[], vec![("axis", i64::MIN.into())]).contains("outside -3 to 2"));
}

/// Starts, ends and steps against counting by hand, over every small case.
#[test]
fn slices_agree_with_counting() {
    for extent in 0..5i64 {
        for start in -7..7i64 {
            for end in -7..7i64 {
                for step in [-3, -2, -1, 1, 2, 3i64] {
                    let wrap = |i: i64| if i < 0 { i + extent } else { i };
                    let (mut i, mut indices) = (0, vec![]);
                    if step > 0 {
                        i += wrap(start).clamp(0, extent);
                        while i < wrap(end).min(extent) {
                            indices.push(i);
                            i += step;
                        }
                    } else {
                        i += wrap(start).clamp(-1, extent - 1);
                        while i > wrap(end).max(-1) {
                            indices.push(i);
                            i += step;
                        }
                    }
                    let (first, count) = layout::span(start, end, step, extent as usize).unwrap();
                    assert_eq!(count, indices.len(), "{start}..{end} by {step} of {extent}");
                    if let Some(begin) = indices.first() {
                        assert_eq!(first, *begin);
                    }
                }
            }
        }
    }
    assert_eq!(layout::span(0, 1, 0, 4), None);
}

/// The chain of an exporter's dynamic batch: Shape → Slice → Concat → Expand, and a Reshape.
#[test]
fn dynamic_batch_resolves() {
    let mut b = GraphBuilder::new("dynamic", 20);
    let x = b.input("x", Dtype::F32, [Dim::from("N"), Dim::Fixed(6)]);
    let cls = b.constant("cls", Tensor::unset([1, 1, 3], Dtype::F32));
    let (zero, one, tail) = (b.integers("zero", &[0]), b.integers("one", &[1]), b.integers("tail", &[1, 3]));
    let shape = b.node("Shape", "shape", &[&x], []);
    let batch = b.node("Slice", "batch", &[&shape, &zero, &one], []);
    let target = b.node("Concat", "target", &[&batch, &tail], [("axis", 0.into())]);
    let tiled = b.node("Expand", "tiled", &[&cls, &target], []);
    let split = b.integers("split", &[-1, 2, 3]);
    let tokens = b.node("Reshape", "tokens", &[&x, &split], []);
    let all = b.node("Concat", "all", &[&tiled, &tokens], [("axis", 1.into())]);
    b.output(&all, Dtype::F32, [Dim::from("N"), Dim::Fixed(3), Dim::Fixed(3)]);
    let graph = b.finish().unwrap();
    let symbols = BTreeMap::from([("N".to_owned(), 7)]);
    assert_eq!(graph.shapes(&symbols).unwrap()["all"], (Dtype::F32, vec![7, 3, 3]));
    assert_eq!(graph.known_integers(&symbols).unwrap()["target"], [7, 1, 3]);
    assert!(matches!(graph.shapes(&BTreeMap::new()), Err(Error::UnboundSymbol { .. })));
}

/// PyTorch's expand: the target is -1 where the extent stays, replaced by 1 with Equal and Where.
#[test]
fn integer_chain_of_the_torch_exporter() {
    let mut b = GraphBuilder::new("torch", 20);
    let x = b.input("x", Dtype::F32, [Dim::Fixed(3), Dim::Fixed(1)]);
    let target = b.integers("target", &[-1, 4]);
    let rank = b.integers("rank", &[2]);
    let one = Tensor::i64(vec![1], vec![1]).unwrap();
    let ones = b.node("ConstantOfShape", "ones", &[&rank], [("value", one.into())]);
    let minus = b.integers("minus", &[-1]);
    let negative = b.node("Mul", "negative", &[&ones, &minus], []);
    let same = b.node("Equal", "same", &[&target, &negative], []);
    let fixed = b.node("Where", "fixed", &[&same, &ones, &target], []);
    let y = b.node("Expand", "y", &[&x, &fixed], []);
    b.output(&y, Dtype::F32, [Dim::Fixed(3), Dim::Fixed(4)]);
    let graph = b.finish().unwrap();
    assert_eq!(graph.known_integers(&BTreeMap::new()).unwrap()["fixed"], [1, 4]);
}

/// PyTorch's padding: pairs of last axis first, as a table that is cut backwards, turned and flattened.
#[test]
fn pads_of_the_torch_exporter() {
    let mut b = GraphBuilder::new("torch", 17);
    let x = b.input("x", Dtype::F32, [Dim::Fixed(2), Dim::Fixed(3)]);
    let (given, rows) = (b.integers("given", &[0, 1, 2, 3]), b.integers("rows", &[-1, 2]));
    let table = b.node("Reshape", "table", &[&given, &rows], []);
    let (last, end, first) =
        (b.integers("last", &[-1]), b.integers("end", &[i64::MIN + 1]), b.integers("first", &[0]));
    let cut = b.node("Slice", "cut", &[&table, &last, &end, &first, &last], []);
    let turned = b.node("Transpose", "turned", &[&cut], [("perm", [1, 0].into())]);
    let pads = b.node("Reshape", "pads", &[&turned, &last], []);
    let y = b.node("Pad", "y", &[&x, &pads], []);
    b.output(&y, Dtype::F32, [Dim::Fixed(7), Dim::Fixed(4)]);
    let graph = b.finish().unwrap();
    assert_eq!(graph.known_integers(&BTreeMap::new()).unwrap()["pads"], [2, 0, 3, 1]);
    assert_eq!(graph.shapes(&BTreeMap::new()).unwrap()["y"].1, [7, 4]);
}

#[test]
fn refusals_name_node_and_operator() {
    let unknown = infer(20, "Einsum", &[("x", vec![2])], &[], vec![]).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "node 'out': operator Einsum is not supported; export the model without it"
    );
    let runtime = infer(20, "Reshape", &[("x", vec![2]), ("s", vec![1])], &[], vec![]).unwrap_err();
    assert!(runtime.to_string().contains("'s' must hold integers"));
}

#[test]
fn an_output_that_lies_about_its_shape_is_refused() {
    let mut b = GraphBuilder::new("liar", 20);
    let x = b.input("x", Dtype::F32, [Dim::Fixed(2)]);
    let y = b.node("Relu", "y", &[&x], []);
    b.output(&y, Dtype::F32, [Dim::Fixed(3)]);
    let refused = b.finish().unwrap().shapes(&BTreeMap::new()).unwrap_err().to_string();
    assert!(refused.contains("output 'y'") && refused.contains("[2]"), "{refused}");
}

#[test]
fn overflowing_shapes_are_refused() {
    let big = vec![1 << 40];
    let wide = infer(20, "Expand", &[("x", vec![1])], &[("s", vec![1 << 40, 1 << 40])], vec![]);
    assert!(matches!(wide, Err(Error::TooLarge { .. })), "{wide:?}");
    let outer = infer(20, "MatMul", &[("a", vec![1 << 40, 1]), ("b", vec![1, 1 << 40])], &[], vec![]);
    assert!(matches!(outer, Err(Error::TooLarge { .. })));
    assert!(infer(20, "Relu", &[("x", big)], &[], vec![]).is_ok());
}
