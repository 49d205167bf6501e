//! One draw: samples are chosen, models fitted to them, and all judged on the same unseen rows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use masktas_devices::latency::{Adaptive, Regime, diverse, latency_model};
use masktas_devices::stats::Rng;
use masktas_devices::{HeldOut, Key, LatencyModel, Prediction, Sample};
use masktas_runtime::Features;

use crate::baselines;
use crate::tables::{Row, Table};

/// How samples are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    Random,
    Diverse,
}

/// One model's result of one draw.
pub struct Trial {
    pub target: String,
    pub seed: u64,
    pub choice: Choice,
    pub model: &'static str,
    pub samples: usize,
    pub regime: Option<Regime>,
    pub result: HeldOut,
    /// One line about the fit.
    pub note: String,
}

impl Trial {
    pub fn label(&self) -> String {
        format!(
            "{} ({}, {})",
            self.model,
            self.samples,
            match self.choice {
                Choice::Random => "random",
                Choice::Diverse => "diverse",
            }
        )
    }
}

/// What all draws share.
pub struct Job<'a> {
    table: &'a Table,
    /// Rows below this index are of the first file.
    first: usize,
    two_files: bool,
    pub samples: usize,
    pub only: Option<Regime>,
    /// What source devices say about every row, once asked for.
    said: RefCell<BTreeMap<String, Vec<Option<f64>>>>,
}

/// Rows that a source's model is fitted to.
const SOURCE_ROWS: usize = 800;
/// Least share of the target's rows that a source must have.
const SHARED: f64 = 0.7;
/// Candidates among which diversity chooses.
const CANDIDATES: usize = 2000;

impl<'a> Job<'a> {
    pub fn new(table: &'a Table, first: usize, two_files: bool) -> Self {
        Self { table, first, two_files, samples: 0, only: None, said: RefCell::default() }
    }

    /// The sources that have enough of the target's rows; what they say is made ready.
    pub fn sources(&self, target: &str, names: &[String]) -> Result<Vec<String>, String> {
        let rows: Vec<usize> = self.rows(target).collect();
        let mut kept = Vec::new();
        for name in names {
            if !self.said.borrow().contains_key(name) {
                let said = if self.table.modelled { self.modelled(name)? } else { self.measured(name) };
                self.said.borrow_mut().insert(name.clone(), said);
            }
            let said = self.said.borrow();
            let has = rows.iter().filter(|row| said[name][**row].is_some()).count();
            if has as f64 >= SHARED * rows.len() as f64 {
                kept.push(name.clone());
            }
        }
        Ok(kept)
    }

    /// Whether the table has rows of a device to judge by.
    pub fn judges(&self, target: &str) -> bool {
        self.rows(target).any(|row| !self.two_files || row >= self.first)
    }

    fn rows(&self, target: &str) -> impl Iterator<Item = usize> {
        let rows = self.table.rows.iter().enumerate();
        rows.filter(move |(_, row)| row.ms.contains_key(target)).map(|(index, _)| index)
    }

    /// A source's measurements, of the same model in the other file where a row lacks its own.
    fn measured(&self, source: &str) -> Vec<Option<f64>> {
        let by_id: BTreeMap<&str, f64> =
            self.table.rows.iter().filter_map(|row| Some((row.id.as_str(), *row.ms.get(source)?))).collect();
        let own = |row: &Row| row.ms.get(source).or_else(|| by_id.get(row.id.as_str())).copied();
        self.table.rows.iter().map(own).collect()
    }

    /// What a source's model predicts for every row, fitted to some rows of the first file.
    fn modelled(&self, source: &str) -> Result<Vec<Option<f64>>, String> {
        let mut rows: Vec<usize> = self.rows(source).filter(|row| *row < self.first).collect();
        if rows.is_empty() {
            return Err(format!(
                "source `{source}` has no measurements in the file of --train; leave it out of --sources"
            ));
        }
        Rng::new(0x50).shuffle(&mut rows);
        rows.truncate(SOURCE_ROWS);
        let features = |row: &Row| features(&self.table.fine, row.fine.clone());
        let samples: Vec<Sample> = rows
            .iter()
            .map(|row| &self.table.rows[*row])
            .map(|row| Sample { features: features(row), ms: row.ms[source], key: key(source) })
            .collect();
        let mut model = latency_model("ridge").map_err(|error| error.to_string())?;
        model.fit(&samples).map_err(|error| format!("source `{source}`: {error}"))?;
        let predict = |row: &Row| model.predict(&features(row)).map(|p| Some(p.ms.max(1e-6)));
        self.table
            .rows
            .iter()
            .map(predict)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("source `{source}`: {error}"))
    }

    /// Rows to choose samples from, and rows to judge by, in an order that the seed shuffles.
    fn split(&self, target: &str, sources: &[String], seed: u64) -> Result<(Vec<usize>, Vec<usize>), String> {
        let said = self.said.borrow();
        let mut rows: Vec<usize> =
            self.rows(target).filter(|row| sources.iter().all(|name| said[name][*row].is_some())).collect();
        Rng::new(seed).shuffle(&mut rows);
        let both = rows.iter().any(|row| *row < self.first) && self.two_files;
        let (mut pool, test): (Vec<usize>, Vec<usize>) = if both {
            rows.iter().partition(|row| **row < self.first)
        } else {
            let third = rows.len() / 3;
            (rows.split_off(third), rows)
        };
        // A network in both files is not unseen.
        let judged: BTreeSet<&str> = test.iter().map(|row| self.table.rows[*row].id.as_str()).collect();
        pool.retain(|row| !judged.contains(self.table.rows[*row].id.as_str()));
        match pool.is_empty() || test.is_empty() {
            true => Err(format!(
                "`{target}` has {} rows to fit to and {} to judge by; both files need rows of it",
                pool.len(),
                test.len()
            )),
            false => Ok((pool, test)),
        }
    }

    /// Fits every model to one choice of samples.
    pub fn run(
        &self,
        target: &str,
        sources: &[String],
        choice: Choice,
        seed: u64,
    ) -> Result<Vec<Trial>, String> {
        let (pool, test) = self.split(target, sources, seed)?;
        let said = self.said.borrow();
        let mut terms = self.table.terms.clone();
        terms.extend(sources.iter().map(|name| (format!("source.{name}"), "ms")));
        let full = |index: usize, order: bool| {
            let row = &self.table.rows[index];
            let mut values = row.values.clone();
            values.extend(sources.iter().map(|name| said[name][index].unwrap_or(0.0)));
            let mut terms = terms.clone();
            if order {
                terms.push(("measured.order".into(), "1"));
                values.push(row.order.unwrap_or(0.0));
            }
            features(&terms, values)
        };
        let fail = |error: masktas_devices::Error| format!("`{target}`: {error}");
        let chosen: Vec<usize> = match choice {
            Choice::Random => pool.iter().copied().take(self.samples).collect(),
            Choice::Diverse => {
                let candidates = &pool[..pool.len().min(CANDIDATES.max(self.samples))];
                let all: Vec<Features> = candidates.iter().map(|row| full(*row, false)).collect();
                diverse(&all, self.samples, seed).map_err(fail)?.into_iter().map(|i| candidates[i]).collect()
            }
        };
        let ms = |row: &usize| self.table.rows[*row].ms[target];
        let data = |order: bool| {
            let sample = |row: &usize| Sample { features: full(*row, order), ms: ms(row), key: key(target) };
            let samples: Vec<Sample> = chosen.iter().map(sample).collect();
            let tests: Vec<Features> = test.iter().map(|row| full(*row, order)).collect();
            (samples, tests)
        };
        let measured: Vec<f64> = test.iter().map(ms).collect();
        let mut trials = Vec::new();
        let mut add =
            |model: &'static str, regime: Option<Regime>, note: String, predictions: &[Prediction]| {
                let Some(result) = HeldOut::of(predictions, &measured) else { return };
                trials.push(Trial {
                    target: target.to_owned(),
                    seed,
                    choice,
                    model,
                    samples: chosen.len(),
                    regime,
                    result,
                    note,
                });
            };
        let adaptive = |only: Option<Regime>, samples: &[Sample], tests: &[Features]| {
            let mut model = Adaptive::default();
            if let Some(only) = only {
                model = model.only(only);
            }
            model.fit(samples)?;
            let predictions = tests.iter().map(|f| model.predict(f)).collect::<Result<Vec<_>, _>>()?;
            Ok((model.regime()?, model.describe()?, predictions))
        };
        let (samples, tests) = data(false);
        let (regime, note, predictions) = adaptive(self.only, &samples, &tests).map_err(fail)?;
        add("masktas", Some(regime), note, &predictions);
        if self.table.rows[chosen[0]].order.is_some() {
            let (samples, tests) = data(true);
            let (regime, note, predictions) = adaptive(self.only, &samples, &tests).map_err(fail)?;
            add("masktas, order known", Some(regime), note, &predictions);
        }
        add("median", None, String::new(), &baselines::median(&samples, tests.len()));
        if let Some(flops) = self.table.flops {
            add("FLOP-linear", None, String::new(), &baselines::linear(flops, &samples, &tests));
        }
        if !sources.is_empty() {
            let (regime, note, predictions) =
                adaptive(Some(Regime::BestSource), &samples, &tests).map_err(fail)?;
            add("best source", Some(regime), note, &predictions);
            let own = self.table.terms.len();
            add("ridge on ln sources", None, String::new(), &baselines::log_ridge(own, &samples, &tests));
        }
        let cut = |features: &Features| {
            let own = self.table.terms.len();
            let values = features.values.iter().take(own).copied().collect();
            crate::trial::features(&self.table.terms, values)
        };
        let mut ridge = latency_model("ridge").map_err(fail)?;
        let own: Vec<Sample> = samples
            .iter()
            .map(|sample| Sample { features: cut(&sample.features), ..sample.clone() })
            .collect();
        // The plain ridge needs ten measurements.
        if ridge.fit(&own).is_ok() {
            let predictions =
                tests.iter().map(|f| ridge.predict(&cut(f))).collect::<Result<Vec<_>, _>>().map_err(fail)?;
            add("ridge on own terms", None, String::new(), &predictions);
        }
        Ok(trials)
    }
}

fn features(terms: &[(String, &'static str)], values: Vec<f64>) -> Features {
    Features {
        version: 1,
        names: terms.iter().map(|(name, _)| name.clone()).collect(),
        units: terms.iter().map(|(_, unit)| (*unit).to_owned()).collect(),
        values,
    }
}

fn key(device: &str) -> Key {
    Key {
        engine: "table".into(),
        engine_version: "published".into(),
        provider: "unknown".into(),
        threads: 1,
        protocol: "published".into(),
        reference: "none".into(),
        fingerprint: device.into(),
    }
}
