//! Search in a latent space learnt from few ratings and many pseudo-labels (SemiNAS, Luo et al., NeurIPS 2020).
//!
//! A random first generation; then, round by round, [`EncoderDecoder`] is fitted, steps up its guessed score from the best members are
//! said back as candidates, and those guessed highest are rated next. Where steps lead to fewer new members than a round needs,
//! neighbours of the best fill it up. The first generation is not filtered by score.

use std::collections::BTreeSet;

use super::npenas::around;
use super::rounds::{Rounds, highest, rated};
use super::{Budget, Sampler, Trial};
use crate::error::{Error, Result};
use crate::predictor::{EncoderDecoder, FEWEST, Predictor as _};
use crate::rand::Rng;
use crate::recipe;
use crate::space::{Genes, Space};

/// Steps up from each of the best.
const STEPS: usize = 12;

/// SemiNAS.
pub struct Seminas {
    parents: usize,
    batch: usize,
    model: EncoderDecoder,
    rounds: Rounds,
}

impl Seminas {
    /// With a recipe's numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a predictor other than `encoder-decoder`, whose latent space it searches.
    pub fn new(choice: &recipe::SamplerChoice, settings: &recipe::Predictor) -> Result<Self> {
        if settings.name != "encoder-decoder" {
            return Err(Error::Invalid {
                thing: "sampler.name = \"seminas\"".to_owned(),
                problem: format!(
                    "it searches an encoder's latent space, and predictor.name is \"{}\"",
                    settings.name
                ),
                next: "add --set predictor.name=encoder-decoder, or use --recipe seminas".to_owned(),
            });
        }
        Ok(Self {
            parents: choice.parents.max(1),
            batch: choice.batch.max(1),
            model: EncoderDecoder::ranking(),
            rounds: Rounds::new(choice.population.max(FEWEST), choice.batch),
        })
    }
}

impl Sampler for Seminas {
    fn name(&self) -> &'static str {
        "seminas"
    }

    fn ahead(&self) -> usize {
        self.rounds.ahead()
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let Self { parents, batch, model, rounds } = self;
        rounds.ask(space, budget, rng, &mut |trials, rng| {
            let (rated, best) = rated(trials, *parents);
            model.fit(space, &rated)?;
            let known: BTreeSet<&Genes> = rated.iter().map(|(genes, _)| genes).collect();
            let mut candidates: Vec<Genes> = Vec::new();
            for at in &best {
                for member in model.climb(space, &rated[*at].0, STEPS, rng)? {
                    if !known.contains(&member) && !candidates.contains(&member) && budget.allows(&member)? {
                        candidates.push(member);
                    }
                }
            }
            if candidates.len() < *batch {
                let near: Vec<&Genes> = best.iter().map(|at| &rated[*at].0).collect();
                let planned: BTreeSet<&Genes> = known.iter().copied().chain(&candidates).collect();
                let more = around(&near, &planned, *batch, space, budget, rng)?;
                candidates.extend(more);
            }
            let guesses: Vec<f64> =
                model.predict(space, &candidates)?.into_iter().map(|guess| guess.value).collect();
            Ok(highest(candidates, &guesses, *batch))
        })
    }

    fn tell(&mut self, trial: Trial) {
        self.rounds.log.tell(trial);
    }
}
