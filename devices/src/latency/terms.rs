//! What a fit reads: checked measurements as rows of terms, in an order of their own.

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use super::Sample;
use crate::error::{Error, Result};
use crate::measure::Key;

/// Terms whose name begins so are what other devices say about the same graph, in ms.
pub const SOURCE: &str = "source.";

/// What a term is, which decides how it enters a fit in logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Milliseconds on another device.
    Source,
    /// An amount of work: FLOP, bytes, elements.
    Work,
    /// A count or an indicator; its unit is `1`.
    Count,
}

/// Names and units of the terms of a fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) version: u32,
    pub(super) names: Vec<String>,
    pub(super) units: Vec<String>,
}

impl Layout {
    pub(super) fn of(features: &Features) -> Self {
        Self { version: features.version, names: features.names.clone(), units: features.units.clone() }
    }

    pub(super) fn roles(&self) -> Vec<Role> {
        let role = |(name, unit): (&String, &String)| match (name.starts_with(SOURCE), unit.as_str()) {
            (true, _) => Role::Source,
            (false, "1") => Role::Count,
            (false, _) => Role::Work,
        };
        self.names.iter().zip(&self.units).map(role).collect()
    }

    /// Refuses features of another version or of other names, and numbers that are negative, not finite, or (a source) zero.
    pub(super) fn check(&self, features: &Features) -> Result<()> {
        check_features(features, self.version, &self.names)?;
        match self
            .names
            .iter()
            .zip(&features.values)
            .find(|(name, ms)| name.starts_with(SOURCE) && **ms <= 0.0)
        {
            Some((name, ms)) => {
                Err(Error::InvalidFeatures { reason: format!("`{name}` is {ms} ms and must be above 0") })
            }
            None => Ok(()),
        }
    }
}

/// Refuses features of another version or of other names, and numbers that are negative or not finite.
pub(super) fn check_features(features: &Features, version: u32, names: &[String]) -> Result<()> {
    let fail = |reason| Err(Error::InvalidFeatures { reason });
    if features.version != version {
        return fail(format!("their version is {} and the model's is {version}", features.version));
    }
    if features.names != names || features.values.len() != names.len() {
        return fail(format!(
            "they have {} names and {} values, and the model has {} names, or the names differ",
            features.names.len(),
            features.values.len(),
            names.len()
        ));
    }
    match features.values.iter().zip(names).find(|(value, _)| !(value.is_finite() && **value >= 0.0)) {
        Some((value, name)) => fail(format!("`{name}` is {value} and must be finite and at least 0")),
        None => Ok(()),
    }
}

/// Refuses too few measurements, mixed keys and numbers that are no latencies.
pub(super) fn check(samples: &[Sample], need: usize) -> Result<(&Features, &Key)> {
    let first = match samples.first() {
        Some(first) if samples.len() >= need => first,
        _ => return Err(Error::TooFewSamples { got: samples.len(), need }),
    };
    for sample in samples {
        first.key.matches(&sample.key)?;
        check_features(&sample.features, first.features.version, &first.features.names)?;
        if !(sample.ms.is_finite() && sample.ms > 0.0) {
            return Err(Error::InvalidFeatures {
                reason: format!("a measured latency is {} ms and must be above 0", sample.ms),
            });
        }
    }
    Ok((&first.features, &first.key))
}

/// Terms and milliseconds, ordered by their own content, so that their order in the caller's list cannot matter.
pub(super) fn canonical(mut rows: Vec<(Vec<f64>, f64)>) -> Vec<(Vec<f64>, f64)> {
    rows.sort_by(|a, b| {
        let by_terms = a.0.iter().zip(&b.0).map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne());
        by_terms.unwrap_or_else(|| a.1.total_cmp(&b.1))
    });
    rows
}

/// Smallest and largest value of each of the first `columns` terms.
pub(super) fn range(rows: &[(Vec<f64>, f64)], columns: usize) -> Vec<(f64, f64)> {
    (0..columns)
        .map(|column| {
            let values = rows.iter().filter_map(|(terms, _)| terms.get(column).copied());
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        })
        .collect()
}

/// A term this far outside the measured range (as a fraction of its end) counts as extrapolation.
const MARGIN: f64 = 0.02;

/// Whether a term lies outside what was measured.
pub(super) fn outside(terms: &[f64], range: &[(f64, f64)]) -> bool {
    terms
        .iter()
        .zip(range)
        .any(|(value, (low, high))| *value < low * (1.0 - MARGIN) || *value > high * (1.0 + MARGIN))
}

/// A graph's terms, and their logarithms as [`log`] takes them, which several fits share.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) terms: Vec<f64>,
    pub(super) logs: Vec<f64>,
}

impl Point {
    pub(super) fn new(terms: &[f64], roles: &[Role], scale: &[f64]) -> Self {
        let parts = terms.iter().zip(roles).zip(scale);
        let logs = parts.map(|((value, role), scale)| log(*value, *role, *scale)).collect();
        Self { terms: terms.to_vec(), logs }
    }
}

/// The measurements of a fit.
#[derive(Clone, Debug)]
pub(super) struct Rows<'a> {
    /// Role of each term.
    pub(super) roles: &'a [Role],
    /// What was measured.
    pub(super) points: Vec<&'a Point>,
    /// Milliseconds of each measurement.
    pub(super) ms: Vec<f64>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(roles: &'a [Role], points: &'a [Point], ms: Vec<f64>) -> Self {
        Self { roles, points: points.iter().collect(), ms }
    }

    pub(super) fn len(&self) -> usize {
        self.ms.len()
    }

    /// The measurements for which `keep` says so by index.
    pub(super) fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let (points, ms) = (0..)
            .zip(self.points.iter().zip(&self.ms))
            .filter(|(i, _)| keep(*i))
            .map(|(_, (point, ms))| (*point, *ms))
            .unzip();
        Self { roles: self.roles, points, ms }
    }

    /// One term of every measurement.
    pub(super) fn column(&self, column: usize) -> Vec<f64> {
        self.points.iter().map(|point| point.terms.get(column).copied().unwrap_or(0.0)).collect()
    }

    /// The logarithm of one term of every measurement.
    pub(super) fn logs(&self, column: usize) -> Vec<f64> {
        self.points.iter().map(|point| point.logs.get(column).copied().unwrap_or(0.0)).collect()
    }
}

/// Constant `c` of each term's logarithm `ln(1 + term / c)`: its mean, 1 for a source (whose logarithm is `ln(term)`), 0 for a term that
/// never varies (whose logarithm is taken as 0).
pub(super) fn scales(rows: &[(Vec<f64>, f64)], roles: &[Role]) -> Vec<f64> {
    let ranges = range(rows, roles.len());
    let scale = |(column, (role, (low, high))): (usize, (&Role, &(f64, f64)))| {
        if low == high {
            return 0.0;
        }
        match role {
            Role::Source => 1.0,
            _ => rows.iter().filter_map(|(terms, _)| terms.get(column)).sum::<f64>() / rows.len() as f64,
        }
    };
    roles.iter().zip(&ranges).enumerate().map(scale).collect()
}

/// A term in logarithms; see [`scales`].
pub(super) fn log(value: f64, role: Role, scale: f64) -> f64 {
    match role {
        _ if scale <= 0.0 => 0.0,
        Role::Source => value.max(f64::MIN_POSITIVE).ln(),
        _ => (value / scale).ln_1p(),
    }
}
