//! `masktas profile`: models timed on a device; of a space, with the latency model fitted to its subnets.

mod files;
mod found;
mod import;
mod output;

use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::{EngineOptions, Library, ProfileFile};
use masktas_search::pipeline::{self, Connection, Profiled, Setup};
use masktas_search::recipe::Recipe;
use masktas_search::run::{Phase, Run};
use masktas_search::space::{Space as _, VitSpace};
use serde_json::{Value, json};

use super::left;
use super::recipe::{RecipeArgs, first_given, going_on, quoted};
use super::search;
use super::target::{TargetArgs, measurable, reach};
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;
use crate::table::Table;

const AFTER: &str = "Examples:
  masktas profile model.onnx --per-op                                   one file on this machine
  masktas profile --space vit-micro --samples 40                        this machine, in a minute or two an engine
  masktas profile --samples 40 --set 'latency.engines=[\"ort\"]'        under one engine only
  masktas profile --target pi5 --connect ssh://pi@board                 a board
  masktas profile --dry-run                                             how long it would take";

/// Options of `masktas profile`.
#[derive(Args)]
#[command(after_help = AFTER)]
pub struct Options {
    /// ONNX files to time; without any, subnets of the space are timed and a latency model is fitted to them
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Engine to time files under: ort, tract, wgpu; may be repeated [default: ort]
    #[arg(long, value_name = "NAME", help_heading = "Files", requires = "files")]
    engine: Vec<String>,
    /// ONNX Runtime's execution provider, such as cuda or tensorrt; it is an error when a node runs elsewhere
    #[arg(long, value_name = "NAME", help_heading = "Device")]
    provider: Option<String>,
    /// Threads inside one operation, for files
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Files")]
    run_threads: usize,
    /// Show what each operation of a file takes
    #[arg(long, help_heading = "Files", requires = "files")]
    per_op: bool,
    /// Run each file without a pause for this time, such as 10m, and show how the device holds out
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Files", requires = "files")]
    sustained: Option<f64>,
    /// Write the table as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output", requires = "files")]
    csv: Option<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE", help_heading = "Output", requires = "files")]
    markdown: Option<PathBuf>,
    /// Subnets to time, at least 10 [default: the recipe's latency.samples, 48]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Do not learn from the kept profiles of other devices on the same space
    #[arg(long)]
    no_sources: bool,
    /// Take over what was measured elsewhere: a profile that `masktas profile` wrote, or a CSV file with the columns model (an
    /// ONNX file, or the id of a subnet) and ms
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "resume", "connect"])]
    import: Option<PathBuf>,
    /// Write the profile to this file as well, to share it
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    export: Option<PathBuf>,
    /// Say what would be measured and how long it takes, and do nothing
    #[arg(long, conflicts_with_all = ["resume", "import"])]
    dry_run: bool,
    /// Folder of the new run [default: runs/1, runs/2, …]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    engines: EngineArgs,
}

impl Options {
    /// The first option given that makes a recipe.
    fn first_given(&self) -> Option<&'static str> {
        let own = [(self.samples.is_some(), "--samples"), (self.provider.is_some(), "--provider")];
        self.recipe.first_given().or_else(|| self.target.first_given()).or_else(|| first_given(&own))
    }

    /// The recipe, with the device that is really meant.
    fn recipe(
        &self,
        connection: Option<&Connection>,
        console: &mut Console,
    ) -> Result<(Recipe, Vec<String>), Failure> {
        let samples = self.samples.map(|samples| format!("latency.samples={samples}"));
        let provider = self.provider.as_ref().map(|name| format!("latency.provider={}", quoted(name)));
        let more: Vec<String> = samples.into_iter().chain(provider).collect();
        let (recipe, _) = self.recipe.load(&more, console)?;
        let asked = self.target.target.clone().unwrap_or(recipe.latency.target);
        let machine = match connection {
            Some(Connection { address, .. }) => {
                let _waiting = console.connecting(Some(address));
                Some(reach(connection, &self.engines)?.1)
            }
            None => None,
        };
        let device = self.target.device(&asked, machine.as_ref(), console)?;
        self.target.fits(&device, machine.as_ref())?;
        let target = format!("latency.target={}", quoted(&device));
        let more: Vec<String> = more.into_iter().chain([target]).collect();
        self.recipe.load(&more, console)
    }
}

/// Seconds of a time such as `90s` or `10m`.
fn time(text: &str) -> Result<f64, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is no time; write 90s, 10m or 1h")),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(number * scale),
        _ => Err(format!("`{text}` is no time above 0; write 90s, 10m or 1h")),
    }
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    if !options.files.is_empty() {
        return files::run(&options, console);
    }
    if let Some(path) = options.export.as_deref().filter(|_| !options.dry_run) {
        output::writable(path)?;
    }
    if let Some(from) = &options.import {
        return import::run(from, &options, console);
    }
    let engines = options.engines.options();
    let connection = options.target.connection()?;
    let setup = match &options.resume {
        Some(folder) => going_on(folder, "--resume", options.first_given(), engines)?,
        None => {
            let (recipe, overrides) = options.recipe(connection.as_ref(), console)?;
            measurable(&recipe.latency.target, connection.as_ref())?;
            let recipe = few_enough(recipe, console)?;
            if options.dry_run {
                return Ok(dry_run(&recipe, &engines));
            }
            let out = options.out.clone().unwrap_or_else(search::next_run);
            let sources = if options.no_sources { Vec::new() } else { sources(&recipe)? };
            Setup { recipe: Some(recipe), overrides, sources, ..Setup::new(out, engines) }
        }
    };
    let target = match &setup.recipe {
        Some(recipe) => recipe.latency.target.clone(),
        None => {
            let run = Run::open_read_only(&setup.out)?;
            let target = run.manifest().recipe.latency.target.clone();
            // A finished one is only shown.
            if !run.is_done(Phase::Profile)? {
                measurable(&target, connection.as_ref())?;
            }
            target
        }
    };
    let connections = connection.map(|connection| (target, connection)).into_iter().collect();
    let setup = Setup { connections, ..setup };
    let found = match pipeline::profile(&setup, &mut console.reporter) {
        Err(error) => return Err(left::behind(error, "profile", &setup, console)),
        Ok(found) => found,
    };
    let run = Run::open_read_only(&found.run)?;
    let kept = keep(&pipeline::profile_file(&run)?, options.export.as_deref(), console)?;
    let json = json!({ "run": found.run, "reports": serde_json::to_value(&found.reports).unwrap_or(Value::Null),
        "intervals": serde_json::to_value(&found.intervals).unwrap_or(Value::Null), "profile": kept });
    let text = format!("{}next: {}\n", text(&found, console), next(&found)?);
    Ok(Answer::new(text, json))
}

/// The recipe with no more samples than its space has members.
fn few_enough(mut recipe: Recipe, console: &mut Console) -> Result<Recipe, Failure> {
    let members = usize::try_from(VitSpace::load(&recipe.space.name)?.count()).unwrap_or(usize::MAX);
    if recipe.latency.samples > members {
        let (asked, space) = (recipe.latency.samples, &recipe.space.name);
        console.say(&format!(
            "{asked} samples of {space} were asked for, and it has {members} members: all are timed"
        ));
        recipe.latency.samples = members;
    }
    Ok(recipe)
}

/// What masktas measured of devices on a recipe's space and keeps; other tools' numbers are not learnt from.
pub fn sources(recipe: &Recipe) -> Result<Vec<PathBuf>, Failure> {
    let Some(library) = Library::of_user() else { return Ok(Vec::new()) };
    let space = VitSpace::load(&recipe.space.name)?.hash();
    let all = library.devices();
    let kept = all.iter().flat_map(|device| library.of(device, &space));
    Ok(kept.filter(|(_, profile)| profile.measured_here()).map(|(path, _)| path).collect())
}

/// Puts a profile into the user's library, and where else it was asked for.
pub fn keep(
    profile: &ProfileFile,
    export: Option<&Path>,
    console: &mut Console,
) -> Result<Option<PathBuf>, Failure> {
    // The library first: what a full disk does to the other file must not lose what was measured.
    let kept = match Library::of_user() {
        Some(library) => Some(library.keep(profile)?),
        None => None,
    };
    if let Some(path) = &kept {
        console.say(&format!("profile of {} kept in {}", profile.device, path.display()));
    }
    if let Some(path) = export {
        profile.write(path)?;
        console.say(&format!("profile written to {}", path.display()));
    }
    Ok(kept)
}

/// What would be measured, and for how long.
fn dry_run(recipe: &Recipe, engines: &EngineOptions) -> Answer {
    let latency = &recipe.latency;
    let protocol = pipeline::latency_protocol(latency, engines);
    // What was measured before, else what the catalogue makes of the space.
    let known =
        Library::of_user().zip(VitSpace::load(&recipe.space.name).ok()).and_then(|(library, space)| {
            let rows = library
                .of(&latency.target, &space.hash())
                .into_iter()
                .next()?
                .1
                .engines
                .into_iter()
                .next()?
                .rows;
            let times: Vec<f64> = rows.iter().filter_map(|row| Some(row.sample()?.ms)).collect();
            (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
        });
    let ms = known.or_else(|| pipeline::rough_ms(recipe)).unwrap_or(0.0);
    let seconds = output::seconds(latency.samples, ms, &protocol) * latency.engines.len() as f64;
    let text = format!(
        "{} subnets of {} on {} under {}: at least {}, more where times do not settle; nothing was done, leave \
         --dry-run out to measure\n",
        latency.samples,
        recipe.space.name,
        latency.target,
        latency.engines.join(", "),
        output::long(seconds)
    );
    let json = json!({ "samples": latency.samples, "space": recipe.space.name, "target": latency.target,
        "engines": latency.engines, "seconds": seconds });
    Answer::new(text, json)
}

fn text(found: &Profiled, console: &Console) -> String {
    let mut table =
        Table::new(&["engine", "subnets", "held-out error", "within 10 %", "in 90 % interval", "held out"]);
    for report in &found.reports {
        let held_out = &report.held_out;
        table.row(vec![
            report.engine.as_str().into(),
            report.rows.len().to_string().into(),
            format!("{:.1} %", 100.0 * held_out.mape).into(),
            format!("{:.0} %", 100.0 * held_out.within_10).into(),
            format!("{:.0} %", 100.0 * held_out.coverage).into(),
            held_out.n.to_string().into(),
        ]);
    }
    let mut text = table.show(console.style);
    for report in &found.reports {
        let how = report.how.iter().map(|how| format!("{}: {how}\n", report.engine));
        text.extend(how);
    }
    for interval in &found.intervals {
        let kind = interval.kind;
        let range = format!("{} to {}", kind.show(interval.low), kind.show(interval.high));
        text.push_str(&format!("{} in this space: {range}\n", kind.key()));
    }
    text
}

/// The search that takes this profile over, with what must agree where it is not the default.
fn next(found: &Profiled) -> Result<String, Failure> {
    let run = Run::open_read_only(&found.run)?;
    let (recipe, usual) = (&run.manifest().recipe, Recipe::load(None, None, &[])?);
    // A profile needs no images; a search without a folder would take the built-in photographs.
    let data =
        recipe.data.path.as_ref().map_or_else(|| "FOLDER".to_owned(), |path| path.display().to_string());
    let mut text = format!("masktas search --profile {} --data {data} --latency TIME", found.run.display());
    if recipe.space.name != usual.space.name {
        text.push_str(&format!(" --space {}", recipe.space.name));
    }
    if recipe.latency.target != usual.latency.target {
        text.push_str(&format!(" --target {}", recipe.latency.target));
    }
    Ok(text)
}
