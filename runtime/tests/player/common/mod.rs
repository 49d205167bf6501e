//! What the tests of planner and player share: random tensors, small graphs, a plain CPU reference,
//! and one check that runs a graph in every variant.

pub mod reference;
pub mod vit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{AdapterClass, Passes, Plan, PlanOptions, Target, plan_with};
use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Attribute, Data, Dim, Graph, Tensor, ValueInfo};

/// Uniform numbers in -1..1 by a linear congruential generator.
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let count = shape.iter().product();
    Tensor::f32(shape, (0..count).map(|_| next()).collect::<Vec<_>>()).unwrap()
}

/// Numbers in 0.1..1.1.
pub fn positive(shape: &[usize], seed: u64) -> Tensor {
    let tensor = random(shape, seed);
    let values = tensor.as_f32().unwrap().iter().map(|v| 0.6 + 0.5 * v);
    Tensor::f32(shape, values.collect::<Vec<_>>()).unwrap()
}

pub fn integers(values: &[i64]) -> Tensor {
    Tensor::i64([values.len()], values.to_vec()).unwrap()
}

/// One operand of a single-node graph.
pub enum In {
    /// Given at run time.
    Given(Tensor),
    /// Fixed in the model.
    Fixed(Tensor),
    /// Left out.
    None,
}

pub fn given(tensor: Tensor) -> In {
    In::Given(tensor)
}

pub fn fixed(tensor: Tensor) -> In {
    In::Fixed(tensor)
}

/// A graph with its inputs.
pub struct Case {
    pub name: String,
    pub graph: Graph,
    pub inputs: Vec<(String, Tensor)>,
}

/// Gives `graph` the outputs `names`, with the shapes that inference finds.
pub fn outputs(graph: &mut Graph, names: &[&str]) {
    let shapes = graph.shapes(&BTreeMap::new()).unwrap();
    for name in names {
        let (dtype, shape) = shapes[*name].clone();
        let shape = shape.into_iter().map(Dim::Fixed).collect();
        graph.outputs.push(ValueInfo { name: (*name).to_owned(), dtype, shape });
    }
}

/// A graph of one node with `count` outputs.
pub fn single<const N: usize>(
    op: &str,
    ins: Vec<In>,
    attributes: [(&str, Attribute); N],
    count: usize,
) -> Case {
    let mut builder = GraphBuilder::new(op, 20);
    let mut names = Vec::new();
    let mut inputs = Vec::new();
    for (i, operand) in ins.into_iter().enumerate() {
        let name = format!("x{i}");
        match operand {
            In::Given(tensor) => {
                let shape: Vec<Dim> = tensor.shape().iter().map(|e| Dim::Fixed(*e)).collect();
                builder.input(&name, tensor.dtype(), shape);
                inputs.push((name.clone(), tensor));
            }
            In::Fixed(tensor) => {
                builder.constant(&name, tensor);
            }
            In::None => {
                names.push(String::new());
                continue;
            }
        }
        names.push(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let results: Vec<String> = (0..count).map(|i| format!("y{i}")).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    builder.node_many(op, "node", &names, &results, attributes);
    let mut graph = unchecked(builder, &results);
    let shapes: Vec<_> = inputs.iter().map(|(_, t)| t.shape()).collect();
    let name = format!("{op} {shapes:?}");
    graph.name = name.clone();
    Case { name, graph, inputs }
}

/// The builder's graph with inferred outputs. The builder wants outputs before it gives the graph.
pub fn unchecked(mut builder: GraphBuilder, names: &[&str]) -> Graph {
    for name in names {
        builder.output(name, masktas_runtime::Dtype::F32, []);
    }
    let mut graph = builder.finish().unwrap();
    graph.outputs.clear();
    outputs(&mut graph, names);
    graph
}

/// Whether an adapter exists. Without one a test is skipped and says so, or fails where `MASKTAS_REQUIRE_ENGINES`
/// is 1, as under `make test`.
pub fn adapter() -> bool {
    let found = !Adapters::list().is_empty();
    if !found {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but there is no adapter; run `make setup`");
        eprintln!("skipped on the adapter: there is none; `make setup` installs a software driver");
    }
    found
}

/// Every kernel of `plan` passes naga, and tint where it is installed.
pub fn validate(plan: &Plan) {
    validate_for_browsers(plan);
    for text in &plan.kernels {
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            [
                (plan.target.subgroups, naga::valid::Capabilities::SUBGROUP),
                (plan.target.f16, naga::valid::Capabilities::SHADER_FLOAT16),
            ]
            .into_iter()
            .filter_map(|(has, capability)| has.then_some(capability))
            .collect(),
        );
        validator.validate(&module).unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
    }
}

/// `target` with subgroups, as wide as the adapter's where there is one that has them.
pub fn shared(target: Target) -> Target {
    let first = Adapters::list().into_iter().next().map_or(0, |adapter| adapter.target.subgroup_size);
    Target { subgroups: true, subgroup_size: if first == 0 { 8 } else { first }, ..target }
}

/// Whether plans for `target` can run here.
fn runs(target: &Target) -> bool {
    let first = Adapters::list().into_iter().next();
    first.is_some_and(|a| !target.subgroups || a.target.subgroup_size == target.subgroup_size)
}

/// Plans `case` in every variant, validates the kernels, runs them where an adapter exists, and
/// compares with the reference: at most `bound` of the largest value.
pub fn check_within(case: &Case, bound: f64) {
    let want = reference::run(&case.graph, &case.inputs);
    let have_adapter = adapter();
    for (class, passes, subgroups) in [
        (AdapterClass::Software, Passes::ALL, false),
        (AdapterClass::Software, Passes::ALL, true),
        (AdapterClass::Software, Passes::NONE, false),
        (AdapterClass::Gpu, Passes::ALL, false),
    ] {
        let target = Target { class, ..Target::webgpu_minimum() };
        let target = if subgroups { shared(target) } else { target };
        let options = PlanOptions { passes, ..PlanOptions::default() };
        let plan = plan_with(&case.graph, &target, &options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        validate(&plan);
        if !have_adapter || !runs(&target) {
            continue;
        }
        let session = Session::from_plan(plan, &Options::default()).unwrap();
        let inputs: Vec<(&str, Tensor)> = case.inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let got = session.run(&inputs).unwrap();
        assert_eq!(got.len(), want.len());
        for ((name, got), want) in got.iter().zip(&want) {
            compare(&format!("{} {class:?} '{name}'", case.name), got, want, bound);
        }
    }
}

/// As [`check_within`], within a tenth of the tolerance of whole networks.
pub fn check(case: &Case) {
    check_within(case, 2e-6);
}

pub fn compare(what: &str, got: &Tensor, want: &Tensor, bound: f64) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    match (got.data(), want.data()) {
        (Data::F32(got), Data::F32(want)) => {
            let nan = |v: &[f32]| v.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
            assert_eq!(nan(got), nan(want), "{what}: other elements are NaN");
            let clean =
                |v: &[f32]| v.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect::<Vec<_>>();
            let difference = relative_difference(&clean(want), &clean(got));
            assert!(difference <= bound, "{what}: differs by {difference:e}, allowed {bound:e}");
        }
        (got, want) => assert_eq!(got, want, "{what}"),
    }
}

/// Every kernel of `plan` passes tint, browsers' compiler, where the tool is installed.
fn validate_for_browsers(plan: &Plan) {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("masktas-kernel-{}-{number}.wgsl", std::process::id()));
    for text in &plan.kernels {
        // Browsers want the directive that naga does not know yet.
        let enable = if text.contains("subgroup") { "enable subgroups;\n" } else { "" };
        std::fs::write(&path, format!("{enable}{text}")).unwrap();
        match std::process::Command::new("tint").args(["--format", "wgsl"]).arg(&path).output() {
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{why}\n{text}");
            }
            Err(_) => {
                eprintln!("skipped: kernels are not checked for browsers, because tint is not installed");
                break;
            }
        }
    }
    let _ = std::fs::remove_file(&path);
}
