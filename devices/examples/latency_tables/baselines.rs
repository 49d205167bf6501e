//! Predictors that anyone would try first. They have no interval.

use masktas_devices::{Prediction, Sample, stats};
use masktas_runtime::Features;

fn point(ms: f64) -> Prediction {
    Prediction { ms, low: f64::NAN, high: f64::NAN, extrapolated: false }
}

/// The median of the measured ones, for all.
pub fn median(samples: &[Sample], n: usize) -> Vec<Prediction> {
    let ms: Vec<f64> = samples.iter().map(|sample| sample.ms).collect();
    vec![point(stats::median(&ms).unwrap_or(f64::NAN)); n]
}

/// A line on one term, by least squares.
pub fn linear(term: usize, samples: &[Sample], tests: &[Features]) -> Vec<Prediction> {
    let x: Vec<f64> = samples.iter().map(|sample| sample.features.values[term]).collect();
    let y: Vec<f64> = samples.iter().map(|sample| sample.ms).collect();
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sxx: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
    let sxy: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
    tests.iter().map(|test| point((my + slope * (test.values[term] - mx)).max(1e-6))).collect()
}

/// Penalties of [`log_ridge`], for standardised columns.
const PENALTIES: [f64; 6] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0];

/// Ridge on the standardised logarithms of what sources say, whose columns follow the first `own`; the penalty is the one with the
/// least left-out squared error.
pub fn log_ridge(own: usize, samples: &[Sample], tests: &[Features]) -> Vec<Prediction> {
    let logs = |features: &Features| features.values.iter().skip(own).map(|ms| ms.ln()).collect::<Vec<f64>>();
    let mut x: Vec<Vec<f64>> = samples.iter().map(|sample| logs(&sample.features)).collect();
    let mut t: Vec<Vec<f64>> = tests.iter().map(logs).collect();
    let n = x.len();
    for column in 0..x[0].len() {
        let mean = x.iter().map(|row| row[column]).sum::<f64>() / n as f64;
        let deviation = (x.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        for row in x.iter_mut().chain(&mut t) {
            row[column] = if deviation > 1e-9 { (row[column] - mean) / deviation } else { 0.0 };
        }
    }
    let y: Vec<f64> = samples.iter().map(|sample| sample.ms.ln()).collect();
    let fit = |skip: Option<usize>, penalty: f64| {
        let kept: Vec<usize> = (0..n).filter(|i| Some(*i) != skip).collect();
        let mean = kept.iter().map(|i| y[*i]).sum::<f64>() / kept.len() as f64;
        let right: Vec<f64> = kept.iter().map(|i| y[*i] - mean).collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let matrix: Vec<Vec<f64>> = kept
            .iter()
            .map(|i| {
                kept.iter().map(|j| product(&x[*i], &x[*j]) + if i == j { penalty } else { 0.0 }).collect()
            })
            .collect();
        let weights = solve(matrix, right);
        move |row: &[f64], x: &[Vec<f64>]| {
            mean + kept.iter().zip(&weights).map(|(i, w)| w * product(row, &x[*i])).sum::<f64>()
        }
    };
    let error = |penalty: f64| (0..n).map(|i| (fit(Some(i), penalty)(&x[i], &x) - y[i]).powi(2)).sum::<f64>();
    // Leaving each of many out would take long; the best penalty of the first ones serves.
    let best = if n > 60 {
        0.1
    } else {
        PENALTIES.into_iter().min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(0.1)
    };
    let fitted = fit(None, best);
    t.iter().map(|row| point(fitted(row, &x).exp())).collect()
}

/// Gaussian elimination of a symmetric positive definite system.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for r in i + 1..n {
            let factor = a[r][i] / a[i][i];
            let (above, below) = a.split_at_mut(r);
            for (slot, over) in below[0].iter_mut().zip(&above[i]).skip(i) {
                *slot -= factor * over;
            }
            b[r] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        b[i] = (b[i] - (i + 1..n).map(|k| a[i][k] * b[k]).sum::<f64>()) / a[i][i];
    }
    b
}
