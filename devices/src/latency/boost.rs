//! Gradient-boosted regression trees on what a sum of terms leaves unexplained (Friedman, 2001).

use serde::{Deserialize, Serialize};

/// Trees of an ensemble.
const TREES: usize = 120;
/// Share of each tree's answer that counts.
const RATE: f64 = 0.1;
/// Splits between root and leaf.
const DEPTH: usize = 3;
/// Fewest measurements of a leaf.
const LEAF: usize = 5;
/// Most bins of a term, so that a bin number fits a byte.
const BINS: usize = 255;

/// A sum of small trees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Boost {
    trees: Vec<Tree>,
}

/// A complete tree: inner nodes level by level, then leaves. A node sends `term <= threshold` left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    splits: Vec<Option<(usize, f64)>>,
    leaves: Vec<f64>,
}

/// Terms of all rows as bin numbers, and the largest value of each bin.
struct Binned {
    bins: Vec<Vec<u8>>,
    ends: Vec<Vec<f64>>,
}

impl Binned {
    fn new(rows: &[&[f64]], columns: usize) -> Self {
        let (mut bins, mut ends) = (Vec::with_capacity(columns), Vec::with_capacity(columns));
        for column in 0..columns {
            let values: Vec<f64> = rows.iter().map(|row| row.get(column).copied().unwrap_or(0.0)).collect();
            let sorted = crate::stats::sorted(&values);
            let mut own: Vec<f64> = (1..=BINS)
                .filter_map(|bin| sorted.get((bin * sorted.len()).div_ceil(BINS).max(1) - 1).copied())
                .collect();
            own.dedup();
            bins.push(
                values.iter().map(|value| own.partition_point(|end| end < value).min(BINS) as u8).collect(),
            );
            ends.push(own);
        }
        Self { bins, ends }
    }
}

impl Boost {
    /// Fits `targets` (logarithms of measured over predicted) of `rows`, each of `columns` terms.
    pub(super) fn fit(rows: &[&[f64]], columns: usize, targets: &[f64]) -> Self {
        let binned = Binned::new(rows, columns);
        let mut left: Vec<f64> = targets.to_vec();
        let mut trees = Vec::with_capacity(TREES);
        for _ in 0..TREES {
            let (tree, answers) = Tree::grow(&binned, &left);
            for (left, answer) in left.iter_mut().zip(&answers) {
                *left -= answer;
            }
            trees.push(tree);
        }
        Self { trees }
    }

    /// What the trees add, in logarithms.
    pub(super) fn at(&self, terms: &[f64]) -> f64 {
        self.trees.iter().map(|tree| tree.at(terms)).sum()
    }

    /// Whether a term has any say.
    pub(super) fn uses(&self, column: usize) -> bool {
        self.trees.iter().flat_map(|tree| &tree.splits).flatten().any(|(own, _)| *own == column)
    }
}

impl Tree {
    /// Grows a tree on `targets`; also its answer for each row.
    fn grow(binned: &Binned, targets: &[f64]) -> (Self, Vec<f64>) {
        let mut places = vec![0usize; targets.len()];
        let mut splits = Vec::with_capacity((1 << DEPTH) - 1);
        for level in 0..DEPTH {
            let nodes = 1usize << level;
            let found = best_splits(binned, targets, &places, nodes);
            for (place, row) in places.iter_mut().zip(0usize..) {
                let right = found.get(*place).copied().flatten().is_some_and(|(column, bin)| {
                    binned.bins.get(column).and_then(|bins| bins.get(row)).is_some_and(|own| *own > bin)
                });
                *place = 2 * *place + usize::from(right);
            }
            splits.extend(found.into_iter().map(|split| {
                let (column, bin) = split?;
                Some((column, *binned.ends.get(column)?.get(usize::from(bin))?))
            }));
        }
        let mut sums = [(0.0f64, 0usize); 1 << DEPTH];
        for (place, target) in places.iter().zip(targets) {
            if let Some((sum, n)) = sums.get_mut(*place) {
                *sum += target;
                *n += 1;
            }
        }
        let leaves: Vec<f64> =
            sums.iter().map(|(sum, n)| if *n > 0 { RATE * sum / *n as f64 } else { 0.0 }).collect();
        let answers = places.iter().map(|place| leaves.get(*place).copied().unwrap_or(0.0)).collect();
        (Self { splits, leaves }, answers)
    }

    fn at(&self, terms: &[f64]) -> f64 {
        let (mut node, mut place) = (0, 0);
        for _ in 0..DEPTH {
            let right = match self.splits.get(node) {
                Some(Some((column, threshold))) => terms.get(*column).is_some_and(|term| term > threshold),
                _ => false,
            };
            node = 2 * node + 1 + usize::from(right);
            place = 2 * place + usize::from(right);
        }
        self.leaves.get(place).copied().unwrap_or(0.0)
    }
}

/// The split of each node of one level that lowers the squared error most; `None` where none does.
fn best_splits(binned: &Binned, targets: &[f64], places: &[usize], nodes: usize) -> Vec<Option<(usize, u8)>> {
    let mut totals = vec![(0.0f64, 0usize); nodes];
    for (place, target) in places.iter().zip(targets) {
        if let Some((sum, n)) = totals.get_mut(*place) {
            *sum += target;
            *n += 1;
        }
    }
    let mut best = vec![(1e-12f64, None); nodes];
    let mut histogram = vec![(0.0f64, 0usize); nodes * (BINS + 1)];
    for (column, (bins, ends)) in binned.bins.iter().zip(&binned.ends).enumerate() {
        if ends.len() < 2 {
            continue;
        }
        histogram.fill((0.0, 0));
        for ((bin, place), target) in bins.iter().zip(places).zip(targets) {
            if let Some((sum, n)) = histogram.get_mut(place * (BINS + 1) + usize::from(*bin)) {
                *sum += target;
                *n += 1;
            }
        }
        for ((own, (total, all)), best) in histogram.chunks_exact(BINS + 1).zip(&totals).zip(&mut best) {
            let (mut sum, mut n) = (0.0, 0usize);
            for (bin, (more, count)) in (0u8..).zip(own.iter().take(ends.len() - 1)) {
                sum += more;
                n += count;
                let rest = all - n;
                if *count == 0 || n < LEAF || rest < LEAF {
                    continue;
                }
                let gain =
                    sum * sum / n as f64 + (total - sum).powi(2) / rest as f64 - total * total / *all as f64;
                if gain > best.0 {
                    *best = (gain, Some((column, bin)));
                }
            }
        }
    }
    best.into_iter().map(|(_, split)| split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rng;

    /// A step in one of two terms is found, whatever the other does.
    #[test]
    fn a_step_is_found() {
        let mut rng = Rng::new(1);
        let rows: Vec<[f64; 2]> =
            (0..400).map(|_| [f64::from(rng.symmetric()), f64::from(rng.symmetric())]).collect();
        let slices: Vec<&[f64]> = rows.iter().map(|row| row.as_slice()).collect();
        let step = |row: &[f64]| if row[0] > 0.25 { 0.3 } else { -0.1 };
        let targets: Vec<f64> = slices.iter().map(|row| step(row)).collect();
        let boost = Boost::fit(&slices, 2, &targets);
        for x in [-0.9, -0.2, 0.2, 0.3, 0.9] {
            assert!((boost.at(&[x, 0.0]) - step(&[x, 0.0])).abs() < 0.01, "{x} {}", boost.at(&[x, 0.0]));
        }
        assert!(boost.uses(0));
    }

    #[test]
    fn nothing_to_find_is_harmless() {
        assert_eq!(Boost::fit(&[], 3, &[]).at(&[1.0, 2.0, 3.0]), 0.0);
        let rows: Vec<[f64; 1]> = vec![[1.0]; 50];
        let slices: Vec<&[f64]> = rows.iter().map(|row| row.as_slice()).collect();
        let boost = Boost::fit(&slices, 1, &[0.2; 50]);
        assert!((boost.at(&[1.0]) - 0.2).abs() < 1e-5 && !boost.uses(0));
    }
}
