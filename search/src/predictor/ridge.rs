//! Ridge regression on the one-hot genes: the control that every other predictor has to beat.

use super::heads::Labels;
use super::scale::Normal;
use super::{Guess, Predictor, unfitted};
use crate::error::Result;
use crate::space::{Genes, Space};

/// Strengths of the penalty that are tried; the one with the least error on what it leaves out is taken.
const PENALTIES: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Ridge regression in its kernel form, its penalty chosen by leaving one out.
#[derive(Debug, Default)]
pub struct Ridge {
    fitted: Vec<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    codes: Vec<Vec<f32>>,
    weights: Vec<f64>,
    mean: f64,
    scale: Normal,
}

impl Fitted {
    fn fit(codes: Vec<Vec<f32>>, wanted: &[f64], mut scale: Normal) -> Result<Self> {
        let n = wanted.len();
        let mean = wanted.iter().sum::<f64>() / n as f64;
        let mut best: Option<(f64, Vec<f64>, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let mut kernel: Vec<Vec<f64>> =
                codes.iter().map(|a| codes.iter().map(|b| product(a, b)).collect()).collect();
            (0..n).for_each(|at| kernel[at][at] += penalty);
            let inverse = inverse(kernel);
            let weights: Vec<f64> =
                inverse.iter().map(|row| row.iter().zip(wanted).map(|(k, y)| k * (y - mean)).sum()).collect();
            // The error with one left out, in closed form.
            let errors: Vec<f64> = (0..n).map(|at| weights[at] / inverse[at][at]).collect();
            let error = errors.iter().map(|error| error * error).sum::<f64>();
            if best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, weights, errors));
            }
        }
        let Some((_, weights, errors)) = best else { return Err(unfitted("ridge")) };
        scale.left_out(errors.into_iter());
        Ok(Self { codes, weights, mean, scale })
    }

    fn guess(&self, code: &[f32]) -> Guess {
        let terms = self.codes.iter().zip(&self.weights);
        let sum: f64 = terms.map(|(other, weight)| weight * product(code, other)).sum();
        self.scale.guess(self.mean + sum)
    }
}

impl Ridge {
    /// What each option of each gene adds to the first head's guess, in normal scores.
    ///
    /// # Errors
    /// Before the first fit.
    pub(crate) fn ratings(&self, space: &dyn Space) -> Result<Vec<Vec<f64>>> {
        let Some(Fitted { codes, weights, .. }) = self.fitted.first() else { return Err(unfitted("ridge")) };
        let mut places = 0..codes.first().map_or(0, Vec::len);
        let rating = |place: usize| {
            codes.iter().zip(weights).map(|(code, weight)| f64::from(code[place]) * weight).sum()
        };
        let of_gene = |count: usize| places.by_ref().take(count).map(rating).collect();
        Ok(space.genes().iter().map(|gene| gene.options.len()).map(of_gene).collect())
    }
}

impl Predictor for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()> {
        let labels = Labels::of("ridge", rated)?;
        let codes: Vec<Vec<f32>> = rated.iter().map(|(genes, _)| space.encode(genes)).collect();
        let fit = |(head, scale): (usize, &Normal)| {
            let known = labels.rows.iter().zip(&codes).filter(|(row, _)| !row[head].is_nan());
            let (wanted, codes): (Vec<f64>, Vec<Vec<f32>>) =
                known.map(|(row, code)| (row[head], code.clone())).unzip();
            Fitted::fit(codes, &wanted, scale.clone())
        };
        self.fitted = labels.scales.iter().enumerate().map(fit).collect::<Result<_>>()?;
        Ok(())
    }

    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>> {
        if self.fitted.is_empty() {
            return Err(unfitted("ridge"));
        }
        let guess = |genes: &Genes| {
            let code = space.encode(genes);
            self.fitted.iter().map(|head| head.guess(&code)).collect()
        };
        Ok(batch.iter().map(guess).collect())
    }
}

/// The linear kernel, with a constant for the intercept.
fn product(a: &[f32], b: &[f32]) -> f64 {
    1.0 + a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>()
}

/// The inverse of a positive definite matrix, by Gauss and Jordan.
pub(super) fn inverse(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
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
