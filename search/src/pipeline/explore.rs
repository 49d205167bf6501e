//! The search chapter: reference subnets are scored once, then the sampler proposes and learns.
//!
//! It knows genes only: any space and any score will do.

use std::time::Instant;

use crate::budget::SearchBudget;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::rand::stream;
use crate::recipe::Recipe;
use crate::run::{Phase, ReferenceRecord, Run, TrialRecord, document};
use crate::sampler::{self, Budget, Trial};
use crate::score::{Component, Fusion, Score};
use crate::space::{Genes, Space};

/// Reference subnets that are scored together: enough for every lane, few enough for a stop to be quick.
const REFERENCES_AT_ONCE: usize = 8;

/// Scores references, then searches until the recipe's evaluations are used or the space is.
pub(crate) fn explore(
    run: &mut Run,
    recipe: &Recipe,
    space: &dyn Space,
    score: &mut dyn Score,
    budgets: &SearchBudget<'_>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let fusion = references(run, recipe, space, score, progress)?;
    let mut sampler = sampler::by_name(&recipe.sampler, &recipe.predictor)?;
    let mut done = 0;
    let mut best = f64::NEG_INFINITY;
    for record in run.trials()? {
        // The sampler's state is a function of what it is told: ask as it was asked, then tell.
        let mut rng = sampler::proposal_rng(recipe.seed, done);
        let asked = sampler.ask(space, budgets, &mut rng)?;
        if asked.as_ref() != Some(&record.genes) {
            return Err(Error::NotARun {
                path: run.folder().to_path_buf(),
                problem: format!(
                    "trial {done} is not what the sampler proposes; the recipe or the program changed"
                ),
                next: "start a new run".into(),
            });
        }
        best = best.max(record.score);
        sampler.tell(Trial { genes: record.genes, score: record.score, cost: record.cost });
        done += 1;
    }
    progress.begin("search", recipe.sampler.evaluations as u64, "trial");
    progress.advance(done as u64, "");
    while done < recipe.sampler.evaluations {
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let mut rng = sampler::proposal_rng(recipe.seed, done);
        let Some(genes) = sampler.ask(space, budgets, &mut rng)? else {
            progress.say("no further architecture within the budget was found");
            break;
        };
        let begun = Instant::now();
        let components = rate(score, &genes)?;
        let fused = fusion.fuse(&components)?;
        let cost = budgets.cost(&genes)?;
        let record = TrialRecord {
            index: done,
            id: space.id(&genes),
            genes: genes.clone(),
            components,
            score: fused,
            cost,
        };
        run.commit_trial(&record, begun.elapsed().as_secs_f64())?;
        sampler.tell(Trial { genes, score: fused, cost });
        done += 1;
        best = best.max(fused);
        progress.advance(done as u64, &format!("best score {best:.3}"));
    }
    progress.end(&format!("{done} trials"));
    run.export_trials()?;
    run.mark(Phase::Search)
}

/// Scores the reference subnets that are not yet in the run, and fits the fusion to all of them.
fn references(
    run: &mut Run,
    recipe: &Recipe,
    space: &dyn Space,
    score: &mut dyn Score,
    progress: &mut dyn Progress,
) -> Result<Fusion> {
    let count = recipe.score.reference_subnets;
    let mut references = run.references()?;
    progress.begin("references", count as u64, "subnet");
    progress.advance(references.len() as u64, "");
    while references.len() < count {
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let first = references.len();
        let group = first..count.min(first + REFERENCES_AT_ONCE);
        let member = |i: usize| space.sample(&mut stream(recipe.seed, "score/references", i as u64));
        let genes: Vec<Genes> = group.map(member).collect();
        for (components, genes) in score.rate(&genes)?.into_iter().zip(genes) {
            let reference =
                ReferenceRecord { index: references.len(), id: space.id(&genes), genes, components };
            run.commit_reference(&reference)?;
            references.push(reference);
        }
        progress.advance(references.len() as u64, "");
    }
    progress.end(&format!("{count} reference subnets scored"));
    let components: Vec<Vec<Component>> =
        references.into_iter().map(|reference| reference.components).collect();
    let fusion = run.commit_doc(document::FUSION, &Fusion::fit(&components)?)?;
    run.mark(Phase::References)?;
    Ok(fusion)
}

fn rate(score: &mut dyn Score, genes: &Genes) -> Result<Vec<Component>> {
    let mut rated = score.rate(std::slice::from_ref(genes))?;
    rated.pop().ok_or_else(|| Error::Backend("the score gave nothing for an architecture".into()))
}
