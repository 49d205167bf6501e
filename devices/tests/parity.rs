//! Real engines on random transformers: they agree, and a small wrong does not go unseen.

mod common;

use common::{file, golden, graph, here, inputs, vit};
use masktas_devices::{Engine, EngineOptions, Kernels, LoadOptions, engine, engines, parity};
use masktas_runtime::plan::Precision;
use masktas_runtime::{Attribute, Graph, Tolerance, Verdict};

fn all() -> Vec<Box<dyn Engine>> {
    let names = engines().into_iter().filter(|name| here(name));
    names.map(|name| engine(name, &EngineOptions::default()).unwrap()).collect()
}

/// ONNX Runtime without optimisations is the reference; without the library, tract without optimisations is.
fn reference() -> &'static str {
    if here("ort") { "ort" } else { "tract" }
}

#[test]
fn engines_agree_on_random_transformers() {
    let engines = all();
    for (seed, arch) in
        [vit(96, &[2; 6]), vit(160, &[4, 2, 3, 4, 2, 3, 4, 4]), vit(64, &[1])].iter().enumerate()
    {
        let graph = graph(arch, seed as u64);
        let result = parity(&file(&graph), &golden(reference(), &graph), &engines);
        assert_eq!(result.verdict, Verdict::Pass, "{result:#?}");
        assert_eq!(result.rows.len(), engines.len());
        assert!(result.rows.iter().all(|row| row.version.is_some() && row.provider.is_some()));
    }
}

/// Every engine must fail `wrong` against the answer of `right`.
fn must_fail(right: &Graph, wrong: &Graph, what: &str) {
    let golden = golden(reference(), right);
    for row in parity(&file(wrong), &golden, &all()).rows {
        assert_eq!(row.verdict, Verdict::Fail, "{what} was not seen: {row:?}");
        assert!(row.difference.unwrap() > 1e-4);
    }
}

#[test]
fn a_dropped_bias_fails() {
    let right = graph(&vit(96, &[2; 6]), 7);
    let biases: Vec<String> = right
        .nodes
        .iter()
        .filter(|node| node.op == "Add")
        .flat_map(|node| &node.inputs)
        .filter(|name| right.constants.get(*name).is_some_and(|tensor| tensor.shape().len() == 1))
        .cloned()
        .collect();
    assert!(
        biases.len() >= 6 * 6,
        "q, k, v, projection and two of the feed-forward part a block: {}",
        biases.len()
    );
    // The first, a middle one and the last.
    for name in [&biases[0], &biases[biases.len() / 2], &biases[biases.len() - 1]] {
        let mut wrong = right.clone();
        let zeros = vec![0.0f32; wrong.constants[name].elements()];
        let shape = wrong.constants[name].shape().to_vec();
        wrong.constants.insert(name.clone(), masktas_runtime::Tensor::f32(shape, zeros).unwrap());
        must_fail(&right, &wrong, name);
    }
}

#[test]
fn tanh_gelu_instead_of_erf_fails() {
    let right = graph(&vit(96, &[2; 6]), 8);
    assert_eq!(right.nodes.iter().filter(|node| node.op == "Gelu").count(), 6);
    let mut wrong = right.clone();
    for node in wrong.nodes.iter_mut().filter(|node| node.op == "Gelu") {
        node.attributes.insert("approximate".into(), Attribute::Text("tanh".into()));
    }
    must_fail(&right, &wrong, "tanh GELU");
}

/// Weights that were asked for in 16 bits are not judged as if they were to have 32.
#[test]
fn weights_in_16_bits_are_judged_by_their_own_bounds() {
    let kernels = Kernels { precision: Precision::F16, ..Kernels::default() };
    let options = EngineOptions { kernels, ..EngineOptions::default() };
    let wgpu = engine("wgpu", &options).unwrap();
    let graph = graph(&vit(96, &[2; 6]), 5);
    if let Err(error) = wgpu.load(&file(&graph), &LoadOptions::default()) {
        assert!(error.to_string().contains("SHADER_F16") || !here("wgpu"), "{error}");
        println!("skipped: {error}");
        return;
    }
    let engines = [engine(reference(), &EngineOptions::default()).unwrap(), wgpu];
    let rows = parity(&file(&graph), &golden(reference(), &graph), &engines).rows;
    assert_eq!((rows[0].tolerance, rows[1].tolerance), (Tolerance::F32, Tolerance::F16));
    assert!(rows[1].difference.unwrap() > Tolerance::F32.warn, "{:?}", rows[1]);
    assert_eq!(rows[1].verdict, Verdict::Pass, "{:?}", rows[1]);
}

#[test]
fn no_threads_are_refused_by_every_engine() {
    let options = LoadOptions { threads: 0, ..LoadOptions::default() };
    for engine in all() {
        let error = engine.load(&file(&graph(&vit(64, &[1]), 3)), &options).err().unwrap();
        assert!(error.given() && error.to_string().contains("0 threads"), "{error}");
    }
}

/// A file whose batch is symbolic runs at the golden pair's shape, and is an error without one.
#[test]
fn a_symbolic_batch_needs_a_shape() {
    use masktas_export::{Batch, LowerOptions, Weights, lower};
    let arch = vit(64, &[1, 2]);
    let weights = Weights::random(&arch, None, 1).unwrap();
    let fixed = graph(&arch, 1);
    let dynamic =
        lower(&arch, Some(&weights), &LowerOptions { batch: Batch::Dynamic, ..LowerOptions::default() })
            .unwrap();
    let golden = golden(reference(), &fixed);
    let result = parity(&file(&dynamic), &golden, &all());
    assert_eq!(result.verdict, Verdict::Pass, "{result:#?}");
    for engine in all() {
        let error = engine.load(&file(&dynamic), &LoadOptions::default()).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|text| text.contains('N')), "{}: {error:?}", engine.name());
    }
}

#[test]
fn hostile_files_are_errors_in_every_engine() {
    let good = file(&graph(&vit(64, &[1]), 3));
    let mut rng = masktas_devices::stats::Rng::new(9);
    for engine in all() {
        let load = |bytes: &[u8]| engine.load(bytes, &LoadOptions::default());
        assert!(load(b"").is_err(), "{}: empty", engine.name());
        assert!(load(&good[..good.len() / 2]).is_err(), "{}: half", engine.name());
        assert!(load(b"not an onnx file at all, only text").is_err(), "{}: text", engine.name());
        // Flipped bytes may still be a model; they must not be a panic.
        for _ in 0..20 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                let at = rng.below(bytes.len().min(4000));
                bytes[at] ^= 1 << rng.below(8);
            }
            let _ = load(&bytes);
        }
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let model = file(&graph(&vit(64, &[1]), 3));
    for engine in all() {
        let options = LoadOptions { provider: Some("cuda".into()), ..LoadOptions::default() };
        let text = engine.load(&model, &options).err().unwrap().to_string();
        assert!(text.contains("cuda"), "{text}");
        let mut loaded = engine.load(&model, &LoadOptions::default()).unwrap();
        assert_eq!(loaded.inputs().len(), 1);
        assert!(loaded.run(&[]).is_err());
        let wrong = masktas_runtime::Tensor::f32([1, 3, 16, 16], vec![0.0; 768]).unwrap();
        let name = loaded.inputs()[0].name.clone();
        assert!(loaded.run(&[(name, wrong)]).unwrap_err().to_string().contains("[1, 3, 16, 16]"));
        // The model still works after a refused run.
        assert!(loaded.run(&inputs(&graph(&vit(64, &[1]), 3))).is_ok());
    }
}

#[test]
fn one_process_uses_one_onnx_runtime() {
    if !here("ort") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("libonnxruntime.so.1.30.0");
    std::fs::write(&other, "").unwrap();
    let options = EngineOptions { ort_lib: Some(other.clone()), ..EngineOptions::default() };
    let text = engine("ort", &options).unwrap().check().unwrap_err().to_string();
    assert!(text.contains("already loaded") && text.contains(other.to_str().unwrap()), "{text}");
}
