//! Where a model's time goes: what each operation takes, tied to the nodes of the ONNX file.

use serde::{Deserialize, Serialize};

use crate::engine::{EngineOptions, LoadOptions, NodeRuns, engine};
use crate::error::Result;
use crate::measure::synthetic_inputs;
use crate::stats;
use crate::worker::{Worker, model_file};

/// Runs that are not counted.
const WARM_UPS: usize = 3;

/// What to trace, as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceJob {
    /// Engine by name.
    pub engine: String,
    /// Execution provider; `None`: the engine's own.
    pub provider: Option<String>,
    /// Shapes of inputs with symbolic extents.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Threads inside one operation.
    pub threads: usize,
    /// Runs that are counted.
    pub runs: usize,
}

impl TraceJob {
    /// `engine` on one thread, 20 runs.
    pub fn new(engine: &str) -> Self {
        Self { engine: engine.to_owned(), provider: None, shapes: Vec::new(), threads: 1, runs: 20 }
    }
}

/// One operation of an engine's own graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTime {
    /// Its name in the engine.
    pub name: String,
    /// The node of the ONNX file it comes from. An engine that joins several nodes keeps the name of one. `None`: the engine
    /// made it up, such as a change of layout.
    pub node: Option<String>,
    /// Its operator in the engine.
    pub op: String,
    /// Provider that ran it.
    pub provider: String,
    /// Median over the runs, in milliseconds.
    pub ms: f64,
    /// Part of the sum over all operations.
    pub share: f64,
}

/// What every operation takes. Taking each one's time makes a run slower, so the sum is above the model's latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Engine.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Threads inside one operation.
    pub threads: usize,
    /// Runs that were counted.
    pub runs: usize,
    /// Sum of the operations' medians, in milliseconds.
    pub total_ms: f64,
    /// The operations, in the order they run.
    pub nodes: Vec<NodeTime>,
}

impl Trace {
    /// Milliseconds and count by operator, the costliest first.
    pub fn by_operator(&self) -> Vec<(String, usize, f64)> {
        let mut sums: Vec<(String, usize, f64)> = Vec::new();
        for node in &self.nodes {
            match sums.iter_mut().find(|(op, _, _)| *op == node.op) {
                Some((_, count, ms)) => {
                    *count += 1;
                    *ms += node.ms;
                }
                None => sums.push((node.op.clone(), 1, node.ms)),
            }
        }
        sums.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        sums
    }
}

/// Traces a model (the bytes of an ONNX file) on this machine, in a process of its own where `options` say how to start one.
///
/// # Errors
/// [`crate::Error::NotSupported`] for an engine that cannot tell; what loading and running give.
pub fn trace(job: &TraceJob, model: &[u8], options: &EngineOptions) -> Result<Trace> {
    let Some(command) = &options.worker else { return trace_here(job, model, options) };
    let file = model_file(model)?;
    Worker::start("traced", command)?.trace(file.path(), job, options)
}

/// As [`trace`], in this process.
pub(crate) fn trace_here(job: &TraceJob, model: &[u8], options: &EngineOptions) -> Result<Trace> {
    let engine = engine(&job.engine, options)?;
    let load = LoadOptions {
        threads: job.threads,
        provider: job.provider.clone(),
        shapes: job.shapes.clone(),
        trace: true,
        ..LoadOptions::default()
    };
    let mut loaded = engine.load(model, &load)?;
    let inputs = synthetic_inputs(loaded.as_ref())?;
    for _ in 0..WARM_UPS + job.runs.max(1) {
        loaded.run(&inputs)?;
    }
    let runs = loaded.node_runs()?;
    let names = masktas_runtime::onnx::node_names(model)?;
    let nodes: Vec<NodeTime> = runs.into_iter().map(|runs| node_time(runs, &names)).collect();
    let total_ms: f64 = nodes.iter().map(|node| node.ms).sum();
    let nodes = nodes.into_iter().map(|node| NodeTime { share: node.ms / total_ms, ..node }).collect();
    Ok(Trace {
        engine: job.engine.clone(),
        engine_version: engine.version()?,
        threads: job.threads,
        runs: job.runs.max(1),
        total_ms,
        nodes,
    })
}

fn node_time(runs: NodeRuns, names: &[String]) -> NodeTime {
    let counted = runs.ms.get(WARM_UPS..).filter(|counted| !counted.is_empty()).unwrap_or(&runs.ms);
    let ms = stats::median(counted).unwrap_or(0.0);
    let node = tie(&runs.name, names);
    NodeTime { node, name: runs.name, op: runs.op, provider: runs.provider, ms, share: 0.0 }
}

/// The node that an engine's name comes from: the longest of the file's names that it begins with, up to a place where an
/// engine puts something of its own.
fn tie(name: &str, names: &[String]) -> Option<String> {
    let ends = |rest: &str| rest.chars().next().is_none_or(|c| "/._-#:".contains(c));
    let fits = |known: &&String| !known.is_empty() && name.strip_prefix(known.as_str()).is_some_and(ends);
    names.iter().filter(fits).max_by_key(|known| known.len()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tied_to_the_files_own() {
        let names: Vec<String> =
            ["blocks.1", "blocks.1.norm1", "blocks.10.norm1", "", "head"].map(str::to_owned).to_vec();
        let tied = |name| tie(name, &names);
        assert_eq!(tied("blocks.1.norm1").as_deref(), Some("blocks.1.norm1"));
        assert_eq!(tied("blocks.1.norm1/MatMulAddFusion").as_deref(), Some("blocks.1.norm1"));
        assert_eq!(tied("blocks.1.other").as_deref(), Some("blocks.1"));
        assert_eq!(tied("blocks.10.norm1_token_0").as_deref(), Some("blocks.10.norm1"));
        assert_eq!(tied("heading"), None);
        assert_eq!(tied("reorder_input"), None);
    }

    #[test]
    fn operators_are_summed() {
        let node = |op: &str, ms| NodeTime {
            name: "n".into(),
            node: None,
            op: op.into(),
            provider: "p".into(),
            ms,
            share: 0.0,
        };
        let trace = Trace {
            engine: "e".into(),
            engine_version: "1".into(),
            threads: 1,
            runs: 1,
            total_ms: 6.0,
            nodes: vec![node("Add", 1.0), node("MatMul", 4.0), node("Add", 1.0)],
        };
        assert_eq!(trace.by_operator(), [("MatMul".into(), 1, 4.0), ("Add".into(), 2, 2.0)]);
    }
}
