//! Times real models: the reference network beside a batch of others, in paired rounds.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::energy::{Energy, Meter};
use super::place::{Place, Ready, place};
use super::rounds::{Outcome, Round, RunTime, World, paired_rounds, ratio, run_median};
use super::warm::file_hash;
use super::{BenchJob, Calibration, Facts, Golden, Measurement, Steadiness, wide};
use crate::engine::{EngineOptions, engine};
use crate::error::{Error, Result};
use crate::fingerprint::power::Rails;
use crate::fingerprint::{Fingerprint, State};
use crate::protocol::{Clock, Protocol};
use crate::stats;

/// A model to measure.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Its name in errors and rows.
    pub id: &'a str,
    /// The ONNX file.
    pub bytes: &'a [u8],
    /// A known answer for the numeric gate; without one the gate engine gives it.
    pub golden: Option<&'a Golden>,
}

/// Measures batches of models: the [`Bench`] of this machine, or an agent's.
pub trait Measure {
    /// The reference network's own time.
    fn calibration(&self) -> &Calibration;

    /// Measures the subjects together with the reference, in one batch whatever their number. Answers come in the
    /// subjects' order; a subject that cannot be loaded, fails the gate or dies is an error in its place.
    ///
    /// After the fewest rounds no round is begun once `budget` has passed. `progress` is told the number of rounds done
    /// (0: a model was loaded) and may stop the batch, in which case the answer is `None`.
    ///
    /// # Errors
    /// When the reference network itself fails, the clock is missing, or the device is lost.
    fn measure(
        &mut self,
        subjects: &[Subject<'_>],
        budget: Option<Duration>,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Result<Measurement>>>>;
}

/// A job, the place where models run, and the calibrated reference network.
pub struct Bench {
    job: BenchJob,
    place: Box<dyn Place>,
    reference: Box<dyn Ready>,
    calibration: Calibration,
    /// Where the device has sensors.
    meter: Option<Meter>,
}

impl Bench {
    /// Loads the reference network (the bytes of an ONNX file; the caller chooses it and keeps it the same for
    /// all numbers that are to be compared, best a small member of the space that is profiled) and
    /// calibrates it, or takes the job's calibration of an earlier session on the same machine.
    ///
    /// # Errors
    /// [`Error::InvalidProtocol`]; whatever loading and running the reference gives; [`Error::Incomparable`] when
    /// the earlier calibration is of another reference network.
    pub fn new(job: &BenchJob, reference: &[u8], options: &EngineOptions) -> Result<Self> {
        job.protocol.validate()?;
        let runner = engine(&job.engine, options)?;
        if job.protocol.clock == Clock::Cpu && !runner.runs_in_process() {
            return Err(Error::InvalidProtocol {
                reason: format!("the cpu clock cannot see the work of engine {}", job.engine),
            });
        }
        let hash = file_hash(reference);
        if let Some(earlier) = job.calibration.as_ref().filter(|earlier| earlier.reference != hash) {
            return Err(Error::Incomparable {
                what: "reference networks".into(),
                left: earlier.reference.clone(),
                right: hash,
            });
        }
        let meter = Meter::new(Rails::find());
        let mut place = place(job, options)?;
        let mut reference =
            place.ready(&Subject { id: "reference network", bytes: reference, golden: None })?;
        let calibration = match &job.calibration {
            Some(earlier) => earlier.clone(),
            None => calibrate(reference.as_mut(), &job.protocol, hash)?,
        };
        Ok(Self { job: job.clone(), place, reference, calibration, meter })
    }

    fn summarise(&self, facts: &Facts, rounds: Vec<Round>, fingerprint: &Fingerprint) -> Result<Measurement> {
        let protocol = &self.job.protocol;
        let times: Vec<f64> = rounds
            .iter()
            .flat_map(|round| &round.runs)
            .map(|run| run.on(protocol.clock))
            .collect::<Result<_>>()?;
        let sorted = stats::sorted(&times);
        let at = |q| stats::quantile_sorted(&sorted, q).unwrap_or(f64::NAN);
        let (ratio, half_width) = ratio(&rounds, protocol).unwrap_or((f64::NAN, f64::NAN));
        if !(ratio.is_finite() && half_width.is_finite()) {
            return Err(Error::Unmeasurable { ms: at(0.5) });
        }
        let steady = half_width <= protocol.half_width;
        let mut notes = Vec::new();
        if !steady {
            notes.push(wide(rounds.len(), half_width, protocol));
        }
        let crowded = protocol.threads > fingerprint.cores;
        if crowded {
            notes.push(format!("{} threads are more than the {} cores", protocol.threads, fingerprint.cores));
        }
        if at(0.95) > 1.3 * at(0.5) {
            // Threads that wait for each other's cores are no sign of other work.
            let why = if crowded { "" } else { ": the machine is busy" };
            notes.push(format!("p95 is {:.2} times the median{why}", at(0.95) / at(0.5)));
        }
        Ok(Measurement {
            ms: ratio * self.calibration.ms,
            ratio,
            half_width,
            verdict: if steady { Steadiness::Steady } else { Steadiness::Noisy },
            notes,
            median_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            min_ms: at(0.0),
            mad_ms: stats::mad(&times).unwrap_or(f64::NAN),
            n: times.len(),
            warm_ups: facts.warm_ups,
            cold_load_ms: facts.cold_load_ms,
            first_run_ms: facts.first_run_ms,
            peak_bytes: facts.peak_bytes,
            gate: facts.gate.clone(),
            calibration: self.calibration.clone(),
            protocol: protocol.hash(),
            engine: self.job.engine.clone(),
            engine_version: facts.engine_version.clone(),
            provider: facts.provider.clone(),
            threads: protocol.threads,
            fingerprint: fingerprint.clone(),
            after: fingerprint.state.clone(),
            energy: None,
            rounds,
        })
    }

    /// Energy of a model that was timed. One that died has none.
    fn energy(&self, model: &mut dyn Ready) -> Option<Energy> {
        let count = self.job.protocol.runs;
        self.meter.as_ref()?.of(&mut || model.runs(count).map(|runs| runs.len())).unwrap_or(None)
    }
}

impl Measure for Bench {
    fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    fn measure(
        &mut self,
        subjects: &[Subject<'_>],
        budget: Option<Duration>,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Result<Measurement>>>> {
        let protocol = self.job.protocol.clone();
        let fingerprint = Fingerprint::read(protocol.threads);
        let mut ready = Vec::new();
        let mut failed: Vec<Option<Error>> = Vec::new();
        for subject in subjects {
            match self.place.ready(subject) {
                Ok(model) => {
                    ready.push(model);
                    failed.push(None);
                }
                Err(error) => failed.push(Some(error)),
            }
            if progress(0).is_break() {
                return Ok(None);
            }
        }
        let budget_s = budget.map_or(f64::INFINITY, |budget| budget.as_secs_f64());
        let mut world = Machine {
            reference: self.reference.as_mut(),
            ready: &mut ready,
            start: Instant::now(),
            progress,
        };
        let Some(outcomes) = paired_rounds(world.ready.len(), &protocol, budget_s, &mut world)? else {
            return Ok(None);
        };
        let after = State::read();
        let mut energies = Vec::with_capacity(ready.len());
        for model in &mut ready {
            energies.push(self.energy(model.as_mut()));
        }
        let mut measured = ready.iter().zip(energies).zip(outcomes);
        let mut results = Vec::with_capacity(failed.len());
        for (failure, subject) in failed.into_iter().zip(subjects) {
            results.push(match failure {
                Some(error) => Err(error),
                None => match measured.next() {
                    Some((_, Outcome::Failed(error))) => Err(error),
                    Some(((model, energy), Outcome::Measured(rounds))) => {
                        self.summarise(model.facts(), rounds, &fingerprint).map(|mut m| {
                            m.energy = energy;
                            m.after = after.clone();
                            note_machine(&mut m);
                            m
                        })
                    }
                    None => Err(Error::Caller(format!("model `{}` was lost between rounds", subject.id))),
                },
            });
        }
        Ok(Some(results))
    }
}

/// Notes on the machine: one that throttled taints the measurement, an overloaded one makes it noisy.
fn note_machine(m: &mut Measurement) {
    if let Some(note) = m.load_note() {
        m.notes.push(note);
        if m.threads > 1 {
            m.verdict = Steadiness::Noisy;
        }
    }
    let throttling = m.after.throttling_since(&m.fingerprint.state);
    if !throttling.is_empty() {
        m.notes.extend(throttling);
        m.verdict = Steadiness::Throttled;
    }
}

/// The machine the rounds run on.
struct Machine<'a> {
    reference: &'a mut dyn Ready,
    ready: &'a mut [Box<dyn Ready>],
    start: Instant,
    progress: &'a mut dyn FnMut(usize) -> ControlFlow<()>,
}

impl World for Machine<'_> {
    fn runs(&mut self, index: usize, count: usize) -> Result<Vec<RunTime>> {
        match index.checked_sub(1) {
            None => self.reference.runs(count),
            Some(slot) => match self.ready.get_mut(slot) {
                Some(ready) => ready.runs(count),
                None => Err(Error::Caller(format!("there is no model number {index} in this batch"))),
            },
        }
    }

    fn elapsed_s(&mut self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn round_done(&mut self, rounds: usize) -> ControlFlow<()> {
        (self.progress)(rounds)
    }
}

/// Runs the reference alone.
fn calibrate(reference: &mut dyn Ready, protocol: &Protocol, hash: String) -> Result<Calibration> {
    let mut carry_on = |_: usize| ControlFlow::Continue(());
    let mut world = Machine { reference, ready: &mut [], start: Instant::now(), progress: &mut carry_on };
    let mut medians = Vec::new();
    while medians.len() < protocol.min_rounds || world.elapsed_s() < protocol.calibration_s {
        medians.push(run_median(0, protocol, &mut world)?.1);
    }
    let half_width =
        stats::bootstrap_half_width(&medians, protocol.confidence, protocol.resamples, 0).unwrap_or(f64::NAN);
    Ok(Calibration { reference: hash, ms: stats::median(&medians).unwrap_or(f64::NAN), half_width })
}
