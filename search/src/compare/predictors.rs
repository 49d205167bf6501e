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

/// Members that have a number in the column.
fn known(task: &PredictorTask<'_>) -> Result<Vec<Known>> {
    let values = task.space.column(&task.score)?;
    let beside = match &task.beside {
        Some((column, _)) => task.space.column(column)?,
        None => vec![f64::NAN; values.len()],
    };
    let all =
        task.space.members().iter().cloned().zip(values.into_iter().zip(beside)).zip(task.space.groups()?);
    let all = all.map(|((genes, (value, beside)), group)| Known { genes, value, beside, group });
    Ok(all.filter(|one| one.value.is_finite()).collect())
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
    /// Another column, known of so many architectures, those with labels among them: every predictor is then also judged with a
    /// second head for it.
    pub beside: Option<(String, usize)>,
}

/// An architecture with its values: what is guessed and, where there is one, the column beside it.
struct Known {
    genes: Genes,
    value: f64,
    beside: f64,
    group: String,
}

/// Fits every predictor to some architectures of each split, and asks it for the rest. Equal architectures (by
/// [`TableSpace::groups`]) are never on both sides, and one of each is fitted.
///
/// # Errors
/// Columns that are not there, names that are unknown, more labels than there are architectures; [`Error::Interrupted`] after a stop.
pub fn predictors(task: &PredictorTask<'_>, kept: &Kept, told: &mut Told<'_>) -> Result<Vec<PredictorRow>> {
    let known = known(task)?;
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, one) in known.iter().enumerate() {
        groups.entry(&one.group).or_default().push(at);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let names = &task.names;
    let settings: Vec<recipe::Predictor> = names.iter().map(|name| settings(name)).collect::<Result<_>>()?;
    let (hash, values) = (task.space.hash(), known.iter().map(|one| one.value).collect::<Vec<_>>());
    let ground = kept::key(&[&hash, &values, &groups]);
    let beside_values: Vec<f64> = known.iter().map(|one| one.beside).collect();
    let (mut rows, mut done) = (Vec::new(), 0);
    for &count in &task.labels {
        check_beside(task, count, groups.len())?;
        if count < FEWEST || count >= groups.len() {
            return Err(Error::Invalid {
                thing: format!("{count} labels"),
                problem: format!(
                    "at least {FEWEST} are needed, and fewer than the {} distinct architectures that are known",
                    groups.len()
                ),
                next: "change --labels, or give a larger table".to_owned(),
            });
        }
        let mut first: Vec<f64> = Vec::new();
        let both = |pair| {
            std::iter::once((pair, None)).chain(task.beside.as_ref().map(|beside| (pair, Some(beside))))
        };
        let rows_of = names.iter().zip(&settings).flat_map(both);
        for ((name, settings), beside) in rows_of {
            let one = |split: usize| -> Result<(f64, f64)> {
                let key = match beside {
                    Some(beside) => kept::key(&[&ground, &beside_values, beside, settings, &count, &split]),
                    None => kept::key(&[&ground, settings, &count, &split]),
                };
                let labels = [count, beside.map_or(0, |(_, count)| *count)];
                kept.or(&key, || judge(task.space, &known, &groups, settings, labels, split as u64))
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
                predictor: match beside {
                    Some((column, count)) => format!("{name} beside {column} of {count}"),
                    None => name.clone(),
                },
                labels: count,
                tau: Summary::of(&taus),
                difference,
                covered,
            });
        }
    }
    Ok(rows)
}

/// Whether the column beside can teach something: it is another one, and known of more than have labels.
fn check_beside(task: &PredictorTask<'_>, labels: usize, architectures: usize) -> Result<()> {
    let Some((column, count)) = &task.beside else { return Ok(()) };
    let refuse = |problem: String, next: &str| {
        Err(Error::Invalid { thing: format!("--beside {column}={count}"), problem, next: next.to_owned() })
    };
    if *column == task.score {
        return refuse("it is the column that is guessed".to_owned(), "name another column");
    }
    if !(labels..=architectures).contains(count) {
        let problem =
            format!("with {labels} labels it is known of {labels} to {architectures} distinct architectures");
        return refuse(problem, "change the number");
    }
    Ok(())
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

/// Tau and coverage of one split, from so many labels and, where it is not 0, so many of the column beside them.
fn judge(
    space: &TableSpace,
    known: &[Known],
    groups: &[Vec<usize>],
    settings: &recipe::Predictor,
    [count, beside]: [usize; 2],
    split: u64,
) -> Result<(f64, f64)> {
    let mut rng = stream(split, "compare/split", count as u64);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    rng.shuffle(&mut order);
    let mut drawn = |group: &usize| groups[*group][rng.below(groups[*group].len())];
    let fitted: Vec<usize> = order[..count].iter().map(&mut drawn).collect();
    let more: Vec<usize> = order[count..beside.max(count)].iter().map(&mut drawn).collect();
    let rest: Vec<&Known> =
        order[count..].iter().flat_map(|group| &groups[*group]).map(|at| &known[*at]).collect();
    let wanted: Vec<f64> = rest.iter().map(|one| one.value).collect();
    let rest: Vec<Genes> = rest.into_iter().map(|one| one.genes.clone()).collect();
    let Some(mut predictor) = predictor::by_name(settings)? else { return Ok((0.0, 0.0)) };
    let row = |one: &Known, value: f64| (one.genes.clone(), vec![value, one.beside]);
    let labelled = fitted.iter().map(|at| row(&known[*at], known[*at].value));
    let mut rated: Vec<(Genes, Vec<f64>)> =
        labelled.chain(more.iter().map(|at| row(&known[*at], f64::NAN))).collect();
    if beside == 0 {
        rated.iter_mut().for_each(|(_, values)| values.truncate(1));
    }
    predictor.fit_heads(space, &rated)?;
    let guesses = predictor.predict(space, &rest)?;
    let values: Vec<f64> = guesses.iter().map(|guess| guess.value).collect();
    let inside =
        guesses.iter().zip(&wanted).filter(|(guess, y)| guess.low <= **y && **y <= guess.high).count();
    Ok((kendall(&values, &wanted), inside as f64 / wanted.len().max(1) as f64))
}
