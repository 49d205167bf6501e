//! What both branches end with: a linear layer whose answer is added to the block's input, scaled image by image
//! under stochastic depth.

use std::borrow::Cow;

use super::linear::Linear;
use super::vector::vectorised;

/// `x + path * (inner W + b)`; `path` has a factor for each equal share of the rows.
pub(crate) fn forward(
    x: &[f32],
    inner: &[f32],
    linear: Linear<'_>,
    rows: usize,
    path: Option<&[f32]>,
) -> Vec<f32> {
    let Some(path) = path else {
        let mut out = x.to_vec();
        linear.forward_onto(inner, rows, &mut out);
        return out;
    };
    let mut out = linear.forward(inner, rows);
    scale(&mut out, path);
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
    out
}

/// The gradient of the branch, from that of the sum.
pub(crate) fn backward<'a>(gradient: &'a [f32], path: Option<&[f32]>) -> Cow<'a, [f32]> {
    let Some(path) = path else { return Cow::Borrowed(gradient) };
    let mut along = gradient.to_vec();
    scale(&mut along, path);
    Cow::Owned(along)
}

fn scale(values: &mut [f32], path: &[f32]) {
    let share = (values.len() / path.len().max(1)).max(1);
    for (values, factor) in values.chunks_exact_mut(share).zip(path) {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

#[inline(always)]
fn multiply_body(values: &mut [f32], by: &[f32]) {
    for (value, by) in values.iter_mut().zip(by) {
        *value *= by;
    }
}

vectorised! {
    /// `values *= by`, element by element.
    pub(crate) fn multiply(values: &mut [f32], by: &[f32]) = multiply_body;
}
