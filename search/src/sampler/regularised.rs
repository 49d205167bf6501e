//! Regularised evolution (Real et al., AAAI 2019): the oldest member leaves, whatever it is worth.
//!
//! Of the last `population` members, `parents` are drawn and the best of them has one gene changed. It looks for the best score
//! within the budget, not for a front.

use super::log::Log;
use super::{Budget, Sampler, Trial};
use crate::error::Result;
use crate::rand::{Draw, Rng};
use crate::recipe::SamplerChoice;
use crate::space::{Genes, Space};

/// Tournaments before a random member takes the child's place.
const TRIES: usize = 50;

/// Regularised evolution.
#[derive(Debug)]
pub struct Regularised {
    population: usize,
    sample: usize,
    log: Log,
}

impl Regularised {
    /// With a recipe's `population`, and `parents` members in a tournament.
    pub fn new(choice: &SamplerChoice) -> Self {
        Self { population: choice.population.max(1), sample: choice.parents.max(1), log: Log::default() }
    }

    fn child(&self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let trials = &self.log.trials;
        let alive = &trials[trials.len().saturating_sub(self.population)..];
        if alive.is_empty() || self.log.next() < self.population {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let mut best = &alive[rng.below(alive.len())];
            for _ in 1..self.sample {
                let other = &alive[rng.below(alive.len())];
                if other.score > best.score {
                    best = other;
                }
            }
            let mut near = space.neighbours(&best.genes);
            if near.is_empty() {
                continue;
            }
            let child = near.swap_remove(rng.below(near.len()));
            if self.log.fits(&child, budget)? {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }
}

impl Sampler for Regularised {
    fn name(&self) -> &'static str {
        "regularised-evolution"
    }

    fn ahead(&self) -> usize {
        self.population.saturating_sub(self.log.next()).max(1)
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let genes = match self.child(space, budget, rng)? {
            Some(child) => Some(child),
            None => self.log.random(space, budget, rng)?,
        };
        Ok(genes.map(|genes| self.log.propose(genes)))
    }

    fn tell(&mut self, trial: Trial) {
        self.log.tell(trial);
    }
}
