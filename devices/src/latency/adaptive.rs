//! The latency model that the search uses: from a handful of measurements and other devices' models to thousands of its own.

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use super::evaluate::{Blend, Evaluated, MANY, Regime, Together, evaluate, folds, places, together};
use super::interval::{CONFIDENCE, at_rank, jackknife, upper_rank};
use super::terms::{Layout, Point, Role, Rows, SOURCE, canonical, check, outside, range, scales};
use super::{HeldOut, LatencyModel, MIN_SAMPLES, Prediction, Sample, from_json, to_json};
use crate::error::{Error, Result};
use crate::measure::Key;
use crate::stats::sorted;

pub(super) const NAME: &str = "adaptive";

/// Fewest measurements of a fit that has source devices to lean on.
pub const MIN_SAMPLES_WITH_SOURCES: usize = 5;

/// Latency by the [`Regime`] that predicts left-out measurements best.
///
/// Terms are a graph's [`Features`], and in addition what other devices say about the same graph: terms named `source.DEVICE`
/// in ms, which either come with the features (a table of measurements) or are asked of the models given to
/// [`Adaptive::with_sources`]. A stored model holds its sources, so it needs no other file.
///
/// The 90 % interval is the jackknife+ / CV+ of Barber et al. (2021) on logarithms of measured over left-out predictions, in a
/// [`Regime::Joint`] fit relative to the fit's own standard deviation at each graph, so that graphs unlike the measured ones get
/// wider intervals. From 100 measurements on both ends are quantiles of the left-out ratios of their own, because late runs
/// are more common than early ones. Below 9 measurements, where no finite interval follows from them alone, the residuals of
/// the same regime with each source in the target's place lend their shape. The result depends on the set of measurements, not on
/// their order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Adaptive {
    sources: Vec<Source>,
    #[serde(skip)]
    only: Option<Regime>,
    fitted: Option<Fitted>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fitted {
    layout: Layout,
    scale: Vec<f64>,
    key: Key,
    tried: Vec<Tried>,
    blend: Blend,
    interval: Interval,
    range: Vec<(f64, f64)>,
    held_out: HeldOut,
}

/// A regime that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Which.
    pub regime: Regime,
    /// Mean absolute logarithm of measured over left-out predicted milliseconds: 0.05 is about 5 %. Each is capped at 0.5.
    pub error: f64,
    /// Its weight in the prediction.
    pub weight: f64,
}

/// What the ends of an interval are made of; all in natural logarithms of milliseconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Interval {
    /// Fold and size of each left-out residual, and the fits that left folds out.
    Folds { folds: Vec<Blend>, residuals: Vec<(usize, f64)> },
    /// Both ends, relative to the prediction.
    Ends { low: f64, high: f64 },
}

/// Another device's model.
struct Source {
    name: String,
    model: Box<dyn LatencyModel>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.name)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredSource {
    name: String,
    model: serde_json::Value,
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = self.model.to_json().map_err(serde::ser::Error::custom)?;
        let model = serde_json::from_str(&text).map_err(serde::ser::Error::custom)?;
        StoredSource { name: self.name.clone(), model }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let stored = StoredSource::deserialize(deserializer)?;
        let model = from_json(&stored.model.to_string()).map_err(serde::de::Error::custom)?;
        Ok(Self { name: stored.name, model })
    }
}

impl Adaptive {
    /// A model that leans on the fitted models of other devices, by name: each adds the term `source.NAME`, what it predicts for
    /// the same graph.
    ///
    /// # Errors
    /// [`Error::NotFitted`] for a source that was not fitted; [`Error::InvalidLatencyModel`] when two share a name.
    pub fn with_sources(sources: Vec<(String, Box<dyn LatencyModel>)>) -> Result<Self> {
        let mut own: Vec<Source> = Vec::with_capacity(sources.len());
        for (name, model) in sources {
            model.key()?;
            if own.iter().any(|source| source.name == name) {
                return Err(Error::InvalidLatencyModel {
                    reason: format!("two sources are called `{name}`"),
                });
            }
            own.push(Source { name, model });
        }
        Ok(Self { sources: own, only: None, fitted: None })
    }

    /// The same model with its choice of regime taken away, to compare regimes.
    pub fn only(mut self, regime: Regime) -> Self {
        self.only = Some(regime);
        self
    }

    /// The regime that weighs most.
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    pub fn regime(&self) -> Result<Regime> {
        let tried = self.tried()?.iter();
        let most = tried.reduce(|most, own| if own.weight > most.weight { own } else { most });
        most.map(|most| most.regime).ok_or_else(|| Error::NotFitted { name: NAME.into() })
    }

    /// Every regime that was tried, the simplest first.
    ///
    /// # Errors
    /// [`Error::NotFitted`].
    pub fn tried(&self) -> Result<&[Tried]> {
        Ok(&self.fitted()?.tried)
    }

    fn fitted(&self) -> Result<&Fitted> {
        self.fitted.as_ref().ok_or_else(|| Error::NotFitted { name: NAME.into() })
    }

    /// Features with what the sources say appended. A source without a say is not asked: the low end of what it said about the
    /// measured graphs stands in.
    fn widened(&self, features: &Features) -> Result<Features> {
        let mut wide = features.clone();
        for (source, index) in self.sources.iter().zip(features.names.len()..) {
            let idle = self.fitted.as_ref().filter(|fitted| !fitted.blend.uses(index));
            let ms = match idle.and_then(|fitted| fitted.range.get(index)) {
                Some((low, _)) => *low,
                None => source.model.predict(features)?.ms,
            };
            wide.names.push(format!("{SOURCE}{}", source.name));
            wide.units.push("ms".into());
            wide.values.push(ms);
        }
        Ok(wide)
    }
}

impl LatencyModel for Adaptive {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fit(&mut self, samples: &[Sample]) -> Result<()> {
        let named = |sample: &Sample| sample.features.names.iter().any(|name| name.starts_with(SOURCE));
        let sources = !self.sources.is_empty() || samples.first().is_some_and(named);
        let need = if sources { MIN_SAMPLES_WITH_SOURCES } else { MIN_SAMPLES };
        let (_, key) = check(samples, need)?;
        self.fitted = None;
        let wide = samples.iter().map(|s| self.widened(&s.features)).collect::<Result<Vec<_>>>()?;
        let layout = wide.first().map(Layout::of).unwrap_or_default();
        for features in &wide {
            layout.check(features)?;
        }
        let data = canonical(wide.into_iter().zip(samples).map(|(f, s)| (f.values, s.ms)).collect());
        let (roles, scale) = (layout.roles(), scales(&data, &layout.roles()));
        let points: Vec<Point> = data.iter().map(|(terms, _)| Point::new(terms, &roles, &scale)).collect();
        let rows = Rows::new(&roles, &points, data.iter().map(|(_, ms)| *ms).collect());

        let folds = folds(rows.len());
        let places = places(rows.len(), folds);
        let regimes = Regime::ALL.into_iter().filter(|regime| match self.only {
            Some(only) => *regime == only,
            None => regime.fits(rows.len(), sources),
        });
        let found: Vec<Evaluated> =
            regimes.filter_map(|regime| evaluate(regime, &rows, &places, folds)).collect();
        let all = together(&found, &rows, &places, folds).ok_or(Error::InvalidFeatures {
            reason: "no term varies between the measured models, so nothing can be learnt from them".into(),
        })?;
        let held_out = held_out(&all.residuals, &rows.ms)
            .ok_or(Error::TooFewSamples { got: rows.len(), need: MIN_SAMPLES_WITH_SOURCES })?;
        let tried = found.iter().zip(&all.weights);
        self.fitted = Some(Fitted {
            key: key.clone(),
            tried: tried
                .map(|(own, weight)| Tried { regime: own.regime, error: own.error(), weight: *weight })
                .collect(),
            interval: interval(&all, &found, &rows, &places, folds),
            blend: all.blend,
            range: range(&data, roles.len()),
            held_out,
            layout,
            scale,
        });
        Ok(())
    }

    fn predict(&self, features: &Features) -> Result<Prediction> {
        let fitted = self.fitted()?;
        let wide;
        let features = if self.sources.is_empty() {
            features
        } else {
            wide = self.widened(features)?;
            &wide
        };
        fitted.layout.check(features)?;
        let terms = features.values.as_slice();
        let point = Point::new(terms, &fitted.layout.roles(), &fitted.scale);
        let ln = fitted.blend.ln(&point);
        let (low, high) = match &fitted.interval {
            Interval::Ends { low, high } => (Some(ln + low), Some(ln + high)),
            Interval::Folds { folds, residuals } => {
                let by_fold: Vec<f64> = folds.iter().map(|fold| fold.ln(&point)).collect();
                let ends = |sign: f64| {
                    let end = |(fold, size): &(usize, f64)| Some(by_fold.get(*fold)? + sign * size);
                    residuals.iter().filter_map(end).collect()
                };
                jackknife(ends(-1.0), ends(1.0), CONFIDENCE)
            }
        };
        Ok(Prediction {
            ms: ln.exp(),
            // Folds may all lie on one side of the fit to everything.
            low: low.map_or(0.0, |low| low.min(ln).exp()),
            high: high.map_or(f64::INFINITY, |high| high.max(ln).exp()),
            extrapolated: outside(terms, &fitted.range),
        })
    }

    fn held_out(&self) -> Result<&HeldOut> {
        Ok(&self.fitted()?.held_out)
    }

    fn key(&self) -> Result<&Key> {
        Ok(&self.fitted()?.key)
    }

    fn describe(&self) -> Result<String> {
        let fitted = self.fitted()?;
        let used = |source: bool| {
            let names = (0..).zip(&fitted.layout.names);
            names.filter(move |(i, name)| name.starts_with(SOURCE) == source && fitted.blend.uses(*i))
        };
        let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        let own = count(used(false).count(), "term");
        let from = match used(true).count() {
            0 => own,
            sources => format!("{} and {own}", count(sources, "source device")),
        };
        let shares: Vec<String> = fitted
            .tried
            .iter()
            .map(|own| match own.weight {
                weight if weight > 0.0 => {
                    format!("{:.0} % {} (alone {:.1} %)", 100.0 * weight, own.regime, 100.0 * own.error)
                }
                _ => format!("no {} ({:.1} %)", own.regime, 100.0 * own.error),
            })
            .collect();
        let error = &fitted.held_out;
        Ok(format!(
            "90 % interval {:.0} % wide; fitted to {} by {from}: {}",
            100.0 * error.width,
            count(error.n, "measurement"),
            shares.join(", ")
        ))
    }

    fn to_json(&self) -> Result<String> {
        to_json(NAME, self)
    }
}

fn interval(
    all: &Together,
    found: &[Evaluated],
    rows: &Rows<'_>,
    places: &[usize],
    folds: usize,
) -> Interval {
    if rows.len() >= MANY {
        let (low, high) = tails(&sorted(&all.residuals));
        return Interval::Ends { low: low.min(0.0), high: high.max(0.0) };
    }
    if upper_rank(rows.len(), CONFIDENCE) as usize <= rows.len() {
        let sizes = all.residuals.iter().map(|residual| residual.abs());
        return Interval::Folds {
            folds: all.folds.clone(),
            residuals: places.iter().copied().zip(sizes).collect(),
        };
    }
    let regimes: Vec<Regime> = found.iter().map(|own| own.regime).collect();
    let radius = pooled(&all.residuals, &regimes, rows, places, folds) * root_mean_square(&all.residuals);
    Interval::Ends { low: -radius, high: radius }
}

/// Quantiles that leave 5 % on each side.
fn tails(residuals: &[f64]) -> (f64, f64) {
    let tail = (1.0 + CONFIDENCE) / 2.0;
    let n = residuals.len();
    let high = at_rank(residuals, upper_rank(n, tail).min(n as f64));
    let low = at_rank(residuals, ((1.0 - tail) * (n as f64 + 1.0) + 1e-9).floor().max(1.0));
    (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY))
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// The 90 % quantile of residuals over the root mean square of the others of their device, pooled over the target and all sources, each
/// of which takes the target's place in turn.
fn pooled(own: &[f64], regimes: &[Regime], rows: &Rows<'_>, places: &[usize], folds: usize) -> f64 {
    let studentised = |residuals: &[f64]| -> Vec<f64> {
        let others = |skip: usize| {
            let others = (0..).zip(residuals).filter(|(i, _)| *i != skip).map(|(_, r)| *r);
            root_mean_square(&others.collect::<Vec<_>>()).max(1e-12)
        };
        (0..).zip(residuals).map(|(i, residual)| residual.abs() / others(i)).collect()
    };
    let mut all = studentised(own);
    for (column, _) in (0..).zip(rows.roles).filter(|(_, role)| **role == Role::Source) {
        // Without its own logarithm no regime can read its answer from itself.
        let mut points: Vec<Point> = rows.points.iter().map(|point| (*point).clone()).collect();
        for point in &mut points {
            if let Some(slot) = point.logs.get_mut(column) {
                *slot = 0.0;
            }
        }
        let stand_in = Rows::new(rows.roles, &points, rows.column(column));
        let found: Vec<Evaluated> =
            regimes.iter().filter_map(|regime| evaluate(*regime, &stand_in, places, folds)).collect();
        if let Some(found) = together(&found, &stand_in, places, folds) {
            all.extend(studentised(&found.residuals));
        }
    }
    let all = sorted(&all);
    at_rank(&all, upper_rank(all.len(), CONFIDENCE).min(all.len() as f64)).unwrap_or(f64::INFINITY)
}

/// Error of the left-out predictions; the interval of each is made of the others' residuals.
fn held_out(residuals: &[f64], measured: &[f64]) -> Option<HeldOut> {
    let many = (residuals.len() >= MANY).then(|| tails(&sorted(residuals)));
    let ends = |i: usize| {
        many.unwrap_or_else(|| {
            let others = (0..).zip(residuals).filter(|(j, _)| *j != i).map(|(_, size)| size.abs());
            let others = sorted(&others.collect::<Vec<_>>());
            // With few measurements the rank lies beyond the sample: the largest stands in.
            let rank = upper_rank(others.len(), CONFIDENCE).min(others.len() as f64);
            let radius = at_rank(&others, rank).unwrap_or(f64::INFINITY);
            (-radius, radius)
        })
    };
    let predictions: Vec<Prediction> = (0..)
        .zip(measured.iter().zip(residuals))
        .map(|(i, (ms, residual))| {
            let ((low, high), left_out) = (ends(i), ms / residual.exp());
            let (low, high) = (left_out * low.exp(), left_out * high.min(700.0).exp());
            Prediction { ms: left_out, low, high, extrapolated: false }
        })
        .collect();
    HeldOut::of(&predictions, measured)
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
