//! Training on a GPU computes what the CPU computes: features, loss terms, gradients and the weights after a step of
//! AdamW. Many steps of it wait for nothing, keep to the memory they have, and in half precision lead where those in f32
//! lead. `make test-gpu` runs it through WGSL, for which a software driver will do, `make test-gpu DEVICE=vulkan` (or
//! `cuda`) on other devices.
#![cfg(feature = "tuned")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use burn::tensor::Device;
use masktas_export::{VitArch, VitBlock};
use masktas_runtime::Tolerance;
use masktas_runtime::tolerance::relative_difference;
use masktas_search::collective::Solo;
use masktas_search::device;
use masktas_search::objective::TermWeights;
use masktas_search::objective::masked_distillation::MaskedDistillation;
use masktas_search::rand::{Draw, stream};
use masktas_search::recipe::Labels;
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::extract::Network;
use masktas_search::supernet::{DecoderShape, Encoder, Mask, Supernet, Visible};
use masktas_search::teacher::frozen::Frozen;
use masktas_search::train::{AdamWConfig, Lanes, Precision, Terms, Trainer};

/// Images in the batch.
const IMAGES: usize = 8;
/// Depths whose features are distilled.
const LAYERS: [f64; 2] = [0.5, 1.0];
/// Width of the teacher's features.
const TEACHER: usize = 32;

/// Forward pass and loss: only the order of sums differs.
const FORWARD: f64 = Tolerance::F32.warn;
/// Gradients, relative to the largest of a matrix.
const GRADIENT: f64 = 1e-4;
/// Steps of a longer training.
const STEPS: u64 = 80;
/// Steps whose terms the objective takes note of.
const SCALE_STEPS: u64 = 3;

/// CPU and GPU.
fn devices() -> [Device; 2] {
    let gpu = std::env::var("MASKTAS_TEST_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    ["flex", gpu.as_str()].map(|name| match device::by_name(name) {
        Ok(device) => device,
        Err(error) => panic!("{error:?}; `make setup` installs a software driver for wgpu"),
    })
}

/// What both devices are given: images of noise, a mask each, and a sandwich of the tiny space's subnets.
struct Work {
    space: VitSpace,
    pixels: Vec<f32>,
    masks: Vec<Mask>,
    subnets: Vec<VitArch>,
}

impl Work {
    fn new() -> Self {
        let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny-space.toml");
        let space = VitSpace::load(definition.to_str().unwrap()).unwrap();
        let random = space.vit(&space.sample(&mut stream(1, "subnet", 0)));
        let subnets = vec![space.largest_arch(), space.smallest_arch(), random];
        let (side, patches) = (subnets[0].image, subnets[0].patches());
        let mut rng = stream(1, "pixels", 0);
        let pixels = (0..IMAGES * 3 * side * side).map(|_| rng.normal() as f32).collect();
        let masks = (0..IMAGES).map(|_| Mask::draw(&mut rng, patches, 0.5)).collect();
        Self { space, pixels, masks, subnets }
    }

    /// The supernet with its first weights, which are drawn on the host.
    fn supernet(&self, device: &Device) -> Supernet {
        let decoder = DecoderShape { width: 16, depth: 1, heads: 2 };
        Supernet::new(&self.subnets[0], decoder, &LAYERS, TEACHER, 2, device)
    }

    /// Every term of the loss, from a frozen teacher of random weights.
    fn trainer(&self, device: &Device, config: AdamWConfig) -> Trainer {
        self.trainer_of(device, config, 1.0)
    }

    /// As [`Work::trainer`], the loss weighing more.
    fn trainer_of(&self, device: &Device, config: AdamWConfig, weight: f64) -> Trainer {
        let blocks = vec![VitBlock { heads: 2, hidden: 2 * TEACHER }; 2];
        let arch = VitArch { embed: TEACHER, head_dim: TEACHER / 2, blocks, ..self.subnets[0].clone() };
        let teacher = Frozen::new("mae", Network::new(&arch, None, 3, device), &LAYERS, Labels::None);
        let weights = TermWeights { pixel: weight, feature: weight, relation: weight, in_place: weight };
        Trainer::new(
            self.supernet(device),
            config,
            Box::new(MaskedDistillation::new(weights, 0.1, SCALE_STEPS)),
            Some(Box::new(teacher)),
            Box::new(Solo),
            Arc::new(Lanes::on(device, 1).unwrap()),
        )
    }

    /// Step `number` of a training: a sandwich with another random subnet each time.
    fn sandwich(&self, trainer: &mut Trainer, number: u64) -> Terms {
        let mut subnets = self.subnets.clone();
        subnets[2] = self.space.vit(&self.space.sample(&mut stream(2, "subnet", number)));
        trainer.step(&self.pixels, &self.masks, &subnets, 1e-3).unwrap()
    }

    /// One step from the first weights.
    fn step(&self, device: &Device, config: AdamWConfig, rate: f64) -> Step {
        let mut trainer = self.trainer(device, config);
        let before = trainer.supernet.params.to_host().unwrap();
        let terms = trainer.step(&self.pixels, &self.masks, &self.subnets, rate).unwrap().read().unwrap();
        let after = trainer.supernet.params.to_host().unwrap();
        let changes = before.into_iter().zip(after).map(|((name, _, before), (_, _, after))| {
            let moved: Vec<f32> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
            (name, moved)
        });
        Step { terms, changes: changes.collect() }
    }
}

/// What a step said and did.
struct Step {
    /// Each term of the loss.
    terms: Vec<(&'static str, f64)>,
    /// How far every weight moved, matrix by matrix.
    changes: Vec<(String, Vec<f32>)>,
}

#[test]
fn gpu_forward_agrees_with_the_cpu() {
    let work = Work::new();
    let devices = devices();
    for arch in &work.subnets {
        let [cpu, gpu] = devices.each_ref().map(|device| {
            let supernet = work.supernet(device);
            let visible = Visible::all(&work.pixels, supernet.encoder.arch(), device);
            let tokens = supernet.encoder.encode(&supernet.params.frozen(), arch, &visible);
            Encoder::pool(tokens).try_into_vec_as::<f32>().unwrap()
        });
        assert_eq!(cpu.len(), IMAGES * arch.embed);
        let difference = relative_difference(&cpu, &gpu);
        println!("features of {} blocks, {} wide: {difference:.1e}", arch.blocks.len(), arch.embed);
        assert!(difference <= FORWARD, "{arch:?}: {difference:e}, allowed {FORWARD:e}");
    }
}

/// Gradients as AdamW sees them. Clipped to a norm far below AdamW's epsilon, they are what its first step moves the
/// weights by, times a constant: nothing hides how large they are. The rate is so large that what the weights were
/// does not round it away.
#[test]
fn gpu_gradients_agree_with_the_cpu() {
    let work = Work::new();
    let config = AdamWConfig { betas: [0.9, 0.95], weight_decay: 0.0, clip: 1e-9 };
    let [cpu, gpu] = devices().map(|device| work.step(&device, config, 1e3));

    let names: Vec<&str> = cpu.terms.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["pixel", "feature", "relation", "in_place"]);
    for ((name, cpu), (_, gpu)) in cpu.terms.iter().zip(&gpu.terms) {
        println!("{name}: {cpu:.6} on the CPU, {gpu:.6} on the adapter");
        assert!((cpu - gpu).abs() <= FORWARD * cpu.abs(), "{name}: {cpu} and {gpu}");
    }

    let mut worst = ("", 0.0f64);
    for ((name, cpu), (_, gpu)) in cpu.changes.iter().zip(&gpu.changes) {
        // Attention does not change when all keys move alike: the gradient of their bias is zero, and what is there is
        // rounding.
        if name.ends_with("attn.k.bias") {
            continue;
        }
        assert!(cpu.iter().any(|change| *change != 0.0), "{name} has no gradient");
        let difference = relative_difference(cpu, gpu);
        assert!(difference <= GRADIENT, "{name}: {difference:e}, allowed {GRADIENT:e}");
        if difference > worst.1 {
            worst = (name.as_str(), difference);
        }
    }
    println!("gradients: at most {:.1e} of a matrix's largest, in {}", worst.1, worst.0);
}

/// A step with the recipe's settings. AdamW's first step moves every weight by the rate, whatever the size of its
/// gradient; where that is next to nothing its sign is chance, so a few weights may lie two rates apart.
#[test]
fn gpu_step_agrees_with_the_cpu() {
    let work = Work::new();
    let rate = 1e-3;
    let config = AdamWConfig { betas: [0.9, 0.95], weight_decay: 0.05, clip: 1.0 };
    let [cpu, gpu] = devices().map(|device| work.step(&device, config, rate));
    let all = |step: Step| -> Vec<f32> { step.changes.into_iter().flat_map(|(_, moved)| moved).collect() };
    let (cpu, gpu) = (all(cpu), all(gpu));
    assert_eq!(cpu.len(), gpu.len());
    let differences: Vec<f64> = cpu.iter().zip(&gpu).map(|(a, b)| f64::from((a - b).abs())).collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    let apart = differences.iter().filter(|difference| **difference > 0.01 * rate).count();
    println!("weights: {apart} of {} more than 1 % of the rate apart, at most {largest:.1e}", cpu.len());
    assert!(differences.iter().all(|difference| *difference <= 2.01 * rate), "{largest:e}");
    assert!(apart * 50 <= cpu.len(), "{apart} of {} weights are more than 1 % of the rate apart", cpu.len());
}

/// The recipe's settings.
fn config() -> AdamWConfig {
    AdamWConfig { betas: [0.9, 0.95], weight_decay: 0.05, clip: 1.0 }
}

/// After the steps whose terms set the scale, nothing is read back and a step is not waited for; memory stays what it
/// is once every shape has been seen.
#[test]
fn gpu_steps_wait_for_nothing_and_keep_their_memory() {
    let work = Work::new();
    let [_, device] = devices();
    let mut trainer = work.trainer(&device, config());
    for number in 0..SCALE_STEPS {
        assert!(work.sandwich(&mut trainer, number).at_hand(), "step {number} sets the scale");
    }
    let mut reserved = Vec::new();
    for number in SCALE_STEPS..SCALE_STEPS + STEPS {
        let readings = device::readings();
        let terms = work.sandwich(&mut trainer, number);
        assert!(!terms.at_hand() && device::readings() == readings, "step {number} was waited for");
        if number % 10 == 0 {
            terms.read().unwrap();
            assert_eq!(device::readings(), readings + 1, "all terms in one transfer");
            reserved.push(device::reserved(&device).unwrap());
        }
    }
    println!("bytes reserved every 10 steps: {reserved:?}");
    let most = |part: &[u64]| part.iter().copied().max().unwrap() as f64;
    let (early, late) = reserved.split_at(reserved.len() / 2);
    assert!(most(late) <= 1.01 * most(early), "{reserved:?}");
}

/// One step, and what a user is told before it: run twice by the test below, each time as a process of its own.
#[test]
#[ignore = "another test runs it"]
fn kernels() {
    let [_, device] = devices();
    println!("{}", device::announcement(&device).unwrap());
    let work = Work::new();
    work.sandwich(&mut work.trainer(&device, config()), 0);
}

/// What the first process found to be fastest the second one knows.
#[test]
fn gpu_kernels_are_kept_between_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["kernels", "--exact", "--ignored", "--nocapture"]).env("MASKTAS_CACHE", folder.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said[said.find("training on").unwrap()..].lines().next().unwrap().to_owned()
    };
    let (first, second) = (run(), run());
    println!("{first}\n{second}");
    assert!(first.contains("is found first"), "{first}");
    assert!(second.contains("are known from"), "{second}");
}

/// In f16 a gradient too large for the type moves nothing; the loss scale falls until it fits.
#[test]
fn gpu_steps_that_overflow_are_passed_over() {
    let work = Work::new();
    let [_, device] = devices();
    let Ok(precision) = Precision::by_name("f16", &device) else {
        println!("this driver has no f16");
        return;
    };
    // Such a loss, scaled, has gradients far beyond 65,504.
    let mut trainer = work.trainer_of(&device, config(), 1e5).with_precision(precision);
    let weights = |trainer: &Trainer| trainer.supernet.params.to_host().unwrap();
    let first = weights(&trainer);
    work.sandwich(&mut trainer, 0).read().unwrap();
    assert_eq!(weights(&trainer), first, "a step that overflowed moved weights");
    let moves = (1..24).find(|number| {
        work.sandwich(&mut trainer, *number).read().unwrap();
        weights(&trainer) != first
    });
    println!("the loss scale fitted after {moves:?} steps");
    assert!(moves.is_some(), "no step was ever taken");
    assert!(weights(&trainer).iter().flat_map(|(.., values)| values).all(|value| value.is_finite()));
}

/// Where the driver computes in half precision, twenty steps lead to the loss that they lead to in f32.
#[test]
fn gpu_half_precision_leads_where_f32_leads() {
    let work = Work::new();
    let [_, device] = devices();
    let curve = |precision: Precision| -> Vec<Vec<(&'static str, f64)>> {
        let mut trainer = work.trainer(&device, config()).with_precision(precision);
        (0..20).map(|number| work.sandwich(&mut trainer, number).read().unwrap()).collect()
    };
    let exact = curve(Precision::F32);
    for name in ["f16", "bf16"] {
        let precision = match Precision::by_name(name, &device) {
            Ok(precision) => precision,
            Err(error) => {
                println!("{name} is not compared: {error}");
                continue;
            }
        };
        let rounded = curve(precision);
        for ((term, exact), (_, rounded)) in exact[19].iter().zip(&rounded[19]) {
            println!("{term} after 20 steps: {exact:.5} in f32, {rounded:.5} in {name}");
            assert!(
                (exact - rounded).abs() <= 0.05 * exact.abs(),
                "{term} in {name}: {rounded}, not {exact}"
            );
        }
        let (first, last) = (rounded[0][0].1, rounded[19][0].1);
        assert!(last < 0.95 * first, "{name}: the pixel term went from {first} to {last}");
        assert_ne!(rounded, exact, "{name}: nothing was rounded");
    }
}
