//! Options that make a recipe; shared by the commands that start from one.

use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::EngineOptions;
use masktas_search::pipeline::Setup;
use masktas_search::recipe::Recipe;

use crate::console::Console;
use crate::exit::Failure;

/// The file that is read from the working directory when no other is named.
const USUAL: &str = "masktas.toml";

/// What a recipe is made of.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeArgs {
    /// A folder of images; without it, the photographs that come with the program
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Search space: vit-micro, vit-tiny, autoformer-tiny, -small, -base, or a TOML file
    #[arg(long, value_name = "NAME")]
    pub space: Option<String>,
    /// The recipe to start from: a name or a TOML file
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Your overrides of the recipe; without it, masktas.toml of this folder where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value of the recipe; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Seed of every random decision
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Worker threads; 0: one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Training backend: flex (CPU), vulkan, wgpu, cuda
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
}

impl RecipeArgs {
    /// The first option that was given, for messages.
    pub fn first_given(&self) -> Option<&'static str> {
        first_given(&[
            (self.data.is_some(), "--data"),
            (self.space.is_some(), "--space"),
            (self.recipe.is_some(), "--recipe"),
            (self.config.is_some(), "--config"),
            (!self.sets.is_empty(), "--set"),
            (self.seed.is_some(), "--seed"),
            (self.threads.is_some(), "--threads"),
            (self.device.is_some(), "--device"),
        ])
    }

    /// The options as overrides, after the ones of `--set`.
    pub fn overrides(&self) -> Vec<String> {
        let mut sets = self.sets.clone();
        let mut put = |key: &str, value: Option<String>| {
            sets.extend(value.map(|value| format!("{key}={value}")));
        };
        put("data.path", self.data.as_ref().map(|path| quoted(&path.to_string_lossy())));
        put("space.name", self.space.as_deref().map(quoted));
        put("seed", self.seed.map(|seed| seed.to_string()));
        put("threads", self.threads.map(|threads| threads.to_string()));
        put("device", self.device.as_deref().map(quoted));
        sets
    }

    /// The recipe, with `more` overrides after these, and all overrides for the record.
    pub fn load(&self, more: &[String], console: &mut Console) -> Result<(Recipe, Vec<String>), Failure> {
        let usual = Path::new(USUAL);
        let file = match &self.config {
            Some(path) => Some(path.as_path()),
            None if usual.is_file() => {
                console.say_once(&format!("reading {USUAL} of this folder"));
                Some(usual)
            }
            None => None,
        };
        let mut overrides = self.overrides();
        overrides.extend_from_slice(more);
        if let Some(path) = &self.config {
            there("--config", path)?;
        }
        if let Some(name) = self.recipe.as_deref().filter(|name| name.ends_with(".toml")) {
            there("--recipe", Path::new(name))?;
        }
        let recipe = Recipe::load(self.recipe.as_deref(), file, &overrides)?;
        // Now, and not after the images are read.
        if recipe.space.name.ends_with(".toml") {
            there("--space", Path::new(&recipe.space.name))?;
        }
        if let ("file", Some(path)) = (recipe.teacher.name.as_str(), &recipe.teacher.path) {
            there("teacher.path", path)?;
        }
        Ok((recipe, overrides))
    }
}

/// The first of these options that was given, by name.
pub fn first_given(options: &[(bool, &'static str)]) -> Option<&'static str> {
    options.iter().find(|(given, _)| *given).map(|(_, name)| *name)
}

/// Goes on with the run in `folder`. It keeps the recipe it was begun with, so an option that would change that
/// (`given`, by its name) is refused; `beside` is what it cannot stand beside.
pub fn going_on(
    folder: &Path,
    beside: &str,
    given: Option<&str>,
    engines: EngineOptions,
) -> Result<Setup, Failure> {
    if let Some(given) = given {
        return Err(Failure::usage(format!(
            "{given} cannot be combined with {beside}: a run goes on by the recipe it was begun with; leave it out, or \
             begin a new run with --out"
        )));
    }
    Ok(Setup::new(folder.to_owned(), engines))
}

/// Whether there is a file where an option says so.
fn there(option: &str, path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    Err(Failure::usage(format!("{option} {}: there is no such file; check the path", path.display())))
}

/// A value that stays a text whatever it looks like.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
