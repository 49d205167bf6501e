//! `masktas run`: a model on images, with the preprocessing that travels in its file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use masktas_devices::{
    Bench, BenchJob, Engine, EngineOptions, Golden, Kernels, LoadOptions, Measure as _, Measurement, Parity,
    Protocol, Subject, Tensors, engine, engines, parity,
};
use masktas_export::package;
use masktas_runtime::plan::Precision;
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Dim, Graph, Interpolation, Preprocess, Tensor, Tolerance, Verdict, onnx};
use masktas_search::Error;
use masktas_search::images::{Geometry, decode_for};
use masktas_search::progress::Progress as _;
use serde_json::{Value, json};

use super::{plan, shown};
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::signal::nothing_kept;
use crate::table::Table;

/// Classes shown of each image.
const TOP: usize = 5;
/// Largest model file read, in bytes.
const MODEL_MAX: u64 = 4 << 30;
/// Most images a run of a model may want; `masktas export` writes no file that wants more.
pub const BATCH_MAX: usize = 1024;

/// Options of `masktas run`.
#[derive(Args)]
pub struct Options {
    /// The ONNX file
    model: PathBuf,
    /// JPEG, PNG or WebP files
    #[arg(required_unless_present_any = ["compare", "time", "explain", "trace", "tune"])]
    images: Vec<PathBuf>,
    /// What runs it: ort, tract, wgpu, or all; without it, the first that can be used
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Run it in every engine and judge the differences; replays the golden pair beside the model
    #[arg(long)]
    compare: bool,
    /// Time it: median, 90th percentile, spread
    #[arg(long)]
    time: bool,
    /// Show how the engine wgpu runs it: passes, dispatches, buffers, pipelines
    #[arg(long)]
    explain: bool,
    /// Show what each kernel of the engine wgpu takes, by the adapter's own clock
    #[arg(long)]
    trace: bool,
    /// Time each set of kernel variants of the engine wgpu on the model; the fastest is kept, in a
    /// file that is named, for all later runs of it
    #[arg(long)]
    tune: bool,
    /// What the engine wgpu keeps the weights of matrix products as: f32, or f16 in half the memory where the adapter has it
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Floats::F32, hide_possible_values = true)]
    precision: Floats,
    /// Threads inside one operation
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    engines: EngineArgs,
}

/// Floats that weights are kept as.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Floats {
    F32,
    F16,
}

impl Options {
    fn precision(&self) -> Precision {
        if self.precision == Floats::F16 { Precision::F16 } else { Precision::F32 }
    }

    /// What engines are started with.
    fn engine_options(&self) -> EngineOptions {
        let kernels = Kernels { precision: self.precision(), choices: plan::choices() };
        EngineOptions { kernels, ..self.engines.options() }
    }
}

/// An engine that was chosen.
struct Chosen {
    engine: Box<dyn Engine>,
    version: String,
    why: String,
}

/// What an engine made of the images.
struct Ran {
    engine: String,
    provider: String,
    remark: Option<String>,
    outputs: Vec<Tensors>,
    tolerance: Tolerance,
    timing: Option<Measurement>,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let model = read_model(&options.model)?;
    let graph = read_graph(&options.model, &model)?;
    let inputs = images(options, &graph)?;
    let shown = plan::Shown { explain: options.explain, trace: options.trace, tune: options.tune };
    if shown.any() {
        let other = options.engine.as_deref().filter(|engine| *engine != "wgpu");
        if let Some(other) = other
            .map(|engine| format!("--engine {engine}"))
            .or(options.compare.then(|| "--compare".to_owned()))
        {
            let text =
                format!("--explain, --trace and --tune are of the engine wgpu alone; leave out {other}");
            return Err(Failure::usage(text));
        }
        let left = options.time.then_some("--time").or((options.threads != 1).then_some("--threads"));
        if let Some(left) = left {
            let text =
                format!("--explain, --trace and --tune leave out {left}; give it in a command of its own");
            return Err(Failure::usage(text));
        }
        let (adapter, precision) = (options.engines.adapter.clone(), options.precision());
        return plan::show(&graph, inputs.first(), adapter, precision, shown, console);
    }
    let all = options.compare || options.engine.as_deref() == Some("all");
    if options.precision == Floats::F16 && !all && options.engine.as_deref() != Some("wgpu") {
        return Err(Failure::usage("--precision f16 is for the engine wgpu alone; add --engine wgpu"));
    }
    let chosen = choose(options, all, &options.engine_options())?;
    let mut text = String::new();
    let mut ran = Vec::new();
    for one in &chosen {
        text.push_str(&format!("{} {}: {}\n", one.engine.name(), one.version, one.why));
        let made = infer(one, &model, &graph, &inputs, options, console)?;
        if let Some(remark) = &made.remark {
            text.push_str(&format!("  {remark}\n"));
        }
        ran.push(made);
    }

    let labels = Preprocess::read_from(&graph.metadata).ok().and_then(|how| how.labels);
    let mut results = Vec::new();
    for (at, path) in options.images.iter().enumerate() {
        let output = ran.first().and_then(|ran| ran.outputs.get(at)).and_then(|outputs| outputs.first());
        let Some((name, tensor)) = output else { continue };
        let values = tensor.as_f32().unwrap_or_default();
        text.push_str(&format!("\n{}\n", path.display()));
        let result = match &labels {
            Some(labels) => classes(values, labels, &mut text),
            None => features(name, values, &mut text),
        };
        results.push(json!({ "image": path, "result": result }));
    }

    let mut exit = Exit::Ok;
    let mut compared = Value::Null;
    if options.compare {
        let (parity, what) = compare(options, &model, &chosen, &ran)?;
        text.push_str(&format!("\n{what}\n{}", shown::parity(&parity, console.style)));
        exit = if parity.verdict == Verdict::Fail { Exit::Check } else { Exit::Ok };
        compared = serde_json::to_value(&parity).unwrap_or(Value::Null);
    }
    let timings: Vec<&Measurement> = ran.iter().filter_map(|ran| ran.timing.as_ref()).collect();
    if !timings.is_empty() {
        text.push_str(&format!("\n{}", shown::timings(&timings, console.style)));
    }
    let used: Vec<Value> = chosen
        .iter()
        .zip(&ran)
        .map(|(one, ran)| {
            json!({ "engine": ran.engine, "version": one.version, "provider": ran.provider, "remark": ran.remark, "why": one.why })
        })
        .collect();
    let json = json!({
        "model": options.model, "engines": used, "results": results, "parity": compared, "timings": timings,
    });
    Ok(Answer { exit, ..Answer::new(text, json) })
}

/// The bytes of the model that the command line names.
pub fn read_model(path: &Path) -> Result<Vec<u8>, Failure> {
    let length = std::fs::metadata(path).map_err(|error| Failure::given(path, error))?.len();
    if length > MODEL_MAX {
        let text =
            format!("{} has {length} bytes, at most {MODEL_MAX} are read; give an ONNX file", path.display());
        return Err(Failure::failed(text));
    }
    std::fs::read(path).map_err(|error| Failure::io(path, error))
}

/// The graph of a model's bytes; what is wrong with them is said with the file's name.
pub fn read_graph(path: &Path, model: &[u8]) -> Result<Graph, Failure> {
    Ok(onnx::read(model).map_err(|error| error.in_file(path))?)
}

/// The images as the model wants them.
fn images(options: &Options, graph: &Graph) -> Result<Vec<Tensor>, Failure> {
    if options.images.is_empty() {
        return Ok(Vec::new());
    }
    let how = Preprocess::read_from(&graph.metadata)?;
    if how.interpolation != Interpolation::Lanczos3 {
        return Err(Failure::failed(format!(
            "{} wants {} resizing, which is not supported here (lanczos3 is); export it with masktas",
            options.model.display(),
            how.interpolation
        )));
    }
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let geometry = Geometry { resize: side(how.resize), crop: side(how.crop) };
    let image = |path: &PathBuf| -> Result<Tensor, Failure> {
        // One that is not there is the command line's fault, one that cannot be decoded its own.
        std::fs::metadata(path).map_err(|error| Failure::given(path, error))?;
        Ok(how.apply(&decode_for(path, geometry)?)?)
    };
    options.images.iter().map(image).collect()
}

/// The engines that are asked for, or the first that can be used, and why.
fn choose(options: &Options, all: bool, how: &EngineOptions) -> Result<Vec<Chosen>, Failure> {
    let start = |name: &str, why: String| -> Result<Chosen, Failure> {
        let engine = engine(name, how)?;
        engine.check()?;
        let version = engine.version()?;
        Ok(Chosen { engine, version, why })
    };
    match options.engine.as_deref() {
        Some(name) if name != "all" && !options.compare => {
            Ok(vec![start(name, format!("asked for by --engine {name}"))?])
        }
        _ if all => engines().into_iter().map(|name| start(name, "all engines".to_owned())).collect(),
        _ => {
            let mut missing: Vec<String> = Vec::new();
            for name in engines() {
                let why = match missing.as_slice() {
                    [] => "the first engine; --engine chooses another".to_owned(),
                    missing => format!("the first that can be used ({})", missing.join("; ")),
                };
                match start(name, why) {
                    Ok(chosen) => return Ok(vec![chosen]),
                    Err(failure) => missing.push(format!("not {name}: {}", failure.error)),
                }
            }
            let missing = missing.join("; ");
            Err(Failure::failed(format!("no engine can be used: {missing}; see `masktas doctor`")))
        }
    }
}

fn infer(
    chosen: &Chosen,
    model: &[u8],
    graph: &Graph,
    inputs: &[Tensor],
    options: &Options,
    console: &mut Console,
) -> Result<Ran, Failure> {
    let engine = chosen.engine.as_ref();
    let mut shapes = shapes(graph);
    let batch = shapes.first().and_then(|(_, shape)| shape.first()).map_or(1, |extent| (*extent).max(1));
    if batch > BATCH_MAX && !inputs.is_empty() {
        return Err(Failure::failed(format!(
            "{} wants {batch} images a run, at most {BATCH_MAX} are given; export it with a smaller --batch",
            options.model.display()
        )));
    }
    if let (Some((_, shape)), Some(image)) = (shapes.first_mut(), inputs.first()) {
        *shape = batched(image.shape(), batch);
    }
    let load = LoadOptions { threads: options.threads, shapes: shapes.clone(), ..LoadOptions::default() };
    let mut loaded = engine.load(model, &load)?;
    let name = loaded.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
    let mut outputs = Vec::with_capacity(inputs.len());
    for group in inputs.chunks(batch) {
        if console.reporter.stop() {
            return Err(nothing_kept(Error::Interrupted));
        }
        let answers = loaded.run(&[(name.clone(), stacked(group, batch)?)])?;
        outputs.extend(apart(answers, batch, group.len())?);
    }
    let provider = loaded.provider_used().to_owned();
    let remark = loaded.remark().map(str::to_owned);
    let tolerance = loaded.tolerance();
    let timing = if options.time { Some(time(engine, model, shapes, options, console)?) } else { None };
    Ok(Ran { engine: engine.name().to_owned(), provider, remark, outputs, tolerance, timing })
}

/// Shapes of the model's inputs, with 1 for each extent that is known only when it is run.
fn shapes(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Symbol(_) => 1,
    };
    graph
        .inputs
        .iter()
        .map(|input| (input.name.clone(), input.shape.iter().map(extent).collect::<Vec<usize>>()))
        .collect()
}

/// One image's shape with another number of images in front.
fn batched(image: &[usize], batch: usize) -> Vec<usize> {
    let mut shape = image.to_vec();
    if let Some(first) = shape.first_mut() {
        *first = batch;
    }
    shape
}

/// At most `batch` images, each `[1, ...]`, as one input of `batch` images: the last one is repeated.
fn stacked(group: &[Tensor], batch: usize) -> Result<Tensor, Failure> {
    let shape = group.first().map(|image| batched(image.shape(), batch)).unwrap_or_default();
    let mut values: Vec<f32> = Vec::new();
    for image in group.iter().chain(group.last().into_iter().cycle()).take(batch) {
        values.extend_from_slice(image.as_f32().unwrap_or_default());
    }
    Ok(Tensor::f32(shape, values)?)
}

/// The answers to a batch, image by image; those beyond the first `count` images are dropped.
fn apart(answers: Tensors, batch: usize, count: usize) -> Result<Vec<Tensors>, Failure> {
    if batch == 1 {
        return Ok(vec![answers]);
    }
    let mut rows: Vec<Tensors> = vec![Tensors::new(); count];
    for (name, tensor) in &answers {
        let (Some(values), true) = (tensor.as_f32(), tensor.shape().first() == Some(&batch)) else {
            return Err(Failure::failed(format!(
                "output `{name}` is {:?} {:?} for {batch} images, and floats image by image are wanted; export the \
                 model with masktas",
                tensor.dtype(),
                tensor.shape()
            )));
        };
        let shape = batched(tensor.shape(), 1);
        let each = (values.len() / batch).max(1);
        for (row, part) in rows.iter_mut().zip(values.chunks(each)) {
            row.push((name.clone(), Tensor::f32(shape.clone(), part)?));
        }
    }
    Ok(rows)
}

/// Times the model by the usual protocol, with itself as the reference network; a run is of as many images as `shapes`
/// say.
fn time(
    engine: &dyn Engine,
    model: &[u8],
    shapes: Vec<(String, Vec<usize>)>,
    options: &Options,
    console: &mut Console,
) -> Result<Measurement, Failure> {
    let how = options.engine_options();
    let isolated = how.worker.is_some();
    let protocol = Protocol { threads: options.threads, isolated, ..Protocol::default() };
    let (name, most) = (format!("timing in {}", engine.name()), protocol.max_rounds as u64);
    console.reporter.begin(&name, most, "round");
    let job = BenchJob { gate: None, shapes, ..BenchJob::new(engine.name(), &protocol) };
    let mut bench = Bench::new(&job, model, &how)?;
    let subject = Subject { id: "model", bytes: model, golden: None };
    let reporter = &mut console.reporter;
    let measured = bench.measure(&[subject], None, &mut |rounds| {
        reporter.advance(rounds as u64, "");
        if reporter.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    console.reporter.end("");
    match measured.and_then(|rows| rows.into_iter().next()) {
        Some(row) => Ok(row?),
        None => Err(nothing_kept(Error::Interrupted)),
    }
}

/// The golden pair in every engine; without one, every engine against the first.
fn compare(
    options: &Options,
    model: &[u8],
    chosen: &[Chosen],
    ran: &[Ran],
) -> Result<(Parity, String), Failure> {
    let path = package::golden_path(&options.model);
    if path.exists() {
        let golden = package::Golden::load(&path)?;
        golden.check_model(model)?;
        let golden = Golden {
            inputs: vec![(golden.input_name, golden.input)],
            outputs: vec![(golden.output_name, golden.output)],
        };
        let how = options.engine_options();
        let engines: Vec<Box<dyn Engine>> =
            engines().into_iter().map(|name| engine(name, &how)).collect::<Result<_, _>>()?;
        return Ok((parity(model, &golden, &engines), format!("golden pair {}", path.display())));
    }
    let (Some(first), false) = (ran.first(), options.images.is_empty()) else {
        let text = format!("there is no golden pair {}; name some images to compare on", path.display());
        return Err(Failure::usage(text));
    };
    let rows: Vec<masktas_devices::ParityRow> = chosen
        .iter()
        .zip(ran)
        .map(|(one, ran)| {
            let difference = largest(&first.outputs, &ran.outputs);
            masktas_devices::ParityRow {
                engine: ran.engine.clone(),
                version: Some(one.version.clone()),
                provider: Some(ran.provider.clone()),
                difference: difference.is_finite().then_some(difference),
                tolerance: ran.tolerance,
                verdict: ran.tolerance.judge(difference),
                error: None,
            }
        })
        .collect();
    let verdict = rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Fail);
    Ok((Parity { rows, verdict }, format!("differences to {}", first.engine)))
}

/// Largest relative difference over all outputs of all images.
fn largest(reference: &[Tensors], other: &[Tensors]) -> f64 {
    let mut worst = 0.0f64;
    for ((_, a), (_, b)) in reference.iter().flatten().zip(other.iter().flatten()) {
        let difference = relative_difference(a.as_f32().unwrap_or_default(), b.as_f32().unwrap_or_default());
        worst = if difference.is_nan() { f64::NAN } else { worst.max(difference) };
    }
    worst
}

/// The most probable classes.
fn classes(logits: &[f32], labels: &[String], text: &mut String) -> Value {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let mut table = Table::new(&["class", "probability"]);
    let mut found = Vec::new();
    for at in order.into_iter().take(TOP) {
        let name = labels.get(at).map_or_else(|| format!("class {at}"), Clone::clone);
        let probability = f64::from(logits[at] - top).exp() / sum;
        table.row(vec![name.clone().into(), format!("{:.1} %", 100.0 * probability).into()]);
        found.push(json!({ "class": name, "probability": probability }));
    }
    text.push_str(&table.show(crate::style::Style::PLAIN));
    json!({ "classes": found })
}

/// A summary of a feature vector; the whole of it is in the JSON.
fn features(name: &str, values: &[f32], text: &mut String) -> Value {
    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
    let strongest: Vec<String> =
        order.into_iter().take(TOP).map(|at| format!("[{at}] {:+.3}", values[at])).collect();
    text.push_str(&format!(
        "{name}: {} numbers, length {norm:.3}; strongest {}\n",
        values.len(),
        strongest.join("  ")
    ));
    json!({ "output": name, "length": norm, "features": values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_filled_up_and_the_filling_is_dropped() {
        let image = |value: f32| Tensor::f32([1, 2], vec![value, -value]).expect("it fits");
        let group = stacked(&[image(1.0), image(2.0)], 3).expect("images of one shape");
        let filled = Tensor::f32([3, 2], vec![1.0, -1.0, 2.0, -2.0, 2.0, -2.0]).expect("it fits");
        assert_eq!(group, filled);
        let rows = apart(vec![("y".to_owned(), group)], 3, 2).expect("one row an image");
        assert_eq!(rows, [vec![("y".to_owned(), image(1.0))], vec![("y".to_owned(), image(2.0))]]);
        assert!(apart(vec![("y".to_owned(), filled)], 2, 2).is_err());
    }
}
