//! What reads tokens out: the last rows of each image, normed or not, through a linear layer. The projectors to the
//! teacher's width, and the decoder's guess.

use super::last_rows::LastRows;
use super::linear::{self, Linear};
use super::norm::{self, Norm, Normalised};

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
    last: LastRows,
    epsilon: f32,
) -> (Vec<f32>, Kept) {
    let rows = last.gather(x);
    match norm {
        Some(norm) => {
            let (normed, kept) = norm.forward(&rows, epsilon);
            (linear.forward(&normed, last.count()), Kept::Normed(kept))
        }
        None => (linear.forward(&rows, last.count()), Kept::Plain(rows.into_owned())),
    }
}

/// The gradient of `x`, from that of the answer; those of the weights are added.
pub(crate) fn backward(
    gradient: &[f32],
    kept: &Kept,
    norm: Option<(Norm<'_>, norm::Gradient<'_>)>,
    linear: (Linear<'_>, linear::Gradient<'_>),
    last: LastRows,
) -> Vec<f32> {
    let (linear, mut of_linear) = linear;
    let rows = last.count();
    match (kept, norm) {
        (Kept::Normed(kept), Some((norm, mut of_norm))) => {
            linear.weight_gradient(&norm.again(kept), gradient, rows, &mut of_linear);
            let of_normed = linear.input_gradient(gradient, rows);
            let mut of_rows = vec![0.0; of_normed.len()];
            norm.backward(kept, &of_normed, &mut of_rows, &mut of_norm);
            last.scatter(of_rows)
        }
        (Kept::Plain(x), _) => {
            linear.weight_gradient(x, gradient, rows, &mut of_linear);
            last.scatter(linear.input_gradient(gradient, rows))
        }
        (Kept::Normed(_), None) => unreachable!("a norm that was there in the forward pass"),
    }
}
