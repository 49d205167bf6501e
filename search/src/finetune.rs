//! Labelled training of one network: the inherited subnet, or the same architecture from scratch.
//!
//! Together with `evaluate` the only place where labels are read. Accuracies say which split they
//! are of; the test split is looked at once, at the end.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::error::{Error, Result};
use crate::images::{Augment, Batches, Images, LabelSet};
use crate::progress::Progress;
use crate::rand::{Draw, Rng, stream};
use crate::recipe;
use crate::supernet::extract::Network;
use crate::supernet::{Leaves, Visible};
use crate::train::trainer::backward;
use crate::train::{AdamW, AdamWConfig, Gradients, Lanes, Schedule};

/// AdamW's decay rates for fine-tuning, as in MAE.
const BETAS: [f64; 2] = [0.9, 0.999];
/// Images per forward pass when nothing is learnt.
const EVAL_BATCH: usize = 250;

/// A fine-tuned network and how well it tells the classes apart.
pub struct Finetuned {
    /// The network, with its classifier.
    pub network: Network,
    /// Share of val images classified rightly.
    pub val_accuracy: f64,
    /// Share of test images classified rightly; `None` without a test split.
    pub test_accuracy: Option<f64>,
    /// Mean training loss of each epoch.
    pub losses: Vec<f64>,
}

/// Trains `network`, which needs a classifier, on the labelled train images.
///
/// # Errors
/// When no train image has a label, when the device fails, or on request ([`Error::Unfinished`]).
pub fn finetune(
    mut network: Network,
    images: &Images,
    labels: &LabelSet,
    settings: &recipe::Finetune,
    augment: &Augment,
    seed: u64,
    lanes: &Arc<Lanes>,
    progress: &mut dyn Progress,
) -> Result<Finetuned> {
    let train = labelled(&images.split().train, labels);
    if train.is_empty() {
        return Err(Error::NoLabels { split: "train" });
    }
    if labelled(&images.split().val, labels).is_empty() {
        return Err(Error::NoLabels { split: "val" });
    }
    let size = settings.batch.clamp(1, train.len());
    let per_epoch = Batches::count(train.len(), size) as u64;
    let total = per_epoch * settings.epochs as u64;
    let warmup = (settings.warmup_epochs * per_epoch as f64).round() as u64;
    let schedule = Schedule { peak: settings.learning_rate, warmup: warmup.min(total / 2), total };
    let config = AdamWConfig { betas: BETAS, weight_decay: settings.weight_decay, clip: 1.0 };
    let mut optimizer = AdamW::new(&network.params, config);
    let every: Vec<_> = network.params.slots().map(|slot| (slot, network.params.shape(slot))).collect();
    let mut losses = Vec::new();
    progress.begin("finetune", total, "step");
    for epoch in 0..settings.epochs as u32 {
        let mut sum = 0.0;
        for (number, indices) in Batches::shuffled(&train, size, seed, epoch).enumerate() {
            if progress.stop() {
                return Err(Error::Unfinished { done: u64::from(epoch) * per_epoch + number as u64, total });
            }
            let step = u64::from(epoch) * per_epoch + number as u64;
            let mut pixels = vec![0.0; indices.len() * images.numbers()];
            images.augmented(&indices, augment, seed, epoch, &mut pixels)?;
            let mut rng = stream(seed, "finetune/paths", step);
            let (gradients, loss) = gradients(&network, &pixels, &indices, labels, settings, &mut rng, lanes)?;
            if !loss.is_finite() {
                return Err(Error::Diverged { term: "classification", value: loss });
            }
            optimizer.step(&mut network.params, gradients, &every, schedule.rate(step))?;
            sum += loss;
            progress.advance(step + 1, &format!("loss {loss:.4}"));
        }
        losses.push(sum / per_epoch as f64);
    }
    let val_accuracy = accuracy(&network, images, &images.split().val, labels, lanes)?;
    let val_accuracy = val_accuracy.ok_or(Error::NoLabels { split: "val" })?;
    let test_accuracy = accuracy(&network, images, &images.split().test, labels, lanes)?;
    progress.end(&format!("val accuracy {:.2} %", 100.0 * val_accuracy));
    Ok(Finetuned { network, val_accuracy, test_accuracy, losses })
}

/// Those of `indices` that have a label.
pub(crate) fn labelled(indices: &[u32], labels: &LabelSet) -> Vec<u32> {
    indices.iter().copied().filter(|i| labels.of.get(*i as usize).is_some_and(Option::is_some)).collect()
}

/// Mean gradient and loss of one batch.
fn gradients(
    network: &Network,
    pixels: &[f32],
    indices: &[u32],
    labels: &LabelSet,
    settings: &recipe::Finetune,
    rng: &mut Rng,
    lanes: &Arc<Lanes>,
) -> Result<(Gradients, f64)> {
    let count = indices.len();
    let numbers = pixels.len() / count;
    let depth = network.encoder.arch().blocks.len();
    // Drawn for the whole batch, so that what an image gets does not depend on the lanes.
    let keep: Vec<[Vec<f32>; 2]> = (0..depth)
        .map(|block| {
            let rate = settings.drop_path * block as f64 / (depth - 1).max(1) as f64;
            let mut draw = || (0..count).map(|_| if rng.chance(rate) { 0.0 } else { (1.0 / (1.0 - rate)) as f32 }).collect();
            [draw(), draw()]
        })
        .collect();
    let shares = lanes.count().min(count);
    let bounds: Vec<usize> = (0..=shares).map(|share| share * count / shares).collect();
    let parts: Vec<(usize, usize)> = bounds.windows(2).map(|w| (w[0], w[1])).collect();
    let device = network.params.device();
    let results = lanes.map(parts, |(from, to)| {
        let leaves = network.params.leaves();
        let visible = Visible::all(&pixels[from * numbers..to * numbers], network.encoder.arch(), device);
        let column = |values: &[f32]| {
            Tensor::<3>::from_data(TensorData::new(values[from..to].to_vec(), [to - from, 1, 1]), device)
        };
        let paths: Vec<[Tensor<3>; 2]> = keep.iter().map(|[a, b]| [column(a), column(b)]).collect();
        let logits = network.logits_dropping(&leaves, &visible, Some(&paths));
        let target = targets(&indices[from..to], labels);
        let loss = cross_entropy(logits, target, settings.label_smoothing) * ((to - from) as f64 / count as f64);
        let value = loss.clone().inner().try_into_scalar::<f32>();
        let value = value.map_err(|error| Error::Backend(format!("{error:?}")))?;
        Ok((backward(&leaves, &network.params, loss), f64::from(value)))
    })?;
    let mut gradients = Gradients::default();
    let mut loss = 0.0;
    for (gradient, value) in results {
        gradients.add(gradient);
        loss += value;
    }
    Ok((gradients, loss))
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
