//! The latency model on the product's own features: graphs of random transformers on a simulated machine.

use masktas_devices::stats::Rng;
use masktas_devices::{HeldOut, Key, LatencyModel, Prediction, Ridge, Sample};
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

#[test]
fn forty_measured_graphs_predict_the_rest_of_the_space() {
    let mut rng = Rng::new(3);
    let key = Key {
        engine: "simulated".into(),
        engine_version: "1".into(),
        provider: "cpu".into(),
        threads: 1,
        protocol: "p".into(),
        reference: "r".into(),
        fingerprint: "f".into(),
    };
    let samples: Vec<Sample> = (0..240)
        .map(|_| {
            let features =
                lower(&member(&mut rng), None, &LowerOptions::default()).unwrap().features().unwrap();
            let ms = simulated(&features, &mut rng);
            Sample { features, ms, key: key.clone() }
        })
        .collect();
    let (train, test) = samples.split_at(40);
    let start = std::time::Instant::now();
    let mut ridge = Ridge::default();
    ridge.fit(train).unwrap();
    eprintln!("fit of {} features: {:?}", train[0].features.names.len(), start.elapsed());
    let predictions: Vec<Prediction> = test.iter().map(|s| ridge.predict(&s.features).unwrap()).collect();
    let measured: Vec<f64> = test.iter().map(|s| s.ms).collect();
    let error = HeldOut::of(&predictions, &measured).unwrap();
    eprintln!("{error:?}; own estimate {:?}", ridge.held_out().unwrap());
    // Uniform noise of 3 % alone makes a mean error of 1.5 %.
    assert!(error.mape < 0.025 && error.within_5 > 0.95 && error.spearman.unwrap() > 0.97, "{error:?}");
    assert!((0.8..=1.0).contains(&error.coverage) && error.width < 0.12, "{error:?}");
    assert!((ridge.held_out().unwrap().mape / error.mape - 1.0).abs() < 0.4);
}
