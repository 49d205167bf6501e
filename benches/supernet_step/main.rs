//! Images per second of one supernet training step.
//!
//! Run by criterion, or for another program: `scripts/bench_training.py` alternates it with PyTorch.
//!
//! | arguments | what it does |
//! | --- | --- |
//! | `--worker LANES` | prints one line of JSON that says what it trains, then reads numbers of steps, one a line, and answers each with the time they took and the loss terms of the last one |
//! | `--space NAME --batch N --precision f32\|bf16\|f16` | what the worker trains; `vit-micro`, 64, f32 unless said |
//! | `--device NAME` | on which device; the CPU unless said |
//! | `--micro-batch N` | images a lane takes at a time; 0, unless said: as many as the device likes |
//! | `--subnet slice\|own\|changing` | the worker trains one random subnet alone, as a slice of the supernet or as a net of its own; or a sandwich with another random one in every step |
//! | `--start FILE` | the worker writes its first weights, images and masks to FILE |
//! | `--products f32\|bf16 SECONDS` | prints the rate of matrix products of the step's sizes on one thread |
//! | `--precisions` | prints what the device has |

mod flops;
mod step;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use masktas_search::device;
use masktas_search::train::{Precision, Terms, keep_pages, product_rate};
use serde_json::{Map, json};

use step::{Settings, Step, Subnets};

/// Rows, columns and inner size of products of the step, each worth as much of the time.
const PRODUCTS: [[usize; 3]; 4] = [[272, 640, 160], [272, 160, 640], [1040, 512, 128], [128, 512, 1040]];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str, by: usize| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + by).map(String::as_str)
    };
    let value = |name: &str| after(name, 1);
    if arguments.iter().any(|argument| argument == "--precisions") {
        let device = device::by_name(value("--device").unwrap_or("flex"))?;
        let has = |name| (name, Precision::by_name(name, &device).is_ok());
        println!("{}", json!(BTreeMap::from(["f32", "bf16", "f16"].map(has))));
        return Ok(());
    }
    if let (Some(precision), Some(seconds)) = (value("--products"), after("--products", 2)) {
        return products(Precision::by_name(precision, &device::by_name("flex")?)?, seconds.parse()?);
    }
    let Some(lanes) = value("--worker") else {
        let mut criterion = Criterion::default().configure_from_args();
        supernet_step(&mut criterion);
        criterion.final_summary();
        return Ok(());
    };
    let subnets = match value("--subnet") {
        None => Subnets::Sandwich,
        Some("slice") => Subnets::Slice,
        Some("own") => Subnets::Own,
        Some("changing") => Subnets::Changing,
        Some(other) => return Err(format!("--subnet {other} is none of slice, own and changing").into()),
    };
    let settings = Settings {
        space: value("--space").unwrap_or("vit-micro").to_owned(),
        batch: value("--batch").map_or(Ok(64), str::parse)?,
        device: value("--device").unwrap_or("flex").to_owned(),
        precision: value("--precision").unwrap_or("f32").to_owned(),
        lanes: lanes.parse()?,
        micro_batch: value("--micro-batch").map_or(Ok(0), str::parse)?,
        subnets,
    };
    worker(&settings, value("--start").map(Path::new))
}

fn supernet_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("supernet_step");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(20));
    for lanes in [1, 2] {
        let settings = Settings { lanes, ..Settings::default() };
        group.throughput(Throughput::Elements(settings.batch as u64));
        let name = format!("{}/batch {}/lanes {lanes}", settings.space, settings.batch);
        group.bench_function(name, |bencher| {
            let mut step = Step::new(&settings).unwrap();
            bencher.iter(|| step.run().unwrap().read().unwrap());
        });
    }
    group.finish();
}

fn products(precision: Precision, seconds: f64) -> Result<(), Box<dyn Error>> {
    let each = Duration::from_secs_f64(seconds / PRODUCTS.len() as f64);
    let rates = PRODUCTS.map(|sizes| product_rate(precision, sizes, each));
    let best = rates.iter().map(|rate| rate.best).fold(0.0, f64::max);
    let mean = rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate.mean).sum::<f64>();
    println!("{}", json!({ "best": best, "mean": mean }));
    Ok(())
}

fn worker(settings: &Settings, start: Option<&Path>) -> Result<(), Box<dyn Error>> {
    keep_pages();
    let mut step = Step::new(settings)?;
    if let Some(path) = start {
        step.start()?.save(path)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", step.describe())?;
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let begun = Instant::now();
        let mut terms = None;
        for _ in 0..steps {
            terms = Some(step.run()?);
        }
        let terms = terms.map(Terms::read).transpose()?.unwrap_or_default();
        let wall = begun.elapsed().as_secs_f64();
        let terms: Map<_, _> =
            terms.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", json!({ "wall": wall, "terms": terms, "reserved": step.reserved() }))?;
        out.flush()?;
    }
    Ok(())
}
