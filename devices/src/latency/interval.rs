//! Prediction intervals from cross-validation: CV+ of Barber, Candès, Ramdas and Tibshirani, "Predictive inference with
//! the jackknife+" (2021), on relative residuals.

/// Confidence of the intervals.
pub const CONFIDENCE: f64 = 0.9;

/// The CV+ interval for one new point.
///
/// `folds[i]` is the prediction for the new point by the fit that left measurement `i` out, and `residuals[i]` the absolute
/// error of that fit on measurement `i`, as a fraction of its prediction. The ends are the order statistics of
/// `fold * (1 - residual)` and `fold * (1 + residual)` at ranks `floor(a (n + 1))` and `ceil((1 - a)(n + 1))`, with
/// `a = 1 - confidence`; a rank beyond the sample gives 0 or infinity. The answer for lists of different lengths uses their
/// common part.
pub fn cv_plus(folds: &[f64], residuals: &[f64], confidence: f64) -> (f64, f64) {
    let ends = |sign: f64| {
        folds.iter().zip(residuals).map(|(fold, residual)| fold * (1.0 + sign * residual)).collect()
    };
    let (low, high) = jackknife(ends(-1.0), ends(1.0), confidence);
    (low.unwrap_or(0.0).max(0.0), high.unwrap_or(f64::INFINITY))
}

/// The two order statistics of [`cv_plus`] among lower and upper ends; `None` where the rank lies beyond the sample.
pub(super) fn jackknife(
    mut lows: Vec<f64>,
    mut highs: Vec<f64>,
    confidence: f64,
) -> (Option<f64>, Option<f64>) {
    lows.sort_by(f64::total_cmp);
    highs.sort_by(f64::total_cmp);
    let rank = ((1.0 - confidence) * (lows.len() as f64 + 1.0) + 1e-9).floor();
    (at_rank(&lows, rank), at_rank(&highs, upper_rank(highs.len(), confidence)))
}

/// Rank of the upper end among `n` values.
pub(super) fn upper_rank(n: usize, confidence: f64) -> f64 {
    (confidence * (n as f64 + 1.0) - 1e-9).ceil()
}

/// The value at a rank from 1.
pub(super) fn at_rank(sorted: &[f64], rank: f64) -> Option<f64> {
    if rank < 1.0 { None } else { sorted.get(rank as usize - 1).copied() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rng;

    #[test]
    fn ranks_are_those_of_the_paper() {
        // n = 9, a = 0.1: ranks 1 and 9. n = 8: rank 0 and 9, so the interval is unbounded.
        let residuals: Vec<f64> = (1..=9).map(|i| f64::from(i) / 100.0).collect();
        let (low, high) = cv_plus(&[100.0; 9], &residuals, 0.9);
        assert!((low - 91.0).abs() < 1e-9 && (high - 109.0).abs() < 1e-9, "{low} {high}");
        assert_eq!(cv_plus(&[100.0; 8], &residuals[..8], 0.9), (0.0, f64::INFINITY));
        // n = 19: ranks 2 and 18.
        let residuals: Vec<f64> = (1..=19).map(|i| f64::from(i) / 100.0).collect();
        let (low, high) = cv_plus(&[100.0; 19], &residuals, 0.9);
        assert!((low - 82.0).abs() < 1e-9 && (high - 118.0).abs() < 1e-9, "{low} {high}");
    }

    /// With a known mean and any noise the interval covers what it promises.
    #[test]
    fn coverage_on_fresh_points() {
        let mut rng = Rng::new(11);
        let mut covered = 0;
        let draws = 2000;
        for _ in 0..draws {
            let mut noise = || {
                let u = f64::from(rng.symmetric());
                0.3 * u * u * u
            };
            let residuals: Vec<f64> = (0..60).map(|_| noise().abs()).collect();
            let truth = 50.0 * (1.0 + noise());
            let (low, high) = cv_plus(&[50.0; 60], &residuals, CONFIDENCE);
            covered += usize::from(low <= truth && truth <= high);
        }
        let share = covered as f64 / f64::from(draws);
        assert!((0.88..0.93).contains(&share), "{share}");
    }
}
