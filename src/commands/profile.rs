//! `masktas profile`: subnets of a space timed on a device, and the latency model fitted to them.

use std::path::PathBuf;

use clap::Args;
use masktas_devices::device;
use masktas_search::Error;
use masktas_search::pipeline::{self, Profiled, Setup};
use masktas_search::recipe::Recipe;
use masktas_search::run::Run;
use serde_json::{Value, json};

use super::recipe::{RecipeArgs, first_given, going_on, quoted};
use super::search;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::table::Table;

/// Options of `masktas profile`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The device; `host`: this machine [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Subnets to time [default: the recipe's]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Folder of the new run [default: runs/1, runs/2, …]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    engines: EngineArgs,
}

impl Options {
    /// The first option given that makes a recipe.
    fn first_given(&self) -> Option<&'static str> {
        let own = [(self.target.is_some(), "--target"), (self.samples.is_some(), "--samples")];
        self.recipe.first_given().or_else(|| first_given(&own))
    }
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    let engines = options.engines.options();
    let setup = match &options.resume {
        Some(folder) => going_on(folder, "--resume", options.first_given(), engines)?,
        None => {
            let target = options.target.as_ref().map(|target| format!("latency.target={}", quoted(target)));
            let samples = options.samples.map(|samples| format!("latency.samples={samples}"));
            let more: Vec<String> = target.into_iter().chain(samples).collect();
            let (recipe, overrides) = options.recipe.load(&more, console)?;
            device(&recipe.latency.target)?;
            let out = options.out.clone().unwrap_or_else(search::next_run);
            Setup { out, recipe: Some(recipe), overrides, engines, profile: None }
        }
    };
    let folder = setup.out.display().to_string();
    let found = match pipeline::profile(&setup, &mut console.reporter) {
        Err(Error::Interrupted) => {
            let text =
                format!("interrupted; what was timed is kept, go on with: masktas profile --resume {folder}");
            return Err(Failure { exit: Exit::Interrupted, error: text.into() });
        }
        other => other?,
    };
    let json = json!({ "run": found.run, "reports": serde_json::to_value(&found.reports).unwrap_or(Value::Null),
        "intervals": serde_json::to_value(&found.intervals).unwrap_or(Value::Null) });
    let text = format!("{}next: {}\n", text(&found, console), next(&found)?);
    Ok(Answer::new(text, json))
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
