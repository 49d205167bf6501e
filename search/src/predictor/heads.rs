//! What was rated, laid out for networks with several heads.

use super::FEWEST;
use super::graph::FOLDS;
use super::scale::Normal;
use crate::error::{Error, Result};
use crate::rand::{Draw, Rng};
use crate::space::Genes;

/// The values of rated architectures, as normal scores.
#[derive(Debug)]
pub(super) struct Labels {
    /// One for each head.
    pub(super) scales: Vec<Normal>,
    /// One row an architecture, one score a head; NaN where there is none.
    pub(super) rows: Vec<Vec<f64>>,
}

impl Labels {
    /// # Errors
    /// Rows of different lengths, and heads with fewer than [`FEWEST`] values.
    pub(super) fn of(name: &str, rated: &[(Genes, Vec<f64>)]) -> Result<Self> {
        let heads = rated.first().map_or(1, |(_, values)| values.len());
        if let Some((_, other)) = rated.iter().find(|(_, values)| values.len() != heads) {
            return Err(Error::Unusable {
                thing: format!("predictor {name}"),
                problem: format!("architectures with {heads} and with {} values", other.len()),
                next: "give each one value a head, NaN where there is none".to_owned(),
            });
        }
        let mut scales = Vec::new();
        for head in 0..heads.max(1) {
            let of_head = rated.iter().filter_map(|(_, values)| values.get(head).copied());
            let values: Vec<f64> = of_head.filter(|value| value.is_finite()).collect();
            if values.len() < FEWEST {
                let head = if heads > 1 { format!(", head {head}") } else { String::new() };
                return Err(Error::Unusable {
                    thing: format!("predictor {name}{head}"),
                    problem: format!("{} rated architectures, and it needs {FEWEST}", values.len()),
                    next: "rate more architectures first".to_owned(),
                });
            }
            scales.push(Normal::of(&values));
        }
        let row = |values: &Vec<f64>| {
            let score = |(scale, value): (&Normal, &f64)| {
                if value.is_finite() { scale.score(*value) } else { f64::NAN }
            };
            scales.iter().zip(values).map(score).collect()
        };
        let rows = rated.iter().map(|(_, values)| row(values)).collect();
        Ok(Self { scales, rows })
    }

    pub(super) fn heads(&self) -> usize {
        self.scales.len()
    }
}

/// The gradient of the mean squared error over `rows`, of guesses laid out row by row; nothing where there is no value.
pub(super) fn slopes<'a>(guesses: &[f32], rows: impl ExactSizeIterator<Item = &'a [f64]>) -> Vec<f32> {
    let count = rows.len() as f32;
    let wanted = rows.flatten();
    let slope = |(guess, wanted): (&f32, &f64)| {
        if wanted.is_nan() { 0.0 } else { 2.0 * (guess - *wanted as f32) / count }
    };
    guesses.iter().zip(wanted).map(slope).collect()
}

/// What is fitted to in a fold, and what is left out.
pub(super) fn parts(order: &[usize], fold: usize) -> [Vec<usize>; 2] {
    [false, true].map(|left| {
        let places = order.iter().enumerate().filter(|(place, _)| (place % FOLDS == fold) == left);
        places.map(|(_, at)| *at).collect()
    })
}

/// Guesses less what was wanted, for each head, of rows that were left out: [`FOLDS`] times, `guess` is given the rows to fit to and the
/// others, and gives one row of scores for each of these.
pub(super) fn left_out(
    labels: &Labels,
    rng: &mut Rng,
    mut guess: impl FnMut(&[usize], &[usize]) -> Vec<Vec<f64>>,
) -> Vec<Vec<f64>> {
    let mut order: Vec<usize> = (0..labels.rows.len()).collect();
    rng.shuffle(&mut order);
    let mut errors = vec![Vec::new(); labels.heads()];
    for fold in 0..FOLDS {
        let [kept, left] = parts(&order, fold);
        for (guess, at) in guess(&kept, &left).iter().zip(&left) {
            for (errors, (guess, wanted)) in errors.iter_mut().zip(guess.iter().zip(&labels.rows[*at])) {
                if !wanted.is_nan() {
                    errors.push(guess - wanted);
                }
            }
        }
    }
    errors
}
