//! How a latency is measured, as data: two numbers may be compared only when their protocols agree.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The clock a run's cost is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Time that passes: what a user waits.
    Wall,
    /// Processor time of this process. Blind to other programs' time slices, so it is the better clock on a shared machine,
    /// for one thread only; meaningless for a GPU.
    Cpu,
}

/// The paired, rotated protocol.
///
/// The models of a batch and one fixed reference network are loaded side by side, each in a process of its own or all in
/// one. A round runs each of them
/// [`Protocol::runs`] times in a row; the order is rotated by one place every round. The value of a model is the median over
/// rounds of (median of its runs in the round / median of the reference's runs in the round), times the
/// reference's calibrated milliseconds. Pairing cancels drift that is slower than a round, which is the larger part on a
/// machine that is not quiet. Rounds are added until the bootstrap interval of every model in the batch is narrow enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Revision of the procedure itself; raised when its code changes what is measured.
    pub revision: u32,
    /// Clock of the value.
    pub clock: Clock,
    /// Threads inside one operation. They never spin while they wait, which would steal time from the next model.
    pub threads: usize,
    /// Whether each model has a process of its own, so that one that crashes, hangs or takes all memory is one failed row.
    #[serde(default)]
    pub isolated: bool,
    /// Runs of each model in a round.
    pub runs: usize,
    /// Fewest rounds.
    pub min_rounds: usize,
    /// Most rounds; a batch that is still too wide then is marked noisy.
    pub max_rounds: usize,
    /// Rounds of a batch are spread over at least this time, in seconds, because drift is slow; `max_rounds` comes first.
    pub spread_s: f64,
    /// Fewest warm-up runs after loading.
    pub min_warm_ups: usize,
    /// Most warm-up runs.
    pub max_warm_ups: usize,
    /// Warm-up ends when the last three runs lie within this fraction of each other.
    pub warm_up_spread: f64,
    /// Target for the half-width of the interval, as a fraction of the value.
    pub half_width: f64,
    /// Confidence of the interval.
    pub confidence: f64,
    /// Bootstrap draws.
    pub resamples: usize,
    /// Models in a batch beside the reference.
    pub batch: usize,
    /// Seconds for which the reference alone is run to calibrate its milliseconds.
    pub calibration_s: f64,
}

/// Revision of the procedure in this version of the crate.
pub const REVISION: u32 = 1;

impl Default for Protocol {
    /// For a device that runs nothing else: wall clock, one thread, half-width at most 2 %.
    fn default() -> Self {
        Self {
            revision: REVISION,
            clock: Clock::Wall,
            threads: 1,
            isolated: false,
            runs: 5,
            min_rounds: 8,
            max_rounds: 40,
            spread_s: 4.0,
            min_warm_ups: 3,
            max_warm_ups: 20,
            warm_up_spread: 0.1,
            half_width: 0.02,
            confidence: 0.95,
            resamples: 400,
            batch: 8,
            calibration_s: 2.0,
        }
    }
}

impl Protocol {
    /// For a machine shared with other programs: processor time, one thread.
    pub fn shared() -> Self {
        Self { clock: Clock::Cpu, ..Self::default() }
    }

    /// Identity of the protocol: the first 16 hexadecimal digits of the SHA-256 of its fields in fixed order.
    pub fn hash(&self) -> String {
        // Written out by hand so that neither a serializer's habits nor the order of fields can change it.
        let text = format!(
            "masktas paired-rotated {};clock={:?};threads={};isolated={};runs={};rounds={}..{};spread={};warm={}..{}@{};half={};\
             conf={};draws={};batch={};calibration={}",
            self.revision,
            self.clock,
            self.threads,
            self.isolated,
            self.runs,
            self.min_rounds,
            self.max_rounds,
            self.spread_s,
            self.min_warm_ups,
            self.max_warm_ups,
            self.warm_up_spread,
            self.half_width,
            self.confidence,
            self.resamples,
            self.batch,
            self.calibration_s
        );
        short_hash(text.as_bytes())
    }

    /// Refuses numbers that contradict each other.
    ///
    /// # Errors
    /// [`Error::InvalidProtocol`] with both numbers.
    pub fn validate(&self) -> Result<()> {
        let at_least = |name: &str, got: usize, need: usize| {
            if got >= need { Ok(()) } else { Err(format!("{name} is {got} and must be at least {need}")) }
        };
        let at_most = |name: &str, got: usize, most: usize| {
            if got <= most { Ok(()) } else { Err(format!("{name} is {got} and must be at most {most}")) }
        };
        let inside = |name: &str, got: f64, low: f64, high: f64| {
            if got > low && got < high {
                Ok(())
            } else {
                Err(format!("{name} is {got} and must lie between {low} and {high}"))
            }
        };
        let checks = [
            if self.revision == REVISION {
                Ok(())
            } else {
                Err(format!("revision is {} and this version measures by revision {REVISION}", self.revision))
            },
            at_least("threads", self.threads, 1),
            at_least("runs", self.runs, 1),
            at_least("min_rounds", self.min_rounds, 2),
            at_least("max_rounds", self.max_rounds, self.min_rounds),
            at_least("min_warm_ups", self.min_warm_ups, 1),
            at_least("max_warm_ups", self.max_warm_ups, self.min_warm_ups),
            at_least("resamples", self.resamples, 100),
            at_least("batch", self.batch, 1),
            // Whoever asks for more asks for all memory or for ever.
            at_most("threads", self.threads, 4096),
            at_most("runs", self.runs, 100_000),
            at_most("max_rounds", self.max_rounds, 1_000_000),
            at_most("max_warm_ups", self.max_warm_ups, 1_000_000),
            at_most("resamples", self.resamples, 100_000),
            at_most("batch", self.batch, 1024),
            inside("half_width", self.half_width, 0.0, 1.0),
            inside("confidence", self.confidence, 0.5, 1.0),
            inside("warm_up_spread", self.warm_up_spread, 0.0, 10.0),
            inside("spread_s", self.spread_s, -1e-9, 3600.0),
            inside("calibration_s", self.calibration_s, -1e-9, 3600.0),
            if self.clock == Clock::Cpu && self.threads != 1 {
                Err(format!("the cpu clock measures 1 thread only and threads is {}", self.threads))
            } else {
                Ok(())
            },
        ];
        checks
            .into_iter()
            .collect::<std::result::Result<(), String>>()
            .map_err(|reason| Error::InvalidProtocol { reason })
    }
}

/// The first 16 hexadecimal digits of a SHA-256.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_field() {
        let base = Protocol::default();
        assert_eq!(base.hash().len(), 16);
        assert_eq!(base.hash(), Protocol::default().hash());
        // Change one field at a time through its stored form, so that a field forgotten in `hash` is found.
        let serde_json::Value::Object(fields) = serde_json::to_value(&base).unwrap() else { panic!() };
        for (name, value) in &fields {
            let mut changed = fields.clone();
            let other = match value {
                serde_json::Value::String(_) => serde_json::json!("cpu"),
                serde_json::Value::Bool(on) => serde_json::json!(!on),
                serde_json::Value::Number(n) if n.is_f64() => serde_json::json!(n.as_f64().unwrap() + 0.001),
                serde_json::Value::Number(n) => serde_json::json!(n.as_u64().unwrap() + 1),
                other => panic!("{other}"),
            };
            changed.insert(name.clone(), other);
            let changed: Protocol = serde_json::from_value(serde_json::Value::Object(changed)).unwrap();
            assert_ne!(changed.hash(), base.hash(), "{name}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(Protocol::default().validate().is_ok());
        assert!(Protocol::shared().validate().is_ok());
        let text = |protocol: Protocol| protocol.validate().unwrap_err().to_string();
        let wrong = text(Protocol { min_rounds: 9, max_rounds: 8, ..Protocol::default() });
        assert!(wrong.contains('9') && wrong.contains('8'), "{wrong}");
        assert!(text(Protocol { threads: 2, ..Protocol::shared() }).contains("cpu clock"));
        assert!(text(Protocol { half_width: f64::NAN, ..Protocol::default() }).contains("half_width"));
        let huge = Protocol { resamples: usize::MAX, ..Protocol::default() };
        assert!(text(huge).contains("must be at most 100000"));
        assert!(
            text(Protocol { min_rounds: 1 << 40, max_rounds: 1 << 40, ..Protocol::default() })
                .contains("max_rounds")
        );
        assert!(text(Protocol { revision: 7, ..Protocol::default() }).contains("revision is 7"));
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(serde_json::from_str::<Protocol>(r#"{"revision":1,"cloc":"wall"}"#).is_err());
    }
}
