//! What a report shows, as plain data: a page can be made and tested without a run.

use masktas_export::VitArch;
use serde::{Deserialize, Serialize};

use crate::pipeline::Across;
use crate::teacher::TaughtBy;

/// Everything a report shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportData {
    /// Name of the run's folder.
    pub title: String,
    /// Version of the program that began the run.
    pub version: String,
    /// Who taught, and what is known about labels; `None` while that is not known. Only a teacher that saw none
    /// lets the page say label-free.
    pub teacher: Option<TaughtBy>,
    /// What happened, sentence by sentence.
    pub summary: Vec<String>,
    /// What a reader must not miss.
    pub notices: Vec<Notice>,
    /// The device that was searched for.
    pub target: String,
    /// Whether latencies are the catalogue's, and none was measured.
    pub prior: bool,
    /// Name and unit of the front's cost, such as `predicted latency (ms)`.
    pub cost_name: String,
    /// What of the cost the budget allows, in its unit.
    pub limit: Option<f64>,
    /// Every scored architecture.
    pub trials: Vec<TrialPoint>,
    /// Raw components of the reference subnets.
    pub references: Vec<Vec<f64>>,
    /// The front, cheapest first.
    pub front: Vec<FrontRow>,
    /// Latency models, the one a budget speaks of first.
    pub latency: Vec<LatencySection>,
    /// Exported members of the front.
    pub finalists: Vec<FinalistRow>,
    /// Where several devices were searched for: what each measured of all their fronts.
    #[serde(default)]
    pub across: Vec<Across>,
    /// Engines that were asked for parity, in order.
    pub engines: Vec<String>,
    /// Training curves.
    pub curves: Vec<Curve>,
    /// Images, splits, seeds.
    pub search: Vec<Fact>,
    /// The machine and the versions.
    pub machine: Vec<Fact>,
    /// Files that could not be used: path and reason.
    pub skipped: Vec<Fact>,
    /// The recipe as it took effect.
    pub recipe: String,
    /// What to type next.
    pub next: Vec<Step>,
}

/// Something a reader must not miss.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// `warn` or `fail`.
    pub level: String,
    /// The text.
    pub text: String,
}

/// A name and a value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fact {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A command and what it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub what: String,
    /// The command line.
    pub command: String,
}

/// One scored architecture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialPoint {
    /// Id.
    pub id: String,
    /// Fused score, higher is better.
    pub score: f64,
    /// Cost, lower is better.
    pub cost: f64,
    /// Components in the order of [`FrontRow::components`].
    pub components: Vec<f64>,
    /// Whether nothing beats it in both.
    pub on_front: bool,
}

/// One component of a score.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComponentRow {
    /// Name.
    pub name: String,
    /// Value, in the component's own unit.
    pub value: f64,
    /// Standard error.
    pub error: f64,
    /// Whether higher is better.
    pub higher_is_better: bool,
}

/// A member of the front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontRow {
    /// Id.
    pub id: String,
    /// `knee`, `best`, `fastest`, several of them, or nothing.
    pub mark: String,
    /// Fused score.
    pub score: f64,
    /// Cost.
    pub cost: f64,
    /// Encoder parameters.
    pub parameters: u64,
    /// Floating-point operations of one image.
    pub flops: u64,
    /// Components of the score.
    pub components: Vec<ComponentRow>,
}

/// A latency model of one engine, and the measurements it was fitted to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencySection {
    /// Engine.
    pub engine: String,
    /// Its version, provider, threads and the protocol's hash, for people.
    pub how: String,
    /// How the model predicts, in one line; runs of earlier versions do not say.
    pub method: Option<String>,
    /// Measurements predicted by a fit that had not seen them.
    pub held_out: usize,
    /// Their mean absolute percentage error, as a share.
    pub mape: f64,
    /// Share of them within 10 %.
    pub within_10: f64,
    /// Share of them inside the 90 % interval.
    pub coverage: f64,
    /// Their rank correlation.
    pub spearman: Option<f64>,
    /// Subnets that could not be measured.
    pub failed: usize,
    /// Measurements whose interval did not become as narrow as asked.
    pub noisy: usize,
    /// Profiled subnets: measured and predicted milliseconds, by the fit to all of them.
    pub fitted: Vec<(String, f64, f64)>,
    /// Finalists, which no fit has seen: measured and predicted milliseconds.
    pub fresh: Vec<(String, f64, f64)>,
}

/// One latency of a finalist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredRow {
    /// Engine.
    pub engine: String,
    /// Milliseconds.
    pub ms: f64,
    /// Half-width of its interval, as a share.
    pub half_width: f64,
    /// 90th percentile of the raw runs, milliseconds.
    pub p90_ms: f64,
    /// Median absolute deviation of the raw runs, milliseconds.
    pub mad_ms: f64,
    /// Timed runs.
    pub n: usize,
    /// `steady`, `noisy` or `throttled`.
    pub verdict: String,
    /// Millijoules of one run above what the device takes when idle, where it has sensors.
    pub millijoules: Option<f64>,
    /// What was seen that makes it less sure.
    pub notes: Vec<String>,
}

/// One engine's answer to a golden pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParityRow {
    /// Engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Provider really used.
    pub provider: String,
    /// Largest difference over largest value; absent when there was no answer.
    pub difference: Option<f64>,
    /// `pass`, `warn` or `fail`.
    pub verdict: String,
    /// Why there is no difference.
    pub error: Option<String>,
}

/// A finalist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinalistRow {
    /// Id.
    pub id: String,
    /// As [`FrontRow::mark`].
    pub mark: String,
    /// Fused score.
    pub score: f64,
    /// Its architecture.
    pub arch: VitArch,
    /// Encoder parameters.
    pub parameters: u64,
    /// Name of the ONNX file.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Predicted milliseconds with the ends of the 90 % interval.
    pub predicted: Option<[f64; 3]>,
    /// Whether the prediction left the range of what was measured.
    pub extrapolated: bool,
    /// What was measured afterwards.
    pub measured: Vec<MeasuredRow>,
    /// Its answers here.
    pub parity: Vec<ParityRow>,
    /// Its answers on the target, where that is another machine and was connected.
    pub there: Vec<ParityRow>,
    /// The worst of their verdicts.
    pub verdict: String,
}

/// A training curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// Name, such as `supernet`.
    pub name: String,
    /// Its terms.
    pub lines: Vec<Line>,
}

/// One term of a training curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Name, such as `pixel`.
    pub name: String,
    /// Steps and values.
    pub points: Vec<(f64, f64)>,
}
