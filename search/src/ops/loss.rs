//! The terms of the loss: squared error, smooth L1 to whitened features, divergence of token relations.
//!
//! Each is a mean; what is kept is its gradient, to be multiplied by that of the sum.

use super::norm::whiten;
use super::precision::Precision;
use super::product::{Onto, View, product};
use super::vector::{dot, exp, sum, vectorised};

/// Mean squared difference, and its gradient by `guess`.
pub(crate) fn mean_square(guess: &[f32], target: &[f32]) -> (f32, Vec<f32>) {
    let mut slope = vec![0.0; guess.len()];
    let mut total = [0.0];
    squares(guess, target, &mut slope, &mut total);
    (total[0] / guess.len() as f32, slope)
}

/// Mean Huber distance with threshold 1 of `student` from `teacher`, the latter brought to mean 0 and variance 1 row
/// by row, and its gradient by `student`.
pub(crate) fn smooth_l1(student: &[f32], teacher: &[f32], width: usize, epsilon: f32) -> (f32, Vec<f32>) {
    let mut slope = vec![0.0; student.len()];
    whiten(teacher, width, epsilon, &mut slope);
    let mut total = [0.0];
    huber(student, &mut slope, &mut total);
    (total[0] / student.len() as f32, slope)
}

/// Relations of `tokens` tokens of an image: unit vectors, and the logarithms of a softmax over the cosine
/// similarities to the other tokens.
pub(crate) struct Relations {
    unit: Vec<f32>,
    norm: Vec<f32>,
    logs: Vec<f32>,
}

impl Relations {
    /// Of features `[tokens, width]` at temperature `tau`; `epsilon` is added to squared norms.
    pub(crate) fn of(features: &[f32], tokens: usize, tau: f32, epsilon: f32) -> Self {
        let width = features.len() / tokens;
        let mut unit = features.to_vec();
        let mut norm = vec![0.0; tokens];
        normalise(&mut unit, epsilon, &mut norm);
        let mut logs = vec![0.0; tokens * tokens];
        let view = View::new(&unit, tokens, width, width);
        product(&mut logs, tokens, view, view.transposed(), 1.0 / tau, Onto::Nothing, Precision::F32);
        log_softmax_of_others(&mut logs, tokens);
        Self { unit, norm, logs }
    }

    /// Kullback–Leibler divergence of these relations from the teacher's, mean over tokens. Differences of
    /// probabilities take the place of the logarithms.
    fn diverge(&mut self, teacher: &Self) -> f32 {
        let mut total = [0.0];
        let tokens = self.norm.len();
        divergence(&mut self.logs, &teacher.logs, tokens, &mut total);
        total[0] / tokens as f32
    }

    /// The gradient of the features, times `factor`, from the differences of probabilities.
    fn gradient(self, factor: f32, tau: f32, out: &mut [f32]) {
        let (tokens, width) = (self.norm.len(), out.len() / self.norm.len());
        let mut both = self.logs.clone();
        for i in 0..tokens {
            for j in 0..tokens {
                both[i * tokens + j] += self.logs[j * tokens + i];
            }
        }
        let both = View::new(&both, tokens, tokens, tokens);
        let unit = View::new(&self.unit, tokens, width, width);
        product(out, width, both, unit, factor / tau, Onto::Nothing, Precision::F32);
        across(&self.unit, &self.norm, out);
    }
}

/// A batch's divergence of relations: image by image, and on request what the gradient needs.
pub(crate) struct Divergence {
    /// One an image.
    pub(crate) each: Vec<f32>,
    relations: Vec<Relations>,
    tau: f32,
}

/// `student` and `teacher` are `[images, tokens, their width]`.
pub(crate) fn relation(
    student: &[f32],
    teacher: &[f32],
    images: usize,
    tokens: usize,
    tau: f32,
    epsilon: f32,
) -> Divergence {
    let parts = |features: &[f32]| features.len() / images.max(1);
    let pairs = student.chunks_exact(parts(student)).zip(teacher.chunks_exact(parts(teacher)));
    let mut each = Vec::with_capacity(images);
    let mut relations = Vec::with_capacity(images);
    for (student, teacher) in pairs {
        let mut student = Relations::of(student, tokens, tau, epsilon);
        each.push(student.diverge(&Relations::of(teacher, tokens, tau, epsilon)));
        relations.push(student);
    }
    Divergence { each, relations, tau }
}

impl Divergence {
    /// The gradient of the student's features, from that of the mean over images.
    pub(crate) fn gradient(self, of_mean: f32) -> Vec<f32> {
        let images = self.relations.len();
        let size = self.relations.first().map_or(0, |relations| relations.unit.len());
        let mut out = vec![0.0; images * size];
        for (relations, out) in self.relations.into_iter().zip(out.chunks_exact_mut(size.max(1))) {
            let factor = of_mean / (images * relations.norm.len()) as f32;
            relations.gradient(factor, self.tau, out);
        }
        out
    }
}

#[inline(always)]
fn squares_body(guess: &[f32], target: &[f32], slope: &mut [f32], total: &mut [f32]) {
    let factor = 2.0 / guess.len() as f32;
    for ((guess, target), slope) in guess.iter().zip(target).zip(slope.iter_mut()) {
        *slope = guess - target;
    }
    total[0] = blockwise(slope.len(), |from, to| dot(&slope[from..to], &slope[from..to]));
    for slope in slope {
        *slope *= factor;
    }
}

/// Sums of blocks, summed: long sums stay as exact as short ones.
#[inline(always)]
fn blockwise(count: usize, mut of: impl FnMut(usize, usize) -> f32) -> f32 {
    const BLOCK: usize = 1024;
    (0..count).step_by(BLOCK).map(|from| of(from, count.min(from + BLOCK))).sum()
}

#[inline(always)]
fn huber_body(student: &[f32], slope: &mut [f32], total: &mut [f32]) {
    let factor = 1.0 / student.len() as f32;
    total[0] = blockwise(student.len(), |from, to| {
        let mut terms = [0.0f32; 1024];
        let rows = student[from..to].iter().zip(&mut slope[from..to]).zip(&mut terms);
        for ((student, slope), term) in rows {
            let difference = student - *slope;
            let near = difference.clamp(-1.0, 1.0);
            *term = near * (difference - 0.5 * near);
            *slope = near * factor;
        }
        sum(&terms[..to - from])
    });
}

#[inline(always)]
fn normalise_body(rows: &mut [f32], epsilon: f32, norm: &mut [f32]) {
    let width = rows.len() / norm.len();
    for (row, norm) in rows.chunks_exact_mut(width).zip(norm) {
        *norm = (dot(row, row) + epsilon).sqrt();
        let inverse = 1.0 / *norm;
        for value in row {
            *value *= inverse;
        }
    }
}

#[inline(always)]
fn log_softmax_body(scores: &mut [f32], tokens: usize) {
    let mut powers = vec![0.0; tokens];
    for (own, row) in scores.chunks_exact_mut(tokens).enumerate() {
        row[own] = f32::NEG_INFINITY;
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        if largest == f32::NEG_INFINITY {
            // A lone token relates to nothing.
            continue;
        }
        for (power, value) in powers.iter_mut().zip(row.iter()) {
            *power = exp(*value - largest);
        }
        let shift = largest + sum(&powers).ln();
        for value in row.iter_mut() {
            *value -= shift;
        }
    }
}

#[inline(always)]
fn divergence_body(student: &mut [f32], teacher: &[f32], tokens: usize, total: &mut [f32]) {
    let rows = student.chunks_exact_mut(tokens).zip(teacher.chunks_exact(tokens));
    let mut terms = vec![0.0; tokens];
    for (own, (student, teacher)) in rows.enumerate() {
        // Not related to itself, in both: neither probability nor divergence.
        student[own] = 0.0;
        for ((student, teacher), term) in student.iter_mut().zip(teacher).zip(&mut terms) {
            let wanted = exp(*teacher);
            *term = wanted * (*teacher - *student);
            *student = exp(*student) - wanted;
        }
        (terms[own], student[own]) = (0.0, 0.0);
        total[0] += sum(&terms);
    }
}

/// The gradient of vectors from that of their unit vectors.
#[inline(always)]
fn across_body(unit: &[f32], norm: &[f32], gradient: &mut [f32]) {
    let width = unit.len() / norm.len();
    for ((unit, gradient), norm) in unit.chunks_exact(width).zip(gradient.chunks_exact_mut(width)).zip(norm) {
        let along = dot(unit, gradient);
        let inverse = 1.0 / norm;
        for (gradient, unit) in gradient.iter_mut().zip(unit) {
            *gradient = (*gradient - unit * along) * inverse;
        }
    }
}

vectorised! {
    fn squares(guess: &[f32], target: &[f32], slope: &mut [f32], total: &mut [f32]) = squares_body;
}

vectorised! {
    fn huber(student: &[f32], slope: &mut [f32], total: &mut [f32]) = huber_body;
}

vectorised! {
    fn normalise(rows: &mut [f32], epsilon: f32, norm: &mut [f32]) = normalise_body;
}

vectorised! {
    fn log_softmax_of_others(scores: &mut [f32], tokens: usize) = log_softmax_body;
}

vectorised! {
    fn divergence(student: &mut [f32], teacher: &[f32], tokens: usize, total: &mut [f32]) = divergence_body;
}

vectorised! {
    fn across(unit: &[f32], norm: &[f32], gradient: &mut [f32]) = across_body;
}
