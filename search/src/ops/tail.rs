//! What reads tokens out: the last rows of each image, normed or not, through a linear layer. The projectors to the
//! teacher's width, and the decoder's guess.

use super::linear::{self, Linear};
use super::norm::{self, Norm, Normalised};

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) tokens: usize,
    /// Tokens at the beginning of each image that are passed over.
    pub(crate) skip: usize,
}

impl Shape {
    fn rows(self) -> usize {
        self.images * (self.tokens - self.skip)
    }

    /// The last rows of each image, side by side.
    fn gather(self, x: &[f32]) -> Vec<f32> {
        let width = x.len() / (self.images * self.tokens);
        let mut out = Vec::with_capacity(self.rows() * width);
        for image in x.chunks_exact(self.tokens * width) {
            out.extend_from_slice(&image[self.skip * width..]);
        }
        out
    }

    /// Rows back to their places, zeros where tokens were passed over.
    fn scatter(self, rows: &[f32]) -> Vec<f32> {
        let width = rows.len() / self.rows();
        let mut out = Vec::with_capacity(self.images * self.tokens * width);
        for image in rows.chunks_exact((self.tokens - self.skip) * width) {
            out.resize(out.len() + self.skip * width, 0.0);
            out.extend_from_slice(image);
        }
        out
    }
}

/// What the gradient needs of the forward pass.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The rows themselves.
    Plain(Vec<f32>),
    /// The rows normed.
    Normed(Normalised),
}

/// `[images, tokens, input]` to `[images, tokens - skip, output]`.
pub(crate) fn forward(
    x: &[f32],
    norm: Option<Norm<'_>>,
    linear: Linear<'_>,
    shape: Shape,
    epsilon: f32,
) -> (Vec<f32>, Kept) {
    let rows = shape.gather(x);
    match norm {
        Some(norm) => {
            let (normed, kept) = norm.forward(&rows, epsilon);
            (linear.forward(&normed, shape.rows()), Kept::Normed(kept))
        }
        None => (linear.forward(&rows, shape.rows()), Kept::Plain(rows)),
    }
}

/// The gradient of `x`, from that of the answer; those of the weights are added.
pub(crate) fn backward(
    gradient: &[f32],
    kept: &Kept,
    norm: Option<(Norm<'_>, norm::Gradient<'_>)>,
    linear: (Linear<'_>, linear::Gradient<'_>),
    shape: Shape,
) -> Vec<f32> {
    let (linear, mut of_linear) = linear;
    let rows = shape.rows();
    match (kept, norm) {
        (Kept::Normed(kept), Some((norm, mut of_norm))) => {
            linear.weight_gradient(&norm.again(kept), gradient, rows, &mut of_linear);
            let of_normed = linear.input_gradient(gradient, rows);
            let mut of_rows = vec![0.0; of_normed.len()];
            norm.backward(kept, &of_normed, &mut of_rows, &mut of_norm);
            shape.scatter(&of_rows)
        }
        (Kept::Plain(x), _) => {
            linear.weight_gradient(x, gradient, rows, &mut of_linear);
            shape.scatter(&linear.input_gradient(gradient, rows))
        }
        (Kept::Normed(_), None) => unreachable!("a norm that was there in the forward pass"),
    }
}
