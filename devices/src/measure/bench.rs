//! Times real models: loading, gate, warm-up, paired rounds.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Data, Dtype, Tensor, Tolerance, Verdict};

use super::clock::Stamp;
use super::rounds::{Outcome, Round, RunTime, World, paired_rounds, ratio, run_median};
use super::{Calibration, Gate, Measurement, Steadiness};
use crate::engine::{Engine, InputInfo, LoadOptions, LoadedModel, Tensors};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::protocol::{Clock, Protocol, short_hash};
use crate::stats;

/// Inputs and the outputs they must give.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Inputs.
    pub inputs: Tensors,
    /// Outputs.
    pub outputs: Tensors,
}

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

/// A model that passed the gate and is warm.
struct Ready {
    model: Box<dyn LoadedModel>,
    inputs: Tensors,
    cold_load_ms: f64,
    first_run_ms: f64,
    warm_ups: usize,
    gate: Gate,
}

/// An engine, a protocol and the calibrated reference network.
pub struct Bench<'e> {
    engine: &'e dyn Engine,
    engine_version: String,
    gate_engine: Option<&'e dyn Engine>,
    options: LoadOptions,
    protocol: Protocol,
    reference: Ready,
    calibration: Calibration,
}

impl<'e> Bench<'e> {
    /// Loads the reference network (the bytes of an ONNX file; the caller chooses it and keeps it the same for
    /// all numbers that are to be compared, best a small member of the space that is profiled) and
    /// calibrates it, or takes the calibration of an earlier session on the same machine.
    ///
    /// `gate_engine` runs each model un-optimised and gives the answer that the engine under test must
    /// reproduce; without it and without golden outputs only finite outputs are asked for, and the measurement says so.
    ///
    /// # Errors
    /// [`Error::InvalidProtocol`]; whatever loading and running the reference gives; [`Error::Incomparable`] when
    /// the earlier calibration is of another reference network.
    pub fn new(
        engine: &'e dyn Engine,
        gate_engine: Option<&'e dyn Engine>,
        reference: &[u8],
        provider: Option<&str>,
        protocol: &Protocol,
        earlier: Option<&Calibration>,
    ) -> Result<Self> {
        protocol.validate()?;
        if protocol.clock == Clock::Cpu && !engine.runs_in_process() {
            return Err(Error::InvalidProtocol {
                reason: format!("the cpu clock cannot see the work of engine {}", engine.name()),
            });
        }
        let engine_version = engine.version()?;
        let options = LoadOptions {
            threads: protocol.threads,
            provider: provider.map(str::to_owned),
            ..LoadOptions::default()
        };
        let hash = short_hash(reference);
        if let Some(earlier) = earlier.filter(|earlier| earlier.reference != hash) {
            return Err(Error::Incomparable {
                what: "reference networks".into(),
                left: earlier.reference.clone(),
                right: hash,
            });
        }
        let subject = Subject { id: "reference network", bytes: reference, golden: None };
        let mut reference = prepare(engine, gate_engine, &options, protocol, &subject)?;
        let calibration = match earlier {
            Some(earlier) => earlier.clone(),
            None => calibrate(&mut reference, protocol, hash)?,
        };
        let protocol = protocol.clone();
        Ok(Self { engine, engine_version, gate_engine, options, protocol, reference, calibration })
    }

    /// The reference network's own time.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Measures the subjects together with the reference, in one batch whatever their number. Answers come in the
    /// subjects' order; a subject that cannot be loaded, fails the gate or dies is an error in its place.
    ///
    /// After the fewest rounds no round is begun once `budget` has passed. `progress` is told the number of rounds done
    /// (0: loading is done) and may stop the batch, in which case the answer is `None`.
    ///
    /// # Errors
    /// When the reference network itself fails or the clock is missing.
    pub fn measure(
        &mut self,
        subjects: &[Subject<'_>],
        budget: Option<Duration>,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Result<Measurement>>>> {
        let fingerprint = Fingerprint::read(self.protocol.threads);
        let mut ready = Vec::new();
        let mut failed: Vec<Option<Error>> = Vec::new();
        for subject in subjects {
            match prepare(self.engine, self.gate_engine, &self.options, &self.protocol, subject) {
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
        let mut world =
            Machine { reference: &mut self.reference, ready: &mut ready, start: Instant::now(), progress };
        let Some(outcomes) = paired_rounds(world.ready.len(), &self.protocol, budget_s, &mut world)? else {
            return Ok(None);
        };
        let after = Fingerprint::read(self.protocol.threads).state;
        let mut measured = ready.into_iter().zip(outcomes);
        let mut results = Vec::with_capacity(failed.len());
        for (failure, subject) in failed.into_iter().zip(subjects) {
            results.push(match failure {
                Some(error) => Err(error),
                None => match measured.next() {
                    Some((_, Outcome::Failed(error))) => Err(error),
                    Some((model, Outcome::Measured(rounds))) => {
                        self.summarise(&model, rounds, &fingerprint).map(|mut m| {
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

    fn summarise(&self, ready: &Ready, rounds: Vec<Round>, fingerprint: &Fingerprint) -> Result<Measurement> {
        let protocol = &self.protocol;
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
            notes.push(format!(
                "after {} rounds the half-width is {:.1} % and {:.1} % was asked for",
                rounds.len(),
                half_width * 1e2,
                protocol.half_width * 1e2
            ));
        }
        if at(0.95) > 1.3 * at(0.5) {
            notes.push(format!("p95 is {:.2} times the median: the machine is busy", at(0.95) / at(0.5)));
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
            warm_ups: ready.warm_ups,
            cold_load_ms: ready.cold_load_ms,
            first_run_ms: ready.first_run_ms,
            gate: ready.gate.clone(),
            calibration: self.calibration.clone(),
            protocol: protocol.hash(),
            engine: self.engine.name().to_owned(),
            engine_version: self.engine_version.clone(),
            provider: ready.model.provider_used().to_owned(),
            threads: protocol.threads,
            fingerprint: fingerprint.clone(),
            after: fingerprint.state.clone(),
            rounds,
        })
    }
}

/// Notes on the machine; a throttled or overloaded one makes the verdict noisy.
fn note_machine(m: &mut Measurement) {
    let cores = m.fingerprint.cores as f64;
    if let Some(load) = m.fingerprint.state.load_1m.filter(|load| *load > cores) {
        m.notes.push(format!("the load average was {load:.1} on {cores} cores"));
        if m.threads > 1 {
            m.verdict = Steadiness::Noisy;
        }
    }
    if m.fingerprint.state.throttled != m.after.throttled {
        m.notes.push("the throttle counters moved while it was measured".into());
        m.verdict = Steadiness::Noisy;
    }
}

/// The machine the rounds run on.
struct Machine<'a> {
    reference: &'a mut Ready,
    ready: &'a mut [Ready],
    start: Instant,
    progress: &'a mut dyn FnMut(usize) -> ControlFlow<()>,
}

impl World for Machine<'_> {
    fn run(&mut self, index: usize) -> Result<RunTime> {
        let ready = match index.checked_sub(1) {
            None => &mut *self.reference,
            Some(slot) => self
                .ready
                .get_mut(slot)
                .ok_or_else(|| Error::Caller(format!("there is no model number {index} in this batch")))?,
        };
        timed(ready).map(|(time, _)| time)
    }

    fn elapsed_s(&mut self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn round_done(&mut self, rounds: usize) -> ControlFlow<()> {
        (self.progress)(rounds)
    }
}

fn timed(ready: &mut Ready) -> Result<(RunTime, Tensors)> {
    let stamp = Stamp::now();
    let outputs = ready.model.run(&ready.inputs)?;
    let (wall_ms, cpu_ms) = stamp.elapsed_ms();
    Ok((RunTime { wall_ms, cpu_ms }, outputs))
}

/// Loads a model, checks its answer and warms it up.
fn prepare(
    engine: &dyn Engine,
    gate_engine: Option<&dyn Engine>,
    options: &LoadOptions,
    protocol: &Protocol,
    subject: &Subject<'_>,
) -> Result<Ready> {
    let stamp = Stamp::now();
    let model = engine.load(subject.bytes, options)?;
    let (cold_load_ms, _) = stamp.elapsed_ms();
    let inputs = match subject.golden {
        Some(golden) => golden.inputs.clone(),
        None => model.inputs().iter().enumerate().map(synthetic).collect::<Result<_>>()?,
    };
    let gate = Gate { reference: String::new(), difference: 0.0 };
    let mut ready = Ready { model, inputs, cold_load_ms, first_run_ms: 0.0, warm_ups: 0, gate };
    let (first, outputs) = timed(&mut ready)?;
    ready.first_run_ms = first.wall_ms;
    ready.gate = pass_gate(engine, gate_engine, subject, &ready.inputs, &outputs)?;
    let mut times = Vec::new();
    while times.len() < protocol.max_warm_ups {
        times.push(timed(&mut ready)?.0.on(protocol.clock)?);
        if times.len() >= protocol.min_warm_ups && settled(&times, protocol.warm_up_spread) {
            break;
        }
    }
    ready.warm_ups = times.len();
    Ok(ready)
}

/// Whether the last three runs lie close together.
fn settled(times: &[f64], spread: f64) -> bool {
    let last = stats::sorted(times.get(times.len().saturating_sub(3)..).unwrap_or(times));
    match (last.first(), last.last()) {
        (Some(low), Some(high)) => high - low <= spread * low,
        _ => false,
    }
}

/// An input filled with values between -1 and 1, the same in every process.
fn synthetic((index, info): (usize, &InputInfo)) -> Result<(String, Tensor)> {
    let elements = masktas_runtime::tensor::element_count(&info.shape)
        .ok_or_else(|| Error::Runtime(masktas_runtime::Error::TooLarge { shape: info.shape.clone() }))?;
    let mut rng = stats::Rng::new(index as u64 + 1);
    let data = match info.dtype {
        Dtype::F32 => Data::F32((0..elements).map(|_| rng.symmetric()).collect()),
        // Zeros are a valid index into anything.
        Dtype::I64 => Data::I64(vec![0; elements].into()),
        Dtype::I32 => Data::I32(vec![0; elements].into()),
        Dtype::U8 => Data::U8((0..elements).map(|_| rng.next_u64() as u8).collect()),
        Dtype::I8 => Data::I8((0..elements).map(|_| rng.next_u64() as i8).collect()),
        Dtype::Bool => Data::Bool(vec![false; elements].into()),
    };
    Ok((info.name.clone(), Tensor::new(info.shape.clone(), data)?))
}

fn pass_gate(
    engine: &dyn Engine,
    gate_engine: Option<&dyn Engine>,
    subject: &Subject<'_>,
    inputs: &Tensors,
    outputs: &Tensors,
) -> Result<Gate> {
    let (reference, expected) = match (subject.golden, gate_engine) {
        (Some(golden), _) => ("golden".to_owned(), golden.outputs.clone()),
        (None, Some(gate)) => {
            let shapes =
                inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
            let options = LoadOptions { optimise: false, shapes, ..LoadOptions::default() };
            let answer = gate.load(subject.bytes, &options)?.run(inputs)?;
            (format!("{} {}, not optimised", gate.name(), gate.version()?), answer)
        }
        (None, None) => ("nothing (finite only)".to_owned(), outputs.clone()),
    };
    let (difference, bound) = largest_difference(engine.name(), &expected, outputs)?;
    if bound.judge(difference) == Verdict::Fail {
        return Err(Error::Gate {
            id: subject.id.to_owned(),
            engine: engine.name().to_owned(),
            reference,
            difference,
            bound: bound.warn,
        });
    }
    Ok(Gate { reference, difference })
}

/// The largest relative difference over all outputs and its tolerance. Integer outputs must be equal.
///
/// # Errors
/// [`Error::MissingOutput`].
pub(crate) fn largest_difference(
    engine: &str,
    expected: &[(String, Tensor)],
    given: &[(String, Tensor)],
) -> Result<(f64, Tolerance)> {
    let mut largest = 0.0f64;
    for (name, want) in expected {
        let Some((_, got)) = given.iter().find(|(other, _)| other == name) else {
            let names: Vec<_> = given.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::MissingOutput {
                engine: engine.to_owned(),
                output: name.clone(),
                given: names.join(", "),
            });
        };
        let difference = match (want.as_f32(), got.as_f32()) {
            (Some(want_values), Some(got_values)) if want.shape() == got.shape() => {
                relative_difference(want_values, got_values)
            }
            (None, None) if want == got => 0.0,
            _ => f64::NAN,
        };
        if difference.is_nan() || difference > largest {
            largest = difference;
        }
        if largest.is_nan() {
            break;
        }
    }
    Ok((largest, Tolerance::of(Dtype::F32)))
}

/// Runs the reference alone.
fn calibrate(reference: &mut Ready, protocol: &Protocol, hash: String) -> Result<Calibration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, values: &[f32]) -> (String, Tensor) {
        (name.to_owned(), Tensor::f32([values.len()], values.to_vec()).unwrap())
    }

    #[test]
    fn differences_are_over_all_outputs_by_name() {
        let expected = [named("a", &[1.0, 2.0]), named("b", &[4.0])];
        let given = [named("b", &[5.0]), named("a", &[1.0, 2.0])];
        assert_eq!(largest_difference("e", &expected, &given).unwrap().0, 0.25);
        assert!(largest_difference("e", &expected, &given[..1]).unwrap_err().to_string().contains("`a`"));
        let nan = [named("a", &[1.0, f32::NAN]), named("b", &[4.0])];
        assert!(largest_difference("e", &expected, &nan).unwrap().0.is_nan());
        let shape = [named("a", &[1.0]), named("b", &[4.0])];
        assert!(largest_difference("e", &expected, &shape).unwrap().0.is_nan());
    }

    #[test]
    fn warm_up_ends_when_three_runs_agree() {
        assert!(!settled(&[9.0, 5.0, 4.0], 0.1));
        assert!(settled(&[9.0, 5.0, 4.1, 4.0, 4.2], 0.1));
    }

    #[test]
    fn synthetic_inputs_repeat_and_differ_between_inputs() {
        let info = InputInfo { name: "x".into(), dtype: Dtype::F32, shape: vec![2, 8] };
        assert_eq!(synthetic((0, &info)).unwrap(), synthetic((0, &info)).unwrap());
        assert_ne!(synthetic((0, &info)).unwrap(), synthetic((1, &info)).unwrap());
        let huge = InputInfo { shape: vec![usize::MAX, 2], ..info };
        assert!(synthetic((0, &huge)).is_err());
    }
}
