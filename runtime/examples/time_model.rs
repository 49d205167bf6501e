//! Times a model on an adapter: `time_model MODEL.onnx [ADAPTER] [RUNS] [--trace]`.
//!
//! Inputs are zeros; symbolic extents are one. Prints the adapter, the plan's size, load and first
//! run apart, then median and least of the runs, in milliseconds; with `--trace` also the device's
//! own time of each kernel, the least of the runs, and by family.

use std::collections::BTreeMap;
use std::time::Instant;

use masktas_runtime::session::{Options, Session};
use masktas_runtime::{Dim, Tensor, onnx};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let mut arguments = arguments.into_iter();
    let path = arguments.next().ok_or("usage: time_model MODEL.onnx [ADAPTER] [RUNS]")?;
    let adapter = arguments.next().filter(|name| !name.is_empty());
    let runs: usize = arguments.next().map_or(Ok(20), |n| n.parse())?;
    let milliseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e3;

    let start = Instant::now();
    let graph = onnx::read_file(path.as_ref())?;
    let mut symbols = BTreeMap::new();
    for dim in graph.inputs.iter().flat_map(|input| &input.shape) {
        if let Dim::Symbol(symbol) = dim {
            symbols.insert(symbol.clone(), 1);
        }
    }
    let session = Session::load(&graph, &Options { adapter, symbols, ..Options::default() })?;
    let load = milliseconds(start);
    let info = session.info();
    println!("adapter     {}", info.adapter);
    println!("dispatches  {}", info.dispatches.len());
    println!("pipelines   {}", info.pipelines);
    println!("MiB         {:.1}", info.memory.total() as f64 / f64::from(1 << 20));

    let inputs = info
        .inputs
        .iter()
        .map(|port| Ok((port.name.as_str(), Tensor::zeros(port.shape.clone(), port.dtype)?)))
        .collect::<masktas_runtime::Result<Vec<_>>>()?;
    let start = Instant::now();
    session.run(&inputs)?;
    let first = milliseconds(start);
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        session.run(&inputs)?;
        times.push(milliseconds(start));
    }
    times.sort_by(f64::total_cmp);
    println!("load        {load:.1} ms");
    println!("first run   {first:.1} ms");
    if let (Some(median), Some(least)) = (times.get(runs / 2), times.first()) {
        println!("median      {median:.2} ms of {runs} runs");
        println!("least       {least:.2} ms");
    }
    if flags.iter().any(|flag| flag == "--trace") {
        trace(&session, &inputs, runs)?;
    }
    Ok(())
}

/// Prints the least time of each kernel in microseconds, and the sum by family.
fn trace(session: &Session, inputs: &[(&str, Tensor)], runs: usize) -> masktas_runtime::Result<()> {
    let mut least = session.trace(inputs)?;
    for _ in 1..runs {
        for (least, now) in least.iter_mut().zip(session.trace(inputs)?) {
            least.nanoseconds = least.nanoseconds.min(now.nanoseconds);
        }
    }
    let mut families: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for timed in &least {
        let first = timed.nodes.first().map_or("", String::as_str);
        println!("{:10.1} us  {:10} {first}", timed.nanoseconds / 1e3, timed.family);
        let family = families.entry(&timed.family).or_default();
        *family = (family.0 + 1, family.1 + timed.nanoseconds);
    }
    for (family, (count, nanoseconds)) in families {
        println!("{:10.1} us  {count} x {family}", nanoseconds / 1e3);
    }
    Ok(())
}
