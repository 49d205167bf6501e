use super::*;
use crate::latency::terms::{Role, scales};

/// Points and milliseconds, and the scales they were made with.
fn points(data: &[(Vec<f64>, f64)], roles: &[Role]) -> (Vec<Point>, Vec<f64>, Vec<f64>) {
    let scale = scales(data, roles);
    let points = data.iter().map(|(terms, _)| Point::new(terms, roles, &scale)).collect();
    (points, data.iter().map(|(_, ms)| *ms).collect(), scale)
}

use crate::stats::Rng;

fn uniform(rng: &mut Rng) -> f64 {
    f64::from(rng.symmetric())
}

/// Two sources that both resemble the target, and a count that matters too.
fn data(n: usize, seed: u64, noise: f64) -> Vec<(Vec<f64>, f64)> {
    let mut rng = Rng::new(seed);
    (0..n)
        .map(|_| {
            let (a, b, count) =
                (uniform(&mut rng), uniform(&mut rng), (3.0 * uniform(&mut rng)).round() + 4.0);
            let ln = 1.0 + 0.7 * a + 0.4 * b + 0.1 * (count / 4.0f64).ln_1p() + noise * uniform(&mut rng);
            (vec![(2.0 + a).exp(), (1.0 + b).exp(), count], ln.exp())
        })
        .collect()
}

const ROLES: [Role; 3] = [Role::Source, Role::Source, Role::Count];

#[test]
fn a_truth_in_logarithms_is_found() {
    let (known, ms, scale) = points(&data(40, 1, 0.0), &ROLES);
    let joint = Joint::fit(&Rows::new(&ROLES, &known, ms)).unwrap();
    for (terms, ms) in data(50, 2, 0.0) {
        let error = (joint.ln(&Point::new(&terms, &ROLES, &scale)) - ms.ln()).abs();
        assert!(error < 0.01, "{error}");
    }
}

/// The closed form of leave-one-out residuals is what refitting gives, when strengths and noise stay.
#[test]
fn left_out_residuals_are_those_of_refitting() {
    let (known, ms, _) = points(&data(12, 3, 0.1), &ROLES);
    let rows = Rows::new(&ROLES, &known, ms);
    let design = Design::new(&rows);
    let (strengths, noise) = ([1.0, 0.0, 0.3], 0.05);
    let y: Vec<f64> = rows.ms.iter().map(|ms| ms.ln()).collect();
    let covariance = design.covariance(strengths, noise);
    let all = solved(covariance.clone(), &y).unwrap();
    let n = y.len();
    for out in 0..n {
        let kept: Vec<usize> = (0..n).filter(|i| *i != out).collect();
        let smaller: Vec<f64> = kept
            .iter()
            .flat_map(|i| kept.iter().map(|j| covariance[i * n + j]).collect::<Vec<_>>())
            .collect();
        let part = solved(smaller, &kept.iter().map(|i| y[*i]).collect::<Vec<_>>()).unwrap();
        let predicted = part.constant
            + kept.iter().zip(&part.weights).map(|(i, w)| w * covariance[out * n + i]).sum::<f64>();
        let closed = all.weights[out] * all.variance[out];
        assert!((y[out] - predicted - closed).abs() < 1e-9, "{closed} {}", y[out] - predicted);
    }
}

#[test]
fn the_best_source_is_mapped() {
    let mut rows = data(15, 4, 0.0);
    for (terms, ms) in &mut rows {
        // The second source is the target, slower by a power and a factor.
        *ms = 3.0 * terms[1].powf(1.1);
    }
    let (known, ms, scale) = points(&rows, &ROLES);
    let map = Map::fit(&Rows::new(&ROLES, &known, ms.clone())).unwrap();
    assert_eq!(map.column, 1);
    assert!(
        (map.ln(&Point::new(&[9.0, 2.0, 1.0], &ROLES, &scale)) - (3.0 * 2.0f64.powf(1.1)).ln()).abs() < 1e-9
    );
    let own = [Role::Work, Role::Work, Role::Count];
    assert!(Map::fit(&Rows::new(&own, &known, ms)).is_none());
}
