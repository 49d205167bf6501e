//! `masktas profile FILE…`: single models timed on a device.

use std::ops::ControlFlow;
use std::path::Path;

use masktas_devices::{
    BenchJob, Fingerprint, Measurement, NamedModel, Outcome as Measured, ProfileJob, Protocol, Row,
    Steadiness, Subject, Sustained, Trace, TraceJob, Transport, profile_models,
};
use masktas_runtime::{Features, onnx};
use masktas_search::progress::Progress as _;
use serde_json::{Value, json};

use super::Options;
use super::output::{self, Output};
use crate::commands::target::{measurable, reach};
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::style::{Paint, Style};
use crate::table::{Cell, Table, bytes};

/// Largest file that is read, in bytes.
const MODEL_MAX: u64 = 4 << 30;
/// Engines asked when nobody names one.
const ENGINES: [&str; 1] = ["ort"];

/// A model file.
struct Model {
    name: String,
    bytes: Vec<u8>,
    /// Empty where the file has operators that cannot be counted.
    features: Features,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let models = options.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let asked = options.target.target.as_deref().unwrap_or("host");
    let connection = options.target.connection()?;
    let (mut transport, machine) = reach(connection.as_ref(), &options.engines)?;
    let device = options.target.device(asked, connection.as_ref().map(|_| &machine), console)?;
    measurable(&device, connection.as_ref())?;
    let names: Vec<&str> = match options.engine.as_slice() {
        [] => ENGINES.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    if options.per_op && names.contains(&"wgpu") {
        return Err(Failure::usage(
            "--per-op is not supported for engine wgpu, which does not tell the times of its operations; use --engine ort or tract",
        ));
    }
    let isolated = connection.is_some() || options.engines.options().worker.is_some();
    let protocol = Protocol { threads: options.run_threads, isolated, ..Protocol::default() };
    if options.dry_run {
        return Ok(dry_run(&models, &names, &protocol));
    }
    let mut found = Found {
        device,
        machine,
        rows: Vec::new(),
        traces: Vec::new(),
        sustained: Vec::new(),
        seconds: options.sustained.unwrap_or(0.0),
    };
    let mut cut = None;
    for engine in names {
        let done = measure(&models, engine, &protocol, options, transport.as_mut(), &mut found, console);
        if let Err(failure) = done {
            cut = Some(failure);
            break;
        }
    }
    if let Some(failure) = cut.take_if(|_| found.rows.is_empty()) {
        return Err(failure);
    }
    let text = found.text(console.style);
    let output = Output { csv: found.csv(), markdown: found.markdown() };
    output::write(&output, options.csv.as_deref(), options.markdown.as_deref())?;
    let failed = found.rows.iter().any(|(_, row)| matches!(row.outcome, Measured::Failed(_)));
    let mut json = found.json();
    let exit = match cut {
        Some(failure) => {
            // What was measured before is no worse for it.
            console.say(&format!("not all was measured: {}", failure.error));
            if let Value::Object(keys) = &mut json {
                keys.insert("cut_off".to_owned(), failure.error.to_string().into());
            }
            failure.exit
        }
        None if failed => Exit::Failure,
        None => Exit::Ok,
    };
    Ok(Answer { exit, ..Answer::new(text, json) })
}

fn read(path: &Path) -> Result<Model, Failure> {
    let length = std::fs::metadata(path).map_err(|error| Failure::given(path, error))?.len();
    if length > MODEL_MAX {
        return Err(Failure::usage(format!(
            "{} has {length} bytes and at most {MODEL_MAX} are read; give a smaller model",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| Failure::given(path, error))?;
    onnx::admit(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let nothing = Features { version: 0, names: Vec::new(), units: Vec::new(), values: Vec::new() };
    let features = onnx::read(&bytes).and_then(|graph| graph.features()).unwrap_or(nothing);
    Ok(Model { name: path.display().to_string(), bytes, features })
}

/// What would be done, and for how long.
fn dry_run(models: &[Model], engines: &[&str], protocol: &Protocol) -> Answer {
    // Nothing is known of what they take.
    let seconds = output::seconds(models.len(), 0.0, protocol) * engines.len() as f64;
    let text = format!(
        "{} models under {}: at least {}, more where a run takes long; nothing was done, leave --dry-run out to measure\n",
        models.len(),
        engines.join(", "),
        output::long(seconds)
    );
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    Answer::new(text, json!({ "models": names, "engines": engines, "seconds": seconds }))
}

fn measure(
    models: &[Model],
    engine: &str,
    protocol: &Protocol,
    options: &Options,
    transport: &mut dyn Transport,
    found: &mut Found,
    console: &mut Console,
) -> Result<(), Failure> {
    // An engine without the other cannot be held against it.
    let gate = transport.engines()?.iter().any(|state| state.name == "ort" && state.version.is_some());
    let gate = if gate { "ort" } else { engine };
    let bench = BenchJob {
        provider: options.provider.clone().filter(|_| engine == "ort"),
        gate: Some(gate.to_owned()),
        ..BenchJob::new(engine, protocol)
    };
    let named: Vec<NamedModel<'_>> = models
        .iter()
        .map(|model| NamedModel::lazy(&model.name, model.features.clone(), || Ok(model.bytes.clone())))
        .collect();
    // The smallest of them is the yardstick.
    let smallest = models.iter().min_by_key(|model| model.bytes.len());
    let Some(reference) = smallest else {
        return Err(Failure::usage("no model was named; name an ONNX file"));
    };
    let job = ProfileJob::new(&named, &reference.bytes, bench.clone());
    console.reporter.begin(&format!("timing under {engine}"), models.len() as u64, "model");
    let (reporter, rows) = (&mut console.reporter, &mut found.rows);
    let done = profile_models(
        transport,
        &job,
        &mut |now| {
            reporter.advance(now.done as u64, &format!("round {}", now.rounds));
            if reporter.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |mut row| {
            if let Measured::Measured(m) = row.outcome {
                row.outcome = Measured::Measured(Box::new(m.standing_alone(protocol)));
            }
            rows.push((engine.to_owned(), row));
            Ok(())
        },
    );
    console.reporter.end("");
    interrupted(done)?;
    for model in models {
        if options.per_op {
            let job = TraceJob {
                provider: bench.provider.clone(),
                threads: protocol.threads,
                ..TraceJob::new(engine)
            };
            found.traces.push((model.name.clone(), transport.trace(&model.bytes, &job)?));
        }
        if let Some(seconds) = options.sustained {
            let phase = format!("{} under {engine}, without a pause", model.name);
            console.reporter.begin(&phase, seconds as u64, "second");
            let subject = Subject { id: &model.name, bytes: &model.bytes, golden: None };
            let reporter = &mut console.reporter;
            let run = transport.sustain(&subject, &bench, seconds, &mut |window| {
                reporter.advance(window.at_s as u64, &format!("{:.2} ms", window.median_ms));
                if reporter.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            console.reporter.end("");
            let run = interrupted(run)?;
            let whole = run.windows.last().is_some_and(|window| window.at_s >= seconds);
            found.sustained.push((model.name.clone(), engine.to_owned(), run));
            if !whole {
                return interrupted(Err(masktas_devices::Error::Interrupted { done: 0, total: 1 }));
            }
        }
    }
    Ok(())
}

fn interrupted<T>(result: masktas_devices::Result<T>) -> Result<T, Failure> {
    match result {
        Err(masktas_devices::Error::Interrupted { .. }) => {
            let error = "interrupted; give the command again for what is missing".into();
            Err(Failure { exit: Exit::Interrupted, error })
        }
        other => Ok(other?),
    }
}

/// What was measured.
struct Found {
    device: String,
    machine: Fingerprint,
    /// Engine and row.
    rows: Vec<(String, Row)>,
    /// Model and its operations.
    traces: Vec<(String, Trace)>,
    /// Model, engine and its minutes.
    sustained: Vec<(String, String, Sustained)>,
    /// Seconds that each of those was to take.
    seconds: f64,
}

/// Head of the Markdown and, with underscores, of the CSV. `ms` is the paired value, the columns from `median` to `MAD` are of
/// the raw runs.
const HEAD: [&str; 16] = [
    "model",
    "engine",
    "ms",
    "+-",
    "median",
    "p90",
    "p95",
    "p99",
    "min",
    "MAD",
    "runs",
    "load ms",
    "first ms",
    "peak memory",
    "mJ",
    "verdict",
];

/// The columns that a terminal shows; energy where there is any.
const SHOWN: [&str; 11] =
    ["model", "engine", "ms", "+-", "p90", "p99", "load ms", "first ms", "peak memory", "mJ", "verdict"];

impl Found {
    fn cells(&self, engine: &str, row: &Row, style: bool) -> Vec<Cell> {
        let m = match &row.outcome {
            Measured::Measured(m) => m,
            Measured::Imported { .. } | Measured::Failed(_) => {
                let mut cells: Vec<Cell> = vec![row.id.as_str().into(), engine.into()];
                cells.extend((2..HEAD.len() - 1).map(|_| Cell::from("-")));
                cells.push(Cell::painted("failed", Paint::Bad));
                return cells;
            }
        };
        let ms = |value: f64| Cell::from(format!("{value:.3}"));
        let paint = if m.verdict == Steadiness::Steady { Paint::Good } else { Paint::Warn };
        let memory = match (m.peak_bytes, style) {
            (Some(peak), true) => bytes(peak),
            (Some(peak), false) => peak.to_string(),
            (None, _) => "-".to_owned(),
        };
        vec![
            row.id.as_str().into(),
            engine.into(),
            ms(m.ms),
            format!("{:.1} %", 100.0 * m.half_width).into(),
            ms(m.median_ms),
            ms(m.p90_ms),
            ms(m.p95_ms),
            ms(m.p99_ms),
            ms(m.min_ms),
            ms(m.mad_ms),
            m.n.to_string().into(),
            format!("{:.1}", m.cold_load_ms).into(),
            format!("{:.2}", m.first_run_ms).into(),
            memory.into(),
            m.energy.as_ref().map_or_else(|| "-".to_owned(), |e| format!("{:.2}", e.millijoules)).into(),
            Cell::painted(m.verdict.to_string(), paint),
        ]
    }

    fn text(&self, style: Style) -> String {
        let energy = self.measurements().any(|m| m.energy.is_some());
        let shown = |name: &&str| SHOWN.contains(name) && (energy || *name != "mJ");
        let mut table = Table::new(&HEAD.iter().copied().filter(shown).collect::<Vec<_>>());
        let mut notes = String::new();
        for (engine, row) in &self.rows {
            let cells = self.cells(engine, row, true).into_iter().zip(&HEAD);
            table.row(cells.filter(|(_, name)| shown(name)).map(|(cell, _)| cell).collect());
            match &row.outcome {
                Measured::Measured(m) => {
                    notes.extend(m.notes.iter().map(|note| format!("{} under {engine}: {note}\n", row.id)));
                }
                Measured::Failed(why) => notes.push_str(&format!("{} under {engine}: {why}\n", row.id)),
                Measured::Imported { .. } => {}
            }
        }
        let mut text = format!("{}{notes}\n", table.show(style));
        for (model, trace) in &self.traces {
            text.push_str(&output::trace(model, trace, style));
        }
        for (model, engine, run) in &self.sustained {
            text.push_str(&output::sustained(model, engine, self.seconds, run));
        }
        text.push_str(&format!("{}: {}\n", self.device, self.machine.line()));
        let threads = self.measurements().next().map_or(1, |m| m.threads);
        let engines = output::engines(self.measurements());
        let plural = if threads == 1 { "" } else { "s" };
        text.push_str(
            "ms: paired with a reference network, over all rounds; +-: half of its 95 % interval; p90, p99: of single runs\n",
        );
        text.push_str(&format!("batch as exported, {threads} thread{plural}, no spinning, {engines}\n"));
        text
    }

    fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.rows.iter().filter_map(|(_, row)| row.measurement())
    }

    fn csv(&self) -> String {
        let rows = self.rows.iter().map(|(engine, row)| self.cells(engine, row, false));
        output::csv(&HEAD, rows)
    }

    fn markdown(&self) -> String {
        let rows = self.rows.iter().map(|(engine, row)| self.cells(engine, row, true));
        let foot = format!("{}: {}", self.device, self.machine.line());
        format!("{}\n{foot}\n", output::markdown(&HEAD, rows))
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(engine, row)| {
                let outcome = serde_json::to_value(&row.outcome).unwrap_or(Value::Null);
                json!({ "model": row.id, "engine": engine, "outcome": outcome })
            })
            .collect();
        json!({
            "device": self.device,
            "machine": serde_json::to_value(&self.machine).unwrap_or(Value::Null),
            "rows": rows,
            "operations": serde_json::to_value(&self.traces).unwrap_or(Value::Null),
            "sustained": serde_json::to_value(&self.sustained).unwrap_or(Value::Null),
        })
    }
}
