//! Where a measured model lives: in this process, or in one of its own.

use super::bench::Subject;
use super::warm::{Facts, Terms, Warm};
use super::{BenchJob, RunTime};
use crate::engine::{Engine, EngineOptions, engine};
use crate::error::{Error, Result};
use crate::worker::{Worker, WorkerCommand, model_file};

/// A warm model, wherever it is.
pub(crate) trait Ready {
    fn facts(&self) -> &Facts;
    fn runs(&mut self, count: usize) -> Result<Vec<RunTime>>;
}

/// Makes models ready.
pub(crate) trait Place {
    fn ready(&mut self, subject: &Subject<'_>) -> Result<Box<dyn Ready>>;
}

/// The place that a job asks for.
///
/// # Errors
/// [`Error::UnknownEngine`]; [`Error::InvalidProtocol`] when models are to have processes of their own and `options` do not say
/// how to start one.
pub(crate) fn place(job: &BenchJob, options: &EngineOptions) -> Result<Box<dyn Place>> {
    let runner = engine(&job.engine, options)?;
    let gate = job.gate.as_deref().map(|name| engine(name, options)).transpose()?;
    if !job.protocol.isolated {
        return Ok(Box::new(Here { job: job.clone(), engine: runner, gate }));
    }
    let Some(command) = &options.worker else {
        return Err(Error::InvalidProtocol {
            reason: "isolated is true, and this program was not told how to start a process for a model"
                .into(),
        });
    };
    Ok(Box::new(Apart { job: job.clone(), options: options.clone(), command: command.clone() }))
}

/// One model, warm, where the job wants it.
///
/// # Errors
/// As [`place`] and [`Place::ready`].
pub(crate) fn warm(job: &BenchJob, options: &EngineOptions, subject: &Subject<'_>) -> Result<Box<dyn Ready>> {
    place(job, options)?.ready(subject)
}

/// This process.
struct Here {
    job: BenchJob,
    engine: Box<dyn Engine>,
    gate: Option<Box<dyn Engine>>,
}

impl Place for Here {
    fn ready(&mut self, subject: &Subject<'_>) -> Result<Box<dyn Ready>> {
        let terms = Terms {
            provider: self.job.provider.as_deref(),
            shapes: &self.job.shapes,
            protocol: &self.job.protocol,
            alone: false,
        };
        let (engine, gate) = (self.engine.as_ref(), self.gate.as_deref());
        Ok(Box::new(Warm::up(subject.id, subject.bytes, subject.golden, engine, gate, terms)?))
    }
}

impl Ready for Warm {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn runs(&mut self, count: usize) -> Result<Vec<RunTime>> {
        Warm::runs(self, count)
    }
}

/// A process for each model.
struct Apart {
    job: BenchJob,
    options: EngineOptions,
    command: WorkerCommand,
}

impl Place for Apart {
    fn ready(&mut self, subject: &Subject<'_>) -> Result<Box<dyn Ready>> {
        let file = model_file(subject.bytes)?;
        let mut worker = Worker::start(subject.id, &self.command)?;
        let facts = worker.load(file.path(), subject.golden, &self.job, &self.options)?;
        Ok(Box::new(Isolated { worker, facts }))
    }
}

struct Isolated {
    worker: Worker,
    facts: Facts,
}

impl Ready for Isolated {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn runs(&mut self, count: usize) -> Result<Vec<RunTime>> {
        self.worker.runs(count)
    }
}
