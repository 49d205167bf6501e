//! A finished profile, taken over: latency is measured once for a space, a machine and a way of measuring, and serves
//! any number of searches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masktas_devices::Fingerprint;
use masktas_devices::engine::{EngineOptions, engine};
use masktas_devices::profile::Row;

use super::Setup;
use super::latency::{LatencyReport, document, protocol};
use crate::error::{At, Error, Result};
use crate::recipe::Recipe;
use crate::run::{Manifest, Run, Table, machine};
use crate::space::{Space as _, VitSpace};

/// Name of the run's document with the folder of the profile that its latency models come from.
pub(crate) const PROFILE_FROM: &str = "profile-from";

/// What a profile hands over.
struct Taken {
    /// The measured subnets, under the keys they have in their run.
    rows: Vec<(String, Row)>,
    /// The fitted models, in the recipe's order of engines.
    reports: Vec<LatencyReport>,
}

/// Whether a search by `recipe` that begins now, on this machine and with these engines, could take over the profile in
/// `from`. No engine is opened unless everything else agrees.
///
/// # Errors
/// [`Error::OtherProfile`] names the first thing that differs; [`Error::NoRun`] and [`Error::NotARun`] for a folder that
/// holds no finished profile; [`Error::Devices`] when an engine cannot be opened.
pub fn check_profile(recipe: &Recipe, from: &Path, engines: &EngineOptions) -> Result<()> {
    let hash = VitSpace::load(&recipe.space.name)?.hash();
    agreed(recipe, &hash, env!("CARGO_PKG_VERSION"), &machine(), from, engines).map(|_| ())
}

/// Takes over the profile that `setup` names, or goes on taking over the one that it named when the run began. Where
/// every engine of the recipe has its model, nothing is read.
///
/// # Errors
/// As [`check_profile`]; the disk's.
pub(super) fn take_over(run: &mut Run, setup: &Setup) -> Result<()> {
    if let (Some(_), Some(from)) = (&setup.recipe, &setup.profile) {
        // Before anything is copied: a run that is killed here must not measure for itself when it goes on.
        run.put_doc(PROFILE_FROM, &std::path::absolute(from).at(from.clone())?)?;
    }
    let Some(from) = run.get_doc::<PathBuf>(PROFILE_FROM)? else { return Ok(()) };
    let mut missing = false;
    for engine in &run.manifest().recipe.latency.engines {
        missing |= run.get_doc::<LatencyReport>(&document(engine))?.is_none();
    }
    if missing { take_profile(run, &from, &setup.engines) } else { Ok(()) }
}

/// Copies the latency models and measured subnets of the profile in `from` into `run`, which then measures none itself.
/// Nothing is copied unless everything agrees that a latency depends on.
///
/// # Errors
/// As [`check_profile`]; the disk's.
fn take_profile(run: &mut Run, from: &Path, engines: &EngineOptions) -> Result<()> {
    let Manifest { recipe, space_hash, version, machine, .. } = run.manifest();
    let taken = agreed(recipe, space_hash, version, machine, from, engines)?;
    for (key, row) in &taken.rows {
        run.put_row(Table::Profile, key, row)?;
    }
    // The models last: where there is one, all that it was fitted to is there.
    for report in &taken.reports {
        run.put_doc(&document(&report.engine), report)?;
    }
    Ok(())
}

/// What the profile in `from` hands over to a search by `recipe` on the space with this hash, by this version of the
/// program, on the machine with these facts, under these engines.
fn agreed(
    recipe: &Recipe,
    space_hash: &str,
    version: &str,
    machine: &BTreeMap<String, String>,
    from: &Path,
    engines: &EngineOptions,
) -> Result<Taken> {
    let other = Run::open_read_only(from)?;
    let manifest = other.manifest();
    let (theirs, ours) = (&manifest.recipe.latency, &recipe.latency);
    let must_agree = |what: &str, theirs: String, ours: String, next: &str| {
        if theirs == ours {
            return Ok(());
        }
        let (path, what, next) = (from.to_owned(), what.into(), next.into());
        Err(Error::OtherProfile { path, what, theirs, ours, next })
    };
    let space = |name: &str, hash: &str| format!("{name} ({})", hash.get(..12).unwrap_or(hash));
    // By hash alone: the same definition may lie in two files.
    if manifest.space_hash != space_hash {
        let (theirs, ours) = (&manifest.recipe.space.name, &recipe.space.name);
        let (theirs, ours) = (space(theirs, &manifest.space_hash), space(ours, space_hash));
        must_agree("space", theirs, ours, "profile this space, or search that one with --space")?;
    }
    let again = "profile again, or leave --profile out";
    let same = "use the profile's, or profile again";
    // The timed files are written by the program.
    must_agree("version of masktas", manifest.version.clone(), version.to_owned(), again)?;
    must_agree("target", theirs.target.clone(), ours.target.clone(), same)?;
    must_agree("list of engines", theirs.engines.join(", "), ours.engines.join(", "), same)?;
    let settings = [
        ("latency.threads", theirs.threads, ours.threads),
        ("latency.warmups", theirs.warmups, ours.warmups),
        ("latency.rounds", theirs.rounds, ours.rounds),
        ("latency.runs", theirs.runs, ours.runs),
    ];
    for (name, theirs, ours) in settings {
        must_agree(name, theirs.to_string(), ours.to_string(), same)?;
    }
    for (fact, then, now) in manifest.differences(machine) {
        must_agree(&format!("machine's {fact}"), quoted(&then), quoted(&now), "profile on this machine")?;
    }
    let mut taken = Taken { rows: other.rows(Table::Profile)?, reports: Vec::new() };
    taken.rows.retain(|(key, _)| ours.engines.iter().any(|engine| key.starts_with(&format!("{engine}/"))));
    let measured = || taken.rows.iter().filter_map(|(_, row)| row.measurement());
    // What was measured says it again, and more than the recipe: what the program adds to it.
    let here = Fingerprint::read(ours.threads);
    let named = |machine: &Fingerprint| format!("{} ({})", machine.line(), machine.key());
    let protocol = protocol(ours, engines).hash();
    for measurement in measured() {
        must_agree("measuring protocol", measurement.protocol.clone(), protocol.clone(), again)?;
        if measurement.fingerprint.key() != here.key() {
            must_agree("machine", named(&measurement.fingerprint), named(&here), again)?;
        }
    }
    for engine in &ours.engines {
        let report = other.get_doc::<LatencyReport>(&document(engine))?;
        taken.reports.push(report.ok_or_else(|| Error::NotARun {
            path: from.to_owned(),
            problem: format!("its profile has no latency model for {engine} yet"),
            next: format!("finish it with: masktas profile --resume {}", from.display()),
        })?);
    }
    // Last, because an engine has to be opened for it.
    for name in &ours.engines {
        let version = engine(name, engines)?.version()?;
        for measurement in measured().filter(|measurement| measurement.engine == *name) {
            let what = format!("version of {name}");
            must_agree(&what, measurement.engine_version.clone(), version.clone(), again)?;
        }
    }
    Ok(taken)
}

/// A fact that may be empty.
fn quoted(fact: &str) -> String {
    format!("`{fact}`")
}
