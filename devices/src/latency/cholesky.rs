//! The Cholesky factor of a symmetric positive definite matrix.

/// Lower factor `L` of `A = L L'`, row by row.
#[derive(Clone, Debug)]
pub(super) struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors an `n x n` matrix given row by row, of which the lower half is read. `None` when it is not positive definite, or has
    /// another size.
    pub(super) fn new(mut a: Vec<f64>, n: usize) -> Option<Self> {
        if a.len() != n * n {
            return None;
        }
        for i in 0..n {
            let (above, rest) = a.split_at_mut(i * n);
            let row = rest.get_mut(..n)?;
            for (j, done) in above.chunks_exact(n).enumerate() {
                let (left, right) = row.split_at_mut(j);
                let done_left = done.get(..j)?;
                let slot = right.first_mut()?;
                *slot = (*slot - dot(left, done_left)) / done.get(j)?;
            }
            let (left, right) = row.split_at_mut(i);
            let slot = right.first_mut()?;
            let pivot = *slot - dot(left, left);
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            *slot = pivot.sqrt();
        }
        Some(Self { n, lower: a })
    }

    fn rows(&self) -> impl DoubleEndedIterator<Item = (usize, &[f64])> + ExactSizeIterator {
        self.lower.chunks_exact(self.n.max(1)).enumerate()
    }

    /// Overwrites `b` by `L^-1 b`.
    pub(super) fn forward(&self, b: &mut [f64]) {
        for (i, row) in self.rows() {
            let (done, rest) = b.split_at_mut(i.min(b.len()));
            if let (Some(slot), Some(pivot)) = (rest.first_mut(), row.get(i)) {
                *slot = (*slot - dot(row, done)) / pivot;
            }
        }
    }

    /// Overwrites `b` by `L'^-1 b`.
    pub(super) fn backward(&self, b: &mut [f64]) {
        for (i, row) in self.rows().rev() {
            let (before, rest) = b.split_at_mut(i.min(b.len()));
            if let (Some(slot), Some(pivot)) = (rest.first_mut(), row.get(i)) {
                *slot /= pivot;
                for (value, l) in before.iter_mut().zip(row) {
                    *value -= *slot * l;
                }
            }
        }
    }

    /// Diagonal of `A^-1`.
    pub(super) fn inverse_diagonal(&self) -> Vec<f64> {
        let mut diagonal = vec![0.0; self.n];
        let mut column = vec![0.0; self.n];
        for i in 0..self.n {
            // Column i of L^-1 starts at row i; A^-1 = L'^-1 L^-1.
            column.fill(0.0);
            if let Some(slot) = column.get_mut(i) {
                *slot = 1.0;
            }
            for (k, row) in self.rows().skip(i) {
                let (done, rest) = column.split_at_mut(k);
                if let (Some(slot), Some(pivot), Some(row), Some(done)) =
                    (rest.first_mut(), row.get(k), row.get(i..k), done.get(i..k))
                {
                    *slot = (*slot - dot(row, done)) / pivot;
                }
            }
            if let Some(slot) = diagonal.get_mut(i) {
                *slot = dot(&column, &column);
            }
        }
        diagonal
    }
}

/// Sum of products over the common length. Four sums run side by side, which the processor can overlap; their order is fixed.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let common = a.len().min(b.len());
    let rest: f64 = match common % 4 {
        0 => 0.0,
        _ => {
            let from = common - common % 4;
            a.iter().zip(b).skip(from).map(|(x, y)| x * y).sum()
        }
    };
    let mut sums = [0.0f64; 4];
    for (x, y) in a4.zip(b4) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn solves_and_inverts(values in prop::collection::vec(-2.0f64..2.0, 7 * 7), right in prop::collection::vec(-1.0f64..1.0, 7)) {
            let n = 7;
            let row = |i: usize| &values[i * n..(i + 1) * n];
            let a: Vec<f64> = (0..n * n)
                .map(|k| dot(row(k / n), row(k % n)) + if k / n == k % n { 0.5 } else { 0.0 })
                .collect();
            let factor = Cholesky::new(a.clone(), n).unwrap();
            let solve = |right: &[f64]| {
                let mut b = right.to_vec();
                factor.forward(&mut b);
                factor.backward(&mut b);
                b
            };
            let x = solve(&right);
            for (i, want) in right.iter().enumerate() {
                prop_assert!((dot(&a[i * n..(i + 1) * n], &x) - want).abs() < 1e-8);
            }
            for (i, got) in factor.inverse_diagonal().iter().enumerate() {
                let unit: Vec<f64> = (0..n).map(|k| f64::from(k == i)).collect();
                prop_assert!((solve(&unit)[i] - got).abs() < 1e-8 * (1.0 + got));
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert!(Cholesky::new(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::new(vec![1.0], 2).is_none());
        assert!(Cholesky::new(vec![], 0).is_some());
        assert_eq!(dot(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0; 9]), 15.0);
        assert_eq!(dot(&[1.0; 9], &[1.0, 2.0]), 3.0);
    }
}
