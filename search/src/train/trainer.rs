//! One optimiser step of a supernet (or of a single network, which is a supernet with one member).
//!
//! A batch is cut into micro-batches, and these are dealt to the lanes. A lane takes one micro-batch at a time through
//! every subnet, forward and backward, and adds to the gradients it has; lanes do not wait for each other before the
//! optimiser. So memory holds the graph of one subnet on one micro-batch for each lane, whatever the batch.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use masktas_export::VitArch;

use super::adamw::{AdamW, AdamWConfig};
use super::gradients::Gradients;
use super::lanes::Lanes;
use super::terms::Terms;
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::objective::{Objective, Pass, Term};
use crate::ops::Precision;
use crate::supernet::{Leaves, Mask, MaskedBatch, Supernet};
use crate::teacher::Teacher;

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
    gradients: Vec<Gradients>,
    precision: Precision,
    micro_batch: usize,
}

/// A part of a batch, and how much it counts.
#[derive(Clone, Copy)]
struct Part<'a> {
    pixels: &'a [f32],
    masks: &'a [Mask],
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
        let (precision, micro_batch) = (Precision::F32, 0);
        let gradients = fresh(&supernet, &lanes, precision);
        Self { supernet, optimizer, objective, teacher, collective, lanes, gradients, precision, micro_batch }
    }

    /// With matrix products in `precision`; weights, sums and everything else stay in f32.
    pub fn with_precision(self, precision: Precision) -> Self {
        let gradients = fresh(&self.supernet, &self.lanes, precision);
        Self { precision, gradients, ..self }
    }

    /// With at most `images` at a time in a lane; 0: as many as the device likes.
    pub fn with_micro_batch(self, images: usize) -> Self {
        Self { micro_batch: images, ..self }
    }

    /// The lanes a step is spread over.
    pub fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// Trains the subnets on one batch (`[images, 3, side, side]` and a mask each): the first one's
    /// features teach the others (in-place distillation), gradients are summed over subnets and
    /// averaged over images, and the weights move once.
    ///
    /// Returns what the loss was. On a GPU nothing waits for that, but in the first steps, whose terms the objective
    /// takes note of; so a loss that has left the numbers shows when somebody reads it.
    ///
    /// # Errors
    /// When the device fails or the loss is known to have left the numbers.
    pub fn step(&mut self, pixels: &[f32], masks: &[Mask], subnets: &[VitArch], rate: f64) -> Result<Terms> {
        let hands = self.deal(pixels, masks);
        let scaled = self.objective.scaled();
        if !scaled {
            // Terms are divided by what they were before; before the first step that is what they are now.
            let values = self.work(&hands, subnets, false)?;
            self.note(&values);
        }
        let values = self.work(&hands, subnets, true)?;
        if scaled {
            self.note(&values);
        }
        let mut touched = Vec::new();
        subnets.iter().for_each(|arch| touched.extend(self.supernet.regions(arch)));
        let (params, collective) = (&mut self.supernet.params, self.collective.as_ref());
        self.optimizer.step(params, &mut self.gradients, &touched, rate, &self.lanes, collective)?;
        self.objective.end_step();
        if let Some(teacher) = &mut self.teacher {
            teacher.follow(&self.supernet);
        }
        Ok(values)
    }

    /// A batch cut into micro-batches, some for each lane.
    fn deal<'a>(&self, pixels: &'a [f32], masks: &'a [Mask]) -> Vec<Vec<Part<'a>>> {
        let images = masks.len();
        let numbers = pixels.len() / images.max(1);
        let part = |Range { start, end }: Range<usize>| Part {
            pixels: &pixels[start * numbers..end * numbers],
            masks: &masks[start..end],
            weight: (end - start) as f64 / images as f64,
        };
        let hands = self.lanes.deal(images, self.micro_batch, self.supernet.params.device());
        hands.into_iter().map(|hand| hand.into_iter().map(part).collect()).collect()
    }

    /// Takes every part through every subnet, forward and, when it is to `learn`, backward. Returns the terms over
    /// the whole batch, over all ranks.
    fn work(&mut self, hands: &[Vec<Part<'_>>], subnets: &[VitArch], learn: bool) -> Result<Terms> {
        if hands.iter().all(Vec::is_empty) {
            return Err(Error::Invalid {
                thing: "the batch of a training step".to_owned(),
                problem: "0 images, at least 1".to_owned(),
                next: "give each step images and as many masks".to_owned(),
            });
        }
        let gradients = std::mem::take(&mut self.gradients);
        let done = self.spread(hands, gradients, subnets, learn);
        let done = done.and_then(|(gradients, mut values)| {
            let wanted = values.names().any(|name| self.objective.wants(name));
            if values.at_hand() || wanted || self.collective.size() > 1 {
                values.fetch()?;
            }
            self.mean_over_ranks(&mut values);
            values.check()?;
            Ok((gradients, values))
        });
        match done {
            Ok((gradients, values)) => {
                self.gradients = gradients;
                Ok(values)
            }
            Err(error) => {
                // What a failed step left must not enter the next one.
                self.gradients = fresh(&self.supernet, &self.lanes, self.precision);
                Err(error)
            }
        }
    }

    /// Hands to lanes; their gradients and the terms over the whole batch.
    fn spread(
        &self,
        hands: &[Vec<Part<'_>>],
        mut gradients: Vec<Gradients>,
        subnets: &[VitArch],
        learn: bool,
    ) -> Result<(Vec<Gradients>, Terms)> {
        let spare = gradients.split_off(hands.len().min(gradients.len()));
        let work =
            |(hand, gradients): (&Vec<Part<'_>>, Gradients)| self.lane(hand, gradients, subnets, learn);
        let done = self.lanes.map(hands.iter().zip(gradients).collect(), work)?;
        let (mut gradients, mut values) = (Vec::with_capacity(self.lanes.count()), Terms::default());
        for (lane, of_lane) in done {
            gradients.push(lane);
            values.add(&of_lane, 1.0);
        }
        gradients.extend(spare);
        Ok((gradients, values))
    }

    /// One lane's part of a step.
    fn lane(
        &self,
        hand: &[Part<'_>],
        mut gradients: Gradients,
        subnets: &[VitArch],
        learn: bool,
    ) -> Result<(Gradients, Terms)> {
        let params = &self.supernet.params;
        // Leaves of its own per lane: a shared leaf would make one graph, and one lock, of all.
        let leaves = if learn { gradients.leaves(params) } else { params.frozen() };
        let mut values = Terms::default();
        for part in hand {
            let batch =
                MaskedBatch::new(part.pixels, part.masks, self.supernet.encoder.arch(), params.device());
            let teacher = self.teacher.as_deref();
            let teacher =
                teacher.map(|teacher| teacher.features(&batch.visible, self.precision)).transpose()?;
            let mut largest: Option<Tensor<3>> = None;
            let mut of_part = Terms::default();
            for arch in subnets {
                let (leaves, teacher, batch) = (&leaves, teacher.as_ref(), &batch);
                let pass = Pass {
                    supernet: &self.supernet,
                    leaves,
                    arch,
                    batch,
                    teacher,
                    largest: largest.as_ref(),
                };
                let (terms, features) = self.objective.terms(&pass)?;
                largest.get_or_insert(features);
                of_part.push(&terms)?;
                if learn {
                    self.learn(&mut gradients, leaves, terms, part.weight)?;
                }
            }
            values.add(&of_part, part.weight);
        }
        Ok((gradients, values))
    }

    /// Adds the gradients of the weighted sum of `terms`.
    fn learn(&self, gradients: &mut Gradients, leaves: &Leaves, terms: Vec<Term>, weight: f64) -> Result<()> {
        let scaled = terms.into_iter().map(|term| {
            let factor = term.weight * self.objective.factor(term.name) * weight;
            term.loss * factor
        });
        let total = scaled.reduce(|a, b| a + b).ok_or(Error::NoTerms)?;
        gradients.add(leaves, &self.supernet.params, total)
    }

    fn note(&mut self, values: &Terms) {
        values.here().for_each(|(name, value)| self.objective.note(name, value));
    }

    /// Means over ranks of values that every rank has; on one rank the values themselves, all bits of them.
    fn mean_over_ranks(&self, values: &mut Terms) {
        if self.collective.size() == 1 {
            return;
        }
        let mut rounded: Vec<f32> = values.here().map(|(_, value)| value as f32).collect();
        self.collective.all_reduce_mean(&mut rounded);
        values.replace(rounded.into_iter().map(f64::from));
    }

    /// The lanes' gradients, whose loss scale a checkpoint keeps.
    pub(super) fn gradients(&self) -> &[Gradients] {
        &self.gradients
    }

    /// As [`Trainer::gradients`], to be restored.
    pub(super) fn gradients_mut(&mut self) -> &mut [Gradients] {
        &mut self.gradients
    }
}

/// Gradients for every lane, nothing in them yet.
fn fresh(supernet: &Supernet, lanes: &Lanes, precision: Precision) -> Vec<Gradients> {
    (0..lanes.count()).map(|_| Gradients::new(&supernet.params, precision)).collect()
}
