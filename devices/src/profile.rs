//! Measures many models in small batches, keeping every finished row.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use crate::engine::{EngineOptions, engine};
use crate::error::{Error, Result};
use crate::latency::Sample;
use crate::measure::{Bench, Calibration, Golden, Measurement, Subject};
use crate::protocol::Protocol;

/// A model to profile.
pub struct NamedModel<'a> {
    /// Its identity: a row with this name is never measured twice.
    pub id: String,
    /// What it costs.
    pub features: Features,
    /// A known answer for the numeric gate.
    pub golden: Option<Golden>,
    make: Box<dyn Fn() -> Result<Vec<u8>> + 'a>,
}

impl<'a> NamedModel<'a> {
    /// A model whose ONNX file is made when its batch is due, so that a thousand files need not fit in memory.
    pub fn lazy(id: &str, features: Features, make: impl Fn() -> Result<Vec<u8>> + 'a) -> Self {
        Self { id: id.to_owned(), features, golden: None, make: Box::new(make) }
    }

    /// A model whose ONNX file is at hand.
    pub fn new(id: &str, features: Features, bytes: Vec<u8>) -> NamedModel<'static> {
        NamedModel::lazy(id, features, move || Ok(bytes.clone()))
    }

    /// The bytes of the ONNX file.
    ///
    /// # Errors
    /// Whatever the maker reports.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        (self.make)()
    }
}

/// What is known about one model after its batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub id: String,
    /// What it costs.
    pub features: Features,
    /// Its latency, or why there is none.
    pub outcome: Outcome,
}

/// A latency, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// It could not be loaded, failed the numeric gate or died; the run went on.
    Failed(String),
}

impl Row {
    /// The measurement, if there is one.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.outcome {
            Outcome::Measured(measurement) => Some(measurement),
            Outcome::Failed(_) => None,
        }
    }

    /// What a latency model learns from.
    pub fn sample(&self) -> Option<Sample> {
        let m = self.measurement()?;
        Some(Sample { features: self.features.clone(), ms: m.ms, key: m.key() })
    }
}

/// What to profile, and how. Plain data and names, so that it can be sent to another machine.
pub struct ProfileJob<'a> {
    /// The models, in the order they are measured.
    pub models: &'a [NamedModel<'a>],
    /// The reference network's ONNX file. It must be the same for all rows that are to feed one latency model; a small
    /// member of the profiled space is best, because it leans on the machine as the models do.
    pub reference: &'a [u8],
    /// Engine by name.
    pub engine: &'a str,
    /// Engine whose un-optimised run gives the answer of the numeric gate; `None`: only finite outputs are asked for, and every
    /// row says so.
    pub gate: Option<&'a str>,
    /// What the engines need to start.
    pub options: &'a EngineOptions,
    /// Execution provider; `None`: the engine's own CPU or adapter.
    pub provider: Option<&'a str>,
    /// How to measure.
    pub protocol: &'a Protocol,
    /// Time to spend in all. Rounds above the protocol's fewest are dropped to keep it, and what is then too wide
    /// is marked noisy. Loading, gate and the fewest rounds are done whatever they take.
    pub budget: Option<Duration>,
    /// Models already measured, which are skipped.
    pub done: BTreeSet<String>,
    /// The calibration of the rows already measured, so that old and new rows are in one unit.
    pub calibration: Option<Calibration>,
}

impl<'a> ProfileJob<'a> {
    /// All models under ONNX Runtime on the CPU, gated by its own un-optimised run, without a budget.
    pub fn new(
        models: &'a [NamedModel<'a>],
        reference: &'a [u8],
        options: &'a EngineOptions,
        protocol: &'a Protocol,
    ) -> Self {
        Self {
            models,
            reference,
            engine: "ort",
            gate: Some("ort"),
            options,
            provider: None,
            protocol,
            budget: None,
            done: BTreeSet::new(),
            calibration: None,
        }
    }

    /// Goes on where `rows` ended: skips their models (failed ones too) and takes their calibration over.
    pub fn resume(mut self, rows: &[Row]) -> Self {
        self.done.extend(rows.iter().map(|row| row.id.clone()));
        let earlier = rows.iter().find_map(Row::measurement).map(|m| m.calibration.clone());
        self.calibration = self.calibration.or(earlier);
        self
    }
}

/// How far a profile is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Models with a finished row, those of earlier sessions included.
    pub done: usize,
    /// Models in all.
    pub total: usize,
    /// Models of this session whose row says "failed".
    pub failed: usize,
    /// Rounds done in the batch that is being measured; 0 while its models are loaded.
    pub rounds: usize,
    /// Seconds since the start.
    pub elapsed_s: f64,
    /// Seconds left, once a batch is finished.
    pub left_s: Option<f64>,
}

/// What a profile did.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Rows measured in this session.
    pub measured: usize,
    /// Rows that failed in this session.
    pub failed: usize,
    /// Models skipped because their rows were there.
    pub skipped: usize,
    /// The reference network's time.
    pub calibration: Calibration,
    /// Seconds it took.
    pub elapsed_s: f64,
}

/// Measures the models of `job` batch by batch on this machine, in this process.
///
/// `sink` gets each row of a batch when the batch is finished, in order; it must have stored the row when it returns, and
/// its error ends the profile. `progress` is called at least once a round and can stop the profile; a batch stopped
/// half-way gives no rows.
///
/// # Errors
/// [`Error::Interrupted`] when `progress` stops it; what [`Bench::new`] and `sink` report. A model that fails is a row, not
/// an error.
pub fn profile_models(
    job: &ProfileJob<'_>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    sink: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<Summary> {
    let start = Instant::now();
    let mut seen = job.done.clone();
    let pending: Vec<&NamedModel<'_>> =
        job.models.iter().filter(|model| seen.insert(model.id.clone())).collect();
    let skipped = job.models.len() - pending.len();
    let engine_under_test = engine(job.engine, job.options)?;
    let gate = job.gate.map(|name| engine(name, job.options)).transpose()?;
    let mut now = Progress {
        done: skipped,
        total: job.models.len(),
        failed: 0,
        rounds: 0,
        elapsed_s: 0.0,
        left_s: None,
    };
    let interrupted = |now: &Progress| Error::Interrupted { done: now.done, total: now.total };
    if progress(&now).is_break() {
        return Err(interrupted(&now));
    }
    let mut bench = Bench::new(
        engine_under_test.as_ref(),
        gate.as_deref(),
        job.reference,
        job.provider,
        job.protocol,
        job.calibration.as_ref(),
    )?;
    let calibrated_s = start.elapsed().as_secs_f64();
    let batches = pending.chunks(job.protocol.batch);
    let mut left = batches.len();
    let mut loading_s = 0.0f64;
    for batch in batches {
        let begun = Instant::now();
        let share = job.budget.map(|budget| {
            let rest = budget.saturating_sub(start.elapsed()).as_secs_f64();
            // The time this batch will take to load is judged by the batch before.
            Duration::from_secs_f64((rest / left as f64 - loading_s).max(0.0))
        });
        let made: Vec<Result<Vec<u8>>> = batch.iter().map(|model| model.bytes()).collect();
        let subjects: Vec<Subject<'_>> = batch
            .iter()
            .zip(&made)
            .filter_map(|(model, bytes)| {
                let bytes = bytes.as_ref().ok()?;
                Some(Subject { id: &model.id, bytes, golden: model.golden.as_ref() })
            })
            .collect();
        let mut report = |rounds: usize| {
            if rounds == 0 {
                loading_s = begun.elapsed().as_secs_f64();
            }
            now.rounds = rounds;
            now.elapsed_s = start.elapsed().as_secs_f64();
            progress(&now)
        };
        let Some(measured) = bench.measure(&subjects, share, &mut report)? else {
            return Err(interrupted(&now));
        };
        let mut measured = measured.into_iter();
        for (model, bytes) in batch.iter().zip(&made) {
            let outcome = match bytes {
                Err(error) => Outcome::Failed(error.to_string()),
                Ok(_) => match measured.next() {
                    Some(Ok(measurement)) => Outcome::Measured(Box::new(measurement)),
                    Some(Err(error)) => Outcome::Failed(error.to_string()),
                    None => Outcome::Failed("it was lost between loading and measuring".into()),
                },
            };
            now.failed += usize::from(matches!(outcome, Outcome::Failed(_)));
            sink(Row { id: model.id.clone(), features: model.features.clone(), outcome })?;
            now.done += 1;
        }
        left -= 1;
        now.rounds = 0;
        now.elapsed_s = start.elapsed().as_secs_f64();
        let measured_here = (now.done - skipped) as f64;
        now.left_s = Some((now.elapsed_s - calibrated_s) / measured_here * (now.total - now.done) as f64);
        if progress(&now).is_break() && left > 0 {
            return Err(interrupted(&now));
        }
    }
    Ok(Summary {
        measured: now.done - skipped - now.failed,
        failed: now.failed,
        skipped,
        calibration: bench.calibration().clone(),
        elapsed_s: start.elapsed().as_secs_f64(),
    })
}
