//! One search for several devices: the first one's run trains the supernet, and each further device has a run of its own
//! below that, which takes over everything that does not depend on a device.

use super::reuse::{PROFILE_FROM, take_images, take_profile, take_trained};
use super::{Outcome, Ready, Setup, Workshop, lean};
use crate::error::Result;
use crate::progress::Progress;
use crate::run::{Further, Manifest, Phase, Run};

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
pub(super) fn search(other: &mut Ready, first: &Ready, progress: &mut dyn Progress) -> Result<Outcome> {
    progress.say(&format!("searching for {}", other.shop.recipe.latency.target));
    if !other.run.is_done(Phase::Supernet)? {
        take_trained(&mut other.run, &first.run)?;
    }
    other.search(progress)
}
