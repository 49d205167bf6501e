//! Every operator against a plain reference, on odd shapes, in every variant of its kernel.

use crate::common::{In, check, check_within, fixed, given, integers, positive, random, single};
use masktas_runtime::plan::{Target, plan};
use masktas_runtime::{Attribute, Data, Dtype, Tensor};

#[test]
fn arithmetic_broadcasts() {
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[1], &[1]),
        (&[5], &[3, 5]),
        (&[2, 1, 4, 1], &[3, 1, 8]),
        (&[65, 192], &[192]),
        (&[65, 1], &[65, 96]),
        (&[7, 1, 5], &[1]),
    ];
    for (a, b) in shapes {
        for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"] {
            check(&single(op, vec![given(random(a, 1)), given(positive(b, 2))], [], 1));
        }
    }
    check(&single("Add", vec![given(random(&[], 1)), given(random(&[3], 2))], [], 1));
    check(&single("Mul", vec![given(random(&[3, 4], 1)), fixed(random(&[1], 2))], [], 1));
}

#[test]
fn powers_keep_their_signs() {
    check_within(&single("Pow", vec![given(positive(&[33], 1)), given(random(&[33], 2))], [], 1), 5e-6);
    for exponent in [0.0, 0.5, 1.0, 2.0, 3.0, -1.0, 4.0, 5.0, -3.0, 1.5] {
        let power = Tensor::f32([1], vec![exponent]).unwrap();
        check_within(&single("Pow", vec![given(random(&[32], 1)), fixed(power)], [], 1), 5e-6);
    }
}

#[test]
fn functions_of_one_number() {
    for op in [
        "Erf",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Exp",
        "Neg",
        "Abs",
        "HardSwish",
        "HardSigmoid",
        "LeakyRelu",
        "Gelu",
    ] {
        let wide = random(&[37, 8], 3);
        let wide =
            Tensor::f32([37, 8], wide.as_f32().unwrap().iter().map(|v| 6.0 * v).collect::<Vec<_>>()).unwrap();
        check(&single(op, vec![given(wide)], [], 1));
        check(&single(op, vec![given(random(&[1], 4))], [], 1));
    }
    for op in ["Sqrt", "Reciprocal", "Log"] {
        check(&single(op, vec![given(positive(&[5, 7], 5))], [], 1));
    }
    check(&single(
        "Gelu",
        vec![given(random(&[65, 96], 3))],
        [("approximate", Attribute::Text("tanh".into()))],
        1,
    ));
    let scalar = |v: f32| fixed(Tensor::f32([], vec![v]).unwrap());
    check(&single("Clip", vec![given(random(&[9], 1)), scalar(-0.5), scalar(0.25)], [], 1));
    check(&single("Clip", vec![given(random(&[9], 1)), In::None, scalar(0.25)], [], 1));
}

/// The last decimal of erf decides whether a deep network agrees: 1e-7, not merely relative to one.
#[test]
fn erf_is_accurate_everywhere() {
    let values: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 1000.0).chain([30.0, -30.0, 1e30]).collect();
    check_within(&single("Erf", vec![given(Tensor::f32([values.len()], values).unwrap())], [], 1), 1.8e-7);
}

#[test]
fn nan_and_infinity_pass_through() {
    let odd = Tensor::f32([6], vec![f32::NAN, 1.0, -1.0, 100.0, -100.0, 0.0]).unwrap();
    for op in ["Relu", "Tanh", "Sigmoid", "Erf", "Neg", "Gelu"] {
        check(&single(op, vec![given(odd.clone())], [], 1));
    }
    let row =
        Tensor::f32([2, 3], vec![f32::NEG_INFINITY, 0.0, 1.0, 0.5, f32::NEG_INFINITY, f32::NEG_INFINITY])
            .unwrap();
    check(&single("Softmax", vec![given(row)], [], 1));
}

#[test]
fn comparison_selection_and_casts() {
    let (a, b) = (random(&[4, 9], 1), random(&[9], 2));
    for op in ["Equal", "Less", "Greater", "GreaterOrEqual"] {
        check(&single(op, vec![given(a.clone()), given(b.clone())], [], 1));
    }
    // The least float, as exporters write masks.
    let least = Tensor::f32([1], vec![f32::MIN]).unwrap();
    check(&single("Max", vec![given(a.clone()), fixed(least)], [], 1));
    let mask = Tensor::new(vec![4, 1], Data::Bool([true, false, true, false].into())).unwrap();
    check(&single("Where", vec![given(mask), given(a.clone()), given(b)], [], 1));
    let cast = |x: Tensor, to: i64| check(&single("Cast", vec![given(x)], [("to", Attribute::Int(to))], 1));
    let wide = Tensor::f32([5], vec![-2.7, -0.4, 0.0, 1.9, 70000.5]).unwrap();
    cast(wide.clone(), 6);
    cast(wide.clone(), 7);
    cast(wide, 9);
    cast(integers(&[-5, 0, 123_456]), 1);
    let words = Tensor::new(vec![3], Data::I32([7, -9, 2].into())).unwrap();
    check(&single(
        "Div",
        vec![given(words.clone()), fixed(Tensor::new(vec![1], Data::I32([2].into())).unwrap())],
        [],
        1,
    ));
    cast(words, 1);
    assert_eq!(Dtype::I32.bytes(), 4);
}

#[test]
fn matrix_products_of_odd_shapes() {
    let shapes: [(&[usize], &[usize]); 16] = [
        (&[1, 1], &[1, 1]),
        (&[197, 192], &[192, 192]),
        (&[65, 96], &[96, 100]),
        (&[1, 65, 192], &[192, 576]),
        (&[2, 5, 33], &[33, 7]),
        (&[3, 65, 64], &[3, 64, 65]),
        (&[1, 1, 65, 65], &[1, 1, 65, 32]),
        (&[2, 1, 9, 12], &[3, 12, 20]),
        (&[4, 1, 8], &[1, 8, 4]),
        (&[192], &[192, 10]),
        (&[7, 192], &[192]),
        (&[16], &[16]),
        (&[5, 3, 4], &[4]),
        (&[70, 17], &[17, 3]),
        (&[130, 20], &[20, 132]),
        (&[2, 3, 4, 6], &[2, 1, 6, 5]),
    ];
    for (a, b) in shapes {
        check(&single("MatMul", vec![given(random(a, 1)), given(random(b, 2))], [], 1));
        check(&single("MatMul", vec![given(random(a, 1)), fixed(random(b, 2))], [], 1));
    }
}

#[test]
fn a_large_product_takes_the_large_tile() {
    check_within(
        &single("MatMul", vec![given(random(&[1030, 36], 1)), given(random(&[36, 1028], 2))], [], 1),
        4e-6,
    );
}

#[test]
fn gemm_in_all_orders() {
    for (ta, tb) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let a = if ta == 0 { [33, 12] } else { [12, 33] };
        let b = if tb == 0 { [12, 20] } else { [20, 12] };
        let attributes = [
            ("transA", Attribute::Int(ta)),
            ("transB", Attribute::Int(tb)),
            ("alpha", Attribute::Float(0.5)),
            ("beta", Attribute::Float(-2.0)),
        ];
        check(&single(
            "Gemm",
            vec![given(random(&a, 1)), fixed(random(&b, 2)), fixed(random(&[20], 3))],
            attributes.clone(),
            1,
        ));
        check(&single(
            "Gemm",
            vec![given(random(&a, 1)), given(random(&b, 2)), given(random(&[33, 1], 3))],
            attributes,
            1,
        ));
    }
    check(&single("Gemm", vec![given(random(&[1, 5], 1)), fixed(random(&[5, 3], 2))], [], 1));
}

#[test]
fn convolutions() {
    let ints = |v: &[i64]| Attribute::Ints(v.to_vec());
    // Patch embeddings, also where the image is no multiple of the patch.
    for (image, patch, channels, out) in [(32, 4, 3, 192), (9, 4, 3, 10), (8, 8, 1, 5), (5, 1, 6, 8)] {
        let p = patch as i64;
        let x = given(random(&[2, channels, image, image], 1));
        let w = fixed(random(&[out, channels, patch, patch], 2));
        let b = fixed(random(&[out], 3));
        check(&single(
            "Conv",
            vec![x, w, b],
            [("strides", ints(&[p, p])), ("kernel_shape", ints(&[p, p]))],
            1,
        ));
    }
    let x = || given(random(&[2, 6, 11, 9], 4));
    check(&single(
        "Conv",
        vec![x(), fixed(random(&[4, 6, 3, 3], 5)), fixed(random(&[4], 6))],
        [("pads", ints(&[1, 1, 1, 1]))],
        1,
    ));
    check(&single(
        "Conv",
        vec![x(), given(random(&[6, 1, 3, 3], 5))],
        [("group", Attribute::Int(6)), ("pads", ints(&[0, 2, 1, 0]))],
        1,
    ));
    check(&single(
        "Conv",
        vec![x(), fixed(random(&[4, 3, 3, 2], 5))],
        [("group", Attribute::Int(2)), ("dilations", ints(&[2, 3])), ("strides", ints(&[2, 1]))],
        1,
    ));
    check(&single("GlobalAveragePool", vec![x()], [], 1));
}

#[test]
fn layer_normalisation() {
    for shape in [&[1usize, 65, 192][..], &[197, 96], &[3, 5], &[1, 1], &[2, 3, 4, 5]] {
        let last = *shape.last().unwrap();
        let parts = || vec![given(random(shape, 1)), fixed(random(&[last], 2)), fixed(random(&[last], 3))];
        check(&single("LayerNormalization", parts(), [("epsilon", Attribute::Float(1e-6))], 1));
    }
    let wide = vec![given(random(&[3, 4, 5], 1)), fixed(random(&[4, 5], 2)), fixed(random(&[4, 5], 3))];
    check(&single("LayerNormalization", wide, [("axis", Attribute::Int(1))], 1));
    check(&single("LayerNormalization", vec![given(random(&[6, 8], 1)), given(random(&[8], 2))], [], 1));
}

#[test]
fn softmax_along_every_axis() {
    for shape in [&[1usize, 3, 65, 65][..], &[5, 64], &[1, 1], &[4, 3, 8]] {
        for axis in -(shape.len() as i64)..0 {
            check(&single("Softmax", vec![given(random(shape, 1))], [("axis", Attribute::Int(axis))], 1));
        }
    }
}

#[test]
fn reductions() {
    for op in ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"] {
        for axes in [&[1i64][..], &[-1], &[0, 2], &[0, 1, 2], &[2, 0]] {
            for keep in [0, 1] {
                let parts = vec![given(random(&[5, 65, 8], 1)), fixed(integers(axes))];
                check(&single(op, parts, [("keepdims", Attribute::Int(keep))], 1));
            }
        }
        check(&single(op, vec![given(random(&[3, 7], 1))], [("keepdims", Attribute::Int(0))], 1));
        let noop = [("noop_with_empty_axes", Attribute::Int(1))];
        check(&single(op, vec![given(random(&[3, 7], 1))], noop, 1));
    }
}

/// A single long row is shared by a workgroup in both classes; its elements are no multiple of the threads, nor of four.
#[test]
fn reductions_to_one_number() {
    for (shape, shared) in [([3, 1667], true), ([5, 1024], true), ([4095, 1], false)] {
        for op in ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"] {
            // Greater than zero, so that sums do not vanish.
            let case = single(op, vec![given(positive(&shape, 1))], [("keepdims", Attribute::Int(0))], 1);
            check(&case);
            let plan = plan(&case.graph, &Target::software()).unwrap();
            assert_eq!(plan.kernels[0].contains("workgroupBarrier"), shared, "{}", case.name);
        }
    }
}

#[test]
fn movement() {
    let x = |shape: &[usize]| given(random(shape, 1));
    let ints = |v: &[i64]| Attribute::Ints(v.to_vec());
    for perm in [[0i64, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        check(&single("Transpose", vec![x(&[3, 65, 8])], [("perm", ints(&perm))], 1));
    }
    check(&single("Transpose", vec![x(&[4, 6])], [], 1));
    check(&single("Transpose", vec![x(&[1, 65, 3, 64])], [("perm", ints(&[0, 2, 1, 3]))], 1));
    check(&single("Reshape", vec![x(&[4, 6]), fixed(integers(&[2, -1, 3]))], [], 1));
    check(&single("Flatten", vec![x(&[2, 3, 4])], [("axis", Attribute::Int(2))], 1));
    check(&single("Squeeze", vec![x(&[1, 3, 1, 4]), fixed(integers(&[0, 2]))], [], 1));
    check(&single("Unsqueeze", vec![x(&[3, 4]), fixed(integers(&[0, 3]))], [], 1));
    check(&single("Identity", vec![x(&[3, 4])], [], 1));
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        let more = [starts, ends, axes, steps].map(|v| fixed(integers(v)));
        check(&single("Slice", [vec![x(&[7, 9, 8])], more.into_iter().collect()].concat_in(), [], 1));
    };
    slice(&[1], &[6], &[0], &[1]);
    slice(&[0, 2], &[i64::MAX, -1], &[1, 2], &[3, 2]);
    slice(&[-1], &[i64::MIN], &[1], &[-1]);
    slice(&[5, 8], &[0, 0], &[0, -2], &[-2, -4]);
    check(&single("Split", vec![x(&[5, 12]), fixed(integers(&[4, 1, 7]))], [("axis", Attribute::Int(1))], 3));
    check(&single("Split", vec![x(&[6, 4])], [("num_outputs", Attribute::Int(3))], 3));
    check(&single(
        "Concat",
        vec![x(&[2, 3, 4]), x(&[2, 1, 4]), fixed(random(&[2, 5, 4], 9))],
        [("axis", Attribute::Int(1))],
        1,
    ));
    check(&single("Concat", vec![x(&[2, 3]), x(&[2, 2])], [("axis", Attribute::Int(-1))], 1));
    check(&single("Expand", vec![x(&[3, 1]), fixed(integers(&[2, 1, 6]))], [], 1));
    check(&single("Expand", vec![fixed(random(&[1, 1, 8], 2)), fixed(integers(&[5, 1, 8]))], [], 1));
}

/// Joins lists of operands, which cannot be cloned.
trait ConcatIn {
    fn concat_in(self) -> Vec<In>;
}

impl ConcatIn for [Vec<In>; 2] {
    fn concat_in(self) -> Vec<In> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn gather() {
    let data = || given(random(&[9, 5, 6], 1));
    let table = |shape: &[usize], v: &[i64]| Tensor::i64(shape, v.to_vec()).unwrap();
    for axis in [0, 1, -1] {
        let at = Attribute::Int(axis);
        check(&single(
            "Gather",
            vec![data(), fixed(table(&[2, 2], &[0, -1, 3, 4]))],
            [("axis", at.clone())],
            1,
        ));
        check(&single("Gather", vec![data(), fixed(table(&[], &[-2]))], [("axis", at.clone())], 1));
        check(&single("Gather", vec![data(), given(table(&[3], &[1, 0, -5]))], [("axis", at)], 1));
    }
    // An index beyond the axis, known only when the model runs, gives NaN and nothing else's data.
    check(&single("Gather", vec![data(), given(table(&[3], &[1, 9, -10]))], [], 1));
    check(&single("Gather", vec![given(integers(&[7, 8, 9])), given(table(&[2], &[2, -3]))], [], 1));
}
