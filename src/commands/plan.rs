//! `masktas run --explain`, `--trace` and `--tune`: how our own runtime runs a model.

use std::path::PathBuf;

use masktas_runtime::plan::Precision;
use masktas_runtime::session::{Options, Session, Timed, Tried, Variant};
use masktas_runtime::{Dim, Graph, Tensor};
use serde_json::{Value, json};

use crate::console::{Answer, Console, Outcome};
use crate::table::Table;

/// Traced runs; the least time of each kernel is shown.
const TRACED: usize = 10;

/// What is asked of the plan.
#[derive(Clone, Copy)]
pub struct Shown {
    pub explain: bool,
    pub trace: bool,
    pub tune: bool,
}

impl Shown {
    pub fn any(self) -> bool {
        self.explain || self.trace || self.tune
    }
}

/// The plan of `graph`: with `trace` the times of its kernels on `image`, or on zeros; with `tune` for the
/// kernel variants that are fastest here.
pub fn show(
    graph: &Graph,
    image: Option<&Tensor>,
    adapter: Option<String>,
    precision: Precision,
    shown: Shown,
    console: &mut Console,
) -> Outcome {
    let symbols = graph.inputs.iter().flat_map(|input| &input.shape).filter_map(|dim| match dim {
        Dim::Symbol(symbol) => Some((symbol.clone(), 1)),
        Dim::Fixed(_) => None,
    });
    let options = Options { adapter, symbols: symbols.collect(), precision, ..Options::default() };
    let mut text = String::new();
    let (mut tried, mut file) = (Vec::new(), None);
    let (session, tuned) = if shown.tune {
        console.say("trying each set of kernel variants; this takes seconds");
        let cache = choices();
        let tell = |variant, how| text.push_str(&format!("{variant}: {how}\n"));
        let (session, found) = Session::load_tuned(graph, &options, cache.as_deref(), tell)?;
        let known = if found.tried.is_empty() { ", as found earlier" } else { "" };
        text.push_str(&format!("fastest: {}{known}\n", found.variant));
        text.push_str(&match &cache {
            Some(cache) if known.is_empty() => format!("kept in {}\n\n", cache.display()),
            Some(cache) => format!("kept in {}; delete that file to try anew\n\n", cache.display()),
            None => "not kept: there is no home folder; set XDG_CACHE_HOME\n\n".to_owned(),
        });
        (tried, file) = (found.tried, cache);
        (session, Some(found.variant))
    } else {
        let (session, variant) = kept(graph, &options)?;
        if let Some(variant) = variant {
            text.push_str(&format!("kernels: {variant}, as --tune found\n"));
        }
        (session, variant)
    };
    let info = session.info();
    text.push_str(&if shown.explain { info.to_string() } else { format!("{}\n", info.adapter) });
    let mut timed = Vec::new();
    if shown.trace {
        let mut inputs = Vec::new();
        for port in &info.inputs {
            let given = image.filter(|image| image.shape() == port.shape && image.dtype() == port.dtype);
            let tensor = match given {
                Some(image) => image.clone(),
                None => Tensor::zeros(port.shape.clone(), port.dtype)?,
            };
            inputs.push((port.name.as_str(), tensor));
        }
        // The first run compiles kernels.
        session.run(&inputs)?;
        timed = session.trace(&inputs)?;
        for _ in 1..TRACED {
            for (least, now) in timed.iter_mut().zip(session.trace(&inputs)?) {
                least.nanoseconds = least.nanoseconds.min(now.nanoseconds);
            }
        }
        text.push_str(&format!("\n{}", times(&timed, console)));
    }
    let dispatches: Vec<Value> = info
        .dispatches
        .iter()
        .enumerate()
        .map(|(at, dispatch)| {
            json!({
                "family": dispatch.family, "kernel": dispatch.kernel, "workgroups": dispatch.workgroups,
                "bindings": dispatch.bindings, "nodes": dispatch.nodes,
                "microseconds": timed.get(at).map(|timed| timed.nanoseconds / 1e3),
            })
        })
        .collect();
    let passes = info.passes.unwrap_or_default();
    let tried: Vec<Value> = tried.iter().map(|(variant, how)| described(*variant, how)).collect();
    let json = json!({
        "model": info.name, "adapter": info.adapter, "passes": passes, "pipelines": info.pipelines,
        "buffers": info.buffers, "bytes": info.memory.total(), "dispatches": dispatches, "variant": tuned, "tried": tried, "choices": file, "precision": info.precision,
    });
    Ok(Answer::new(text, json))
}

/// One variant of a tune: its milliseconds, or why it was not chosen.
fn described(variant: Variant, how: &Tried) -> Value {
    match how {
        Tried::Time(ms) => json!({ "variant": variant, "ms": ms }),
        other => json!({ "variant": variant, "ms": null, "why": other.to_string() }),
    }
}

/// The session with the kernel variants that an earlier tune kept, and which these are, or else with those of the adapter's class.
fn kept(graph: &Graph, options: &Options) -> masktas_runtime::Result<(Session, Option<Variant>)> {
    match choices() {
        Some(cache) => Session::load_kept(graph, options, &cache),
        None => Ok((Session::load(graph, options)?, None)),
    }
}

/// Where choices of kernel variants are kept; `None` where there is no home.
pub fn choices() -> Option<PathBuf> {
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("masktas").join("kernels.json"))
}

/// Kernels with their times, in order, and the share of each in all.
fn times(timed: &[Timed], console: &Console) -> String {
    let all: f64 = timed.iter().map(|timed| timed.nanoseconds).sum();
    let mut table = Table::new(&["us", "share", "kernel", "nodes"]);
    for one in timed {
        let share = 100.0 * one.nanoseconds / all.max(1.0);
        let first = one.nodes.first().cloned().unwrap_or_default();
        table.row(vec![
            format!("{:.1}", one.nanoseconds / 1e3).into(),
            format!("{share:.1} %").into(),
            one.family.clone().into(),
            first.into(),
        ]);
    }
    format!("{}{:.1} us in all kernels\n", table.show(console.style), all / 1e3)
}
