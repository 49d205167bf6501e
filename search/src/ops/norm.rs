//! Layer norm over the last axis, and its gradients.

use super::vector::{dot, sum, triple, vectorised};

/// Rows normalised: `[rows * width]`, and each row's reciprocal deviation.
#[derive(Clone, Debug)]
pub(crate) struct Normalised {
    pub(crate) unit: Vec<f32>,
    pub(crate) scale: Vec<f32>,
}

/// Gain and bias of a norm, as wide as its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
}

/// Sums of their gradients; only the leading part is added to.
#[derive(Debug)]
pub(crate) struct Gradient<'a> {
    pub(crate) gain: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
}

impl Norm<'_> {
    /// Normalises rows and applies gain and bias; keeps what the gradient needs.
    pub(crate) fn forward(self, x: &[f32], epsilon: f32) -> (Vec<f32>, Normalised) {
        let mut out = vec![0.0; x.len()];
        let mut kept =
            Normalised { unit: vec![0.0; x.len()], scale: vec![0.0; x.len() / self.gain.len().max(1)] };
        rows_forward(x, self.gain, self.bias, epsilon, &mut out, &mut kept.unit, &mut kept.scale);
        (out, kept)
    }

    /// The normalised rows with gain and bias once more.
    pub(crate) fn again(self, kept: &Normalised) -> Vec<f32> {
        let mut out = vec![0.0; kept.unit.len()];
        affine(&kept.unit, self.gain, self.bias, &mut out);
        out
    }

    /// Adds the gradients of `x`, gain and bias, from that of the answer.
    pub(crate) fn backward(
        self,
        kept: &Normalised,
        gradient: &[f32],
        of_x: &mut [f32],
        of: &mut Gradient<'_>,
    ) {
        backward(kept, self.gain, gradient, of_x, of.gain, of.bias);
    }
}

#[inline(always)]
fn affine_body(unit: &[f32], gain: &[f32], bias: &[f32], out: &mut [f32]) {
    let width = gain.len();
    let bias = &bias[..width];
    for (unit, out) in unit.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        for i in 0..width {
            out[i] = unit[i] * gain[i] + bias[i];
        }
    }
}

vectorised! {
    fn affine(unit: &[f32], gain: &[f32], bias: &[f32], out: &mut [f32]) = affine_body;
}

#[inline(always)]
fn forward_body(
    x: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
    unit: &mut [f32],
    scale: &mut [f32],
) {
    let width = gain.len();
    let bias = &bias[..width];
    let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(unit.chunks_exact_mut(width));
    for (((x, out), unit), scale) in rows.zip(scale) {
        *scale = unit_body(x, epsilon, unit);
        for i in 0..width {
            out[i] = unit[i] * gain[i] + bias[i];
        }
    }
}

/// One row brought to mean 0 and variance 1; returns the factor.
#[inline(always)]
fn unit_body(x: &[f32], epsilon: f32, unit: &mut [f32]) -> f32 {
    let width = x.len();
    let unit = &mut unit[..width];
    let mean = sum(x) / width as f32;
    for i in 0..width {
        unit[i] = x[i] - mean;
    }
    let variance = dot(unit, unit) / width as f32;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for value in unit.iter_mut() {
        *value *= scale;
    }
    scale
}

#[inline(always)]
fn whiten_body(x: &[f32], width: usize, epsilon: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        unit_body(x, epsilon, out);
    }
}

#[inline(always)]
fn backward_body(
    kept: &Normalised,
    gain: &[f32],
    gradient: &[f32],
    of_x: &mut [f32],
    of_gain: &mut [f32],
    of_bias: &mut [f32],
) {
    let width = gain.len();
    let (of_gain, of_bias) = (&mut of_gain[..width], &mut of_bias[..width]);
    let rows =
        kept.unit.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(of_x.chunks_exact_mut(width));
    for (((unit, gradient), of_x), scale) in rows.zip(&kept.scale) {
        for i in 0..width {
            of_gain[i] += gradient[i] * unit[i];
            of_bias[i] += gradient[i];
        }
        let mean = dot(gradient, gain) / width as f32;
        let along = triple(gradient, gain, unit) / width as f32;
        for i in 0..width {
            of_x[i] += *scale * (gradient[i] * gain[i] - mean - unit[i] * along);
        }
    }
}

vectorised! {
    fn rows_forward(
        x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32], unit: &mut [f32], scale: &mut [f32],
    ) = forward_body;
}

vectorised! {
    /// Rows of `width` brought to mean 0 and variance 1, without gain and bias.
    pub(crate) fn whiten(x: &[f32], width: usize, epsilon: f32, out: &mut [f32]) = whiten_body;
}

vectorised! {
    fn backward(
        kept: &Normalised, gain: &[f32], gradient: &[f32], of_x: &mut [f32], of_gain: &mut [f32], of_bias: &mut [f32],
    ) = backward_body;
}
