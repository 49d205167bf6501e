//! A linear layer on the leading part of a super weight, read and written in place.

use super::product::{View, product};
use super::vector::vectorised;

/// Leading `[input, output]` of a weight with `stride` columns, and of its bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) stride: usize,
}

/// Gradients the size of the super weight and bias; zero where the layer does not reach.
#[derive(Debug)]
pub(crate) struct Gradient {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Linear<'_> {
    fn view(&self) -> View<'_> {
        View::new(self.weight, self.input, self.output, self.stride)
    }

    /// `x W + b` for `rows` rows.
    pub(crate) fn forward(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows * self.output);
        for _ in 0..rows {
            out.extend_from_slice(&self.bias[..self.output]);
        }
        product(&mut out, self.output, View::new(x, rows, self.input, self.input), self.view(), 1.0, true);
        out
    }

    /// The gradient of the input, written or added.
    pub(crate) fn input_gradient(&self, gradient: &[f32], rows: usize, of_x: &mut [f32], add: bool) {
        let gradient = View::new(gradient, rows, self.output, self.output);
        product(of_x, self.input, gradient, self.view().transposed(), 1.0, add);
    }

    /// The gradient of weight and bias.
    pub(crate) fn weight_gradient(&self, x: &[f32], gradient: &[f32], rows: usize) -> Gradient {
        let mut of = Gradient { weight: vec![0.0; self.weight.len()], bias: vec![0.0; self.bias.len()] };
        column_sums(gradient, &mut of.bias[..self.output]);
        let x = View::new(x, rows, self.input, self.input).transposed();
        product(
            &mut of.weight,
            self.stride,
            x,
            View::new(gradient, rows, self.output, self.output),
            1.0,
            false,
        );
        of
    }
}

#[inline(always)]
fn column_sums_body(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

vectorised! {
    /// Adds rows, as wide as `sums`, to it.
    fn column_sums(rows: &[f32], sums: &mut [f32]) = column_sums_body;
}
