//! One optimiser step of a supernet (or of a single network, which is a supernet with one member).

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use masktas_export::VitArch;

use super::adamw::{AdamW, AdamWConfig, Gradients};
use super::lanes::Lanes;
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::objective::{Objective, Pass, Term};
use crate::supernet::params::to_host;
use crate::supernet::{Leaves, Mask, MaskedBatch, Params, Supernet};
use crate::teacher::{Features, Teacher};

/// Fewest images a lane is given: below, splitting costs more than it gains.
const SMALLEST_SHARE: usize = 4;

/// Everything that training changes.
pub struct Trainer {
    /// The network.
    pub supernet: Supernet,
    /// The optimiser.
    pub optimizer: AdamW,
    /// The loss.
    pub objective: Box<dyn Objective>,
    /// Whom the network learns from.
    pub teacher: Option<Box<dyn Teacher>>,
    collective: Box<dyn Collective>,
    lanes: Arc<Lanes>,
}

/// One lane's share of a step.
struct Share {
    batch: MaskedBatch,
    leaves: Leaves,
    teacher: Option<Features>,
    largest: Option<Tensor<3>>,
    weight: f64,
}

impl Trainer {
    /// A trainer at step 0.
    pub fn new(
        supernet: Supernet,
        config: AdamWConfig,
        objective: Box<dyn Objective>,
        teacher: Option<Box<dyn Teacher>>,
        collective: Box<dyn Collective>,
        lanes: Arc<Lanes>,
    ) -> Self {
        let optimizer = AdamW::new(&supernet.params, config);
        Self { supernet, optimizer, objective, teacher, collective, lanes }
    }

    /// The lanes a step is spread over.
    pub fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// Trains the subnets on one batch (`[images, 3, side, side]` and a mask each): the first one's
    /// features teach the others (in-place distillation), gradients are summed over subnets and
    /// averaged over images, and the weights move once.
    ///
    /// Returns each term's mean over the subnets, by name.
    ///
    /// # Errors
    /// When the device fails or the loss leaves the numbers.
    pub fn step(
        &mut self,
        pixels: &[f32],
        masks: &[Mask],
        subnets: &[VitArch],
        rate: f64,
    ) -> Result<Vec<(&'static str, f64)>> {
        let mut shares = self.shares(pixels, masks)?;
        let mut gradients = Gradients::default();
        let mut touched = Vec::new();
        let mut sums: Vec<(&'static str, f64, u32)> = Vec::new();
        for arch in subnets {
            let (supernet, objective) = (&self.supernet, &self.objective);
            let forward = |mut share: Share| {
                let pass = Pass {
                    supernet,
                    leaves: &share.leaves,
                    arch,
                    batch: &share.batch,
                    teacher: share.teacher.as_ref(),
                    largest: share.largest.as_ref(),
                };
                let (terms, features) = objective.terms(&pass)?;
                share.largest.get_or_insert(features);
                let values = terms.iter().map(Term::value).collect::<Result<Vec<f64>>>()?;
                Ok((share, terms, values))
            };
            let done = self.lanes.map(shares, forward)?;
            let names: Vec<(&'static str, f64)> = done
                .first()
                .map(|(_, terms, _)| terms.iter().map(|t| (t.name, t.weight)).collect())
                .unwrap_or_default();
            let mut factors = Vec::with_capacity(names.len());
            let local =
                |i: usize| -> f64 { done.iter().map(|(share, _, values)| share.weight * values[i]).sum() };
            // Factors must be the same on every rank, so they follow the loss of the whole batch.
            let values = self.mean_over_ranks((0..names.len()).map(local).collect());
            for ((name, weight), value) in names.iter().zip(values) {
                if !value.is_finite() {
                    return Err(Error::Diverged { term: name, value });
                }
                factors.push(weight * self.objective.factor(name, value));
                match sums.iter_mut().find(|(known, ..)| known == name) {
                    Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                    None => sums.push((name, value, 1)),
                }
            }
            let (params, factors) = (&self.supernet.params, &factors);
            let backward = |(share, terms, _): (Share, Vec<Term>, Vec<f64>)| {
                let scaled =
                    terms.into_iter().zip(factors).map(|(t, factor)| t.loss * (factor * share.weight));
                let total = scaled.reduce(|a, b| a + b).ok_or(Error::NoTerms)?;
                let gradients = backward(&share.leaves, params, total);
                Ok((share, gradients))
            };
            shares = Vec::with_capacity(done.len());
            for (share, gradient) in self.lanes.map(done, backward)? {
                gradients.add(gradient);
                shares.push(share);
            }
            touched.extend(self.supernet.regions(arch));
        }
        self.average(&mut gradients)?;
        self.optimizer.step(&mut self.supernet.params, gradients, &touched, rate)?;
        self.objective.end_step();
        if let Some(teacher) = &mut self.teacher {
            teacher.follow(&self.supernet);
        }
        Ok(sums.into_iter().map(|(name, sum, count)| (name, sum / f64::from(count))).collect())
    }

    /// Deals a batch to the lanes, with the teacher's features. Shares are as equal as they can be.
    fn shares(&self, pixels: &[f32], masks: &[Mask]) -> Result<Vec<Share>> {
        let images = masks.len();
        let lanes = self.lanes.count().min(images.div_ceil(SMALLEST_SHARE)).max(1);
        let numbers = pixels.len() / images.max(1);
        let bounds: Vec<usize> = (0..=lanes).map(|lane| lane * images / lanes).collect();
        let parts: Vec<(&[f32], &[Mask])> = bounds
            .windows(2)
            .map(|w| (&pixels[w[0] * numbers..w[1] * numbers], &masks[w[0]..w[1]]))
            .collect();
        let (supernet, teacher) = (&self.supernet, &self.teacher);
        self.lanes.map(parts, |(pixels, masks)| {
            let batch = MaskedBatch::new(pixels, masks, supernet.encoder.arch(), supernet.params.device());
            let teacher = match teacher {
                Some(teacher) => Some(teacher.features(&batch.visible)?),
                None => None,
            };
            // Leaves of its own per lane: a shared leaf would make one graph, and one lock, of all.
            let leaves = supernet.params.leaves();
            Ok(Share { batch, leaves, teacher, largest: None, weight: masks.len() as f64 / images as f64 })
        })
    }

    /// Means over ranks of values that every rank has; on one rank the values themselves, all bits of them.
    fn mean_over_ranks(&self, values: Vec<f64>) -> Vec<f64> {
        if self.collective.size() == 1 {
            return values;
        }
        let mut rounded: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        self.collective.all_reduce_mean(&mut rounded);
        rounded.into_iter().map(f64::from).collect()
    }

    /// Averages gradients over ranks. All ranks train the same subnets in a step, so they have gradients for the
    /// same parameters and meet in the same order.
    fn average(&self, gradients: &mut Gradients) -> Result<()> {
        if self.collective.size() == 1 {
            return Ok(());
        }
        for gradient in gradients.0.iter_mut().flatten() {
            let mut values = to_host(gradient)?;
            self.collective.all_reduce_mean(&mut values);
            *gradient =
                Tensor::from_data(TensorData::new(values, gradient.dims()), self.supernet.params.device());
        }
        Ok(())
    }
}

/// Gradients of `loss` for every leaf it reaches.
pub(crate) fn backward(leaves: &Leaves, params: &Params, loss: Tensor<1>) -> Vec<Option<Tensor<2>>> {
    let mut gradients = loss.backward();
    params.slots().map(|slot| leaves.get(slot).grad_remove(&mut gradients)).collect()
}
