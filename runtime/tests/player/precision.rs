//! Weights in 16-bit floats: half the memory, answers near those of 32 bits, and a clear refusal where they cannot be.

use crate::common::vit::Vit;
use crate::common::{adapter, random, shared, unchecked, validate};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{AdapterClass, Passes, Plan, PlanOptions, Precision, Target, plan_with};
use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Data, Dim, Dtype, Error, Graph, Tensor};

const MICRO: Vit = Vit { image: 32, patch: 4, width: 96, heads: 3, head: 32, hidden: 192, depth: 4 };

/// Whether the first adapter has 16-bit floats; Mesa's software driver has, SwiftShader has not.
fn halves() -> bool {
    let has = adapter() && Adapters::list()[0].target.f16;
    if !has {
        eprintln!("not run on the adapter: it lacks SHADER_F16");
    }
    has
}

fn planned(graph: &Graph, target: &Target, precision: Precision, passes: Passes) -> Plan {
    let target = Target { f16: true, ..target.clone() };
    let plan = plan_with(graph, &target, &PlanOptions { precision, passes, ..Default::default() }).unwrap();
    validate(&plan);
    assert_eq!(plan.precision(), precision);
    plan
}

fn targets() -> Vec<Target> {
    vec![Target::software(), shared(Target::software()), Target::webgpu_minimum()]
}

fn run(plan: Plan, inputs: &[(&str, Tensor)]) -> Tensor {
    let session = Session::from_plan(plan, &Options::default()).unwrap();
    session.run(inputs).unwrap().remove(0).1
}

#[test]
fn a_transformer_in_half_the_memory_gives_nearly_the_same_answer() {
    let (graph, inputs) = MICRO.build();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    for target in targets() {
        let make = |precision| planned(&graph, &target, precision, Passes::ALL);
        let (full, half) = (make(Precision::F32), make(Precision::F16));
        assert_eq!(full.dispatches.len(), half.dispatches.len());
        let ratio = half.weights.len() as f64 / full.weights.len() as f64;
        assert!((0.5..0.56).contains(&ratio), "weights take {ratio} of the memory");
        if halves() && (!target.subgroups || Adapters::list()[0].target.subgroups) {
            let (want, got) = (run(full, &inputs), run(half, &inputs));
            let difference = relative_difference(want.as_f32().unwrap(), got.as_f32().unwrap());
            // Weights are rounded to 11 bits, and errors of many average out.
            assert!(difference > 0.0 && difference < 2e-3, "{:?}: {difference:e}", target.class);
        }
    }
}

/// Weights that 16 bits hold exactly give the same bits, on shapes that fill no tile and with a normalisation before.
#[test]
fn weights_that_16_bits_hold_lose_nothing() {
    for [m, k, n] in [[1, 1, 1], [3, 5, 7], [65, 96, 100], [9, 33, 12], [17, 64, 66]] {
        for norm in [false, true] {
            let mut b = GraphBuilder::new("exact", 20);
            let x = b.input("x", Dtype::F32, [m, k].map(Dim::Fixed));
            let eighths =
                random(&[k, n], 3).as_f32().unwrap().iter().map(|v| (v * 64.0).round() / 8.0).collect();
            let w = b.constant("w", Tensor::new(vec![k, n], Data::F32(eighths)).unwrap());
            let gain = b.constant("gain", Tensor::f32([k], vec![1.0; k]).unwrap());
            let rows = if norm { b.node("LayerNormalization", "rows", &[&x, &gain], []) } else { x };
            let y = b.node("MatMul", "y", &[&rows, &w], []);
            let graph = unchecked(b, &[&y]);
            let inputs = [("x", random(&[m, k], 4))];
            for target in targets()
                .iter()
                .filter(|t| !t.subgroups || Adapters::list().iter().any(|a| a.target.subgroups))
            {
                for passes in [Passes::ALL, Passes::NONE] {
                    let make = |precision| planned(&graph, target, precision, passes);
                    let (full, half) = (make(Precision::F32), make(Precision::F16));
                    if halves() {
                        assert_eq!(
                            run(half, &inputs),
                            run(full, &inputs),
                            "{m} x {k} x {n} {:?}",
                            target.class
                        );
                    }
                }
            }
        }
    }
}

fn product(weights: Tensor) -> Graph {
    let mut b = GraphBuilder::new("product", 20);
    let x = b.input("x", Dtype::F32, [4, 32].map(Dim::Fixed));
    let dtype = weights.dtype();
    let w = b.constant("w", weights);
    let w = if dtype == Dtype::F32 {
        w
    } else {
        b.node("Cast", "wide", &[&w], [("to", masktas_runtime::Attribute::Int(1))])
    };
    let y = b.node("MatMul", "y", &[&x, &w], []);
    unchecked(b, &[&y])
}

/// What a file gives in 16 bits comes to the adapter bit for bit.
#[test]
fn weights_of_a_16_bit_file_stay_as_they_are() {
    let bytes: Vec<u8> = (0..32 * 8u16).flat_map(|at| (0x3000 + 7 * at).to_le_bytes()).collect();
    let weights = Tensor::new(vec![32, 8], Data::Other(Dtype::F16, bytes.clone().into())).unwrap();
    let plan = planned(&product(weights), &Target::software(), Precision::F16, Passes::ALL);
    assert_eq!(plan.weights, bytes);
}

/// A weight beyond 16 bits would be infinite: its matrix keeps 32.
#[test]
fn weights_beyond_16_bits_keep_32() {
    let mut values = random(&[32, 8], 1).as_f32().unwrap().to_vec();
    values[5] = 70_000.0;
    let graph = product(Tensor::f32([32, 8], values).unwrap());
    let options = PlanOptions { precision: Precision::F16, ..Default::default() };
    let plan = plan_with(&graph, &Target { f16: true, ..Target::software() }, &options).unwrap();
    assert_eq!((plan.precision(), plan.weights.len()), (Precision::F32, 32 * 8 * 4));
}

/// Small weights have fewer bits in 16, or are zero there: their matrix keeps 32, and the session says so.
#[test]
fn weights_too_small_for_16_bits_keep_32() {
    let scaled = |scale: f32| {
        let values = random(&[32, 8], 1).as_f32().unwrap().iter().map(|v| v * scale).collect::<Vec<_>>();
        product(Tensor::f32([32, 8], values).unwrap())
    };
    let options = PlanOptions { precision: Precision::F16, ..Default::default() };
    let target = Target { f16: true, ..Target::software() };
    for (scale, want) in [(1e-8, Precision::F32), (1e-5, Precision::F32), (1e-2, Precision::F16)] {
        let plan = plan_with(&scaled(scale), &target, &options).unwrap();
        assert_eq!(plan.precision(), want, "{scale}");
    }
    // What 16 bits hold exactly may be as small as they go.
    let least = Tensor::f32([32, 8], vec![2f32.powi(-24); 256]).unwrap();
    assert_eq!(plan_with(&product(least), &target, &options).unwrap().precision(), Precision::F16);
    if !halves() {
        return;
    }
    let options = Options { precision: Precision::F16, ..Options::default() };
    let session = Session::load(&scaled(1e-8), &options).unwrap();
    let inputs = [("x", random(&[4, 32], 2))];
    let full = Session::load(&scaled(1e-8), &Options::default()).unwrap();
    assert_eq!(session.run(&inputs).unwrap(), full.run(&inputs).unwrap());
    assert_eq!((session.info().wide_products, full.info().wide_products), (1, 0));
    assert!(session.info().to_string().contains("f32; 1 product keeps"), "{}", session.info());
    assert!(!full.info().to_string().contains("keeps"));
    let half = Session::load(&scaled(1e-2), &options).unwrap();
    assert_eq!((half.info().precision, half.info().wide_products), (Precision::F16, 0));
}

#[test]
fn a_plan_with_halves_comes_back_from_its_files() {
    let graph = product(random(&[32, 8], 2));
    let plan = planned(
        &graph,
        &Target { class: AdapterClass::Gpu, ..Target::webgpu_minimum() },
        Precision::F16,
        Passes::ALL,
    );
    let files = plan.write().unwrap();
    let back = Plan::read(&files.json, files.weights).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.precision(), Precision::F16);
}

#[test]
fn a_target_without_16_bit_floats_is_refused() {
    let options = PlanOptions { precision: Precision::F16, ..Default::default() };
    let error = plan_with(&product(random(&[32, 8], 2)), &Target::software(), &options).unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. }) && error.to_string().contains("SHADER_F16"),
        "{error}"
    );
}
