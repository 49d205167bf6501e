//! The attention branch of a block as one operation: norm, query, key and value, softmax attention, projection.
//!
//! The attention weights are not kept: the gradient computes them again from query and key, head by head, in a buffer
//! of tokens x tokens that stays in the cache.

use super::linear::{self, Linear};
use super::norm::{self, Normalised};
use super::product::{View, product};
use super::vector::{dot, exp, sum, vectorised};

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) tokens: usize,
    pub(crate) embed: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

impl Shape {
    fn rows(self) -> usize {
        self.images * self.tokens
    }

    /// Width of all heads together.
    fn attention(self) -> usize {
        self.heads * self.head_dim
    }

    fn scale(self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }
}

/// Weights, each the leading part of a super weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) q: Linear<'a>,
    pub(crate) k: Linear<'a>,
    pub(crate) v: Linear<'a>,
    pub(crate) proj: Linear<'a>,
}

/// What the gradient needs of the forward pass.
#[derive(Debug)]
pub(crate) struct Kept {
    norm: Normalised,
    qkv: [Vec<f32>; 3],
    mixed: Vec<f32>,
}

/// `x`: `[images, tokens, embed]`; the answer has its shape and does not hold the residual.
pub(crate) fn forward(x: &[f32], weights: &Weights<'_>, shape: Shape, epsilon: f32) -> (Vec<f32>, Kept) {
    let (rows, width) = (shape.rows(), shape.attention());
    let (normed, norm) = norm::forward(x, weights.gain, weights.bias, epsilon);
    let qkv = [weights.q, weights.k, weights.v].map(|linear| linear.forward(&normed, rows));
    let mut mixed = vec![0.0; rows * width];
    let mut scores = vec![0.0; shape.tokens * shape.tokens];
    for_heads(shape, |at| {
        let [q, k, v] = [0, 1, 2].map(|i| head(&qkv[i], at, shape));
        product(&mut scores, shape.tokens, q, k.transposed(), shape.scale(), false);
        softmax(&mut scores, shape.tokens);
        let weights = View::new(&scores, shape.tokens, shape.tokens, shape.tokens);
        product(&mut mixed[at..], width, weights, v, 1.0, false);
    });
    let out = weights.proj.forward(&mixed, rows);
    (out, Kept { norm, qkv, mixed })
}

/// Gradients in the order of [`Weights`]' parts, each the size of the super weight.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) x: Vec<f32>,
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) q: linear::Gradient,
    pub(crate) k: linear::Gradient,
    pub(crate) v: linear::Gradient,
    pub(crate) proj: linear::Gradient,
}

/// Gradients of everything, from that of the answer.
pub(crate) fn backward(gradient: &[f32], kept: &Kept, weights: &Weights<'_>, shape: Shape) -> Gradients {
    let (rows, width, tokens) = (shape.rows(), shape.attention(), shape.tokens);
    let proj = weights.proj.weight_gradient(&kept.mixed, gradient, rows);
    let mut of_mixed = vec![0.0; rows * width];
    weights.proj.input_gradient(gradient, rows, &mut of_mixed, false);
    let [mut of_q, mut of_k, mut of_v] = [0; 3].map(|_| vec![0.0; rows * width]);
    let mut scores = vec![0.0; tokens * tokens];
    let mut of_scores = vec![0.0; tokens * tokens];
    for_heads(shape, |at| {
        let [q, k, v] = [0, 1, 2].map(|i| head(&kept.qkv[i], at, shape));
        let of_mixed = head(&of_mixed, at, shape);
        product(&mut scores, tokens, q, k.transposed(), shape.scale(), false);
        softmax(&mut scores, tokens);
        let weights = View::new(&scores, tokens, tokens, tokens);
        product(&mut of_v[at..], width, weights.transposed(), of_mixed, 1.0, false);
        product(&mut of_scores, tokens, of_mixed, v.transposed(), 1.0, false);
        softmax_backward(&scores, &mut of_scores, tokens);
        let of_scores = View::new(&of_scores, tokens, tokens, tokens);
        product(&mut of_q[at..], width, of_scores, k, shape.scale(), false);
        product(&mut of_k[at..], width, of_scores.transposed(), q, shape.scale(), false);
    });
    let normed = norm::again(&kept.norm, weights.gain, weights.bias);
    let mut of_normed = vec![0.0; rows * shape.embed];
    let mut back = |linear: Linear<'_>, of: &[f32], add: bool| {
        linear.input_gradient(of, rows, &mut of_normed, add);
        linear.weight_gradient(&normed, of, rows)
    };
    let q = back(weights.q, &of_q, false);
    let k = back(weights.k, &of_k, true);
    let v = back(weights.v, &of_v, true);
    let mut x = vec![0.0; rows * shape.embed];
    let (mut gain, mut bias) = (vec![0.0; shape.embed], vec![0.0; shape.embed]);
    norm::backward(&kept.norm, weights.gain, &of_normed, &mut x, &mut gain, &mut bias);
    Gradients { x, gain, bias, q, k, v, proj }
}

/// Calls `work` with the place of each image's head in `[rows, heads * head_dim]`.
fn for_heads(shape: Shape, mut work: impl FnMut(usize)) {
    for image in 0..shape.images {
        for head in 0..shape.heads {
            work(image * shape.tokens * shape.attention() + head * shape.head_dim);
        }
    }
}

fn head(values: &[f32], at: usize, shape: Shape) -> View<'_> {
    View::new(&values[at..], shape.tokens, shape.head_dim, shape.attention())
}

#[inline(always)]
fn softmax_body(scores: &mut [f32], width: usize) {
    for row in scores.chunks_exact_mut(width) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        for value in row.iter_mut() {
            *value = exp(*value - largest);
        }
        let inverse = 1.0 / sum(row);
        for value in row.iter_mut() {
            *value *= inverse;
        }
    }
}

#[inline(always)]
fn softmax_backward_body(weights: &[f32], gradient: &mut [f32], width: usize) {
    for (weights, gradient) in weights.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
        let along = dot(weights, gradient);
        for (gradient, weight) in gradient.iter_mut().zip(weights) {
            *gradient = weight * (*gradient - along);
        }
    }
}

vectorised! {
    /// Rows of `width` become distributions.
    pub(crate) fn softmax(scores: &mut [f32], width: usize) = softmax_body;
}

vectorised! {
    /// The gradient of a softmax's input, in place of that of its answer.
    fn softmax_backward(weights: &[f32], gradient: &mut [f32], width: usize) = softmax_backward_body;
}
