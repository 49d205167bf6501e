//! What every sampler remembers, and how it finds a member it has not proposed.

use std::collections::BTreeSet;

use super::{Budget, Trial};
use crate::error::Result;
use crate::rand::{Draw, Rng};
use crate::space::{Genes, Space};

/// Random draws before looking around methodically.
const DRAWS: usize = 200;

/// Spaces up to this size are listed in full when all else fails.
const LISTED: u128 = 4096;

/// Steps of the descent that looks for any member within budget.
const DESCENT: usize = 1000;

/// Trials told and proposals pending.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// Told, in order.
    pub(super) trials: Vec<Trial>,
    /// Proposed and not yet told, in order.
    pending: Vec<Genes>,
    /// All of both.
    seen: BTreeSet<Genes>,
}

impl Log {
    /// Number of the next proposal, from 0.
    pub(super) fn next(&self) -> usize {
        self.trials.len() + self.pending.len()
    }

    /// Remembers a proposal.
    pub(super) fn propose(&mut self, genes: Genes) -> Genes {
        self.seen.insert(genes.clone());
        self.pending.push(genes.clone());
        genes
    }

    /// Remembers an outcome, of a proposal or of a log that is told again.
    pub(super) fn tell(&mut self, trial: Trial) {
        if let Some(at) = self.pending.iter().position(|genes| *genes == trial.genes) {
            self.pending.remove(at);
        }
        self.seen.insert(trial.genes.clone());
        self.trials.push(trial);
    }

    /// Whether a candidate is new and within budget. The budget is asked last: it may be slow.
    pub(super) fn fits(&self, genes: &Genes, budget: &dyn Budget) -> Result<bool> {
        Ok(!self.seen.contains(genes) && budget.allows(genes)?)
    }

    /// A random member that fits.
    ///
    /// First by drawing; when the budget is tight or the space nearly used up, next to a member seen
    /// before, at a corner, in a small space from the full list, down the slope of excess, and at the member the budget
    /// knows. `None`: nothing left that these find.
    ///
    /// # Errors
    /// The budget's; [`Budget::infeasible`] when not one member within it was ever found.
    pub(super) fn random(
        &self,
        space: &dyn Space,
        budget: &dyn Budget,
        rng: &mut Rng,
    ) -> Result<Option<Genes>> {
        for _ in 0..DRAWS {
            let genes = space.sample(rng);
            if self.fits(&genes, budget)? {
                return Ok(Some(genes));
            }
        }
        let mut starts: Vec<&Genes> = self.seen.iter().collect();
        rng.shuffle(&mut starts);
        for start in starts {
            if let Some(genes) = self.one_of(space.neighbours(start), budget, rng)? {
                return Ok(Some(genes));
            }
        }
        if let Some(genes) = self.one_of(space.corners(), budget, rng)? {
            return Ok(Some(genes));
        }
        let listed = space.listed().or_else(|| (space.count() <= LISTED).then(|| list(space)));
        if let Some(genes) = self.one_of(listed.unwrap_or_default(), budget, rng)? {
            return Ok(Some(genes));
        }
        if !self.seen.is_empty() {
            return Ok(None);
        }
        if let Some(genes) = self.descend(space, budget)? {
            return Ok(Some(genes));
        }
        // Limits that pull apart leave valleys that no slope leads out of.
        match budget.known()? {
            Some(genes) if self.fits(&genes, budget)? => Ok(Some(genes)),
            _ => Err(budget.infeasible()),
        }
    }

    fn one_of(&self, candidates: Vec<Genes>, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let mut fitting = Vec::new();
        for genes in candidates {
            if self.fits(&genes, budget)? {
                fitting.push(genes);
            }
        }
        if fitting.is_empty() {
            return Ok(None);
        }
        let at = rng.below(fitting.len());
        Ok(Some(fitting.swap_remove(at)))
    }

    /// Steepest descent from the nearest corner, to the first member that fits: of excess, and of cost where that is
    /// equal.
    fn descend(&self, space: &dyn Space, budget: &dyn Budget) -> Result<Option<Genes>> {
        let nearest = |members: Vec<Genes>| -> Result<Option<((f64, f64), Genes)>> {
            let mut best: Option<((f64, f64), Genes)> = None;
            for genes in members {
                let height = (budget.excess(&genes)?, budget.cost(&genes)?);
                if best.as_ref().is_none_or(|(least, _)| height < *least) {
                    best = Some((height, genes));
                }
            }
            Ok(best)
        };
        let mut here = nearest(space.corners())?;
        for _ in 0..DESCENT {
            let Some((height, genes)) = &here else { return Ok(None) };
            if self.fits(genes, budget)? {
                return Ok(Some(genes.clone()));
            }
            match nearest(space.neighbours(genes))? {
                Some(next) if next.0 < *height => here = Some(next),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Every member that neighbours lead to from the corners.
fn list(space: &dyn Space) -> Vec<Genes> {
    let mut seen: BTreeSet<Genes> = space.corners().into_iter().collect();
    let mut queue: Vec<Genes> = seen.iter().cloned().collect();
    while let Some(genes) = queue.pop() {
        queue.extend(space.neighbours(&genes).into_iter().filter(|next| seen.insert(next.clone())));
    }
    seen.into_iter().collect()
}
