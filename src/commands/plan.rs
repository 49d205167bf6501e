//! `masktas run --explain` and `--trace`: how our own runtime runs a model.

use masktas_runtime::session::{Options, Session, Timed};
use masktas_runtime::{Data, Dim, Dtype, Graph, Tensor};
use serde_json::{Value, json};

use crate::console::{Answer, Console, Outcome};
use crate::table::Table;

/// Traced runs; the least time of each kernel is shown.
const TRACED: usize = 10;

/// The plan of `graph`, and with `trace` the times of its kernels on `image`, or on zeros.
pub fn show(
    graph: &Graph,
    image: Option<&Tensor>,
    adapter: Option<String>,
    explain: bool,
    trace: bool,
    console: &Console,
) -> Outcome {
    let symbols = graph.inputs.iter().flat_map(|input| &input.shape).filter_map(|dim| match dim {
        Dim::Symbol(symbol) => Some((symbol.clone(), 1)),
        Dim::Fixed(_) => None,
    });
    let options = Options { adapter, symbols: symbols.collect(), ..Options::default() };
    let session = Session::load(graph, &options)?;
    let info = session.info();
    let mut text = if explain { info.to_string() } else { format!("{}\n", info.adapter) };
    let mut timed = Vec::new();
    if trace {
        let mut inputs = Vec::new();
        for port in &info.inputs {
            let given = image.filter(|image| image.shape() == port.shape && image.dtype() == port.dtype);
            let tensor = match given {
                Some(image) => image.clone(),
                None => zeros(port.dtype, &port.shape)?,
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
    let json = json!({
        "model": info.name, "adapter": info.adapter, "passes": passes, "pipelines": info.pipelines,
        "buffers": info.buffers, "bytes": info.memory.total(), "dispatches": dispatches,
    });
    Ok(Answer::new(text, json))
}

fn zeros(dtype: Dtype, shape: &[usize]) -> masktas_runtime::Result<Tensor> {
    let count = shape.iter().product();
    let data = match dtype {
        Dtype::F32 => Data::F32(vec![0.0; count].into()),
        Dtype::I64 => Data::I64(vec![0; count].into()),
        Dtype::I32 => Data::I32(vec![0; count].into()),
        Dtype::U8 => Data::U8(vec![0; count].into()),
        Dtype::I8 => Data::I8(vec![0; count].into()),
        Dtype::Bool => Data::Bool(vec![false; count].into()),
        other => Data::Other(other, vec![0; count * other.bytes()].into()),
    };
    Tensor::new(shape.to_vec(), data)
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
