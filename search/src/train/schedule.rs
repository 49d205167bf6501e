//! The learning rate: linear warm-up, then half a cosine to zero.

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Highest rate, at the end of the warm-up.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
}

impl Schedule {
    /// Over `epochs` of `per_epoch` steps each, rising to `peak` for `warmup_epochs` (parts of an epoch
    /// count), but for no more than half of all steps.
    pub fn over(peak: f64, warmup_epochs: f64, epochs: usize, per_epoch: u64) -> Self {
        let total = per_epoch.saturating_mul(epochs as u64);
        let warmup = (warmup_epochs * per_epoch as f64).round() as u64;
        Self { peak, warmup: warmup.min(total / 2), total }
    }

    /// The rate of step `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = (self.total.saturating_sub(self.warmup)).max(1) as f64;
        let done = ((step - self.warmup) as f64 / rest).min(1.0);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let schedule = Schedule { peak: 1.0, warmup: 4, total: 12 };
        assert_eq!(schedule.rate(0), 0.25);
        assert_eq!(schedule.rate(3), 1.0);
        assert_eq!(schedule.rate(4), 1.0);
        assert!((schedule.rate(8) - 0.5).abs() < 1e-12);
        assert!(schedule.rate(12) < 1e-12 && schedule.rate(99) < 1e-12);
        assert_eq!(Schedule { warmup: 0, ..schedule }.rate(0), 1.0);
    }

    #[test]
    fn warm_up_counts_parts_of_epochs_and_takes_at_most_half() {
        let schedule = |warmup| Schedule::over(1.0, warmup, 4, 10);
        assert_eq!(schedule(0.5), Schedule { peak: 1.0, warmup: 5, total: 40 });
        assert_eq!(schedule(100.0), Schedule { peak: 1.0, warmup: 20, total: 40 });
    }
}
