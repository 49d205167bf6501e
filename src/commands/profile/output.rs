//! What a profile looks like: tables for people, CSV and Markdown for files.

use std::path::Path;

use masktas_devices::{Measurement, NodeTime, Protocol, Sustained, Trace};

use crate::exit::Failure;
use crate::style::Style;
use crate::table::{Cell, Table};

/// Operations shown of one model on a terminal.
const OPERATIONS: usize = 15;

/// Refuses a place for a file that cannot be written, before anything is measured. What is there stays as it is.
pub fn writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::usage(format!(
            "{} cannot be written: there is no folder {}; make it, or write to another place",
            path.display(),
            folder.display()
        )));
    }
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; name a file", path.display())));
    }
    let there = path.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| Failure::io(path, error))?;
    if !there {
        // An empty file would look like an answer.
        std::fs::remove_file(path).map_err(|error| Failure::io(path, error))?;
    }
    Ok(())
}

/// Writes one of the forms, if it was asked for.
pub fn write(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    path.map_or(Ok(()), |path| std::fs::write(path, text).map_err(|error| Failure::io(path, error)))
}

/// Head of a table of operations.
const OPERATION: [&str; 5] = ["node of the file", "operator", "provider", "ms", "share"];

/// Rows as CSV, with quotes where they are needed.
pub fn csv(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let field = |text: &str| {
        if text.contains([',', '"', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let mut text = format!("{}\n", head.join(","));
    for row in rows {
        let fields: Vec<String> = row.iter().map(|text| field(text)).collect();
        text.push_str(&format!("{}\n", fields.join(",")));
    }
    text
}

/// Rows as a Markdown table.
pub fn markdown(head: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|name| (*name).to_owned()).collect());
    text.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| cell.text().replace('|', "\\|")).collect()));
    }
    text
}

/// The costliest operations of a model, and the sums by operator.
pub fn trace(model: &str, trace: &Trace, style: Style) -> String {
    let mut table = Table::new(&OPERATION);
    let order = costliest(trace);
    order.iter().take(OPERATIONS).cloned().for_each(|row| table.row(row));
    let sums: Vec<String> = trace
        .by_operator()
        .iter()
        .take(8)
        .map(|(op, count, ms)| format!("{op} x{count} {:.0} %", 100.0 * ms / trace.total_ms))
        .collect();
    let shown = order.len().min(OPERATIONS);
    format!(
        "{model} under {}: the {shown} costliest of {} operations; taking their times slows a run, so the sum of \
         {:.3} ms is above its latency\n{}{}\n\n",
        trace.engine,
        order.len(),
        trace.total_ms,
        table.show(style),
        sums.join(", ")
    )
}

/// All operations of a model as a Markdown table.
pub fn trace_markdown(model: &str, trace: &Trace) -> String {
    let rows = costliest(trace).into_iter();
    format!("{model} under {}\n\n{}\n", trace.engine, markdown(&OPERATION, rows))
}

/// The operations of a model as rows, the costliest first.
fn costliest(trace: &Trace) -> Vec<Vec<Cell>> {
    let mut order: Vec<_> = trace.nodes.iter().collect();
    order.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let row = |node: &NodeTime| {
        vec![
            node.node.clone().unwrap_or_else(|| format!("({})", node.name)).into(),
            node.op.as_str().into(),
            node.provider.as_str().into(),
            format!("{:.4}", node.ms).into(),
            format!("{:.1} %", 100.0 * node.share).into(),
        ]
    };
    order.into_iter().map(row).collect()
}

/// A sustained run of so many seconds, as asked, in a sentence.
pub fn sustained(model: &str, engine: &str, seconds: f64, run: &Sustained) -> String {
    let last = run.windows.last();
    let minutes = last.map_or(0.0, |window| window.at_s / 60.0);
    let hot = run.windows.iter().filter_map(|window| window.temperature_c).fold(f64::NAN, f64::max);
    let heat = if hot.is_nan() { String::new() } else { format!(", at most {hot:.0} degrees Celsius") };
    let verdict = match run.slowed {
        true => "the device slows down",
        false if minutes * 60.0 < seconds => "it was stopped early, and says nothing of the rest",
        false => "it holds out",
    };
    format!(
        "{model} under {engine} for {minutes:.1} min: {:.3} ms at first, {:.3} ms at the end ({:+.1} %){heat}: {verdict}\n\n",
        run.first_ms,
        run.last_ms,
        100.0 * (run.slowdown - 1.0)
    )
}

/// Engines and their versions, as measured.
pub fn engines<'m>(measurements: impl Iterator<Item = &'m Measurement>) -> String {
    let mut names: Vec<String> = Vec::new();
    for m in measurements {
        let name = format!("{} {} on {}", m.engine, m.engine_version, m.provider);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// Seconds that measuring so many models of about `ms` milliseconds takes at least, with loading and warm-up: the fewest
/// rounds, spread as the protocol asks.
pub fn seconds(models: usize, ms: f64, protocol: &Protocol) -> f64 {
    const LOADING_S: f64 = 0.5;
    let runs = protocol.min_rounds * protocol.runs;
    let batches: f64 = (0..models)
        .step_by(protocol.batch.max(1))
        .map(|at| {
            let loaded = 1 + protocol.batch.min(models - at);
            protocol.spread_s.max((loaded * runs) as f64 * ms / 1e3)
        })
        .sum();
    let warm_up = (protocol.min_warm_ups + 1) as f64 * ms / 1e3;
    protocol.calibration_s + batches + models as f64 * (LOADING_S + warm_up)
}

/// A time for people.
pub fn long(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}
