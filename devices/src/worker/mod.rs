//! A process of its own for each measured model.
//!
//! A model that crashes, takes all memory or never comes back ends its worker, and with it one row; the process that
//! measures goes on. [`Worker`] is the parent's side, [`serve`] the child's. They speak in lines of JSON over pipes; the child
//! reads the clock around each run itself, so the pipes cost no measured time.

mod limits;
mod serve;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{EngineOptions, Kernels};
use crate::error::{Error, Result};
use crate::measure::{BenchJob, Facts, Golden, RunTime};
use crate::parity::ParityRow;
use crate::process::Process;
use crate::trace::{Trace, TraceJob};
use crate::wire::{Heard, Lines, WireTensor, send, to_wire};

pub use serve::serve;

/// The argument that makes a program of the house a worker.
pub const ARGUMENT: &str = "run-one-model";

/// How a worker process is started, and what one may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// Program.
    pub program: PathBuf,
    /// Arguments that make it call [`serve`].
    pub args: Vec<String>,
    /// What each worker may take.
    pub limits: Limits,
}

/// What one measured model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory that the process may allocate, in bytes; `None`: as much as the system gives.
    pub memory_bytes: Option<u64>,
    /// Seconds for loading, the gate and warm-up together.
    pub load_s: u64,
    /// Seconds for the runs of one round.
    pub round_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: None, load_s: 600, round_s: 300 }
    }
}

/// What a worker is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Load(Box<LoadOrder>),
    Run {
        count: usize,
    },
    Trace {
        model: PathBuf,
        job: TraceJob,
        ort_lib: Option<PathBuf>,
        adapter: Option<String>,
        kernels: Kernels,
        memory_bytes: Option<u64>,
    },
    Replay(Box<ReplayOrder>),
}

#[derive(Serialize, Deserialize)]
struct ReplayOrder {
    model: PathBuf,
    inputs: Vec<WireTensor>,
    outputs: Vec<WireTensor>,
    engine: String,
    ort_lib: Option<PathBuf>,
    adapter: Option<String>,
    kernels: Kernels,
    memory_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct LoadOrder {
    id: String,
    model: PathBuf,
    golden: Option<(Vec<WireTensor>, Vec<WireTensor>)>,
    job: BenchJob,
    ort_lib: Option<PathBuf>,
    adapter: Option<String>,
    kernels: Kernels,
    memory_bytes: Option<u64>,
}

/// What a worker answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Loaded(Box<Facts>),
    Ran(Vec<RunTime>),
    Traced(Box<Trace>),
    Replayed(Box<ParityRow>),
    /// The model or the engine failed, in the words of the error.
    Failed {
        error: String,
        given: bool,
    },
}

/// A model's bytes as a file that a worker can read; gone when it is dropped.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn model_file(model: &[u8]) -> Result<tempfile::NamedTempFile> {
    let io = |source| Error::Io { path: std::env::temp_dir(), source };
    let mut file = tempfile::NamedTempFile::with_prefix("masktas-").map_err(io)?;
    file.write_all(model).and_then(|()| file.flush()).map_err(io)?;
    Ok(file)
}

/// A running worker.
pub struct Worker {
    id: String,
    process: Process,
    orders: ChildStdin,
    answers: Lines,
    limits: Limits,
}

impl Worker {
    /// Starts a worker for the model `id`.
    ///
    /// # Errors
    /// [`Error::WorkerStart`].
    pub fn start(id: &str, command: &WorkerCommand) -> Result<Self> {
        let (process, orders, answers) =
            Process::start(Command::new(&command.program).args(&command.args))
                .map_err(|source| Error::WorkerStart { program: command.program.clone(), source })?;
        let (id, limits) = (id.to_owned(), command.limits);
        Ok(Self { id, process, orders, answers: Lines::read(answers), limits })
    }

    /// Loads the ONNX file `model` and warms it up, as [`crate::measure::Warm::up`].
    ///
    /// # Errors
    /// As there; [`Error::Worker`] when the process dies or takes too long.
    pub fn load(
        &mut self,
        model: &std::path::Path,
        golden: Option<&Golden>,
        job: &BenchJob,
        options: &EngineOptions,
    ) -> Result<Facts> {
        let golden = golden
            .map(|golden| Ok::<_, Error>((to_wire(&golden.inputs)?, to_wire(&golden.outputs)?)))
            .transpose()?;
        let order = Order::Load(Box::new(LoadOrder {
            id: self.id.clone(),
            model: model.to_owned(),
            golden,
            job: job.clone(),
            ort_lib: options.ort_lib.clone(),
            adapter: options.adapter.clone(),
            kernels: options.kernels.clone(),
            memory_bytes: self.limits.memory_bytes,
        }));
        match self.ask(&order, self.limits.load_s, "to load")? {
            Answer::Loaded(facts) => Ok(*facts),
            _ => Err(self.died("gave an answer that was not asked for".into())),
        }
    }

    /// Runs the model `count` times in a row.
    ///
    /// # Errors
    /// The engine's; [`Error::Worker`] when the process dies or takes too long.
    pub fn runs(&mut self, count: usize) -> Result<Vec<RunTime>> {
        match self.ask(&Order::Run { count }, self.limits.round_s, "to run")? {
            Answer::Ran(runs) => Ok(runs),
            _ => Err(self.died("gave an answer that was not asked for".into())),
        }
    }

    /// Loads the ONNX file `model` and takes the time of each operation, as [`crate::trace::trace`].
    ///
    /// # Errors
    /// As there; [`Error::Worker`] when the process dies or takes too long.
    pub fn trace(
        &mut self,
        model: &std::path::Path,
        job: &TraceJob,
        options: &EngineOptions,
    ) -> Result<Trace> {
        let order = Order::Trace {
            model: model.to_owned(),
            job: job.clone(),
            ort_lib: options.ort_lib.clone(),
            adapter: options.adapter.clone(),
            kernels: options.kernels.clone(),
            memory_bytes: self.limits.memory_bytes,
        };
        match self.ask(&order, self.limits.load_s, "to trace")? {
            Answer::Traced(trace) => Ok(*trace),
            _ => Err(self.died("gave an answer that was not asked for".into())),
        }
    }

    /// Replays a golden pair in one engine, as [`crate::parity::parity`].
    ///
    /// # Errors
    /// [`Error::Worker`] when the process dies or takes too long. A model or an engine that fails is a row.
    pub fn replay(
        &mut self,
        model: &std::path::Path,
        golden: &Golden,
        engine: &str,
        options: &EngineOptions,
    ) -> Result<ParityRow> {
        let order = Order::Replay(Box::new(ReplayOrder {
            model: model.to_owned(),
            inputs: to_wire(&golden.inputs)?,
            outputs: to_wire(&golden.outputs)?,
            engine: engine.to_owned(),
            ort_lib: options.ort_lib.clone(),
            adapter: options.adapter.clone(),
            kernels: options.kernels.clone(),
            memory_bytes: self.limits.memory_bytes,
        }));
        match self.ask(&order, self.limits.load_s, "to replay")? {
            Answer::Replayed(row) => Ok(*row),
            _ => Err(self.died("gave an answer that was not asked for".into())),
        }
    }

    fn ask(&mut self, order: &Order, seconds: u64, what: &str) -> Result<Answer> {
        if send(&mut self.orders, order).is_err() {
            return Err(self.gone());
        }
        let answer = self.answers.hear(Duration::from_secs(seconds));
        match answer {
            Ok(Heard::Message(Answer::Failed { error, given })) => Err(Error::Told { text: error, given }),
            Ok(Heard::Message(answer)) => Ok(answer),
            Ok(Heard::Nothing) => {
                Err(self.died(format!("took longer than {seconds} s {what} and was ended")))
            }
            Ok(Heard::Gone) => Err(self.gone()),
            Err(error) => Err(self.died(format!("cannot be understood ({error})"))),
        }
    }

    /// The worker ended by itself.
    fn gone(&mut self) -> Error {
        // It may have closed its pipe a moment before it ends.
        let status = self.process.status(Duration::from_secs(2));
        self.died(status.map_or_else(|| "closed its pipe".into(), ended))
    }

    fn died(&mut self, how: String) -> Error {
        let words = self.process.last_words();
        let reason = if words.is_empty() { how } else { format!("{how}; its last words: {words}") };
        Error::Worker { id: self.id.clone(), reason }
    }
}

/// How a process ended, in words.
fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            libc::SIGKILL => "SIGKILL, as the system does when memory runs out",
            libc::SIGSEGV => "SIGSEGV, a crash inside the engine",
            libc::SIGABRT => "SIGABRT, as when an allocation fails",
            libc::SIGILL => "SIGILL, an instruction that this processor lacks",
            libc::SIGBUS => "SIGBUS, a crash inside the engine",
            libc::SIGFPE => "SIGFPE, a crash inside the engine",
            _ => "a signal",
        };
        return format!("was ended by signal {signal} ({name})");
    }
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => "ended".into(),
    }
}
