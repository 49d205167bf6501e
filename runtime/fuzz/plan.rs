//! Any bytes that read as a model: planned for the least that WebGPU promises, and for a software driver.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use masktas_runtime::onnx;
use masktas_runtime::plan::{PlanOptions, Target, plan_with};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = onnx::read(bytes) else { return };
    let symbols = BTreeMap::from([("n".to_owned(), 2)]);
    let options = PlanOptions { symbols, ..PlanOptions::default() };
    for target in [Target::webgpu_minimum(), Target::software()] {
        drop(plan_with(&graph, &target, &options));
    }
});
