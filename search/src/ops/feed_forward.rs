//! The feed-forward branch of a block, and its residual, as one operation: norm, widening, GELU, narrowing.

use super::gelu;
use super::linear::{self, Linear};
use super::norm::{self, Norm, Normalised};
use super::residual;

/// Weights, each the leading part of a super weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) norm: Norm<'a>,
    pub(crate) fc1: Linear<'a>,
    pub(crate) fc2: Linear<'a>,
}

/// What the gradient needs of the forward pass.
#[derive(Debug)]
pub(crate) struct Kept {
    norm: Normalised,
    /// After GELU, and GELU's slope there.
    active: Vec<f32>,
    slope: Vec<f32>,
}

/// Sums of the gradients of [`Weights`]' parts.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    pub(crate) norm: norm::Gradient<'a>,
    pub(crate) fc1: linear::Gradient<'a>,
    pub(crate) fc2: linear::Gradient<'a>,
}

/// `x + path * fc2(gelu(fc1(norm(x))))` for rows `[rows, embed]`; `path` scales equal shares of the rows.
pub(crate) fn forward(
    x: &[f32],
    weights: &Weights<'_>,
    rows: usize,
    epsilon: f32,
    path: Option<&[f32]>,
    learn: bool,
) -> (Vec<f32>, Option<Kept>) {
    let (normed, norm) = weights.norm.forward(x, epsilon);
    let mut hidden = weights.fc1.forward(&normed, rows);
    if !learn {
        gelu::forward(&mut hidden);
        return (residual::forward(x, &hidden, weights.fc2, rows, path), None);
    }
    let mut active = normed;
    active.resize(hidden.len(), 0.0);
    gelu::with_slope(&mut hidden, &mut active);
    let out = residual::forward(x, &active, weights.fc2, rows, path);
    (out, Some(Kept { norm, active, slope: hidden }))
}

/// The gradient of `x`, from that of the answer; those of the weights are added to `of`.
pub(crate) fn backward(
    mut gradient: Vec<f32>,
    kept: Kept,
    weights: &Weights<'_>,
    rows: usize,
    path: Option<&[f32]>,
    of: &mut Gradients<'_>,
) -> Vec<f32> {
    let along = residual::backward(&gradient, path);
    weights.fc2.weight_gradient(&kept.active, &along, rows, &mut of.fc2);
    let mut of_hidden = weights.fc2.input_gradient(&along, rows);
    drop(along);
    residual::multiply(&mut of_hidden, &kept.slope);
    let normed = weights.norm.again(&kept.norm);
    weights.fc1.weight_gradient(&normed, &of_hidden, rows, &mut of.fc1);
    let of_normed = weights.fc1.input_gradient(&of_hidden, rows);
    weights.norm.backward(&kept.norm, &of_normed, &mut gradient, &mut of.norm);
    gradient
}
