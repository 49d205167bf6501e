//! GELU with the exact error function, and its derivative.

use super::vector::{erf, exp, vectorised};

const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

#[inline(always)]
fn forward_body(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + erf(*x * HALF_ROOT));
    }
}

#[inline(always)]
fn with_slope_body(x: &mut [f32], active: &mut [f32]) {
    for (x, active) in x.iter_mut().zip(active) {
        let below = 0.5 * (1.0 + erf(*x * HALF_ROOT));
        *active = *x * below;
        *x = below + *x * DENSITY * exp(-0.5 * *x * *x);
    }
}

vectorised! {
    /// `x = x Φ(x)`, element by element.
    pub(crate) fn forward(x: &mut [f32]) = forward_body;
}

vectorised! {
    /// `active = x Φ(x)`, and in place of `x` its slope `Φ(x) + x φ(x)`.
    pub(crate) fn with_slope(x: &mut [f32], active: &mut [f32]) = with_slope_body;
}
