//! How good features are, judged with labels: nearest neighbours and a linear probe.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::finetune::{features, labelled};
use crate::images::{Images, LabelSet};
use crate::progress::Progress;
use crate::supernet::extract::Network;
use crate::supernet::params::{matrix, to_host};
use crate::train::Lanes;

/// Neighbours that vote.
pub const NEIGHBOURS: usize = 20;
/// Temperature of the votes (DINO's k-NN protocol).
const VOTE_TAU: f64 = 0.07;
/// Full-batch steps of the linear probe.
const PROBE_STEPS: usize = 200;
/// Learning rate of the linear probe's Adam.
const PROBE_RATE: f64 = 0.05;
/// Ridge penalty of the linear probe.
const PROBE_DECAY: f64 = 1e-4;

/// Accuracies of one network's features, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Weighted vote of the [`NEIGHBOURS`] nearest train images by cosine.
    pub knn: f64,
    /// Linear classifier trained on standardised train features.
    pub linear: f64,
    /// Labelled train images.
    pub train: usize,
    /// Labelled images judged.
    pub judged: usize,
    /// Classes.
    pub classes: usize,
}

/// Judges `network`'s features: fitted to the train split, judged on `indices`.
///
/// # Errors
/// When either side has no labels, or the device fails; [`Error::Interrupted`] on request, and nothing is kept.
pub fn evaluate(
    network: &Network,
    images: &Images,
    indices: &[u32],
    labels: &LabelSet,
    lanes: &Arc<Lanes>,
    progress: &mut dyn Progress,
) -> Result<Evaluation> {
    let train = labelled(&images.split().train, labels);
    let judged = labelled(indices, labels);
    if train.is_empty() {
        return Err(Error::NoLabels { split: "train" });
    }
    if judged.is_empty() {
        return Err(Error::NoLabels { split: "judged" });
    }
    progress.begin("evaluate", 4, "part");
    let known = features(network, images, &train, lanes)?;
    part_done(progress, 1, "train features")?;
    let asked = features(network, images, &judged, lanes)?;
    part_done(progress, 2, "judged features")?;
    let of = |indices: &[u32]| -> Vec<u32> {
        indices.iter().map(|i| labels.of.get(*i as usize).copied().flatten().unwrap_or(0)).collect()
    };
    let (known_labels, asked_labels) = (of(&train), of(&judged));
    let width = network.encoder.arch().embed;
    let classes = labels.classes.len();
    let device = network.params.device();
    let votes = nearest(&known, &known_labels, &asked, width, classes, device)?;
    let knn = share(&votes, &asked_labels);
    part_done(progress, 3, &format!("k-NN {:.2} %", 100.0 * knn))?;
    let guesses = probe(&known, &known_labels, &asked, width, classes, device)?;
    let linear = share(&guesses, &asked_labels);
    progress.advance(4, &format!("linear {:.2} %", 100.0 * linear));
    progress.end(&format!("k-NN {:.2} %, linear probe {:.2} %", 100.0 * knn, 100.0 * linear));
    Ok(Evaluation { knn, linear, train: train.len(), judged: judged.len(), classes })
}

/// Tells that `done` parts of the open phase are finished, and whether the next one may begin.
///
/// # Errors
/// [`Error::Interrupted`] on request.
pub(crate) fn part_done(progress: &mut dyn Progress, done: u64, note: &str) -> Result<()> {
    progress.advance(done, note);
    if progress.stop() { Err(Error::Interrupted) } else { Ok(()) }
}

fn share(guesses: &[u32], labels: &[u32]) -> f64 {
    guesses.iter().zip(labels).filter(|(a, b)| a == b).count() as f64 / labels.len().max(1) as f64
}

/// Class by weighted vote of the nearest known images.
fn nearest(
    known: &[f32],
    labels: &[u32],
    asked: &[f32],
    width: usize,
    classes: usize,
    device: &Device,
) -> Result<Vec<u32>> {
    let known = unit(known, width, device).transpose();
    let k = NEIGHBOURS.min(labels.len());
    let mut guesses = Vec::new();
    // Blocks, so that the similarities of all pairs never stand in memory at once.
    for block in asked.chunks(512 * width) {
        let similarity = to_host(&unit(block, width, device).matmul(known.clone()))?;
        for row in similarity.chunks_exact(labels.len()) {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.select_nth_unstable_by(k - 1, |a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
            let mut votes = vec![0.0f64; classes];
            for i in &order[..k] {
                votes[labels[*i] as usize] += (f64::from(row[*i]) / VOTE_TAU).exp();
            }
            let best = (0..classes).max_by(|a, b| votes[*a].total_cmp(&votes[*b]).then(b.cmp(a)));
            guesses.push(best.unwrap_or(0) as u32);
        }
    }
    Ok(guesses)
}

fn unit(rows: &[f32], width: usize, device: &Device) -> Tensor<2> {
    let rows = matrix(rows.to_vec(), [rows.len() / width, width], device);
    let norm = (rows.clone().square().sum_dim(1) + 1e-12).sqrt();
    rows / norm
}

/// Class by multinomial logistic regression on features standardised by the known images.
fn probe(
    known: &[f32],
    labels: &[u32],
    asked: &[f32],
    width: usize,
    classes: usize,
    device: &Device,
) -> Result<Vec<u32>> {
    let count = labels.len();
    let rows = matrix(known.to_vec(), [count, width], device);
    let (variance, mean) = rows.clone().var_mean_bias(0);
    let spread = (variance + 1e-6).sqrt();
    let rows = (rows - mean.clone()) / spread.clone();
    let labels = labels.iter().map(|label| i64::from(*label)).collect::<Vec<_>>();
    let target = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), device);
    let right = Tensor::<2>::zeros([count, classes], device).scatter(
        1,
        target,
        Tensor::ones([count, 1], device),
        burn::tensor::IndexingUpdateOp::Add,
    );
    let mut weight = Tensor::<2>::zeros([width, classes], device);
    let mut bias = Tensor::<2>::zeros([1, classes], device);
    let mut moments = [weight.clone(), weight.clone(), bias.clone(), bias.clone()];
    for step in 1..=PROBE_STEPS as i32 {
        let wrong =
            activation::softmax(rows.clone().matmul(weight.clone()) + bias.clone(), 1) - right.clone();
        let wrong = wrong * (1.0 / count as f64);
        let gradient = rows.clone().transpose().matmul(wrong.clone()) + weight.clone() * PROBE_DECAY;
        let [first, second, bias_first, bias_second] = moments;
        let rate =
            PROBE_RATE * 0.5 * (1.0 + (std::f64::consts::PI * f64::from(step) / PROBE_STEPS as f64).cos());
        let (moved, first, second) = adam(weight, gradient, first, second, rate, step);
        let (moved_bias, bias_first, bias_second) =
            adam(bias, wrong.sum_dim(0), bias_first, bias_second, rate, step);
        (weight, bias) = (moved, moved_bias);
        moments = [first, second, bias_first, bias_second];
    }
    let asked = matrix(asked.to_vec(), [asked.len() / width, width], device);
    let scores = to_host(&(((asked - mean) / spread).matmul(weight) + bias))?;
    let best = |row: &[f32]| {
        (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap_or(0) as u32
    };
    Ok(scores.chunks_exact(classes).map(best).collect())
}

type Moved = (Tensor<2>, Tensor<2>, Tensor<2>);

fn adam(
    value: Tensor<2>,
    gradient: Tensor<2>,
    first: Tensor<2>,
    second: Tensor<2>,
    rate: f64,
    step: i32,
) -> Moved {
    let first = first * 0.9 + gradient.clone() * 0.1;
    let second = second * 0.999 + gradient.square() * 0.001;
    let scale = (second.clone() * (1.0 / (1.0 - 0.999f64.powi(step)))).sqrt() + 1e-8;
    let value = value - first.clone() * (rate / (1.0 - 0.9f64.powi(step))) / scale;
    (value, first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::{Draw, stream};

    /// Two clouds far apart: both judges must tell them apart; with shuffled labels neither can.
    #[test]
    fn clouds_are_told_apart_and_noise_is_not() {
        let device = Device::flex();
        let mut rng = stream(1, "clouds", 0);
        let mut cloud = |n: usize| -> (Vec<f32>, Vec<u32>) {
            let labels: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
            let point = |label: &u32, rng: &mut crate::rand::Rng| {
                [
                    4.0 * *label as f32 - 2.0 + rng.normal() as f32,
                    3.0 + rng.normal() as f32,
                    rng.normal() as f32,
                ]
            };
            (labels.iter().flat_map(|label| point(label, &mut rng)).collect(), labels)
        };
        let ((known, labels), (asked, truth)) = (cloud(200), cloud(100));
        for judge in [nearest, probe] {
            let right = judge(&known, &labels, &asked, 3, 2, &device).unwrap();
            assert!(share(&right, &truth) > 0.9);
            let mut shuffled = labels.clone();
            stream(2, "labels", 0).shuffle(&mut shuffled);
            let guessed = judge(&known, &shuffled, &asked, 3, 2, &device).unwrap();
            assert!((0.2..0.8).contains(&share(&guessed, &truth)));
        }
    }
}
