//! Any bytes that read as a model: planned for the least that WebGPU promises, and for a software driver.

#![no_main]

use libfuzzer_sys::fuzz_target;
use masktas_runtime::onnx;
use masktas_runtime::plan::{PlanOptions, Target, plan_with};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = onnx::read(bytes) else { return };
    // A size for a symbol that is not there would be refused before anything is planned.
    let symbols = graph.symbols().contains("n").then(|| ("n".to_owned(), 2)).into_iter().collect();
    let options = PlanOptions { symbols, ..PlanOptions::default() };
    for target in [Target::webgpu_minimum(), Target::software()] {
        drop(plan_with(&graph, &target, &options));
    }
});
