//! The teacher and supernet chapters.

use std::path::PathBuf;

use masktas_export::{VitArch, VitBlock, Weights};

use super::Workshop;
use crate::collective::Solo;
use crate::error::{Error, Result};
use crate::objective::masked_distillation::MaskedDistillation;
use crate::objective::{self, TermWeights};
use crate::progress::Progress;
use crate::rand::stream;
use crate::recipe::{self, Labels, Sampling};
use crate::run::{CurveRow, Phase, Run};
use crate::space::{Space, VitSpace};
use crate::supernet::extract::{Network, extract};
use crate::supernet::{DecoderShape, Supernet};
use crate::teacher::ema::Ema;
use crate::teacher::file::{Card, PIN, TeacherFile, keep};
use crate::teacher::frozen::Frozen;
use crate::teacher::{TaughtBy, Teacher};
use crate::train::{AdamWConfig, Course, CurvePoint, Trainer};

/// MAE's decay rates.
const BETAS: [f64; 2] = [0.9, 0.95];

/// Name of the run's document with the projectors' depths and width.
pub(super) const SHAPE: &str = "projectors";

/// Who teaches, before the supernet exists.
pub(crate) enum Choice {
    /// A network of its own.
    Frozen(Box<Frozen>),
    /// The average of the largest subnet.
    Average,
}

/// The run's own file of its teacher, in timm/MAE naming: the one pre-trained, or a copy of the one given.
pub(crate) fn teacher_file(run: &Run) -> PathBuf {
    run.models().join("teacher.safetensors")
}

/// Gets the teacher the recipe names, pre-training it if it has to be made.
pub(crate) fn teacher(run: &mut Run, shop: &Workshop, progress: &mut dyn Progress) -> Result<Choice> {
    let settings = &shop.recipe.teacher;
    let space = shop.space.largest_arch();
    let teacher = match settings.name.as_str() {
        "ema" => {
            TaughtBy { name: "ema".into(), labels: Labels::None }.store(run)?;
            return Ok(Choice::Average);
        }
        "file" => {
            let given = settings.path.as_ref().ok_or_else(|| Error::Invalid {
                thing: "[teacher]".into(),
                problem: "name = \"file\" without a path".into(),
                next: "set teacher.path to a safetensors file in timm or MAE naming".into(),
            })?;
            let own = teacher_file(run);
            let path = if own.is_file() { &own } else { given };
            let pinned: Option<String> = run.get_doc(PIN)?;
            let file = TeacherFile::load(path, pinned.as_deref(), settings, shop.images.stats())?;
            if file.card.is_none() {
                progress.say(&format!(
                    "{} does not describe itself: it gets teacher.heads = {}, teacher.labels = {}, and images normalised \
                     as the student's",
                    path.display(),
                    settings.heads,
                    file.labels.name()
                ));
            }
            let network = Network::from_weights(&file.arch, None, &file.weights, 0, &shop.device)?;
            let teacher = Frozen::new("file", network, &settings.layers, file.labels);
            teacher.fits(&space)?;
            run.put_doc(PIN, &file.sha256)?;
            // From here on the run needs the given file no more.
            if !own.is_file() {
                keep(path, &file.sha256, &own)?;
            }
            teacher
        }
        _ => {
            let arch = arch(settings, &space);
            let path = teacher_file(run);
            if !run.is_done(Phase::Teacher)? {
                let weights = pretrain(run, shop, &arch, progress)?;
                let images = &shop.images;
                let card = Card::new(&arch, Labels::None, images.stats(), &images.split().source_sha);
                card.save(&weights, &path)?;
                run.mark(Phase::Teacher)?;
            }
            let network = Network::from_weights(&arch, None, &Weights::load(&path)?, 0, &shop.device)?;
            Frozen::new("mae", network, &settings.layers, Labels::None)
        }
    };
    let told = TaughtBy { name: teacher.name().to_string(), labels: teacher.labels() };
    if let Some(doubt) = told.doubt() {
        progress.say(doubt);
    }
    told.store(run)?;
    Ok(Choice::Frozen(Box::new(teacher)))
}

/// The `mae` teacher's architecture.
fn arch(settings: &recipe::Teacher, space: &VitArch) -> VitArch {
    let block = VitBlock { heads: settings.heads, hidden: (settings.embed as f64 * settings.ratio) as usize };
    VitArch {
        embed: settings.embed,
        head_dim: settings.embed / settings.heads.max(1),
        blocks: vec![block; settings.depth],
        relative: None,
        ..space.clone()
    }
}

/// Masked-autoencoder pre-training of a fixed network: a supernet with one member and pixels only.
fn pretrain(run: &mut Run, shop: &Workshop, arch: &VitArch, progress: &mut dyn Progress) -> Result<Weights> {
    let settings = &shop.recipe.teacher;
    let seed = shop.recipe.seed;
    let network = Supernet::new(arch, decoder(&settings.decoder), &[], 0, stream_seed(seed, 1), &shop.device);
    let weights = TermWeights { pixel: 1.0, feature: 0.0, relation: 0.0, in_place: 0.0 };
    let objective = Box::new(MaskedDistillation::new(weights, 1.0, 0));
    let config =
        AdamWConfig { betas: BETAS, weight_decay: settings.weight_decay, clip: shop.recipe.supernet.clip };
    let mut trainer = Trainer::new(network, config, objective, None, Box::new(Solo), shop.lanes.clone())
        .with_precision(shop.precision()?)
        .with_micro_batch(shop.recipe.supernet.micro_batch);
    let course = Course {
        purpose: "teacher",
        seed,
        epochs: settings.epochs,
        batch: settings.batch,
        mask_ratio: settings.mask_ratio,
        learning_rate: settings.learning_rate,
        warmup_epochs: settings.warmup_epochs,
        checkpoint_steps: shop.recipe.supernet.checkpoint_steps,
        augment: shop.augment(),
    };
    let saved = run.checkpoint("teacher");
    let only = |_: u64| vec![arch.clone()];
    let mut curve = |point: CurvePoint<'_>| run.put_curve("teacher", &rows(point));
    course.run(&mut trainer, &shop.images, &only, &saved, &mut curve, progress)?;
    extract(&trainer.supernet.params, &trainer.supernet.encoder, arch)
}

/// Trains the supernet, or finds it trained; returns it with the teacher it learnt from.
pub(crate) fn supernet(
    run: &mut Run,
    shop: &Workshop,
    teacher: Choice,
    progress: &mut dyn Progress,
) -> Result<(Supernet, Box<dyn Teacher>)> {
    let (settings, objective) = (&shop.recipe.supernet, &shop.recipe.objective);
    let largest = shop.space.largest_arch();
    let layers = &shop.recipe.teacher.layers;
    let taps: &[f64] = if objective.feature > 0.0 { layers } else { &[] };
    let width = match &teacher {
        Choice::Frozen(teacher) => teacher.width(),
        Choice::Average => largest.embed,
    };
    run.put_doc(SHAPE, &(taps.to_vec(), width))?;
    let seed = shop.recipe.seed;
    let network =
        Supernet::new(&largest, decoder(&settings.decoder), taps, width, stream_seed(seed, 2), &shop.device);
    let teacher: Box<dyn Teacher> = match teacher {
        Choice::Frozen(teacher) => teacher,
        Choice::Average => Box::new(Ema::new(&network, shop.recipe.teacher.ema_decay, layers)),
    };
    let loss = objective::by_name(objective, settings.in_place)?;
    let config =
        AdamWConfig { betas: settings.betas, weight_decay: settings.weight_decay, clip: settings.clip };
    let mut trainer = Trainer::new(network, config, loss, Some(teacher), Box::new(Solo), shop.lanes.clone())
        .with_precision(shop.precision()?)
        .with_micro_batch(shop.recipe.supernet.micro_batch);
    let course = Course {
        purpose: "supernet",
        seed,
        epochs: settings.epochs,
        batch: settings.batch,
        mask_ratio: settings.mask_ratio,
        learning_rate: settings.learning_rate,
        warmup_epochs: settings.warmup_epochs,
        checkpoint_steps: settings.checkpoint_steps,
        augment: shop.augment(),
    };
    let saved = run.checkpoint("supernet");
    let who = |step: u64| subnets(&shop.space, settings, seed, step);
    let mut curve = |point: CurvePoint<'_>| run.put_curve("supernet", &rows(point));
    course.run(&mut trainer, &shop.images, &who, &saved, &mut curve, progress)?;
    run.mark(Phase::Supernet)?;
    let teacher = trainer.teacher.ok_or(Error::NoProjector)?;
    Ok((trainer.supernet, teacher))
}

/// Whom a step trains: the sandwich (largest first, so that it can teach the others), or one random subnet.
fn subnets(space: &VitSpace, settings: &recipe::Supernet, seed: u64, step: u64) -> Vec<VitArch> {
    let mut rng = stream(seed, "supernet/subnets", step);
    let mut random = || space.vit(&space.sample(&mut rng));
    match settings.sampling {
        Sampling::Uniform => vec![random()],
        Sampling::Sandwich => {
            let ends = [space.largest_arch(), space.smallest_arch()];
            ends.into_iter().chain((0..settings.random_subnets).map(|_| random())).collect()
        }
    }
}

pub(crate) fn decoder(settings: &recipe::Decoder) -> DecoderShape {
    DecoderShape { width: settings.embed, depth: settings.depth, heads: settings.heads }
}

fn rows((step, terms): CurvePoint<'_>) -> Vec<CurveRow> {
    terms.iter().map(|(name, value)| CurveRow { step, name: (*name).to_string(), value: *value }).collect()
}

/// Depths and width of the projectors of a run's supernet.
pub(crate) fn supernet_shape(run: &Run) -> Result<(Vec<f64>, usize)> {
    let shape = run.get_doc(SHAPE)?;
    shape.ok_or_else(|| Error::NotARun {
        path: run.folder().to_path_buf(),
        problem: "its supernet was never built".into(),
        next: "go on with it by --resume".into(),
    })
}

/// Seeds of the networks' first weights: the same seed must not give teacher and supernet the same weights.
fn stream_seed(seed: u64, network: u64) -> u64 {
    use rand_core::Rng as _;
    stream(seed, "weights", network).next_u64()
}
