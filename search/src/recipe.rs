//! Recipes: which part fills each role, and every number a search depends on.
//!
//! A recipe is a TOML file. `recipes/masktas.toml` holds all keys with their defaults; another
//! recipe, then the user's `masktas.toml`, then `--set key=value` override single keys. An unknown
//! key is an error with a suggestion, and a part that is planned but not built is refused by name.

mod sections;

use std::path::Path;

use masktas_devices::latency::MIN_SAMPLES;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use sections::{
    BudgetChoice, Data, Decoder, Finetune, HOST, Labels, Latency, Objective, Predictor, SamplerChoice,
    Sampling, Score, SpaceChoice, Supernet, Teacher,
};

use crate::error::{At, Error, Result};
use crate::keys;
use crate::ops::Precision;
use crate::suggest::hint;

/// Everything a search is told. Stored in the run as it took effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the recipe this began with.
    pub recipe: String,
    /// Seed of every random stream.
    pub seed: u64,
    /// Worker threads; 0: one per core.
    pub threads: usize,
    /// What training computes matrix products in: `f32` or `bf16`.
    #[serde(default = "full_precision")]
    pub precision: String,
    /// Training backend: `flex`, `vulkan`, `wgpu` or `cuda`.
    pub device: String,
    /// Who holds the data; `single`.
    pub topology: String,
    /// How tasks arrive; `single`.
    pub stream: String,
    /// Images.
    pub data: Data,
    /// Search space.
    pub space: SpaceChoice,
    /// Teacher.
    pub teacher: Teacher,
    /// Supernet training.
    pub supernet: Supernet,
    /// Loss of the supernet.
    pub objective: Objective,
    /// Label-free score.
    pub score: Score,
    /// Architecture predictor.
    pub predictor: Predictor,
    /// Sampler.
    pub sampler: SamplerChoice,
    /// Limits.
    #[serde(default)]
    pub budget: BudgetChoice,
    /// Latency measurement.
    pub latency: Latency,
    /// Labelled fine-tuning.
    pub finetune: Finetune,
}

/// The recipes that come with the program, by name.
pub const RECIPES: [(&str, &str); 7] = [
    ("masktas", include_str!("../../recipes/masktas.toml")),
    ("csnas", include_str!("../../recipes/csnas.toml")),
    ("ssnenas", include_str!("../../recipes/ssnenas.toml")),
    ("ss-vfnas", include_str!("../../recipes/ss-vfnas.toml")),
    ("ccl", include_str!("../../recipes/ccl.toml")),
    ("dna", include_str!("../../recipes/dna.toml")),
    ("seminas", include_str!("../../recipes/seminas.toml")),
];

/// The default recipe's text, with a comment for every key: what `masktas init` writes from.
pub const DEFAULT: &str = RECIPES[0].1;

/// The next step after a file that is not TOML.
const HELP: &str = "compare with recipes/masktas.toml";

/// Keys without a default.
const OPTIONAL: [&str; 6] =
    ["data.path", "teacher.path", "budget.latency", "budget.params", "budget.flops", "latency.provider"];

/// Sections that no training reads, and a name. `threads` is among them because a supernet that is taken over brings its
/// own number of lanes.
const AFTER_TRAINING: [&str; 8] =
    ["recipe", "threads", "score", "predictor", "sampler", "budget", "latency", "finetune"];

/// One role of the search and who can fill it.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The recipe's key.
    pub key: &'static str,
    /// Parts that exist.
    pub built: &'static [&'static str],
    /// Parts that published recipes name and that do not exist yet.
    pub planned: &'static [&'static str],
}

/// The roles that are filled by name. Spaces are not among them: a space may be a file.
pub const ROLES: [Role; 8] = [
    Role { key: "topology", built: crate::topology::NAMES, planned: &["vertical"] },
    Role { key: "stream", built: crate::stream::NAMES, planned: &["continual"] },
    Role { key: "teacher.name", built: crate::teacher::NAMES, planned: &[] },
    Role { key: "objective.name", built: crate::objective::NAMES, planned: &["contrastive", "blockwise"] },
    Role { key: "score.name", built: crate::score::NAMES, planned: &["contrastive", "blockwise"] },
    Role { key: "predictor.name", built: crate::predictor::NAMES, planned: &[] },
    Role { key: "predictor.pretrain", built: crate::predictor::pretrain::NAMES, planned: &[] },
    Role { key: "sampler.name", built: crate::sampler::NAMES, planned: &[] },
];

impl Recipe {
    /// The default recipe, overridden by the recipe `name` (a known name or a file), then by the
    /// user's `file`, then by each `key=value` of `sets`.
    ///
    /// Without `name`, the file's own `recipe` key says which recipe it builds on. Relative paths in
    /// a file start from its folder; in `sets` from the working directory.
    ///
    /// # Errors
    /// Unreadable files, unknown recipes, unknown keys (with a suggestion), wrong types, values out
    /// of range.
    pub fn load(name: Option<&str>, file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let schema = schema()?;
        let mut table = keys::parse("masktas.toml (built in)", DEFAULT, HELP)?;
        let user = match file {
            Some(path) => Some(read_layer(path, &schema)?),
            None => None,
        };
        let own = user.as_ref().and_then(|layer| layer.get("recipe")).and_then(Value::as_str);
        let name = name.or(own).unwrap_or("masktas").to_owned();
        if let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) {
            merge(&mut table, keys::parse(&name, text, HELP)?);
        } else if name.ends_with(".toml") {
            merge(&mut table, read_layer(Path::new(&name), &schema)?);
        } else {
            let hint = hint(&name, RECIPES.iter().map(|(known, _)| *known));
            return Err(Error::UnknownName { what: "recipe", name, hint });
        }
        if let Some(mut layer) = user {
            layer.remove("recipe");
            merge(&mut table, layer);
        }
        for set in sets {
            merge(&mut table, override_layer(set, &schema)?);
        }
        let recipe: Self = table.try_into().map_err(|error: toml::de::Error| Error::Config {
            place: format!("recipe {name}"),
            problem: error.to_string().trim().replace('\n', " "),
            next: HELP.to_owned(),
        })?;
        recipe.check()?;
        recipe.check_new()?;
        Ok(recipe)
    }

    /// The same with more overrides, as [`Recipe::load`] takes them.
    ///
    /// # Errors
    /// As [`Recipe::load`] for an override.
    pub fn with(&self, sets: &[String]) -> Result<Self> {
        let schema = schema()?;
        let mut table = Table::try_from(self).map_err(|error| self.unwritten(&error))?;
        for set in sets {
            merge(&mut table, override_layer(set, &schema)?);
        }
        let recipe: Self = table.try_into().map_err(|error: toml::de::Error| Error::Config {
            place: format!("--set {}", sets.join(" --set ")),
            problem: error.message().trim().replace('\n', " "),
            next: HELP.to_owned(),
        })?;
        recipe.check()?;
        recipe.check_new()?;
        Ok(recipe)
    }

    /// The first key whose value here and in `other` leads to another supernet, with both values; `None` when the two
    /// train the same one. What follows training (score, sampler, budget, latency, fine-tuning) may differ.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`].
    pub fn other_supernet(&self, other: &Self) -> Result<Option<(String, String, String)>> {
        let table = |recipe: &Self| -> Result<Table> {
            let mut table = Table::try_from(recipe).map_err(|error| recipe.unwritten(&error))?;
            table.retain(|key, _| !AFTER_TRAINING.contains(&key));
            Ok(table)
        };
        Ok(keys::first_difference(&table(self)?, &table(other)?))
    }

    /// Reads back what [`Recipe::to_toml`] wrote.
    ///
    /// # Errors
    /// When `text` is not a whole recipe.
    pub fn from_toml(place: &str, text: &str) -> Result<Self> {
        let table = keys::parse(place, text, HELP)?;
        keys::check(place, text, &table, &schema()?)?;
        let recipe: Self = toml::from_str(text).map_err(|error| Error::Config {
            place: place.to_owned(),
            problem: error.message().to_owned(),
            next: "it was changed or written by another version: begin a new run".to_owned(),
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as it took effect, with every key.
    ///
    /// # Errors
    /// When a value has no TOML form (a seed above 2^63-1).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| self.unwritten(&error))
    }

    fn unwritten(&self, error: &toml::ser::Error) -> Error {
        Error::Invalid {
            thing: format!("recipe {}", self.recipe),
            problem: error.to_string(),
            next: format!("use a seed of at most {}", i64::MAX),
        }
    }

    /// The same with absolute paths, which mean the same from every working directory.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn anchored(mut self) -> Result<Self> {
        let paths = [&mut self.data.path, &mut self.teacher.path].into_iter().flatten();
        // What is not there may be a word (`embedded`); if it is a mistake, whoever opens it says so.
        for path in paths.filter(|path| path.exists()) {
            *path = std::path::absolute(&*path).at(path.clone())?;
        }
        Ok(self)
    }

    /// Whether every part this recipe names exists.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for a part that is planned, [`Error::UnknownName`] for a stranger; parts that do not fit each other.
    pub fn built(&self) -> Result<()> {
        let named = [
            &self.topology,
            &self.stream,
            &self.teacher.name,
            &self.objective.name,
            &self.score.name,
            &self.predictor.name,
            &self.predictor.pretrain,
            &self.sampler.name,
        ];
        let mut missing: Vec<(&Role, &str)> = Vec::new();
        for (role, name) in ROLES.iter().zip(named) {
            if role.built.contains(&name.as_str()) {
                continue;
            }
            if !role.planned.contains(&name.as_str()) {
                let hint = hint(name, role.built.iter().copied());
                return Err(Error::UnknownName { what: role.key, name: name.clone(), hint });
            }
            missing.push((role, name));
        }
        if !missing.is_empty() {
            return Err(self.unbuilt(&missing));
        }
        // A sampler may need a predictor.
        crate::sampler::by_name(&self.sampler, &self.predictor).map(drop)
    }

    /// Parts that do not exist, and how the others are used without them.
    fn unbuilt(&self, missing: &[(&Role, &str)]) -> Error {
        let named: Vec<String> =
            missing.iter().map(|(role, name)| format!("{} = \"{name}\"", role.key)).collect();
        let instead = missing.iter().map(|(role, _)| format!(" --set {}={}", role.key, role.built[0]));
        let reason = match missing {
            [_] => "this part is not built yet",
            _ => "these parts are not built yet",
        };
        Error::NotSupported {
            thing: format!("{} (recipe {})", named.join(", "), self.recipe),
            reason: reason.to_owned(),
            next: format!("use --recipe {}{}", self.recipe, instead.collect::<String>()),
        }
    }

    /// Whether a new run may begin with it. Runs of earlier versions were let pass, and stay readable.
    fn check_new(&self) -> Result<()> {
        let samples = self.latency.samples;
        let range = format!("at least {MIN_SAMPLES}");
        check_that("latency.samples", samples as f64, samples >= MIN_SAMPLES, &range)?;
        let Some(path) = self.teacher.path.as_ref().filter(|_| self.teacher.name != "file") else {
            return Ok(());
        };
        Err(Error::Invalid {
            thing: format!("teacher.path = \"{}\"", path.display()),
            problem: format!("teacher.name is \"{}\", which reads no file", self.teacher.name),
            next: "add --set teacher.name=file, or leave teacher.path out".to_owned(),
        })
    }

    /// Whether every number is in its range.
    fn check(&self) -> Result<()> {
        let share = |key: &str, value: f64| check_that(key, value, value > 0.0 && value < 1.0, "in (0, 1)");
        let positive = |key: &str, value: usize| check_that(key, value as f64, value > 0, "at least 1");
        let above = |key: &str, value: f64| check_that(key, value, value > 0.0, "above 0");
        let weight = |key: &str, value: f64| check_that(key, value, value >= 0.0, "at least 0");
        let chance =
            |key: &str, value: f64| check_that(key, value, (0.0..=1.0).contains(&value), "in [0, 1]");
        share("data.val", self.data.val)?;
        check_that("data.test", self.data.test, (0.0..1.0).contains(&self.data.test), "in [0, 1)")?;
        let split = self.data.val + self.data.test;
        check_that("data.val + data.test", split, split < 1.0, "below 1")?;
        check_that("data.crop", self.data.crop, self.data.crop > 0.0 && self.data.crop <= 1.0, "in (0, 1]")?;
        let sections = [
            (
                "teacher",
                &self.teacher.decoder,
                self.teacher.batch,
                self.teacher.learning_rate,
                self.teacher.mask_ratio,
            ),
            (
                "supernet",
                &self.supernet.decoder,
                self.supernet.batch,
                self.supernet.learning_rate,
                self.supernet.mask_ratio,
            ),
        ];
        for (name, decoder, batch, rate, mask) in sections {
            positive(&format!("{name}.batch"), batch)?;
            above(&format!("{name}.learning_rate"), rate)?;
            share(&format!("{name}.mask_ratio"), mask)?;
            positive(&format!("{name}.decoder.depth"), decoder.depth)?;
            divides(&format!("{name}.decoder"), decoder.heads, decoder.embed)?;
        }
        let schedules = [
            ("teacher", self.teacher.epochs, self.teacher.warmup_epochs, self.teacher.weight_decay),
            ("supernet", self.supernet.epochs, self.supernet.warmup_epochs, self.supernet.weight_decay),
            ("finetune", self.finetune.epochs, self.finetune.warmup_epochs, self.finetune.weight_decay),
        ];
        for (name, epochs, warmup, decay) in schedules {
            positive(&format!("{name}.epochs"), epochs)?;
            weight(&format!("{name}.warmup_epochs"), warmup)?;
            weight(&format!("{name}.weight_decay"), decay)?;
        }
        // The width of a file's teacher stands in the file.
        if self.teacher.name == "mae" {
            divides("teacher", self.teacher.heads, self.teacher.embed)?;
        }
        positive("teacher.depth", self.teacher.depth)?;
        above("teacher.ratio", self.teacher.ratio)?;
        share("teacher.ema_decay", self.teacher.ema_decay)?;
        positive("length of teacher.layers", self.teacher.layers.len())?;
        for &layer in &self.teacher.layers {
            check_that("teacher.layers", layer, layer > 0.0 && layer <= 1.0, "in (0, 1]")?;
        }
        if self.teacher.name == "file" && self.teacher.path.is_none() {
            return Err(Error::Invalid {
                thing: "teacher".to_owned(),
                problem: "teacher.name = \"file\" needs a file".to_owned(),
                next: "give teacher.path".to_owned(),
            });
        }
        for beta in self.supernet.betas {
            check_that("supernet.betas", beta, (0.0..1.0).contains(&beta), "in [0, 1)")?;
        }
        weight("supernet.clip", self.supernet.clip)?;
        weight("supernet.in_place", self.supernet.in_place)?;
        positive("supernet.checkpoint_steps", self.supernet.checkpoint_steps)?;
        Precision::named(&self.precision)?;
        let terms = [
            ("objective.pixel", self.objective.pixel),
            ("objective.feature", self.objective.feature),
            ("objective.relation", self.objective.relation),
        ];
        for (key, value) in terms {
            weight(key, value)?;
        }
        let sum: f64 = terms.iter().map(|(_, value)| value).sum();
        check_that("sum of the objective's weights", sum, sum > 0.0, "above 0")?;
        above("objective.temperature", self.objective.temperature)?;
        above("score.temperature", self.score.temperature)?;
        share("score.mask_ratio", self.score.mask_ratio)?;
        positive("score.images", self.score.images)?;
        positive("score.masks", self.score.masks)?;
        positive("score.batch", self.score.batch)?;
        let references = self.score.reference_subnets;
        check_that("score.reference_subnets", references as f64, references >= 2, "at least 2")?;
        positive("sampler.evaluations", self.sampler.evaluations)?;
        positive("sampler.population", self.sampler.population)?;
        positive("sampler.parents", self.sampler.parents)?;
        positive("sampler.mutants + sampler.crossovers", self.sampler.mutants + self.sampler.crossovers)?;
        chance("sampler.mutate_each", self.sampler.mutate_each)?;
        chance("sampler.mutate_structure", self.sampler.mutate_structure)?;
        share("sampler.gamma", self.sampler.gamma)?;
        positive("sampler.candidates", self.sampler.candidates)?;
        positive("sampler.batch", self.sampler.batch)?;
        positive("length of latency.engines", self.latency.engines.len())?;
        positive("latency.samples", self.latency.samples)?;
        positive("latency.threads", self.latency.threads)?;
        positive("latency.rounds", self.latency.rounds)?;
        positive("latency.runs", self.latency.runs)?;
        positive("finetune.batch", self.finetune.batch)?;
        above("finetune.learning_rate", self.finetune.learning_rate)?;
        let drop = self.finetune.drop_path;
        check_that("finetune.drop_path", drop, (0.0..1.0).contains(&drop), "in [0, 1)")?;
        let smoothing = self.finetune.label_smoothing;
        check_that("finetune.label_smoothing", smoothing, (0.0..1.0).contains(&smoothing), "in [0, 1)")
    }
}

/// What runs of versions that knew no other trained in.
fn full_precision() -> String {
    "f32".to_owned()
}

/// An error unless `holds`; NaN never holds.
fn check_that(key: &str, value: f64, holds: bool, range: &str) -> Result<()> {
    if holds && value.is_finite() {
        return Ok(());
    }
    Err(Error::Invalid {
        thing: key.to_owned(),
        problem: format!("{value} is not {range}"),
        next: format!("set {key} to a value {range}"),
    })
}

fn divides(section: &str, heads: usize, embed: usize) -> Result<()> {
    if heads > 0 && embed > 0 && embed.is_multiple_of(heads) {
        return Ok(());
    }
    Err(Error::Invalid {
        thing: format!("{section}.heads"),
        problem: format!("{heads} heads do not divide a width of {embed}"),
        next: format!("change {section}.heads or {section}.embed"),
    })
}

/// Every key with a value of its type: the default recipe and the optional keys.
fn schema() -> Result<Table> {
    let mut table = keys::parse("masktas.toml (built in)", DEFAULT, HELP)?;
    for path in OPTIONAL {
        insert(&mut table, path, Value::String(String::new()));
    }
    Ok(table)
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn merge(base: &mut Table, layer: Table) {
    for (key, value) in layer {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn read_layer(path: &Path, schema: &Table) -> Result<Table> {
    let text = std::fs::read_to_string(path).at(path)?;
    let place = path.display().to_string();
    let mut table = keys::parse(&place, &text, HELP)?;
    keys::check(&place, &text, &table, schema)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        for (section, key) in [("data", "path"), ("teacher", "path"), ("space", "name")] {
            let value = table.get_mut(section).and_then(|section| section.get_mut(key));
            if let Some(Value::String(value)) = value
                && (key == "path" || value.ends_with(".toml"))
            {
                *value = folder.join(&*value).display().to_string();
            }
        }
    }
    Ok(table)
}

fn override_layer(set: &str, schema: &Table) -> Result<Table> {
    let place = format!("--set {set}");
    let Some((path, raw)) = set.split_once('=') else {
        return Err(Error::Config {
            place,
            problem: "there is no `=`".to_owned(),
            next: "write --set section.key=value".to_owned(),
        });
    };
    let (path, raw) = (path.trim(), raw.trim());
    if path == "recipe" {
        return Err(Error::Config {
            place,
            problem: "a recipe is not an override".to_owned(),
            next: format!("write --recipe {raw}"),
        });
    }
    let mut known = Some(schema);
    let mut expected = None;
    for part in path.split('.') {
        expected = known.and_then(|table| table.get(part));
        known = expected.and_then(Value::as_table);
    }
    let parsed = format!("value = {raw}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = match (parsed, expected) {
        // Words need no quotes, and a folder named `2024` is still a name.
        (Some(value), Some(Value::String(_))) if !value.is_str() => Value::String(raw.to_owned()),
        (Some(value), _) => value,
        (None, _) => Value::String(raw.to_owned()),
    };
    let mut layer = Table::new();
    insert(&mut layer, path, value);
    keys::check(&place, "", &layer, schema)?;
    Ok(layer)
}

#[cfg(test)]
mod tests;
