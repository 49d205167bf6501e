//! Ridge regression of latency on a graph's features, with non-negative coefficients, in relative error.

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use super::interval::{CONFIDENCE, at_rank, cv_plus, upper_rank};
use super::nnls::Nnls;
use super::terms::{canonical, check, check_features, outside, range};
use super::{HeldOut, LatencyModel, Prediction, Sample, to_json};
use crate::error::{Error, Result};
use crate::measure::Key;
use crate::stats::Rng;

pub(super) const NAME: &str = "ridge";

/// Fewest measurements of a fit: below it a 90 % interval has no finite upper end.
pub const MIN_SAMPLES: usize = 10;

const FOLDS: usize = 10;
/// Penalties tried, largest first so that each fit starts from the one before; relative to columns of unit
/// root mean square.
const PENALTIES: [f64; 13] = [1.0, 0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6];
/// Largest relative residual, so that a left-out prediction of 0 ms stays a number that can be stored.
const WORST: f64 = 1e6;

/// Latency as a non-negative sum of features and a constant.
///
/// The fit minimises the mean squared *relative* error, so a small network counts as much as a large one. Coefficients are
/// non-negative because every term costs time; they are times per unit of the feature. The penalty is
/// chosen by 10-fold cross-validation, whose left-out predictions give the held-out error and the interval ([`cv_plus`]).
/// The result depends on the set of measurements, not on their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ridge {
    fitted: Option<Fitted>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fitted {
    version: u32,
    names: Vec<String>,
    key: Key,
    penalty: f64,
    /// Milliseconds per unit of each feature; the last is the constant.
    coefficients: Vec<f64>,
    /// The same, of each fit that left a fold out.
    folds: Vec<Vec<f64>>,
    /// For each measurement: its fold and its relative residual there.
    residuals: Vec<(usize, f64)>,
    /// Smallest and largest value of each feature.
    range: Vec<(f64, f64)>,
    held_out: HeldOut,
}

impl Ridge {
    /// The penalty that cross-validation chose, and the milliseconds per unit of each feature by name (the constant is
    /// called `constant`).
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    pub fn coefficients(&self) -> Result<(f64, Vec<(String, f64)>)> {
        let fitted = self.fitted()?;
        let names = fitted.names.iter().cloned().chain(std::iter::once("constant".to_owned()));
        Ok((fitted.penalty, names.zip(fitted.coefficients.iter().copied()).collect()))
    }

    fn fitted(&self) -> Result<&Fitted> {
        self.fitted.as_ref().ok_or_else(|| Error::NotFitted { name: NAME.into() })
    }
}

/// Features with the constant appended.
fn terms(features: &Features) -> Vec<f64> {
    features.values.iter().copied().chain(std::iter::once(1.0)).collect()
}

fn dot(coefficients: &[f64], terms: &[f64]) -> f64 {
    coefficients.iter().zip(terms).map(|(c, t)| c * t).sum()
}

impl LatencyModel for Ridge {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fit(&mut self, samples: &[Sample]) -> Result<()> {
        let (features, key) = check(samples, MIN_SAMPLES)?;
        let rows = canonical(samples.iter().map(|s| (terms(&s.features), s.ms)).collect());
        let columns = features.names.len() + 1;
        let relative: Vec<Vec<f64>> =
            rows.iter().map(|(terms, ms)| terms.iter().map(|term| term / ms).collect()).collect();
        let mut places: Vec<usize> = (0..rows.len()).map(|i| i % FOLDS).collect();
        Rng::new(0).shuffle(&mut places);

        // All penalties for every fold, then the penalty with the smallest mean error.
        let paths: Vec<Vec<Vec<f64>>> = (0..FOLDS)
            .map(|fold| {
                let kept = relative.iter().zip(&places).filter(|(_, place)| **place != fold);
                path(columns, kept.map(|(row, _)| row.as_slice()))
            })
            .collect();
        let predict = |fold: usize, penalty: usize, terms: &[f64]| {
            let coefficients = paths.get(fold).and_then(|path| path.get(penalty));
            coefficients.map_or(f64::NAN, |coefficients| dot(coefficients, terms))
        };
        let error = |penalty: usize| {
            let errors = rows.iter().zip(&places);
            errors.map(|((terms, ms), place)| (predict(*place, penalty, terms) / ms - 1.0).abs()).sum::<f64>()
        };
        let errors: Vec<f64> = (0..PENALTIES.len()).map(error).collect();
        let best = (0..PENALTIES.len())
            .min_by(|a, b| match (errors.get(*a), errors.get(*b)) {
                (Some(a), Some(b)) => a.total_cmp(b),
                _ => std::cmp::Ordering::Equal,
            })
            .unwrap_or(0);

        let left_out: Vec<f64> =
            rows.iter().zip(&places).map(|((terms, _), place)| predict(*place, best, terms)).collect();
        let residuals: Vec<(usize, f64)> = rows
            .iter()
            .zip(&left_out)
            .zip(&places)
            .map(|(((_, ms), predicted), place)| (*place, ((ms - predicted).abs() / predicted).min(WORST)))
            .collect();
        let held_out = held_out(&rows, &left_out, &residuals)?;
        let coefficients =
            path(columns, relative.iter().map(Vec::as_slice)).into_iter().nth(best).unwrap_or_default();
        let range = range(&rows, features.names.len());
        self.fitted = Some(Fitted {
            version: features.version,
            names: features.names.clone(),
            key: key.clone(),
            penalty: PENALTIES.get(best).copied().unwrap_or(f64::NAN),
            coefficients,
            folds: paths.into_iter().map(|path| path.into_iter().nth(best).unwrap_or_default()).collect(),
            residuals,
            range,
            held_out,
        });
        Ok(())
    }

    fn predict(&self, features: &Features) -> Result<Prediction> {
        let fitted = self.fitted()?;
        check_features(features, fitted.version, &fitted.names)?;
        let terms = terms(features);
        let by_fold: Vec<f64> = fitted.folds.iter().map(|coefficients| dot(coefficients, &terms)).collect();
        let (folds, residuals): (Vec<f64>, Vec<f64>) = fitted
            .residuals
            .iter()
            .filter_map(|(fold, residual)| Some((*by_fold.get(*fold)?, *residual)))
            .unzip();
        let (low, high) = cv_plus(&folds, &residuals, CONFIDENCE);
        let extrapolated = outside(&features.values, &fitted.range);
        let ms = dot(&fitted.coefficients, &terms);
        // Rounding may put the ends of a perfect fit on one side of it.
        Ok(Prediction { ms, low: low.min(ms), high: high.max(ms), extrapolated })
    }

    fn held_out(&self) -> Result<&HeldOut> {
        Ok(&self.fitted()?.held_out)
    }

    fn key(&self) -> Result<&Key> {
        Ok(&self.fitted()?.key)
    }

    fn describe(&self) -> Result<String> {
        let fitted = self.fitted()?;
        let error = &fitted.held_out;
        Ok(format!(
            "90 % interval {:.0} % wide; fitted to {} measurements by a non-negative sum of {} terms",
            100.0 * error.width,
            error.n,
            fitted.coefficients.iter().filter(|c| **c > 0.0).count()
        ))
    }

    fn to_json(&self) -> Result<String> {
        to_json(NAME, self)
    }
}

/// Coefficients for every penalty, each started from the one before.
fn path<'a>(columns: usize, rows: impl IntoIterator<Item = &'a [f64]> + Clone) -> Vec<Vec<f64>> {
    let problem = Nnls::new(columns, rows);
    let mut start = Vec::new();
    PENALTIES.iter().map(|penalty| problem.solve(*penalty, &mut start)).collect()
}

/// Held-out error of the left-out predictions. The interval of a measurement uses the residuals of the other
/// folds only.
fn held_out(rows: &[(Vec<f64>, f64)], left_out: &[f64], residuals: &[(usize, f64)]) -> Result<HeldOut> {
    let radius: Vec<f64> = (0..FOLDS)
        .map(|fold| {
            let others = residuals.iter().filter(|(own, _)| *own != fold).map(|(_, residual)| *residual);
            let sorted = crate::stats::sorted(&others.collect::<Vec<_>>());
            // With few measurements the rank lies beyond the sample: the largest stands in.
            at_rank(&sorted, upper_rank(sorted.len(), CONFIDENCE).min(sorted.len() as f64))
                .unwrap_or(f64::INFINITY)
        })
        .collect();
    let predictions: Vec<Prediction> = left_out
        .iter()
        .zip(residuals)
        .map(|(ms, (fold, _))| {
            let radius = radius.get(*fold).copied().unwrap_or(f64::INFINITY);
            Prediction { ms: *ms, low: ms * (1.0 - radius), high: ms * (1.0 + radius), extrapolated: false }
        })
        .collect();
    let measured: Vec<f64> = rows.iter().map(|(_, ms)| *ms).collect();
    HeldOut::of(&predictions, &measured)
        .ok_or(Error::TooFewSamples { got: measured.len(), need: MIN_SAMPLES })
}

#[cfg(test)]
#[path = "ridge_tests.rs"]
mod tests;
