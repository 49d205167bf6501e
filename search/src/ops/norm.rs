//! Layer norm over the last axis, and its gradients.

use super::vector::{dot, sum, vectorised};

/// Rows normalised: `[rows * width]`, and each row's reciprocal deviation.
#[derive(Clone, Debug)]
pub(crate) struct Normalised {
    pub(crate) unit: Vec<f32>,
    pub(crate) scale: Vec<f32>,
}

/// Normalises rows of `width` and applies gain and bias; keeps what the gradient needs.
pub(crate) fn forward(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) -> (Vec<f32>, Normalised) {
    let width = gain.len();
    let mut out = vec![0.0; x.len()];
    let mut kept = Normalised { unit: vec![0.0; x.len()], scale: vec![0.0; x.len() / width.max(1)] };
    rows_forward(x, gain, bias, epsilon, &mut out, &mut kept.unit, &mut kept.scale);
    (out, kept)
}

/// The normalised rows with gain and bias once more.
pub(crate) fn again(kept: &Normalised, gain: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; kept.unit.len()];
    affine(&kept.unit, gain, bias, &mut out);
    out
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
        let mean = sum(x) / width as f32;
        for i in 0..width {
            unit[i] = x[i] - mean;
        }
        let variance = dot(unit, unit) / width as f32;
        *scale = 1.0 / (variance + epsilon).sqrt();
        for i in 0..width {
            unit[i] *= *scale;
            out[i] = unit[i] * gain[i] + bias[i];
        }
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
            of_x[i] = gradient[i] * gain[i];
        }
        let mean = sum(of_x) / width as f32;
        let along = dot(of_x, unit) / width as f32;
        for i in 0..width {
            of_x[i] = *scale * (of_x[i] - mean - unit[i] * along);
        }
    }
}

vectorised! {
    fn rows_forward(
        x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32], unit: &mut [f32], scale: &mut [f32],
    ) = forward_body;
}

vectorised! {
    /// Writes the gradient of `x`, and adds to those of gain and bias.
    pub(crate) fn backward(
        kept: &Normalised, gain: &[f32], gradient: &[f32], of_x: &mut [f32], of_gain: &mut [f32], of_bias: &mut [f32],
    ) = backward_body;
}
