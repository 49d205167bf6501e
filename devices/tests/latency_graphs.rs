//! The latency model on the product's own features: graphs of random transformers on a simulated machine.

use masktas_devices::latency::{Adaptive, DEFAULT_MODEL, active, diverse, latency_model};
use masktas_devices::stats::Rng;
use masktas_devices::{HeldOut, Key, LatencyModel, Prediction, Sample};
use masktas_export::{Arch, LowerOptions, VitArch, VitBlock, lower};
use masktas_runtime::Features;

/// A member of a space like `vit-micro`: width, depth, and per block heads and ratio.
fn member(rng: &mut Rng) -> Arch {
    let embed = [96, 128, 160][rng.below(3)];
    let blocks = (0..6 + rng.below(3))
        .map(|_| VitBlock { heads: 2 + rng.below(3), hidden: embed * (2 + rng.below(3)) })
        .collect();
    Arch::Vit(VitArch { image: 32, patch: 4, embed, head_dim: 32, blocks, relative: None })
}

/// Milliseconds on a machine of 50 GFLOP/s and 10 GB/s that takes 3 microseconds to start an operation, where the slower of
/// computing and moving counts (so that the truth is not a linear model), with noise.
fn simulated(features: &Features, rng: &mut Rng) -> f64 {
    let of = |name: &str| features.get(name).unwrap();
    let roofline: f64 = ["conv", "linear", "matmul", "softmax", "norm", "gelu", "elementwise", "copy"]
        .iter()
        .map(|kind| (of(&format!("{kind}.flops")) / 50e9).max(of(&format!("{kind}.bytes")) / 10e9))
        .sum();
    let seconds = roofline + 3e-6 * of("total.launches");
    seconds * 1e3 * (1.0 + 0.03 * f64::from(rng.symmetric()))
}

fn key() -> Key {
    Key {
        engine: "simulated".into(),
        engine_version: "1".into(),
        provider: "cpu".into(),
        threads: 1,
        protocol: "p".into(),
        reference: "r".into(),
        fingerprint: "f".into(),
    }
}

fn features(rng: &mut Rng) -> Features {
    lower(&member(rng), None, &LowerOptions::default()).unwrap().features().unwrap()
}

fn judged(model: &dyn LatencyModel, tests: &[Sample]) -> HeldOut {
    let predictions: Vec<Prediction> = tests.iter().map(|s| model.predict(&s.features).unwrap()).collect();
    HeldOut::of(&predictions, &tests.iter().map(|s| s.ms).collect::<Vec<_>>()).unwrap()
}

#[test]
fn forty_measured_graphs_predict_the_rest_of_the_space() {
    let mut rng = Rng::new(3);
    let key = key();
    let samples: Vec<Sample> = (0..240)
        .map(|_| {
            let features = features(&mut rng);
            let ms = simulated(&features, &mut rng);
            Sample { features, ms, key: key.clone() }
        })
        .collect();
    let (train, test) = samples.split_at(40);
    let start = std::time::Instant::now();
    let mut model = latency_model(DEFAULT_MODEL).unwrap();
    model.fit(train).unwrap();
    eprintln!("fit of {} features: {:?}", train[0].features.names.len(), start.elapsed());
    let error = judged(model.as_ref(), test);
    eprintln!("{error:?}; {}", model.describe().unwrap());
    // Uniform noise of 3 % alone makes a mean error of 1.5 %.
    assert!(error.mape < 0.025 && error.within_5 > 0.95 && error.spearman.unwrap() > 0.97, "{error:?}");
    assert!((0.8..=1.0).contains(&error.coverage) && error.width < 0.12, "{error:?}");
    assert!((model.held_out().unwrap().mape / error.mape - 1.0).abs() < 0.4);
}

/// The search's way: diverse graphs first, then those about which the model knows least.
#[test]
fn samples_are_chosen_by_diversity_and_then_where_little_is_known() {
    let mut rng = Rng::new(5);
    let candidates: Vec<Features> = (0..300).map(|_| features(&mut rng)).collect();
    let sample =
        |rng: &mut Rng, f: &Features| Sample { features: f.clone(), ms: simulated(f, rng), key: key() };
    let mut samples: Vec<Sample> =
        diverse(&candidates, 20, 1).unwrap().iter().map(|i| sample(&mut rng, &candidates[*i])).collect();
    for _ in 0..4 {
        let mut model = Adaptive::default();
        model.fit(&samples).unwrap();
        let measured: Vec<Features> = samples.iter().map(|s| s.features.clone()).collect();
        let next = active(&model, &measured, &candidates, 5).unwrap();
        samples.extend(next.iter().map(|i| sample(&mut rng, &candidates[*i])).collect::<Vec<_>>());
    }
    let mut model = Adaptive::default();
    model.fit(&samples).unwrap();
    let tests: Vec<Sample> = (0..200)
        .map(|_| {
            let f = features(&mut rng);
            sample(&mut rng, &f)
        })
        .collect();
    let error = judged(&model, &tests);
    eprintln!("{error:?}; {}", model.describe().unwrap());
    assert!(samples.len() == 40 && error.mape < 0.022, "{error:?}");
}

/// A sampler asks tens of thousands of times, and nobody waits minutes for a fit.
#[test]
fn fits_and_predictions_are_quick() {
    let mut rng = Rng::new(7);
    let samples: Vec<Sample> = (0..2000)
        .map(|_| {
            let features = features(&mut rng);
            Sample { ms: simulated(&features, &mut rng), features, key: key() }
        })
        .collect();
    for n in [20, 90, 2000] {
        let start = std::time::Instant::now();
        let mut model = Adaptive::default();
        model.fit(&samples[..n]).unwrap();
        let fit = start.elapsed();
        let start = std::time::Instant::now();
        let sum: f64 = samples.iter().map(|s| model.predict(&s.features).unwrap().high).sum();
        let each = start.elapsed() / samples.len() as u32;
        eprintln!(
            "{n} samples: fit {fit:?}, prediction {each:?} ({:.1}); {}",
            sum,
            model.describe().unwrap()
        );
        // Far above what an idle machine takes, so that only another order of cost fails.
        assert!(fit.as_secs() < 30 && each.as_micros() < 300, "{fit:?} {each:?}");
    }
}
