//! A whole training run: epochs of masked batches, checkpoints on the way, exact resume.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use masktas_export::VitArch;

use super::checkpoint;
use super::gradients::Gradients;
use super::schedule::Schedule;
use super::terms::Terms;
use super::trainer::Trainer;
use crate::device;
use crate::error::{Error, Result};
use crate::images::{Augment, Batches, Images};
use crate::progress::Progress;
use crate::rand::stream;
use crate::supernet::Mask;

/// Points kept of a training curve, about.
const CURVE_POINTS: u64 = 200;
/// On a GPU the loss is read once in so many steps at least: between readings steps are handed over without waiting
/// for them, and each keeps its images in memory until it is done.
pub(crate) const READ_STEPS: u64 = 16;

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
        if step < total {
            device::announce(trainer.supernet.params.device(), progress);
        }
        progress.begin(self.purpose, total, "step");
        let source = Source { course: self, images, size, per_epoch, arch: &arch, order: Mutex::new(None) };
        let mut last = Vec::new();
        std::thread::scope(|scope| {
            // The images of a step are decoded and cut while the step before it computes.
            let mut ahead = None;
            let mut steps = || -> Result<()> {
                let mut unread = Unread::default();
                while step < total {
                    if progress.stop() {
                        unread.read(curve)?;
                        Gradients::check(trainer.gradients())?;
                        checkpoint::save(trainer, step, saved)?;
                        return Err(Error::Interrupted);
                    }
                    let (pixels, masks) = match ahead.take() {
                        Some(reader) => joined(reader)?,
                        None => source.batch(step)?,
                    };
                    if step + 1 < total {
                        let (source, next) = (&source, step + 1);
                        ahead = Some(scope.spawn(move || source.batch(next)));
                    }
                    let terms = trainer.step(&pixels, &masks, &subnets(step), schedule.rate(step))?;
                    step += 1;
                    let point = step % (total / CURVE_POINTS).max(1) == 0 || step == total;
                    let save = step % self.checkpoint_steps.max(1) as u64 == 0 || step % per_epoch == 0;
                    let now = terms.at_hand() || save || step % READ_STEPS == 0 || step == total;
                    unread.add(step, point, terms);
                    if now {
                        // Before a checkpoint, too: a loss that has left the numbers must not become one.
                        last = unread.read(curve)?;
                        Gradients::check(trainer.gradients())?;
                    }
                    if save {
                        checkpoint::save(trainer, step, saved)?;
                    }
                    progress.advance(step, &describe(&last));
                }
                Ok(())
            };
            let outcome = steps();
            // Whatever ended the steps is the news, not what became of a batch that nobody waits for.
            ahead.map(ScopedJoinHandle::join);
            outcome
        })?;
        progress.end(&describe(&last));
        Ok(())
    }
}

/// Terms of steps that nobody waited for.
#[derive(Default)]
struct Unread {
    /// Those of the curve, with their step.
    points: Vec<(u64, Terms)>,
    newest: Option<Terms>,
}

impl Unread {
    fn add(&mut self, step: u64, point: bool, terms: Terms) {
        if point {
            self.points.push((step, terms.clone()));
        }
        self.newest = Some(terms);
    }

    /// Waits for all of them: the points of the curve are drawn, the newest terms are the answer.
    fn read(
        &mut self,
        curve: &mut dyn FnMut(CurvePoint<'_>) -> Result<()>,
    ) -> Result<Vec<(&'static str, f64)>> {
        for (step, terms) in self.points.drain(..) {
            curve((step, &terms.read()?))?;
        }
        self.newest.take().map_or(Ok(Vec::new()), Terms::read)
    }
}

/// Where a course's batches come from.
struct Source<'a> {
    course: &'a Course,
    images: &'a Images,
    /// Images per step, and steps per epoch.
    size: usize,
    per_epoch: u64,
    arch: &'a VitArch,
    /// The order of the epoch that was last asked for.
    order: Mutex<Option<(u32, Batches)>>,
}

impl Source<'_> {
    /// Pixels and masks of a step, which depend on the seed and the step alone.
    fn batch(&self, step: u64) -> Result<(Vec<f32>, Vec<Mask>)> {
        let (course, images) = (self.course, self.images);
        let (epoch, number) = ((step / self.per_epoch) as u32, (step % self.per_epoch) as usize);
        let indices: Vec<u32> = {
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                *order =
                    Some((epoch, Batches::shuffled(&images.split().train, self.size, course.seed, epoch)));
            }
            let batch = order.as_ref().and_then(|(_, batches)| batches.get(number));
            let missing = || Error::Backend(format!("there is no batch {number} in epoch {epoch}"));
            batch.map(<[u32]>::to_vec).ok_or_else(missing)?
        };
        let mut pixels = vec![0.0; indices.len() * images.numbers()];
        images.augmented(&indices, &course.augment, course.seed, epoch, &mut pixels)?;
        let mut rng = stream(course.seed, &format!("{}/masks", course.purpose), step);
        let mut mask = || Mask::draw(&mut rng, self.arch.patches(), course.mask_ratio);
        let masks = indices.iter().map(|_| mask()).collect();
        Ok((pixels, masks))
    }
}

/// What a reader read.
fn joined<T>(reader: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let died = || Error::Backend("the thread that reads images died (RUST_BACKTRACE=1 shows where)".into());
    reader.join().map_err(|_| died())?
}

fn describe(terms: &[(&'static str, f64)]) -> String {
    terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_waited_for_is_read_later() {
        let mut unread = Unread::default();
        for step in 1..=5 {
            unread.add(step, step % 2 == 0, Terms::there("pixel", step as f32));
        }
        let mut points = Vec::new();
        let newest = unread.read(&mut |(step, terms)| {
            points.push((step, terms[0].1));
            Ok(())
        });
        assert_eq!(newest.unwrap(), [("pixel", 5.0)]);
        assert_eq!(points, [(2, 2.0), (4, 4.0)]);
        assert!(unread.read(&mut |_| panic!("a point twice")).unwrap().is_empty());
    }

    #[test]
    fn a_loss_that_left_the_numbers_is_found_before_a_checkpoint() {
        for point in [false, true] {
            let mut unread = Unread::default();
            unread.add(1, point, Terms::there("pixel", f32::NAN));
            assert!(matches!(unread.read(&mut |_| Ok(())), Err(Error::Diverged { term: "pixel", .. })));
        }
    }
}
