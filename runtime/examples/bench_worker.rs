//! The worker of `scripts/bench_runtime.py`: `bench_worker MODEL.onnx INPUT.f32`.
//!
//! Prints one JSON line about the plan, then runs the model once for every line on standard input and prints the
//! milliseconds it took. A line `answer FILE` writes the first output to a file instead, as 32-bit floats.

use std::io::{BufRead, Write};
use std::time::Instant;

use masktas_runtime::Tensor;
use masktas_runtime::session::{Options, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bench_worker MODEL.onnx INPUT.f32";
    let (model, input) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let pixels: Vec<f32> =
        std::fs::read(input)?.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();

    let start = Instant::now();
    let session = Session::load(model.as_str(), &Options::default())?;
    let info = session.info();
    let port = info.inputs.first().ok_or("a model without inputs")?;
    let inputs = [(port.name.as_str(), Tensor::f32(port.shape.clone(), pixels)?)];
    session.run(&inputs)?;
    let about = serde_json::json!({
        "adapter": info.adapter.to_string(),
        "dispatches": info.dispatches.len(),
        "pipelines": info.pipelines,
        "bytes": info.memory.total(),
        "first_answer_ms": start.elapsed().as_secs_f64() * 1e3,
    });
    let mut out = std::io::stdout();
    writeln!(out, "{about}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let start = Instant::now();
        let outputs = session.run(&inputs)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        if let Some(path) = line.strip_prefix("answer ") {
            let answer = outputs.first().and_then(|(_, tensor)| tensor.as_f32()).ok_or("no floats")?;
            std::fs::write(path, answer.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        writeln!(out, "{milliseconds}")?;
    }
    Ok(())
}
