//! A network of two dense layers on the one-hot genes.

use super::heads::{Labels, left_out, slopes};
use super::net::{Adam, Dense, cosine, rectify, unrectify};
use super::scale::Normal;
use super::{Guess, Predictor, unfitted};
use crate::error::Result;
use crate::rand::{Draw, Rng, stream};
use crate::space::{Genes, Space};

/// Width of the inner layers.
const WIDTH: usize = 32;
/// Passes over the rated architectures.
const EPOCHS: usize = 150;
/// Architectures of a step.
const BATCH: usize = 16;

/// The network.
#[derive(Debug, Default)]
pub struct Mlp {
    fitted: Option<(Layers, Vec<Normal>)>,
}

/// Its layers and their parameters.
#[derive(Clone, Debug)]
struct Layers {
    layers: [Dense; 3],
    parameters: Vec<f32>,
}

impl Layers {
    fn fit(codes: &[&[f32]], wanted: &[&[f64]], rng: &mut Rng) -> Self {
        let mut parameters = Vec::new();
        let heads = wanted.first().map_or(1, |row| row.len());
        let inputs = codes.first().map_or(1, |code| code.len());
        let layers = [
            Dense::new(&mut parameters, inputs, WIDTH, rng),
            Dense::new(&mut parameters, WIDTH, WIDTH, rng),
            Dense::new(&mut parameters, WIDTH, heads, rng),
        ];
        let mut gradients = vec![0.0; parameters.len()];
        let mut adam = Adam::new(parameters.len(), 1e-2);
        let mut order: Vec<usize> = (0..codes.len()).collect();
        let (steps, mut step) = (EPOCHS * codes.len().div_ceil(BATCH), 0);
        for _ in 0..EPOCHS {
            rng.shuffle(&mut order);
            for part in order.chunks(BATCH) {
                let x: Vec<f32> = part.iter().flat_map(|at| codes[*at].to_vec()).collect();
                let mut one = layers[0].forward(&parameters, &x);
                rectify(&mut one);
                let mut two = layers[1].forward(&parameters, &one);
                rectify(&mut two);
                let guesses = layers[2].forward(&parameters, &two);
                let d = slopes(&guesses, part.iter().map(|at| wanted[*at]));
                let mut d_two = layers[2].backward(&parameters, &mut gradients, &two, &d);
                unrectify(&mut d_two, &two);
                let mut d_one = layers[1].backward(&parameters, &mut gradients, &one, &d_two);
                unrectify(&mut d_one, &one);
                layers[0].backward(&parameters, &mut gradients, &x, &d_one);
                adam.step(&mut parameters, &mut gradients, 5e-3 * cosine(step, steps));
                step += 1;
            }
        }
        Self { layers, parameters }
    }

    fn guess(&self, code: &[f32]) -> Vec<f64> {
        let mut x = code.to_vec();
        for (at, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&self.parameters, &x);
            if at < 2 {
                rectify(&mut x);
            }
        }
        x.into_iter().map(f64::from).collect()
    }
}

impl Predictor for Mlp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()> {
        let mut labels = Labels::of("mlp", rated)?;
        let codes: Vec<Vec<f32>> = rated.iter().map(|(genes, _)| space.encode(genes)).collect();
        let mut rng = stream(0, "predictor/mlp", rated.len() as u64);
        let row = |at: &usize| (codes[*at].as_slice(), labels.rows[*at].as_slice());
        let mut fit = |at: &[usize]| {
            let (codes, wanted): (Vec<&[f32]>, Vec<&[f64]>) = at.iter().map(row).unzip();
            Layers::fit(&codes, &wanted, &mut rng)
        };
        let layers = fit(&(0..codes.len()).collect::<Vec<_>>());
        let mut folds = stream(0, "predictor/mlp/folds", rated.len() as u64);
        let errors = left_out(&labels, &mut folds, |kept, left| {
            let layers = fit(kept);
            left.iter().map(|at| layers.guess(&codes[*at])).collect()
        });
        labels.scales.iter_mut().zip(errors).for_each(|(scale, errors)| scale.left_out(errors.into_iter()));
        self.fitted = Some((layers, labels.scales));
        Ok(())
    }

    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>> {
        let Some((layers, scales)) = &self.fitted else { return Err(unfitted("mlp")) };
        let guess = |genes: &Genes| {
            let scores = layers.guess(&space.encode(genes));
            scales.iter().zip(scores).map(|(scale, score)| scale.guess(score)).collect()
        };
        Ok(batch.iter().map(guess).collect())
    }
}
