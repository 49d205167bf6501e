//! The graph network as a predictor, fitted from where pre-training left it.
//!
//! [`FOLDS`] networks are fitted, each without another part of what was rated, and guess together: they err differently, so their mean
//! errs less, and what each says of the part that it has not seen tells how far off guesses are (cross-conformal prediction, Vovk, 2015).
//!
//! Networks that were not fitted guess too, through a [`Kernel`] between what their layers make of architectures: networks that nothing was
//! taught tell apart what is there (like the kernel of Weisfeiler and Lehman, Shervashidze et al., 2011), pre-trained ones what pre-training
//! taught them. The shares of all in the guess are those that err least on the parts left out.

use std::sync::Arc;

use super::gin::{Batch, Gin};
use super::heads::{Labels, parts, slopes};
use super::kernel::{self, Kernel};
use super::net::{Adam, Dense, cosine, rectify, unrectify};
use super::pretrain::{self, Trained};
use super::scale::Normal;
use super::{Guess, Predictor};
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

/// GIN with a small network behind it, which has one output a head.
#[derive(Debug)]
pub struct GinPredictor {
    pretrain: String,
    fitted: Option<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    networks: Vec<Network>,
    views: Vec<View>,
    /// For each head, the shares of the networks' mean and of each view in the guess.
    shares: Vec<Vec<f64>>,
    /// One for each head.
    scales: Vec<Normal>,
}

/// Networks that were not fitted, and a kernel between what they make of architectures.
#[derive(Debug)]
struct View {
    networks: Arc<Vec<Trained>>,
    kernel: Kernel,
}

/// One network with its heads.
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
    fn fit(start: Option<&Trained>, graphs: &[&ArchGraph], wanted: &[&[f64]], rng: &mut Rng) -> Self {
        let (gin, mut parameters) = match start {
            Some(start) => (start.gin.clone(), start.parameters.clone()),
            None => {
                let mut fresh = Vec::new();
                let vocabulary = graphs.first().map_or(2, |graph| graph.vocabulary);
                (Gin::new(&mut fresh, vocabulary, pretrain::WIDTH, rng), fresh)
            }
        };
        let inner = Dense::new(&mut parameters, gin.width, HEAD, rng);
        let last = Dense::new(&mut parameters, HEAD, wanted.first().map_or(1, |row| row.len()), rng);
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
                let d = slopes(&guesses, part.iter().map(|at| wanted[*at]));
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

    /// One row a graph, one score a head.
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

    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()> {
        let mut labels = Labels::of("gin", rated)?;
        let starts = pretrain::networks(space, &self.pretrain)?;
        let graphs: Vec<ArchGraph> = rated.iter().map(|(genes, _)| space.graph(genes)).collect();
        let heads = labels.heads();
        let mut rng = stream(0, "predictor/gin", rated.len() as u64);
        let mut order: Vec<usize> = (0..rated.len()).collect();
        rng.shuffle(&mut order);
        let bodies = [Arc::new(pretrain::untrained(space)), starts.clone()];
        let bodies: Vec<Arc<Vec<Trained>>> = bodies.into_iter().filter(|body| !body.is_empty()).collect();
        let all: Vec<&ArchGraph> = graphs.iter().collect();
        let points: Vec<Vec<Vec<f32>>> = bodies.iter().map(|body| pretrain::embed(body, &all)).collect();
        let kernel = |points: &Vec<Vec<f32>>, at: &[usize]| {
            let rows: Vec<&[f64]> = at.iter().map(|at| labels.rows[*at].as_slice()).collect();
            Kernel::fit(at.iter().map(|at| points[*at].clone()).collect(), &rows)
        };
        let (mut networks, mut left_out) = (Vec::new(), vec![LeftOut::new(1 + bodies.len()); heads]);
        for fold in 0..FOLDS {
            let [kept, left] = parts(&order, fold);
            let part = |at: &[usize]| -> (Vec<&ArchGraph>, Vec<&[f64]>) {
                at.iter().map(|at| (&graphs[*at], labels.rows[*at].as_slice())).unzip()
            };
            let ((kept_graphs, kept_wanted), (left_graphs, left_wanted)) = (part(&kept), part(&left));
            let network = Network::fit(starts.get(fold), &kept_graphs, &kept_wanted, &mut rng);
            let kernels: Vec<Kernel> = points.iter().map(|points| kernel(points, &kept)).collect();
            for ((at, guess), wanted) in
                left.iter().zip(network.guess(&left_graphs).chunks_exact(heads)).zip(left_wanted)
            {
                let near = kernels.iter().zip(&points).map(|(kernel, points)| kernel.guess(&points[*at]));
                let guesses: Vec<Vec<f64>> = std::iter::once(guess.to_vec()).chain(near).collect();
                for (head, left_out) in left_out.iter_mut().enumerate() {
                    left_out.add(guesses.iter().map(|guess| guess[head]), wanted[head]);
                }
            }
            networks.push(network);
        }
        let shares: Vec<Vec<f64>> =
            left_out.iter().map(|one| kernel::shares(&one.guesses, &one.wanted)).collect();
        for ((scale, left_out), shares) in labels.scales.iter_mut().zip(left_out).zip(&shares) {
            scale.left_out(left_out.errors(shares).into_iter());
        }
        let every: Vec<usize> = (0..rated.len()).collect();
        let view = |(networks, points)| View { networks, kernel: kernel(points, &every) };
        let views = bodies.into_iter().zip(&points).map(view).collect();
        self.fitted = Some(Fitted { networks, views, shares, scales: labels.scales });
        Ok(())
    }

    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>> {
        let Some(fitted) = &self.fitted else { return Err(super::unfitted("gin")) };
        let Fitted { networks, views, shares, scales } = fitted;
        let graphs: Vec<ArchGraph> = batch.iter().map(|genes| space.graph(genes)).collect();
        let graphs: Vec<&ArchGraph> = graphs.iter().collect();
        let heads = scales.len();
        let mut sums = vec![0.0; graphs.len() * heads];
        for network in networks {
            for (sums, guesses) in
                sums.chunks_exact_mut(heads).zip(network.guess(&graphs).chunks_exact(heads))
            {
                let parts = sums.iter_mut().zip(guesses).zip(shares);
                parts.for_each(|((sum, guess), shares)| *sum += shares[0] * guess / networks.len() as f64);
            }
        }
        for (place, View { networks, kernel }) in views.iter().enumerate() {
            for (sums, point) in sums.chunks_exact_mut(heads).zip(pretrain::embed(networks, &graphs)) {
                let parts = sums.iter_mut().zip(kernel.guess(&point)).zip(shares);
                parts.for_each(|((sum, guess), shares)| *sum += shares[1 + place] * guess);
            }
        }
        let guess = |row: &[f64]| scales.iter().zip(row).map(|(scale, score)| scale.guess(*score)).collect();
        Ok(sums.chunks_exact(heads).map(guess).collect())
    }
}

/// What each guesser said of architectures that it had not seen, and what was wanted, for one head.
#[derive(Clone, Debug)]
struct LeftOut {
    guesses: Vec<Vec<f64>>,
    wanted: Vec<f64>,
}

impl LeftOut {
    fn new(guessers: usize) -> Self {
        Self { guesses: vec![Vec::new(); guessers], wanted: Vec::new() }
    }

    fn add(&mut self, guesses: impl Iterator<Item = f64>, wanted: f64) {
        if !wanted.is_nan() {
            self.guesses.iter_mut().zip(guesses).for_each(|(all, guess)| all.push(guess));
            self.wanted.push(wanted);
        }
    }

    /// Guesses less what was wanted, with these shares.
    fn errors(&self, shares: &[f64]) -> Vec<f64> {
        let guess =
            |at: usize| self.guesses.iter().zip(shares).map(|(all, share)| share * all[at]).sum::<f64>();
        self.wanted.iter().enumerate().map(|(at, wanted)| guess(at) - wanted).collect()
    }
}
