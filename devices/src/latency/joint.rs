//! Fits in logarithms: the map of one source device, and a ridge on several sources and the graph's own terms.

use serde::{Deserialize, Serialize};

use super::cholesky::{Cholesky, dot};
use super::terms::{Point, Role, Rows};

/// `ln ms = intercept + slope ln source`: how one other device's latency maps to this one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Map {
    /// Index of the source's term.
    pub(super) column: usize,
    intercept: f64,
    slope: f64,
}

impl Map {
    /// The source whose map predicts each measurement best from the others: least mean absolute left-out error in logarithms.
    pub(super) fn fit(rows: &Rows<'_>) -> Option<Self> {
        let y: Vec<f64> = rows.ms.iter().map(|ms| ms.ln()).collect();
        let sources =
            (0..).zip(rows.roles).filter(|(_, role)| **role == Role::Source).map(|(column, _)| column);
        let maps = sources.filter_map(|column| {
            let (error, intercept, slope) = line(&rows.logs(column), &y)?;
            Some((error, Self { column, intercept, slope }))
        });
        maps.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, map)| map)
    }

    pub(super) fn ln(&self, point: &Point) -> f64 {
        self.intercept + self.slope * point.logs.get(self.column).copied().unwrap_or(0.0)
    }
}

/// Least-squares line: its mean absolute leave-one-out error, intercept and slope. `None` for fewer than three points or
/// when `x` does not vary.
fn line(x: &[f64], y: &[f64]) -> Option<(f64, f64, f64)> {
    let n = x.len() as f64;
    if x.len() < 3 {
        return None;
    }
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sxx: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
    if sxx <= 1e-12 {
        return None;
    }
    let slope = x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / sxx;
    let left_out = |(x, y): (&f64, &f64)| {
        let leverage = (1.0 / n + (x - mx).powi(2) / sxx).min(1.0 - 1e-9);
        ((y - my - slope * (x - mx)) / (1.0 - leverage)).abs()
    };
    Some((x.iter().zip(y).map(left_out).sum::<f64>() / n, my - slope * mx, slope))
}

/// How strongly work and counts may speak beside sources, whose block has strength 1; blocks are scaled to unit mean square.
const WORK: [f64; 5] = [0.0, 0.003, 0.03, 0.3, 1.0];
const COUNTS: [f64; 4] = [0.0, 0.003, 0.03, 0.3];
/// Noise over the variance that all terms together may explain.
const NOISE: [f64; 8] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 1e-3, 2e-4];

/// `ln ms` as a ridge regression on the logarithms of three blocks of terms: sources, work and counts.
///
/// It is the posterior mean of a Gaussian process whose covariance is a sum of one linear kernel a block. Strengths of
/// blocks and noise are those with the least mean squared leave-one-out error, which has a closed form (Rasmussen and Williams,
/// "Gaussian Processes for Machine Learning", 2006, 5.4.2; the constant has a flat prior).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Joint {
    intercept: f64,
    /// One per term, of its logarithm.
    coefficients: Vec<f64>,
}

/// One trial of strengths and noise.
struct Trial {
    error: f64,
    strengths: [f64; 3],
    noise: f64,
}

/// Standardised logarithms of one fit.
struct Design {
    centre: Vec<f64>,
    /// One over the scale of each term.
    scale: Vec<f64>,
    /// One row a measurement.
    z: Vec<Vec<f64>>,
    /// Products of rows within each block.
    grams: [Vec<f64>; 3],
}

fn block(role: Role) -> usize {
    match role {
        Role::Source => 0,
        Role::Work => 1,
        Role::Count => 2,
    }
}

impl Design {
    fn new(rows: &Rows<'_>) -> Self {
        let n = rows.len() as f64;
        let columns = rows.roles.len();
        let of = |column: usize| rows.logs(column).into_iter();
        let centre: Vec<f64> = (0..columns).map(|column| of(column).sum::<f64>() / n).collect();
        let mut scale: Vec<f64> = (0..columns)
            .zip(&centre)
            .map(|(column, mean)| {
                let variance = of(column).map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                if variance > 1e-16 { 1.0 / variance.sqrt() } else { 0.0 }
            })
            .collect();
        // Standardised terms have mean square 1, so a block's mean square is the number of its terms that vary.
        let mut sizes = [0.0f64; 3];
        for (role, scale) in rows.roles.iter().zip(&scale) {
            if let Some(size) = sizes.get_mut(block(*role)) {
                *size += f64::from(u8::from(*scale > 0.0));
            }
        }
        for (role, scale) in rows.roles.iter().zip(&mut scale) {
            *scale /= sizes.get(block(*role)).copied().unwrap_or(1.0).max(1.0).sqrt();
        }
        let standardised = |point: &&Point| -> Vec<f64> {
            let parts = point.logs.iter().zip(&centre).zip(&scale);
            parts.map(|((x, mean), scale)| (x - mean) * scale).collect()
        };
        let z: Vec<Vec<f64>> = rows.points.iter().map(standardised).collect();
        let gram = |own: usize| {
            let part: Vec<Vec<f64>> = z
                .iter()
                .map(|row| {
                    let inside = row.iter().zip(rows.roles).filter(|(_, role)| block(**role) == own);
                    inside.map(|(value, _)| *value).collect()
                })
                .collect();
            part.iter().flat_map(|a| part.iter().map(|b| dot(a, b))).collect()
        };
        let grams = [gram(0), gram(1), gram(2)];
        Self { centre, scale, z, grams }
    }

    /// Covariance of the measurements, row by row.
    fn covariance(&self, strengths: [f64; 3], noise: f64) -> Vec<f64> {
        let n = self.z.len();
        let [a, b, c] = &self.grams;
        let [sa, sb, sc] = strengths;
        let sum = a.iter().zip(b).zip(c).map(|((a, b), c)| sa * a + sb * b + sc * c);
        (0..).zip(sum).map(|(at, sum)| if at % (n + 1) == 0 { sum + noise } else { sum }).collect()
    }
}

/// The covariance of the measurements, solved.
struct Solved {
    constant: f64,
    /// `Q y`, where `Q` is the inverse covariance with the constant projected out.
    weights: Vec<f64>,
    /// `1 / Q_ii`, so that `weights * variance` are the leave-one-out residuals.
    variance: Vec<f64>,
}

fn solved(covariance: Vec<f64>, y: &[f64]) -> Option<Solved> {
    let factor = Cholesky::new(covariance, y.len())?;
    let solve = |b: &[f64]| {
        let mut b = b.to_vec();
        factor.forward(&mut b);
        factor.backward(&mut b);
        b
    };
    let ones = solve(&vec![1.0; y.len()]);
    let total: f64 = ones.iter().sum();
    let by_y = solve(y);
    let constant = dot(&ones, y) / total;
    let weights: Vec<f64> = by_y.iter().zip(&ones).map(|(a, one)| a - one * constant).collect();
    let variance = factor
        .inverse_diagonal()
        .iter()
        .zip(&ones)
        .map(|(diagonal, one)| 1.0 / (diagonal - one * one / total).max(1e-300))
        .collect();
    Some(Solved { constant, weights, variance })
}

impl Joint {
    /// Fits `rows`; `None` for fewer than three or when no term varies.
    pub(super) fn fit(rows: &Rows<'_>) -> Option<Self> {
        if rows.len() < 3 {
            return None;
        }
        let y: Vec<f64> = rows.ms.iter().map(|ms| ms.ln()).collect();
        let design = Design::new(rows);
        let has = |own: usize| {
            rows.roles.iter().zip(&design.scale).any(|(role, scale)| block(*role) == own && *scale > 0.0)
        };
        let best = trials(has(0), has(1), has(2))
            .into_iter()
            .filter_map(|(strengths, noise)| {
                let solved = solved(design.covariance(strengths, noise), &y)?;
                let error =
                    solved.weights.iter().zip(&solved.variance).map(|(w, v)| (w * v).powi(2)).sum::<f64>();
                error.is_finite().then_some(Trial { error, strengths, noise })
            })
            .min_by(|a, b| a.error.total_cmp(&b.error))?;
        let solved = solved(design.covariance(best.strengths, best.noise), &y)?;
        let coefficients = coefficients(&design, rows.roles, best.strengths, &solved.weights);
        Some(Self { intercept: solved.constant - dot(&coefficients, &design.centre), coefficients })
    }

    pub(super) fn ln(&self, point: &Point) -> f64 {
        self.intercept + dot(&self.coefficients, &point.logs)
    }

    /// Whether a term has any say.
    pub(super) fn uses(&self, column: usize) -> bool {
        self.coefficients.get(column).is_some_and(|coefficient| *coefficient != 0.0)
    }
}

/// Strengths and noises to try. A block that does not vary gets no strength; without sources work takes their place.
fn trials(sources: bool, work: bool, counts: bool) -> Vec<([f64; 3], f64)> {
    let source = if sources { 1.0 } else { 0.0 };
    let works: &[f64] = match (sources, work) {
        (true, true) => &WORK,
        (false, true) => &[1.0],
        (_, false) => &[0.0],
    };
    let counts: &[f64] = match (counts, sources || work) {
        (true, true) => &COUNTS,
        (true, false) => &[1.0],
        (false, _) => &[0.0],
    };
    let pairs = works.iter().flat_map(|work| counts.iter().map(move |count| [source, *work, *count]));
    pairs
        .filter(|strengths| strengths.iter().any(|s| *s > 0.0))
        .flat_map(|strengths| {
            NOISE.iter().map(move |noise| (strengths, noise * strengths.iter().sum::<f64>()))
        })
        .collect()
}

/// Coefficients of plain logarithms.
fn coefficients(design: &Design, roles: &[Role], strengths: [f64; 3], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; roles.len()];
    for (weight, row) in weights.iter().zip(&design.z) {
        for (slot, value) in sum.iter_mut().zip(row) {
            *slot += weight * value;
        }
    }
    let parts = sum.iter().zip(roles).zip(&design.scale);
    parts
        .map(|((sum, role), scale)| sum * scale * strengths.get(block(*role)).copied().unwrap_or(0.0))
        .collect()
}

#[cfg(test)]
#[path = "joint_tests.rs"]
mod tests;
