//! How well predictors rank architectures that they have not seen.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::{Kept, Summary, Told, kendall, kept};
use crate::error::{Error, Result};
use crate::predictor::{self, FEWEST};
use crate::rand::{Draw, stream};
use crate::recipe;
use crate::space::{Genes, Space as _};
use crate::table::TableSpace;

/// One predictor at one number of labels.
#[derive(Clone, Debug, Serialize)]
pub struct PredictorRow {
    /// The predictor, as it was written.
    pub predictor: String,
    /// Rated architectures that it was fitted to.
    pub labels: usize,
    /// Kendall's tau on all others, over the splits.
    pub tau: Summary,
    /// Tau less that of the first predictor at as many labels, split by split; `None` for the first.
    pub difference: Option<Summary>,
    /// Share of the others whose value lies in the 90 % interval.
    pub covered: f64,
}

/// Members that have a number in this column, with their groups.
fn known(space: &TableSpace, column: &str) -> Result<Vec<(Genes, f64, String)>> {
    let values = space.column(column)?;
    let all = space.members().iter().cloned().zip(values).zip(space.groups()?);
    Ok(all
        .filter(|((_, value), _)| value.is_finite())
        .map(|((genes, value), group)| (genes, value, group))
        .collect())
}

/// What is compared: fits to a part of a table, judged on the rest.
#[derive(Clone, Debug)]
pub struct PredictorTask<'a> {
    /// The table.
    pub space: &'a TableSpace,
    /// The column that is guessed.
    pub score: String,
    /// Predictors, written `ridge` or `gin+ccl`.
    pub names: Vec<String>,
    /// Rated architectures that are fitted to.
    pub labels: Vec<usize>,
    /// Random splits for each.
    pub splits: usize,
}

/// Fits every predictor to some architectures of each split, and asks it for the rest. Equal architectures (by
/// [`TableSpace::groups`]) are never on both sides, and one of each is fitted.
///
/// # Errors
/// Columns that are not there, names that are unknown, more labels than there are architectures; [`Error::Interrupted`] after a stop.
pub fn predictors(task: &PredictorTask<'_>, kept: &Kept, told: &mut Told<'_>) -> Result<Vec<PredictorRow>> {
    let known = known(task.space, &task.score)?;
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, (_, _, group)) in known.iter().enumerate() {
        groups.entry(group).or_default().push(at);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let names = &task.names;
    let settings: Vec<recipe::Predictor> = names.iter().map(|name| settings(name)).collect::<Result<_>>()?;
    let (hash, values) = (task.space.hash(), known.iter().map(|(_, value, _)| *value).collect::<Vec<_>>());
    let ground = kept::key(&[&hash, &values, &groups]);
    let (mut rows, mut done) = (Vec::new(), 0);
    for &count in &task.labels {
        if count < FEWEST || count >= groups.len() {
            return Err(Error::Invalid {
                thing: format!("{count} labels"),
                problem: format!("{FEWEST} to {} distinct architectures can be fitted to", groups.len() - 1),
                next: "change --labels".to_owned(),
            });
        }
        let mut first: Vec<f64> = Vec::new();
        for (name, settings) in names.iter().zip(&settings) {
            let one = |split: usize| -> Result<(f64, f64)> {
                let key = kept::key(&[&ground, settings, &count, &split]);
                kept.or(&key, || judge(task.space, &known, &groups, settings, count, split as u64))
            };
            let numbers: Vec<usize> = (0..task.splits).collect();
            let mut results: Vec<(f64, f64)> = Vec::new();
            // In groups, so that a stop is heard.
            for group in numbers.chunks(rayon::current_num_threads()) {
                results.extend(group.par_iter().map(|split| one(*split)).collect::<Result<Vec<_>>>()?);
                done += group.len();
                if told(done) {
                    return Err(Error::Interrupted);
                }
            }
            let taus: Vec<f64> = results.iter().map(|(tau, _)| *tau).collect();
            let covered =
                results.iter().map(|(_, covered)| covered).sum::<f64>() / results.len().max(1) as f64;
            let mut difference = None;
            if first.is_empty() {
                first.clone_from(&taus);
            } else {
                difference = Some(super::paired(&taus, &first).0);
            }
            rows.push(PredictorRow {
                predictor: name.clone(),
                labels: count,
                tau: Summary::of(&taus),
                difference,
                covered,
            });
        }
    }
    Ok(rows)
}

/// Tau of another column of the table with this one, over all members: what a predictor has to beat.
///
/// # Errors
/// Columns that are not there.
pub fn baseline(space: &TableSpace, column: &str, other: &str) -> Result<f64> {
    let pairs = space.column(column)?.into_iter().zip(space.column(other)?);
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.filter(|(a, b)| a.is_finite() && b.is_finite()).unzip();
    Ok(kendall(&a, &b))
}

/// `gin+ccl`: a predictor and how it is pre-trained.
fn settings(text: &str) -> Result<recipe::Predictor> {
    let (name, pretrain) = text.split_once('+').unwrap_or((text, "none"));
    let settings = recipe::Predictor { name: name.to_owned(), pretrain: pretrain.to_owned() };
    match predictor::by_name(&settings)? {
        Some(_) => Ok(settings),
        None => Err(Error::Invalid {
            thing: "predictor none".to_owned(),
            problem: "it guesses nothing".to_owned(),
            next: format!("name some of {}", predictor::NAMES[1..].join(", ")),
        }),
    }
}

/// Tau and coverage of one split.
fn judge(
    space: &TableSpace,
    known: &[(Genes, f64, String)],
    groups: &[Vec<usize>],
    settings: &recipe::Predictor,
    count: usize,
    split: u64,
) -> Result<(f64, f64)> {
    let mut rng = stream(split, "compare/split", count as u64);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    rng.shuffle(&mut order);
    let pair = |at: usize| (known[at].0.clone(), known[at].1);
    let fitted: Vec<(Genes, f64)> =
        order[..count].iter().map(|group| pair(groups[*group][rng.below(groups[*group].len())])).collect();
    let (rest, wanted): (Vec<Genes>, Vec<f64>) =
        order[count..].iter().flat_map(|group| &groups[*group]).map(|at| pair(*at)).unzip();
    let Some(mut predictor) = predictor::by_name(settings)? else { return Ok((0.0, 0.0)) };
    predictor.fit(space, &fitted)?;
    let guesses = predictor.predict(space, &rest)?;
    let values: Vec<f64> = guesses.iter().map(|guess| guess.value).collect();
    let inside =
        guesses.iter().zip(&wanted).filter(|(guess, y)| guess.low <= **y && **y <= guess.high).count();
    Ok((kendall(&values, &wanted), inside as f64 / wanted.len().max(1) as f64))
}
