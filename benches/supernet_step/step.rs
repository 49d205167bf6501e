//! The step that is timed: the default recipe's supernet, objective and optimiser on a fixed batch.

use std::error::Error;
use std::sync::Arc;

use masktas_export::{VitArch, VitBlock, Weights};
use masktas_runtime::Tensor;
use masktas_search::collective::Solo;
use masktas_search::device;
use masktas_search::objective::TermWeights;
use masktas_search::objective::masked_distillation::MaskedDistillation;
use masktas_search::rand::{Draw, stream};
use masktas_search::recipe::{Labels, Recipe};
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::extract::Network;
use masktas_search::supernet::{DecoderShape, Mask, Supernet};
use masktas_search::teacher::frozen::Frozen;
use masktas_search::train::{AdamWConfig, Lanes, Precision, Terms, Trainer};
use serde_json::{Value, json};

use crate::flops::{self, Patches};

/// Small and constant: what is timed does not depend on it, and losses stay comparable with PyTorch's.
const RATE: f64 = 1e-4;

/// Whom the step trains.
#[derive(Clone, Copy, PartialEq)]
pub enum Subnets {
    /// Largest, smallest and a random one, the same in every step.
    Sandwich,
    /// Largest, smallest and another random one in every step, as a search trains.
    Changing,
    /// The random one alone, a slice of the supernet.
    Slice,
    /// The random one alone, as a net of its own.
    Own,
}

/// What is timed.
pub struct Settings {
    /// Name of the space.
    pub space: String,
    /// Images per step.
    pub batch: usize,
    /// Name of the device.
    pub device: String,
    /// What products are computed in.
    pub precision: String,
    /// Lanes, on the CPU.
    pub lanes: usize,
    /// Images a lane takes at a time; 0: as many as the device likes.
    pub micro_batch: usize,
    /// Whom it trains.
    pub subnets: Subnets,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            space: "vit-micro".to_owned(),
            batch: 64,
            device: "flex".to_owned(),
            precision: "f32".to_owned(),
            lanes: 1,
            micro_batch: 0,
            subnets: Subnets::Sandwich,
        }
    }
}

/// A trainer with the batch, the masks and the subnets it is asked to train.
pub struct Step {
    trainer: Trainer,
    space: VitSpace,
    /// Steps done, where each draws a subnet.
    drawn: Option<u64>,
    recipe: Recipe,
    pixels: Vec<f32>,
    masks: Vec<Mask>,
    subnets: Vec<VitArch>,
    teacher: VitArch,
    network: Network,
}

impl Step {
    /// The step, of freshly drawn weights, the teacher's too.
    pub fn new(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let recipe = Recipe::load(None, None, &[])?;
        let space = VitSpace::load(&settings.space)?;
        let device = device::by_name(&settings.device)?;
        let random = space.vit(&space.sample(&mut stream(0, "bench/subnet", 0)));
        let largest = match settings.subnets {
            Subnets::Own => random.clone(),
            _ => space.largest_arch(),
        };
        let subnets = match settings.subnets {
            Subnets::Sandwich | Subnets::Changing => vec![largest.clone(), space.smallest_arch(), random],
            _ => vec![random],
        };
        let teacher = teacher_arch(&recipe, &largest);
        let (supernet, loss) = (&recipe.supernet, &recipe.objective);

        let mut rng = stream(0, "bench/pixels", 0);
        let count = settings.batch * 3 * largest.image * largest.image;
        let pixels: Vec<f32> = (0..count).map(|_| rng.normal() as f32).collect();
        let mut draw = || Mask::draw(&mut rng, largest.patches(), supernet.mask_ratio);
        let masks: Vec<Mask> = (0..settings.batch).map(|_| draw()).collect();

        let layers = &recipe.teacher.layers;
        let weights = TermWeights {
            pixel: loss.pixel,
            feature: loss.feature,
            relation: loss.relation,
            in_place: supernet.in_place,
        };
        let objective = MaskedDistillation::new(weights, loss.temperature, loss.scale_steps as u64);
        let config =
            AdamWConfig { betas: supernet.betas, weight_decay: supernet.weight_decay, clip: supernet.clip };
        let network = Network::new(&teacher, None, 2, &device);
        let trainer = Trainer::new(
            Supernet::new(&largest, decoder(&recipe), layers, teacher.embed, 1, &device),
            config,
            Box::new(objective),
            Some(Box::new(Frozen::new("mae", network.clone(), layers, Labels::None))),
            Box::new(Solo),
            Arc::new(Lanes::on(&device, settings.lanes)?),
        )
        .with_precision(Precision::by_name(&settings.precision, &device)?)
        .with_micro_batch(settings.micro_batch);
        let drawn = (settings.subnets == Subnets::Changing).then_some(0);
        Ok(Self { trainer, space, drawn, pixels, masks, subnets, teacher, recipe, network })
    }

    /// One optimiser step; its terms, which a GPU has when it is done with it.
    pub fn run(&mut self) -> masktas_search::Result<Terms> {
        if let Some(number) = &mut self.drawn {
            self.subnets[2] = self.space.vit(&self.space.sample(&mut stream(0, "bench/subnet", *number)));
            *number += 1;
        }
        self.trainer.step(&self.pixels, &self.masks, &self.subnets, RATE)
    }

    /// Bytes reserved on a GPU.
    pub fn reserved(&self) -> Option<u64> {
        device::reserved(self.trainer.supernet.params.device())
    }

    /// What another program needs to do the same step, weights apart.
    pub fn describe(&self) -> Value {
        let patches = Patches { seen: self.masks[0].seen.len(), masked: self.masks[0].masked.len() };
        let taps = self.recipe.teacher.layers.len();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "batch": self.masks.len(),
            "rate": RATE,
            "lanes": self.trainer.lanes().count(),
            "flops_per_image": flops::step(&self.subnets, &self.teacher, taps, decoder(&self.recipe), patches),
            "subnets": self.subnets,
            "teacher": self.teacher,
            "recipe": self.recipe,
        })
    }

    /// First weights of supernet and teacher (`teacher.…`), `[in, out]`, with `pixels`, `seen` and `masked`.
    pub fn start(&self) -> Result<Weights, Box<dyn Error>> {
        let (arch, supernet) = (&self.subnets[0], &self.trainer.supernet);
        start(supernet, &self.network, &self.pixels, &self.masks, arch)
    }
}

fn decoder(recipe: &Recipe) -> DecoderShape {
    let shape = &recipe.supernet.decoder;
    DecoderShape { width: shape.embed, depth: shape.depth, heads: shape.heads }
}

fn teacher_arch(recipe: &Recipe, space: &VitArch) -> VitArch {
    let teacher = &recipe.teacher;
    let block = VitBlock { heads: teacher.heads, hidden: (teacher.embed as f64 * teacher.ratio) as usize };
    VitArch {
        embed: teacher.embed,
        head_dim: teacher.embed / teacher.heads,
        blocks: vec![block; teacher.depth],
        ..space.clone()
    }
}

fn start(
    supernet: &Supernet,
    teacher: &Network,
    pixels: &[f32],
    masks: &[Mask],
    arch: &VitArch,
) -> Result<Weights, Box<dyn Error>> {
    let mut all = Weights::default();
    for (prefix, params) in [("", &supernet.params), ("teacher.", &teacher.params)] {
        for (name, shape, values) in params.to_host()? {
            all.tensors.insert(format!("{prefix}{name}"), Tensor::f32(shape, values)?);
        }
    }
    let places = |pick: fn(&Mask) -> &Vec<u32>| {
        let values: Vec<f32> = masks.iter().flat_map(pick).map(|place| *place as f32).collect();
        Tensor::f32([masks.len(), values.len() / masks.len()], values)
    };
    all.tensors.insert("pixels".into(), Tensor::f32([masks.len(), 3, arch.image, arch.image], pixels)?);
    all.tensors.insert("seen".into(), places(|mask| &mask.seen)?);
    all.tensors.insert("masked".into(), places(|mask| &mask.masked)?);
    Ok(all)
}
