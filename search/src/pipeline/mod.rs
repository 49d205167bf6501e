//! The whole search, told as a story: images, latency, teacher, supernet, score, sampler, front, files.
//!
//! Each chapter writes what it finds to the [`Run`] before the next begins, and skips what is
//! there already; so going on after a stop is the same call again.

mod across;
mod elsewhere;
mod explore;
mod finish;
mod ground;
mod latency;
mod left;
mod networks;
mod parts;
mod pick;
mod profile;
mod remeasure;
mod reuse;
mod sample;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use masktas_devices::engine::EngineOptions;
use masktas_devices::protocol::Protocol;
use masktas_devices::transport::{Address, Local, Remote, RemoteOptions, Transport};
use serde::{Deserialize, Serialize};

pub use across::{Across, OnDevice, Timed, across};
pub use elsewhere::{Elsewhere, elsewhere};
pub use finish::Finalist;
pub(crate) use finish::stored as finalists;
pub use ground::Ground;
pub(crate) use latency::profiled;
use latency::{Fitted, protocol};
pub use latency::{
    LatencyReport, document as latency_document, features as latency_features, profile_file,
    protocol as latency_protocol, rough_ms,
};
pub use left::Left;
pub use parts::{Profiled, check_device, check_limits, check_target, profile, rater, teacher};
use pick::Deployment;
pub use pick::{
    Candidate, Exported, Options as ExportOptions, Start, Tuned, Who, candidates, evaluate, export, finetune,
};
pub use reuse::{Board, check_profile, engines_of, measured_itself, recipe_of_supernet};
pub(crate) use reuse::{PROFILE_FROM, SUPERNET_FROM};

use crate::budget::{Limit, SearchBudget};
use crate::error::{Error, Result};
use crate::images::{self, Augment, Images, Split};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::run::{Further, Phase, Run, document};
use crate::space::{Space as _, VitSpace};
use crate::supernet::Supernet;
use crate::train::{Lanes, Precision, keep_pages};
use crate::{device, score, stream, topology};

/// Name of the run's document with the number of workers that share a step.
const LANES: &str = "lanes";

/// What a search needs to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Folder of the run; must not exist for a new run.
    pub out: PathBuf,
    /// What to do; `None` goes on with the run in `out`, by its own recipe.
    pub recipe: Option<Recipe>,
    /// Overrides given on the command line, `key=value`, for the record.
    pub overrides: Vec<String>,
    /// Where engines find their libraries.
    pub engines: EngineOptions,
    /// A finished profile, as the folder of its run or as a file, whose measurements a new search takes over; `None`: it
    /// measures for itself.
    pub profile: Option<PathBuf>,
    /// The run whose trained supernet a new search takes over; `None`: it trains one. The recipe is then one of
    /// [`recipe_of_supernet`].
    pub supernet: Option<PathBuf>,
    /// Profiles on the same space that the latency models of other devices in a new run lean on.
    pub sources: Vec<PathBuf>,
    /// Further devices of a new search.
    pub further: Vec<Further>,
    /// How devices that are not this machine are reached, by their names; the others are not connected.
    pub connections: BTreeMap<String, Connection>,
}

impl Setup {
    /// Goes on with the run in `out`, or begins one there when a recipe is added.
    pub fn new(out: PathBuf, engines: EngineOptions) -> Self {
        Self {
            out,
            recipe: None,
            overrides: Vec::new(),
            engines,
            profile: None,
            supernet: None,
            sources: Vec::new(),
            further: Vec::new(),
            connections: BTreeMap::new(),
        }
    }
}

/// A device that is not this machine, and how it is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where it is.
    pub address: Address,
    /// What it takes to reach it.
    pub options: RemoteOptions,
}

/// What a search found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Folder of the run.
    pub run: PathBuf,
    /// The device.
    pub target: String,
    /// Trials in all.
    pub trials: usize,
    /// The front, cheapest first.
    pub front: Vec<Candidate>,
    /// Members of the front that were exported, measured again and checked for parity.
    pub finalists: Vec<Finalist>,
    /// What was found for further devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Outcome>,
    /// Where there are several devices: the finalists of all of them, as each device measured them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub across: Vec<Across>,
}

/// What the chapters share.
pub(crate) struct Workshop {
    pub recipe: Recipe,
    pub space: VitSpace,
    pub images: Arc<Images>,
    pub lanes: Arc<Lanes>,
    pub device: Device,
    pub engines: EngineOptions,
    pub connections: BTreeMap<String, Connection>,
}

/// Searches, or goes on searching: for every device of the run on one supernet.
///
/// # Errors
/// Whatever a chapter meets; what was found until then is in the run. [`crate::Error::Interrupted`] after a
/// stop asked for by `progress`.
pub fn search(setup: &Setup, progress: &mut dyn Progress) -> Result<Outcome> {
    let mut run = parts::begin(setup, progress)?;
    if setup.recipe.is_some() {
        lean(&mut run, setup, progress)?;
    }
    reuse::take_profile(&mut run, setup)?;
    reuse::take_supernet(&mut run, setup)?;
    let mut shop = Workshop::open(&mut run, setup.engines.clone(), progress)?;
    shop.connections = setup.connections.clone();
    let mut first = Ready::new(run, shop, progress)?;
    // What a device cannot do is said before anything is trained.
    let mut others = targets::prepare(&first, setup, progress)?;
    first.explore(progress)?;
    for other in &mut others {
        targets::explore(other, &first, progress)?;
    }
    targets::pool(&mut first, &mut others)?;
    let mut outcome = first.finish(progress)?;
    for other in &mut others {
        outcome.further.push(other.finish(progress)?);
    }
    outcome.across = across::measure(&mut first, &others, progress)?;
    Ok(outcome)
}

/// Lets a run's latency model lean on other devices' profiles where a board is measured. What is measured on this machine
/// stands for itself: a search here depends on nothing that happens to be kept.
fn lean(run: &mut Run, setup: &Setup, progress: &mut dyn Progress) -> Result<()> {
    if setup.connections.contains_key(&run.manifest().recipe.latency.target) {
        profile::lean_on(run, &setup.sources, progress)?;
    }
    Ok(())
}

/// A search for one device whose latency is known and whose budget can be met; nothing is trained yet.
struct Ready {
    run: Run,
    shop: Workshop,
    limits: Vec<Limit>,
    latency: Option<Fitted>,
    /// Once it is trained.
    supernet: Option<Supernet>,
}

impl Ready {
    /// Times subnets unless that is done, and finds out what the members of the space cost.
    fn new(mut run: Run, shop: Workshop, progress: &mut dyn Progress) -> Result<Self> {
        let limits = Limit::all(&shop.recipe.budget)?;
        let latency = latency::prepare(&mut run, &shop, &limits, progress)?;
        let cost = latency.as_ref().map(|model| model.cost(&shop.space));
        let budgets = SearchBudget::new(&shop.space, limits.clone(), cost.as_deref())?;
        progress.begin("costs in this space", 1, "range");
        let intervals = budgets
            .intervals(shop.recipe.seed)
            .map_err(|error| parts::on_device(error, &shop.recipe.latency.target))?;
        progress.end("");
        for interval in &intervals {
            let range =
                format!("{} to {}", interval.kind.show(interval.low), interval.kind.show(interval.high));
            progress.say(&format!("{} of {} in this space: {range}", interval.kind.key(), shop.space.name()));
        }
        run.put_doc(document::INTERVALS, &intervals)?;
        drop(budgets);
        drop(cost);
        Ok(Self { run, shop, limits, latency, supernet: None })
    }

    /// The chapters from the teacher to the scored architectures.
    fn explore(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let (run, shop) = (&mut self.run, &self.shop);
        let teacher = networks::teacher(run, shop, progress)?;
        let (supernet, teacher) = networks::supernet(run, shop, teacher, progress)?;
        if !run.is_done(Phase::Search)? {
            progress.say("freezing the list of images and masks that candidates are scored on");
            progress.begin("freezing", 1, "list");
            let mut score = score::by_name(score::Parts {
                supernet: supernet.clone(),
                teacher: teacher.as_ref(),
                space: shop.space.clone(),
                images: &shop.images,
                recipe: &shop.recipe,
                lanes: shop.lanes.clone(),
            })?;
            progress.end("");
            let cost = self.latency.as_ref().map(|model| model.cost(&shop.space));
            let budgets = SearchBudget::new(&shop.space, self.limits.clone(), cost.as_deref())?;
            explore::explore(run, &shop.recipe, &shop.space, score.as_mut(), &budgets, progress)?;
        }
        self.supernet = Some(supernet);
        Ok(())
    }

    /// The last chapter: files.
    fn finish(&mut self, progress: &mut dyn Progress) -> Result<Outcome> {
        let (run, shop) = (&mut self.run, &self.shop);
        let supernet =
            self.supernet.as_ref().ok_or_else(|| Error::Backend("the supernet is not there yet".into()))?;
        let finalists = finish::finish(run, shop, supernet, self.latency.as_ref(), progress)?;
        Ok(Outcome {
            run: run.folder().to_path_buf(),
            target: shop.recipe.latency.target.clone(),
            trials: run.scored()?.len(),
            front: candidates(run)?,
            finalists,
            further: Vec::new(),
            across: Vec::new(),
        })
    }
}

impl Workshop {
    /// Opens images, space and workers for a run; the split and the number of lanes are the run's own.
    pub(crate) fn open(run: &mut Run, engines: EngineOptions, progress: &mut dyn Progress) -> Result<Self> {
        let recipe = run.manifest().recipe.clone();
        keep_pages();
        let device = device::by_name(&recipe.device)?;
        // Results depend on the number of lanes, so a run keeps its own wherever it goes on.
        let lanes = run.commit_doc(LANES, &Lanes::on(&device, recipe.threads)?.count())?;
        let lanes = Arc::new(Lanes::on(&device, lanes)?);
        let space = run.manifest().vit_space()?;
        let images = Arc::new(open_images(run, &recipe, &space, progress)?);
        Ok(Self { recipe, space, images, lanes, device, engines, connections: BTreeMap::new() })
    }

    /// The way to the target; `None` when it is not connected.
    ///
    /// # Errors
    /// When it is there and cannot be reached.
    pub(crate) fn transport(&self) -> Result<Option<Box<dyn Transport>>> {
        Ok(match self.connections.get(&self.recipe.latency.target) {
            Some(Connection { address, options }) => Some(Box::new(Remote::connect(address, options)?)),
            None if self.recipe.latency.on_host() => Some(Box::new(Local::new(&self.engines))),
            None => None,
        })
    }

    /// How the target is measured.
    pub(crate) fn protocol(&self) -> Protocol {
        protocol(&self.recipe.latency, &self.engines)
    }

    /// What training computes products in.
    ///
    /// # Errors
    /// When this machine has no such products: what does not train does not ask.
    pub(crate) fn precision(&self) -> Result<Precision> {
        Precision::by_name(&self.recipe.precision, &self.device)
    }

    /// The random views the recipe asks for.
    pub(crate) fn augment(&self) -> Augment {
        let flip = if self.recipe.data.flip { 0.5 } else { 0.0 };
        Augment { scale: [self.recipe.data.crop, 1.0], flip, ..Augment::default() }
    }
}

/// Opens the recipe's images with the run's split, drawing and storing it the first time.
fn open_images(
    run: &mut Run,
    recipe: &Recipe,
    space: &VitSpace,
    progress: &mut dyn Progress,
) -> Result<Images> {
    // One task, held by one party: recipes that name more are refused until those are built.
    let task = stream::by_name(&recipe.stream)?.task(&recipe.data, 0);
    let source = topology::by_name(&recipe.topology)?.source(&task, 0)?;
    let options = images::Options {
        shares: images::Shares { val: recipe.data.val, test: recipe.data.test },
        split: run.get_doc::<Split>(document::SPLIT)?,
        ..images::Options::new(space.definition().image as u32, recipe.seed)
    };
    progress.say(&format!("reading {}", source.origin()));
    let (images, summary) = Images::open(source.as_ref(), &options, &progress.images())?;
    if options.split.is_none() {
        run.put_doc(Deployment::DOCUMENT, &Deployment::of(&images)?)?;
        run.put_doc(document::IMAGES, &summary)?;
        run.put_doc(document::SPLIT, images.split())?;
    }
    let split = images.split();
    progress.say(&format!(
        "{} images: {} to train, {} to score, {} to test; {} skipped",
        images.len(),
        split.train.len(),
        split.val.len(),
        split.test.len(),
        summary.skipped.len()
    ));
    Ok(images)
}
