//! The feed-forward branch of a block as one operation: norm, widening, GELU, narrowing.

use super::gelu;
use super::linear::{self, Linear};
use super::norm::{self, Normalised};

/// Weights, each the leading part of a super weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) fc1: Linear<'a>,
    pub(crate) fc2: Linear<'a>,
}

/// What the gradient needs of the forward pass.
#[derive(Debug)]
pub(crate) struct Kept {
    norm: Normalised,
    hidden: Vec<f32>,
}

/// `x`: `[rows, embed]`; the answer has its shape and does not hold the residual.
pub(crate) fn forward(x: &[f32], weights: &Weights<'_>, rows: usize, epsilon: f32) -> (Vec<f32>, Kept) {
    let (normed, norm) = norm::forward(x, weights.gain, weights.bias, epsilon);
    let hidden = weights.fc1.forward(&normed, rows);
    let active = activated(&hidden);
    (weights.fc2.forward(&active, rows), Kept { norm, hidden })
}

fn activated(hidden: &[f32]) -> Vec<f32> {
    let mut active = vec![0.0; hidden.len()];
    gelu::forward(hidden, &mut active);
    active
}

/// Gradients of input and weights, the latter the size of the super weights.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) x: Vec<f32>,
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) fc1: linear::Gradient,
    pub(crate) fc2: linear::Gradient,
}

/// Gradients of everything, from that of the answer.
pub(crate) fn backward(gradient: &[f32], kept: &Kept, weights: &Weights<'_>, rows: usize) -> Gradients {
    let fc2 = weights.fc2.weight_gradient(&activated(&kept.hidden), gradient, rows);
    let mut of_hidden = vec![0.0; kept.hidden.len()];
    weights.fc2.input_gradient(gradient, rows, &mut of_hidden, false);
    gelu::backward(&kept.hidden, &mut of_hidden);
    let normed = norm::again(&kept.norm, weights.gain, weights.bias);
    let fc1 = weights.fc1.weight_gradient(&normed, &of_hidden, rows);
    let embed = weights.gain.len();
    let mut of_normed = normed;
    weights.fc1.input_gradient(&of_hidden, rows, &mut of_normed, false);
    let mut x = vec![0.0; rows * embed];
    let (mut gain, mut bias) = (vec![0.0; embed], vec![0.0; embed]);
    norm::backward(&kept.norm, weights.gain, &of_normed, &mut x, &mut gain, &mut bias);
    Gradients { x, gain, bias, fc1, fc2 }
}
