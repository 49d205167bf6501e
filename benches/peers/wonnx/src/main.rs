//! wonnx's side of `make bench-peers`: `masktas-peer-wonnx MODEL.onnx INPUT.f32`.
//!
//! Loads the file that `scripts/plain_vit.py` spelt in what wonnx has, on the first adapter. Speaks as
//! `runtime/examples/bench_worker.rs` does: one JSON line, then one run and its milliseconds for every line on standard input.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use wonnx::Session;
use wonnx::utils::{InputTensor, OutputTensor};

/// Names in the file.
const INPUT: &str = "pixels";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: masktas-peer-wonnx MODEL.onnx INPUT.f32";
    let (model, input) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let pixels: Vec<f32> =
        std::fs::read(input)?.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    let milliseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e3;

    let start = Instant::now();
    let session = pollster::block_on(Session::from_path(model))?;
    let given: HashMap<String, InputTensor> = HashMap::from([(INPUT.to_owned(), pixels.as_slice().into())]);
    let run = || -> Result<Vec<f32>, Box<dyn Error>> {
        match pollster::block_on(session.run(&given))?.into_values().next() {
            Some(OutputTensor::F32(values)) => Ok(values),
            _ => Err("the model puts out no floats".into()),
        }
    };
    run()?;
    let about = serde_json::json!({ "first_answer_ms": milliseconds(start) });
    let mut out = std::io::stdout();
    writeln!(out, "{about}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let start = Instant::now();
        let answer = run()?;
        let taken = milliseconds(start);
        if let Some(path) = line.strip_prefix("answer ") {
            std::fs::write(path, answer.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        writeln!(out, "{taken}")?;
    }
    Ok(())
}
