//! Random search: the control that every other sampler has to beat.

use super::log::Log;
use super::{Budget, Sampler, Trial};
use crate::error::Result;
use crate::rand::Rng;
use crate::space::{Genes, Space};

/// Proposes random members within budget.
#[derive(Debug, Default)]
pub struct Random {
    log: Log,
}

impl Sampler for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn ahead(&self) -> usize {
        usize::MAX
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let genes = self.log.random(space, budget, rng)?;
        Ok(genes.map(|genes| self.log.propose(genes)))
    }

    fn tell(&mut self, trial: Trial) {
        self.log.tell(trial);
    }
}
