//! `masktas search`: from a folder of images to a front of checked models.

mod show;
mod targets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::{EngineOptions, Library};
use masktas_search::budget::{Kind, Limit, SearchBudget};
use masktas_search::images;
use masktas_search::pipeline::{self, Board, Connection, Setup};
use masktas_search::recipe::{HOST, Recipe};
use masktas_search::run::{Further, Run};
use masktas_search::space::{Space as _, VitSpace};
use serde_json::{Value, json};

use self::targets::{Target, TargetsArgs};
use super::left;
use super::recipe::{RecipeArgs, first_given, going_on, quoted};
use super::target::reach;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// Where runs go that nobody named.
const RUNS: &str = "runs";

/// Options of `masktas search`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    targets: TargetsArgs,
    /// Take over the trained supernet of this run, by whose recipe this search goes, but for its limits; only what follows
    /// training may be changed
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "resume"])]
    supernet: Option<PathBuf>,
    /// Search by the catalogue's coarse figures: nothing is measured, and no latency is proven
    #[arg(long, help_heading = "Device", conflicts_with_all = ["profile", "connect"])]
    prior: bool,
    /// At most this many parameters, such as 2M
    #[arg(long, value_name = "COUNT", help_heading = "Budget")]
    params: Option<String>,
    /// At most this many floating-point operations an image, such as 0.3G (two per multiply-add)
    #[arg(long, value_name = "COUNT", help_heading = "Budget")]
    flops: Option<String>,
    /// Architectures to score
    #[arg(long, value_name = "N", help_heading = "Budget")]
    evaluations: Option<usize>,
    /// Folder of the new run [default: runs/1, runs/2, …]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    #[command(flatten)]
    engines: EngineArgs,
}

impl Options {
    fn overrides(&self) -> Vec<String> {
        let text = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key}={}", quoted(value)))
        };
        [
            text("budget.params", &self.params),
            text("budget.flops", &self.flops),
            self.evaluations.map(|count| format!("sampler.evaluations={count}")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The recipe for one device, and all overrides for the record. `shared` are the options that are every device's.
    fn recipe(
        &self,
        shared: &RecipeArgs,
        target: &Target,
        board: Option<&Board>,
        console: &mut Console,
    ) -> Result<(Recipe, Vec<String>), Failure> {
        let mut own = self.overrides();
        own.extend(target.overrides.iter().cloned());
        let load = |own: &[String], console: &mut Console| match &self.supernet {
            None => shared.load(own, console),
            Some(from) => {
                if let Some(recipe) = &shared.recipe {
                    return Err(Failure::usage(format!(
                        "--recipe {recipe} with --supernet {}: the recipe is that of the run; set what follows training one by one, such \
                         as --set sampler.name=npenas --set predictor.name=gin --set predictor.pretrain=ccl",
                        from.display()
                    )));
                }
                let all = [shared.overrides(), own.to_vec()].concat();
                Ok((pipeline::recipe_of_supernet(from, &all)?, all))
            }
        };
        let (recipe, overrides) = load(&own, console)?;
        let asked = target.args.target.clone().unwrap_or_else(|| recipe.latency.target.clone());
        let machine = board.map(|board| &board.fingerprint);
        let device = target.args.device(&asked, machine, console)?;
        target.args.fits(&device, machine)?;
        let mut more = Vec::new();
        if device != recipe.latency.target {
            more.push(format!("latency.target={}", quoted(&device)));
        }
        if self.prior && device != HOST {
            more.push("latency.prior=true".to_owned());
        } else if self.prior && self.targets.targets.len() < 2 {
            return Err(Failure::usage(
                "--prior searches by the catalogue's figures of another device, and this machine (`host`) is measured; name \
                 the device with --target, or leave --prior out",
            ));
        }
        if more.is_empty() {
            return Ok((recipe, overrides));
        }
        own.extend(more);
        load(&own, console)
    }

    /// What is searched, device by device.
    fn new_search(
        &self,
        console: &mut Console,
    ) -> Result<(Vec<Further>, BTreeMap<String, Connection>), Failure> {
        let mut shared = self.recipe.clone();
        let engines = self.engines.options();
        let mut connections = BTreeMap::new();
        let mut all: Vec<Further> = Vec::new();
        for target in self.targets.each(&mut shared.sets)? {
            let connection = target.args.connection()?;
            let board = match &connection {
                Some(_) => {
                    let _waiting =
                        console.connecting(connection.as_ref().map(|connection| &connection.address));
                    let (mut transport, fingerprint) = reach(connection.as_ref(), &self.engines)?;
                    Some(Board { fingerprint, engines: transport.engines()? })
                }
                None => None,
            };
            let asked = self.recipe(&shared, &target, board.as_ref(), console)?;
            asked.0.built()?;
            let limits = Limit::all(&asked.0.budget)?;
            let (profile, (recipe, overrides)) = match &target.profile {
                Some(from) => {
                    usable(from, &limits)?;
                    let agreed = under_its_engines(&asked, from)?;
                    pipeline::check_profile(&agreed.0, from, &engines, board.as_ref())?;
                    (Some(from.clone()), agreed)
                }
                None => at_hand(&asked, board.as_ref(), &engines, console)?,
            };
            if recipe.latency.engines != asked.0.latency.engines {
                let names = recipe.latency.engines.join(", ");
                console.say(&format!(
                    "{} was profiled under {names}, and so it is searched",
                    recipe.latency.target
                ));
            }
            pipeline::check_target(&recipe, connection.is_some() || profile.is_some())?;
            pipeline::check_device(&recipe)?;
            pipeline::check_limits(&recipe, profile.as_deref())?;
            let one = Further { profile, overrides, recipe };
            if all.iter().any(|other| other.target() == one.target()) {
                let asked = target.args.target.as_deref().unwrap_or_default();
                return Err(Failure::usage(format!(
                    "--target {asked} is {}, which is searched for already; leave one out",
                    one.target()
                )));
            }
            connections.extend(connection.map(|connection| (one.target().to_owned(), connection)));
            all.push(one);
        }
        Ok((all, connections))
    }

    /// The first option given that a run begun earlier would ignore.
    fn first_given(&self) -> Option<&'static str> {
        let own = [
            (self.prior, "--prior"),
            (self.params.is_some(), "--params"),
            (self.flops.is_some(), "--flops"),
            (self.evaluations.is_some(), "--evaluations"),
        ];
        self.recipe
            .first_given()
            .or_else(|| first_given(&self.targets.first_given()))
            .or_else(|| first_given(&own))
    }
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    let engines = options.engines.options();
    let setup = match &options.resume {
        Some(folder) => {
            let setup = going_on(folder, "--resume", options.first_given(), engines)?;
            let run = Run::open_read_only(folder)?;
            let manifest = run.manifest();
            let further = manifest.further.iter().map(|one| one.target().to_owned());
            let names: Vec<String> =
                std::iter::once(manifest.recipe.latency.target.clone()).chain(further).collect();
            Setup { connections: options.targets.connections(&names)?, ..setup }
        }
        None => {
            let (mut all, connections) = options.new_search(console)?;
            if options.dry_run {
                return dry_run(&all, console);
            }
            // Every engine answers at the end.
            options.engines.ready()?;
            let out = match &options.out {
                Some(out) => out.clone(),
                None => next_run(),
            };
            let Further { profile, overrides, recipe } = all.remove(0);
            let sources = super::profile::sources(&recipe)?;
            Setup {
                recipe: Some(recipe),
                overrides,
                profile,
                supernet: options.supernet.clone(),
                sources,
                further: all,
                connections,
                ..Setup::new(out, engines)
            }
        }
    };
    let folder = setup.out.clone();
    console.say(&format!("run {}", folder.display()));
    for (what, from) in
        [("latency is as measured", &setup.profile), ("the supernet is as trained", &setup.supernet)]
    {
        if let Some(from) = from {
            console.say(&format!("{what} in {}", from.display()));
        }
    }
    let found = match pipeline::search(&setup, &mut console.reporter) {
        Err(error) => return Err(left::behind(error, "search", &setup, console)),
        Ok(found) => found,
    };
    for one in std::iter::once(&found).chain(&found.further) {
        keep(one, &setup, console)?;
    }
    show::found(&found, console)
}

/// Keeps what a search measured of a board, so that the next search need not.
fn keep(found: &pipeline::Outcome, setup: &Setup, console: &mut Console) -> Result<(), Failure> {
    let run = Run::open_read_only(&found.run)?;
    if setup.connections.contains_key(&found.target) && pipeline::measured_itself(&run)? {
        super::profile::keep(&pipeline::profile_file(&run)?, None, console)?;
    }
    Ok(())
}

/// A recipe and all its overrides, for the record.
type Asked = (Recipe, Vec<String>);

/// The recipe under the engines of a profile that it takes over, unless it names engines of its own.
fn under_its_engines(asked: &Asked, profile: &Path) -> Result<Asked, Failure> {
    const KEY: &str = "latency.engines";
    let (mut recipe, mut overrides) = asked.clone();
    let usual = Recipe::load(None, None, &[])?.latency.engines;
    let named = overrides.iter().any(|set| set.starts_with(KEY)) || recipe.latency.engines != usual;
    let theirs = pipeline::engines_of(profile)?;
    if !named && theirs != usual {
        let list: Vec<String> = theirs.iter().map(|name| quoted(name)).collect();
        overrides.push(format!("{KEY}=[{}]", list.join(", ")));
        recipe.latency.engines = theirs;
    }
    Ok((recipe, overrides))
}

/// The profile that is kept of a target that is not this machine, of the same space and measured in the same way, and the
/// recipe that goes with it.
fn at_hand(
    asked: &Asked,
    board: Option<&Board>,
    engines: &EngineOptions,
    console: &mut Console,
) -> Result<(Option<PathBuf>, Asked), Failure> {
    let recipe = &asked.0;
    let Some(library) = Library::of_user().filter(|_| !recipe.latency.on_host() && !recipe.latency.prior)
    else {
        return Ok((None, asked.clone()));
    };
    let space = VitSpace::load(&recipe.space.name)?.hash();
    let mut misfit = None;
    for (path, profile) in library.of(&recipe.latency.target, &space) {
        let agreed = under_its_engines(asked, &path)?;
        match pipeline::check_profile(&agreed.0, &path, engines, board) {
            Ok(()) => {
                if !profile.measured_here() {
                    let target = &recipe.latency.target;
                    console.say(&format!(
                        "latencies of {target} are another tool's, and none was timed by masktas"
                    ));
                }
                return Ok((Some(path), agreed));
            }
            // The first is the one to mend: what was measured last.
            Err(error) => misfit = misfit.or(Some(error)),
        }
    }
    match misfit {
        Some(error) if board.is_none() => Err(error.into()),
        // A board that is there can be measured anew.
        Some(error) => {
            console.say(&format!("{} is profiled anew: {error}", recipe.latency.target));
            Ok((None, asked.clone()))
        }
        None => Ok((None, asked.clone())),
    }
}

/// A profile is of no use where other costs are limited and latency is not: then nothing is timed.
fn usable(profile: &Path, limits: &[Limit]) -> Result<(), Failure> {
    match limits.first() {
        Some(limit) if limits.iter().all(|limit| limit.kind != Kind::Latency) => {
            let profile = profile.display();
            Err(Failure::usage(format!(
                "--profile {profile} has no use with {limit}: latency is not limited; add --latency, or leave --profile out"
            )))
        }
        _ => Ok(()),
    }
}

/// A number of architectures as people read it.
fn many(count: u128) -> String {
    if count < 1_000_000 { count.to_string() } else { format!("{:.2e}", count as f64) }
}

/// The first of `runs/1`, `runs/2`, … that does not exist.
pub fn next_run() -> PathBuf {
    let mut number = 1u32;
    loop {
        let candidate = Path::new(RUNS).join(number.to_string());
        if !candidate.exists() || number == u32::MAX {
            return candidate;
        }
        number += 1;
    }
}

/// The recipe as it would take effect, and what is known before anything is trained; of further devices what they have of
/// their own.
fn dry_run(all: &[Further], console: &mut Console) -> Outcome {
    let Some((Further { recipe, .. }, further)) = all.split_first() else {
        return Ok(Answer::new(String::new(), Value::Null));
    };
    // Whether there are images at all: they are not read.
    images::open(recipe.data.path.as_deref())?;
    let space = VitSpace::load(&recipe.space.name)?;
    let limits = Limit::all(&recipe.budget)?;
    let countable = limits.into_iter().filter(|limit| limit.kind != Kind::Latency);
    let budget = SearchBudget::new(&space, countable.collect(), None)?;
    let mut intervals = Vec::new();
    for kind in [Kind::Params, Kind::Flops] {
        intervals.push(budget.interval(kind, recipe.seed)?);
    }
    budget.intervals(recipe.seed)?;
    let mut text = recipe.to_toml()?;
    text.push_str(&format!("\n# space {}: {} architectures\n", space.name(), many(space.count())));
    for interval in &intervals {
        text.push_str(&format!(
            "# {}: {} to {}\n",
            interval.kind.key(),
            interval.kind.show(interval.low),
            interval.kind.show(interval.high)
        ));
    }
    for one in further {
        text.push_str(&format!("# further device {}: {}\n", one.target(), one.overrides.join("  ")));
    }
    console.say("nothing was done; leave --dry-run out to search");
    let recipes: Vec<&Recipe> = further.iter().map(|one| &one.recipe).collect();
    let json = json!({
        "recipe": serde_json::to_value(recipe).unwrap_or(Value::Null),
        "further": serde_json::to_value(recipes).unwrap_or(Value::Null),
        "architectures": space.count().to_string(),
        "intervals": serde_json::to_value(&intervals).unwrap_or(Value::Null),
    });
    Ok(Answer::new(text, json))
}
