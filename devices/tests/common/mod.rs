//! What the tests of this crate share: small random transformers and the engines that are here.

// Each test program uses a part of it.
#![allow(dead_code)]

use masktas_devices::{EngineOptions, Golden, LoadOptions, NamedModel, Protocol, engine};
use masktas_export::{Arch, LowerOptions, VitArch, VitBlock, Weights, lower, onnx};
use masktas_runtime::{Graph, Tensor};

/// A 32-pixel vision transformer with the given width and one head count per block.
pub fn vit(embed: usize, heads: &[usize]) -> Arch {
    let blocks = heads.iter().map(|heads| VitBlock { heads: *heads, hidden: embed * 3 }).collect();
    Arch::Vit(VitArch { image: 32, patch: 4, embed, head_dim: 32, blocks, relative: None })
}

/// Its graph with random weights.
pub fn graph(arch: &Arch, seed: u64) -> Graph {
    let weights = Weights::random(arch, None, seed).unwrap();
    lower(arch, Some(&weights), &LowerOptions::default()).unwrap()
}

/// A graph's file.
pub fn file(graph: &Graph) -> Vec<u8> {
    onnx::write(graph).unwrap()
}

/// One input for a graph, the same every time.
pub fn inputs(graph: &Graph) -> Vec<(String, Tensor)> {
    let mut rng = masktas_devices::stats::Rng::new(42);
    graph
        .inputs
        .iter()
        .map(|info| {
            let shape: Vec<usize> = info
                .shape
                .iter()
                .map(|dim| match dim {
                    masktas_runtime::Dim::Fixed(extent) => *extent,
                    masktas_runtime::Dim::Symbol(_) => 1,
                })
                .collect();
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.symmetric()).collect();
            (info.name.clone(), Tensor::f32(shape, values).unwrap())
        })
        .collect()
}

/// The answer of one engine that is not allowed to rewrite the graph.
pub fn golden(engine_name: &str, graph: &Graph) -> Golden {
    let inputs = inputs(graph);
    let options = LoadOptions { optimise: false, ..LoadOptions::default() };
    let loaded = engine(engine_name, &EngineOptions::default()).unwrap().load(&file(graph), &options);
    let outputs = loaded.unwrap().run(&inputs).unwrap();
    Golden { inputs, outputs }
}

/// Whether an engine can be used. Without it a test is skipped and says so, or fails where
/// `MASKTAS_REQUIRE_ENGINES` is 1, as under `make test`.
pub fn here(name: &str) -> bool {
    match engine(name, &EngineOptions::default()).unwrap().check() {
        Ok(()) => true,
        Err(error) => {
            let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
            assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but {name}: {error}; run `make ort`");
            eprintln!("skipped: {error}");
            false
        }
    }
}

/// Short rounds: the tests look at the machinery, not at this machine's steadiness.
pub fn quick() -> Protocol {
    Protocol {
        runs: 2,
        min_rounds: 3,
        max_rounds: 4,
        spread_s: 0.0,
        batch: 3,
        calibration_s: 0.0,
        ..Protocol::default()
    }
}

/// A graph as a model to profile.
pub fn model(id: &str, graph: &Graph) -> NamedModel<'static> {
    NamedModel::new(id, graph.features().unwrap(), file(graph))
}

/// ONNX Runtime where it is, else what needs no library.
pub fn engine_here() -> &'static str {
    if here("ort") { "ort" } else { "tract" }
}
