//! Samplers on the supernet of a run: how much of the plane their fronts cover after so many ratings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Entrant, Kept, Standing, Summary, Told, kept, pair, search};
use crate::error::{Error, Result};
use crate::front::{Point, hypervolume};
use crate::pipeline::Ground;
use crate::space::Genes;

/// What is compared: searches of a trained supernet within the limits of its run.
pub struct FrontTask<'a> {
    /// The supernet, its score and its limits.
    pub ground: &'a mut Ground,
    /// Architectures rated in a search.
    pub queries: usize,
    /// Searches of each sampler, with seeds 0, 1 and so on.
    pub seeds: usize,
}

/// One sampler's searches.
#[derive(Clone, Debug, Serialize)]
pub struct FrontRow {
    /// The sampler, as it was written.
    pub sampler: String,
    /// Share of the plane that the front covers: between the limit and the least cost in the space, and between scores 0 and 1.
    pub hypervolume: Summary,
    /// The best score found within the limit.
    pub best: Summary,
    /// How its hypervolume stands beside another's, above 0 being better, and the share covered so far.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A finished search.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    /// Share covered so far, query by query.
    curve: Vec<f64>,
    best: f64,
    seconds: f64,
}

/// Runs every sampler with every seed; what one has had rated is not rated again for another. `against`: the position of the one that
/// others are paired with.
///
/// # Errors
/// [`Error::Invalid`] for a run without a limit; what samplers and the score meet; [`Error::Interrupted`] after a stop.
pub fn fronts(
    task: &mut FrontTask<'_>,
    entrants: &[Entrant],
    against: usize,
    kept: &Kept,
    told: &mut Told<'_>,
) -> Result<Vec<FrontRow>> {
    let (queries, seeds) = (task.queries, task.seeds);
    let mut rated: BTreeMap<Vec<u16>, f64> = BTreeMap::new();
    let (ground, score) = task.ground.parts();
    let cost = ground.cost();
    let budget = ground.budget(cost.as_deref())?;
    let (low, most) = ground.range(&budget)?;
    let reference = Point { score: 0.0, cost: most };
    let whole = (most - low).max(f64::MIN_POSITIVE);
    let (mut rows, mut all): (Vec<FrontRow>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for (at, entrant) in entrants.iter().enumerate() {
        let mut searches: Vec<Found> = Vec::new();
        for seed in 0..seeds {
            let key = kept::key(&[&ground.identity(), &queries, &entrant.sampler, &entrant.predictor, &seed]);
            let found = kept.or(&key, || {
                let mut rate = |genes: &Genes| -> Result<f64> {
                    if let Some(known) = rated.get(&genes.values) {
                        return Ok(*known);
                    }
                    let value = score.rate(genes)?;
                    rated.insert(genes.values.clone(), value);
                    Ok(value)
                };
                let (trials, seconds) =
                    search(entrant, ground.space(), &budget, queries, seed as u64, &mut rate)?;
                let points: Vec<Point> =
                    trials.iter().map(|trial| Point { score: trial.score, cost: trial.cost }).collect();
                let curve = (1..=points.len()).map(|n| hypervolume(&points[..n], reference) / whole);
                let best = points.iter().map(|point| point.score).fold(0.0, f64::max);
                Ok(Found { curve: curve.collect(), best, seconds })
            })?;
            searches.push(found);
            if told(at * seeds + seed + 1) {
                return Err(Error::Interrupted);
            }
        }
        let bests: Vec<f64> = searches.iter().map(|found| found.best).collect();
        let seconds = searches.iter().map(|found| found.seconds).sum();
        let standing = Standing::of(searches.into_iter().map(|found| found.curve).collect(), seconds);
        let volumes = standing.ends(0.0);
        let sampler = entrant.name.clone();
        rows.push(FrontRow {
            sampler,
            hypervolume: Summary::of(&volumes),
            best: Summary::of(&bests),
            standing,
        });
        all.push(volumes);
    }
    pair(rows.iter_mut().map(|row| &mut row.standing).collect(), &all, against, false);
    Ok(rows)
}
