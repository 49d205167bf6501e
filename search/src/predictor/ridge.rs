//! Ridge regression on the one-hot genes: the control that every other predictor has to beat.

use super::heads::Labels;
use super::scale::Normal;
use super::{Guess, Predictor, unfitted};
use crate::error::Result;
use crate::space::{Genes, Space};

/// Strengths of the penalty that are tried; the one with the least error on what it leaves out is taken.
const PENALTIES: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Ridge regression, its penalty chosen by leaving one out.
#[derive(Debug, Default)]
pub struct Ridge {
    fitted: Vec<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    /// One for the intercept, then one a place of the code.
    weights: Vec<f64>,
    mean: f64,
    scale: Normal,
}

impl Fitted {
    /// Fits to the codes of architectures, each behind a 1 for the intercept, and their normal scores.
    fn fit(rows: &[Vec<f64>], wanted: &[f64], mut scale: Normal) -> Result<Self> {
        let mean = wanted.iter().sum::<f64>() / wanted.len() as f64;
        // A system of one equation a place of the code, however many architectures were rated.
        let places = rows.first().map_or(0, Vec::len);
        let (mut squares, mut products) = (vec![vec![0.0; places]; places], vec![0.0; places]);
        for (row, wanted) in rows.iter().zip(wanted) {
            // Codes are mostly zeros.
            for at in (0..places).filter(|at| row[*at] != 0.0) {
                squares[at].iter_mut().zip(row).for_each(|(sum, value)| *sum += row[at] * value);
                products[at] += row[at] * (wanted - mean);
            }
        }
        let mut best: Option<(f64, Vec<f64>, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let mut matrix = squares.clone();
            (0..places).for_each(|at| matrix[at][at] += penalty);
            let inverse = inverse(matrix);
            let weights: Vec<f64> = inverse.iter().map(|row| dot(row, &products)).collect();
            // The error with one left out, in closed form; but for the mean, which is nearly 0 of normal scores.
            let error = |(row, wanted): (&Vec<f64>, &f64)| {
                let own = inverse.iter().zip(row).map(|(line, value)| value * dot(line, row)).sum::<f64>();
                (dot(&weights, row) - (wanted - mean)) / (1.0 - own)
            };
            let errors: Vec<f64> = rows.iter().zip(wanted).map(error).collect();
            let sum = errors.iter().map(|error| error * error).sum::<f64>();
            if best.as_ref().is_none_or(|(least, ..)| sum < *least) {
                best = Some((sum, weights, errors));
            }
        }
        let Some((_, weights, errors)) = best else { return Err(unfitted("ridge")) };
        scale.left_out(errors.into_iter());
        Ok(Self { weights, mean, scale })
    }
}

impl Ridge {
    /// What each option of each gene adds to the first head's guess, in normal scores.
    ///
    /// # Errors
    /// Before the first fit.
    pub(crate) fn ratings(&self, space: &dyn Space) -> Result<Vec<Vec<f64>>> {
        let Some(Fitted { weights, .. }) = self.fitted.first() else { return Err(unfitted("ridge")) };
        let mut weights = weights.iter().skip(1).copied();
        let of_gene = |count: usize| weights.by_ref().take(count).collect();
        Ok(space.genes().iter().map(|gene| gene.options.len()).map(of_gene).collect())
    }
}

impl Predictor for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()> {
        let labels = Labels::of("ridge", rated)?;
        let rows: Vec<Vec<f64>> = rated.iter().map(|(genes, _)| row(space, genes)).collect();
        let fit = |(head, scale): (usize, &Normal)| {
            let known = labels.rows.iter().zip(&rows).filter(|(row, _)| !row[head].is_nan());
            let (wanted, rows): (Vec<f64>, Vec<Vec<f64>>) =
                known.map(|(values, row)| (values[head], row.clone())).unzip();
            Fitted::fit(&rows, &wanted, scale.clone())
        };
        self.fitted = labels.scales.iter().enumerate().map(fit).collect::<Result<_>>()?;
        Ok(())
    }

    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>> {
        if self.fitted.is_empty() {
            return Err(unfitted("ridge"));
        }
        let guess = |genes: &Genes| {
            let row = row(space, genes);
            self.fitted.iter().map(|head| head.scale.guess(head.mean + dot(&head.weights, &row))).collect()
        };
        Ok(batch.iter().map(guess).collect())
    }
}

/// A 1 for the intercept, then the code.
fn row(space: &dyn Space, genes: &Genes) -> Vec<f64> {
    std::iter::once(1.0).chain(space.encode(genes).into_iter().map(f64::from)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The inverse of a positive definite matrix, by Gauss and Jordan: column by column it takes the matrix's place.
pub(super) fn inverse(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for pivot in 0..matrix.len() {
        let by = 1.0 / matrix[pivot][pivot];
        matrix[pivot][pivot] = 1.0;
        matrix[pivot].iter_mut().for_each(|value| *value *= by);
        let row = matrix[pivot].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
            let by = std::mem::take(&mut other[pivot]);
            other.iter_mut().zip(&row).for_each(|(value, pivot)| *value -= by * pivot);
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::{Draw as _, stream};

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let mut rng = stream(1, "test", 0);
        let half: Vec<Vec<f64>> = (0..12).map(|_| (0..12).map(|_| rng.normal()).collect()).collect();
        let entry = |a: usize, b: usize| dot(&half[a], &half[b]) + if a == b { 0.1 } else { 0.0 };
        let matrix: Vec<Vec<f64>> = (0..12).map(|a| (0..12).map(|b| entry(a, b)).collect()).collect();
        let inverse = inverse(matrix.clone());
        for (a, row) in matrix.iter().enumerate() {
            for b in 0..12 {
                let product: f64 = row.iter().zip(&inverse).map(|(value, line)| value * line[b]).sum();
                assert!((product - f64::from(u8::from(a == b))).abs() < 1e-8, "{a} {b}: {product}");
            }
        }
    }
}
