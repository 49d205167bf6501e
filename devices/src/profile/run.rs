//! Measures many models in small batches, keeping every finished row.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::{NamedModel, Outcome, Row};
use crate::error::{Error, Result};
use crate::measure::{BenchJob, Calibration, Measure, Measurement, Steadiness, Subject};
use crate::transport::Transport;

/// What to profile, and how.
pub struct ProfileJob<'a> {
    /// The models, in the order they are measured.
    pub models: &'a [NamedModel<'a>],
    /// The reference network's ONNX file. It must be the same for all rows that are to feed one latency model; a small
    /// member of the profiled space is best, because it leans on the machine as the models do.
    pub reference: &'a [u8],
    /// Engine, gate, provider and protocol.
    pub bench: BenchJob,
    /// Time to spend in all. Rounds above the protocol's fewest are dropped to keep it, and what is then too wide
    /// is marked noisy. Loading, gate and the fewest rounds are done whatever they take.
    pub budget: Option<Duration>,
    /// Times that a batch with an unsteady model is measured again; of each model the better measurement is kept.
    pub retries: usize,
    /// Models already measured, which are skipped.
    pub done: BTreeSet<String>,
}

impl<'a> ProfileJob<'a> {
    /// All models, without a budget; unsteady batches are measured twice.
    pub fn new(models: &'a [NamedModel<'a>], reference: &'a [u8], bench: BenchJob) -> Self {
        Self { models, reference, bench, budget: None, retries: 1, done: BTreeSet::new() }
    }

    /// Goes on where `rows` ended: skips their models and takes their calibration over. Failed ones are tried once more, for
    /// a full disk or a lack of memory may be gone.
    pub fn resume(mut self, rows: &[Row]) -> Self {
        let finished = rows.iter().filter(|row| !matches!(row.outcome, Outcome::Failed(_)));
        self.done.extend(finished.map(|row| row.id.clone()));
        let earlier = rows.iter().find_map(Row::measurement).map(|m| m.calibration.clone());
        self.bench.calibration = self.bench.calibration.or(earlier);
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
    /// The connection was lost and is about to be made anew: told once a try.
    pub lost: Option<LostConnection>,
}

/// A connection that is about to be made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostConnection {
    /// What was seen.
    pub reason: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Tries in all before a profile gives up.
    pub attempts: u32,
    /// Seconds before it.
    pub wait_s: u64,
}

impl std::fmt::Display for LostConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reason, attempt, attempts, wait_s } = self;
        write!(f, "connection lost ({reason}), trying again in {wait_s} s ({attempt} of {attempts})")
    }
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

/// Measures the models of `job` batch by batch on the device that `transport` reaches.
///
/// `sink` gets each row of a batch when the batch is finished, in order; it must have stored the row when it returns, and
/// its error ends the profile. `progress` is called at least once a round and can stop the profile; a batch stopped
/// half-way gives no rows. A connection that is lost is made anew a few times, and the batch measured again in the same unit.
///
/// # Errors
/// [`Error::Interrupted`] when `progress` stops it; what [`Transport::bench`] and `sink` report; [`Error::Lost`] when the
/// device stays away. A model that fails is a row, not an error.
pub fn profile_models(
    transport: &mut dyn Transport,
    job: &ProfileJob<'_>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    sink: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<Summary> {
    let start = Instant::now();
    let mut seen = job.done.clone();
    let pending: Vec<&NamedModel<'_>> =
        job.models.iter().filter(|model| seen.insert(model.id.clone())).collect();
    let skipped = job.models.len() - pending.len();
    let now = Progress {
        done: skipped,
        total: job.models.len(),
        failed: 0,
        rounds: 0,
        elapsed_s: 0.0,
        left_s: None,
        lost: None,
    };
    let mut at = Teller { start, now, skipped, calibrated_s: None, progress };
    let mut bench = job.bench.clone();
    let mut batches: VecDeque<&[&NamedModel<'_>]> = pending.chunks(job.bench.protocol.batch).collect();
    let mut lost = 0;
    let mut left = batches.len();
    let calibration = loop {
        match session(transport, job, &mut bench, &mut batches, &mut at, sink) {
            Err(Error::Lost { reason, .. }) if lost < RECONNECTIONS || batches.len() < left => {
                // Tries are counted from the last batch that was finished: a night has many drops.
                lost = if batches.len() < left { 1 } else { lost + 1 };
                left = batches.len();
                at.reconnect(transport, lost, reason)?;
            }
            Err(error) => return Err(error),
            Ok(calibration) => break calibration,
        }
    };
    Ok(Summary {
        measured: at.now.done - skipped - at.now.failed,
        failed: at.now.failed,
        skipped,
        calibration,
        elapsed_s: start.elapsed().as_secs_f64(),
    })
}

/// Times in a row that a lost connection is made anew before a profile gives up.
const RECONNECTIONS: u32 = 5;

/// Where a profile stands, and whom it tells.
struct Teller<'p> {
    start: Instant,
    now: Progress,
    skipped: usize,
    /// When the reference network was calibrated.
    calibrated_s: Option<f64>,
    progress: &'p mut dyn FnMut(&Progress) -> ControlFlow<()>,
}

impl Teller<'_> {
    fn interrupted(&self) -> Error {
        Error::Interrupted { done: self.now.done, total: self.now.total }
    }

    fn tell(&mut self, rounds: usize) -> ControlFlow<()> {
        self.now.rounds = rounds;
        self.now.elapsed_s = self.start.elapsed().as_secs_f64();
        (self.progress)(&self.now)
    }

    /// Sleeps, unless somebody asks to stop.
    fn sleep(&mut self, seconds: u64) -> Result<()> {
        for _ in 0..seconds * 2 {
            std::thread::sleep(Duration::from_millis(500));
            if self.tell(0).is_break() {
                return Err(self.interrupted());
            }
        }
        Ok(())
    }

    fn reconnect(&mut self, transport: &mut dyn Transport, attempt: u32, reason: String) -> Result<()> {
        let wait_s = 1 << attempt.min(5);
        self.now.lost = Some(LostConnection { reason, attempt, attempts: RECONNECTIONS, wait_s });
        let told = self.tell(0);
        self.now.lost = None;
        if told.is_break() {
            return Err(self.interrupted());
        }
        self.sleep(wait_s)?;
        match transport.reconnect() {
            // Still away: the next session fails at once, and this is tried again.
            Err(Error::Lost { .. } | Error::Unreachable { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Measures what is left until it is done or the connection is lost. A batch leaves the queue when its rows are stored.
fn session(
    transport: &mut dyn Transport,
    job: &ProfileJob<'_>,
    bench_job: &mut BenchJob,
    batches: &mut VecDeque<&[&NamedModel<'_>]>,
    at: &mut Teller<'_>,
    sink: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<Calibration> {
    if at.tell(0).is_break() {
        return Err(at.interrupted());
    }
    let mut bench = transport.bench(bench_job, job.reference)?;
    bench_job.calibration = Some(bench.calibration().clone());
    let calibrated_s = *at.calibrated_s.get_or_insert(at.start.elapsed().as_secs_f64());
    let mut loading_s = 0.0f64;
    while let Some(batch) = batches.front() {
        let share = job.budget.map(|budget| {
            let rest = budget.saturating_sub(at.start.elapsed()).as_secs_f64();
            // The time this batch will take to load is judged by the batch before.
            Duration::from_secs_f64((rest / batches.len() as f64 - loading_s).max(0.0))
        });
        let rows = measure_batch(bench.as_mut(), job, batch, share, &mut loading_s, at)?;
        for row in rows {
            at.now.failed += usize::from(matches!(row.outcome, Outcome::Failed(_)));
            sink(row)?;
            at.now.done += 1;
        }
        batches.pop_front();
        let measured_here = (at.now.done - at.skipped) as f64;
        let per_model = (at.start.elapsed().as_secs_f64() - calibrated_s) / measured_here;
        at.now.left_s = Some(per_model * (at.now.total - at.now.done) as f64);
        if at.tell(0).is_break() && !batches.is_empty() {
            return Err(at.interrupted());
        }
    }
    Ok(bench.calibration().clone())
}

/// Measures one batch, again where it is unsteady, and makes its rows.
fn measure_batch(
    bench: &mut dyn Measure,
    job: &ProfileJob<'_>,
    batch: &[&NamedModel<'_>],
    share: Option<Duration>,
    loading_s: &mut f64,
    at: &mut Teller<'_>,
) -> Result<Vec<Row>> {
    let begun = Instant::now();
    let made: Vec<Result<Vec<u8>>> = batch.iter().map(|model| model.bytes()).collect();
    let subjects: Vec<Subject<'_>> = batch
        .iter()
        .zip(&made)
        .filter_map(|(model, bytes)| {
            let bytes = bytes.as_ref().ok()?;
            Some(Subject { id: &model.id, bytes, golden: model.golden.as_ref() })
        })
        .collect();
    let mut kept: Vec<Result<Measurement>> = Vec::new();
    for attempt in 0..=job.retries {
        let mut report = |rounds: usize| {
            if rounds == 0 {
                *loading_s = begun.elapsed().as_secs_f64();
            }
            at.tell(rounds)
        };
        let Some(measured) = bench.measure(&subjects, share, &mut report)? else {
            return Err(at.interrupted());
        };
        kept = if kept.is_empty() {
            measured
        } else {
            kept.into_iter().zip(measured).map(|(before, now)| better(before, now)).collect()
        };
        let worst = kept.iter().filter_map(|one| Some(one.as_ref().ok()?.verdict)).max();
        let spent = share.is_some_and(|share| begun.elapsed() > share / 2);
        match worst {
            None | Some(Steadiness::Steady) => break,
            _ if attempt == job.retries || spent => break,
            Some(Steadiness::Throttled) => at.sleep(COOLING_S)?,
            Some(Steadiness::Noisy) => {}
        }
    }
    let mut kept = kept.into_iter();
    let rows = batch.iter().zip(&made).map(|(model, bytes)| {
        let outcome = match bytes {
            Err(error) => Outcome::Failed(error.to_string()),
            Ok(_) => match kept.next() {
                Some(Ok(measurement)) => Outcome::Measured(Box::new(measurement)),
                Some(Err(error)) => Outcome::Failed(error.to_string()),
                None => Outcome::Failed("it was lost between loading and measuring".into()),
            },
        };
        Row { id: model.id.clone(), features: model.features.clone(), outcome }
    });
    Ok(rows.collect())
}

/// Seconds that a device which throttled is left alone before it is tried again.
const COOLING_S: u64 = 30;

/// The steadier of two measurements of one model, the narrower where both are alike.
fn better(before: Result<Measurement>, now: Result<Measurement>) -> Result<Measurement> {
    match (before, now) {
        (Ok(before), Ok(now)) => {
            let wins = now.verdict.cmp(&before.verdict).then(now.half_width.total_cmp(&before.half_width));
            Ok(if wins.is_lt() { now } else { before })
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(error), Err(_)) => Err(error),
    }
}
