use proptest::prelude::*;

use super::*;
use crate::latency::from_json;
use crate::measure::tests::measurement;
use crate::stats::Rng;

fn features(values: &[f64]) -> Features {
    Features {
        version: 1,
        names: (0..values.len()).map(|i| format!("f{i}")).collect(),
        units: vec!["1".into(); values.len()],
        values: values.to_vec(),
    }
}

fn sample(values: &[f64], ms: f64) -> Sample {
    Sample { features: features(values), ms, key: measurement(1.0).key() }
}

/// Linear truth with relative noise.
fn linear(n: usize, noise: f64, seed: u64) -> Vec<Sample> {
    let mut rng = Rng::new(seed);
    (0..n)
        .map(|_| {
            let mut unit = || (f64::from(rng.symmetric()) + 1.0) / 2.0;
            let values =
                [1e6 * (1.0 + 9.0 * unit()), 1e3 * (1.0 + 4.0 * unit()), 12.0 + (6.0 * unit()).floor()];
            let truth = 2e-6 * values[0] + 1e-3 * values[1] + 0.5;
            sample(&values, truth * (1.0 + noise * (2.0 * unit() - 1.0)))
        })
        .collect()
}

#[test]
fn a_linear_truth_is_found() {
    let mut ridge = Ridge::default();
    ridge.fit(&linear(60, 0.0, 1)).unwrap();
    let held_out = ridge.held_out().unwrap();
    assert!(held_out.mape < 0.005 && held_out.within_5 == 1.0, "{held_out:?}");
    let p = ridge.predict(&features(&[5e6, 3e3, 15.0])).unwrap();
    assert!((p.ms - 13.5).abs() < 0.1 && !p.extrapolated, "{p:?}");
    let (_, coefficients) = ridge.coefficients().unwrap();
    assert_eq!(coefficients.last().unwrap().0, "constant");
    assert!(coefficients.iter().all(|(_, c)| *c >= 0.0));
    assert!((coefficients[0].1 / 2e-6 - 1.0).abs() < 0.02);
}

/// Pooled over draws, the 90 % interval covers 90 % of fresh points, and the model's own estimate of its error is honest.
#[test]
fn the_interval_and_the_held_out_error_tell_the_truth() {
    let (mut covered, mut total, mut own, mut fresh) = (0, 0, 0.0, 0.0);
    for seed in 0..20 {
        let mut ridge = Ridge::default();
        ridge.fit(&linear(40, 0.08, seed)).unwrap();
        own += ridge.held_out().unwrap().mape;
        let test = linear(100, 0.08, seed + 1000);
        let predictions: Vec<Prediction> = test.iter().map(|s| ridge.predict(&s.features).unwrap()).collect();
        let measured: Vec<f64> = test.iter().map(|s| s.ms).collect();
        let error = HeldOut::of(&predictions, &measured).unwrap();
        fresh += error.mape;
        covered += (error.coverage * 100.0).round() as usize;
        total += 100;
    }
    let coverage = covered as f64 / f64::from(total);
    assert!((0.87..0.94).contains(&coverage), "{coverage}");
    assert!((own / fresh - 1.0).abs() < 0.15, "{own} {fresh}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_of_measurements_does_not_matter(seed in 0u64..1000) {
        let mut samples = linear(25, 0.1, seed);
        let mut a = Ridge::default();
        a.fit(&samples).unwrap();
        Rng::new(seed).shuffle(&mut samples);
        let mut b = Ridge::default();
        b.fit(&samples).unwrap();
        prop_assert_eq!(a, b);
    }
}

#[test]
fn a_stored_model_predicts_the_same() {
    let mut ridge = Ridge::default();
    assert!(matches!(ridge.predict(&features(&[1.0])), Err(Error::NotFitted { .. })));
    ridge.fit(&linear(30, 0.05, 3)).unwrap();
    let stored = from_json(&ridge.to_json().unwrap()).unwrap();
    let x = features(&[3.3e6, 2.2e3, 13.0]);
    assert_eq!(stored.predict(&x).unwrap(), ridge.predict(&x).unwrap());
    assert_eq!(stored.held_out().unwrap(), ridge.held_out().unwrap());
    assert_eq!(stored.key().unwrap(), ridge.key().unwrap());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let fit = |change: fn(&mut Sample)| {
        let mut samples = linear(20, 0.0, 1);
        change(&mut samples[7]);
        Ridge::default().fit(&samples).unwrap_err().to_string()
    };
    assert!(fit(|s| s.key.protocol = "other".into()).contains("protocols"));
    assert!(fit(|s| s.key.fingerprint = "other".into()).contains("machines"));
    assert!(fit(|s| s.features.version = 2).contains("version is 2"));
    assert!(fit(|s| s.features.names[0] = "other".into()).contains("names"));
    assert!(fit(|s| s.features.values[1] = f64::NAN).contains("f1"));
    assert!(fit(|s| s.ms = 0.0).contains("0 ms"));
    assert!(matches!(
        Ridge::default().fit(&linear(9, 0.0, 1)),
        Err(Error::TooFewSamples { got: 9, need: MIN_SAMPLES })
    ));
}

#[test]
fn far_away_graphs_are_marked() {
    let mut ridge = Ridge::default();
    ridge.fit(&linear(40, 0.05, 2)).unwrap();
    assert!(ridge.predict(&features(&[5e7, 3e3, 15.0])).unwrap().extrapolated);
    assert!(!ridge.predict(&features(&[5e6, 3e3, 15.0])).unwrap().extrapolated);
}
