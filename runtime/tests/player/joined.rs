//! Kernels that stand for several nodes, against the plain reference, on odd shapes, in every variant.

use crate::common::{Case, check_within, random, unchecked};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{Passes, PlanOptions, Target, plan_with};
use masktas_runtime::{Attribute, Dim, Dtype, Graph, Tensor};

/// Normalised rows times a matrix, with bias and GELU; rows lie around `mean`.
fn normalised(op: &str, rows: usize, depth: usize, columns: usize, mean: f32, affine: bool) -> Case {
    let mut b = GraphBuilder::new("normalised", 23);
    let x = b.input("x", Dtype::F32, [1, rows, depth].map(Dim::Fixed));
    let scale = b.constant("scale", random(&[depth], 2));
    let shift = b.constant("shift", random(&[depth], 3));
    let operands: &[&str] =
        if affine && op == "LayerNormalization" { &[&x, &scale, &shift] } else { &[&x, &scale] };
    let n = b.node(op, "n", operands, [("epsilon", Attribute::Float(1e-6))]);
    let w = b.constant("w", random(&[depth, columns], 4));
    let y = b.node("MatMul", "p", &[&n, &w], []);
    let c = b.constant("c", random(&[columns], 5));
    let y = b.node("Add", "s", &[&y, &c], []);
    let y = b.node("Gelu", "y", &[&y], []);
    let values = random(&[1, rows, depth], 1);
    let values: Vec<f32> = values.as_f32().unwrap().iter().map(|v| v + mean).collect();
    let inputs = vec![("x".to_owned(), Tensor::f32([1, rows, depth], values).unwrap())];
    Case {
        name: format!("{op} {rows} x {depth} x {columns} around {mean}"),
        graph: unchecked(b, &[&y]),
        inputs,
    }
}

/// Bytes that a plan for `graph` with only some passes starts.
fn families(graph: &Graph, passes: Passes) -> Vec<String> {
    let options = PlanOptions { passes, ..PlanOptions::default() };
    let plan = plan_with(graph, &Target::software(), &options).unwrap();
    plan.dispatches.into_iter().map(|dispatch| dispatch.family).collect()
}

#[test]
fn normalised_products_of_odd_shapes() {
    let shapes = [
        (197, 192, 576),
        (65, 96, 100),
        (65, 192, 192),
        (9, 20, 36),
        (70, 33, 7),
        (1, 192, 10),
        (3, 1, 4),
        (1, 1, 1),
        (130, 17, 132),
    ];
    for (rows, depth, columns) in shapes {
        for op in ["LayerNormalization", "RMSNormalization"] {
            let case = normalised(op, rows, depth, columns, 0.3, true);
            if depth > 1 {
                assert_eq!(families(&case.graph, Passes::ALL), ["norm-matmul"], "{}", case.name);
            }
            check_within(&case, 4e-6);
        }
    }
    check_within(&normalised("LayerNormalization", 65, 96, 64, 0.0, false), 4e-6);
}

/// A common offset of a row, however large, costs no more than it costs a normalisation alone: the
/// inputs' own rounding.
#[test]
fn normalised_products_of_rows_far_from_zero() {
    for (mean, bound) in [(100.0, 2e-5), (-5000.0, 1e-3)] {
        check_within(&normalised("LayerNormalization", 65, 192, 64, mean, true), bound);
    }
    // One element dwarfs all others, first or last: the worst place for the shift, and the best.
    for place in [0, 191] {
        let mut case = normalised("LayerNormalization", 65, 192, 64, 0.0, true);
        let mut values = case.inputs[0].1.as_f32().unwrap().to_vec();
        values.iter_mut().skip(place).step_by(192).for_each(|v| *v = 1000.0);
        case.inputs[0].1 = Tensor::f32([1, 65, 192], values).unwrap();
        check_within(&case, 2e-5);
    }
}

#[test]
fn gains_and_normalisations_join_only_what_they_may() {
    // Two readers: gains still move, the normalisation stays a kernel.
    let mut b = GraphBuilder::new("two readers", 20);
    let x = b.input("x", Dtype::F32, [5, 8].map(Dim::Fixed));
    let (scale, shift) = (b.constant("scale", random(&[8], 1)), b.constant("shift", random(&[8], 2)));
    let n = b.node("LayerNormalization", "n", &[&x, &scale, &shift], []);
    let (w, v) = (b.constant("w", random(&[8, 4], 3)), b.constant("v", random(&[8, 3], 4)));
    let y = b.node("MatMul", "y", &[&n, &w], []);
    let z = b.node("MatMul", "z", &[&n, &v], []);
    let graph = unchecked(b, &[&y, &z]);
    let inputs = vec![("x".to_owned(), random(&[5, 8], 5))];
    assert_eq!(families(&graph, Passes::ALL), ["norm", "matmul", "matmul"]);
    check_within(&Case { name: "two readers".into(), graph, inputs }, 4e-6);

    // A reader that is no product: nothing moves.
    let mut b = GraphBuilder::new("read elsewhere", 20);
    let x = b.input("x", Dtype::F32, [5, 8].map(Dim::Fixed));
    let (scale, w) = (b.constant("scale", random(&[8], 1)), b.constant("w", random(&[8, 8], 3)));
    let n = b.node("LayerNormalization", "n", &[&x, &scale], []);
    let p = b.node("MatMul", "p", &[&n, &w], []);
    let y = b.node("Mul", "y", &[&p, &n], []);
    let graph = unchecked(b, &[&y]);
    let inputs = vec![("x".to_owned(), random(&[5, 8], 5))];
    assert_eq!(families(&graph, Passes::ALL), ["norm", "matmul"]);
    check_within(&Case { name: "read elsewhere".into(), graph, inputs }, 4e-6);
}

/// Attention of `heads` heads over `queries` and `keys` of `depth`, values of `width`.
fn attention(heads: usize, queries: usize, keys: usize, depth: usize, width: usize) -> Case {
    let mut b = GraphBuilder::new("attention", 20);
    let q = b.input("q", Dtype::F32, [1, heads, queries, depth].map(Dim::Fixed));
    let k = b.input("k", Dtype::F32, [1, heads, keys, depth].map(Dim::Fixed));
    let v = b.input("v", Dtype::F32, [1, heads, keys, width].map(Dim::Fixed));
    let scale = b.constant("scale", Tensor::f32([], vec![2.0 / (depth as f32).sqrt()]).unwrap());
    let q = b.node("Mul", "scaled", &[&q, &scale], []);
    let k = b.node("Transpose", "turned", &[&k], [("perm", Attribute::Ints(vec![0, 1, 3, 2]))]);
    let s = b.node("MatMul", "scores", &[&q, &k], []);
    let s = b.node("Softmax", "softmax", &[&s], [("axis", Attribute::Int(-1))]);
    let y = b.node("MatMul", "mixed", &[&s, &v], []);
    let shapes = [("q", queries, depth), ("k", keys, depth), ("v", keys, width)];
    let inputs = shapes
        .iter()
        .zip(1..)
        .map(|((name, rows, columns), seed)| ((*name).to_owned(), random(&[1, heads, *rows, *columns], seed)))
        .collect();
    let name = format!("attention of {heads} x {queries} x {keys} x {depth} x {width}");
    Case { name, graph: unchecked(b, &[&y]), inputs }
}

#[test]
fn attention_of_odd_shapes() {
    let shapes = [
        (3, 65, 65, 64, 64),
        (2, 197, 197, 32, 32),
        (1, 65, 33, 16, 96),
        (1, 9, 1, 8, 4),
        (4, 5, 64, 4, 8),
        (1, 1, 1, 4, 4),
        (2, 64, 66, 128, 128),
    ];
    for (heads, queries, keys, depth, width) in shapes {
        let case = attention(heads, queries, keys, depth, width);
        assert_eq!(families(&case.graph, Passes::ALL), ["attention"], "{}", case.name);
        check_within(&case, 4e-6);
    }
    // Heads that are no multiple of four keep their three kernels, with the factor behind the product.
    let odd = attention(2, 7, 9, 5, 3);
    assert_eq!(families(&odd.graph, Passes::ALL), ["matmul", "softmax", "matmul"]);
    check_within(&odd, 4e-6);
}

/// What is computed of a concatenation is computed by the kernels that write its parts.
#[test]
fn positions_join_the_parts_of_a_concatenation() {
    let mut b = GraphBuilder::new("parts", 20);
    let x = b.input("x", Dtype::F32, [2, 9, 12].map(Dim::Fixed));
    let w = b.constant("w", random(&[12, 8], 1));
    let p = b.node("MatMul", "p", &[&x, &w], []);
    let class = b.constant("class", random(&[2, 1, 8], 2));
    let t = b.node("Concat", "t", &[&class, &p], [("axis", Attribute::Int(1))]);
    let positions = b.constant("positions", random(&[1, 10, 8], 3));
    let y = b.node("Add", "y", &[&t, &positions], []);
    let graph = unchecked(b, &[&y]);
    let inputs = vec![("x".to_owned(), random(&[2, 9, 12], 4))];
    assert_eq!(families(&graph, Passes::ALL).len(), 2);
    check_within(&Case { name: "parts".into(), graph, inputs }, 2e-6);
}
