//! AdamW over the rows of one weight, where value, moments and gradient lie.

use super::vector::{dot, vectorised};

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Decay rates of the first and second moment, and what each leaves to the gradient.
    pub(crate) betas: [f32; 2],
    pub(crate) rest: [f32; 2],
    /// What the gradient is multiplied by, so that its norm is at most the limit.
    pub(crate) clip: f32,
    /// Learning rate over the first moment's bias correction.
    pub(crate) rate: f32,
    /// One over the second moment's.
    pub(crate) second: f32,
    /// One minus learning rate times weight decay.
    pub(crate) keep: f32,
    /// Added to the root of the second moment.
    pub(crate) epsilon: f32,
}

#[inline(always)]
fn update_body(value: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &mut [f32], rates: Rates) {
    let ([b1, b2], [r1, r2]) = (rates.betas, rates.rest);
    let rows = value.iter_mut().zip(first).zip(second).zip(gradient);
    for (((value, first), second), gradient) in rows {
        let g = *gradient * rates.clip;
        *gradient = 0.0;
        *first = b1 * *first + r1 * g;
        *second = b2 * *second + r2 * (g * g);
        let update = *first / ((*second * rates.second).sqrt() + rates.epsilon);
        *value = *value * rates.keep - update * rates.rate;
    }
}

#[inline(always)]
fn add_body(sum: &mut [f32], other: &mut [f32]) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += *other;
        *other = 0.0;
    }
}

#[inline(always)]
fn squares_body(values: &[f32], total: &mut f64) {
    for block in values.chunks(1024) {
        *total += f64::from(dot(block, block));
    }
}

vectorised! {
    /// Moves values and moments, and leaves zeros in place of the gradient.
    pub(crate) fn update(
        value: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &mut [f32], rates: Rates,
    ) = update_body;
}

vectorised! {
    /// `sum += other`, and leaves zeros in place of `other`.
    pub(crate) fn add(sum: &mut [f32], other: &mut [f32]) = add_body;
}

vectorised! {
    /// Adds the squares to `total`.
    pub(crate) fn squares(values: &[f32], total: &mut f64) = squares_body;
}
