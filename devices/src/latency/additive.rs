//! Latency as a non-negative sum of terms, fitted in relative error so that stalled runs do not bend it.

use serde::{Deserialize, Serialize};

use super::cholesky::dot;
use super::nnls::Nnls;
use super::terms::Rows;

/// Penalties tried, largest first so that each fit starts from the one before; relative to columns of unit root mean square.
const PENALTIES: [f64; 7] = [1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Relative error beyond which a measurement counts linearly under the robust loss (Huber, 1964).
const HUBER: f64 = 0.03;
/// Rounds of reweighting under the robust loss.
const ROUNDS: usize = 4;
/// Relative error around which [`judge`] turns from good to bad.
const TOLERANCE: f64 = 0.12;
/// Largest relative error that counts in full in [`judge`].
const CAP: f64 = 0.5;

/// Milliseconds per unit of each term; the last is the constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Additive {
    pub(super) coefficients: Vec<f64>,
}

/// A fit, and the fits of its cross-validation.
pub(super) struct Fit {
    pub(super) model: Additive,
    /// The fits that left each fold out, under the same loss and penalty.
    pub(super) folds: Vec<Additive>,
}

#[derive(Clone, Copy)]
enum Loss {
    Squared,
    Huber,
}

const LOSSES: [Loss; 2] = [Loss::Squared, Loss::Huber];

impl Additive {
    /// Fits `rows`, whose fold numbers are `places` (below `folds`). Loss and penalty are those under which left-out
    /// measurements are predicted best, as [`judge`] says. `None` without rows.
    pub(super) fn fit(rows: &Rows<'_>, places: &[usize], folds: usize) -> Option<Fit> {
        let relative: Vec<Vec<f64>> = rows
            .points
            .iter()
            .zip(&rows.ms)
            .map(|(point, ms)| {
                point.terms.iter().chain(std::iter::once(&1.0)).map(|term| term / ms).collect()
            })
            .collect();
        let columns = rows.roles.len() + 1;
        let (mut best, mut least): (Option<(Loss, usize, Vec<Additive>)>, f64) = (None, f64::INFINITY);
        for loss in LOSSES {
            let paths: Vec<Vec<Additive>> = (0..folds)
                .map(|fold| {
                    let kept: Vec<&[f64]> = relative
                        .iter()
                        .zip(places)
                        .filter(|(_, place)| **place != fold)
                        .map(|(row, _)| row.as_slice())
                        .collect();
                    path(columns, &kept, loss)
                })
                .collect();
            for penalty in 0..PENALTIES.len() {
                let fits: Vec<Additive> =
                    paths.iter().filter_map(|path| path.get(penalty).cloned()).collect();
                let left_out: Vec<f64> = rows
                    .points
                    .iter()
                    .zip(places)
                    .map(|(point, place)| fits.get(*place).map_or(f64::NAN, |fit| fit.ms(&point.terms)))
                    .collect();
                let error = judge(&left_out, &rows.ms);
                if error < least {
                    (best, least) = (Some((loss, penalty, fits)), error);
                }
            }
        }
        let (loss, penalty, folds) = best?;
        let all: Vec<&[f64]> = relative.iter().map(Vec::as_slice).collect();
        let model = path(columns, &all, loss).into_iter().nth(penalty)?;
        Some(Fit { model, folds })
    }

    pub(super) fn ms(&self, terms: &[f64]) -> f64 {
        let constant = self.coefficients.get(terms.len()).copied().unwrap_or(0.0);
        dot(&self.coefficients, terms) + constant
    }

    /// Whether a term has any say.
    pub(super) fn uses(&self, column: usize) -> bool {
        self.coefficients.get(column).is_some_and(|coefficient| *coefficient != 0.0)
    }
}

/// How far predictions lie from measured milliseconds: the mean relative error (capped, because one stalled run must not decide)
/// and, smoothly, the share that is more than about a tenth off. The first alone prefers the median of skewed noise, the
/// second alone gives away precision wherever all is within a tenth anyway.
pub(super) fn judge(predicted: &[f64], measured: &[f64]) -> f64 {
    let errors = predicted.iter().zip(measured).map(|(p, ms)| (p / ms - 1.0).abs());
    let sum: f64 = errors.map(|e| 1.0 - (-(e / TOLERANCE).powi(4)).exp() + e.min(CAP)).sum();
    sum / measured.len().max(1) as f64
}

/// Fits of relative rows for every penalty, each started from the one before.
fn path(columns: usize, rows: &[&[f64]], loss: Loss) -> Vec<Additive> {
    let plain = Nnls::new(columns, rows.iter().copied());
    let mut start = Vec::new();
    PENALTIES
        .iter()
        .map(|penalty| {
            let mut coefficients = plain.solve(*penalty, &mut start);
            if let Loss::Huber = loss {
                let mut robust = start.clone();
                for _ in 0..ROUNDS {
                    let weighted = rows.iter().map(|row| (*row, weight(dot(&coefficients, row) - 1.0)));
                    coefficients = Nnls::weighted(columns, weighted).solve(*penalty, &mut robust);
                }
            }
            Additive { coefficients }
        })
        .collect()
}

/// Weight of a measurement under Huber's loss.
fn weight(error: f64) -> f64 {
    (HUBER / error.abs().max(1e-12)).min(1.0)
}
