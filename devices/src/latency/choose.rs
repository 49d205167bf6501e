//! Which graphs to measure: unlike each other at first, then where a fitted model knows least.

use masktas_runtime::Features;

use super::LatencyModel;
use super::cholesky::dot;
use super::terms::{Layout, log, range, scales};
use crate::error::Result;
use crate::stats::Rng;

/// Noise over the prior variance of a graph's latency, which says how much a second look at a like graph is worth.
const NOISE: f64 = 0.1;

/// Indices of `n` of `candidates` that differ most in what they cost, in the order in which to measure them; all when there are
/// fewer.
///
/// Each next one is the graph about which a linear model of the standardised logarithms of all terms knows least after the ones
/// before (greedy D-optimal design: Fedorov, "Theory of Optimal Experiments", 1972). `seed` chooses the first. The same
/// candidates, `n` and seed give the same answer.
///
/// # Errors
/// [`Error::InvalidFeatures`](crate::Error::InvalidFeatures) when candidates do not have the same terms, or a number is negative or not finite.
pub fn diverse(candidates: &[Features], n: usize, seed: u64) -> Result<Vec<usize>> {
    let rows = standardised(candidates)?;
    let mut design = Design::new(&rows);
    let mut chosen = Vec::with_capacity(n.min(rows.len()));
    if n > 0 && !rows.is_empty() {
        let first = Rng::new(seed).below(rows.len());
        design.measure(first);
        chosen.push(first);
    }
    while chosen.len() < n {
        let Some(next) = design.widest(&|_| 1.0, &chosen) else { break };
        design.measure(next);
        chosen.push(next);
    }
    Ok(chosen)
}

/// Indices of `n` of `candidates` to measure next, in that order; all when there are fewer.
///
/// Each is the graph with the largest product of the relative width of the model's interval and of what a linear model would not
/// know about it after `measured` and the ones chosen before, so that near-duplicates of either are left out.
///
/// # Errors
/// As [`diverse`] and [`LatencyModel::predict`].
pub fn active(
    model: &dyn LatencyModel,
    measured: &[Features],
    candidates: &[Features],
    n: usize,
) -> Result<Vec<usize>> {
    let widths = candidates
        .iter()
        .map(|features| {
            let prediction = model.predict(features)?;
            let width = (prediction.high - prediction.low) / prediction.ms;
            // Unbounded intervals count alike.
            Ok(if width.is_finite() { width } else { 1e3 })
        })
        .collect::<Result<Vec<f64>>>()?;
    let all: Vec<Features> = candidates.iter().chain(measured).cloned().collect();
    let rows = standardised(&all)?;
    let mut design = Design::new(&rows);
    for known in candidates.len()..rows.len() {
        design.measure(known);
    }
    let mut chosen = Vec::with_capacity(n.min(candidates.len()));
    while chosen.len() < n {
        let width = |i: usize| widths.get(i).copied().unwrap_or(0.0);
        let Some(next) = design.widest(&width, &chosen).filter(|next| *next < candidates.len()) else {
            break;
        };
        design.measure(next);
        chosen.push(next);
    }
    Ok(chosen)
}

/// Standardised logarithms of all terms that vary, scaled to unit mean square, with a constant.
fn standardised(candidates: &[Features]) -> Result<Vec<Vec<f64>>> {
    let Some(layout) = candidates.first().map(Layout::of) else { return Ok(Vec::new()) };
    for features in candidates {
        layout.check(features)?;
    }
    let data: Vec<(Vec<f64>, f64)> = candidates.iter().map(|f| (f.values.clone(), 1.0)).collect();
    let roles = layout.roles();
    let scale = scales(&data, &roles);
    let varies = range(&data, roles.len());
    let n = data.len() as f64;
    let columns: Vec<Vec<f64>> = (0..roles.len())
        .filter(|column| varies.get(*column).is_some_and(|(low, high)| low < high))
        .filter_map(|column| {
            let (role, scale) = (*roles.get(column)?, *scale.get(column)?);
            let logs: Vec<f64> = data
                .iter()
                .map(|(terms, _)| log(terms.get(column).copied().unwrap_or(0.0), role, scale))
                .collect();
            let mean = logs.iter().sum::<f64>() / n;
            let deviation = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            (deviation > 1e-9).then(|| logs.iter().map(|x| (x - mean) / deviation).collect())
        })
        .collect();
    let size = (columns.len().max(1) as f64).sqrt();
    Ok((0..data.len())
        .map(|i| {
            let terms = columns.iter().filter_map(|column| column.get(i)).map(|x| x / size);
            terms.chain(std::iter::once(1.0)).collect()
        })
        .collect())
}

/// What a linear model with unit prior would not know about each row.
struct Design<'a> {
    rows: &'a [Vec<f64>],
    /// Posterior covariance of the coefficients, row by row.
    covariance: Vec<Vec<f64>>,
    /// Posterior variance of each row.
    variance: Vec<f64>,
}

impl<'a> Design<'a> {
    fn new(rows: &'a [Vec<f64>]) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let covariance =
            (0..columns).map(|i| (0..columns).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        Self { rows, covariance, variance: rows.iter().map(|row| dot(row, row)).collect() }
    }

    /// Takes a measurement of one row into account.
    fn measure(&mut self, row: usize) {
        let Some(x) = self.rows.get(row) else { return };
        let direction: Vec<f64> = self.covariance.iter().map(|line| dot(line, x)).collect();
        let total = dot(&direction, x) + NOISE;
        for (variance, row) in self.variance.iter_mut().zip(self.rows) {
            *variance = (*variance - dot(&direction, row).powi(2) / total).max(0.0);
        }
        for (line, own) in self.covariance.iter_mut().zip(&direction) {
            for (slot, other) in line.iter_mut().zip(&direction) {
                *slot -= own * other / total;
            }
        }
    }

    /// The row with the largest weighted standard deviation, the first among equals.
    fn widest(&self, weight: &dyn Fn(usize) -> f64, chosen: &[usize]) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (i, variance) in self.variance.iter().enumerate() {
            let score = weight(i) * variance.sqrt();
            if !chosen.contains(&i) && best.is_none_or(|(most, _)| score > most) {
                best = Some((score, i));
            }
        }
        best.map(|(_, i)| i)
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
