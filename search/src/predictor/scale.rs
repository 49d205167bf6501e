//! Scores as normal scores: what predictors are fitted to, and the way back with an interval.

use super::Guess;

/// A map between values and normal scores, taken from the ranks of rated architectures: one network that learnt nothing does not
/// stretch the scale for all others.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    /// Ascending, distinct.
    values: Vec<f64>,
    /// The normal score of each.
    scores: Vec<f64>,
    /// Half the width of the 90 % interval, in normal scores.
    reach: f64,
}

impl Normal {
    /// From the values of rated architectures.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mut normal = Self { values: Vec::new(), scores: Vec::new(), reach: f64::INFINITY };
        let mut at = 0;
        while at < sorted.len() {
            let end = sorted.partition_point(|value| *value <= sorted[at]);
            // The middle of the ranks of equals.
            let rank = (at + end) as f64 / 2.0;
            normal.values.push(sorted[at]);
            normal.scores.push(quantile(rank / n));
            at = end;
        }
        normal
    }

    /// The normal score of a value; linear between those that were seen, and beyond them.
    pub(super) fn score(&self, value: f64) -> f64 {
        line(&self.values, &self.scores, value)
    }

    /// Errors on architectures that were left out: the interval is their 90 % quantile, as conformal prediction has it. Fewer than 9 errors
    /// have none, and the interval is unbounded.
    pub(super) fn left_out(&mut self, errors: impl Iterator<Item = f64>) {
        let mut errors: Vec<f64> = errors.map(f64::abs).collect();
        errors.sort_by(f64::total_cmp);
        let place = ((errors.len() + 1) as f64 * 0.9).ceil() as usize;
        self.reach = place.checked_sub(1).and_then(|at| errors.get(at)).copied().unwrap_or(f64::INFINITY);
    }

    /// A guess in the unit of the values.
    pub(super) fn guess(&self, score: f64) -> Guess {
        let back = |score: f64| line(&self.scores, &self.values, score);
        if self.values.len() < 2 {
            // One value says nothing of how far others are.
            return Guess { value: back(score), low: f64::NEG_INFINITY, high: f64::INFINITY };
        }
        Guess { value: back(score), low: back(score - self.reach), high: back(score + self.reach) }
    }
}

/// A line through ascending points; beyond the ends, the slope over the outer fifth goes on.
fn line(from: &[f64], to: &[f64], x: f64) -> f64 {
    let n = from.len();
    if n < 2 {
        return to.first().copied().unwrap_or(x);
    }
    let outer = (n / 5).max(1);
    let (a, b) = if x < from[0] {
        (0, outer)
    } else if x > from[n - 1] {
        (n - 1 - outer, n - 1)
    } else {
        let b = from.partition_point(|value| *value < x).clamp(1, n - 1);
        (b - 1, b)
    };
    let anchor = if x < from[0] { a } else { b };
    let slope = (to[b] - to[a]) / (from[b] - from[a]);
    to[anchor] + slope * (x - from[anchor])
}

/// The standard normal quantile (Acklam's rational approximation, relative error below 1.2e-9).
fn quantile(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        poly(&C, q) / poly(&D, q)
    } else if p > 1.0 - 0.02425 {
        -quantile(1.0 - p)
    } else {
        let q = p - 0.5;
        q * poly(&A, q * q) / poly(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_normal_and_lead_back() {
        let values: Vec<f64> = (0..99).map(|at| f64::from(at).powi(2)).collect();
        let mut normal = Normal::of(&values);
        assert!((normal.score(values[49]) - 0.0).abs() < 1e-9);
        // The 97.5 % point.
        assert!((quantile(0.975) - 1.959_964).abs() < 1e-5 && (quantile(0.01) + 2.326_348).abs() < 1e-5);
        for value in &values {
            assert!((normal.guess(normal.score(*value)).value - value).abs() < 1e-6);
        }
        assert!(normal.guess(9.0).value > values[98] && normal.guess(-9.0).value < 0.0);
        normal.left_out((0..20).map(|at| f64::from(at) / 10.0));
        assert!((normal.reach - 1.8).abs() < 1e-9);
        let guess = normal.guess(0.0);
        assert!(guess.low < guess.value && guess.value < guess.high);
        normal.left_out((0..8).map(f64::from));
        assert_eq!(normal.reach, f64::INFINITY, "8 errors have no 90 % quantile");
        let mut equal = Normal::of(&[3.0; 20]);
        equal.left_out((0..20).map(f64::from));
        assert_eq!(equal.guess(0.5), Guess { value: 3.0, low: f64::NEG_INFINITY, high: f64::INFINITY });
    }
}
