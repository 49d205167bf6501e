//! The sections of a recipe: one plain struct each, without defaults of their own.
//!
//! Every default stands in `recipes/masktas.toml`, with its reason; the other recipes and the
//! user's file override it.

use std::path::PathBuf;

pub use masktas_export::Labels;
use serde::{Deserialize, Serialize};

/// `[data]`: where the images are and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folder or archive of images; absent: the images that come with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Share of images kept for scoring, in (0, 1).
    pub val: f64,
    /// Share of images kept for the one final test, in [0, 1); not used when the source has its own test part.
    pub test: f64,
    /// Smallest area of the random resized crop, as a share of the image, in (0, 1].
    pub crop: f64,
    /// Whether images are mirrored at random.
    pub flip: bool,
}

/// `[space]`: which architectures exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceChoice {
    /// A registered name (`vit-micro`) or the path of a TOML file.
    pub name: String,
}

/// The fixed decoder that turns encoded patches back into pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Width.
    pub embed: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; divides `embed`.
    pub heads: usize,
}

/// `[teacher]`: what the supernet learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// `mae` (pre-trained on the same images), `file` (safetensors) or `ema` (average of the largest subnet).
    pub name: String,
    /// The safetensors file of `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What is known about labels in a file of `file` that does not say so itself; `used` counts for every file.
    pub labels: Labels,
    /// Width of the `mae` teacher.
    pub embed: usize,
    /// Blocks of the `mae` teacher.
    pub depth: usize,
    /// Attention heads of the `mae` teacher, and of a file of `file` that does not say; divides `embed`.
    pub heads: usize,
    /// Hidden width of its feed-forward parts over `embed`.
    pub ratio: f64,
    /// Epochs of pre-training.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Peak learning rate, not scaled by the batch.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Share of patches hidden, in (0, 1).
    pub mask_ratio: f64,
    /// Depths read by the feature loss, as shares of the teacher's depth in (0, 1].
    pub layers: Vec<f64>,
    /// Decay of the average per step for `ema`, in (0, 1).
    pub ema_decay: f64,
    /// Decoder of the `mae` teacher.
    pub decoder: Decoder,
}

/// How subnets are drawn in a step of supernet training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Largest, smallest, and `random_subnets` random ones.
    Sandwich,
    /// One random subnet.
    Uniform,
}

/// `[supernet]`: how the weight-sharing network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supernet {
    /// Epochs.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Most images at a time; a step's gradients are added up over them. Also the teacher's. 0: as many as the
    /// device likes.
    #[serde(default)]
    pub micro_batch: usize,
    /// Peak learning rate, not scaled by the batch.
    pub learning_rate: f64,
    /// Decoupled weight decay; slices not sampled in a step are left alone.
    pub weight_decay: f64,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Epochs of linear warm-up; cosine to zero afterwards.
    pub warmup_epochs: f64,
    /// Largest gradient norm; 0: no clipping.
    pub clip: f64,
    /// How subnets are drawn.
    pub sampling: Sampling,
    /// Random subnets per step, under `sandwich`.
    pub random_subnets: usize,
    /// Weight of the distillation from the largest subnet of the same step; 0: off.
    pub in_place: f64,
    /// Share of patches hidden, in (0, 1).
    pub mask_ratio: f64,
    /// Steps between checkpoints; one is written at the end of every epoch as well.
    pub checkpoint_steps: usize,
    /// Decoder shared by all subnets.
    pub decoder: Decoder,
}

/// `[objective]`: the supernet's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Name in the registry, such as `masked-distillation`.
    pub name: String,
    /// Weight of the error on hidden pixels; 0: off.
    pub pixel: f64,
    /// Weight of the smooth L1 distance to the teacher's features; 0: off.
    pub feature: f64,
    /// Weight of the divergence of token relations; 0: off.
    pub relation: f64,
    /// Temperature of the token relations.
    pub temperature: f64,
    /// Steps over which each term's mean is measured; the terms are then divided by it. 0: no scaling.
    pub scale_steps: usize,
}

/// `[score]`: how an architecture is rated without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Name in the registry, such as `relation-consistency`.
    pub name: String,
    /// Images of the frozen list, at most; taken from the val split.
    pub images: usize,
    /// Frozen masks per image.
    pub masks: usize,
    /// Share of patches hidden, in (0, 1).
    pub mask_ratio: f64,
    /// Temperature of the token relations.
    pub temperature: f64,
    /// Subnets scored once before the search; candidates are placed among them.
    pub reference_subnets: usize,
    /// Images per forward pass.
    pub batch: usize,
}

/// `[predictor]`: guesses an architecture's score from its genes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictor {
    /// Name in the registry; `none`: every candidate is scored.
    pub name: String,
    /// How the predictor is pre-trained on unscored architectures; `none`: not at all.
    pub pretrain: String,
}

/// `[sampler]`: who proposes architectures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerChoice {
    /// Name in the registry, such as `evolution` or `random`.
    pub name: String,
    /// Architectures scored in all.
    pub evaluations: usize,
    /// Random members of the first generation.
    pub population: usize,
    /// Members kept as parents.
    pub parents: usize,
    /// Mutants per generation.
    pub mutants: usize,
    /// Crossovers per generation.
    pub crossovers: usize,
    /// Probability that a gene of a block is redrawn in a mutant.
    pub mutate_each: f64,
    /// Probability that the depth, and the width, is redrawn in a mutant.
    pub mutate_structure: f64,
    /// Share of trials that the density of good ones is made of (`tpe`).
    #[serde(default = "gamma")]
    pub gamma: f64,
    /// Candidates that a model ranks before any is proposed (`tpe`, `npenas`).
    #[serde(default = "candidates")]
    pub candidates: usize,
    /// Proposals from one fit of the model (`npenas`, `seminas`, `block-dp`).
    #[serde(default = "batch")]
    pub batch: usize,
}

// Runs of versions without these keys stay readable.
fn gamma() -> f64 {
    0.1
}

fn candidates() -> usize {
    100
}

fn batch() -> usize {
    10
}

/// `[budget]`: limits of the search, as people write them; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetChoice {
    /// Latency, such as `5ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// Parameters, such as `2.1M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// Floating-point operations of one image, such as `0.3G`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<String>,
}

/// `[latency]`: how the target is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The device; `host`: this machine.
    pub target: String,
    /// Engines timed; the first one is the one a latency budget speaks of.
    pub engines: Vec<String>,
    /// Subnets timed to fit the model.
    pub samples: usize,
    /// Threads of the engine.
    pub threads: usize,
    /// Warm-up runs after loading.
    pub warmups: usize,
    /// Rounds; a reference network is timed in each.
    pub rounds: usize,
    /// Runs per round and network.
    pub runs: usize,
    /// Members of the front measured again at the end.
    pub finalists: usize,
    /// Execution provider of ONNX Runtime, such as `cuda`; none: its CPU's.
    #[serde(default)]
    pub provider: Option<String>,
    /// Times that networks are measured again whose times did not settle; of each the steadier measurement is kept.
    #[serde(default)]
    pub retries: usize,
    /// Whether a coarse figure from the catalogue stands in for measurements. Nothing is measured then, and no latency is
    /// proven.
    #[serde(default)]
    pub prior: bool,
}

/// The device that is this machine.
pub const HOST: &str = "host";

impl Latency {
    /// Whether the target is this machine.
    pub fn on_host(&self) -> bool {
        self.target == HOST
    }
}

/// `[finetune]`: training with labels after the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// Epochs.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Peak learning rate, not scaled by the batch.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Largest drop-path rate, at the last block.
    pub drop_path: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
}
