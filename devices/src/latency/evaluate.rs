//! The regimes of a latency model, and how each predicts measurements that it has not seen.

use serde::{Deserialize, Serialize};

use super::additive::Additive;
use super::boost::Boost;
use super::joint::{Joint, Map};
use super::terms::{Point, Rows};
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
            Regime::Joint => n < MANY && (sources || n >= super::MIN_SAMPLES),
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
    pub(super) fn ln(&self, point: &Point) -> f64 {
        match self {
            Self::Map(map) => map.ln(point),
            Self::Joint(joint) => joint.ln(point),
            Self::Additive(sum) => sum.ms(&point.terms).max(LEAST).ln(),
            Self::Boosted { base, trees } => base.ms(&point.terms).max(LEAST).ln() + trees.at(&point.terms),
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
}

/// Largest residual, so that one left-out prediction of 0 ms stays a number that can be stored.
const WORST: f64 = 14.0;
/// Largest residual that counts in full when regimes are compared.
const CAP: f64 = 0.5;

impl Evaluated {
    /// Mean absolute left-out error in logarithms (0.05 is about 5 %), capped so that one stalled run does not decide.
    pub(super) fn error(&self) -> f64 {
        self.error_of(&|_| true)
    }

    fn error_of(&self, keep: &dyn Fn(usize) -> bool) -> f64 {
        let kept = (0..).zip(&self.residuals).filter(|(i, _)| keep(*i));
        let (sum, n) = kept.fold((0.0, 0.0), |(sum, n), (_, r)| (sum + r.abs().min(CAP), n + 1.0));
        sum / f64::max(n, 1.0)
    }
}

/// How fast the weight of a regime falls with its left-out error: twice the error, a quarter of the weight.
const SHARPNESS: i32 = 2;
/// A regime with less weight than this is not worth asking.
const FAINT: f64 = 0.05;
/// From [`MANY`] measurements on a more elaborate regime must lower the left-out error by this share to be chosen.
const EARNED: f64 = 0.02;

/// What each regime weighs in the prediction, in the order given; weights sum to 1.
///
/// Few measurements cannot tell regimes of like error apart, and the mean of like ones is better than either, so weights fall with the
/// left-out error; many can, and the best is taken alone.
fn weights(found: &[Evaluated], many: bool, keep: &dyn Fn(usize) -> bool) -> Vec<f64> {
    let errors: Vec<f64> = found.iter().map(|own| own.error_of(keep).max(1e-9)).collect();
    if many {
        let mut best = 0;
        for (i, error) in errors.iter().enumerate() {
            if errors.get(best).is_none_or(|least| *error < least * (1.0 - EARNED)) {
                best = i;
            }
        }
        return (0..errors.len()).map(|i| f64::from(u8::from(i == best))).collect();
    }
    let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let mut weights: Vec<f64> = errors.iter().map(|error| (least / error).powi(SHARPNESS)).collect();
    for floor in [0.0, FAINT] {
        weights.iter_mut().filter(|weight| **weight < floor).for_each(|weight| *weight = 0.0);
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
    }
    weights
}

/// A weighted geometric mean of regimes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Blend {
    pub(super) members: Vec<(f64, Predictor)>,
}

impl Blend {
    fn new<'a>(weights: &[f64], predictors: impl Iterator<Item = Option<&'a Predictor>>) -> Self {
        let members = weights.iter().zip(predictors).filter(|(weight, _)| **weight > 0.0);
        Self { members: members.filter_map(|(weight, own)| Some((*weight, own?.clone()))).collect() }
    }

    /// Natural logarithm of the predicted milliseconds.
    pub(super) fn ln(&self, point: &Point) -> f64 {
        self.members.iter().map(|(weight, own)| weight * own.ln(point)).sum()
    }

    /// Whether a term has any say.
    pub(super) fn uses(&self, column: usize) -> bool {
        self.members.iter().any(|(_, own)| own.uses(column))
    }
}

/// All regimes together.
pub(super) struct Together {
    pub(super) blend: Blend,
    /// Weight of each regime that was tried.
    pub(super) weights: Vec<f64>,
    /// The blends that left each fold out.
    pub(super) folds: Vec<Blend>,
    /// `ln(measured / left-out prediction)` of each measurement.
    pub(super) residuals: Vec<f64>,
}

/// Blends regimes. Weights of a left-out prediction are those that follow from the other folds, so that the choice does not flatter
/// the residuals. `None` when there is no regime.
pub(super) fn together(
    found: &[Evaluated],
    rows: &Rows<'_>,
    places: &[usize],
    folds: usize,
) -> Option<Together> {
    let first = found.first()?;
    let many = first.residuals.len() >= MANY;
    let all = weights(found, many, &|_| true);
    let blends: Vec<Blend> = (0..folds)
        .map(|fold| {
            let own = weights(found, many, &|i| places.get(i) != Some(&fold));
            Blend::new(&own, found.iter().map(|regime| regime.folds.get(fold)))
        })
        .collect();
    let residuals = residuals(rows, places, |fold, point| Some(blends.get(fold)?.ln(point)))?;
    let blend = Blend::new(&all, found.iter().map(|regime| Some(&regime.predictor)));
    Some(Together { blend, weights: all, folds: blends, residuals })
}

fn residuals(
    rows: &Rows<'_>,
    places: &[usize],
    left_out: impl Fn(usize, &Point) -> Option<f64>,
) -> Option<Vec<f64>> {
    let parts = rows.points.iter().zip(&rows.ms).zip(places);
    parts
        .map(|((point, ms), place)| Some((ms.ln() - left_out(*place, point)?).clamp(-WORST, WORST)))
        .collect()
}

/// Fits `regime` to all of `rows` and to all but each fold. `None` when it cannot be fitted.
///
/// While measurements are few every choice within a fit (strengths, penalty, loss) is made anew without the fold, so that its
/// residuals are those of unseen measurements.
pub(super) fn evaluate(regime: Regime, rows: &Rows<'_>, places: &[usize], folds: usize) -> Option<Evaluated> {
    let (predictor, fits): (Predictor, Vec<Predictor>) = match regime {
        Regime::Additive | Regime::Boosted if rows.len() >= MANY => {
            let fit = Additive::fit(rows, places, folds)?;
            if regime == Regime::Additive {
                (Predictor::Additive(fit.model), fit.folds.into_iter().map(Predictor::Additive).collect())
            } else {
                let kept = |fold| rows.filter(|i| places.get(i) != Some(&fold));
                let fits = (0..).zip(fit.folds).map(|(fold, base)| boosted(base, &kept(fold)));
                (boosted(fit.model, rows), fits.collect())
            }
        }
        _ => {
            let fits = (0..folds).map(|fold| fit(regime, &rows.filter(|i| places.get(i) != Some(&fold))));
            (fit(regime, rows)?, fits.collect::<Option<_>>()?)
        }
    };
    let residuals = residuals(rows, places, |fold, point| Some(fits.get(fold)?.ln(point)))?;
    Some(Evaluated { regime, predictor, folds: fits, residuals })
}

fn fit(regime: Regime, rows: &Rows<'_>) -> Option<Predictor> {
    /// Folds within a fit.
    const INNER: usize = 5;
    let additive = || Some(Additive::fit(rows, &places(rows.len(), INNER), INNER)?.model);
    match regime {
        Regime::BestSource => Some(Predictor::Map(Map::fit(rows)?)),
        Regime::Joint => Some(Predictor::Joint(Joint::fit(rows)?)),
        Regime::Additive => Some(Predictor::Additive(additive()?)),
        Regime::Boosted => Some(boosted(additive()?, rows)),
    }
}

fn boosted(base: Additive, rows: &Rows<'_>) -> Predictor {
    let targets: Vec<f64> = rows
        .points
        .iter()
        .zip(&rows.ms)
        .map(|(point, ms)| (ms / base.ms(&point.terms).max(LEAST)).ln().clamp(-CAP, CAP))
        .collect();
    let terms: Vec<&[f64]> = rows.points.iter().map(|point| point.terms.as_slice()).collect();
    let trees = Boost::fit(&terms, rows.roles.len(), &targets);
    Predictor::Boosted { base, trees }
}
