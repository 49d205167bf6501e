//! One model made ready in this process: loaded, run once, checked against a known answer, and warmed up.

use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Data, Dtype, Tensor, Tolerance, Verdict};
use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use super::{Gate, Golden, RunTime};
use crate::engine::{Engine, InputInfo, LoadOptions, LoadedModel, Tensors};
use crate::error::{Error, Result};
use crate::protocol::{Protocol, short_hash};
use crate::stats;

/// What is known about a model once it is warm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the engine.
    pub engine_version: String,
    /// Provider really used.
    pub provider: String,
    /// Loading, wall clock, in milliseconds.
    pub cold_load_ms: f64,
    /// The first run after loading, wall clock, in milliseconds.
    pub first_run_ms: f64,
    /// Warm-up runs after the first run.
    pub warm_ups: usize,
    /// The numeric gate.
    pub gate: Gate,
    /// Largest resident memory of the process up to the end of the first run, in bytes, where the process holds this model
    /// alone and the system tells it.
    pub peak_bytes: Option<u64>,
}

/// A model in this process.
pub struct Warm {
    model: Box<dyn LoadedModel>,
    inputs: Tensors,
    /// What is known about it.
    pub facts: Facts,
}

/// What [`Warm::up`] is told beside engines and model.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Execution provider; `None`: the engine's own.
    pub provider: Option<&'a str>,
    /// Shapes of inputs with symbolic extents.
    pub shapes: &'a [(String, Vec<usize>)],
    /// How to measure.
    pub protocol: &'a Protocol,
    /// Whether the process holds this model alone, so that its memory is the model's.
    pub alone: bool,
}

impl Warm {
    /// Loads a model (the bytes of an ONNX file), runs it once, checks its answer and warms it up.
    ///
    /// `gate` runs the model un-optimised and gives the answer that the engine must reproduce when there is no golden
    /// one; with neither, outputs must be finite, and [`Facts::gate`] says so.
    ///
    /// # Errors
    /// What loading and running give; [`Error::Gate`].
    pub fn up(
        id: &str,
        bytes: &[u8],
        golden: Option<&Golden>,
        engine: &dyn Engine,
        gate: Option<&dyn Engine>,
        terms: Terms<'_>,
    ) -> Result<Self> {
        let protocol = terms.protocol;
        let options = LoadOptions {
            threads: protocol.threads,
            provider: terms.provider.map(str::to_owned),
            optimise: true,
            shapes: terms.shapes.to_vec(),
            trace: false,
        };
        let engine_version = engine.version()?;
        let stamp = Stamp::now();
        let model = engine.load(bytes, &options)?;
        let (cold_load_ms, _) = stamp.elapsed_ms();
        let inputs = match golden {
            Some(golden) => golden.inputs.clone(),
            None => synthetic_inputs(model.as_ref())?,
        };
        let provider = model.provider_used().to_owned();
        let gate_so_far = Gate { reference: String::new(), difference: 0.0 };
        let facts = Facts {
            engine_version,
            provider,
            cold_load_ms,
            first_run_ms: 0.0,
            warm_ups: 0,
            gate: gate_so_far,
            peak_bytes: None,
        };
        let mut warm = Self { model, inputs, facts };
        let (first, outputs) = warm.timed()?;
        warm.facts.first_run_ms = first.wall_ms;
        // Before the gate's engine takes memory of its own.
        warm.facts.peak_bytes = if terms.alone { peak_bytes() } else { None };
        warm.facts.gate = warm.pass(id, bytes, golden, engine, gate, &outputs)?;
        let mut times = Vec::new();
        while times.len() < protocol.max_warm_ups {
            times.push(warm.timed()?.0.on(protocol.clock)?);
            if times.len() >= protocol.min_warm_ups && settled(&times, protocol.warm_up_spread) {
                break;
            }
        }
        warm.facts.warm_ups = times.len();
        Ok(warm)
    }

    /// One run.
    ///
    /// # Errors
    /// The engine's.
    pub fn timed(&mut self) -> Result<(RunTime, Tensors)> {
        let stamp = Stamp::now();
        let outputs = self.model.run(&self.inputs)?;
        let (wall_ms, cpu_ms) = stamp.elapsed_ms();
        Ok((RunTime { wall_ms, cpu_ms }, outputs))
    }

    /// Some runs in a row.
    ///
    /// # Errors
    /// The engine's.
    pub fn runs(&mut self, count: usize) -> Result<Vec<RunTime>> {
        (0..count).map(|_| self.timed().map(|(time, _)| time)).collect()
    }

    fn pass(
        &self,
        id: &str,
        bytes: &[u8],
        golden: Option<&Golden>,
        engine: &dyn Engine,
        gate: Option<&dyn Engine>,
        outputs: &[(String, Tensor)],
    ) -> Result<Gate> {
        let (reference, expected) = match (golden, gate) {
            (Some(golden), _) => ("golden".to_owned(), golden.outputs.clone()),
            (None, Some(gate)) => {
                let shapes = self.inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()));
                let shapes = shapes.collect();
                let options = LoadOptions { optimise: false, shapes, ..LoadOptions::default() };
                let answer = gate.load(bytes, &options)?.run(&self.inputs)?;
                (format!("{} {}, not optimised", gate.name(), gate.version()?), answer)
            }
            (None, None) => ("nothing (finite only)".to_owned(), outputs.to_vec()),
        };
        let (difference, bound) = largest_difference(engine.name(), &expected, outputs)?;
        if bound.judge(difference) == Verdict::Fail {
            return Err(Error::Gate {
                id: id.to_owned(),
                engine: engine.name().to_owned(),
                reference,
                difference,
                bound: bound.warn,
            });
        }
        Ok(Gate { reference, difference })
    }
}

/// Hash of a model's file, by which a reference network is known.
pub(crate) fn file_hash(bytes: &[u8]) -> String {
    short_hash(bytes)
}

/// Largest resident memory of this process so far, in bytes (Linux's `VmHWM`).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the last three runs lie close together.
fn settled(times: &[f64], spread: f64) -> bool {
    let last = stats::sorted(times.get(times.len().saturating_sub(3)..).unwrap_or(times));
    match (last.first(), last.last()) {
        (Some(low), Some(high)) => high - low <= spread * low,
        _ => false,
    }
}

/// Inputs for a model without known ones, the same in every process.
///
/// # Errors
/// When an input is too large to be made.
pub(crate) fn synthetic_inputs(model: &dyn LoadedModel) -> Result<Tensors> {
    model.inputs().iter().enumerate().map(synthetic).collect()
}

/// An input filled with values between -1 and 1.
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
        other => Data::Other(other, vec![0; elements.saturating_mul(other.bytes())].into()),
    };
    Ok((info.name.clone(), Tensor::new(info.shape.clone(), data)?))
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
