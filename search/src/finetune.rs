//! Labelled training of one network: the inherited subnet, or the same architecture from scratch.
//!
//! Together with `evaluate` the only place where labels are read. Accuracies say which split they
//! are of; the test split is looked at once, at the end.
//!
//! A training keeps a checkpoint that says what it belongs to. The same training goes on from it to
//! the weights of an undisturbed one; a training of other settings or labels begins anew and
//! replaces it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::collective::Solo;
use crate::device;
use crate::error::{Error, Result};
use crate::images::{self, Augment, Batches, Images, LabelSet};
use crate::objective::Term;
use crate::progress::Progress;
use crate::rand::{Draw, stream};
use crate::recipe;
use crate::supernet::extract::Network;
use crate::supernet::{Leaves, Visible};
use crate::train::checkpoint::{self, Header, Saved};
use crate::train::course::READ_STEPS;
use crate::train::{AdamW, AdamWConfig, Gradients, Lanes, Precision, Schedule, Terms};

/// AdamW's decay rates for fine-tuning, as in MAE.
const BETAS: [f64; 2] = [0.9, 0.999];
/// Images per forward pass when nothing is learnt.
const EVAL_BATCH: usize = 250;
/// What its checkpoints call the loss.
const OBJECTIVE: &str = "classification";

/// How well a fine-tuned network tells the classes apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finetuned {
    /// Share of val images classified rightly.
    pub val_accuracy: f64,
    /// Share of test images classified rightly; `None` without a test split.
    pub test_accuracy: Option<f64>,
    /// Mean training loss of each epoch.
    pub losses: Vec<f64>,
}

/// A labelled training, apart from the network.
#[derive(Clone, Copy)]
pub struct Tuning<'a> {
    /// The images.
    pub images: &'a Images,
    /// Their labels.
    pub labels: &'a LabelSet,
    /// Epochs, rates and so on.
    pub settings: &'a recipe::Finetune,
    /// Random views.
    pub augment: Augment,
    /// Seed of the search.
    pub seed: u64,
    /// Where the first weights are from, such as `inherited` or `scratch`.
    pub start: &'a str,
    /// Steps between checkpoints; one is written at the end of every epoch as well.
    pub checkpoint_steps: usize,
    /// Most images a lane takes at a time; 0: as many as the device likes.
    pub micro_batch: usize,
    /// The lanes a step is spread over.
    pub lanes: &'a Arc<Lanes>,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What a checkpoint keeps beside weights and moments. The losses stand as their bits, because a
/// number can lose its last one on the way through JSON.
#[derive(Serialize, Deserialize)]
struct Kept {
    belongs: String,
    losses: Vec<u64>,
    sum: u64,
}

/// How far a training is, apart from the weights.
struct Standing {
    optimizer: AdamW,
    step: u64,
    /// Mean loss of each finished epoch.
    losses: Vec<f64>,
    /// Sum of the losses in the epoch that is not finished.
    sum: f64,
}

impl Tuning<'_> {
    /// What a checkpoint or a result of this training belongs to: settings, views, first weights,
    /// classes, seed, and hashes of images and labels, as JSON. The architecture is not in it.
    pub fn belongs(&self) -> String {
        let mut labels = Sha256::new();
        for class in &self.labels.classes {
            labels.update((class.len() as u64).to_le_bytes());
            labels.update(class.as_bytes());
        }
        for label in &self.labels.of {
            labels.update(label.map_or(0_u64, |label| u64::from(label) + 1).to_le_bytes());
        }
        let mut belongs = serde_json::json!({
            "settings": self.settings,
            "augment": self.augment,
            "start": self.start,
            "classes": self.labels.classes.len(),
            "seed": self.seed,
            "images": images::hex(&self.images.source_sha()),
            "labels": images::hex(&labels.finalize()),
        });
        if self.precision != Precision::F32 {
            belongs["precision"] = self.precision.name().into();
        }
        belongs.to_string()
    }

    /// Trains `network`, which needs a classifier, on the labelled train images, and judges it.
    ///
    /// Goes on from the checkpoint `saved` when it belongs to this training, and says so when it does
    /// not. At the end the file holds the trained weights.
    ///
    /// # Errors
    /// When no train or no val image has a label; when device, disk or loss fails; on request, saved
    /// ([`Error::Interrupted`]), also when the training is finished and only the accuracies are missing.
    pub fn run(&self, network: &mut Network, saved: &Path, progress: &mut dyn Progress) -> Result<Finetuned> {
        let (images, labels, settings) = (self.images, self.labels, self.settings);
        let split = images.split();
        let train = labelled(&split.train, labels);
        if train.is_empty() {
            return Err(Error::NoLabels { split: "train" });
        }
        if labelled(&split.val, labels).is_empty() {
            return Err(Error::NoLabels { split: "val" });
        }
        let size = settings.batch.clamp(1, train.len());
        let per_epoch = Batches::count(train.len(), size) as u64;
        let schedule =
            Schedule::over(settings.learning_rate, settings.warmup_epochs, settings.epochs, per_epoch);
        let config = AdamWConfig { betas: BETAS, weight_decay: settings.weight_decay, clip: 1.0 };
        let every: Vec<_> = network.params.slots().map(|slot| (slot, network.params.shape(slot))).collect();
        let mut gradients: Vec<Gradients> =
            (0..self.lanes.count()).map(|_| Gradients::new(&network.params, self.precision)).collect();
        let optimizer = AdamW::new(&network.params, config);
        let mut at = Standing { optimizer, step: 0, losses: Vec::new(), sum: 0.0 };
        self.go_on(network, &mut at, &mut gradients, saved, progress)?;
        let mut on_disk = at.step;
        if at.step < schedule.total {
            device::announce(network.params.device(), progress);
        }
        // On a GPU losses are read once in some steps; `last` is their mean since the reading before.
        let (mut unread, mut read, mut last) = (Terms::default(), at.step, 0.0);
        progress.begin("finetune", schedule.total, "step");
        for epoch in (at.step / per_epoch) as u32..settings.epochs as u32 {
            let begun = (at.step % per_epoch) as usize;
            for indices in Batches::shuffled(&train, size, self.seed, epoch).skip(begun) {
                if progress.stop() {
                    at.sum += sum_of(std::mem::take(&mut unread))?;
                    // A stop before the first step must not replace another training's checkpoint.
                    if at.step != on_disk {
                        self.save(network, &at, &gradients, saved)?;
                    }
                    return Err(Error::Interrupted);
                }
                let mut pixels = vec![0.0; indices.len() * images.numbers()];
                images.augmented(&indices, &self.augment, self.seed, epoch, &mut pixels)?;
                let loss = self.gradients(network, &mut gradients, &pixels, &indices, at.step)?;
                loss.check()?;
                let rate = schedule.rate(at.step);
                at.optimizer.step(&mut network.params, &mut gradients, &every, rate, self.lanes, &Solo)?;
                at.step += 1;
                unread.add(&loss, 1.0);
                let ended = at.step.is_multiple_of(per_epoch);
                let save = ended || at.step.is_multiple_of(self.checkpoint_steps.max(1) as u64);
                if unread.at_hand() || save || at.step.is_multiple_of(READ_STEPS) {
                    let sum = sum_of(std::mem::take(&mut unread))?;
                    last = sum / (at.step - read) as f64;
                    (at.sum, read) = (at.sum + sum, at.step);
                    Gradients::check(&gradients)?;
                }
                if ended {
                    at.losses.push(at.sum / per_epoch as f64);
                    at.sum = 0.0;
                }
                if save {
                    self.save(network, &at, &gradients, saved)?;
                    on_disk = at.step;
                }
                progress.advance(at.step, &format!("loss {last:.4}"));
            }
        }
        // The weights are saved: the next call has nothing to do but to judge them.
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let val_accuracy = accuracy(network, images, &split.val, labels, self.lanes)?;
        let val_accuracy = val_accuracy.ok_or(Error::NoLabels { split: "val" })?;
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let test_accuracy = accuracy(network, images, &split.test, labels, self.lanes)?;
        progress.end(&format!("val accuracy {:.2} %", 100.0 * val_accuracy));
        Ok(Finetuned { val_accuracy, test_accuracy, losses: at.losses })
    }

    /// Puts the trained weights into `network` when `saved` holds this training, finished; else it
    /// leaves `network` alone. Says which.
    ///
    /// # Errors
    /// When the file cannot be read or belongs to another network.
    pub fn finished(&self, network: &mut Network, saved: &Path) -> Result<bool> {
        restore_finished(network, saved, &self.belongs(), self.settings.epochs)
    }

    /// Puts weights and standing back as the checkpoint has them, if it is this training's.
    fn go_on(
        &self,
        network: &mut Network,
        at: &mut Standing,
        gradients: &mut [Gradients],
        saved: &Path,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let Some(found) = checkpoint::read(saved)? else { return Ok(()) };
        let Some(kept) = own(&found, &self.belongs()) else {
            progress.say(&format!(
                "{} is of other settings or labels and will be replaced: this training begins anew",
                saved.display()
            ));
            return Ok(());
        };
        found.restore(&mut network.params, &mut at.optimizer)?;
        Gradients::restore_scale(gradients, &found, network.params.device())?;
        at.step = found.header.step;
        at.losses = kept.losses.into_iter().map(f64::from_bits).collect();
        at.sum = f64::from_bits(kept.sum);
        progress.say(&format!("going on with {} after step {}", saved.display(), at.step));
        Ok(())
    }

    fn save(&self, network: &Network, at: &Standing, gradients: &[Gradients], saved: &Path) -> Result<()> {
        let losses = at.losses.iter().map(|loss| loss.to_bits()).collect();
        let kept = Kept { belongs: self.belongs(), losses, sum: at.sum.to_bits() };
        let state = serde_json::to_value(kept).map_err(|error| Error::Checkpoint(error.to_string()))?;
        let header = Header::new(at.step, OBJECTIVE, state);
        checkpoint::write(
            saved,
            &header,
            &network.params,
            &at.optimizer,
            Gradients::scale_to_host(gradients)?,
        )
    }

    /// Adds the mean gradient of one batch, dealt to as many lanes as there are `gradients`, and returns its loss.
    fn gradients(
        &self,
        network: &Network,
        gradients: &mut Vec<Gradients>,
        pixels: &[f32],
        indices: &[u32],
        step: u64,
    ) -> Result<Terms> {
        let (labels, settings, lanes) = (self.labels, self.settings, self.lanes);
        let mut rng = stream(self.seed, "finetune/paths", step);
        let count = indices.len();
        let numbers = pixels.len() / count;
        let depth = network.encoder.arch().blocks.len();
        // Drawn for the whole batch, so that what an image gets does not depend on the lanes.
        let keep: Vec<[Vec<f32>; 2]> = (0..depth)
            .map(|block| {
                let rate = settings.drop_path * block as f64 / (depth - 1).max(1) as f64;
                let mut draw = || {
                    (0..count)
                        .map(|_| if rng.chance(rate) { 0.0 } else { (1.0 / (1.0 - rate)) as f32 })
                        .collect()
                };
                [draw(), draw()]
            })
            .collect();
        let device = network.params.device();
        let learn = |leaves: &Leaves, from: usize, to: usize| -> Tensor<1> {
            let visible = Visible::all(&pixels[from * numbers..to * numbers], network.encoder.arch(), device);
            let column = |values: &[f32]| {
                Tensor::<3>::from_data(TensorData::new(values[from..to].to_vec(), [to - from, 1, 1]), device)
            };
            let paths: Vec<[Tensor<3>; 2]> = keep.iter().map(|[a, b]| [column(a), column(b)]).collect();
            let logits = network.logits_dropping(leaves, &visible, Some(&paths));
            let target = targets(&indices[from..to], labels);
            cross_entropy(logits, target, settings.label_smoothing) * ((to - from) as f64 / count as f64)
        };
        let hands = lanes.deal(count, self.micro_batch, device);
        let spare = gradients.split_off(hands.len());
        let hands = hands.into_iter().zip(std::mem::take(gradients)).collect();
        let results = lanes.map(hands, |(hand, mut gradients): (Vec<Range<usize>>, Gradients)| {
            let leaves = gradients.leaves(&network.params);
            let mut sum = Terms::default();
            for part in hand {
                let loss = learn(&leaves, part.start, part.end);
                let mut terms = Terms::default();
                terms.push(&[Term { name: OBJECTIVE, weight: 1.0, loss: loss.clone() }])?;
                sum.add(&terms, 1.0);
                gradients.add(&leaves, &network.params, loss)?;
            }
            Ok((gradients, sum))
        })?;
        let mut loss = Terms::default();
        for (lane, of_lane) in results {
            gradients.push(lane);
            loss.add(&of_lane, 1.0);
        }
        gradients.extend(spare);
        Ok(loss)
    }
}

/// The sum of losses, 0 of none.
fn sum_of(losses: Terms) -> Result<f64> {
    Ok(losses.read()?.first().map_or(0.0, |(_, sum)| *sum))
}

/// What a checkpoint keeps, when it is of the training `belongs` (see [`Tuning::belongs`]).
fn own(found: &Saved, belongs: &str) -> Option<Kept> {
    let kept = serde_json::from_value::<Kept>(found.header.state.clone()).ok()?;
    (found.header.objective == OBJECTIVE && kept.belongs == belongs).then_some(kept)
}

/// As [`Tuning::finished`], for a training known by what it `belongs` to and its number of epochs.
///
/// # Errors
/// As [`Tuning::finished`].
pub(crate) fn restore_finished(
    network: &mut Network,
    saved: &Path,
    belongs: &str,
    epochs: usize,
) -> Result<bool> {
    let Some(found) = checkpoint::read(saved)? else { return Ok(false) };
    let whole = own(&found, belongs).is_some_and(|kept| kept.losses.len() == epochs);
    if whole {
        found.restore_values(&mut network.params)?;
    }
    Ok(whole)
}

/// Those of `indices` that have a label.
pub(crate) fn labelled(indices: &[u32], labels: &LabelSet) -> Vec<u32> {
    indices.iter().copied().filter(|i| labels.of.get(*i as usize).is_some_and(Option::is_some)).collect()
}

fn targets(indices: &[u32], labels: &LabelSet) -> Vec<i64> {
    indices.iter().map(|i| labels.of.get(*i as usize).copied().flatten().map_or(0, i64::from)).collect()
}

/// Cross-entropy with label smoothing, mean over images.
fn cross_entropy(logits: Tensor<2>, target: Vec<i64>, smoothing: f64) -> Tensor<1> {
    let [count, _] = logits.dims();
    let target = Tensor::<2, Int>::from_data(TensorData::new(target, [count, 1]), &logits.device().inner());
    let logs = activation::log_softmax(logits, 1);
    let right = logs.clone().gather(1, target).mean();
    let every = logs.mean();
    (right * (1.0 - smoothing) + every * smoothing).neg()
}

/// Share of the labelled images among `indices` that are classified rightly; `None` when there are none.
///
/// # Errors
/// When the device fails.
pub fn accuracy(
    network: &Network,
    images: &Images,
    indices: &[u32],
    labels: &LabelSet,
    lanes: &Arc<Lanes>,
) -> Result<Option<f64>> {
    let indices = labelled(indices, labels);
    if indices.is_empty() {
        return Ok(None);
    }
    let leaves = network.params.frozen();
    let right = outputs(images, &indices, lanes, |visible| network.logits(&leaves, visible), network)?;
    let classes = right.len() / indices.len();
    let hits = indices.iter().zip(right.chunks_exact(classes)).filter(|(index, scores)| {
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class as u32);
        labels.of.get(**index as usize).copied().flatten() == best
    });
    Ok(Some(hits.count() as f64 / indices.len() as f64))
}

/// One row an image, of what `forward` makes of plain views.
pub(crate) fn outputs(
    images: &Images,
    indices: &[u32],
    lanes: &Arc<Lanes>,
    forward: impl Fn(&Visible) -> Tensor<2> + Sync,
    network: &Network,
) -> Result<Vec<f32>> {
    let parts: Vec<&[u32]> = indices.chunks(EVAL_BATCH).collect();
    let rows = lanes.map(parts, |indices| {
        let mut pixels = vec![0.0; indices.len() * images.numbers()];
        images.plain(indices, &mut pixels)?;
        let visible = Visible::all(&pixels, network.encoder.arch(), network.params.device());
        crate::supernet::params::to_host(&forward(&visible))
    })?;
    Ok(rows.concat())
}

/// Pooled features of plain views, `[images, embed]` row-major.
///
/// # Errors
/// When the device fails.
pub fn features(network: &Network, images: &Images, indices: &[u32], lanes: &Arc<Lanes>) -> Result<Vec<f32>> {
    let leaves: Leaves = network.params.frozen();
    outputs(images, indices, lanes, |visible| network.features(&leaves, visible), network)
}
