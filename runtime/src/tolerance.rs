//! How far two answers may lie apart: named once here, used by every parity check.

use serde::{Deserialize, Serialize};

use crate::tensor::Dtype;

/// Bounds on the relative difference of two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// At most this: pass.
    pub pass: f64,
    /// At most this: warn; above: fail.
    pub warn: f64,
}

impl Tolerance {
    /// Networks computed in 32-bit floats.
    pub const F32: Tolerance = Tolerance { pass: 1e-5, warn: 1e-4 };
    /// Networks computed in 16-bit floats.
    pub const F16: Tolerance = Tolerance { pass: 1e-2, warn: 5e-2 };
    /// Networks computed in 8-bit integers.
    pub const I8: Tolerance = Tolerance { pass: 5e-2, warn: 2e-1 };

    /// The tolerance for outputs computed in `dtype`; integers are exact only where they are outputs.
    pub const fn of(dtype: Dtype) -> Tolerance {
        match dtype {
            Dtype::U8 | Dtype::I8 => Tolerance::I8,
            _ => Tolerance::F32,
        }
    }

    /// Judges a relative difference. `NaN` fails.
    pub fn judge(self, difference: f64) -> Verdict {
        if difference <= self.pass {
            Verdict::Pass
        } else if difference <= self.warn {
            Verdict::Warn
        } else {
            Verdict::Fail
        }
    }
}

/// Outcome of a parity check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within the tolerance.
    Pass,
    /// Outside the tolerance but close.
    Warn,
    /// Not the same answer.
    Fail,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// Largest absolute difference over the largest absolute value of `reference`.
///
/// Any `NaN` or infinity on either side, and any difference in length, gives `NaN`, which every
/// tolerance fails.
pub fn relative_difference(reference: &[f32], other: &[f32]) -> f64 {
    if reference.len() != other.len() {
        return f64::NAN;
    }
    let mut difference = 0.0f64;
    let mut scale = 0.0f64;
    for (a, b) in reference.iter().zip(other) {
        if !a.is_finite() || !b.is_finite() {
            return f64::NAN;
        }
        difference = difference.max((f64::from(*a) - f64::from(*b)).abs());
        scale = scale.max(f64::from(*a).abs());
    }
    if difference == 0.0 {
        0.0
    } else if scale == 0.0 {
        f64::INFINITY
    } else {
        difference / scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_is_relative_to_the_largest_value() {
        assert_eq!(relative_difference(&[0.0, 4.0], &[1.0, 4.0]), 0.25);
        assert_eq!(relative_difference(&[0.0], &[0.0]), 0.0);
        assert_eq!(relative_difference(&[0.0], &[1.0]), f64::INFINITY);
    }

    #[test]
    fn nan_and_length_mismatch_fail() {
        assert_eq!(Tolerance::F32.judge(relative_difference(&[1.0], &[f32::NAN])), Verdict::Fail);
        assert_eq!(Tolerance::F32.judge(relative_difference(&[1.0], &[])), Verdict::Fail);
        assert_eq!(Tolerance::F32.judge(9e-6), Verdict::Pass);
        assert_eq!(Tolerance::F32.judge(9e-5), Verdict::Warn);
        assert_eq!(Tolerance::F32.judge(2e-4), Verdict::Fail);
    }
}
