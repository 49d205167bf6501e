//! Timing models by the paired protocol.
//!
//! [`Bench`] holds the job, the reference network and its calibration; it turns models into [`Measurement`]s. Each model is
//! a [`Warm`] one, in this process or in a [worker](crate::worker) of its own.

mod bench;
mod clock;
mod energy;
mod place;
mod rounds;
mod warm;

use serde::{Deserialize, Serialize};

use crate::engine::Tensors;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, State};
use crate::protocol::Protocol;
use crate::stats;

pub use bench::{Bench, Measure, Subject};
pub use energy::Energy;
pub(crate) use place::warm;
pub use rounds::{Round, RunTime};
pub use warm::{Facts, Terms, Warm};
pub(crate) use warm::{largest_difference, synthetic_inputs};

/// Inputs and the outputs they must give.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Inputs.
    pub inputs: Tensors,
    /// Outputs.
    pub outputs: Tensors,
}

/// How a batch of models is to be measured: plain data, so that it can be sent to another machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchJob {
    /// Engine by name.
    pub engine: String,
    /// Engine whose un-optimised run gives the answer of the numeric gate; `None`: only finite outputs are asked for, and every
    /// measurement says so.
    pub gate: Option<String>,
    /// Execution provider; `None`: the engine's own CPU or adapter.
    pub provider: Option<String>,
    /// Shapes of inputs that have symbolic extents.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// How to measure.
    pub protocol: Protocol,
    /// The calibration of an earlier session, so that old and new measurements are in one unit.
    pub calibration: Option<Calibration>,
}

impl BenchJob {
    /// `engine` on the CPU, gated by ONNX Runtime's own un-optimised run.
    pub fn new(engine: &str, protocol: &Protocol) -> Self {
        Self {
            engine: engine.to_owned(),
            gate: Some("ort".to_owned()),
            provider: None,
            shapes: Vec::new(),
            protocol: protocol.clone(),
            calibration: None,
        }
    }
}

/// Whether a measurement settled; the better, the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steadiness {
    /// The interval is as narrow as the protocol asks.
    Steady,
    /// It is not; the notes say what was seen.
    Noisy,
    /// The device slowed itself down meanwhile, so the number is not of the device at its usual speed.
    Throttled,
}

impl std::fmt::Display for Steadiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Steadiness::Steady => "steady",
            Steadiness::Noisy => "noisy",
            Steadiness::Throttled => "throttled",
        })
    }
}

/// The reference network's own time, the unit in which ratios become milliseconds. It is measured once per
/// profile and kept with it, because measuring it anew would bring back the drift that pairing takes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// First 16 hexadecimal digits of the SHA-256 of the reference network's file.
    pub reference: String,
    /// Milliseconds of one run: median over rounds of round medians, on the protocol's clock.
    pub ms: f64,
    /// Relative half-width of its bootstrap interval.
    pub half_width: f64,
}

/// The numeric gate that was passed before timing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What the outputs were compared with: `golden`, `ort VERSION, not optimised`, or `nothing (finite only)`
    /// where there was neither.
    pub reference: String,
    /// Largest difference over largest absolute value; 0 where only finiteness was checked.
    pub difference: f64,
}

/// One model's latency and everything needed to judge and repeat it. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The value: ratio to the reference times the reference's calibrated time.
    pub ms: f64,
    /// Median over rounds of the ratio to the reference network.
    pub ratio: f64,
    /// Half-width of the bootstrap interval of `ratio`, as a fraction of it.
    pub half_width: f64,
    /// Whether the interval is as narrow as asked.
    pub verdict: Steadiness,
    /// What was seen that makes the numbers less sure, one sentence each.
    pub notes: Vec<String>,
    /// Median of all runs, on the protocol's clock, not normalised. So are the next five.
    pub median_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Minimum.
    pub min_ms: f64,
    /// Median absolute deviation.
    pub mad_ms: f64,
    /// Timed runs.
    pub n: usize,
    /// Warm-up runs after the first run.
    pub warm_ups: usize,
    /// Loading the model, wall clock.
    pub cold_load_ms: f64,
    /// The first run after loading, wall clock.
    pub first_run_ms: f64,
    /// Largest resident memory of the model's process up to the end of its first run, in bytes: engine, weights and activations.
    /// `None` when models shared a process, or the system does not tell.
    #[serde(default)]
    pub peak_bytes: Option<u64>,
    /// The numeric gate.
    pub gate: Gate,
    /// The reference network.
    pub calibration: Calibration,
    /// Hash of the protocol.
    pub protocol: String,
    /// Engine.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Provider really used.
    pub provider: String,
    /// Threads inside one operation.
    pub threads: usize,
    /// The machine before the batch.
    pub fingerprint: Fingerprint,
    /// Its changing values after the batch.
    pub after: State,
    /// What a run takes from the battery, where the device has sensors.
    #[serde(default)]
    pub energy: Option<Energy>,
    /// Raw samples.
    pub rounds: Vec<Round>,
}

/// What must agree before measurements may feed one latency model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Engine.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Provider really used.
    pub provider: String,
    /// Threads.
    pub threads: usize,
    /// Hash of the protocol.
    pub protocol: String,
    /// Hash of the reference network.
    pub reference: String,
    /// Key of the fingerprint.
    pub fingerprint: String,
}

impl Key {
    /// Refuses a key that differs.
    ///
    /// # Errors
    /// [`Error::Incomparable`] naming the first thing that differs and both values.
    pub fn matches(&self, other: &Key) -> Result<()> {
        let threads = (self.threads.to_string(), other.threads.to_string());
        let parts: [(&str, &str, &str); 7] = [
            ("engines", &self.engine, &other.engine),
            ("engine versions", &self.engine_version, &other.engine_version),
            ("providers", &self.provider, &other.provider),
            ("thread counts", &threads.0, &threads.1),
            ("protocols", &self.protocol, &other.protocol),
            ("reference networks", &self.reference, &other.reference),
            ("machines", &self.fingerprint, &other.fingerprint),
        ];
        match parts.iter().find(|(_, left, right)| left != right) {
            None => Ok(()),
            Some((what, left, right)) => Err(Error::Incomparable {
                what: (*what).to_owned(),
                left: (*left).to_owned(),
                right: (*right).to_owned(),
            }),
        }
    }
}

impl Measurement {
    /// What must agree before this may be mixed with another.
    pub fn key(&self) -> Key {
        Key {
            engine: self.engine.clone(),
            engine_version: self.engine_version.clone(),
            provider: self.provider.clone(),
            threads: self.threads,
            protocol: self.protocol.clone(),
            reference: self.calibration.reference.clone(),
            fingerprint: self.fingerprint.key(),
        }
    }

    /// The same with the reference network's time taken over all rounds of this measurement instead of from its calibration
    /// beforehand: for a number that stands alone. The half-width is then of both, the ratio and the reference's time. It
    /// no longer has one unit with measurements of other batches.
    pub fn standing_alone(mut self, protocol: &Protocol) -> Self {
        let times: Vec<f64> = self.rounds.iter().map(|round| round.reference_ms).collect();
        let Some(ms) = stats::median(&times) else { return self };
        let half_width = stats::bootstrap_half_width(&times, protocol.confidence, protocol.resamples, 0);
        let half_width = half_width.unwrap_or(f64::NAN);
        self.calibration = Calibration { ms, half_width, ..self.calibration };
        self.ms = self.ratio * ms;
        // What was said of the ratio alone is said of both.
        let ratio_alone = wide(self.rounds.len(), self.half_width, protocol);
        self.notes.retain(|note| *note != ratio_alone);
        self.half_width = self.half_width.hypot(half_width);
        // Each of the two may be as wide as asked.
        let narrow = self.half_width <= 2.0 * protocol.half_width;
        if self.verdict == Steadiness::Steady && !narrow {
            self.verdict = Steadiness::Noisy;
        }
        if self.verdict != Steadiness::Steady && self.half_width > protocol.half_width {
            self.notes.insert(0, wide(self.rounds.len(), self.half_width, protocol));
        }
        self
    }

    /// What is to be said of a load average above the number of cores. It is the machine's, and the same for all of a batch.
    pub fn load_note(&self) -> Option<String> {
        let cores = self.fingerprint.cores;
        let load = self.fingerprint.state.load_1m.filter(|load| *load > cores as f64)?;
        Some(format!("the load average was {load:.1} on {cores} cores"))
    }

    /// This value over the other's. Engines and machines may differ; the way of measuring may not.
    ///
    /// # Errors
    /// [`Error::Incomparable`] when the protocols differ.
    pub fn over(&self, other: &Measurement) -> Result<f64> {
        if self.protocol != other.protocol {
            return Err(Error::Incomparable {
                what: "protocols".into(),
                left: self.protocol.clone(),
                right: other.protocol.clone(),
            });
        }
        Ok(self.ms / other.ms)
    }
}

/// The note on an interval that is wider than was asked for.
fn wide(rounds: usize, half_width: f64, protocol: &Protocol) -> String {
    format!(
        "after {rounds} rounds the half-width is {:.1} % and {:.1} % was asked for",
        100.0 * half_width,
        100.0 * protocol.half_width
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn measurement(ms: f64) -> Measurement {
        Measurement {
            ms,
            ratio: 1.0,
            half_width: 0.01,
            verdict: Steadiness::Steady,
            notes: Vec::new(),
            median_ms: ms,
            p90_ms: ms,
            p95_ms: ms,
            p99_ms: ms,
            min_ms: ms,
            mad_ms: 0.0,
            n: 40,
            warm_ups: 3,
            cold_load_ms: 1.0,
            first_run_ms: 1.0,
            peak_bytes: None,
            gate: Gate { reference: "golden".into(), difference: 0.0 },
            calibration: Calibration { reference: "r".into(), ms: 1.0, half_width: 0.01 },
            protocol: "p".into(),
            engine: "ort".into(),
            engine_version: "1.31.1".into(),
            provider: "CPUExecutionProvider".into(),
            threads: 1,
            fingerprint: Fingerprint::default(),
            after: State::default(),
            energy: None,
            rounds: Vec::new(),
        }
    }

    #[test]
    fn two_protocols_are_never_compared() {
        let (a, mut b) = (measurement(2.0), measurement(4.0));
        assert_eq!(a.over(&b).unwrap(), 0.5);
        b.protocol = "q".into();
        let text = a.over(&b).unwrap_err().to_string();
        assert!(text.contains("protocols") && text.contains("p and q"), "{text}");
        assert!(a.key().matches(&b.key()).is_err());
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let base = measurement(2.0);
        assert!(base.key().matches(&measurement(9.0).key()).is_ok());
        let changes: [fn(&mut Measurement); 7] = [
            |m| m.engine.push('x'),
            |m| m.engine_version.push('x'),
            |m| m.provider.push('x'),
            |m| m.threads += 1,
            |m| m.protocol.push('x'),
            |m| m.calibration.reference.push('x'),
            |m| m.fingerprint.cpu.push('x'),
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert!(base.key().matches(&other.key()).is_err());
        }
    }

    #[test]
    fn a_number_that_stands_alone_is_of_all_rounds() {
        let round = |reference_ms: f64| Round { position: 0, runs: Vec::new(), median_ms: 0.0, reference_ms };
        let protocol = Protocol::default();
        let mut m = measurement(2.0);
        // Calibrated in a slow moment; the rounds came later.
        m.calibration.ms = 2.0;
        m.rounds = (0..20).map(|at| round(1.0 + 0.001 * f64::from(at % 3))).collect();
        let alone = m.clone().standing_alone(&protocol);
        assert!((alone.ms - 1.001).abs() < 1e-9 && alone.half_width >= m.half_width, "{alone:?}");
        assert_eq!(alone.verdict, Steadiness::Steady);
        m.rounds = (0..20).map(|at| round(if at % 2 == 0 { 1.0 } else { 1.5 })).collect();
        let alone = m.standing_alone(&protocol);
        assert_eq!(alone.verdict, Steadiness::Noisy);
        let width = format!("half-width is {:.1} %", 100.0 * alone.half_width);
        assert!(alone.half_width > 0.04 && alone.notes[0].contains(&width), "{alone:?}");
    }

    #[test]
    fn a_noisy_number_that_stands_alone_has_one_width() {
        let protocol = Protocol::default();
        let round = |reference_ms: f64| Round { position: 0, runs: Vec::new(), median_ms: 0.0, reference_ms };
        let mut m = measurement(2.0);
        (m.half_width, m.verdict) = (0.033, Steadiness::Noisy);
        m.rounds = (0..20).map(|at| round(if at % 2 == 0 { 1.0 } else { 1.1 })).collect();
        m.notes = vec![wide(20, 0.033, &protocol), "something else".into()];
        let alone = m.standing_alone(&protocol);
        assert_eq!(alone.notes, [wide(20, alone.half_width, &protocol), "something else".to_owned()]);
        assert!(alone.half_width > 0.033);
    }

    #[test]
    fn a_load_above_the_cores_has_a_note() {
        let mut m = measurement(2.0);
        (m.fingerprint.cores, m.fingerprint.state.load_1m) = (2, Some(3.1));
        assert_eq!(m.load_note().unwrap(), "the load average was 3.1 on 2 cores");
        m.fingerprint.state.load_1m = Some(1.9);
        assert_eq!(m.load_note(), None);
    }

    #[test]
    fn stored_form_round_trips() {
        let m = measurement(2.0);
        let text = serde_json::to_string(&m).unwrap();
        assert_eq!(serde_json::from_str::<Measurement>(&text).unwrap(), m);
    }
}
