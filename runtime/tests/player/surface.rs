//! What a program sees: shared devices, tensors that stay on them, batches, images, traces, memory.

use std::collections::BTreeMap;

use crate::common::vit::Vit;
use crate::common::{adapter, compare, random, unchecked};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{
    AdapterClass, BufferRole, Passes, Plan, PlanOptions, Precision, Target, plan, plan_with,
};
use masktas_runtime::session::{AdapterKind, Gpu, Memory, Options, Session, Tried, Variant};
use masktas_runtime::{Dim, Dtype, Error, Graph, Interpolation, Preprocess, Tensor};

const SMALL: Vit = Vit { image: 12, patch: 4, width: 24, heads: 2, head: 8, hidden: 36, depth: 2 };
const TINY: Vit = Vit { image: 32, patch: 4, width: 192, heads: 3, head: 64, hidden: 768, depth: 12 };

/// `y = x * 2 + 1` over `[n, 3]`.
fn doubled() -> Graph {
    let mut b = GraphBuilder::new("doubled", 20);
    let shape = || [Dim::Symbol("n".into()), Dim::Fixed(3)];
    let x = b.input("x", Dtype::F32, shape());
    let one = b.constant("one", Tensor::f32([], vec![1.0]).unwrap());
    let sum = b.node("Add", "sum", &[&x, &x], []);
    b.node("Add", "y", &[&sum, &one], []);
    b.output("y", Dtype::F32, shape());
    b.finish().unwrap()
}

fn sized(n: usize) -> Options {
    Options { symbols: [("n".to_owned(), n)].into(), ..Options::default() }
}

fn row(values: [f32; 3]) -> Tensor {
    Tensor::f32([1, 3], values.to_vec()).unwrap()
}

/// A device that a program opened itself, with the least that WebGPU promises and no feature at all:
/// no 16-bit floats, no subgroups, no timestamps.
fn least() -> Gpu {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::all(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = found.first().unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: None,
        required_features: wgpu::Features::empty(),
        required_limits: wgpu::Limits::default(),
        ..Default::default()
    }))
    .unwrap();
    Gpu::from_wgpu(adapter, device, queue)
}

#[test]
fn limits_at_the_minimum_and_no_features_suffice() {
    if !adapter() {
        return;
    }
    let gpu = least();
    let target = &gpu.adapter().target;
    let minimum = Target::webgpu_minimum();
    assert!(!target.f16 && !target.subgroups && !gpu.has_timestamps());
    assert_eq!(target.max_storage_buffer_binding_size, minimum.max_storage_buffer_binding_size);
    assert_eq!(target.max_storage_buffers_per_shader_stage, minimum.max_storage_buffers_per_shader_stage);
    let (graph, inputs) = SMALL.build();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let want = Session::load(&graph, &Options::default()).unwrap().run(&inputs).unwrap();
    let session = Session::load_on(&gpu, &graph, &Options::default()).unwrap();
    compare("least", &session.run(&inputs).unwrap()[0].1, &want[0].1, 5e-6);
    let error = session.trace(&inputs).unwrap_err();
    assert!(error.to_string().contains("no timestamps"), "{error}");
}

/// Weights in 16 bits are refused where the adapter has no such floats, by the names of both, in a model and in a plan.
#[test]
fn half_precision_wants_the_feature() {
    if !adapter() {
        return;
    }
    let gpu = least();
    let (graph, _) = SMALL.build();
    let options = Options { precision: Precision::F16, ..Options::default() };
    let loaded = Session::load_on(&gpu, &graph, &options).unwrap_err();
    let target = Target { f16: true, ..Target::software() };
    let planned = PlanOptions { precision: Precision::F16, ..PlanOptions::default() };
    let plan = plan_with(&graph, &target, &planned).unwrap();
    let played = Session::from_plan_on(&gpu, plan).unwrap_err();
    // Also where kernels are chosen: before anything is planned, which would know no adapter to name.
    let file = std::env::temp_dir().join(format!("masktas-halves-{}.json", std::process::id()));
    Session::load_tuned_on(&gpu, &doubled(), &sized(2), Some(&file), |_, _| ()).unwrap();
    let tuned = Session::load_tuned_on(&gpu, &graph, &options, None, |_, _| ()).unwrap_err();
    let kept = Session::load_kept_on(&gpu, &graph, &options, &file).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    for error in [loaded, played, tuned, kept] {
        let text = error.to_string();
        assert!(matches!(error, Error::MissingFeature { .. }), "{text}");
        assert!(text.contains(&gpu.adapter().name) && text.contains("SHADER_F16"), "{text}");
    }
}

/// A plan that shares operands through subgroups is refused where there are none.
#[test]
fn plans_for_subgroups_want_them() {
    if !adapter() {
        return;
    }
    let (graph, _) = SMALL.build();
    let target = Target { subgroups: true, subgroup_size: 8, ..Target::software() };
    let plan = plan(&graph, &target).unwrap();
    assert!(plan.kernels.iter().any(|text| text.contains("subgroupBroadcast")));
    let error = Session::from_plan_on(&least(), plan).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { .. }) && error.to_string().contains("8 lanes"), "{error}");
}

#[test]
fn tensors_stay_on_the_device_between_models() {
    if !adapter() {
        return;
    }
    let gpu = Gpu::open(None, true).unwrap();
    let first = Session::load_on(&gpu, &doubled(), &sized(1)).unwrap();
    let second = Session::load_on(first.gpu(), &doubled(), &sized(1)).unwrap();
    let x = first.upload("x", &row([1.0, 2.0, 3.0])).unwrap();
    assert_eq!((x.shape(), x.dtype()), (&[1, 3][..], Dtype::F32));
    let y = first.run_resident(&[("x", &x)]).unwrap();
    let z = second.run_resident(&[("x", &y[0].1)]).unwrap();
    assert_eq!(z[0].0, "y");
    // A later run writes to tensors of its own.
    let again = first.run_resident(&[("x", &z[0].1)]).unwrap();
    assert_eq!(z[0].1.read().unwrap(), row([7.0, 11.0, 15.0]));
    assert_eq!(again[0].1.read().unwrap(), row([15.0, 23.0, 31.0]));
    assert_eq!(x.read().unwrap(), row([1.0, 2.0, 3.0]));

    // Tensors and sessions outlive what they were made with.
    drop((gpu, first));
    let z = second.run_resident(&[("x", &z[0].1)]).unwrap();
    drop(second);
    assert_eq!(z[0].1.read().unwrap(), row([15.0, 23.0, 31.0]));

    let elsewhere = Session::load(&doubled(), &sized(1)).unwrap();
    let error = elsewhere.run_resident(&[("x", &x)]).unwrap_err();
    assert!(
        matches!(&error, Error::InputMismatch { .. }) && error.to_string().contains("another device"),
        "{error}"
    );
    for (name, tensor) in [("z", row([0.0; 3])), ("x", random(&[2, 3], 1))] {
        let error = elsewhere.upload(name, &tensor).unwrap_err();
        assert!(matches!(&error, Error::InputMismatch { .. }), "{error}");
    }
    assert!(matches!(elsewhere.run_resident(&[]), Err(Error::InputMismatch { .. })));
}

#[test]
fn two_sessions_on_one_device_run_on_two_threads() {
    if !adapter() {
        return;
    }
    let gpu = Gpu::open(None, true).unwrap();
    let (graph, _) = SMALL.build();
    let image = random(&[1, 3, 12, 12], 3);
    let want = Session::load(&graph, &Options::default()).unwrap().run(&[("image", image.clone())]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let session = Session::load_on(&gpu, &graph, &Options::default()).unwrap();
                for _ in 0..20 {
                    assert_eq!(session.run(&[("image", image.clone())]).unwrap(), want);
                }
            });
        }
    });
}

#[test]
fn samples_run_in_batches_of_the_models_size() {
    if !adapter() {
        return;
    }
    let samples: Vec<Tensor> = (0..5).map(|i| row([i as f32, 0.5, -1.0])).collect();
    for batch in [1, 2, 8] {
        let session = Session::load(&doubled(), &sized(batch)).unwrap();
        let results = session.run_batch(&samples).unwrap();
        assert_eq!(results.len(), 5);
        for (i, outputs) in results.iter().enumerate() {
            assert_eq!(outputs, &[("y".to_owned(), row([2.0 * i as f32 + 1.0, 2.0, -1.0]))], "of {batch}");
        }
        assert!(session.run_batch(&[]).unwrap().is_empty());
        let error = session.run_batch(&[random(&[3, 1], 1)]).unwrap_err();
        assert!(matches!(&error, Error::InputMismatch { .. }), "{error}");
    }
}

#[test]
fn images_are_normalised_as_the_file_says() {
    if !adapter() {
        return;
    }
    let (mut graph, _) = SMALL.build();
    let bare = Session::load(&graph, &Options::default()).unwrap();
    let pixels: Vec<u8> = (0..12 * 12 * 3).map(|i| (i * 7 % 256) as u8).collect();
    assert!(matches!(bare.run_images(&[&pixels]), Err(Error::Metadata { .. })));
    let how = Preprocess {
        resize: 12,
        crop: 12,
        mean: [0.5, 0.4, 0.3],
        std: [0.2, 0.3, 0.4],
        interpolation: Interpolation::Lanczos3,
        labels: None,
    };
    how.write_to(&mut graph.metadata).unwrap();
    let session = Session::load(&graph, &Options::default()).unwrap();
    assert_eq!(session.info().preprocess().unwrap(), how);
    let want = bare.run(&[("image", how.apply(&pixels).unwrap())]).unwrap();
    assert_eq!(session.run_images(&[&pixels, &pixels]).unwrap(), [want.clone(), want]);
    assert!(matches!(session.run_images(&[&pixels[1..]]), Err(Error::ImageSize { .. })));
}

#[test]
fn a_model_loads_from_its_path() {
    if !adapter() {
        return;
    }
    let error = Session::load("no/such/model.onnx", &Options::default()).unwrap_err();
    assert!(error.to_string().contains("no/such/model.onnx"), "{error}");
}

#[test]
fn every_kernel_is_timed_where_there_are_timestamps() {
    if !adapter() {
        return;
    }
    let (graph, inputs) = SMALL.build();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let session = Session::load(&graph, &Options::default()).unwrap();
    if !session.gpu().has_timestamps() {
        eprintln!("skipped: {} has no timestamps", session.info().adapter);
        return;
    }
    let want = session.run(&inputs).unwrap();
    let timed = session.trace(&inputs).unwrap();
    assert_eq!(timed.len(), session.info().dispatches.len());
    for (timed, dispatch) in timed.iter().zip(&session.info().dispatches) {
        assert_eq!((&timed.family, &timed.nodes), (&dispatch.family, &dispatch.nodes));
        assert!(timed.nanoseconds.is_finite() && timed.nanoseconds >= 0.0);
    }
    assert!(timed.iter().any(|timed| timed.nanoseconds > 0.0));
    assert_eq!(session.run(&inputs).unwrap(), want);
}

/// Every variant is tried once and gives the same answer; the choice is kept, and a file that is none is
/// made anew.
#[test]
fn a_tune_tries_every_variant_once() {
    if !adapter() {
        return;
    }
    let (graph, inputs) = SMALL.build();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let want = Session::load(&graph, &Options::default()).unwrap().run(&inputs).unwrap();
    let folder = std::env::temp_dir().join(format!("masktas-tune-{}", std::process::id()));
    let file = folder.join("choices.json");
    let _ = std::fs::remove_dir_all(&folder);
    for broken in [false, true] {
        if broken {
            std::fs::write(&file, "not a file of choices").unwrap();
        }
        assert_eq!(Session::load_kept(&graph, &Options::default(), &file).unwrap().1, None);
        let mut told = Vec::new();
        let tell = |variant, tried| told.push((variant, tried));
        let (session, tuned) = Session::load_tuned(&graph, &Options::default(), Some(&file), tell).unwrap();
        assert_eq!(told, tuned.tried);
        let time = |(_, tried): &(Variant, Tried)| match tried {
            Tried::Time(time) => *time,
            other => panic!("{other}"),
        };
        let least = tuned.tried.iter().map(time).fold(f64::INFINITY, f64::min);
        let best = (tuned.variant, Tried::Time(least));
        assert!(tuned.tried.len() >= 2 && tuned.tried.contains(&best), "{tuned:?}");
        compare("tuned", &session.run(&inputs).unwrap()[0].1, &want[0].1, 5e-6);
        // The second time nothing is tried.
        let tell = |variant, _| panic!("{variant} was tried again");
        let (session, again) = Session::load_tuned(&graph, &Options::default(), Some(&file), tell).unwrap();
        assert_eq!((again.variant, again.tried.len()), (tuned.variant, 0));
        compare("known", &session.run(&inputs).unwrap()[0].1, &want[0].1, 5e-6);
        // Nor where a program asks for what was kept. Another set of passes has kept nothing.
        let (session, kept) = Session::load_kept(&graph, &Options::default(), &file).unwrap();
        assert_eq!(kept, Some(tuned.variant));
        compare("kept", &session.run(&inputs).unwrap()[0].1, &want[0].1, 5e-6);
        let other = Options { passes: Passes::NONE, ..Options::default() };
        assert_eq!(Session::load_kept(&graph, &other, &file).unwrap().1, None);
    }
    // What the options say of kernels holds: among fewer variants the choice is another.
    for (class, subgroups) in
        [(Some(AdapterClass::Gpu), true), (Some(AdapterClass::Software), false), (None, false)]
    {
        let options = Options { class, subgroups, ..Options::default() };
        assert_eq!(Session::load_kept(&graph, &options, &file).unwrap().1, None);
        let (_, tuned) = Session::load_tuned(&graph, &options, Some(&file), |_, _| ()).unwrap();
        let allowed = |v: &Variant| class.is_none_or(|class| v.class == class) && (subgroups || !v.subgroups);
        assert!(
            !tuned.tried.is_empty() && tuned.tried.iter().all(|(variant, _)| allowed(variant)),
            "{tuned:?}"
        );
        assert_eq!(Session::load_kept(&graph, &options, &file).unwrap().1, Some(tuned.variant));
    }
    // Another model is another choice.
    let other = Vit { depth: 1, ..SMALL }.build().0;
    let mut count = 0;
    Session::load_tuned(&doubled(), &sized(2), Some(&file), |_, _| count += 1).unwrap();
    Session::load_tuned(&other, &Options { passes: Passes::NONE, ..Options::default() }, None, |_, _| {
        count += 1
    })
    .unwrap();
    assert!(count >= 4);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_plan_explains_itself() {
    if !adapter() {
        return;
    }
    let (graph, _) = SMALL.build();
    let passes = Passes { merge: false, ..Passes::ALL };
    let session = Session::load(&graph, &Options { passes, ..Options::default() }).unwrap();
    let (info, text) = (session.info(), session.info().to_string());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(&info.adapter.name));
    assert!(lines[1].starts_with("passes") && lines[1].contains("attention") && !lines[1].contains("merge"));
    assert_eq!(lines[2], "switched off merge");
    let rows: Vec<&&str> = lines.iter().filter(|line| line.contains(" groups  buffers ")).collect();
    assert_eq!(rows.len(), info.dispatches.len());
    for (row, dispatch) in rows.iter().zip(&info.dispatches) {
        assert!(row.contains(&dispatch.family) && row.contains(&dispatch.nodes[0]), "{row}");
    }
    let plan = Session::from_plan(plan(&graph, &Target::software()).unwrap(), &Options::default()).unwrap();
    assert_eq!(plan.info().passes, None);
    assert!(!plan.info().to_string().contains("passes"));
}

/// The largest sum of bytes of values that are alive at once, inputs and outputs always.
fn live(graph: &Graph) -> u64 {
    let passes = Passes { reuse: false, ..Passes::ALL };
    let plan = plan_with(graph, &Target::webgpu_minimum(), &PlanOptions { passes, ..Default::default() });
    let plan = plan.unwrap();
    let mut spans: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (at, dispatch) in plan.dispatches.iter().enumerate() {
        for binding in &dispatch.bindings {
            spans.entry(binding.buffer).or_insert((at, at)).1 = at;
        }
    }
    let size = |buffer: &usize| plan.buffers[*buffer].bytes;
    let scratch = |buffer: &usize| plan.buffers[*buffer].role == BufferRole::Scratch;
    let alive = |at: usize| -> u64 {
        spans.iter().filter(|(b, (a, z))| scratch(b) && *a <= at && at <= *z).map(|(b, _)| size(b)).sum()
    };
    let ports: u64 = plan.inputs.iter().chain(&plan.outputs).map(|port| size(&port.buffer)).sum();
    ports + (0..plan.dispatches.len()).map(alive).max().unwrap_or(0)
}

#[test]
fn memory_is_little_more_than_weights_and_what_is_alive() {
    let weights = |plan: &Plan| -> u64 {
        plan.buffers.iter().filter(|b| b.role == BufferRole::Weight).map(|b| b.bytes).sum()
    };
    for model in [SMALL, TINY] {
        let (graph, _) = model.build();
        let plan = plan(&graph, &Target::webgpu_minimum()).unwrap();
        let (got, least) = (plan.bytes(), weights(&plan) + live(&graph));
        assert!(got as f64 <= 1.2 * least as f64, "{got} bytes, {least} are needed");
        // Without the weights, which hide it, the scratch buffers are at most half as much again.
        let scratch = got - weights(&plan);
        assert!(scratch as f64 <= 1.5 * live(&graph) as f64, "{scratch} bytes beside the weights");
        if adapter() {
            let memory = Session::load(&graph, &Options::default()).unwrap().info().memory;
            assert_eq!(memory.total(), memory.weights + memory.ports + memory.scratch + memory.staging);
            assert!(memory.total() as f64 <= 1.2 * least as f64, "{memory:?}, {least} are needed");
        }
    }
    assert_eq!(Memory::default().total(), 0);
}

/// The weights are shared by no other buffer and a plan without constants has none.
#[test]
fn a_model_without_weights_has_no_memory_for_them() {
    if !adapter() {
        return;
    }
    let mut b = GraphBuilder::new("bare", 20);
    let x = b.input("x", Dtype::F32, [4].map(Dim::Fixed));
    let y = b.node("Exp", "y", &[&x], []);
    let graph = unchecked(b, &[&y]);
    let session = Session::load(&graph, &Options::default()).unwrap();
    let memory = session.info().memory;
    assert_eq!((memory.weights, memory.scratch, memory.ports, memory.staging), (0, 0, 32, 16));
    assert!(session.info().adapter.kind <= AdapterKind::Software);
}
