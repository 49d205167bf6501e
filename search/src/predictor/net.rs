//! Small networks for architecture predictors: dense layers with their gradients written out, and Adam.
//!
//! These have some ten thousand parameters and are fitted hundreds of times in one search; written out, a step costs what its
//! products cost. Results depend on no number of threads.

use crate::ops::{Onto, Precision, View, fresh, product};
use crate::rand::{Draw, Rng};

/// An affine map, rows times weights plus bias; its parameters lie in a shared list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dense {
    at: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Dense {
    /// Appends its parameters: uniform weights of variance 2 / inputs (He et al., 2015), no bias.
    pub(super) fn new(parameters: &mut Vec<f32>, inputs: usize, outputs: usize, rng: &mut Rng) -> Self {
        let at = parameters.len();
        let reach = (6.0 / inputs as f64).sqrt();
        parameters.extend((0..inputs * outputs).map(|_| ((2.0 * rng.unit() - 1.0) * reach) as f32));
        parameters.extend(std::iter::repeat_n(0.0, outputs));
        Self { at, inputs, outputs }
    }

    /// Its parameters among all.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.at..self.at + (self.inputs + 1) * self.outputs
    }

    /// `x`: rows of `inputs`. Gives rows of `outputs`.
    pub(super) fn forward(&self, parameters: &[f32], x: &[f32]) -> Vec<f32> {
        let (weights, bias) = self.parts(parameters);
        fresh(self.rows(x, self.inputs), weights, Onto::Row(bias), Precision::F32)
    }

    /// Adds the gradients of the parameters and gives that of `x`.
    pub(super) fn backward(
        &self,
        parameters: &[f32],
        gradients: &mut [f32],
        x: &[f32],
        dy: &[f32],
    ) -> Vec<f32> {
        let (into, bias) = gradients[self.range()].split_at_mut(self.inputs * self.outputs);
        for row in dy.chunks_exact(self.outputs) {
            bias.iter_mut().zip(row).for_each(|(bias, dy)| *bias += dy);
        }
        let (x, dy) = (self.rows(x, self.inputs), self.rows(dy, self.outputs));
        product(into, self.outputs, x.transposed(), dy, 1.0, Onto::There, Precision::F32);
        fresh(dy, self.parts(parameters).0.transposed(), Onto::Nothing, Precision::F32)
    }

    /// Its weights and its bias.
    fn parts<'a>(&self, parameters: &'a [f32]) -> (View<'a>, &'a [f32]) {
        let (weights, bias) = parameters[self.range()].split_at(self.inputs * self.outputs);
        (View::new(weights, self.inputs, self.outputs, self.outputs), bias)
    }

    fn rows<'a>(&self, x: &'a [f32], width: usize) -> View<'a> {
        View::new(x, x.len() / width, width, width)
    }
}

/// A dot product in eight partial sums, which the compiler turns into vector instructions.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (heads, rest) = (a.chunks_exact(8), a.len() / 8 * 8);
    for (a, b) in heads.zip(b.chunks_exact(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + tail
}

/// Rows of `width` at length 1.
pub(super) fn unit(x: &[f32], width: usize) -> Vec<f32> {
    let row = |row: &[f32]| {
        let length = length(row);
        row.iter().map(|value| value / length).collect::<Vec<_>>()
    };
    x.chunks_exact(width).flat_map(row).collect()
}

/// The gradient by rows of `width`, given that by what [`unit`] made of them.
pub(super) fn unit_slope(x: &[f32], unit: &[f32], d: &[f32], width: usize) -> Vec<f32> {
    let rows = x.chunks_exact(width).zip(unit.chunks_exact(width)).zip(d.chunks_exact(width));
    let row = |((x, unit), d): ((&[f32], &[f32]), &[f32])| {
        let (length, along) = (length(x), dot(unit, d));
        unit.iter().zip(d).map(|(unit, d)| (d - along * unit) / length).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

/// How long a row is; what is nearly nothing counts as a little.
pub(super) fn length(row: &[f32]) -> f32 {
    dot(row, row).sqrt().max(1e-6)
}

/// Negative values become 0.
pub(super) fn rectify(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = x.max(0.0));
}

/// Cuts a gradient where the rectifier gave 0.
pub(super) fn unrectify(dy: &mut [f32], y: &[f32]) {
    dy.iter_mut().zip(y).filter(|(_, y)| **y <= 0.0).for_each(|(dy, _)| *dy = 0.0);
}

/// Adam (Kingma and Ba, 2015) with decoupled weight decay.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    step: i32,
    decay: f32,
}

impl Adam {
    pub(super) fn new(count: usize, decay: f32) -> Self {
        Self { mean: vec![0.0; count], square: vec![0.0; count], step: 0, decay }
    }

    /// Moves the parameters and clears the gradients.
    pub(super) fn step(&mut self, parameters: &mut [f32], gradients: &mut [f32], rate: f32) {
        self.step += 1;
        let correct = (1.0 - 0.999f32.powi(self.step)).sqrt() / (1.0 - 0.9f32.powi(self.step));
        let all = parameters.iter_mut().zip(gradients).zip(self.mean.iter_mut().zip(&mut self.square));
        for ((parameter, gradient), (mean, square)) in all {
            *mean += 0.1 * (*gradient - *mean);
            *square += 0.001 * (*gradient * *gradient - *square);
            *parameter -= rate * (correct * *mean / (square.sqrt() + 1e-8) + self.decay * *parameter);
            *gradient = 0.0;
        }
    }
}

/// Half a cosine from 1 down to 0.
pub(super) fn cosine(step: usize, steps: usize) -> f32 {
    0.5 + 0.5 * (std::f32::consts::PI * step as f32 / steps.max(1) as f32).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::stream;

    #[test]
    fn gradients_of_a_layer_match_differences() {
        let mut rng = stream(1, "test", 0);
        let mut parameters = vec![0.0; 3];
        let layer = Dense::new(&mut parameters, 5, 11, &mut rng);
        let x: Vec<f32> = (0..15).map(|_| rng.normal() as f32).collect();
        let wanted: Vec<f32> = (0..33).map(|_| rng.normal() as f32).collect();
        let loss = |parameters: &[f32], x: &[f32]| -> f64 {
            let y = layer.forward(parameters, x);
            y.iter().zip(&wanted).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        let mut gradients = vec![0.0; parameters.len()];
        let dx = layer.backward(&parameters, &mut gradients, &x, &wanted);
        let near = |a: f64, b: f32| assert!((a - f64::from(b)).abs() < 2e-2 * (1.0 + a.abs()), "{a} {b}");
        for at in 0..parameters.len() {
            let mut moved = parameters.clone();
            moved[at] += 1e-2;
            near((loss(&moved, &x) - loss(&parameters, &x)) / 1e-2, gradients[at]);
        }
        for at in 0..x.len() {
            let mut moved = x.clone();
            moved[at] += 1e-2;
            near((loss(&parameters, &moved) - loss(&parameters, &x)) / 1e-2, dx[at]);
        }
    }

    #[test]
    fn adam_finds_the_bottom() {
        let (mut parameters, mut gradients) = (vec![3.0f32, -2.0], vec![0.0; 2]);
        let mut adam = Adam::new(2, 0.0);
        for step in 0..500 {
            gradients.copy_from_slice(&[2.0 * (parameters[0] - 1.0), 20.0 * parameters[1]]);
            adam.step(&mut parameters, &mut gradients, 0.05 * cosine(step, 500));
        }
        assert!((parameters[0] - 1.0).abs() < 1e-2 && parameters[1].abs() < 1e-2, "{parameters:?}");
    }
}
