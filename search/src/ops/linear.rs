//! A linear layer on the leading part of a super weight, read and written in place.

use super::precision::Precision;
use super::product::{Onto, View, fresh, product};
use super::vector::vectorised;

/// Leading `[input, output]` of a weight with `stride` columns, and of its bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) stride: usize,
    pub(crate) precision: Precision,
}

/// Sums of gradients, each the size of its super weight; only the leading part is added to.
#[derive(Debug)]
pub(crate) struct Gradient<'a> {
    pub(crate) weight: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
}

impl Linear<'_> {
    fn view(&self) -> View<'_> {
        View::new(self.weight, self.input, self.output, self.stride)
    }

    /// `x W + b` for `rows` rows.
    pub(crate) fn forward(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let x = View::new(x, rows, self.input, self.input);
        fresh(x, self.view(), Onto::Row(&self.bias[..self.output]), self.precision)
    }

    /// As [`Linear::forward`], added to `out`.
    pub(crate) fn forward_onto(&self, x: &[f32], rows: usize, out: &mut [f32]) {
        let x = View::new(x, rows, self.input, self.input);
        add_row(out, &self.bias[..self.output]);
        product(out, self.output, x, self.view(), 1.0, Onto::There, self.precision);
    }

    /// The gradient of the input.
    pub(crate) fn input_gradient(&self, gradient: &[f32], rows: usize) -> Vec<f32> {
        let gradient = View::new(gradient, rows, self.output, self.output);
        fresh(gradient, self.view().transposed(), Onto::Nothing, self.precision)
    }

    /// As [`Linear::input_gradient`], added to `of_x`.
    pub(crate) fn input_gradient_onto(&self, gradient: &[f32], rows: usize, of_x: &mut [f32]) {
        let gradient = View::new(gradient, rows, self.output, self.output);
        product(of_x, self.input, gradient, self.view().transposed(), 1.0, Onto::There, self.precision);
    }

    /// Adds the gradient of weight and bias to `of`.
    pub(crate) fn weight_gradient(&self, x: &[f32], gradient: &[f32], rows: usize, of: &mut Gradient<'_>) {
        column_sums(gradient, &mut of.bias[..self.output]);
        let x = View::new(x, rows, self.input, self.input).transposed();
        let gradient = View::new(gradient, rows, self.output, self.output);
        product(of.weight, self.stride, x, gradient, 1.0, Onto::There, self.precision);
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

#[inline(always)]
fn add_row_body(rows: &mut [f32], row: &[f32]) {
    for out in rows.chunks_exact_mut(row.len()) {
        for (out, value) in out.iter_mut().zip(row) {
            *out += value;
        }
    }
}

vectorised! {
    /// Adds rows, as wide as `sums`, to it.
    pub(crate) fn column_sums(rows: &[f32], sums: &mut [f32]) = column_sums_body;
}

vectorised! {
    /// Adds `row` to each of `rows`.
    fn add_row(rows: &mut [f32], row: &[f32]) = add_row_body;
}
