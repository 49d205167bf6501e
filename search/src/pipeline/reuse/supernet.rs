//! A trained supernet, taken over: training does not know the device, so one training serves any number of them.

use std::path::{Path, PathBuf};

use super::super::networks::{SHAPE, teacher_file};
use super::super::pick::Deployment;
use super::super::{LANES, Setup};
use crate::error::{At, Error, Result};
use crate::recipe::{BudgetChoice, Recipe};
use crate::run::{Phase, Run, document, write_atomic_with};
use crate::teacher::TaughtBy;
use crate::teacher::file::PIN;

/// Name of the run's document with the folder of the run that its supernet comes from.
pub(crate) const SUPERNET_FROM: &str = "supernet-from";

/// The recipe of the trained supernet in `from` with these overrides: what a search that takes it over begins with. Its limits
/// are not among it, nor that it searched by a prior: they were for the device of that time.
///
/// # Errors
/// [`Error::NotARun`] when it is not trained; [`Error::OtherSupernet`] when an override asks for another one; those of
/// [`Recipe::with`].
pub fn recipe_of_supernet(from: &Path, overrides: &[String]) -> Result<Recipe> {
    let run = trained(from)?;
    let mut theirs = run.manifest().recipe.clone();
    theirs.budget = BudgetChoice::default();
    theirs.latency.prior = false;
    let recipe = theirs.with(overrides)?;
    match recipe.other_supernet(&theirs)? {
        None => Ok(recipe),
        Some((key, ours, theirs)) => Err(Error::OtherSupernet { path: from.to_owned(), key, theirs, ours }),
    }
}

/// Takes over the supernet that `setup` names, or goes on taking over the one that it named when the run began. Where
/// the supernet is there, nothing is read.
///
/// # Errors
/// As [`recipe_of_supernet`]; the disk's.
pub(in crate::pipeline) fn take_over(run: &mut Run, setup: &Setup) -> Result<()> {
    if let (Some(_), Some(from)) = (&setup.recipe, &setup.supernet) {
        // Before anything is copied: a run that is killed here must not train one of its own when it goes on.
        run.put_doc(SUPERNET_FROM, &std::path::absolute(from).at(from.clone())?)?;
    }
    let Some(from) = run.get_doc::<PathBuf>(SUPERNET_FROM)? else { return Ok(()) };
    if run.is_done(Phase::Supernet)? {
        return Ok(());
    }
    let theirs = trained(&from)?;
    take_images(run, &theirs)?;
    take_trained(run, &theirs)
}

/// Copies which images train, score and test, and how many workers share a step.
///
/// # Errors
/// The disk's.
pub(in crate::pipeline) fn take_images(run: &mut Run, from: &Run) -> Result<()> {
    // The split last: where there is one, all that was found about the images is there.
    for name in [LANES, Deployment::DOCUMENT, document::IMAGES, document::SPLIT] {
        run.copy_doc(from, name)?;
    }
    Ok(())
}

/// Copies teacher, supernet and training curves and, where the score is the same, the reference subnets, so that scores
/// of both runs have one scale. Going on with a copy that was cut off is the same call.
///
/// # Errors
/// The disk's.
pub(in crate::pipeline) fn take_trained(run: &mut Run, from: &Run) -> Result<()> {
    for name in [TaughtBy::DOCUMENT, PIN, SHAPE] {
        run.copy_doc(from, name)?;
    }
    let (theirs, ours) = (teacher_file(from), teacher_file(run));
    if theirs.is_file() {
        copy(&theirs, &ours)?;
    }
    copy(&from.checkpoint("supernet"), &run.checkpoint("supernet"))?;
    for name in from.curve_names()? {
        run.put_curve(&name, &from.curve(&name)?)?;
    }
    if run.manifest().recipe.score == from.manifest().recipe.score && from.is_done(Phase::References)? {
        for reference in from.references()? {
            run.commit_reference(&reference)?;
        }
        run.copy_doc(from, document::FUSION)?;
        run.mark(Phase::References)?;
    }
    if from.is_done(Phase::Teacher)? {
        run.mark(Phase::Teacher)?;
    }
    run.mark(Phase::Supernet)
}

/// The run in `from`, whose supernet is trained.
fn trained(from: &Path) -> Result<Run> {
    let run = Run::open_read_only(from)?;
    if run.is_done(Phase::Supernet)? {
        return Ok(run);
    }
    Err(Error::NotARun {
        path: from.to_owned(),
        problem: "its supernet is not trained".into(),
        next: format!("train it with: masktas search --resume {}", from.display()),
    })
}

/// Makes `to` the same file as `from`, as a second name for it where the file system can: training replaces its files
/// and never writes into them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() || std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let mut file = std::fs::File::open(from).at(from)?;
    let what = format!("a copy of {}", from.display());
    write_atomic_with(to, &what, |to| std::io::copy(&mut file, to).map(drop))
}
