//! Samplers and predictors side by side: on tables where the truth is known, and on the supernet of a run.

mod fronts;
mod kept;
mod predictors;
mod stats;
mod tables;

pub use fronts::{FrontRow, FrontTask, fronts};
pub use kept::Kept;
pub use predictors::{PredictorRow, PredictorTask, baseline, predictors};
pub use stats::{Summary, kendall};
pub use tables::{Row, Task, samplers};

use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::recipe::{Predictor, Recipe, SamplerChoice};
use crate::sampler::{self, Budget, Trial, proposal_rng};
use crate::space::{Genes, Space};

/// Hears how many searches or fits are done, and says whether to stop.
pub type Told<'a> = dyn FnMut(usize) -> bool + 'a;

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
const SHORT: [(&str, &[&str]); 7] = [
    ("random", &[]),
    ("block-dp", &["sampler.population=20", "sampler.parents=10", "sampler.batch=10"]),
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

/// Samplers that guess by a predictor.
const GUIDED: [&str; 2] = ["npenas", "seminas"];

/// Refuses overrides of what no sampler is set by, and the one that would make it another sampler.
fn of_sampler(set: &str) -> Result<()> {
    let key = set.split('=').next().unwrap_or(set).trim();
    let refuse = |problem: &str, next: &str| {
        Err(Error::Invalid {
            thing: format!("--set {set}"),
            problem: problem.to_owned(),
            next: next.to_owned(),
        })
    };
    match key {
        "sampler.name" => refuse("every sampler would be this one", "name samplers with --samplers"),
        "sampler.evaluations" => refuse("--queries says how many are rated", "set --queries"),
        _ if key.starts_with("sampler.") || key.starts_with("predictor.") => Ok(()),
        _ => refuse("no sampler reads it", "set a key of [sampler] or [predictor]"),
    }
}

impl Entrant {
    /// Reads `tpe`, or `npenas/gin+ccl`: a sampler, and what it guesses by; or `recipe:ssnenas`: both as a recipe has them, by its name or
    /// its TOML file, whatever it trains and scores by. `sets` override settings as `--set` does.
    ///
    /// # Errors
    /// Unknown names, with a suggestion; overrides that do not fit.
    pub fn parse(text: &str, sets: &[String]) -> Result<Self> {
        sets.iter().try_for_each(|set| of_sampler(set))?;
        let recipe = match text.strip_prefix("recipe:") {
            Some(recipe) => Recipe::load(Some(recipe), None, sets)?,
            None => Recipe::load(None, None, &Self::short(text, sets))?,
        };
        sampler::by_name(&recipe.sampler, &recipe.predictor)?;
        if let Some((_, by)) =
            text.split_once('/').filter(|_| !GUIDED.contains(&recipe.sampler.name.as_str()))
            && !text.starts_with("recipe:")
        {
            return Err(Error::Invalid {
                thing: format!("sampler {text}"),
                problem: format!("{} guesses nothing, by {by} or otherwise", recipe.sampler.name),
                next: format!("name one of {} so, or leave /{by} out", GUIDED.join(", ")),
            });
        }
        Ok(Self { name: text.to_owned(), sampler: recipe.sampler, predictor: recipe.predictor })
    }

    /// The overrides that make the default recipe a short search by this sampler, then `sets`.
    fn short(text: &str, sets: &[String]) -> Vec<String> {
        let (name, guesser) = text.split_once('/').map_or((text, None), |(name, by)| (name, Some(by)));
        let short = SHORT.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, sets)| sets);
        let mut all = vec![format!("sampler.name={name}")];
        all.extend(short.iter().map(|set| (*set).to_owned()));
        if let Some(by) = guesser {
            let (predictor, pretrain) = by.split_once('+').unwrap_or((by, "none"));
            all.extend([format!("predictor.name={predictor}"), format!("predictor.pretrain={pretrain}")]);
        }
        all.extend(sets.iter().cloned());
        all
    }
}

/// One search of `queries` trials, and the seconds that asking and telling took.
fn search(
    entrant: &Entrant,
    space: &dyn Space,
    budget: &dyn Budget,
    queries: usize,
    seed: u64,
    rate: &mut dyn FnMut(&Genes) -> Result<f64>,
) -> Result<(Vec<Trial>, f64)> {
    let mut sampler = sampler::by_name(&entrant.sampler, &entrant.predictor)?;
    let (mut trials, mut seconds) = (Vec::new(), 0.0);
    while trials.len() < queries {
        let begun = Instant::now();
        let asked = sampler.ask(space, budget, &mut proposal_rng(seed, trials.len()))?;
        seconds += begun.elapsed().as_secs_f64();
        let Some(genes) = asked else { break };
        let trial = Trial { score: rate(&genes)?, cost: budget.cost(&genes)?, genes };
        trials.push(trial.clone());
        let begun = Instant::now();
        sampler.tell(trial);
        seconds += begun.elapsed().as_secs_f64();
    }
    Ok((trials, seconds))
}

/// How one sampler's searches stand beside another's.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// What they are judged by less the other's, seed by seed. `None` for the other itself.
    pub difference: Option<Summary>,
    /// Share of seeds in which this one is better; ties count half.
    pub wins: Option<f64>,
    /// Milliseconds of ask and tell in a trial, on average; predicting costs is a part of asking.
    pub overhead_ms: f64,
    /// Query by query, seed by seed: the best score so far, or the share covered so far.
    pub curves: Vec<Vec<f64>>,
}

impl Standing {
    /// Of searches with these curves, paired with nobody yet.
    fn of(curves: Vec<Vec<f64>>, seconds: f64) -> Self {
        let trials: usize = curves.iter().map(Vec::len).sum();
        Self { difference: None, wins: None, overhead_ms: 1000.0 * seconds / trials.max(1) as f64, curves }
    }

    /// Where each curve ends; `none` for one without a point.
    fn ends(&self, none: f64) -> Vec<f64> {
        self.curves.iter().map(|curve| curve.last().copied().unwrap_or(none)).collect()
    }
}

/// Pairs `values`, one list a sampler, with those of the sampler at `against`: sets the differences, and the wins where `lower` says
/// whether less is better.
fn pair(standings: Vec<&mut Standing>, values: &[Vec<f64>], against: usize, lower: bool) {
    let Some(other) = values.get(against) else { return };
    for (_, (standing, values)) in
        standings.into_iter().zip(values).enumerate().filter(|(at, _)| *at != against)
    {
        let (difference, below) = paired(values, other);
        (standing.difference, standing.wins) =
            (Some(difference), Some(if lower { below } else { 1.0 - below }));
    }
}

/// Seed by seed one less the other, and the share of seeds in which it is below 0; ties count half.
fn paired(one: &[f64], other: &[f64]) -> (Summary, f64) {
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, two)| one - two).collect();
    let below = |d: &f64| match d.total_cmp(&0.0) {
        _ if *d == 0.0 => 0.5,
        std::cmp::Ordering::Less => 1.0,
        _ => 0.0,
    };
    let share = differences.iter().map(below).sum::<f64>() / differences.len().max(1) as f64;
    (Summary::of(&differences), share)
}

#[cfg(test)]
mod tests;
