//! The attention branch of a block, and its residual, as one operation: norm, query, key and value, softmax
//! attention, projection. The last block of a decoder asks for its last tokens alone; the others are only looked at.

use super::last_rows::LastRows;
use super::linear::{self, Linear};
use super::norm::{self, Norm, Normalised};
use super::precision::Precision;
use super::product::{Onto, View, product};
use super::residual;
use super::vector::{dot, exp, sum, vectorised};

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) tokens: usize,
    /// Tokens at the beginning of each image that there is no answer for.
    pub(crate) skip: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

impl Shape {
    fn rows(self) -> usize {
        self.images * self.tokens
    }

    /// The tokens that there is an answer for.
    fn asking(self) -> LastRows {
        LastRows { images: self.images, tokens: self.tokens, skip: self.skip }
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
    pub(crate) norm: Norm<'a>,
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
    /// Attention weights, `[images, heads, tokens - skip, tokens]`.
    weights: Vec<f32>,
    mixed: Vec<f32>,
}

/// Sums of the gradients of [`Weights`]' parts.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    pub(crate) norm: norm::Gradient<'a>,
    pub(crate) q: linear::Gradient<'a>,
    pub(crate) k: linear::Gradient<'a>,
    pub(crate) v: linear::Gradient<'a>,
    pub(crate) proj: linear::Gradient<'a>,
}

/// `x + path * proj(softmax(q k / sqrt(d)) v)` of the normed `x`, `[images, tokens, embed]`, to `[images, tokens - skip,
/// embed]`; `path` has a factor an image.
pub(crate) fn forward(
    x: &[f32],
    weights: &Weights<'_>,
    shape: Shape,
    epsilon: f32,
    path: Option<&[f32]>,
    learn: bool,
) -> (Vec<f32>, Option<Kept>) {
    let (rows, width, asking) = (shape.rows(), shape.attention(), shape.asking());
    let size = asking.each() * shape.tokens;
    let (normed, norm) = weights.norm.forward(x, epsilon);
    let q = weights.q.forward(&asking.gather(&normed), asking.count());
    let [k, v] = [weights.k, weights.v].map(|linear| linear.forward(&normed, rows));
    let qkv = [q, k, v];
    let mut mixed = normed;
    mixed.resize(asking.count() * width, 0.0);
    // Weights are kept for the gradient; without one, each head's are overwritten by the next.
    let heads = if learn { shape.images * shape.heads } else { 1 };
    let mut all = vec![0.0; heads * size];
    for_heads(shape, |number, [asked, at]| {
        let q = head(&qkv[0], asked, asking.each(), shape);
        let [k, v] = [1, 2].map(|i| head(&qkv[i], at, shape.tokens, shape));
        let scores = &mut all[number % heads * size..][..size];
        multiply(scores, shape.tokens, q, k.transposed(), shape.scale());
        softmax(scores, shape.tokens);
        let weights = View::new(scores, asking.each(), shape.tokens, shape.tokens);
        multiply(&mut mixed[asked..], width, weights, v, 1.0);
    });
    let out = residual::forward(&asking.gather(x), &mixed, weights.proj, asking.count(), path);
    (out, learn.then_some(Kept { norm, qkv, weights: all, mixed }))
}

/// The gradient of `x`, from that of the answer; those of the weights are added to `of`.
pub(crate) fn backward(
    gradient: Vec<f32>,
    kept: Kept,
    weights: &Weights<'_>,
    shape: Shape,
    path: Option<&[f32]>,
    of: &mut Gradients<'_>,
) -> Vec<f32> {
    let (rows, width, tokens, asking) = (shape.rows(), shape.attention(), shape.tokens, shape.asking());
    let (each, size) = (asking.each(), asking.each() * tokens);
    let along = residual::backward(&gradient, path);
    weights.proj.weight_gradient(&kept.mixed, &along, asking.count(), &mut of.proj);
    let of_mixed = weights.proj.input_gradient(&along, asking.count());
    drop(along);
    let mut of_q = kept.mixed;
    let [mut of_k, mut of_v] = [0; 2].map(|_| vec![0.0; rows * width]);
    let mut of_scores = vec![0.0; size];
    for_heads(shape, |number, [asked, at]| {
        let q = head(&kept.qkv[0], asked, each, shape);
        let [k, v] = [1, 2].map(|i| head(&kept.qkv[i], at, tokens, shape));
        let of_mixed = head(&of_mixed, asked, each, shape);
        let scores = &kept.weights[number * size..][..size];
        let weights = View::new(scores, each, tokens, tokens);
        multiply(&mut of_v[at..], width, weights.transposed(), of_mixed, 1.0);
        multiply(&mut of_scores, tokens, of_mixed, v.transposed(), 1.0);
        softmax_backward(scores, &mut of_scores, tokens);
        let of_scores = View::new(&of_scores, each, tokens, tokens);
        multiply(&mut of_q[asked..], width, of_scores, k, shape.scale());
        multiply(&mut of_k[at..], width, of_scores.transposed(), q, shape.scale());
    });
    let normed = weights.norm.again(&kept.norm);
    weights.q.weight_gradient(&asking.gather(&normed), &of_q, asking.count(), &mut of.q);
    weights.k.weight_gradient(&normed, &of_k, rows, &mut of.k);
    weights.v.weight_gradient(&normed, &of_v, rows, &mut of.v);
    let mut of_normed = asking.scatter(weights.q.input_gradient(&of_q, asking.count()));
    weights.k.input_gradient_onto(&of_k, rows, &mut of_normed);
    weights.v.input_gradient_onto(&of_v, rows, &mut of_normed);
    let mut of_x = asking.scatter(gradient);
    weights.norm.backward(&kept.norm, &of_normed, &mut of_x, &mut of.norm);
    of_x
}

/// Products inside attention are small, and their answers go through an exponential: always in f32.
fn multiply(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, factor: f32) {
    product(out, stride, a, b, factor, Onto::Nothing, Precision::F32);
}

/// Calls `work` with each image's head: its number, and its places in `[rows, heads * head_dim]` of the tokens that ask
/// and of all tokens.
fn for_heads(shape: Shape, mut work: impl FnMut(usize, [usize; 2])) {
    for image in 0..shape.images {
        for head in 0..shape.heads {
            let at = |tokens: usize| image * tokens * shape.attention() + head * shape.head_dim;
            work(image * shape.heads + head, [at(shape.asking().each()), at(shape.tokens)]);
        }
    }
}

fn head(values: &[f32], at: usize, tokens: usize, shape: Shape) -> View<'_> {
    View::new(&values[at..], tokens, shape.head_dim, shape.attention())
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
