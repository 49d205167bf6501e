//! Samplers and predictors side by side, on tables where the truth is known.

mod predictors;
mod stats;

pub use predictors::{PredictorRow, baseline, predictors};
pub use stats::{Summary, kendall};

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::recipe::{Predictor, Recipe, SamplerChoice};
use crate::sampler::{self, Budget, Trial, proposal_rng};
use crate::score::Score as _;
use crate::space::{Genes, Space as _};
use crate::table::{TableBudget, TableScore, TableSpace};

/// One sampler with its settings.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// As it was written.
    pub name: String,
    /// The sampler.
    pub sampler: SamplerChoice,
    /// What it guesses by, if it does.
    pub predictor: Predictor,
}

/// Settings for searches of some hundred queries, which are too short for the recipe's generations of 50.
const SHORT: [(&str, &[&str]); 6] = [
    ("random", &[]),
    (
        "evolution",
        &["sampler.population=20", "sampler.parents=10", "sampler.mutants=10", "sampler.crossovers=10"],
    ),
    ("regularised-evolution", &["sampler.population=20", "sampler.parents=5"]),
    ("tpe", &["sampler.population=20", "sampler.gamma=0.1", "sampler.candidates=100"]),
    (
        "seminas",
        &[
            "sampler.population=20",
            "sampler.parents=20",
            "sampler.batch=10",
            "predictor.name=encoder-decoder",
        ],
    ),
    (
        "npenas",
        &[
            "sampler.population=20",
            "sampler.parents=10",
            "sampler.candidates=200",
            "sampler.batch=10",
            "predictor.name=gin",
            "predictor.pretrain=ccl",
        ],
    ),
];

impl Entrant {
    /// Reads `tpe`, or `npenas/gin+ccl`: a sampler, and what it guesses by. `sets` override settings as `--set` does.
    ///
    /// # Errors
    /// Unknown names, with a suggestion; overrides that do not fit.
    pub fn parse(text: &str, sets: &[String]) -> Result<Self> {
        let (name, guesser) = text.split_once('/').map_or((text, None), |(name, by)| (name, Some(by)));
        let short = SHORT.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, sets)| sets);
        let mut all = vec![format!("sampler.name={name}")];
        all.extend(short.iter().map(|set| (*set).to_owned()));
        if let Some(by) = guesser {
            let (predictor, pretrain) = by.split_once('+').unwrap_or((by, "none"));
            all.extend([format!("predictor.name={predictor}"), format!("predictor.pretrain={pretrain}")]);
        }
        all.extend(sets.iter().cloned());
        let recipe = Recipe::load(None, None, &all)?;
        sampler::by_name(&recipe.sampler, &recipe.predictor)?;
        Ok(Self { name: text.to_owned(), sampler: recipe.sampler, predictor: recipe.predictor })
    }
}

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
    /// This sampler's regret less the other's, seed by seed; below 0 is better. `None` for the other itself.
    pub difference: Option<Summary>,
    /// Share of seeds in which this one's regret is lower; ties count half.
    pub wins: Option<f64>,
    /// Milliseconds of ask and tell in a trial, on average.
    pub overhead_ms: f64,
    /// Best score so far, query by query, seed by seed.
    pub curves: Vec<Vec<f64>>,
}

/// Runs every sampler with every seed. `against`: the position of the one that others are paired with. `told` hears after each
/// sampler how many are done, and says whether to stop.
///
/// # Errors
/// Columns that are not there; what a sampler meets.
pub fn samplers(
    task: &Task<'_>,
    entrants: &[Entrant],
    against: usize,
    told: &mut dyn FnMut(usize) -> bool,
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
    if !best.is_finite() {
        return Err(budget.infeasible());
    }
    let mut all: Vec<(Vec<f64>, Row)> = Vec::new();
    for (at, entrant) in entrants.iter().enumerate() {
        let seeds: Vec<usize> = (0..task.seeds).collect();
        let searches: Vec<(Vec<Trial>, f64)> = seeds
            .into_par_iter()
            .map(|seed| search(task, entrant, &budget, seed as u64))
            .collect::<Result<_>>()?;
        let (mut regrets, mut reports, mut curves) = (Vec::new(), Vec::new(), Vec::new());
        let (mut seconds, mut trials) = (0.0, 0);
        for (search, time) in &searches {
            let mut so_far = f64::NEG_INFINITY;
            let mut found: Option<&Genes> = None;
            let mut curve = Vec::new();
            for trial in search {
                if trial.score > so_far {
                    (so_far, found) = (trial.score, Some(&trial.genes));
                }
                curve.push(so_far);
            }
            regrets.push(best - so_far);
            let member = found.and_then(|genes| task.space.member_at(genes));
            reports.push(member.and_then(|at| report.get(at)).copied().unwrap_or(f64::NAN));
            curves.push(curve);
            (seconds, trials) = (seconds + time, trials + search.len());
        }
        let row = Row {
            sampler: entrant.name.clone(),
            regret: Summary::of(&regrets),
            report: Summary::of(&reports),
            difference: None,
            wins: None,
            overhead_ms: 1000.0 * seconds / trials.max(1) as f64,
            curves,
        };
        all.push((regrets, row));
        if told(at + 1) {
            return Err(Error::Interrupted);
        }
    }
    let other = all.get(against).map(|(regrets, _)| regrets.clone()).unwrap_or_default();
    for (at, (regrets, row)) in all.iter_mut().enumerate().filter(|(at, _)| *at != against) {
        let _ = at;
        let differences: Vec<f64> = regrets.iter().zip(&other).map(|(one, two)| one - two).collect();
        let win = |d: &f64| {
            if *d < 0.0 {
                1.0
            } else if *d > 0.0 {
                0.0
            } else {
                0.5
            }
        };
        row.wins = Some(differences.iter().map(win).sum::<f64>() / differences.len().max(1) as f64);
        row.difference = Some(Summary::of(&differences));
    }
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

/// One search, and the seconds that asking and telling took.
fn search(
    task: &Task<'_>,
    entrant: &Entrant,
    budget: &TableBudget<'_>,
    seed: u64,
) -> Result<(Vec<Trial>, f64)> {
    let mut score = TableScore::new(task.space, &task.score)?;
    let mut sampler = sampler::by_name(&entrant.sampler, &entrant.predictor)?;
    let (mut trials, mut seconds) = (Vec::new(), 0.0);
    while trials.len() < task.queries {
        let begun = std::time::Instant::now();
        let asked = sampler.ask(task.space, budget, &mut proposal_rng(seed, trials.len()))?;
        seconds += begun.elapsed().as_secs_f64();
        let Some(genes) = asked else { break };
        let rated = score.rate(std::slice::from_ref(&genes))?;
        let Some(value) = rated.first().and_then(|components| components.first()).map(|one| one.value) else {
            return Err(Error::Unusable {
                thing: format!("score of {}", task.space.id(&genes)),
                problem: "it has 0 components".to_owned(),
                next: "name another score".to_owned(),
            });
        };
        let trial = Trial { score: value, cost: budget.cost(&genes)?, genes };
        trials.push(trial.clone());
        let begun = std::time::Instant::now();
        sampler.tell(trial);
        seconds += begun.elapsed().as_secs_f64();
    }
    Ok((trials, seconds))
}
