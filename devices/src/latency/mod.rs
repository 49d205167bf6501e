//! Latency models: from what a graph costs to the milliseconds it takes on one device under one engine.
//!
//! Adding a kind of model is one file and one line in the table `MODELS`. Every prediction carries an interval, and every
//! fitted model knows its own held-out error.

mod adaptive;
mod additive;
mod boost;
mod cholesky;
mod choose;
mod evaluate;
mod interval;
mod joint;
mod nnls;
mod ridge;
mod terms;

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measure::Key;

pub use adaptive::{Adaptive, MIN_SAMPLES_WITH_SOURCES, Tried};
pub use choose::{active, diverse};
pub use evaluate::Regime;
pub use interval::{CONFIDENCE, cv_plus};
pub use nnls::{Nnls, solve};
pub use ridge::{MIN_SAMPLES, Ridge};
pub use terms::SOURCE;

/// One measured graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it costs.
    pub features: Features,
    /// Measured milliseconds.
    pub ms: f64,
    /// Where and how it was measured.
    pub key: Key,
}

/// A predicted latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Milliseconds.
    pub ms: f64,
    /// Lower end of the 90 % interval, in milliseconds; at least 0.
    pub low: f64,
    /// Upper end of the 90 % interval, in milliseconds.
    pub high: f64,
    /// Whether a feature lies outside what was measured, so that the interval promises too much.
    pub extrapolated: bool,
}

/// Error of a model on measurements it was not fitted to. Shares are fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Measurements predicted by a fit that had not seen them.
    pub n: usize,
    /// Mean absolute error over the measured value.
    pub mape: f64,
    /// Share within 5 % of the measured value.
    pub within_5: f64,
    /// Share within 10 % of the measured value.
    pub within_10: f64,
    /// Spearman rank correlation; `None` when one side does not vary.
    pub spearman: Option<f64>,
    /// Share inside the interval.
    pub coverage: f64,
    /// Mean width of the interval over the prediction.
    pub width: f64,
}

impl HeldOut {
    /// Judges predictions against measured milliseconds. `None` when there are none, or lengths differ.
    pub fn of(predictions: &[Prediction], measured: &[f64]) -> Option<Self> {
        if predictions.len() != measured.len() || measured.is_empty() {
            return None;
        }
        let n = measured.len() as f64;
        let errors: Vec<f64> =
            predictions.iter().zip(measured).map(|(p, y)| (p.ms - y).abs() / y.abs()).collect();
        let share =
            |keep: &dyn Fn(usize) -> bool| (0..measured.len()).filter(|i| keep(*i)).count() as f64 / n;
        let within = |bound: f64| share(&|i| errors.get(i).is_some_and(|e| *e <= bound));
        let inside = |i: usize| match (predictions.get(i), measured.get(i)) {
            (Some(p), Some(y)) => p.low <= *y && *y <= p.high,
            _ => false,
        };
        let predicted: Vec<f64> = predictions.iter().map(|p| p.ms).collect();
        Some(Self {
            n: measured.len(),
            mape: errors.iter().sum::<f64>() / n,
            within_5: within(0.05),
            within_10: within(0.10),
            spearman: crate::stats::spearman(&predicted, measured),
            coverage: share(&inside),
            width: predictions.iter().map(|p| (p.high - p.low) / p.ms).sum::<f64>() / n,
        })
    }
}

/// Predicts latencies.
pub trait LatencyModel {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// Fits the model to measurements of one machine, one engine and one protocol, and estimates its held-out error.
    ///
    /// # Errors
    /// [`Error::TooFewSamples`]; [`Error::Incomparable`] when keys are mixed; [`Error::InvalidFeatures`] when
    /// versions or names differ, or a number is negative, not finite, or (a latency) zero.
    fn fit(&mut self, samples: &[Sample]) -> Result<()>;

    /// The latency of a graph.
    ///
    /// # Errors
    /// [`Error::NotFitted`]; [`Error::InvalidFeatures`].
    fn predict(&self, features: &Features) -> Result<Prediction>;

    /// Error on measurements left out of the fit.
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    fn held_out(&self) -> Result<&HeldOut>;

    /// The key of the measurements it was fitted to.
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    fn key(&self) -> Result<&Key>;

    /// What was fitted and how well it does on measurements left out, in one line for people.
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    fn describe(&self) -> Result<String>;

    /// The model as JSON, for [`from_json`].
    ///
    /// # Errors
    /// [`Error::InvalidLatencyModel`].
    fn to_json(&self) -> Result<String>;
}

type Make = fn() -> Box<dyn LatencyModel>;
type Read = fn(serde_json::Value) -> serde_json::Result<Box<dyn LatencyModel>>;

/// The registry: name, maker, reader.
const MODELS: &[(&str, Make, Read)] = &[
    (
        adaptive::NAME,
        || Box::new(Adaptive::default()),
        |value| Ok(Box::new(serde_json::from_value::<Adaptive>(value)?)),
    ),
    (
        ridge::NAME,
        || Box::new(Ridge::default()),
        |value| Ok(Box::new(serde_json::from_value::<Ridge>(value)?)),
    ),
];

/// The kind that serves best where nothing else is asked for.
pub const DEFAULT_MODEL: &str = adaptive::NAME;

/// Names of all kinds of latency model.
pub fn latency_models() -> Vec<&'static str> {
    MODELS.iter().map(|(name, _, _)| *name).collect()
}

/// An unfitted model of the kind called `name`.
///
/// # Errors
/// [`Error::InvalidLatencyModel`] with the kinds that exist.
pub fn latency_model(name: &str) -> Result<Box<dyn LatencyModel>> {
    let found = MODELS.iter().find(|(known, _, _)| *known == name);
    found.map(|(_, make, _)| make()).ok_or_else(|| unknown(name))
}

/// A stored model.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: String,
    version: u32,
    model: serde_json::Value,
}

/// Version of the stored form, and the oldest that is read: version 1 held a ridge, whose form has not changed.
const STORED: u32 = 2;
const OLDEST: u32 = 1;

fn to_json(kind: &str, model: &impl Serialize) -> Result<String> {
    let fail = |e: serde_json::Error| Error::InvalidLatencyModel { reason: e.to_string() };
    let model = serde_json::to_value(model).map_err(fail)?;
    serde_json::to_string_pretty(&Stored { kind: kind.to_owned(), version: STORED, model }).map_err(fail)
}

/// A model stored by [`LatencyModel::to_json`].
///
/// # Errors
/// [`Error::InvalidLatencyModel`].
pub fn from_json(text: &str) -> Result<Box<dyn LatencyModel>> {
    let fail = |e: serde_json::Error| Error::InvalidLatencyModel { reason: e.to_string() };
    let stored: Stored = serde_json::from_str(text).map_err(fail)?;
    if !(OLDEST..=STORED).contains(&stored.version) {
        return Err(Error::InvalidLatencyModel {
            reason: format!("its version is {} and this program reads {OLDEST} to {STORED}", stored.version),
        });
    }
    let found = MODELS.iter().find(|(known, _, _)| *known == stored.kind);
    let (_, _, read) = found.ok_or_else(|| unknown(&stored.kind))?;
    read(stored.model).map_err(fail)
}

fn unknown(name: &str) -> Error {
    Error::InvalidLatencyModel {
        reason: format!("there is no kind `{name}`, only {}", latency_models().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_numbers_are_what_they_say() {
        let p = |ms: f64| Prediction { ms, low: ms * 0.9, high: ms * 1.1, extrapolated: false };
        let h = HeldOut::of(&[p(104.0), p(108.0), p(150.0), p(90.0)], &[100.0, 100.0, 100.0, 90.0]).unwrap();
        assert_eq!((h.n, h.within_5, h.within_10, h.coverage), (4, 0.5, 0.75, 0.75));
        assert!((h.mape - (0.04 + 0.08 + 0.5) / 4.0).abs() < 1e-12 && (h.width - 0.2).abs() < 1e-12);
        assert!(HeldOut::of(&[], &[]).is_none());
    }

    #[test]
    fn stored_models_of_another_kind_or_version_are_refused() {
        assert!(from_json("{}").is_err());
        let text = |kind: &str, version: u32| {
            let text = format!(r#"{{"kind":"{kind}","version":{version},"model":null}}"#);
            from_json(&text).err().unwrap().to_string()
        };
        assert!(text("forest", 1).contains("forest") && text("forest", 1).contains("ridge"));
        assert!(text("ridge", 3).contains("version is 3") && text("ridge", 3).contains("1 to 2"));
        assert!(latency_model("forest").is_err());
    }
}
