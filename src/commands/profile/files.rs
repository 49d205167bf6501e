//! `masktas profile FILE…`: single models timed on a device.

use std::ops::ControlFlow;
use std::path::Path;

use masktas_devices::{
    BenchJob, NamedModel, Outcome as Measured, ProfileJob, Protocol, Subject, TraceJob, Transport,
    profile_models,
};
use masktas_runtime::{Features, onnx};
use masktas_search::progress::Progress as _;
use serde_json::{Value, json};

use super::Options;
use super::found::Found;
use super::output;
use crate::commands::target::{measurable, reach};
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};

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
    for path in [&options.csv, &options.markdown].into_iter().flatten().filter(|_| !options.dry_run) {
        output::writable(path)?;
    }
    let models = options.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let asked = options.target.target.as_deref().unwrap_or("host");
    let connection = options.target.connection()?;
    let waiting = console.connecting(connection.as_ref().map(|connection| &connection.address));
    let (mut transport, machine) = reach(connection.as_ref(), &options.engines)?;
    drop(waiting);
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
    let csv = output::write(options.csv.as_deref(), &found.csv());
    let written = csv.and(output::write(options.markdown.as_deref(), &found.markdown()));
    let failed = found.rows.iter().any(|(_, row)| matches!(row.outcome, Measured::Failed(_)));
    let mut json = found.json();
    let unwritten = written.err().map(|failure| {
        // What was measured is shown all the same.
        console.say(&format!("the table was not written: {}", failure.error));
        failure.exit
    });
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
        None => unwritten.unwrap_or(Exit::Ok),
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
            if let Some(lost) = &now.lost {
                reporter.say(&lost.to_string());
            }
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
