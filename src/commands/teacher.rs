//! `masktas teacher`: a masked autoencoder of unlabelled images, to teach later searches.

use std::path::PathBuf;

use clap::Args;
use masktas_search::pipeline::{self, Setup};
use masktas_search::run::write_atomic;
use serde_json::json;

use super::recipe::RecipeArgs;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// Options of `masktas teacher`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Epochs [default: the recipe's]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// The file; its training is kept beside it, and goes on when the command is repeated
    #[arg(long, value_name = "FILE", default_value = "teacher.safetensors")]
    out: PathBuf,
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    let folder = options.out.with_extension("run");
    let more: Vec<String> = options.epochs.iter().map(|epochs| format!("teacher.epochs={epochs}")).collect();
    let engines = EngineArgs::default().options();
    let setup = if folder.join("run.toml").exists() {
        console.say(&format!("going on with {}, by the recipe it was begun with", folder.display()));
        Setup { out: folder.clone(), recipe: None, overrides: Vec::new(), engines }
    } else {
        let (recipe, overrides) = options.recipe.load(&more, console)?;
        Setup { out: folder.clone(), recipe: Some(recipe), overrides, engines }
    };
    let trained = pipeline::teacher(&setup, &mut console.reporter)?;
    let bytes = std::fs::read(&trained).map_err(|error| Failure::io(&trained, error))?;
    write_atomic(&options.out, &bytes)?;
    let out = options.out.display();
    let text = format!(
        "{out}\nnext: masktas search --set teacher.name=file --set teacher.path={out} --set teacher.labels=none \\\n  \
         --set teacher.heads={}\n",
        heads(&folder)?
    );
    Ok(Answer::new(text, json!({ "teacher": options.out, "run": folder, "labels": "none" })))
}

/// The number of heads, which a weights file does not tell.
fn heads(folder: &std::path::Path) -> Result<usize, Failure> {
    let run = masktas_search::run::Run::open_read_only(folder)?;
    Ok(run.manifest().recipe.teacher.heads)
}
