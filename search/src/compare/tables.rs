//! Samplers on a table: how far from the best they end after so many ratings.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Entrant, Kept, Standing, Summary, Told, kept, pair, search};
use crate::error::{Error, Result};
use crate::sampler::Budget as _;
use crate::score::Score as _;
use crate::space::{Genes, Space as _};
use crate::table::{TableBudget, TableScore, TableSpace};

/// What is compared: searches of a table by one of its columns.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// The table.
    pub space: &'a TableSpace,
    /// The column searched by; higher is better.
    pub score: String,
    /// The column shown beside it, which no search sees.
    pub report: String,
    /// Limit on a column: its name and the most.
    pub limit: Option<(String, f64)>,
    /// Architectures rated in a search.
    pub queries: usize,
    /// Searches of each sampler, with seeds 0, 1 and so on.
    pub seeds: usize,
}

/// One sampler's searches.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The sampler, as it was written.
    pub sampler: String,
    /// The best score within the limit less the best found.
    pub regret: Summary,
    /// What the report says of the best found.
    pub report: Summary,
    /// How its regret stands beside another's, below 0 being better, and the best score so far.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A finished search.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    /// Best score so far, query by query.
    curve: Vec<f64>,
    /// What the report says of the best; `None`: nothing.
    report: Option<f64>,
    seconds: f64,
}

/// Runs every sampler with every seed. `against`: the position of the one that others are paired with. `told` hears of every few
/// searches.
///
/// # Errors
/// Columns that are not there; what a sampler meets; [`Error::Interrupted`] after a stop.
pub fn samplers(
    task: &Task<'_>,
    entrants: &[Entrant],
    against: usize,
    kept: &Kept,
    told: &mut Told<'_>,
) -> Result<Vec<Row>> {
    let report = task.space.column(&task.report)?;
    let scores = task.space.column(&task.score)?;
    let limit = task.limit.as_ref();
    let budget =
        TableBudget::new(task.space, limit.map(|(column, _)| column.as_str()), limit.map_or(0.0, |l| l.1))?;
    let mut best = f64::NEG_INFINITY;
    for (genes, score) in task.space.members().iter().zip(&scores) {
        if score.is_finite() && budget.allows(genes)? {
            best = best.max(*score);
        }
    }
    if !scores.iter().any(|score| score.is_finite()) {
        return Err(Error::Unusable {
            thing: format!("column {}", task.score),
            problem: format!("0 of {} architectures have a number there", scores.len()),
            next: "name another with --score".to_owned(),
        });
    }
    if !best.is_finite() {
        return Err(budget.infeasible());
    }
    let hash = task.space.hash();
    let ground = kept::key(&[&hash, &scores, &report, &task.limit, &task.queries]);
    let (mut rows, mut all): (Vec<Row>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for (at, entrant) in entrants.iter().enumerate() {
        let one = |seed: usize| -> Result<Found> {
            let key = kept::key(&[&ground, &entrant.sampler, &entrant.predictor, &seed]);
            kept.or(&key, || found(task, entrant, &budget, &report, seed as u64))
        };
        let mut searches: Vec<Found> = Vec::new();
        // In groups, so that a stop is heard.
        let seeds: Vec<usize> = (0..task.seeds).collect();
        for group in seeds.chunks(2 * rayon::current_num_threads()) {
            searches.extend(group.par_iter().map(|seed| one(*seed)).collect::<Result<Vec<_>>>()?);
            if told(at * task.seeds + searches.len()) {
                return Err(Error::Interrupted);
            }
        }
        let reports: Vec<f64> = searches.iter().map(|found| found.report.unwrap_or(f64::NAN)).collect();
        let seconds = searches.iter().map(|found| found.seconds).sum();
        let standing = Standing::of(searches.into_iter().map(|found| found.curve).collect(), seconds);
        let regrets: Vec<f64> = standing.ends(f64::NEG_INFINITY).iter().map(|end| best - end).collect();
        let sampler = entrant.name.clone();
        rows.push(Row { sampler, regret: Summary::of(&regrets), report: Summary::of(&reports), standing });
        all.push(regrets);
    }
    pair(rows.iter_mut().map(|row| &mut row.standing).collect(), &all, against, true);
    Ok(rows)
}

/// One search, told by its curve.
fn found(
    task: &Task<'_>,
    entrant: &Entrant,
    budget: &TableBudget<'_>,
    report: &[f64],
    seed: u64,
) -> Result<Found> {
    let mut score = TableScore::new(task.space, &task.score)?;
    let mut rate = |genes: &Genes| -> Result<f64> {
        let rated = score.rate(std::slice::from_ref(genes))?;
        rated.first().and_then(|components| components.first()).map(|one| one.value).ok_or_else(|| {
            Error::Unusable {
                thing: format!("score of {}", task.space.id(genes)),
                problem: "it has 0 components".to_owned(),
                next: "name another score".to_owned(),
            }
        })
    };
    let (trials, seconds) = search(entrant, task.space, budget, task.queries, seed, &mut rate)?;
    let (mut best, mut curve) = (None::<(f64, &Genes)>, Vec::new());
    for trial in &trials {
        if best.is_none_or(|(most, _)| trial.score > most) {
            best = Some((trial.score, &trial.genes));
        }
        curve.extend(best.map(|(most, _)| most));
    }
    let member = best.and_then(|(_, genes)| task.space.member_at(genes));
    let report = member.and_then(|at| report.get(at)).copied().filter(|value| value.is_finite());
    Ok(Found { curve, report, seconds })
}
