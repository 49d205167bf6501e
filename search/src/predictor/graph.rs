//! The graph network as a predictor, fitted from where pre-training left it.
//!
//! [`FOLDS`] networks are fitted, each without another part of what was rated, and guess together: they err differently, so their mean
//! errs less, and what each says of the part that it has not seen tells how far off guesses are (cross-conformal prediction, Vovk, 2015).

use super::gin::{Batch, Gin};
use super::net::{Adam, Dense, cosine, rectify, unrectify};
use super::pretrain::{self, Trained};
use super::scale::Normal;
use super::{Guess, Predictor, few};
use crate::error::Result;
use crate::rand::{Draw, Rng, stream};
use crate::space::{ArchGraph, Genes, Space};

/// Networks that guess together.
pub(super) const FOLDS: usize = 5;
/// Passes over the rated architectures.
const EPOCHS: usize = 300;
/// Architectures of a step.
const BATCH: usize = 16;
/// Width of the head's inner layer.
const HEAD: usize = 16;

/// GIN with a head for the score.
#[derive(Debug)]
pub struct GinPredictor {
    pretrain: String,
    fitted: Option<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    networks: Vec<Network>,
    scale: Normal,
}

/// One network with its head.
#[derive(Clone, Debug)]
struct Network {
    gin: Gin,
    parameters: Vec<f32>,
    inner: Dense,
    last: Dense,
}

impl GinPredictor {
    /// With this way to pre-train: one of [`pretrain::NAMES`].
    pub fn new(pretrain: &str) -> Self {
        Self { pretrain: pretrain.to_owned(), fitted: None }
    }
}

impl Network {
    /// Fits to normal scores, from `start` where there is one.
    fn fit(start: Option<&Trained>, graphs: &[&ArchGraph], wanted: &[f64], rng: &mut Rng) -> Self {
        let (gin, mut parameters) = match start {
            Some(start) => (start.gin.clone(), start.parameters.clone()),
            None => {
                let mut fresh = Vec::new();
                let vocabulary = graphs.first().map_or(2, |graph| graph.vocabulary);
                (Gin::new(&mut fresh, vocabulary, pretrain::WIDTH, rng), fresh)
            }
        };
        let inner = Dense::new(&mut parameters, gin.width, HEAD, rng);
        let last = Dense::new(&mut parameters, HEAD, 1, rng);
        let mut network = Self { gin, parameters, inner, last };
        let mut gradients = vec![0.0; network.parameters.len()];
        let mut adam = Adam::new(network.parameters.len(), 1e-3);
        let mut order: Vec<usize> = (0..graphs.len()).collect();
        let steps = EPOCHS * graphs.len().div_ceil(BATCH);
        let mut step = 0;
        for _ in 0..EPOCHS {
            rng.shuffle(&mut order);
            for part in order.chunks(BATCH) {
                let batch = Batch::new(part.iter().map(|at| graphs[*at]));
                let trace = network.gin.forward(&network.parameters, &batch);
                let mut hidden = network.inner.forward(&network.parameters, &trace.embedding);
                rectify(&mut hidden);
                let guesses = network.last.forward(&network.parameters, &hidden);
                let d: Vec<f32> = guesses
                    .iter()
                    .zip(part)
                    .map(|(guess, at)| 2.0 * (guess - wanted[*at] as f32) / part.len() as f32)
                    .collect();
                let mut d_hidden = network.last.backward(&network.parameters, &mut gradients, &hidden, &d);
                unrectify(&mut d_hidden, &hidden);
                let d =
                    network.inner.backward(&network.parameters, &mut gradients, &trace.embedding, &d_hidden);
                network.gin.backward(&network.parameters, &mut gradients, &batch, &trace, &d);
                adam.step(&mut network.parameters, &mut gradients, 5e-3 * cosine(step, steps));
                step += 1;
            }
        }
        network
    }

    fn guess(&self, graphs: &[&ArchGraph]) -> Vec<f64> {
        let mut all = Vec::with_capacity(graphs.len());
        for part in graphs.chunks(256) {
            let trace = self.gin.forward(&self.parameters, &Batch::new(part.iter().copied()));
            let mut hidden = self.inner.forward(&self.parameters, &trace.embedding);
            rectify(&mut hidden);
            all.extend(self.last.forward(&self.parameters, &hidden).into_iter().map(f64::from));
        }
        all
    }
}

impl Predictor for GinPredictor {
    fn name(&self) -> &'static str {
        "gin"
    }

    fn fit(&mut self, space: &dyn Space, rated: &[(Genes, f64)]) -> Result<()> {
        few("gin", rated.len())?;
        let starts = pretrain::networks(space, &self.pretrain)?;
        let graphs: Vec<ArchGraph> = rated.iter().map(|(genes, _)| space.graph(genes)).collect();
        let values: Vec<f64> = rated.iter().map(|(_, value)| *value).collect();
        let mut scale = Normal::of(&values);
        let wanted: Vec<f64> = values.iter().map(|value| scale.score(*value)).collect();
        let mut rng = stream(0, "predictor/gin", rated.len() as u64);
        let mut order: Vec<usize> = (0..rated.len()).collect();
        rng.shuffle(&mut order);
        let (mut networks, mut errors) = (Vec::new(), Vec::new());
        for fold in 0..FOLDS {
            let part = |left_out: bool| -> (Vec<&ArchGraph>, Vec<f64>) {
                let chosen =
                    order.iter().enumerate().filter(|(place, _)| (place % FOLDS == fold) == left_out);
                chosen.map(|(_, at)| (&graphs[*at], wanted[*at])).unzip()
            };
            let ((kept, kept_wanted), (left, left_wanted)) = (part(false), part(true));
            let network = Network::fit(starts.get(fold), &kept, &kept_wanted, &mut rng);
            errors
                .extend(network.guess(&left).iter().zip(&left_wanted).map(|(guess, wanted)| guess - wanted));
            networks.push(network);
        }
        scale.left_out(errors.into_iter());
        self.fitted = Some(Fitted { networks, scale });
        Ok(())
    }

    fn predict(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Guess>> {
        let Some(Fitted { networks, scale }) = &self.fitted else { return Err(super::unfitted("gin")) };
        let graphs: Vec<ArchGraph> = batch.iter().map(|genes| space.graph(genes)).collect();
        let graphs: Vec<&ArchGraph> = graphs.iter().collect();
        let mut sums = vec![0.0; graphs.len()];
        for network in networks {
            sums.iter_mut().zip(network.guess(&graphs)).for_each(|(sum, guess)| *sum += guess);
        }
        Ok(sums.into_iter().map(|sum| scale.guess(sum / networks.len() as f64)).collect())
    }
}
