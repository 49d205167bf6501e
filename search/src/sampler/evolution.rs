//! Evolution that keeps a Pareto front of score against cost.
//!
//! Operators and their numbers are AutoFormer's (Chen et al., ICCV 2021): a random first generation,
//! then mutants and crossovers of the best, each drawn a bounded number of times and replaced by a
//! random member when none fits. Instead of the best score alone, parents are chosen by
//! non-dominated rank and crowding (NSGA-II), so that the search covers every budget below the limit.

use super::log::Log;
use super::{Budget, Sampler, Trial};
use crate::error::Result;
use crate::front::{Point, selection};
use crate::rand::{Draw, Rng};
use crate::recipe::SamplerChoice;
use crate::space::{Genes, Space};

/// Draws of a mutant or a crossover before a random member takes its place.
const TRIES: usize = 50;

/// Pareto evolution.
#[derive(Debug)]
pub struct Evolution {
    population: usize,
    parents: usize,
    mutants: usize,
    crossovers: usize,
    each: f64,
    structural: f64,
    log: Log,
}

impl Evolution {
    /// With the numbers of a recipe; counts of 0 become 1 where 0 makes no sense.
    pub fn new(choice: &SamplerChoice) -> Self {
        let mutants = if choice.crossovers == 0 { choice.mutants.max(1) } else { choice.mutants };
        Self {
            population: choice.population.max(1),
            parents: choice.parents.max(1),
            mutants,
            crossovers: choice.crossovers,
            each: choice.mutate_each,
            structural: choice.mutate_structure,
            log: Log::default(),
        }
    }

    /// Where proposal `index` stands: its generation's first proposal, and its place in it. `None` in
    /// the random first generation.
    fn slot(&self, index: usize) -> Option<(usize, usize)> {
        let place = index.checked_sub(self.population)? % (self.mutants + self.crossovers);
        Some((index - place, place))
    }

    /// The best of the trials told before proposal `start`.
    ///
    /// Only those: proposals of one generation do not depend on one another's outcome, so any part of
    /// a generation can be asked before it is told, and a search that was stopped in its middle goes
    /// on as if it had not been.
    fn chosen(&self, start: usize) -> Vec<&Genes> {
        let pool = &self.log.trials[..start.min(self.log.trials.len())];
        let points: Vec<Point> =
            pool.iter().map(|trial| Point { score: trial.score, cost: trial.cost }).collect();
        selection(&points).into_iter().take(self.parents).map(|at| &pool[at].genes).collect()
    }

    fn offspring(
        &self,
        start: usize,
        place: usize,
        space: &dyn Space,
        budget: &dyn Budget,
        rng: &mut Rng,
    ) -> Result<Option<Genes>> {
        let parents = self.chosen(start);
        if parents.is_empty() {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let one = parents[rng.below(parents.len())];
            let child = if place < self.mutants {
                Some(space.mutate(one, self.structural, self.each, rng))
            } else {
                let other = parents[rng.below(parents.len())];
                space.cross(one, other, rng)
            };
            if let Some(child) = child
                && self.log.fits(&child, budget)?
            {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }
}

impl Sampler for Evolution {
    fn name(&self) -> &'static str {
        "evolution"
    }

    fn ahead(&self) -> usize {
        let index = self.log.next();
        let end = match self.slot(index) {
            None => self.population,
            Some((start, _)) => start + self.mutants + self.crossovers,
        };
        end - index
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let child = match self.slot(self.log.next()) {
            Some((start, place)) => self.offspring(start, place, space, budget, rng)?,
            None => None,
        };
        let genes = match child {
            Some(child) => Some(child),
            None => self.log.random(space, budget, rng)?,
        };
        Ok(genes.map(|genes| self.log.propose(genes)))
    }

    fn tell(&mut self, trial: Trial) {
        self.log.tell(trial);
    }
}
