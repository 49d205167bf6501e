//! The regimes of a latency model, and how each predicts measurements that it has not seen.

use serde::{Deserialize, Serialize};

use super::additive::Additive;
use super::boost::Boost;
use super::joint::{Joint, Map, Spread};
use super::terms::{Role, Rows};
use crate::stats::Rng;

/// How latency is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// `ln ms` is an affine function of what the best source device says.
    BestSource,
    /// `ln ms` is a ridge regression on what several source devices say and on the graph's own terms.
    Joint,
    /// Milliseconds are a non-negative sum of terms.
    Additive,
    /// The same sum times what boosted trees found in its residuals.
    Boosted,
}

impl Regime {
    /// All, the simplest first.
    pub const ALL: [Regime; 4] = [Regime::BestSource, Regime::Joint, Regime::Additive, Regime::Boosted];

    /// Whether this regime is tried with `n` measurements.
    ///
    /// Maps are for few measurements, and a regression in logarithms stops paying where a sum of terms, which is what a graph's latency
    /// is, can be fitted; trees need many residuals to find anything. Between these bounds cross-validation chooses.
    pub(super) fn fits(self, n: usize, sources: bool) -> bool {
        match self {
            Regime::BestSource => sources && n <= 50,
            Regime::Joint => n <= 120 && (sources || n >= super::MIN_SAMPLES),
            Regime::Additive => n >= super::MIN_SAMPLES,
            Regime::Boosted => n >= 200,
        }
    }
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Regime::BestSource => "best source",
            Regime::Joint => "joint",
            Regime::Additive => "additive",
            Regime::Boosted => "boosted",
        })
    }
}

/// A fitted regime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Predictor {
    Map(Map),
    Joint(Joint),
    Additive(Additive),
    Boosted { base: Additive, trees: Boost },
}

/// Least prediction in milliseconds, so that its logarithm exists.
const LEAST: f64 = 1e-9;

impl Predictor {
    /// Natural logarithm of the predicted milliseconds.
    pub(super) fn ln(&self, terms: &[f64], roles: &[Role], scale: &[f64]) -> f64 {
        match self {
            Self::Map(map) => map.ln(terms),
            Self::Joint(joint) => joint.ln(terms, roles, scale),
            Self::Additive(sum) => sum.ms(terms).max(LEAST).ln(),
            Self::Boosted { base, trees } => base.ms(terms).max(LEAST).ln() + trees.at(terms),
        }
    }

    /// Whether a term has any say.
    pub(super) fn uses(&self, column: usize) -> bool {
        match self {
            Self::Map(map) => map.column == column,
            Self::Joint(joint) => joint.uses(column),
            Self::Additive(sum) => sum.uses(column),
            Self::Boosted { base, trees } => base.uses(column) || trees.uses(column),
        }
    }
}

/// From this many measurements on, folds are large and few, and choosing among penalties by the same folds that judge the choice
/// no longer flatters it.
pub(super) const MANY: usize = 100;

/// Folds of the cross-validation of `n` measurements: each measurement alone while they are few.
pub(super) fn folds(n: usize) -> usize {
    match n {
        0..=20 => n,
        21..MANY => 20,
        _ => 10,
    }
}

/// Fold of each of `n` measurements: as even as can be, in an order that does not follow the measurements'.
pub(super) fn places(n: usize, folds: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..n).map(|i| i % folds.max(1)).collect();
    Rng::new(0).shuffle(&mut places);
    places
}

/// A regime with its left-out predictions.
pub(super) struct Evaluated {
    pub(super) regime: Regime,
    pub(super) predictor: Predictor,
    /// The fits that left each fold out.
    pub(super) folds: Vec<Predictor>,
    /// `ln(measured / left-out prediction)` of each measurement.
    pub(super) residuals: Vec<f64>,
    /// Standard deviations of left-out predictions, and of new ones, in one unit.
    pub(super) spread: Option<(Vec<f64>, Spread)>,
}

/// Largest residual, so that one left-out prediction of 0 ms stays a number that can be stored.
const WORST: f64 = 14.0;
/// Largest residual that counts in full when regimes are compared.
const CAP: f64 = 0.5;

impl Evaluated {
    /// Mean absolute left-out error in logarithms (0.05 is about 5 %), capped so that one stalled run does not decide.
    pub(super) fn error(&self) -> f64 {
        self.residuals.iter().map(|r| r.abs().min(CAP)).sum::<f64>() / self.residuals.len().max(1) as f64
    }
}

/// Fits `regime` to all of `rows` and to all but each fold. `None` when it cannot be fitted.
///
/// While measurements are few every choice within a fit (strengths, penalty, loss) is made anew without the fold, so that its
/// residuals are those of unseen measurements.
pub(super) fn evaluate(regime: Regime, rows: &Rows<'_>, places: &[usize], folds: usize) -> Option<Evaluated> {
    let (predictor, fits, spread) = match regime {
        Regime::Additive | Regime::Boosted if rows.len() >= MANY => {
            let fit = Additive::fit(rows, places, folds)?;
            if regime == Regime::Additive {
                (
                    Predictor::Additive(fit.model),
                    fit.folds.into_iter().map(Predictor::Additive).collect(),
                    None,
                )
            } else {
                let trees = |base: Additive, rows: &Rows<'_>| {
                    let trees = boost(&base, rows);
                    Predictor::Boosted { base, trees }
                };
                let folds = (0..).zip(fit.folds);
                let fits =
                    folds.map(|(fold, base)| trees(base, &rows.filter(|i| places.get(i) != Some(&fold))));
                let fits: Vec<Predictor> = fits.collect();
                (trees(fit.model, rows), fits, None)
            }
        }
        _ => {
            let fits = (0..folds)
                .map(|fold| Some(fit(regime, &rows.filter(|i| places.get(i) != Some(&fold)))?.0))
                .collect::<Option<Vec<Predictor>>>()?;
            let (predictor, spread) = fit(regime, rows)?;
            (predictor, fits, spread)
        }
    };
    let residuals = rows
        .terms
        .iter()
        .zip(&rows.ms)
        .zip(places)
        .map(|((terms, ms), place)| {
            let left_out = fits.get(*place)?.ln(terms, rows.roles, rows.scale);
            Some((ms.ln() - left_out).clamp(-WORST, WORST))
        })
        .collect::<Option<Vec<f64>>>()?;
    Some(Evaluated { regime, predictor, folds: fits, residuals, spread })
}

type Fitted = (Predictor, Option<(Vec<f64>, Spread)>);

fn fit(regime: Regime, rows: &Rows<'_>) -> Option<Fitted> {
    /// Folds within a fit.
    const INNER: usize = 5;
    let additive = || Some(Additive::fit(rows, &places(rows.len(), INNER), INNER)?.model);
    match regime {
        Regime::BestSource => Some((Predictor::Map(Map::fit(rows)?), None)),
        Regime::Joint => {
            let fit = Joint::fit(rows)?;
            Some((Predictor::Joint(fit.joint), Some((fit.left_out_spread, fit.spread))))
        }
        Regime::Additive => Some((Predictor::Additive(additive()?), None)),
        Regime::Boosted => {
            let base = additive()?;
            let trees = boost(&base, rows);
            Some((Predictor::Boosted { base, trees }, None))
        }
    }
}

fn boost(base: &Additive, rows: &Rows<'_>) -> Boost {
    let targets: Vec<f64> = rows
        .terms
        .iter()
        .zip(&rows.ms)
        .map(|(terms, ms)| (ms / base.ms(terms).max(LEAST)).ln().clamp(-CAP, CAP))
        .collect();
    Boost::fit(&rows.terms, rows.roles.len(), &targets)
}
