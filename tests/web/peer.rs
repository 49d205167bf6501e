//! The page's player beside onnxruntime-web, in turn, in one browser on one adapter: prints times, and holds both to one answer.
//!
//! `MASKTAS_ORT_WEB` names the folder of onnxruntime-web's `dist`; `make bench-web` fetches it and sets it.

use std::fs;
use std::path::PathBuf;

use masktas_export::{onnx, web};
use masktas_runtime::Tolerance;
use masktas_runtime::tolerance::relative_difference;
use serde_json::Value;

use crate::chromium::{Chromium, serve};
use crate::{browser, classifier, numbers, vit};

/// What is fetched of the package: its module for WebGPU, and the program behind it.
const PARTS: [&str; 3] =
    ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"];

/// Rounds, in each of which every runtime runs once after the other.
const ROUNDS: usize = 9;

/// Loads each runtime, with the time until its first answer, and runs them in turn.
const RACE: &str = "async (rounds) => {
  const { load } = await import('/player.js');
  const ort = await import('/ort.webgpu.min.mjs');
  ort.env.wasm.numThreads = navigator.hardwareConcurrency;
  const side = (await (await fetch('/model.json')).json()).preprocess.crop;
  let state = 1;
  const input = Float32Array.from({ length: 3 * side * side }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  const shape = [1, 3, side, side];
  const ours = (software) => async () => {
    const model = await load('', { software });
    return async () => Object.values(await model.run({ [model.inputs[0].name]: input }))[0];
  };
  const theirs = (provider) => async () => {
    const session = await ort.InferenceSession.create('/model.onnx', { executionProviders: [provider] });
    return async () => {
      const answer = await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', input, shape) });
      return (await answer[session.outputNames[0]].getData()).slice();
    };
  };
  const runtimes = {
    'masktas, software kernels': ours(true),
    'masktas, gpu kernels': ours(false),
    'onnxruntime-web, webgpu': theirs('webgpu'),
    'onnxruntime-web, wasm': theirs('wasm'),
  };
  const results = [];
  const timed = async (work) => {
    const start = performance.now();
    return [await work(), performance.now() - start];
  };
  for (const [name, make] of Object.entries(runtimes)) {
    const [[run, values], first] = await timed(async () => {
      const run = await make();
      return [run, [...await run()]];
    });
    results.push({ name, first, values, run, times: [] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const one of results) one.times.push((await timed(one.run))[1]);
  }
  return results.map(({ name, first, values, times }) => ({ name, first, values, times: times.sort((a, b) => a - b) }));
}";

#[test]
fn beside_onnxruntime_web() {
    let Some(program) = browser() else { return };
    let Some(dist) = std::env::var_os("MASKTAS_ORT_WEB").filter(|name| !name.is_empty()).map(PathBuf::from)
    else {
        println!("skipped: MASKTAS_ORT_WEB names no onnxruntime-web; `make bench-web` fetches it");
        return;
    };
    for (name, arch) in [("vit-micro", vit(160, 32, 4, 8)), ("vit-tiny", vit(192, 64, 3, 12))] {
        let home = tempfile::tempdir().unwrap();
        let graph = classifier(arch, 17);
        web::write(home.path(), name, &graph).unwrap();
        fs::write(home.path().join("model.onnx"), onnx::write(&graph).unwrap()).unwrap();
        // Without the page's policy: onnxruntime-web compiles wasm.
        fs::write(home.path().join("race.html"), "<!doctype html><title>race</title>").unwrap();
        for part in PARTS {
            fs::copy(dist.join(part), home.path().join(part)).unwrap();
        }
        let mut chromium = Chromium::start(&program, &[]);
        chromium.open(&format!("{}/race.html", serve(home.path().to_owned())));
        let results = chromium.evaluate(&format!("({RACE})({ROUNDS})"));
        let results = results.as_array().unwrap();
        let median = |result: &Value| {
            let times = result["times"].as_array().unwrap();
            times[times.len() / 2].as_f64().unwrap()
        };
        let ours = median(&results[0]);
        println!("{name}, {ROUNDS} rounds");
        for result in results {
            let (ms, times) = (median(result), numbers(&result["times"]));
            println!(
                "  {:<28} median {ms:8.1} ms (min {:.1}, max {:.1}), first answer after {:.0} ms, speed {:.3} of ours",
                result["name"].as_str().unwrap(),
                times[0],
                times[times.len() - 1],
                result["first"].as_f64().unwrap(),
                ours / ms
            );
            let difference =
                relative_difference(&numbers(&results[3]["values"]), &numbers(&result["values"]));
            assert!(difference <= Tolerance::F32.pass, "{}: {difference:e}", result["name"]);
        }
    }
}
