//! Statistics of repeated searches.

/// Mean, standard deviation, and the 95 % interval of the mean by Student's t.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Number of values.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the values, n - 1 below.
    pub sd: f64,
    /// Lower end of the mean's 95 % interval.
    pub low: f64,
    /// Upper end of the mean's 95 % interval.
    pub high: f64,
}

impl Summary {
    /// Of values; fewer than two have no interval, and its ends are the mean.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.len() < 2 {
            return Self { count: values.len(), mean, sd: 0.0, low: mean, high: mean };
        }
        let sd = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let reach = student(n - 1.0) * sd / n.sqrt();
        Self { count: values.len(), mean, sd, low: mean - reach, high: mean + reach }
    }
}

/// The 97.5 % points of Student's t with 1 to 4 degrees of freedom.
const STUDENT: [f64; 4] = [12.7062, 4.3027, 3.1824, 2.7764];

/// The 97.5 % point of Student's t: [`STUDENT`], then the expansion around the normal one, within 0.2 %.
fn student(degrees: f64) -> f64 {
    if let Some(point) = STUDENT.get((degrees - 1.0) as usize) {
        return *point;
    }
    let z = 1.959_964_f64;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
}

/// Kendall's tau-b, in n log n; 0 where one side is all ties. Values that are not numbers make it meaningless.
pub fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[i].total_cmp(&a[j]).then(b[i].total_cmp(&b[j])));
    let pairs = |same: &dyn Fn(usize, usize) -> bool, order: &[usize]| -> f64 {
        let (mut total, mut run) = (0.0, 1.0);
        for pair in order.windows(2) {
            if same(pair[0], pair[1]) {
                total += run;
                run += 1.0;
            } else {
                run = 1.0;
            }
        }
        total
    };
    let ties_a = pairs(&|i, j| a[i] == a[j], &order);
    let ties_both = pairs(&|i, j| a[i] == a[j] && b[i] == b[j], &order);
    let mut values: Vec<f64> = order.iter().map(|at| b[*at]).collect();
    let swaps = inversions(&mut values);
    let by_b: Vec<usize> = {
        let mut order = order.clone();
        order.sort_by(|&i, &j| b[i].total_cmp(&b[j]));
        order
    };
    let ties_b = pairs(&|i, j| b[i] == b[j], &by_b);
    let all = n as f64 * (n as f64 - 1.0) / 2.0;
    let below = ((all - ties_a) * (all - ties_b)).sqrt();
    if below > 0.0 { (all - ties_a - ties_b + ties_both - 2.0 * swaps as f64) / below } else { 0.0 }
}

/// Pairs out of order, by merge sort; equal values are in order.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        if j == right.len() || i < left.len() && left[i] <= right[j] {
            merged.push(left[i]);
            i += 1;
        } else {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        }
    }
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tau_matches_its_definition(pairs in prop::collection::vec((0i32..6, 0i32..6), 0..30)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
            let (mut agree, mut ties_a, mut ties_b, mut all) = (0.0, 0.0, 0.0, 0.0);
            for i in 0..a.len() {
                for j in 0..i {
                    let (x, y) = (a[i] - a[j], b[i] - b[j]);
                    agree += if x * y > 0.0 { 1.0 } else if x * y < 0.0 { -1.0 } else { 0.0 };
                    ties_a += f64::from(u8::from(x == 0.0));
                    ties_b += f64::from(u8::from(y == 0.0));
                    all += 1.0;
                }
            }
            let below: f64 = ((all - ties_a) * (all - ties_b)).sqrt();
            let expected = if below > 0.0 { agree / below } else { 0.0 };
            prop_assert!((kendall(&a, &b) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_interval_is_students() {
        // 97.5 % points of tables: 49 and 9 degrees of freedom.
        assert!((student(49.0) - 2.0096).abs() < 1e-3 && (student(9.0) - 2.2622).abs() < 1e-3);
        assert!((student(5.0) - 2.5706).abs() < 6e-3 && (student(1.0) - 12.7062).abs() < 1e-3);
        assert_eq!(Summary::of(&[3.0]), Summary { count: 1, mean: 3.0, sd: 0.0, low: 3.0, high: 3.0 });
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((summary.mean - 5.5).abs() < 1e-12 && (summary.sd - 3.02765).abs() < 1e-5);
        assert!((summary.high - 5.5 - 2.2622 * 3.02765 / 10f64.sqrt()).abs() < 1e-3);
    }
}
