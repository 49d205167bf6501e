//! `masktas teacher`: a masked autoencoder of unlabelled images, to teach later searches.

use std::path::PathBuf;

use clap::Args;
use masktas_search::Error;
use masktas_search::pipeline::{self, Setup};
use masktas_search::run::{Run, write_atomic};
use serde_json::json;

use super::recipe::{RecipeArgs, going_on};
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};

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
        let mut other = options.recipe.first_given().or(options.epochs.map(|_| "--epochs"));
        if other.is_some() {
            // The same command again goes on; another one would be ignored.
            let (recipe, _) = options.recipe.load(&more, console)?;
            if recipe.anchored()? == Run::open_read_only(&folder)?.manifest().recipe {
                other = None;
            }
        }
        let beside = format!("{}, which was begun by another recipe", folder.display());
        let setup = going_on(&folder, &beside, other, engines)?;
        console.say(&format!("going on with {}, by the recipe it was begun with", folder.display()));
        setup
    } else {
        let (recipe, overrides) = options.recipe.load(&more, console)?;
        Setup { recipe: Some(recipe), overrides, ..Setup::new(folder.clone(), engines) }
    };
    let trained = match pipeline::teacher(&setup, &mut console.reporter) {
        Err(Error::Interrupted) => {
            let text = format!(
                "interrupted; everything so far is saved, go on with: masktas teacher --out {}",
                options.out.display()
            );
            return Err(Failure { exit: Exit::Interrupted, error: text.into() });
        }
        other => other?,
    };
    let bytes = std::fs::read(&trained).map_err(|error| Failure::io(&trained, error))?;
    write_atomic(&options.out, &bytes)?;
    let out = options.out.display();
    // A search of the built-in photographs is not what a teacher of other images is for.
    let run = Run::open_read_only(&folder)?;
    let data = run.manifest().recipe.data.path.as_ref();
    let data = data.map_or_else(String::new, |path| format!(" --data {}", path.display()));
    let text =
        format!("{out}\nnext: masktas search{data} --set teacher.name=file --set teacher.path={out}\n");
    Ok(Answer::new(text, json!({ "teacher": options.out, "run": folder, "labels": "none" })))
}
