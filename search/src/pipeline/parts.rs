//! Single chapters, for those who want only one: a profile, or a teacher. Each is a run that
//! [`search`](super::search) can go on with.

use std::path::{Path, PathBuf};

use masktas_devices::device;
use masktas_devices::engine::{EngineOptions, engine};
use masktas_devices::latency::from_json;
use serde::{Deserialize, Serialize};

use super::latency::{self, Fitted, LatencyReport};
use super::profile::lean_on;
use super::reuse::first_model;
use super::{Setup, Workshop, networks};
use crate::budget::{Interval, Kind, Limit, SearchBudget};
use crate::error::{At, Error, Result};
use crate::images;
use crate::progress::Progress;
use crate::recipe::{self, Recipe};
use crate::run::{Manifest, Phase, Run, document, machine};
use crate::score::{self, Score};
use crate::space::{Space as _, VitSpace};
use crate::train::Precision;

/// What timing a space on a target found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profiled {
    /// Folder of the run.
    pub run: PathBuf,
    /// One model an engine, in the recipe's order.
    pub reports: Vec<LatencyReport>,
    /// What the members of the space cost; the latency is that of the first engine.
    pub intervals: Vec<Interval>,
}

/// Begins the run of `setup`, or opens it to go on.
///
/// A run keeps all it needs to go on from anywhere: the space's definition, and absolute paths.
pub(super) fn begin(setup: &Setup, progress: &mut dyn Progress) -> Result<Run> {
    let Some(recipe) = &setup.recipe else {
        let run = Run::open(&setup.out)?;
        let differences = run.manifest().differences(&machine());
        if !differences.is_empty() {
            let facts: Vec<String> = differences
                .iter()
                .map(|(name, then, now)| format!("{name} was `{then}` and is `{now}`"))
                .collect();
            progress.say(&format!(
                "this run was begun on another machine ({}); results may differ",
                facts.join(", ")
            ));
        }
        return Ok(run);
    };
    recipe.built()?;
    // Whatever can be refused without the images, before the run takes its folder.
    check_device(recipe)?;
    for name in &recipe.latency.engines {
        engine(name, &setup.engines)?;
    }
    let known =
        |target: &str, profile: &Option<PathBuf>| setup.connections.contains_key(target) || profile.is_some();
    check_target(recipe, known(&recipe.latency.target, &setup.profile))?;
    Limit::all(&recipe.budget)?;
    for one in &setup.further {
        one.recipe.built()?;
        one_supernet(recipe, &one.recipe)?;
        Limit::all(&one.recipe.budget)?;
        check_target(&one.recipe, known(one.target(), &one.profile))?;
    }
    if let Some(path) = recipe.data.path.as_deref().filter(|path| !path.is_dir()) {
        images::open(Some(path))?;
    }
    let space = VitSpace::load(&recipe.space.name)?.definition().clone();
    let manifest = Manifest::new(recipe.clone().anchored()?, space, setup.overrides.clone());
    let mut further = setup.further.clone();
    for one in &mut further {
        one.recipe = one.recipe.clone().anchored()?;
        one.profile = one.profile.take().map(|path| std::path::absolute(&path).at(path)).transpose()?;
    }
    Run::create(&setup.out, Manifest { further, ..manifest })
}

/// Refuses a further device's recipe that would train another supernet, or score on another scale.
fn one_supernet(first: &Recipe, other: &Recipe) -> Result<()> {
    let target = &other.latency.target;
    let differs = match other.other_supernet(first)? {
        Some((key, theirs, ours)) => {
            format!("its {key} is {theirs}, and {ours} for {}", first.latency.target)
        }
        None if other.score != first.score => {
            format!("its [score] is another than for {}, and scores would not compare", first.latency.target)
        }
        None => return Ok(()),
    };
    Err(Error::Invalid {
        thing: format!("target {target}"),
        problem: differs,
        next: "one supernet serves all targets: set it for all, or search for this one by itself".into(),
    })
}

/// Refuses a recipe whose device or precision is not here.
///
/// # Errors
/// As [`by_name`](crate::device::by_name) of the device and [`Precision::by_name`].
pub fn check_device(recipe: &Recipe) -> Result<()> {
    Precision::by_name(&recipe.precision, &crate::device::by_name(&recipe.device)?).map(drop)
}

/// Refuses a target that does not exist, and one that can neither be measured nor was. `known`: it is connected, or there is a
/// profile to take over.
///
/// # Errors
/// As [`device`]; [`Error::NotProfiled`].
pub fn check_target(recipe: &Recipe, known: bool) -> Result<()> {
    let latency = &recipe.latency;
    device(&latency.target)?;
    let limits = Limit::all(&recipe.budget)?;
    let timed = limits.is_empty() || limits.iter().any(|limit| limit.kind == Kind::Latency);
    if known || latency.on_host() || latency.prior || !timed {
        return Ok(());
    }
    Err(Error::NotProfiled { target: latency.target.clone(), space: recipe.space.name.clone() })
}

/// Refuses limits that no member meets, as far as that is known before anything is measured: by a profile at hand, by the
/// catalogue's figures, by counting.
///
/// # Errors
/// As [`SearchBudget::intervals`], with the device's name; when the profile cannot be read.
pub fn check_limits(recipe: &Recipe, profile: Option<&Path>) -> Result<()> {
    let space = VitSpace::load(&recipe.space.name)?;
    let latency = match profile {
        Some(from) => {
            let (_, report) = first_model(from, &recipe.space.name, &space.hash())?;
            Some(Fitted::Model(from_json(&report.model)?))
        }
        None if recipe.latency.prior => Some(Fitted::prior(&recipe.latency)?),
        None => None,
    };
    let mut limits = Limit::all(&recipe.budget)?;
    limits.retain(|limit| limit.kind != Kind::Latency || latency.is_some());
    if limits.is_empty() {
        return Ok(());
    }
    let cost = latency.as_ref().map(|model| model.cost(&space));
    let intervals = SearchBudget::new(&space, limits, cost.as_deref())?.intervals(recipe.seed);
    intervals.map(drop).map_err(|error| on_device(error, &recipe.latency.target))
}

/// The refusal of a latency, with the device that it speaks of.
pub(super) fn on_device(error: Error, target: &str) -> Error {
    match error {
        Error::Infeasible { space, limit, low, high, next } if limit.starts_with("--latency") => {
            Error::Infeasible { space, limit: format!("{limit} on {target}"), low, high, next }
        }
        other => other,
    }
}

/// Times subnets of the space on the target and fits the latency models, and stops there.
///
/// # Errors
/// As [`search`](super::search).
pub fn profile(setup: &Setup, progress: &mut dyn Progress) -> Result<Profiled> {
    let mut run = begin(setup, progress)?;
    if setup.recipe.is_some() {
        lean_on(&mut run, &setup.sources, progress)?;
    }
    let mut shop = Workshop::open(&mut run, setup.engines.clone(), progress)?;
    shop.connections = setup.connections.clone();
    let model = latency::prepare(&mut run, &shop, &[], progress)?;
    let cost = model.as_ref().map(|model| model.cost(&shop.space));
    let budgets = SearchBudget::new(&shop.space, Vec::new(), cost.as_deref())?;
    let intervals = run.put_doc(document::INTERVALS, &budgets.intervals(shop.recipe.seed)?)?;
    let mut reports = Vec::new();
    for engine in &shop.recipe.latency.engines {
        reports.extend(run.get_doc::<LatencyReport>(&latency::document(engine))?);
    }
    Ok(Profiled { run: run.folder().to_path_buf(), reports, intervals })
}

/// Trains the recipe's `mae` teacher and says where its safetensors file is.
///
/// # Errors
/// As [`search`](super::search); [`Error::Invalid`] when the recipe names another teacher.
pub fn teacher(setup: &Setup, progress: &mut dyn Progress) -> Result<PathBuf> {
    let mut run = begin(setup, progress)?;
    let name = run.manifest().recipe.teacher.name.clone();
    if name != "mae" {
        return Err(Error::Invalid {
            thing: format!("teacher.name = \"{name}\""),
            problem: "only a `mae` teacher is trained before the supernet".into(),
            next: "leave teacher.name out, or set it to mae".into(),
        });
    }
    let shop = Workshop::open(&mut run, setup.engines.clone(), progress)?;
    networks::teacher(&mut run, &shop, progress)?;
    Ok(networks::teacher_file(&run))
}

/// The score of a run's trained supernet on a list of its own: `list` says how many images and masks. For asking how
/// well a short list stands for a long one.
///
/// # Errors
/// [`Error::NotARun`] when the supernet of the run is not trained; what the score meets on the images.
pub fn rater(
    folder: &Path,
    list: &recipe::Score,
    progress: &mut dyn Progress,
) -> Result<(Box<dyn Score>, VitSpace)> {
    let mut run = Run::open(folder)?;
    if !run.is_done(Phase::Supernet)? {
        return Err(Error::NotARun {
            path: folder.to_path_buf(),
            problem: "its supernet is not trained".into(),
            next: "go on with it by --resume".into(),
        });
    }
    let shop = Workshop::open(&mut run, EngineOptions::default(), progress)?;
    let teacher = networks::teacher(&mut run, &shop, progress)?;
    let (supernet, teacher) = networks::supernet(&mut run, &shop, teacher, progress)?;
    let recipe = Recipe { score: list.clone(), ..shop.recipe.clone() };
    let score = score::by_name(score::Parts {
        supernet,
        teacher: teacher.as_ref(),
        space: shop.space.clone(),
        images: &shop.images,
        recipe: &recipe,
        lanes: shop.lanes.clone(),
    })?;
    Ok((score, shop.space))
}
