//! The tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) over categorical genes.
//!
//! The best share of the trials makes one density and the rest another; of many draws from the first, the one whose densities differ
//! most in its favour is proposed. Densities are kernels around whole trials, a product over genes (the multivariate form of Falkner
//! et al., ICML 2018), so that genes that are only good together stay together. A gene that is inactive in a trial says nothing
//! there: it is left out of that trial's kernel.

use super::log::Log;
use super::{Budget, Sampler, Trial};
use crate::error::Result;
use crate::rand::{Draw, Rng};
use crate::recipe::SamplerChoice;
use crate::space::{Genes, Space};

/// Trials in the better density, at most.
const MOST_GOOD: usize = 25;

/// Draws for each candidate that has to be new and within budget.
const TRIES: usize = 8;

/// TPE.
#[derive(Debug)]
pub struct Tpe {
    startup: usize,
    gamma: f64,
    candidates: usize,
    log: Log,
}

impl Tpe {
    /// With a recipe's `population` of random trials to begin with, its `gamma` and its `candidates`.
    pub fn new(choice: &SamplerChoice) -> Self {
        Self {
            startup: choice.population.max(2),
            gamma: choice.gamma,
            candidates: choice.candidates.max(1),
            log: Log::default(),
        }
    }

    /// The best of `candidates` draws from the better density; `None` when no draw fits.
    fn model(&self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let mut order: Vec<usize> = (0..self.log.trials.len()).collect();
        order.sort_by(|&a, &b| self.log.trials[b].score.total_cmp(&self.log.trials[a].score).then(a.cmp(&b)));
        let good = ((self.gamma * order.len() as f64).ceil() as usize).clamp(1, MOST_GOOD);
        let of = |part: &[usize]| part.iter().map(|at| &self.log.trials[*at].genes).collect::<Vec<_>>();
        let (good, rest) = order.split_at(good.min(order.len()));
        let options: Vec<usize> = space.genes().iter().map(|gene| gene.options.len()).collect();
        let (better, worse) = (Density::new(of(good), &options), Density::new(of(rest), &options));
        let mut best: Option<(f64, Genes)> = None;
        for _ in 0..self.candidates {
            for _ in 0..TRIES {
                let genes = better.draw(space, rng);
                if !self.log.fits(&genes, budget)? {
                    continue;
                }
                let gain = better.log(&genes) - worse.log(&genes);
                if best.as_ref().is_none_or(|(most, _)| gain > *most) {
                    best = Some((gain, genes));
                }
                break;
            }
        }
        Ok(best.map(|(_, genes)| genes))
    }
}

/// A mixture of kernels around trials and one flat one.
struct Density<'a> {
    centres: Vec<&'a Genes>,
    /// The genes of each centre, one row each: a value, or the number of options where the gene is inactive.
    codes: Vec<u16>,
    options: &'a [usize],
    /// Probability that a kernel's gene is drawn anew.
    width: f64,
}

impl<'a> Density<'a> {
    fn new(centres: Vec<&'a Genes>, options: &'a [usize]) -> Self {
        // Scott's rule for the number of genes: few trials stand for wide surroundings.
        let spread = (centres.len().max(1) as f64).powf(-1.0 / (options.len() as f64 + 4.0));
        let code = |centre: &&'a Genes| -> Vec<u16> {
            let genes = centre.values.iter().zip(&centre.active).zip(options);
            genes.map(|((value, active), k)| if *active { *value } else { *k as u16 }).collect()
        };
        let codes = centres.iter().flat_map(code).collect();
        Self { centres, codes, options, width: WIDTH * spread }
    }

    fn draw(&self, space: &dyn Space, rng: &mut Rng) -> Genes {
        let at = rng.below(self.centres.len() + 1);
        let Some(centre) = self.centres.get(at) else { return space.sample(rng) };
        let mut values = centre.values.clone();
        let active = space.active(&values);
        for (gene, value) in values.iter_mut().enumerate() {
            // What the centre leaves open is drawn, in case a structural gene switches it on.
            if !active[gene] || rng.chance(self.width) {
                *value = rng.below(self.options[gene]) as u16;
            }
        }
        space.member(values, rng)
    }

    /// The logarithm, over the genes that are active in both.
    fn log(&self, genes: &Genes) -> f64 {
        let flat: f64 = self
            .options
            .iter()
            .zip(&genes.active)
            .filter(|(_, active)| **active)
            .map(|(k, _)| -(*k as f64).ln())
            .sum();
        // What each code of each gene adds, side by side: logarithms take longer than all the rest, and there may be a thousand kernels.
        let (mut adds, mut starts) = (Vec::new(), Vec::with_capacity(self.options.len()));
        for ((options, value), active) in self.options.iter().zip(&genes.values).zip(&genes.active) {
            let k = *options as f64;
            starts.push(adds.len());
            let (open, same, other) =
                (-k.ln(), (1.0 - self.width + self.width / k).ln(), (self.width / k).ln());
            adds.extend((0..=*options).map(|code| match code {
                _ if !active => 0.0,
                code if code == *options => open,
                code if code == usize::from(*value) => same,
                _ => other,
            }));
        }
        let kernel = |codes: &[u16]| -> f64 {
            codes.iter().zip(&starts).map(|(code, start)| adds[start + usize::from(*code)]).sum()
        };
        let kernels = self.codes.chunks_exact(self.options.len().max(1)).map(kernel);
        let logs: Vec<f64> = kernels.chain(std::iter::once(flat)).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + (logs.iter().map(|log| (log - most).exp()).sum::<f64>() / logs.len() as f64).ln()
    }
}

/// Width of a kernel before Scott's rule.
const WIDTH: f64 = 0.5;

impl Sampler for Tpe {
    fn name(&self) -> &'static str {
        "tpe"
    }

    fn ahead(&self) -> usize {
        self.startup.saturating_sub(self.log.next()).max(1)
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let modelled = if self.log.next() < self.startup { None } else { self.model(space, budget, rng)? };
        let genes = match modelled {
            Some(genes) => Some(genes),
            None => self.log.random(space, budget, rng)?,
        };
        Ok(genes.map(|genes| self.log.propose(genes)))
    }

    fn tell(&mut self, trial: Trial) {
        self.log.tell(trial);
    }
}
