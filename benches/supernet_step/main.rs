//! Images per second of one supernet training step on the CPU.
//!
//! Run by criterion, or, with `--worker LANES [--start FILE]`, step by step for another program:
//! `scripts/bench_torch.py` alternates it with PyTorch. A worker prints one line of JSON that says what it trains
//! (and writes the first weights to FILE), then reads numbers of steps, one a line, and answers each with the time
//! they took and the loss terms of the last one.

mod flops;
mod step;

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use serde_json::{Map, json};

use step::{BATCH, Step};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    match value("--worker") {
        Some(lanes) => worker(lanes.parse()?, value("--start").map(Path::new)),
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            supernet_step(&mut criterion);
            criterion.final_summary();
            Ok(())
        }
    }
}

fn supernet_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("supernet_step");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(20));
    group.throughput(Throughput::Elements(BATCH as u64));
    for lanes in [1, 2] {
        group.bench_function(format!("vit-micro/batch {BATCH}/lanes {lanes}"), |bencher| {
            let mut step = Step::new(lanes).unwrap();
            bencher.iter(|| step.run().unwrap());
        });
    }
    group.finish();
}

fn worker(lanes: usize, start: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let mut step = Step::new(lanes)?;
    if let Some(path) = start {
        step.start().save(path)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", step.describe())?;
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let mut terms = Vec::new();
        for _ in 0..steps {
            terms = step.run()?;
        }
        let wall = begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds().zip(cpu).map(|(end, start)| end - start);
        let terms: Map<_, _> =
            terms.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", json!({ "wall": wall, "cpu": cpu, "terms": terms }))?;
        out.flush()?;
    }
    Ok(())
}

/// Processor time of this process so far, in steps of 10 ms; only Linux tells it this way.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; user and system time are the 12th and 13th field after it.
    let mut fields = text.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}
