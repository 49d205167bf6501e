use super::*;
use crate::latency::{Adaptive, Sample};
use crate::measure::tests::measurement;

fn features(values: &[f64]) -> Features {
    Features {
        version: 1,
        names: (0..values.len()).map(|i| format!("f{i}")).collect(),
        units: vec!["FLOP".into(); values.len()],
        values: values.to_vec(),
    }
}

fn candidates(n: usize, seed: u64) -> Vec<Features> {
    let mut rng = Rng::new(seed);
    let mut unit = || (f64::from(rng.symmetric()) + 1.0) / 2.0;
    (0..n).map(|_| features(&[1.0 + 9.0 * unit(), 1.0 + 9.0 * unit()])).collect()
}

#[test]
fn the_choice_is_a_set_that_depends_on_the_seed_alone() {
    let all = candidates(60, 1);
    let chosen = diverse(&all, 12, 3).unwrap();
    assert_eq!(chosen, diverse(&all, 12, 3).unwrap());
    let mut sorted = chosen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((chosen.len(), sorted.len()), (12, 12));
    assert_eq!(diverse(&all, 100, 3).unwrap().len(), 60);
    assert!(diverse(&all, 0, 3).unwrap().is_empty() && diverse(&[], 5, 3).unwrap().is_empty());
    assert!((1..9).any(|seed| diverse(&all, 12, seed).unwrap() != chosen));
}

/// Of many alike and a few unlike ones the unlike ones are chosen.
#[test]
fn what_is_unlike_is_chosen() {
    let mut all: Vec<Features> = (0..40).map(|i| features(&[5.0 + 0.001 * f64::from(i), 5.0])).collect();
    all.extend([features(&[1.0, 9.0]), features(&[9.0, 1.0]), features(&[9.0, 9.0])]);
    let chosen = diverse(&all, 4, 0).unwrap();
    assert!([40, 41, 42].iter().all(|unlike| chosen.contains(unlike)), "{chosen:?}");
    let mut mixed = all.clone();
    mixed[3].names[0] = "other".into();
    assert!(diverse(&mixed, 4, 0).is_err());
}

/// Models fitted to few diverse noisy samples err less than models fitted to as many random ones: ends of a line tell its slope.
#[test]
fn diversity_pays() {
    let key = measurement(1.0).key();
    let truth = |f: &Features| 0.5 + f.values[0] + 0.3 * f.values[1];
    let mut noise = Rng::new(9);
    let mut error = |samples: Vec<&Features>, tests: &[Features]| {
        let mut measure = |f: &Features| truth(f) * (1.0 + 0.15 * f64::from(noise.symmetric()));
        let samples: Vec<Sample> = samples
            .into_iter()
            .map(|f| Sample { features: f.clone(), ms: measure(f), key: key.clone() })
            .collect();
        let mut model = Adaptive::default();
        model.fit(&samples).unwrap();
        let errors = tests.iter().map(|f| (model.predict(f).unwrap().ms / truth(f) - 1.0).abs());
        errors.sum::<f64>() / tests.len() as f64
    };
    let (mut unlike, mut random) = (0.0, 0.0);
    for seed in 0..30 {
        let all = candidates(200, seed);
        let tests = candidates(200, seed + 50);
        unlike += error(diverse(&all, 12, seed).unwrap().iter().map(|i| &all[*i]).collect(), &tests);
        random += error(all.iter().take(12).collect(), &tests);
    }
    assert!(unlike < 0.95 * random, "{unlike} {random}");
}

/// The next ones are those about which the model knows least, and no two alike.
#[test]
fn active_choice_goes_where_little_is_known() {
    let key = measurement(1.0).key();
    // One corner was measured; the candidates are that corner, another one, and a copy of that.
    let known: Vec<Features> =
        (0..15).map(|i| features(&[2.0 + 0.1 * f64::from(i % 5), 2.0 + 0.1 * f64::from(i % 3)])).collect();
    let samples: Vec<Sample> = known
        .iter()
        .map(|f| Sample { features: f.clone(), ms: f.values[0] + 3.0 * f.values[1], key: key.clone() })
        .collect();
    let mut model = Adaptive::default();
    model.fit(&samples).unwrap();
    let new = [features(&[2.1, 2.1]), features(&[8.0, 2.0]), features(&[8.0, 2.001]), features(&[2.0, 8.0])];
    let chosen = active(&model, &known, &new, 2).unwrap();
    assert!(chosen.contains(&3) && !chosen.contains(&0), "{chosen:?}");
    assert_eq!(chosen.iter().filter(|i| [1, 2].contains(*i)).count(), 1, "{chosen:?}");
    assert_eq!(active(&model, &known, &new, 9).unwrap().len(), 4);
    assert!(active(&Adaptive::default(), &known, &new, 2).is_err());
}
