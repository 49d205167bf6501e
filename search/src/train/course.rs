//! A whole training run: epochs of masked batches, checkpoints on the way, exact resume.

use std::path::Path;

use masktas_export::VitArch;

use super::checkpoint;
use super::schedule::Schedule;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::images::{Augment, Batches, Images};
use crate::progress::Progress;
use crate::rand::stream;
use crate::supernet::Mask;

/// Points kept of a training curve, about.
const CURVE_POINTS: u64 = 200;

/// What a training run is, apart from the network.
#[derive(Clone, Debug)]
pub struct Course {
    /// Prefix of its random streams, such as `supernet`.
    pub purpose: &'static str,
    /// Seed of the search.
    pub seed: u64,
    /// Epochs.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Share of patches hidden.
    pub mask_ratio: f64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Epochs of warm-up.
    pub warmup_epochs: f64,
    /// Steps between checkpoints; one is written at the end of every epoch as well.
    pub checkpoint_steps: usize,
    /// Random views.
    pub augment: Augment,
}

/// One point of a training curve: the step, and each term's value.
pub type CurvePoint<'a> = (u64, &'a [(&'static str, f64)]);

impl Course {
    /// Steps in one epoch over `images` training images.
    pub fn steps_per_epoch(&self, images: usize) -> u64 {
        Batches::count(images, self.batch.min(images).max(1)) as u64
    }

    /// Trains to the end, from the checkpoint if there is one. `subnets` says whom step `n` trains.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a saved stop; otherwise when the device, the disk or the loss fails.
    pub fn run(
        &self,
        trainer: &mut Trainer,
        images: &Images,
        subnets: &dyn Fn(u64) -> Vec<VitArch>,
        saved: &Path,
        curve: &mut dyn FnMut(CurvePoint<'_>) -> Result<()>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let train = &images.split().train;
        let size = self.batch.min(train.len()).max(1);
        let per_epoch = self.steps_per_epoch(train.len());
        let schedule = Schedule::over(self.learning_rate, self.warmup_epochs, self.epochs, per_epoch);
        let total = schedule.total;
        let arch = trainer.supernet.encoder.arch().clone();
        let mut step = checkpoint::load(trainer, saved)?.unwrap_or(0);
        progress.begin(self.purpose, total, "step");
        let mut pixels = Vec::new();
        let mut last = Vec::new();
        let mut order: Option<(u32, Batches)> = None;
        while step < total {
            if progress.stop() {
                checkpoint::save(trainer, step, saved)?;
                return Err(Error::Interrupted);
            }
            let (epoch, number) = ((step / per_epoch) as u32, (step % per_epoch) as usize);
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                order = Some((epoch, Batches::shuffled(train, size, self.seed, epoch)));
            }
            let Some(indices) = order.as_ref().and_then(|(_, batches)| batches.get(number)) else { break };
            pixels.resize(indices.len() * images.numbers(), 0.0);
            images.augmented(indices, &self.augment, self.seed, epoch, &mut pixels)?;
            let mut rng = stream(self.seed, &format!("{}/masks", self.purpose), step);
            let masks: Vec<Mask> =
                indices.iter().map(|_| Mask::draw(&mut rng, arch.patches(), self.mask_ratio)).collect();
            last = trainer.step(&pixels, &masks, &subnets(step), schedule.rate(step))?;
            step += 1;
            if step % (total / CURVE_POINTS).max(1) == 0 || step == total {
                curve((step, &last))?;
            }
            if step % self.checkpoint_steps.max(1) as u64 == 0 || step % per_epoch == 0 {
                checkpoint::save(trainer, step, saved)?;
            }
            progress.advance(step, &describe(&last));
        }
        progress.end(&describe(&last));
        Ok(())
    }
}

fn describe(terms: &[(&'static str, f64)]) -> String {
    terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  ")
}
