//! GELU with the exact error function, and its derivative.

use super::vector::{erf, exp, vectorised};

const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

#[inline(always)]
fn forward_body(x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = 0.5 * x * (1.0 + erf(x * HALF_ROOT));
    }
}

#[inline(always)]
fn backward_body(x: &[f32], gradient: &mut [f32]) {
    for (gradient, x) in gradient.iter_mut().zip(x) {
        let below = 0.5 * (1.0 + erf(x * HALF_ROOT));
        *gradient *= below + x * DENSITY * exp(-0.5 * x * x);
    }
}

vectorised! {
    /// `out = x Φ(x)`, element by element.
    pub(crate) fn forward(x: &[f32], out: &mut [f32]) = forward_body;
}

vectorised! {
    /// `gradient *= Φ(x) + x φ(x)`, element by element.
    pub(crate) fn backward(x: &[f32], gradient: &mut [f32]) = backward_body;
}
