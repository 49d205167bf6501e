//! Whole transformers, and every rewrite alone: with and without it the answer is the same, and each
//! does what it is for.

use crate::common::vit::Vit;
use crate::common::{adapter, compare, random, reference, unchecked, validate};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{AdapterClass, BufferRole, Passes, Plan, PlanOptions, Target, plan, plan_with};
use masktas_runtime::session::{Options, Session};
use masktas_runtime::{Attribute, Dim, Dtype, Error, Graph, Tensor};

const SMALL: Vit = Vit { image: 12, patch: 4, width: 24, heads: 2, head: 8, hidden: 36, depth: 2 };
const TINY: Vit = Vit { image: 32, patch: 4, width: 192, heads: 3, head: 64, hidden: 768, depth: 12 };

/// Every pass, with the plan options that have only it on, and those that have only it off.
fn each() -> Vec<(&'static str, Passes, Passes)> {
    type Set = fn(&mut Passes) -> &mut bool;
    let all: [(&str, Set); 12] = [
        ("views", |p| &mut p.views),
        ("pack", |p| &mut p.pack),
        ("fold", |p| &mut p.fold),
        ("dead", |p| &mut p.dead),
        ("recompose", |p| &mut p.recompose),
        ("fuse", |p| &mut p.fuse),
        ("scale", |p| &mut p.scale),
        ("merge", |p| &mut p.merge),
        ("gain", |p| &mut p.gain),
        ("normalise", |p| &mut p.normalise),
        ("attention", |p| &mut p.attention),
        ("reuse", |p| &mut p.reuse),
    ];
    let with = |set: Set, start: Passes, on: bool| {
        let mut passes = start;
        *set(&mut passes) = on;
        passes
    };
    all.into_iter()
        .map(|(n, set)| (n, with(set, Passes::NONE, true), with(set, Passes::ALL, false)))
        .collect()
}

fn planned(graph: &Graph, passes: Passes) -> Plan {
    let plan = plan_with(graph, &Target::software(), &PlanOptions { passes, ..Default::default() }).unwrap();
    validate(&plan);
    check_bindings(&plan);
    plan
}

/// No buffer is written and read by one dispatch, and all bindings lie within their buffers.
fn check_bindings(plan: &Plan) {
    for dispatch in &plan.dispatches {
        let (out, reads) = dispatch.bindings.split_last().unwrap();
        assert!(reads.iter().all(|r| r.buffer != out.buffer), "{:?}", dispatch.nodes);
        let role = plan.buffers[out.buffer].role;
        assert!(matches!(role, BufferRole::Scratch | BufferRole::Output));
        for binding in &dispatch.bindings {
            assert_eq!((binding.offset % 256, binding.bytes % 16), (0, 0));
            assert!(binding.offset + binding.bytes <= plan.buffers[binding.buffer].bytes);
        }
    }
}

fn run(plan: Plan, inputs: &[(String, Tensor)]) -> Vec<Tensor> {
    let session = Session::from_plan(plan, &Options::default()).unwrap();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    session.run(&inputs).unwrap().into_iter().map(|(_, t)| t).collect()
}

#[test]
fn every_pass_keeps_the_answer() {
    let (graph, inputs) = SMALL.build();
    let want = reference::run(&graph, &inputs);
    let have = adapter();
    for (name, only, without) in each() {
        for passes in [only, without] {
            let plan = planned(&graph, passes);
            if have {
                compare(&format!("{name} {passes:?}"), &run(plan, &inputs)[0], &want[0], 5e-6);
            }
        }
    }
}

#[test]
fn every_pass_does_its_work() {
    let (graph, _) = SMALL.build();
    let count = |passes| planned(&graph, passes).dispatches.len();
    let (all, none) = (count(Passes::ALL), count(Passes::NONE));
    // Patch product, class token, 2 x 5, norm, mean.
    assert_eq!(all, 14);
    assert!(none > 50, "{none} dispatches without any pass");
    for (name, only, without) in each() {
        match name {
            // These work alone.
            "views" | "fuse" => assert!(count(only) < none, "{name} saves nothing alone"),
            // These save dispatches after the others.
            "merge" | "attention" | "gain" | "normalise" => {
                assert!(count(without) > all, "{name} saves nothing")
            }
            // A scale behind q keeps it out of the joint product.
            "scale" => assert!(count(without) > all, "{name} saves nothing"),
            "reuse" => {
                assert!(planned(&graph, without).bytes() > planned(&graph, Passes::ALL).bytes());
            }
            _ => {}
        }
    }
}

/// Constants are computed on the host, and what nobody reads is not computed at all.
#[test]
fn folding_and_dead_code() {
    let mut b = GraphBuilder::new("fold", 20);
    let x = b.input("x", Dtype::F32, [3, 4].map(Dim::Fixed));
    let c = b.constant("c", random(&[4, 3], 1));
    let root = b.node("Erf", "root", &[&c], []);
    let turned = b.node("Transpose", "turned", &[&root], []);
    b.node("Exp", "unused", &[&x], []);
    let y = b.node("Add", "y", &[&x, &turned], []);
    let graph = unchecked(b, &[&y]);
    let inputs = vec![("x".to_owned(), random(&[3, 4], 2))];
    let want = reference::run(&graph, &inputs);
    let families = |passes| planned(&graph, passes).dispatches.len();
    let only_fold = Passes { fold: true, views: true, ..Passes::NONE };
    let only_dead = Passes { dead: true, ..Passes::NONE };
    assert_eq!(families(Passes::ALL), 1);
    assert!(families(only_fold) < families(Passes { views: true, ..Passes::NONE }));
    assert!(families(only_dead) < families(Passes::NONE));
    if adapter() {
        for passes in [Passes::ALL, only_fold, only_dead, Passes::NONE] {
            compare("folded", &run(planned(&graph, passes), &inputs)[0], &want[0], 2e-6);
        }
    }
}

/// Decomposed GELU and normalisation, as older exporters write them, come down to few kernels.
#[test]
fn decomposed_operators_fuse() {
    let mut b = GraphBuilder::new("old", 17);
    let x = b.input("x", Dtype::F32, [2, 9, 16].map(Dim::Fixed));
    let axes = b.integers("axes", &[-1]);
    let scalar =
        |b: &mut GraphBuilder, name: &str, v: f32| b.constant(name, Tensor::f32([], vec![v]).unwrap());
    let (two, tiny) = (scalar(&mut b, "two", 2.0), scalar(&mut b, "tiny", 1e-6));
    let (root, one, half) =
        (scalar(&mut b, "root", 2f32.sqrt()), scalar(&mut b, "one", 1.0), scalar(&mut b, "half", 0.5));
    let mean = b.node("ReduceMean", "mean", &[&x], [("axes", Attribute::Ints(vec![-1]))]);
    let centred = b.node("Sub", "centred", &[&x, &mean], []);
    let square = b.node("Pow", "square", &[&centred, &two], []);
    let variance = b.node("ReduceMean", "variance", &[&square], [("axes", Attribute::Ints(vec![-1]))]);
    let stable = b.node("Add", "stable", &[&variance, &tiny], []);
    let deviation = b.node("Sqrt", "deviation", &[&stable], []);
    let normal = b.node("Div", "normal", &[&centred, &deviation], []);
    let w = b.constant("w", random(&[16, 24], 3));
    let c = b.constant("bias", random(&[24], 4));
    let p = b.node("MatMul", "p", &[&normal, &w], []);
    let h = b.node("Add", "h", &[&p, &c], []);
    let scaled = b.node("Div", "scaled", &[&h, &root], []);
    let e = b.node("Erf", "e", &[&scaled], []);
    let e = b.node("Add", "e1", &[&e, &one], []);
    let g = b.node("Mul", "g", &[&h, &e], []);
    let y = b.node("Mul", "y", &[&g, &half], []);
    drop(axes);
    let graph = unchecked(b, &[&y]);
    let inputs = vec![("x".to_owned(), random(&[2, 9, 16], 2))];
    // Axes are an attribute before operator set 18, which the reference does not read.
    let plan = planned(&graph, Passes::ALL);
    assert_eq!(
        plan.dispatches.len(),
        1,
        "{:?}",
        plan.dispatches.iter().map(|d| &d.nodes).collect::<Vec<_>>()
    );
    if adapter() {
        compare("old style", &run(plan, &inputs)[0], &run(planned(&graph, Passes::NONE), &inputs)[0], 3e-6);
    }
}

/// ViT-tiny: few dispatches and pipelines, planned also for the least that WebGPU promises.
#[test]
fn a_tiny_transformer_is_few_dispatches() {
    let (graph, inputs) = TINY.build();
    let software = plan(&graph, &Target::software()).unwrap();
    let least = plan(&graph, &Target::webgpu_minimum()).unwrap();
    for plan in [&software, &least] {
        validate(plan);
        check_bindings(plan);
        assert_eq!(plan.dispatches.len(), 64);
        assert!(plan.kernels.len() <= 12, "{} pipelines", plan.kernels.len());
    }
    if !adapter() {
        return;
    }
    let unfused = Options { passes: Passes::NONE, ..Options::default() };
    let named: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let want = Session::load(&graph, &unfused).unwrap().run(&named).unwrap();
    for plan in [software, least] {
        compare("tiny", &run(plan, &inputs)[0], &want[0].1, 3e-6);
    }
    let same = Options { class: Some(AdapterClass::Software), ..Options::default() };
    assert!(Session::load(&graph, &same).unwrap().info().pipelines <= 12);
}

/// The serialised plan and its weights are the whole model.
#[test]
fn a_plan_survives_serialisation() {
    let (graph, inputs) = SMALL.build();
    let plan = planned(&graph, Passes::ALL);
    let text = serde_json::to_string(&plan).unwrap();
    let mut back: Plan = serde_json::from_str(&text).unwrap();
    assert!(back.weights.is_empty());
    back.weights = plan.weights.clone();
    assert_eq!(back, plan);
    if adapter() {
        assert_eq!(run(back, &inputs), run(plan, &inputs));
    }
}

#[test]
fn limits_are_clear_errors() {
    let mut b = GraphBuilder::new("large", 20);
    let x = b.input("x", Dtype::F32, [1 << 10, 1 << 10].map(Dim::Fixed));
    let y = b.node("Exp", "y", &[&x], []);
    let graph = unchecked(b, &[&y]);
    let target = Target { max_storage_buffer_binding_size: 1 << 20, ..Target::webgpu_minimum() };
    let error = plan(&graph, &target).unwrap_err();
    assert!(matches!(&error, Error::Limit { got: 4_194_304, limit: 1_048_576, .. }), "{error}");
    // Too many workgroups for one dimension spread over three; too many for three are refused.
    let target = Target { max_compute_workgroups_per_dimension: 20, ..Target::webgpu_minimum() };
    let plan = plan_with(&graph, &target, &PlanOptions::default()).unwrap();
    validate(&plan);
    assert!(plan.dispatches[0].workgroups.iter().all(|n| (2..=20).contains(n)));
    if adapter() {
        let x = random(&[1 << 10, 1 << 10], 5);
        let want: Vec<f32> = x.as_f32().unwrap().iter().map(|v| v.exp()).collect();
        let got = run(plan, &[("x".to_owned(), x)]);
        compare("spread", &got[0], &Tensor::f32([1 << 10, 1 << 10], want).unwrap(), 1e-6);
    }
    let target = Target { max_compute_workgroups_per_dimension: 2, ..Target::webgpu_minimum() };
    let error = plan_with(&graph, &target, &PlanOptions::default()).unwrap_err().to_string();
    assert!(error.contains("'y'") && error.contains("2 workgroups"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let build = |op: &str, attributes: [(&str, Attribute); 1]| {
        let mut b = GraphBuilder::new("missing", 20);
        let x = b.input("x", Dtype::F32, [1, 4, 8, 8].map(Dim::Fixed));
        b.node(op, "odd one", &[&x], attributes);
        b.output("odd one", Dtype::F32, [1, 4, 8, 8].map(Dim::Fixed));
        plan(&b.finish().unwrap(), &Target::software()).unwrap_err()
    };
    let error = build("Einsum", [("none", Attribute::Int(0))]);
    assert!(
        matches!(&error, Error::UnsupportedOp { node, op } if node == "odd one" && op == "Einsum"),
        "{error}"
    );
    let error = build("Relu", [("strange", Attribute::Int(0))]).to_string();
    assert!(
        error.contains("'odd one' (Relu)") && error.contains("'strange'") && error.contains("not supported")
    );
    let error = build("Gelu", [("approximate", Attribute::Text("quick".into()))]).to_string();
    assert!(error.contains("invalid") && error.contains("quick"), "{error}");
}
