//! `masktas search`: from a folder of images to a front of checked models.

use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::{EngineOptions, Library};
use masktas_search::budget::{Kind, Limit, SearchBudget};
use masktas_search::pipeline::{self, Connection, Setup};
use masktas_search::recipe::Recipe;
use masktas_search::report::axis;
use masktas_search::run::Run;
use masktas_search::space::{Space as _, VitSpace};
use masktas_search::teacher::TaughtBy;
use masktas_search::{Error, report};
use serde_json::{Value, json};

use super::front::bend;
use super::recipe::{RecipeArgs, first_given, going_on, quoted};
use super::shown;
use super::target::{TargetArgs, reach};
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};

/// Where runs go that nobody named.
const RUNS: &str = "runs";

/// Options of `masktas search`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// At most this latency, such as 5ms
    #[arg(long, value_name = "TIME", help_heading = "Budget")]
    latency: Option<String>,
    /// Take over what a finished `masktas profile` measured: its run's folder, or the file it wrote [default for another
    /// device than this machine: the one that is kept of it]
    #[arg(long, value_name = "RUN", help_heading = "Device")]
    profile: Option<PathBuf>,
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
            self.prior.then(|| "latency.prior=true".to_owned()),
            text("budget.latency", &self.latency),
            text("budget.params", &self.params),
            text("budget.flops", &self.flops),
            self.evaluations.map(|count| format!("sampler.evaluations={count}")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The recipe, with the device that is really meant.
    fn recipe(
        &self,
        connection: Option<&Connection>,
        console: &mut Console,
    ) -> Result<(Recipe, Vec<String>), Failure> {
        let (recipe, overrides) = self.recipe.load(&self.overrides(), console)?;
        let asked = self.target.target.clone().unwrap_or_else(|| recipe.latency.target.clone());
        let machine = match connection {
            Some(_) => Some(reach(connection, &self.engines)?.1),
            None => None,
        };
        let device = self.target.device(&asked, machine.as_ref(), console)?;
        if device == recipe.latency.target {
            return Ok((recipe, overrides));
        }
        let mut more = self.overrides();
        more.push(format!("latency.target={}", quoted(&device)));
        self.recipe.load(&more, console)
    }

    /// The first option given that a run begun earlier would ignore.
    fn first_given(&self) -> Option<&'static str> {
        let own = [
            (self.target.target.is_some(), "--target"),
            (self.prior, "--prior"),
            (self.latency.is_some(), "--latency"),
            (self.profile.is_some(), "--profile"),
            (self.params.is_some(), "--params"),
            (self.flops.is_some(), "--flops"),
            (self.evaluations.is_some(), "--evaluations"),
        ];
        self.recipe.first_given().or_else(|| first_given(&own))
    }
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    let engines = options.engines.options();
    let connection = options.target.connection()?;
    let setup = match &options.resume {
        Some(folder) => going_on(folder, "--resume", options.first_given(), engines)?,
        None => {
            let (recipe, overrides) = options.recipe(connection.as_ref(), console)?;
            recipe.built()?;
            let limits = Limit::all(&recipe.budget)?;
            let profile = match &options.profile {
                Some(from) => {
                    usable(from, &limits)?;
                    pipeline::check_profile(&recipe, from, &engines)?;
                    Some(from.clone())
                }
                None => at_hand(&recipe, connection.is_some(), &engines)?,
            };
            pipeline::check_target(&recipe, connection.is_some() || profile.is_some())?;
            pipeline::check_device(&recipe)?;
            if options.dry_run {
                return dry_run(&recipe, console);
            }
            // Every engine answers at the end.
            options.engines.ready()?;
            let out = match &options.out {
                Some(out) => out.clone(),
                None => next_run(),
            };
            Setup { recipe: Some(recipe), overrides, profile, ..Setup::new(out, engines) }
        }
    };
    let setup = Setup { connection, ..setup };
    let folder = setup.out.clone();
    console.say(&format!("run {}", folder.display()));
    if let Some(from) = &setup.profile {
        console.say(&format!("latency is as measured in {}", from.display()));
    }
    let found = match pipeline::search(&setup, &mut console.reporter) {
        Err(Error::Interrupted) => {
            let text = format!(
                "interrupted; everything so far is saved, go on with: masktas search --resume {}",
                folder.display()
            );
            return Err(Failure { exit: Exit::Interrupted, error: text.into() });
        }
        other => other?,
    };
    let run = Run::open_read_only(&folder)?;
    let page = report::write(&run)?;
    let (axis, bend) = (axis(&run)?, bend(&found.front));
    let style = console.style;
    let mut text = format!("front: {} of {} scored architectures\n\n", found.front.len(), found.trials);
    text.push_str(&shown::front(&found.front, axis, bend, style));
    let teacher = TaughtBy::of(&run)?;
    text.push_str(&shown::teacher(teacher.as_ref()));
    if !found.finalists.is_empty() {
        // Nothing is timed where latency is not limited.
        let measured = found.finalists.iter().any(|one| !one.measured.is_empty());
        let again = if measured { ", measured again" } else { "" };
        text.push_str(&format!("\nfinalists: exported, replayed in every engine{again}\n\n"));
        text.push_str(&shown::finalists(&found.finalists, style));
    }
    let verdict = shown::worst(&found.finalists);
    let failed = verdict == Some(masktas_runtime::Verdict::Fail);
    if let Some(verdict) = verdict {
        text.push_str(&format!("\nparity: {verdict}\n"));
    }
    for one in found.finalists.iter().filter(|one| one.parity.verdict == masktas_runtime::Verdict::Fail) {
        text.push_str(&format!("\n{}\n{}", one.candidate.id, shown::parity(&one.parity, style)));
    }
    text.push_str(&format!("models: {}\n", run.models().display()));
    text.push_str(&format!("report: {}\n", page.display()));
    let next = if failed {
        "masktas doctor".to_owned()
    } else {
        format!("masktas export {} --pick knee", folder.display())
    };
    text.push_str(&format!("next:   {next}\n"));
    let mut json = serde_json::to_value(&found).unwrap_or(Value::Null);
    if let Value::Object(keys) = &mut json {
        keys.insert("axis".to_owned(), axis.key().into());
        keys.insert("teacher".to_owned(), serde_json::to_value(&teacher).unwrap_or(Value::Null));
        keys.insert("report".to_owned(), page.display().to_string().into());
        keys.insert("parity".to_owned(), verdict.map(|verdict| verdict.to_string()).into());
    }
    Ok(Answer { exit: if failed { Exit::Check } else { Exit::Ok }, ..Answer::new(text, json) })
}

/// The profile that is kept of a target that is not this machine: of the same space, measured in the same way.
fn at_hand(recipe: &Recipe, connected: bool, engines: &EngineOptions) -> Result<Option<PathBuf>, Failure> {
    let Some(library) = Library::of_user().filter(|_| !recipe.latency.on_host() && !recipe.latency.prior)
    else {
        return Ok(None);
    };
    let space = VitSpace::load(&recipe.space.name)?.hash();
    let mut misfit = None;
    for (path, _) in library.of(&recipe.latency.target, &space) {
        match pipeline::check_profile(recipe, &path, engines) {
            Ok(()) => return Ok(Some(path)),
            Err(error) => misfit = Some(error),
        }
    }
    match misfit {
        // A board that is there can be measured anew.
        Some(error) if !connected => Err(error.into()),
        _ => Ok(None),
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

/// The recipe as it would take effect, and what is known before anything is trained.
fn dry_run(recipe: &Recipe, console: &mut Console) -> Outcome {
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
    text.push_str(&format!("\n# space {}: {:.3e} architectures\n", space.name(), space.count() as f64));
    for interval in &intervals {
        text.push_str(&format!(
            "# {}: {} to {}\n",
            interval.kind.key(),
            interval.kind.show(interval.low),
            interval.kind.show(interval.high)
        ));
    }
    console.say("nothing was done; leave --dry-run out to search");
    let json = json!({
        "recipe": serde_json::to_value(recipe).unwrap_or(Value::Null),
        "architectures": space.count().to_string(),
        "intervals": serde_json::to_value(&intervals).unwrap_or(Value::Null),
    });
    Ok(Answer::new(text, json))
}
