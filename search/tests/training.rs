//! Whole trainings: our operations against the plain composition, bf16 against f32, lanes against lanes, and memory
//! over ten thousand steps.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use masktas_export::{VitArch, VitBlock};
use masktas_search::collective::Solo;
use masktas_search::device;
use masktas_search::objective::TermWeights;
use masktas_search::objective::masked_distillation::MaskedDistillation;
use masktas_search::rand::{Draw, stream};
use masktas_search::recipe::Labels;
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::extract::Network;
use masktas_search::supernet::{DecoderShape, Mask, Supernet};
use masktas_search::teacher::frozen::Frozen;
use masktas_search::train::{AdamWConfig, Lanes, Precision, Trainer, bf16_available, keep_pages};

/// Steps of a training.
const STEPS: u64 = 500;
/// Images there are, and images of a step.
const IMAGES: usize = 64;
const BATCH: usize = 16;
/// Depths whose features are distilled, and the width of the teacher's.
const LAYERS: [f64; 2] = [0.5, 1.0];
const TEACHER: usize = 32;
/// How far a term of any step may be from the other path's: rounding, amplified by 500 steps of AdamW.
const EACH: f64 = 1e-3;
/// How far the mean of each term over the last hundred steps may be.
const LAST: f64 = 1e-4;

/// A supernet of the tiny space in the hands of a trainer, images of smooth blobs, and a sandwich each step.
struct Training {
    trainer: Trainer,
    space: VitSpace,
    pixels: Vec<f32>,
    seed: u64,
}

impl Training {
    fn new(seed: u64, lanes: usize, precision: Precision) -> Self {
        let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny-space.toml");
        let space = VitSpace::load(definition.to_str().unwrap()).unwrap();
        let largest = space.largest_arch();
        let device = device::by_name("flex").unwrap();
        let decoder = DecoderShape { width: 16, depth: 1, heads: 2 };
        let supernet = Supernet::new(&largest, decoder, &LAYERS, TEACHER, seed, &device);
        let blocks = vec![VitBlock { heads: 2, hidden: 2 * TEACHER }; 2];
        let arch = VitArch { embed: TEACHER, head_dim: TEACHER / 2, blocks, ..largest.clone() };
        let teacher = Frozen::new("mae", Network::new(&arch, None, 3, &device), &LAYERS, Labels::None);
        let weights = TermWeights { pixel: 1.0, feature: 1.0, relation: 1.0, in_place: 1.0 };
        let trainer = Trainer::new(
            supernet,
            AdamWConfig { betas: [0.9, 0.95], weight_decay: 0.05, clip: 1.0 },
            Box::new(MaskedDistillation::new(weights, 0.1, 20)),
            Some(Box::new(teacher)),
            Box::new(Solo),
            Arc::new(Lanes::new(lanes).unwrap()),
        )
        .with_precision(precision)
        .with_micro_batch(4);
        Self { trainer, pixels: blobs(largest.image), space, seed }
    }

    /// One step; the values of its terms.
    fn step(&mut self, step: u64) -> Vec<f64> {
        let mut rng = stream(self.seed, "test/step", step);
        let largest = self.space.largest_arch();
        let size = self.pixels.len() / IMAGES;
        let mut batch = Vec::with_capacity(BATCH * size);
        for _ in 0..BATCH {
            let image = (rng.unit() * IMAGES as f64) as usize % IMAGES;
            batch.extend_from_slice(&self.pixels[image * size..(image + 1) * size]);
        }
        let masks: Vec<Mask> = (0..BATCH).map(|_| Mask::draw(&mut rng, largest.patches(), 0.5)).collect();
        let random = self.space.vit(&self.space.sample(&mut rng));
        let subnets = [largest, self.space.smallest_arch(), random];
        let terms = self.trainer.step(&batch, &masks, &subnets, 1e-3).unwrap().read().unwrap();
        terms.into_iter().map(|(_, value)| value).collect()
    }

    fn curve(mut self) -> Vec<Vec<f64>> {
        (0..STEPS).map(|step| self.step(step)).collect()
    }
}

/// Images of a few smooth waves each.
fn blobs(side: usize) -> Vec<f32> {
    let mut rng = stream(1, "test/blobs", 0);
    let mut pixels = Vec::with_capacity(IMAGES * 3 * side * side);
    for _ in 0..IMAGES * 3 {
        let waves: Vec<[f64; 4]> = (0..3).map(|_| [0; 4].map(|_| rng.normal())).collect();
        for at in 0..side * side {
            let (x, y) = ((at % side) as f64 / side as f64, (at / side) as f64 / side as f64);
            let wave = |[a, b, c, d]: &[f64; 4]| a * (6.0 * (b * x + c * y) + d).sin();
            pixels.push(waves.iter().map(wave).sum::<f64>() as f32);
        }
    }
    pixels
}

/// Means of each term over the last hundred steps.
fn last(curve: &[Vec<f64>]) -> Vec<f64> {
    let tail = &curve[curve.len() - 100..];
    (0..tail[0].len()).map(|term| tail.iter().map(|step| step[term]).sum::<f64>() / 100.0).collect()
}

/// Largest relative difference between two curves, step by step, and between their ends.
fn apart(one: &[Vec<f64>], other: &[Vec<f64>]) -> [f64; 2] {
    let relative = |(a, b): (&f64, &f64)| {
        assert!(a.is_finite() && b.is_finite(), "{a} and {b}");
        (a - b).abs() / b.abs()
    };
    let most = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len(), "numbers of terms");
        a.iter().zip(b).map(relative).fold(0.0, f64::max)
    };
    let each = one.iter().zip(other).map(|(a, b)| most(a, b)).fold(0.0, f64::max);
    [each, most(&last(one), &last(other))]
}

fn agree(what: &str, one: &[Vec<f64>], other: &[Vec<f64>]) {
    assert_eq!(one.len(), other.len());
    let [each, end] = apart(one, other);
    println!("{what}: terms of a step at most {each:.1e} apart, of the last hundred {end:.1e}");
    assert!(each <= EACH, "{what}: {each} in a step, allowed {EACH}");
    assert!(end <= LAST, "{what}: {end} over the last hundred steps, allowed {LAST}");
}

/// Prints the curve of the plain composition, in a process of its own.
#[test]
#[ignore = "another test runs it"]
fn plain_curve() {
    let curve = Training::new(1, 1, Precision::F32).curve();
    println!("curve {}", serde_json::to_string(&curve).unwrap());
}

/// What this program prints after `key` when it runs one of its tests that are for that.
fn asked(test: &str, plain: bool, key: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--ignored"]).env_remove("MASKTAS_PLAIN");
    if plain {
        command.env("MASKTAS_PLAIN", "1");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = text.lines().find_map(|line| line.split_once(key)).map(|(_, rest)| rest.trim().to_owned());
    answer.unwrap_or_else(|| panic!("{test} ended with {}: {text}", output.status))
}

#[test]
fn our_operations_train_as_the_plain_composition() {
    let plain: Vec<Vec<f64>> = serde_json::from_str(&asked("plain_curve", true, "curve ")).unwrap();
    let ours = Training::new(1, 1, Precision::F32).curve();
    assert_ne!(ours, plain, "the plain path is not another path");
    agree("our operations and the plain composition", &ours, &plain);
    // The loss has to have moved for that to mean something.
    let (first, end) = (plain[0][0], last(&plain)[0]);
    assert!(end < 0.9 * first, "the pixel term went from {first} to {end}");
}

#[test]
fn lanes_agree_and_repeat() {
    let one = Training::new(1, 1, Precision::F32).curve();
    for lanes in [2, 3] {
        let more = Training::new(1, lanes, Precision::F32).curve();
        agree(&format!("1 and {lanes} lanes"), &more, &one);
        if lanes == 2 {
            assert_eq!(
                Training::new(1, lanes, Precision::F32).curve(),
                more,
                "the same training, bit for bit"
            );
        }
    }
}

#[test]
fn bf16_stays_within_the_noise_of_seeds() {
    if !bf16_available() {
        eprintln!("skipped: this processor has no AVX512-BF16");
        return;
    }
    let seeds = [1, 2, 3, 4];
    let ends = |precision| seeds.map(|seed| last(&Training::new(seed, 2, precision).curve()));
    let (exact, rounded) = (ends(Precision::F32), ends(Precision::Bf16));
    for (term, name) in ["pixel", "feature", "relation", "in_place"].into_iter().enumerate() {
        let values = exact.each_ref().map(|end| end[term]);
        let noise =
            values.iter().copied().fold(0.0, f64::max) - values.iter().copied().fold(f64::MAX, f64::min);
        let effects: Vec<f64> = exact.iter().zip(&rounded).map(|(a, b)| b[term] - a[term]).collect();
        let mean = effects.iter().sum::<f64>() / seeds.len() as f64;
        println!("{name}: f32 {values:.4?}, bf16 moves it by {effects:.5?}");
        assert!(mean.abs() <= noise / 2.0, "{name}: bf16 moves it by {mean}, seeds by {noise}");
    }
}

/// Resident memory of this process, in KiB; only Linux tells it this way.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Prints how memory grew over ten thousand steps, in a process of its own.
#[test]
#[ignore = "another test runs it"]
fn memory_of_ten_thousand_steps() {
    keep_pages();
    let mut training = Training::new(1, 2, Precision::F32);
    let mut run = |steps: std::ops::Range<u64>| {
        steps.for_each(|step| drop(training.step(step)));
        resident().expect("a size")
    };
    let before = run(0..500);
    println!("grown {}", run(500..10_000).saturating_sub(before));
}

#[test]
fn memory_does_not_grow() {
    if resident().is_none() {
        eprintln!("skipped: this system does not tell a process its memory");
        return;
    }
    let grown: u64 = asked("memory_of_ten_thousand_steps", false, "grown ").parse().unwrap();
    println!("9,500 steps after the first 500: {grown} KiB more");
    assert!(grown < 1024, "memory grew by {grown} KiB in 9,500 steps, allowed 1,024");
}
