//! Evolution guided by a predictor (NPENAS, Wei et al., 2020).
//!
//! A random first generation; then, round by round, a predictor is fitted to all that was rated, the best are mutated into many
//! candidates, some are drawn besides, and those that it guesses highest are rated next.

use std::collections::BTreeSet;

use super::rounds::{Rounds, highest, rated};
use super::{Budget, Sampler, Trial};
use crate::error::{Error, Result};
use crate::predictor::{self, Predictor};
use crate::rand::{Draw, Rng};
use crate::recipe;
use crate::space::{Genes, Space};

/// Draws for each candidate that has to be new and within budget.
const TRIES: usize = 8;

/// One candidate in so many comes from anywhere in the space: where the first generation is poor, the best of it are no place to stay.
const FAR: usize = 4;

/// Predictor-guided evolution.
pub struct Npenas {
    parents: usize,
    candidates: usize,
    batch: usize,
    predictor: Box<dyn Predictor>,
    rounds: Rounds,
}

impl Npenas {
    /// With a recipe's numbers, and its predictor.
    ///
    /// # Errors
    /// As [`predictor::by_name`]; [`Error::Invalid`] for predictor `none`.
    pub fn new(choice: &recipe::SamplerChoice, settings: &recipe::Predictor) -> Result<Self> {
        let Some(predictor) = predictor::by_name(settings)? else {
            return Err(Error::Invalid {
                thing: "sampler.name = \"npenas\"".to_owned(),
                problem: "it guesses scores, and predictor.name is \"none\"".to_owned(),
                next: "add --set predictor.name=gin, or use --recipe ssnenas".to_owned(),
            });
        };
        let population = choice.population.max(predictor::FEWEST);
        Ok(Self {
            parents: choice.parents.max(1),
            candidates: choice.candidates.max(1),
            batch: choice.batch.max(1),
            predictor,
            rounds: Rounds::new(population, choice.batch),
        })
    }
}

/// Members one or two steps from those in `near`, new and within budget, at most `count`.
pub(super) fn around(
    near: &[&Genes],
    known: &BTreeSet<&Genes>,
    count: usize,
    space: &dyn Space,
    budget: &dyn Budget,
    rng: &mut Rng,
) -> Result<Vec<Genes>> {
    let mut candidates: Vec<Genes> = Vec::new();
    for _ in 0..count * TRIES {
        if candidates.len() >= count || near.is_empty() {
            break;
        }
        let mut steps = space.neighbours(near[rng.below(near.len())]);
        // A second step now and then leads out of a neighbourhood that is used up.
        if rng.chance(0.5) && !steps.is_empty() {
            steps = space.neighbours(&steps[rng.below(steps.len())]);
        }
        if steps.is_empty() {
            continue;
        }
        let genes = steps.swap_remove(rng.below(steps.len()));
        if !known.contains(&genes) && !candidates.contains(&genes) && budget.allows(&genes)? {
            candidates.push(genes);
        }
    }
    Ok(candidates)
}

/// Adds members from anywhere in the space, new and within budget, until there are `count`.
fn anywhere(
    candidates: &mut Vec<Genes>,
    known: &BTreeSet<&Genes>,
    count: usize,
    space: &dyn Space,
    budget: &dyn Budget,
    rng: &mut Rng,
) -> Result<()> {
    for _ in 0..count.saturating_sub(candidates.len()) * TRIES {
        if candidates.len() >= count {
            break;
        }
        let genes = space.sample(rng);
        if !known.contains(&genes) && !candidates.contains(&genes) && budget.allows(&genes)? {
            candidates.push(genes);
        }
    }
    Ok(())
}

impl Sampler for Npenas {
    fn name(&self) -> &'static str {
        "npenas"
    }

    fn ahead(&self) -> usize {
        self.rounds.ahead()
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let Self { parents, candidates, batch, predictor, rounds } = self;
        rounds.ask(space, budget, rng, &mut |trials, rng| {
            let (rated, best) = rated(trials, *parents);
            predictor.fit(space, &rated)?;
            let known: BTreeSet<&Genes> = rated.iter().map(|(genes, _)| genes).collect();
            let near: Vec<&Genes> = best.iter().map(|at| &rated[*at].0).collect();
            let (count, far) = (*candidates, *candidates / FAR);
            let mut candidates = around(&near, &known, count - far, space, budget, rng)?;
            anywhere(&mut candidates, &known, count, space, budget, rng)?;
            let guesses: Vec<f64> =
                predictor.predict(space, &candidates)?.into_iter().map(|guess| guess.value).collect();
            Ok(highest(candidates, &guesses, *batch))
        })
    }

    fn tell(&mut self, trial: Trial) {
        self.rounds.log.tell(trial);
    }
}
