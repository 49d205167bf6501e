//! Ridge regression on the one-hot genes: the control that every other predictor has to beat.

use super::scale::Normal;
use super::{Guess, Predictor, few, unfitted};
use crate::error::Result;
use crate::space::{Genes, Space};

/// Strengths of the penalty that are tried; the one with the least error on what it leaves out is taken.
const PENALTIES: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Ridge regression in its kernel form, its penalty chosen by leaving one out.
#[derive(Debug, Default)]
pub struct Ridge {
    fitted: Option<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    codes: Vec<Vec<f32>>,
    weights: Vec<f64>,
    mean: f64,
    scale: Normal,
}

impl Predictor for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn fit(&mut self, space: &dyn Space, rated: &[(Genes, f64)]) -> Result<()> {
        few("ridge", rated.len())?;
        let codes: Vec<Vec<f32>> = rated.iter().map(|(genes, _)| space.encode(genes)).collect();
        let values: Vec<f64> = rated.iter().map(|(_, value)| *value).collect();
        let mut scale = Normal::of(&values);
        let wanted: Vec<f64> = values.iter().map(|value| scale.score(*value)).collect();
        let n = wanted.len();
        let mean = wanted.iter().sum::<f64>() / n as f64;
        let mut best: Option<(f64, Vec<f64>, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let mut kernel: Vec<Vec<f64>> =
                codes.iter().map(|a| codes.iter().map(|b| product(a, b)).collect()).collect();
            (0..n).for_each(|at| kernel[at][at] += penalty);
            let inverse = inverse(kernel);
            let weights: Vec<f64> = inverse
                .iter()
                .map(|row| row.iter().zip(&wanted).map(|(k, y)| k * (y - mean)).sum())
                .collect();
            // The error with one left out, in closed form.
            let errors: Vec<f64> = (0..n).map(|at| weights[at] / inverse[at][at]).collect();
            let error = errors.iter().map(|error| error * error).sum::<f64>();
            if best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, weights, errors));
            }
        }
        let Some((_, weights, errors)) = best else { return Err(unfitted("ridge")) };
        scale.left_out(errors.into_iter());
        self.fitted = Some(Fitted { codes, weights, mean, scale });
        Ok(())
    }

    fn predict(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Guess>> {
        let Some(Fitted { codes, weights, mean, scale }) = &self.fitted else {
            return Err(unfitted("ridge"));
        };
        let guess = |genes: &Genes| {
            let code = space.encode(genes);
            let sum: f64 =
                codes.iter().zip(weights).map(|(other, weight)| weight * product(&code, other)).sum();
            scale.guess(mean + sum)
        };
        Ok(batch.iter().map(guess).collect())
    }
}

/// The linear kernel, with a constant for the intercept.
fn product(a: &[f32], b: &[f32]) -> f64 {
    1.0 + a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>()
}

/// The inverse of a positive definite matrix, by Gauss and Jordan.
fn inverse(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut inverse: Vec<Vec<f64>> =
        (0..n).map(|row| (0..n).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for pivot in 0..n {
        let by = 1.0 / matrix[pivot][pivot];
        for value in matrix[pivot].iter_mut().chain(&mut inverse[pivot]) {
            *value *= by;
        }
        let (row, unit) = (matrix[pivot].clone(), inverse[pivot].clone());
        for other in (0..n).filter(|other| *other != pivot) {
            let by = matrix[other][pivot];
            matrix[other].iter_mut().zip(&row).for_each(|(value, pivot)| *value -= by * pivot);
            inverse[other].iter_mut().zip(&unit).for_each(|(value, pivot)| *value -= by * pivot);
        }
    }
    inverse
}
