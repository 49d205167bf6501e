//! burn's side of `make bench-peers`: `masktas-peer-burn MODEL.onnx INPUT.f32`.
//!
//! The same vision transformer, written in burn's tensor operations with the weights of an ONNX file that `write_vit` wrote,
//! on the first adapter through burn's wgpu backend with fusion and autotune. Speaks as `runtime/examples/bench_worker.rs`
//! does: one JSON line, then one run and its milliseconds for every line on standard input.

mod vit;

use std::error::Error;
use std::io::{BufRead, Write};
use std::panic::catch_unwind;
use std::time::Instant;

use burn::tensor::{Device, DeviceKind};
use masktas_runtime::onnx;

use vit::{Attention, Vit};

/// Runs before anything is timed: by then kernels are tuned, and operations are fused as they stay.
const WARM: usize = 8;
/// Runs that decide between the two spellings of attention.
const TRIED: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: masktas-peer-burn MODEL.onnx INPUT.f32";
    let (model, input) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let pixels: Vec<f32> =
        std::fs::read(input)?.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    let milliseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e3;

    let start = Instant::now();
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let vit = Vit::read(&onnx::read_file(model.as_ref())?, &device)?;
    let first = vit.run(&pixels, Attention::Composed)?;
    let first_answer = milliseconds(start);

    // burn's own operation may lack a kernel for an adapter; then it panics.
    let timed = |attention: Attention| {
        let attempt = catch_unwind(std::panic::AssertUnwindSafe(|| -> Result<f64, String> {
            for _ in 0..WARM {
                vit.run(&pixels, attention)?;
            }
            let start = Instant::now();
            for _ in 0..TRIED {
                vit.run(&pixels, attention)?;
            }
            Ok(milliseconds(start) / TRIED as f64)
        }));
        attempt.unwrap_or_else(|_| Err("a panic".into()))
    };
    let (composed, fused) = (timed(Attention::Composed)?, timed(Attention::Fused));
    let attention = match fused {
        Ok(fused) if fused < composed => Attention::Fused,
        _ => Attention::Composed,
    };
    let about = serde_json::json!({
        "adapter": device.identity().map_or_else(|| format!("{device:?}"), |identity| identity.name),
        "attention": format!("{attention:?}").to_lowercase(),
        "composed_ms": composed,
        "fused_ms": fused.ok(),
        "first_answer_ms": first_answer,
        "features": first.len(),
    });
    let mut out = std::io::stdout();
    writeln!(out, "{about}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let start = Instant::now();
        let answer = vit.run(&pixels, attention)?;
        let taken = milliseconds(start);
        if let Some(path) = line.strip_prefix("answer ") {
            std::fs::write(path, answer.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        writeln!(out, "{taken}")?;
    }
    Ok(())
}
