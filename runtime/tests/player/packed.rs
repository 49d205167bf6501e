//! Products of 8-bit integers, four to a word: exact in every variant of the kernel, whatever the types, zero points and
//! shapes.

use crate::common::{adapter, random, shared, unchecked, validate};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{AdapterClass, Passes, Plan, PlanOptions, Target, plan_with};
use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::{Data, Dim, Dtype, Graph, Tensor};

/// Bytes by a linear congruential generator, with both ends of the range among them.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let tensor = random(&[count], seed);
    let scaled = tensor.as_f32().unwrap().iter().map(|v| (v * 128.0 + 128.0).clamp(0.0, 255.0) as u8);
    scaled.enumerate().map(|(at, value)| [0, 255, 128, value][if at < 3 { at } else { 3 }]).collect()
}

fn tensor(shape: &[usize], dtype: Dtype, seed: u64) -> Tensor {
    let values = bytes(shape.iter().product(), seed);
    let data = match dtype {
        Dtype::U8 => Data::U8(values.into()),
        _ => Data::I8(values.iter().map(|v| *v as i8).collect()),
    };
    Tensor::new(shape.to_vec(), data).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<i64> {
    match tensor.data() {
        Data::U8(v) => v.iter().map(|v| i64::from(*v)).collect(),
        Data::I8(v) => v.iter().map(|v| i64::from(*v)).collect(),
        other => panic!("{other:?}"),
    }
}

/// Every set of kernel variants that can run here, with the packed products and without.
fn plans(graph: &Graph) -> Vec<(String, Plan)> {
    let packed = Passes { pack: true, ..Passes::NONE };
    let naive = Passes { pack: false, ..Passes::ALL };
    let mut plans = Vec::new();
    for class in [AdapterClass::Software, AdapterClass::Gpu] {
        let target = Target { class, ..Target::webgpu_minimum() };
        let mut targets = vec![target.clone()];
        let first = Adapters::list().into_iter().next();
        if class == AdapterClass::Software && first.is_some_and(|a| a.target.subgroups) {
            targets.push(shared(target));
        }
        for (target, passes) in targets.iter().flat_map(|t| [Passes::ALL, packed, naive].map(|p| (t, p))) {
            let plan = plan_with(graph, target, &PlanOptions { passes, ..Default::default() }).unwrap();
            validate(&plan);
            let packs = plan.dispatches.iter().any(|dispatch| dispatch.family == "packed-matmul");
            assert_eq!(packs, passes.pack);
            plans.push((format!("{class:?} subgroups {} {passes:?}", target.subgroups), plan));
        }
    }
    plans
}

fn run(plan: Plan, inputs: &[(&str, Tensor)]) -> Tensor {
    let session = Session::from_plan(plan, &Options::default()).unwrap();
    session.run(inputs).unwrap().remove(0).1
}

/// The zero points of one product: of each operand none, one number, or one for each row or column.
type Zeros = [Option<bool>; 2];

/// `MatMulInteger` against sums of 64-bit integers.
fn check([m, k, n]: [usize; 3], types: [Dtype; 2], zeros: Zeros, constant: bool) {
    let (a, b) = (tensor(&[m, k], types[0], 3), tensor(&[k, n], types[1], 4));
    let zero = |at: usize, extent: usize| {
        zeros[at].map(|each| tensor(&[if each { extent } else { 1 }], types[at], 5 + at as u64))
    };
    let (y, z) = (zero(0, m), zero(1, n));
    let mut builder = GraphBuilder::new("product", 20);
    let x = builder.input("a", types[0], [m, k].map(Dim::Fixed));
    let w = match constant {
        true => builder.constant("b", b.clone()),
        false => builder.input("b", types[1], [k, n].map(Dim::Fixed)),
    };
    let mut point = |name: &str, zero: &Option<Tensor>| {
        zero.as_ref().map_or(String::new(), |zero| builder.constant(name, zero.clone()))
    };
    let (first, second) = (point("y", &y), point("z", &z));
    let out = builder.node("MatMulInteger", "out", &[&x, &w, &first, &second], []);
    let graph = unchecked(builder, &[&out]);

    let points = |zero: &Option<Tensor>, extent: usize| {
        let given = zero.as_ref().map_or(vec![0], numbers);
        (0..extent).map(|at| given[at % given.len()]).collect::<Vec<_>>()
    };
    let (a_values, b_values) = (numbers(&a), numbers(&b));
    let (y, z) = (points(&y, m), points(&z, n));
    let place = |at: usize| {
        let (row, column) = (at / n, at % n);
        let term = |i: usize| (a_values[row * k + i] - y[row]) * (b_values[i * n + column] - z[column]);
        (0..k).map(term).sum::<i64>() as i32
    };
    let want = Data::I32((0..m * n).map(place).collect());
    let mut inputs = vec![("a", a)];
    if !constant {
        inputs.push(("b", b));
    }
    for (how, plan) in plans(&graph) {
        if adapter() {
            let got = run(plan, &inputs);
            assert_eq!(*got.data(), want, "{m} x {k} x {n} {types:?} {zeros:?} constant {constant}, {how}");
        }
    }
}

#[test]
fn products_of_bytes_are_exact_on_every_shape() {
    let shapes = [[1, 1, 1], [2, 3, 5], [3, 5, 4], [5, 7, 8], [1, 64, 12], [65, 96, 65], [9, 80, 33]];
    for shape in shapes {
        check(shape, [Dtype::U8, Dtype::I8], [Some(false), None], true);
    }
    check([197, 192, 192], [Dtype::U8, Dtype::I8], [Some(false), Some(true)], true);
}

#[test]
fn products_of_bytes_are_exact_with_every_type_and_zero_point() {
    for a in [Dtype::U8, Dtype::I8] {
        for b in [Dtype::U8, Dtype::I8] {
            for zeros in [[None, None], [Some(true), Some(true)], [None, Some(false)]] {
                check([5, 18, 12], [a, b], zeros, true);
                check([5, 18, 12], [a, b], zeros, false);
            }
        }
    }
}

/// Heads side by side, a matrix for all of a stack, vectors: the answer is that of the kernel without words.
#[test]
fn stacks_and_vectors_of_bytes_are_exact() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3, 5, 16], &[2, 3, 16, 8]),
        (&[2, 1, 5, 7], &[3, 7, 4]),
        (&[4, 5, 8], &[8, 12]),
        (&[9], &[9, 4]),
        (&[3, 9], &[9]),
        (&[6], &[6]),
        (&[3, 9], &[1, 9, 4]),
        (&[9], &[1, 1, 9, 4]),
    ];
    for (left, right) in shapes {
        for constant in [false, true] {
            let (a, b) = (tensor(left, Dtype::U8, 3), tensor(right, Dtype::I8, 4));
            let mut builder = GraphBuilder::new("stack", 20);
            let x = builder.input("a", Dtype::U8, left.iter().map(|e| Dim::Fixed(*e)).collect::<Vec<_>>());
            let w = match constant {
                true => builder.constant("b", b.clone()),
                false => {
                    builder.input("b", Dtype::I8, right.iter().map(|e| Dim::Fixed(*e)).collect::<Vec<_>>())
                }
            };
            let real = |builder: &mut GraphBuilder, name: &str, value: f32| {
                builder.constant(name, Tensor::f32([], vec![value]).unwrap())
            };
            let (sa, sb, sy) = (
                real(&mut builder, "sa", 0.02),
                real(&mut builder, "sb", 0.03),
                real(&mut builder, "sy", 0.7),
            );
            let point = |builder: &mut GraphBuilder, name: &str, data: Data| {
                builder.constant(name, Tensor::new(Vec::new(), data).unwrap())
            };
            let y = point(&mut builder, "y", Data::U8(vec![117].into()));
            let z = point(&mut builder, "z", Data::I8(vec![-9].into()));
            let o = point(&mut builder, "o", Data::U8(vec![100].into()));
            let inputs = [x.as_str(), &sa, &y, &w, &sb, &z, &sy, &o];
            let out = builder.node("QLinearMatMul", "out", &inputs, []);
            let graph = unchecked(builder, &[&out]);
            let mut inputs = vec![("a", a)];
            if !constant {
                inputs.push(("b", b));
            }
            if !adapter() {
                continue;
            }
            let answers: Vec<_> =
                plans(&graph).into_iter().map(|(how, plan)| (how, run(plan, &inputs))).collect();
            let spread = numbers(&answers[0].1);
            assert!(
                spread.len() < 8 || spread.iter().any(|v| *v != spread[0]),
                "{left:?}: nothing to compare"
            );
            for (how, answer) in &answers {
                assert_eq!(answer, &answers[0].1, "{left:?} x {right:?}, {how}");
            }
        }
    }
}

/// What ONNX Runtime's quantiser writes: activations quantised on the way, once for all products that read them; weights
/// take a quarter of the memory.
#[test]
fn dynamic_quantisation_packs_weights_and_shares_activations() {
    let mut builder = GraphBuilder::new("dynamic", 20);
    let x = builder.input("x", Dtype::F32, [2, 7, 64].map(Dim::Fixed));
    builder.node_many("DynamicQuantizeLinear", "quantise", &[&x], &["q", "scale", "zero"], []);
    let mut outs = Vec::new();
    for (at, name) in ["first", "second"].iter().enumerate() {
        let weights = builder.constant(&format!("w{at}"), tensor(&[64, 32], Dtype::I8, at as u64));
        let none =
            builder.constant(&format!("z{at}"), Tensor::new(vec![], Data::I8(vec![0].into())).unwrap());
        let sums = builder.node("MatMulInteger", &format!("sums{at}"), &["q", &weights, "zero", &none], []);
        let real = builder.node(
            "Cast",
            &format!("real{at}"),
            &[&sums],
            [("to", masktas_runtime::Attribute::Int(1))],
        );
        let scaled = builder.node("Mul", &format!("scaled{at}"), &[&real, "scale"], []);
        let bias = builder.constant(&format!("b{at}"), random(&[32], 9 + at as u64));
        outs.push(builder.node("Add", name, &[&scaled, &bias], []));
    }
    let graph = unchecked(builder, &outs.iter().map(String::as_str).collect::<Vec<_>>());
    let inputs = [("x", random(&[2, 7, 64], 1))];
    let count = |plan: &Plan, family: &str| plan.dispatches.iter().filter(|d| d.family == family).count();
    let mut answers = Vec::new();
    for (how, plan) in plans(&graph) {
        if how.contains("pack: true, fold: true") {
            // Least, greatest with scale, zero point, quantised and packed once for both products.
            assert_eq!((plan.dispatches.len(), count(&plan, "packed-matmul")), (6, 2), "{how}");
            // Weights in words, and for each column the sum and the bias.
            assert!(plan.weights.len() <= 2 * (64 * 32 + 2 * 4 * 32) + 2048, "{}", plan.weights.len());
        }
        if adapter() {
            answers.push((how, run(plan, &inputs)));
        }
    }
    for (how, answer) in &answers {
        // One rounding of float arithmetic, not of the sums, may differ between kernels.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-5 * b.abs().max(1.0);
        let (got, want) = (answer.as_f32().unwrap(), answers[0].1.as_f32().unwrap());
        assert!(got.iter().zip(want).all(near), "{how}");
    }
}

/// Windows that share no pixel are products, along their rows or, where these are short, along the channels.
#[test]
fn patches_of_bytes_are_exact() {
    for (channels, window, out) in [(3, 4, 8), (3, 5, 6), (6, 2, 5), (9, 1, 4)] {
        for linear in [false, true] {
            let shape = [2, channels, 3 * window, 2 * window];
            let filter = tensor(&[out, channels, window, window], Dtype::I8, 2);
            let mut builder = GraphBuilder::new("patches", 20);
            let x = builder.input("x", Dtype::U8, shape.map(Dim::Fixed));
            let w = builder.constant("w", filter);
            let mut constant = |name: &str, shape: &[usize], data: Data| {
                builder.constant(name, Tensor::new(shape.to_vec(), data).unwrap())
            };
            let y = constant("y", &[], Data::U8(vec![131].into()));
            let strides = masktas_runtime::Attribute::Ints(vec![window as i64; 2]);
            let made = if linear {
                let each = (0..out).map(|at| at as i8 - 2).collect();
                let z = constant("z", &[out], Data::I8(each));
                let scales = (0..out).map(|at| 0.01 + 0.001 * at as f32).collect();
                let (sx, sw) = (
                    constant("sx", &[], Data::F32(vec![0.02].into())),
                    constant("sw", &[out], Data::F32(scales)),
                );
                let sy = constant("sy", &[], Data::F32(vec![0.3].into()));
                let o = constant("o", &[], Data::U8(vec![90].into()));
                let bias = constant("bias", &[out], Data::I32((0..out as i32).map(|at| at * 1000).collect()));
                let inputs = [x.as_str(), &sx, &y, &w, &sw, &z, &sy, &o, &bias];
                builder.node("QLinearConv", "out", &inputs, [("strides", strides)])
            } else {
                let z = constant("z", &[], Data::I8(vec![3].into()));
                builder.node("ConvInteger", "out", &[&x, &w, &y, &z], [("strides", strides)])
            };
            let graph = unchecked(builder, &[&made]);
            if !adapter() {
                continue;
            }
            let inputs = [("x", tensor(&shape, Dtype::U8, 1))];
            let answers: Vec<_> =
                plans(&graph).into_iter().map(|(how, plan)| (how, run(plan, &inputs))).collect();
            for (how, answer) in &answers {
                assert_eq!(answer, &answers[0].1, "window {window}, linear {linear}, {how}");
            }
        }
    }
}

/// Zero points with as many axes as their operand, where that has more axes of one than the result is walked by.
#[test]
fn zero_points_of_many_axes_are_exact() {
    let cases: [[&[usize]; 4]; 3] = [
        [&[3, 9], &[1, 9, 4], &[3, 1], &[1, 1, 4]],
        [&[2, 3, 9], &[2, 9, 4], &[2, 3, 1], &[2, 1, 4]],
        [&[2, 3, 9], &[9, 4], &[2, 3, 1], &[1, 4]],
    ];
    for [left, right, first, second] in cases {
        for constant in [false, true] {
            let (a, b) = (tensor(left, Dtype::U8, 3), tensor(right, Dtype::I8, 4));
            let (y, z) = (tensor(first, Dtype::U8, 5), tensor(second, Dtype::I8, 6));
            let mut builder = GraphBuilder::new("axes", 20);
            let dims = |shape: &[usize]| shape.iter().map(|e| Dim::Fixed(*e)).collect::<Vec<_>>();
            let x = builder.input("a", Dtype::U8, dims(left));
            let w = match constant {
                true => builder.constant("b", b.clone()),
                false => builder.input("b", Dtype::I8, dims(right)),
            };
            let (y, z) = (builder.constant("y", y), builder.constant("z", z));
            let out = builder.node("MatMulInteger", "out", &[&x, &w, &y, &z], []);
            let graph = unchecked(builder, &[&out]);
            let mut inputs = vec![("a", a)];
            if !constant {
                inputs.push(("b", b));
            }
            let plans = plans(&graph);
            if !adapter() {
                continue;
            }
            // The kernel without words subtracts each zero point before it multiplies.
            let answers: Vec<_> = plans.into_iter().map(|(how, plan)| (how, run(plan, &inputs))).collect();
            let naive = answers.iter().find(|(how, _)| how.contains("pack: false")).unwrap().1.clone();
            for (how, answer) in answers {
                assert_eq!(answer, naive, "{left:?} x {right:?}, {how}");
            }
        }
    }
}

/// ONNX gives a zero point its operand's type; another would be shifted wrongly.
#[test]
fn zero_points_of_another_type_are_refused() {
    let point = |dtype: Dtype| match dtype {
        Dtype::F32 => Tensor::f32([], vec![1.0]).unwrap(),
        _ => tensor(&[], dtype, 1),
    };
    for op in ["MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"] {
        for (wrong, own, other) in
            [(0, Dtype::U8, Dtype::I8), (1, Dtype::I8, Dtype::U8), (0, Dtype::U8, Dtype::F32)]
        {
            let mut b = GraphBuilder::new("mixed", 20);
            let conv = op.ends_with("Conv") || op.starts_with("Conv");
            let shape = if conv { vec![1, 4, 4, 4] } else { vec![4, 4] };
            let x = b.input("x", Dtype::U8, shape.iter().map(|e| Dim::Fixed(*e)).collect::<Vec<_>>());
            let w = b.constant("w", tensor(&if conv { vec![4, 4, 2, 2] } else { shape }, Dtype::I8, 2));
            let types = [0, 1].map(|at| if at == wrong { other } else { [Dtype::U8, Dtype::I8][at] });
            let points = [b.constant("y", point(types[0])), b.constant("z", point(types[1]))];
            let scale = b.constant("s", Tensor::f32([], vec![0.5]).unwrap());
            let o = b.constant("o", tensor(&[], Dtype::U8, 3));
            let [y, z] = &points;
            let inputs = match op.starts_with("QLinear") {
                true => vec![x.as_str(), &scale, y, &w, &scale, z, &scale, &o],
                false => vec![x.as_str(), &w, y, z],
            };
            b.node(op, "out", &inputs, []);
            b.output("out", Dtype::F32, []);
            let error = b.finish().unwrap().shapes(&Default::default()).unwrap_err().to_string();
            let named = [
                format!("'out' ({op})"),
                format!("'{}'", points[wrong]),
                format!("{own:?}"),
                format!("{other:?}"),
            ];
            assert!(named.iter().all(|name| error.contains(name)), "{error}");
        }
    }
}

/// The shift of a sum of 2^24 bytes is 2^31, beyond a literal of 32 bits: it is written modulo 2^32, as the sums are.
#[test]
fn deep_products_have_valid_kernels() {
    for depth in [1 << 24, 1 << 25] {
        let mut builder = GraphBuilder::new("deep", 20);
        let a = builder.input("a", Dtype::U8, [1, depth].map(Dim::Fixed));
        let b = builder.input("b", Dtype::U8, [depth, 1].map(Dim::Fixed));
        let out = builder.node("MatMulInteger", "out", &[&a, &b], []);
        let graph = unchecked(builder, &[&out]);
        for target in [Target::webgpu_minimum(), Target::software()] {
            let plan = plan_with(&graph, &target, &PlanOptions::default()).unwrap();
            validate(&plan);
            assert!(plan.dispatches.iter().any(|dispatch| dispatch.family == "packed-matmul"));
            assert!(plan.kernels.iter().all(|text| !text.contains("(2147483648)")));
            let least = plan.kernels.iter().any(|text| text.contains("i32(-2147483648)"));
            assert_eq!(least, depth == 1 << 24);
        }
    }
}
