//! A finished profile, taken over: latency is measured once for a space, a machine and a way of measuring, and serves
//! any number of searches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masktas_devices::Fingerprint;
use masktas_devices::agent::EngineState;
use masktas_devices::engine::{EngineOptions, engine};
use masktas_devices::profile::{Outcome, ProfileFile, Row};

use super::super::Setup;
use super::super::latency::{LatencyReport, document, protocol};
use crate::error::{At, Error, Result};
use crate::recipe::{Latency, Recipe};
use crate::run::{Manifest, Phase, Run, Table, differences, machine};
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
///
/// `board` is what a connected target says of itself: a profile of the same board in another state (another power mode, another
/// ONNX Runtime) is refused now, and not when the finalists are timed.
pub fn check_profile(
    recipe: &Recipe,
    from: &Path,
    engines: &EngineOptions,
    board: Option<&Board>,
) -> Result<()> {
    let hash = VitSpace::load(&recipe.space.name)?.hash();
    agreed(recipe, &hash, env!("CARGO_PKG_VERSION"), &machine(), from, engines, board).map(|_| ())
}

/// The engines that the profile in `from` speaks of, in its order: a budget's latency is the first one's.
///
/// # Errors
/// [`Error::NoRun`] and [`Error::NotARun`] for what is no profile of a space.
pub fn engines_of(from: &Path) -> Result<Vec<String>> {
    Ok(Theirs::read(from)?.reports.into_iter().map(|(engine, _)| engine).collect())
}

/// Whether a run has a latency profile that it measured, and took over from nowhere.
///
/// # Errors
/// When the run cannot be read.
pub fn measured_itself(run: &Run) -> Result<bool> {
    Ok(run.is_done(Phase::Profile)? && run.get_doc::<PathBuf>(PROFILE_FROM)?.is_none())
}

/// What a connected device says of itself.
#[derive(Clone, Debug)]
pub struct Board {
    /// The machine.
    pub fingerprint: Fingerprint,
    /// Its engines.
    pub engines: Vec<EngineState>,
}

/// Takes over the profile that `setup` names, or goes on taking over the one that it named when the run began. Where
/// every engine of the recipe has its model, nothing is read.
///
/// # Errors
/// As [`check_profile`]; the disk's.
pub(in crate::pipeline) fn take_over(run: &mut Run, setup: &Setup) -> Result<()> {
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
    let taken = agreed(recipe, space_hash, version, machine, from, engines, None)?;
    for (key, row) in &taken.rows {
        run.put_row(Table::Profile, key, row)?;
    }
    // The models last: where there is one, all that it was fitted to is there.
    for report in &taken.reports {
        run.put_doc(&document(&report.engine), report)?;
    }
    Ok(())
}

/// [`Error::OtherProfile`] unless the two are the same.
fn agree(from: &Path, what: &str, theirs: String, ours: String, next: &str) -> Result<()> {
    if theirs == ours {
        return Ok(());
    }
    Err(Error::OtherProfile { path: from.to_owned(), what: what.into(), theirs, ours, next: next.into() })
}

fn unfinished(from: &Path) -> Error {
    Error::NotARun {
        path: from.to_owned(),
        problem: "its profile is not finished".into(),
        next: format!("finish it with: masktas profile --resume {}", from.display()),
    }
}

/// What a profile says of itself, whether it is a run or a file.
struct Theirs {
    version: Option<String>,
    /// Name and hash.
    space: (String, String),
    target: String,
    /// The recipe's settings; `None`: the file says the protocol's hash alone.
    settings: Option<Latency>,
    /// Facts of the machine that made it; `None` where another device was measured, or the file does not say.
    machine: Option<BTreeMap<String, String>>,
    rows: Vec<(String, Row)>,
    /// In the profile's order of engines; `None`: not fitted yet.
    reports: Vec<(String, Option<LatencyReport>)>,
}

impl Theirs {
    fn read(from: &Path) -> Result<Self> {
        if from.is_file() { Self::of_file(from) } else { Self::of_run(from) }
    }

    /// Refuses another space. By hash alone: the same definition may lie in two files.
    fn of_space(&self, from: &Path, name: &str, space_hash: &str) -> Result<()> {
        if self.space.1 == space_hash {
            return Ok(());
        }
        let space = |name: &str, hash: &str| format!("{name} ({})", hash.get(..12).unwrap_or(hash));
        let (theirs, ours) = (space(&self.space.0, &self.space.1), space(name, space_hash));
        agree(from, "space", theirs, ours, "profile this space, or search that one with --space")
    }

    fn of_run(from: &Path) -> Result<Self> {
        let run = Run::open_read_only(from)?;
        let manifest = run.manifest();
        let latency = &manifest.recipe.latency;
        let reports = latency.engines.iter().map(|engine| {
            let report = run.get_doc::<LatencyReport>(&document(engine))?;
            Ok((engine.clone(), report))
        });
        Ok(Self {
            version: Some(manifest.version.clone()),
            space: (manifest.recipe.space.name.clone(), manifest.space_hash.clone()),
            target: latency.target.clone(),
            settings: Some(latency.clone()),
            machine: latency.on_host().then(|| manifest.machine.clone()),
            rows: run.rows(Table::Profile)?,
            reports: reports.collect::<Result<_>>()?,
        })
    }

    fn of_file(from: &Path) -> Result<Self> {
        let file = ProfileFile::read(from)?;
        let Some(space) = file.space else {
            return Err(Error::NotARun {
                path: from.to_owned(),
                problem: "it is a profile of single models, not of a space".into(),
                next: "profile the space: masktas profile --space NAME".into(),
            });
        };
        let (mut rows, mut reports) = (Vec::new(), Vec::new());
        for engine in file.engines {
            let model = engine.latency_model()?;
            let fitted = engine.rows.iter().filter_map(|row| Some((row.id.clone(), row.sample()?)));
            let fitted = fitted
                .map(|(id, sample)| Ok((id, sample.ms, model.predict(&sample.features)?.ms)))
                .collect::<Result<_>>()?;
            let report = LatencyReport {
                engine: engine.engine.clone(),
                model: model.to_json()?,
                how: Some(model.describe()?),
                held_out: engine.held_out,
                rows: fitted,
            };
            rows.extend(engine.rows.into_iter().map(|row| (format!("{}/{}", engine.engine, row.id), row)));
            reports.push((engine.engine, Some(report)));
        }
        // Another tool's files are not the program's.
        let imported = rows.iter().any(|(_, row)| matches!(row.outcome, Outcome::Imported { .. }));
        let version = (!imported).then_some(file.version);
        Ok(Self {
            version,
            space: (space.name, space.hash),
            target: file.device,
            settings: None,
            machine: None,
            rows,
            reports,
        })
    }
}

/// The device of the profile in `from` and its first engine's model, for the space with this name and hash.
///
/// # Errors
/// [`Error::OtherProfile`] when it is of another space; as [`check_profile`] when it is not finished.
pub(in crate::pipeline) fn first_model(
    from: &Path,
    name: &str,
    space_hash: &str,
) -> Result<(String, LatencyReport)> {
    let theirs = Theirs::read(from)?;
    theirs.of_space(from, name, space_hash)?;
    let report = theirs.reports.into_iter().next().and_then(|(_, report)| report);
    Ok((theirs.target, report.ok_or_else(|| unfinished(from))?))
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
    board: Option<&Board>,
) -> Result<Taken> {
    let theirs = Theirs::read(from)?;
    let ours = &recipe.latency;
    let must_agree =
        |what: &str, theirs: String, ours: String, next: &str| agree(from, what, theirs, ours, next);
    theirs.of_space(from, &recipe.space.name, space_hash)?;
    let again = "profile again, or leave --profile out";
    let same = "use the profile's, or profile again";
    // The timed files are written by the program.
    if let Some(theirs) = &theirs.version {
        must_agree("version of masktas", theirs.clone(), version.to_owned(), again)?;
    }
    must_agree("target", theirs.target.clone(), ours.target.clone(), same)?;
    let names = theirs.reports.iter().map(|(engine, _)| engine.as_str()).collect::<Vec<_>>().join(", ");
    must_agree("list of engines", names, ours.engines.join(", "), same)?;
    let mut taken = Taken { rows: theirs.rows, reports: Vec::new() };
    taken.rows.retain(|(key, _)| ours.engines.iter().any(|engine| key.starts_with(&format!("{engine}/"))));
    let measured = || taken.rows.iter().filter_map(|(_, row)| row.measurement());
    if let Some(theirs) = &theirs.settings {
        let settings = [
            ("latency.threads", theirs.threads, ours.threads),
            ("latency.warmups", theirs.warmups, ours.warmups),
            ("latency.rounds", theirs.rounds, ours.rounds),
            ("latency.runs", theirs.runs, ours.runs),
        ];
        for (name, theirs, ours) in settings {
            must_agree(name, theirs.to_string(), ours.to_string(), same)?;
        }
        let provider = |settings: &Latency| settings.provider.clone().unwrap_or_else(|| "cpu".into());
        must_agree("latency.provider", provider(theirs), provider(ours), same)?;
    }
    if let Some(theirs) = &theirs.machine {
        for (fact, then, now) in differences(theirs, machine) {
            let what = format!("machine's {fact}");
            must_agree(&what, format!("`{then}`"), format!("`{now}`"), "profile on this machine")?;
        }
    }
    // What was measured says it again, and more than the recipe: what the program adds to it.
    let named = |machine: &Fingerprint| format!("{} ({})", machine.line(), machine.key());
    let protocol = protocol(ours, engines).hash();
    let here = match board {
        Some(board) => Some(board.fingerprint.clone()),
        None => ours.on_host().then(|| Fingerprint::read(ours.threads)),
    };
    for measurement in measured() {
        must_agree("measuring protocol", measurement.protocol.clone(), protocol.clone(), again)?;
        if let Some(here) = here.as_ref().filter(|here| here.key() != measurement.fingerprint.key()) {
            must_agree("machine", named(&measurement.fingerprint), named(here), again)?;
        }
    }
    for (_, report) in theirs.reports {
        taken.reports.push(report.ok_or_else(|| unfinished(from))?);
    }
    // Last, because an engine has to be opened for it. Another device has its own engines.
    for name in &ours.engines {
        let there = board.and_then(|board| board.engines.iter().find(|state| state.name == *name));
        let version = match (there, board) {
            (Some(EngineState { version: Some(version), .. }), _) => version.clone(),
            (None, None) if ours.on_host() => engine(name, engines)?.version()?,
            _ => continue,
        };
        for measurement in measured().filter(|measurement| measurement.engine == *name) {
            let what = format!("version of {name}");
            must_agree(&what, measurement.engine_version.clone(), version.clone(), again)?;
        }
    }
    Ok(taken)
}
