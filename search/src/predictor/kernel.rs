//! Regression on the embeddings of networks that were only pre-trained: nearby architectures have like scores.
//!
//! The guess of a Gaussian process (Rasmussen and Williams, 2006) with a squared-exponential kernel between the sums over nodes after each
//! layer, each at length 1: what is near a node, and what is far. Fitting bends a network towards a hundred values and away from much that
//! pre-training taught it; this reads what it taught as it is.

use super::ridge::inverse;

/// Variances of the noise that are tried, beside a variance of 1 of the scores; and squares of the kernel's length, in medians of the
/// squared distance between points. The pair that errs least on each point left out is taken.
const NOISES: [f64; 4] = [0.01, 0.03, 0.1, 0.3];
const LENGTHS: [f64; 3] = [0.5, 1.0, 2.0];

/// A fitted process for each head.
#[derive(Debug)]
pub(super) struct Kernel {
    points: Vec<Vec<f32>>,
    heads: Vec<Head>,
}

#[derive(Debug)]
struct Head {
    /// The square of the kernel's length.
    length: f64,
    /// One weight a point; 0 where the head has no value there.
    weights: Vec<f64>,
}

impl Kernel {
    /// Fits to the embeddings of rated architectures and their normal scores, one row each; NaN where a head has none.
    pub(super) fn fit(points: Vec<Vec<f32>>, rows: &[&[f64]]) -> Self {
        let apart: Vec<Vec<f64>> =
            points.iter().map(|one| points.iter().map(|other| distance(one, other)).collect()).collect();
        let mut pairs: Vec<f64> =
            apart.iter().enumerate().flat_map(|(at, row)| row[..at].iter().copied()).collect();
        pairs.sort_by(f64::total_cmp);
        let median = pairs.get(pairs.len() / 2).copied().unwrap_or(1.0).max(1e-9);
        let heads = rows.first().map_or(0, |row| row.len());
        let head = |head: usize| {
            let column: Vec<f64> = rows.iter().map(|row| row[head]).collect();
            Head::fit(&apart, median, &column)
        };
        let heads = (0..heads).map(head).collect();
        Self { points, heads }
    }

    /// One score a head.
    pub(super) fn guess(&self, point: &[f32]) -> Vec<f64> {
        let apart: Vec<f64> = self.points.iter().map(|other| distance(point, other)).collect();
        let of_head = |head: &Head| {
            let terms = head.weights.iter().zip(&apart);
            terms.map(|(weight, apart)| weight * (-apart / head.length).exp()).sum()
        };
        self.heads.iter().map(of_head).collect()
    }
}

impl Head {
    fn fit(apart: &[Vec<f64>], median: f64, column: &[f64]) -> Self {
        let known: Vec<usize> = (0..column.len()).filter(|at| !column[*at].is_nan()).collect();
        let mut best: Option<(f64, Self)> = None;
        for length in LENGTHS.map(|length| length * median) {
            for noise in NOISES {
                let near =
                    |a: usize, b: usize| (-apart[a][b] / length).exp() + if a == b { noise } else { 0.0 };
                let matrix = known.iter().map(|a| known.iter().map(|b| near(*a, *b)).collect()).collect();
                let (mut weights, mut error) = (vec![0.0; column.len()], 0.0);
                for (place, (row, at)) in inverse(matrix).iter().zip(&known).enumerate() {
                    weights[*at] = row.iter().zip(&known).map(|(value, other)| value * column[*other]).sum();
                    // The error with this one left out, in closed form.
                    error += (weights[*at] / row[place]).powi(2);
                }
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, Self { length, weights }));
                }
            }
        }
        best.map_or_else(|| Self { length: median, weights: vec![0.0; column.len()] }, |(_, head)| head)
    }
}

/// The square of the distance.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b) * (a - b))).sum()
}

/// Passes over all pairs in [`shares`]: with three guessers far more than are needed.
const PASSES: usize = 50;

/// The shares of several guessers, none below 0 and 1 together, with which they err least by squares: stacking (Wolpert, 1992).
///
/// `guesses`: one list a guesser. Where nothing tells them apart, the first has all.
pub(super) fn shares(guesses: &[Vec<f64>], wanted: &[f64]) -> Vec<f64> {
    let mut shares: Vec<f64> = (0..guesses.len()).map(|at| f64::from(u8::from(at == 0))).collect();
    let Some(first) = guesses.first() else { return shares };
    let mut left: Vec<f64> = wanted.iter().zip(first).map(|(wanted, guess)| wanted - guess).collect();
    for _ in 0..PASSES {
        for (from, to) in (0..guesses.len()).flat_map(|from| (0..from).map(move |to| (from, to))) {
            let steps: Vec<f64> =
                guesses[to].iter().zip(&guesses[from]).map(|(to, from)| to - from).collect();
            let with: f64 = left.iter().zip(&steps).map(|(left, step)| left * step).sum();
            let apart: f64 = steps.iter().map(|step| step * step).sum();
            if apart > 0.0 {
                let moved = (with / apart).clamp(-shares[to], shares[from]);
                shares[from] -= moved;
                shares[to] += moved;
                left.iter_mut().zip(&steps).for_each(|(left, step)| *left -= moved * step);
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::{Draw as _, stream};

    #[test]
    fn a_smooth_function_is_found_between_its_points() {
        let mut rng = stream(3, "test", 0);
        let points: Vec<Vec<f32>> = (0..80).map(|_| vec![rng.unit() as f32, rng.unit() as f32]).collect();
        let value = |p: &[f32]| (3.0 * f64::from(p[0])).sin() - f64::from(p[1]);
        // The second head knows every fourth point only.
        let row =
            |(at, p): (usize, &Vec<f32>)| vec![value(p), if at % 4 == 0 { -value(p) } else { f64::NAN }];
        let rows: Vec<Vec<f64>> = points.iter().enumerate().map(row).collect();
        let kernel = Kernel::fit(points, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for _ in 0..50 {
            let point = [0.1 + 0.8 * rng.unit() as f32, 0.1 + 0.8 * rng.unit() as f32];
            let guess = kernel.guess(&point);
            assert!((guess[0] - value(&point)).abs() < 0.1, "{point:?}: {} {}", guess[0], value(&point));
            assert!((guess[1] + value(&point)).abs() < 0.4, "{point:?}: {} {}", guess[1], -value(&point));
        }
    }

    #[test]
    fn shares_are_those_of_the_better_guessers() {
        let wanted = [1.0, -1.0, 2.0];
        let (right, nothing) = (vec![1.0, -1.0, 2.0], vec![0.0; 3]);
        let two = |one: &Vec<f64>, other: &Vec<f64>| shares(&[one.clone(), other.clone()], &wanted);
        assert_eq!(two(&nothing, &right), [0.0, 1.0]);
        assert_eq!(two(&right, &nothing), [1.0, 0.0]);
        assert_eq!(two(&vec![0.0, -2.0, 1.0], &vec![2.0, 0.0, 3.0]), [0.5, 0.5]);
        assert_eq!(two(&nothing, &nothing), [1.0, 0.0]);
        assert_eq!(shares(std::slice::from_ref(&right), &wanted), [1.0]);
    }

    /// Beside a fine grid of all shares that three may have.
    #[test]
    fn shares_of_three_err_least() {
        let mut rng = stream(4, "test", 0);
        for _ in 0..20 {
            let wanted: Vec<f64> = (0..30).map(|_| rng.normal()).collect();
            let noisy = |rng: &mut _, noise: f64| -> Vec<f64> {
                wanted.iter().map(|wanted| 0.8 * wanted + noise * crate::rand::Draw::normal(rng)).collect()
            };
            let guesses = [noisy(&mut rng, 0.5), noisy(&mut rng, 0.8), noisy(&mut rng, 0.6)];
            let error = |shares: &[f64]| -> f64 {
                let guess =
                    |at: usize| guesses.iter().zip(shares).map(|(g, share)| share * g[at]).sum::<f64>();
                wanted.iter().enumerate().map(|(at, wanted)| (guess(at) - wanted).powi(2)).sum()
            };
            let found = shares(&guesses, &wanted);
            assert!(
                (found.iter().sum::<f64>() - 1.0).abs() < 1e-9 && found.iter().all(|share| *share >= 0.0)
            );
            let steps = 50;
            for (a, b) in (0..=steps).flat_map(|a| (0..=steps - a).map(move |b| (a, b))) {
                let grid = [a, b, steps - a - b].map(|part| part as f64 / steps as f64);
                assert!(error(&found) <= error(&grid) + 1e-9, "{found:?} {grid:?}");
            }
        }
    }
}
