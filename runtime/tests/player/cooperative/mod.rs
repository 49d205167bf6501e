//! Products through cooperative matrices: run in an emulation, because no driver that tests can count on has such matrices; and the
//! real texts through naga's validator and its writers for Vulkan and Metal.

mod emulated;

use crate::common::vit::Vit;
use crate::common::{Case, adapter, compare, random, reference, shared, unchecked};
use emulated::{ENABLE, emulated};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{
    AdapterClass, CooperativeSizes, Plan, PlanOptions, Precision, Target, plan, plan_with,
};
use masktas_runtime::session::{Adapters, Cooperative, Options, Session};
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Dim, Dtype, Error, Graph, Tensor};

const FLOATS: CooperativeSizes = CooperativeSizes { f32: 8, f16: 0 };
const HALVES: CooperativeSizes = CooperativeSizes { f32: 0, f16: 16 };

/// Width that a plan counts on (0: not known) and width of the subgroups that play it: as planned, fewer subgroups than quarters of
/// a tile, as many, and more.
const WIDTHS: [(u32, usize); 4] = [(8, 8), (0, 64), (0, 32), (0, 8)];

fn target(cooperative: CooperativeSizes, lanes: u32) -> Target {
    Target { subgroups: true, subgroup_size: lanes, f16: true, cooperative, ..Target::webgpu_minimum() }
}

fn planned(graph: &Graph, target: &Target, precision: Precision) -> Plan {
    plan_with(graph, target, &PlanOptions { precision, ..Default::default() }).unwrap()
}

/// `gelu(norm(x) w + bias) + x'`, with the normalisation and what comes after the product where they are wanted.
fn product([m, k, n]: [usize; 3], norm: bool, finish: bool, weights: impl Fn(f32) -> f32) -> Case {
    let mut b = GraphBuilder::new("product", 20);
    let x = b.input("x", Dtype::F32, [m, k].map(Dim::Fixed));
    let mut inputs = vec![("x".to_owned(), random(&[m, k], 4))];
    let gain = b.constant("gain", Tensor::f32([k], vec![1.0; k]).unwrap());
    let rows = if norm { b.node("LayerNormalization", "rows", &[&x, &gain], []) } else { x };
    let values = random(&[k, n], 3).as_f32().unwrap().iter().map(|v| weights(*v)).collect::<Vec<_>>();
    let w = b.constant("w", Tensor::f32([k, n], values).unwrap());
    let mut y = b.node("MatMul", "y", &[&rows, &w], []);
    if finish {
        let bias = b.constant("bias", random(&[n], 5));
        let more = b.input("more", Dtype::F32, [m, n].map(Dim::Fixed));
        inputs.push(("more".to_owned(), random(&[m, n], 6)));
        let sum = b.node("Add", "sum", &[&y, &bias], []);
        let active = b.node("Gelu", "active", &[&sum], []);
        y = b.node("Add", "all", &[&active, &more], []);
    }
    Case { name: format!("{m} x {k} x {n} norm {norm} finish {finish}"), graph: unchecked(b, &[&y]), inputs }
}

/// A product of two stacks of matrices that are both given, the right one perhaps turned.
fn stacks(batch: usize, [m, k, n]: [usize; 3], turned: bool) -> Case {
    let mut b = GraphBuilder::new("stacks", 20);
    let right = if turned { [batch, n, k] } else { [batch, k, n] };
    let x = b.input("x", Dtype::F32, [batch, m, k].map(Dim::Fixed));
    let w = b.input("w", Dtype::F32, right.map(Dim::Fixed));
    let perm = [("perm", masktas_runtime::Attribute::Ints(vec![0, 2, 1]))];
    let w = if turned { b.node("Transpose", "turned", &[&w], perm) } else { w };
    let y = b.node("MatMul", "y", &[&x, &w], []);
    let inputs = vec![("x".to_owned(), random(&[batch, m, k], 1)), ("w".to_owned(), random(&right, 2))];
    Case { name: format!("{batch} of {m} x {k} x {n} turned {turned}"), graph: unchecked(b, &[&y]), inputs }
}

fn run(plan: Plan, case: &Case) -> Tensor {
    let inputs: Vec<(&str, Tensor)> = case.inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let session = Session::from_plan(plan, &Options::default()).unwrap();
    session.run(&inputs).unwrap().remove(0).1
}

/// The case's answer in the emulation, within 2e-6 of the reference.
fn check(case: &Case, (lanes, width): (u32, usize)) {
    let plan = planned(&case.graph, &target(FLOATS, lanes), Precision::F32);
    validate(&plan);
    assert!(plan.is_cooperative(), "{}", case.name);
    if adapter() {
        let want = reference::run(&case.graph, &case.inputs);
        let got = run(emulated(plan, width), case);
        compare(&format!("{} {lanes} {width}", case.name), &got, &want[0], 2e-6);
    }
}

/// Every real text passes naga's validator and its writers of SPIR-V and Metal's language.
fn validate(plan: &Plan) {
    use naga::valid::Capabilities;
    for text in &plan.kernels {
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
        let capabilities =
            Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16;
        let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
        let info =
            validator.validate(&module).unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
        let entry = naga::back::spv::PipelineOptions {
            shader_stage: naga::ShaderStage::Compute,
            entry_point: "main".to_owned(),
        };
        let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        let words = naga::back::spv::write_vec(&module, &info, &spirv, Some(&entry)).unwrap();
        // OpCooperativeMatrixMulAddKHR
        let multiplies = words.iter().any(|word| word & 0xffff == 4459);
        let metal = naga::back::msl::Options {
            lang_version: (2, 4),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let (metal, _) = naga::back::msl::write_string(&module, &info, &metal, &Default::default()).unwrap();
        let wanted = text.contains(ENABLE);
        assert_eq!((multiplies, metal.contains("simdgroup_multiply_accumulate")), (wanted, wanted), "{text}");
    }
}

/// Shapes that fill no tile, tiles exactly, several tiles, and those of transformers.
#[test]
fn odd_shapes_give_the_reference_with_bias_activation_and_residual() {
    for (shape, norm) in [
        ([65, 96, 192], true),
        ([65, 96, 65], false),
        ([64, 64, 64], false),
        ([5, 3, 7], true),
        ([33, 17, 100], true),
        ([8, 8, 8], false),
        ([130, 40, 70], true),
        ([4, 1, 4], false),
    ] {
        check(&product(shape, norm, true, |v| v), WIDTHS[0]);
    }
    for widths in WIDTHS {
        check(&product([65, 40, 70], true, true, |v| v), widths);
        check(&product([33, 17, 21], false, false, |v| v), widths);
    }
    check(&product([197, 192, 192], true, true, |v| v), WIDTHS[2]);
}

/// One head, several, more than enough for the large tile; columns that lie as rows in memory.
#[test]
fn stacks_of_matrices_give_the_reference() {
    for widths in WIDTHS {
        check(&stacks(3, [65, 32, 65], true), widths);
        check(&stacks(256, [5, 6, 7], false), widths);
    }
    check(&stacks(1, [65, 64, 65], true), WIDTHS[0]);
    check(&stacks(2, [17, 12, 20], false), (64, 64));
}

/// Products that a matrix would be hardly filled by stay with the other kernels, and so do integers.
#[test]
fn what_does_not_fit_is_left_to_workgroup_tiles() {
    let plain = Target { cooperative: CooperativeSizes::NONE, ..target(FLOATS, 8) };
    for shape in [[1, 1, 1], [1, 192, 1000], [197, 192, 3]] {
        let case = product(shape, false, true, |v| v);
        let plan = planned(&case.graph, &target(FLOATS, 8), Precision::F32);
        assert_eq!(plan.kernels, planned(&case.graph, &plain, Precision::F32).kernels);
        if adapter() {
            compare(&case.name, &run(plan, &case), &reference::run(&case.graph, &case.inputs)[0], 2e-6);
        }
    }
    let case = product([65, 40, 70], false, false, |v| v);
    let without = |target: Target| assert!(!planned(&case.graph, &target, Precision::F32).is_cooperative());
    without(plain);
    without(Target { subgroups: false, ..target(FLOATS, 8) });
    without(Target { class: AdapterClass::Software, ..target(FLOATS, 8) });
    without(Target { max_compute_invocations_per_workgroup: 64, ..target(FLOATS, 32) });
    without(target(CooperativeSizes { f32: 4, f16: 0 }, 8));
}

/// A whole transformer, whose products lie behind normalisations and before activations.
#[test]
fn a_transformer_gives_the_reference() {
    let small = Vit { image: 16, patch: 4, width: 24, heads: 2, head: 8, hidden: 36, depth: 2 };
    let (graph, inputs) = small.build();
    check(&Case { name: "vit".to_owned(), graph, inputs }, WIDTHS[0]);
}

/// Rows are rounded to 16 bits only for weights that the caller wanted in 16, and only where there are no matrices of 32.
#[test]
fn halves_are_multiplied_only_where_they_were_asked_for() {
    let case = product([65, 40, 70], true, true, |v| v);
    let of = |sizes, precision| planned(&case.graph, &target(sizes, 8), precision);
    assert!(!of(HALVES, Precision::F32).is_cooperative());
    let half = of(HALVES, Precision::F16);
    validate(&half);
    assert!(half.kernels.iter().any(|text| text.contains("coop_mat16x16<f16,A>")));
    assert!(half.kernels.iter().all(|text| !text.contains("<f16,C>")), "sums are floats of 32 bits");
    let both = of(CooperativeSizes { f32: 8, f16: 16 }, Precision::F16);
    validate(&both);
    assert!(both.kernels.iter().any(|text| text.contains("coop_mat8x8<f32,A>")));
    assert!(both.kernels.iter().all(|text| !text.contains("<f16,A>")));
    assert_eq!(both.precision(), Precision::F16);
    // One kernel, or none, says so.
    assert_eq!((half.rounded_products(), both.rounded_products()), (1, 0));
}

/// What 16 bits hold gives what the workgroup variant gives; other rows lose what 11 bits lose. Weights in 16 bits under
/// matrices of 32-bit floats lose nothing more.
#[test]
fn halves_give_what_16_bits_hold() {
    if !adapter() || !Adapters::list()[0].target.f16 {
        eprintln!("not run on the adapter: it lacks SHADER_F16");
        return;
    }
    for (shape, norm) in
        [([65, 96, 100], false), ([33, 17, 21], false), ([65, 40, 70], true), ([9, 33, 12], true)]
    {
        let eighths = |v: f32| (v * 64.0).round() / 8.0;
        let mut case = product(shape, norm, true, eighths);
        let plain = |case: &Case| {
            let plan = planned(&case.graph, &target(CooperativeSizes::NONE, 8), Precision::F16);
            run(Plan { target: Target { subgroups: false, ..plan.target.clone() }, ..plan }, case)
        };
        let through = |case: &Case, sizes, (lanes, width)| {
            let plan = planned(&case.graph, &target(sizes, lanes), Precision::F16);
            assert!(plan.is_cooperative(), "{}", case.name);
            run(emulated(plan, width), case)
        };
        let want = plain(&case);
        for widths in WIDTHS {
            let got = through(&case, HALVES, widths);
            let difference = relative_difference(want.as_f32().unwrap(), got.as_f32().unwrap());
            assert!(difference > 0.0 && difference < 2e-3, "{}: {difference:e}", case.name);
        }
        let wide = through(&case, FLOATS, WIDTHS[0]);
        compare(&case.name, &wide, &want, 2e-6);
        if !norm {
            let rows = random(&shape[..2], 4)
                .as_f32()
                .unwrap()
                .iter()
                .map(|v| (v * 64.0).round() / 64.0)
                .collect::<Vec<_>>();
            case.inputs[0].1 = Tensor::f32(&shape[..2], rows).unwrap();
            compare(&case.name, &through(&case, HALVES, WIDTHS[0]), &plain(&case), 2e-6);
        }
    }
}

/// Pages are planned for what every browser has, and no file holds what none can play.
#[test]
fn no_plan_for_pages_has_them() {
    let case = product([65, 40, 70], true, true, |v| v);
    for target in [Target::webgpu_minimum(), Target::software(), shared(Target::webgpu_minimum())] {
        let plan = plan(&case.graph, &target).unwrap();
        assert!(
            !plan.is_cooperative()
                && !String::from_utf8(plan.write().unwrap().json).unwrap().contains("cooperative")
        );
    }
    let error = planned(&case.graph, &target(FLOATS, 8), Precision::F32).write().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("pages"), "{error}");
}

/// An adapter without them refuses them by name, in a model and in a plan; by default nothing asks for them.
#[test]
fn an_adapter_without_them_is_refused() {
    if !adapter() {
        return;
    }
    let case = product([65, 40, 70], true, true, |v| v);
    let always = Options { cooperative: Cooperative::Always, ..Options::default() };
    if !Adapters::list()[0].cooperative.is_none() {
        assert!(!Session::load(&case.graph, &always).unwrap().gpu().adapter().cooperative.is_none());
        return;
    }
    let plan =
        planned(&case.graph, &target(FLOATS, Adapters::list()[0].target.subgroup_size), Precision::F32);
    for error in [
        Session::load(&case.graph, &always).unwrap_err(),
        Session::load_tuned(&case.graph, &always, None, |_, _| ()).unwrap_err(),
        Session::from_plan(plan, &Options::default()).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::MissingFeature { .. })
                && error.to_string().contains("cooperative matrices"),
            "{error}"
        );
    }
    assert!(Session::load(&case.graph, &Options::default()).unwrap().gpu().adapter().cooperative.is_none());
}
