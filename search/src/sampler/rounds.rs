//! Samplers that fit a model once a round: a random first generation, then rounds of proposals that are planned together.

use sha2::{Digest, Sha256};

use super::log::Log;
use super::{Budget, Trial};
use crate::error::Result;
use crate::rand::{Rng, stream};
use crate::space::{Genes, Space};

/// Plans a round, best first.
pub(super) type Make<'a> = dyn FnMut(&[Trial], &mut Rng) -> Result<Vec<Genes>> + 'a;

/// Where a search stands in its rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    population: usize,
    batch: usize,
    pub(super) log: Log,
    /// Proposals of the round that begins at this trial, best first.
    plan: Option<(usize, Vec<Genes>)>,
}

impl Rounds {
    pub(super) fn new(population: usize, batch: usize) -> Self {
        Self { population, batch: batch.max(1), log: Log::default(), plan: None }
    }

    /// The first proposal of the round that proposal `index` is in; `None` in the random first generation.
    fn start(&self, index: usize) -> Option<usize> {
        index.checked_sub(self.population).map(|past| index - past % self.batch)
    }

    /// Proposals that may be asked before the next is told.
    pub(super) fn ahead(&self) -> usize {
        let index = self.log.next();
        self.start(index).map_or(self.population, |start| start + self.batch) - index
    }

    /// The next proposal: of the round's plan, else a random member.
    ///
    /// `make` plans a round from the trials before it and a random stream that follows from them, so that a plan is the same however
    /// the search came there.
    pub(super) fn ask(
        &mut self,
        space: &dyn Space,
        budget: &dyn Budget,
        rng: &mut Rng,
        make: &mut Make<'_>,
    ) -> Result<Option<Genes>> {
        let mut genes = None;
        if let Some(start) = self.start(self.log.next()) {
            if self.plan.as_ref().is_none_or(|(round, _)| *round != start) {
                let trials = &self.log.trials[..start.min(self.log.trials.len())];
                self.plan =
                    Some((start, make(trials, &mut stream(seed(trials), "sampler/round", start as u64))?));
            }
            for candidate in self.plan.iter().flat_map(|(_, plan)| plan) {
                if self.log.fits(candidate, budget)? {
                    genes = Some(candidate.clone());
                    break;
                }
            }
        }
        let genes = match genes {
            Some(genes) => Some(genes),
            None => self.log.random(space, budget, rng)?,
        };
        Ok(genes.map(|genes| self.log.propose(genes)))
    }
}

/// A seed that follows from the trials.
fn seed(trials: &[Trial]) -> u64 {
    let mut hash = Sha256::new();
    for trial in trials {
        hash.update(trial.score.to_le_bytes());
        hash.update(trial.genes.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    hash.finalize().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// The trials' members and scores, and the positions of the best `count` scores, best first.
pub(super) fn rated(trials: &[Trial], count: usize) -> (Vec<(Genes, f64)>, Vec<usize>) {
    let rated: Vec<(Genes, f64)> = trials.iter().map(|trial| (trial.genes.clone(), trial.score)).collect();
    let mut order: Vec<usize> = (0..rated.len()).collect();
    order.sort_by(|&a, &b| rated[b].1.total_cmp(&rated[a].1).then(a.cmp(&b)));
    order.truncate(count);
    (rated, order)
}

/// The `count` candidates that are guessed highest, highest first; equal guesses stay in order.
pub(super) fn highest(candidates: Vec<Genes>, guesses: &[f64], count: usize) -> Vec<Genes> {
    let mut order: Vec<usize> = (0..candidates.len().min(guesses.len())).collect();
    order.sort_by(|&a, &b| guesses[b].total_cmp(&guesses[a]).then(a.cmp(&b)));
    order.into_iter().take(count).map(|at| candidates[at].clone()).collect()
}
