//! Non-negative least squares with a ridge penalty, by cyclic coordinate descent.

use super::cholesky::Cholesky;

/// The problem `min_b |A b - 1|^2 / n + lambda |b|^2` subject to `b >= 0`, through its Gram matrix. The columns of `A` are
/// scaled to unit root mean square, so that one `lambda` means the same for all of them.
#[derive(Clone, Debug)]
pub struct Nnls {
    columns: usize,
    gram: Vec<f64>,
    target: Vec<f64>,
    scale: Vec<f64>,
}

impl Nnls {
    /// Sums up `rows` (each of `columns` entries; entries beyond are ignored, missing ones are 0). A column of
    /// zeros keeps the coefficient 0.
    pub fn new<'a>(columns: usize, rows: impl IntoIterator<Item = &'a [f64]>) -> Self {
        Self::weighted(columns, rows.into_iter().map(|row| (row, 1.0)))
    }

    /// As [`Nnls::new`], where each row counts as much as its weight says (at least 0, 1 being a whole row): the problem is
    /// `min_b sum w (A b - 1)^2 / sum w + lambda |b|^2`. The scale of a column does not depend on the weights, so that
    /// `lambda` means the same while weights change.
    pub fn weighted<'a>(columns: usize, rows: impl IntoIterator<Item = (&'a [f64], f64)>) -> Self {
        let rows: Vec<(&[f64], f64)> = rows.into_iter().collect();
        let mut squares = vec![0.0; columns];
        let (mut n, mut total) = (0.0f64, 0.0f64);
        for (row, weight) in &rows {
            n += 1.0;
            total += weight;
            for (square, value) in squares.iter_mut().zip(*row) {
                *square += value * value;
            }
        }
        let scale: Vec<f64> =
            squares.iter().map(|square| if *square > 0.0 { (square / n).sqrt() } else { 0.0 }).collect();
        let mut gram = vec![0.0; columns * columns];
        let mut target = vec![0.0; columns];
        let mut scaled = vec![0.0; columns];
        for (row, weight) in &rows {
            let share = if total > 0.0 { weight / total } else { 0.0 };
            for ((slot, value), scale) in scaled.iter_mut().zip(*row).zip(&scale) {
                *slot = if *scale > 0.0 { value / scale } else { 0.0 };
            }
            let lines = gram.chunks_exact_mut(columns.max(1)).zip(&mut target);
            for ((j, a), (sums, sum)) in scaled.iter().enumerate().zip(lines) {
                if *a == 0.0 {
                    continue;
                }
                let a = a * share;
                *sum += a;
                // The lower half; the upper one mirrors it.
                for (slot, b) in sums.iter_mut().zip(&scaled).take(j + 1) {
                    *slot += a * b;
                }
            }
        }
        for j in 0..columns {
            for k in 0..j {
                let value = gram.get(j * columns + k).copied().unwrap_or(0.0);
                if let Some(slot) = gram.get_mut(k * columns + j) {
                    *slot = value;
                }
            }
        }
        Self { columns, gram, target, scale }
    }

    /// Solves for one `lambda > 0`, starting from `start` (scaled coefficients, which are overwritten by the solution,
    /// so that a path of penalties can be walked); returns the coefficients of the unscaled columns.
    ///
    /// Each step minimises over one coefficient exactly: `b_j = max(0, (t_j - sum_{k != j} G_jk b_k) / (G_jj + lambda))`.
    /// The problem is strictly convex, so the sweeps converge to its only minimum, but slowly where columns are nearly
    /// alike. Every few sweeps the set of positive coefficients is therefore completed by block principal pivoting
    /// (Portugal, Júdice and Vicente 1994), whose answer satisfies the optimality conditions exactly.
    pub fn solve(&self, lambda: f64, start: &mut Vec<f64>) -> Vec<f64> {
        start.resize(self.columns, 0.0);
        const SWEEPS: usize = 20_000;
        const BETWEEN: usize = 16;
        const TOLERANCE: f64 = 1e-12;
        for sweep in 1..=SWEEPS {
            let moved = self.sweep(lambda, start);
            if moved <= TOLERANCE {
                break;
            }
            if sweep % BETWEEN == 0
                && let Some(exact) = self.pivot(lambda, start)
            {
                *start = exact;
                break;
            }
        }
        start.iter().zip(&self.scale).map(|(b, s)| if *s > 0.0 { b / s } else { 0.0 }).collect()
    }

    /// One pass over all coefficients; returns the largest change.
    fn sweep(&self, lambda: f64, b: &mut [f64]) -> f64 {
        let mut moved = 0.0f64;
        for (j, (row, target)) in self.gram.chunks_exact(self.columns.max(1)).zip(&self.target).enumerate() {
            let (Some(diagonal), Some(old)) = (row.get(j).copied(), b.get(j).copied()) else { continue };
            if diagonal == 0.0 {
                continue;
            }
            let product: f64 = row.iter().zip(b.iter()).map(|(g, b)| g * b).sum();
            let new = ((target - product + diagonal * old) / (diagonal + lambda)).max(0.0);
            if let Some(slot) = b.get_mut(j) {
                *slot = new;
            }
            moved = moved.max((new - old).abs());
        }
        moved
    }

    /// Exchanges all coefficients that break an optimality condition until none does, starting from the positive
    /// ones of `b`. When the number of offenders does not fall for a while only the last of them is exchanged, which
    /// cannot cycle. `None` after too many exchanges.
    fn pivot(&self, lambda: f64, b: &[f64]) -> Option<Vec<f64>> {
        const EXCHANGES: usize = 300;
        const PATIENCE: usize = 4;
        const TOLERANCE: f64 = 1e-11;
        let mut positive: Vec<bool> = b.iter().map(|b| *b > 0.0).collect();
        let (mut fewest, mut patience) = (usize::MAX, PATIENCE);
        for _ in 0..EXCHANGES {
            let full = self.restricted(lambda, &positive)?;
            let rows = self.gram.chunks_exact(self.columns.max(1)).zip(&self.target);
            let offends = |((row, target), (b, positive)): ((&[f64], &f64), (&f64, &bool))| {
                if *positive {
                    *b < 0.0
                } else {
                    // A coefficient at 0 must not want to grow.
                    target - row.iter().zip(&full).map(|(g, b)| g * b).sum::<f64>() > TOLERANCE
                }
            };
            let offenders: Vec<usize> = rows
                .zip(full.iter().zip(&positive))
                .map(offends)
                .zip(0..)
                .filter_map(|(offends, j)| offends.then_some(j))
                .collect();
            if offenders.is_empty() {
                return Some(full);
            }
            if offenders.len() < fewest {
                (fewest, patience) = (offenders.len(), PATIENCE);
            } else {
                patience = patience.saturating_sub(1);
            }
            let exchanged = if patience > 0 {
                offenders.as_slice()
            } else {
                offenders.last().map(std::slice::from_ref)?
            };
            for j in exchanged {
                let slot = positive.get_mut(*j)?;
                *slot = !*slot;
            }
        }
        None
    }

    /// The minimum over the coefficients marked in `active`, of either sign, with the others at 0.
    fn restricted(&self, lambda: f64, active: &[bool]) -> Option<Vec<f64>> {
        let active: Vec<usize> = active.iter().zip(0..).filter(|(on, _)| **on).map(|(_, j)| j).collect();
        let n = active.len();
        let mut matrix = Vec::with_capacity(n * n);
        let mut right = Vec::with_capacity(n);
        for (at, i) in active.iter().enumerate() {
            right.push(*self.target.get(*i)?);
            for (other, j) in active.iter().enumerate() {
                matrix.push(self.gram.get(i * self.columns + j)? + if at == other { lambda } else { 0.0 });
            }
        }
        let part = cholesky_solve(matrix, right)?;
        let mut full = vec![0.0; self.columns];
        for (j, value) in active.iter().zip(part) {
            *full.get_mut(*j)? = value;
        }
        Some(full)
    }
}

/// Solves a symmetric positive definite system, given row by row; `None` when it is not positive definite.
fn cholesky_solve(a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let factor = Cholesky::new(a, b.len())?;
    factor.forward(&mut b);
    factor.backward(&mut b);
    Some(b)
}

/// One solution from scratch: coefficients of `min_b |A b - 1|^2 / n + lambda |S b|^2`, `b >= 0`, where `S` holds the
/// root mean squares of the columns of `A`.
pub fn solve(rows: &[Vec<f64>], lambda: f64) -> Vec<f64> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    Nnls::new(columns, rows.iter().map(Vec::as_slice)).solve(lambda, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn objective(rows: &[Vec<f64>], lambda: f64, b: &[f64]) -> f64 {
        let n = rows.len() as f64;
        let fit: f64 =
            rows.iter().map(|row| (row.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() - 1.0).powi(2)).sum();
        let penalty: f64 =
            (0..b.len()).map(|j| b[j] * b[j] * rows.iter().map(|row| row[j] * row[j]).sum::<f64>() / n).sum();
        fit / n + lambda * penalty
    }

    /// Gaussian elimination with pivoting.
    fn linear(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
        let n = b.len();
        for i in 0..n {
            let pivot = (i..n).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs()))?;
            if a[pivot][i].abs() < 1e-14 {
                return None;
            }
            a.swap(i, pivot);
            b.swap(i, pivot);
            for r in i + 1..n {
                let (above, below) = a.split_at_mut(r);
                let (top, row) = (&above[i], &mut below[0]);
                let f = row[i] / top[i];
                for (value, over) in row.iter_mut().zip(top).skip(i) {
                    *value -= f * over;
                }
                b[r] -= f * b[i];
            }
        }
        let mut x = vec![0.0; n];
        for i in (0..n).rev() {
            x[i] = (b[i] - (i + 1..n).map(|c| a[i][c] * x[c]).sum::<f64>()) / a[i][i];
        }
        Some(x)
    }

    /// The best of all sets of positive coefficients, each solved as an ordinary ridge.
    fn brute_force(rows: &[Vec<f64>], lambda: f64) -> f64 {
        let (n, p) = (rows.len() as f64, rows[0].len());
        (0..1usize << p)
            .filter_map(|set| {
                let active: Vec<usize> = (0..p).filter(|j| set >> j & 1 == 1).collect();
                let gram = |i: usize, j: usize| rows.iter().map(|r| r[i] * r[j]).sum::<f64>() / n;
                let matrix = active
                    .iter()
                    .map(|i| {
                        active
                            .iter()
                            .map(|j| gram(*i, *j) + if i == j { lambda * gram(*i, *i) } else { 0.0 })
                            .collect()
                    })
                    .collect();
                let target = active.iter().map(|i| rows.iter().map(|r| r[*i]).sum::<f64>() / n).collect();
                let part = linear(matrix, target)?;
                if part.iter().any(|b| *b < 0.0) {
                    return None;
                }
                let mut b = vec![0.0; p];
                for (j, value) in active.iter().zip(part) {
                    b[*j] = value;
                }
                Some(objective(rows, lambda, &b))
            })
            .min_by(f64::total_cmp)
            .unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_brute_force(
            rows in (1usize..6, 4usize..12).prop_flat_map(|(p, n)| {
                prop::collection::vec(prop::collection::vec(0.0f64..3.0, p), n)
            }),
            exponent in -4i32..1,
        ) {
            let lambda = 10f64.powi(exponent);
            let b = solve(&rows, lambda);
            prop_assert!(b.iter().all(|b| *b >= 0.0 && b.is_finite()));
            let (got, best) = (objective(&rows, lambda, &b), brute_force(&rows, lambda));
            prop_assert!(got <= best + 1e-8 * (1.0 + best), "{got} {best}");
        }

        #[test]
        fn the_scale_of_a_column_does_not_matter(
            rows in prop::collection::vec(prop::collection::vec(0.1f64..3.0, 3), 8),
            factor in 1e-6f64..1e6,
        ) {
            let scaled: Vec<Vec<f64>> = rows.iter().map(|r| vec![r[0] * factor, r[1], r[2]]).collect();
            let (a, b) = (solve(&rows, 1e-3), solve(&scaled, 1e-3));
            prop_assert!((a[0] - b[0] * factor).abs() < 1e-6 * (1.0 + a[0]));
            prop_assert!((a[1] - b[1]).abs() < 1e-6 * (1.0 + a[1]));
        }
    }

    #[test]
    fn a_column_of_zeros_and_no_rows_are_harmless() {
        let b = solve(&[vec![0.0, 1.0], vec![0.0, 1.0]], 1e-9);
        assert_eq!(b[0], 0.0);
        assert!((b[1] - 1.0).abs() < 1e-6);
        assert!(solve(&[], 1e-3).is_empty());
    }
}
