//! One search for several devices: the first one's run trains the supernet, and each further device has a run of its own
//! below that, which takes over everything that does not depend on a device.

use std::collections::BTreeSet;

use super::reuse::{PROFILE_FROM, take_images, take_profile, take_trained};
use super::{Ready, Setup, Workshop, lean};
use crate::budget::SearchBudget;
use crate::error::Result;
use crate::progress::Progress;
use crate::run::{Further, Manifest, Phase, Run, TrialRecord};
use crate::sampler::Budget as _;

/// Profiles the further devices of a run and finds out whether their budgets can be met, in order.
pub(super) fn prepare(first: &Ready, setup: &Setup, progress: &mut dyn Progress) -> Result<Vec<Ready>> {
    first.run.manifest().further.iter().map(|one| ready(one, first, setup, progress)).collect()
}

fn ready(one: &Further, first: &Ready, setup: &Setup, progress: &mut dyn Progress) -> Result<Ready> {
    progress.say(&format!("further device {}", one.target()));
    let is_new = !first.run.target(one.target()).join("run.toml").is_file();
    let mut run = open(one, &first.run)?;
    if is_new {
        lean(&mut run, setup, progress)?;
    }
    let going_on = Setup::new(run.folder().to_owned(), setup.engines.clone());
    take_profile(&mut run, &going_on)?;
    take_images(&mut run, &first.run)?;
    let shop = Workshop {
        recipe: run.manifest().recipe.clone(),
        space: first.shop.space.clone(),
        images: first.shop.images.clone(),
        lanes: first.shop.lanes.clone(),
        device: first.shop.device.clone(),
        engines: setup.engines.clone(),
        connections: setup.connections.clone(),
    };
    Ready::new(run, shop, progress)
}

/// The run of a further device, which is begun unless it is there.
fn open(one: &Further, first: &Run) -> Result<Run> {
    let folder = first.target(one.target());
    let mut run = if folder.join("run.toml").is_file() {
        Run::open(&folder)?
    } else {
        let space = first.manifest().space.clone();
        Run::create(&folder, Manifest::new(one.recipe.clone(), space, one.overrides.clone()))?
    };
    // Again each time: the run may have been killed before it was said.
    if let Some(profile) = &one.profile {
        run.put_doc(PROFILE_FROM, profile)?;
    }
    Ok(run)
}

/// Searches for a further device on the supernet of the first, whose search is done.
pub(super) fn explore(other: &mut Ready, first: &Ready, progress: &mut dyn Progress) -> Result<()> {
    progress.say(&format!("searching for {}", other.shop.recipe.latency.target));
    if !other.run.is_done(Phase::Supernet)? {
        take_trained(&mut other.run, &first.run)?;
    }
    other.explore(progress)
}

/// Lets every device choose its front among everything that was scored for any of them: a score knows no device. What a
/// device's own limits forbid stays out.
pub(super) fn pool(first: &mut Ready, others: &mut [Ready]) -> Result<()> {
    let mut all: Vec<Vec<TrialRecord>> = vec![first.run.trials()?];
    for other in others.iter() {
        all.push(other.run.trials()?);
    }
    for (at, ready) in std::iter::once(first).chain(others).enumerate() {
        // Files were chosen already: this search is over.
        if ready.run.is_done(Phase::Finalists)? {
            continue;
        }
        let own = all.get(at).into_iter().flatten().map(|trial| trial.id.as_str());
        let mut known: BTreeSet<&str> = own.collect();
        let cost = ready.latency.as_ref().map(|model| model.cost(&ready.shop.space));
        let budgets = SearchBudget::new(&ready.shop.space, ready.limits.clone(), cost.as_deref())?;
        let mut index = 0;
        for trial in all.iter().flatten() {
            if !known.insert(&trial.id) || !budgets.allows(&trial.genes)? {
                continue;
            }
            let cost = budgets.cost(&trial.genes)?;
            ready.run.commit_pooled(&TrialRecord { index, cost, ..trial.clone() })?;
            index += 1;
        }
    }
    Ok(())
}
