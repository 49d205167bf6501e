//! What a run was told when it began: `run.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::FORMAT;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::space::{VitDefinition, VitSpace};

/// The head of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the folder.
    pub format: u32,
    /// Version of the program that began the run.
    pub version: String,
    /// Hash of the space's definition: whoever changes that definition is found out.
    pub space_hash: String,
    /// The overrides as given, `key=value`.
    pub overrides: Vec<String>,
    /// The machine and whatever else results depend on, by name.
    pub machine: BTreeMap<String, String>,
    /// The space as it was, whatever becomes of the file it came from.
    pub space: VitDefinition,
    /// The recipe as it took effect.
    pub recipe: Recipe,
    /// Other devices that the same supernet is searched for, each in a run of its own below this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Further>,
}

/// One more device of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Further {
    /// The profile that its latency is taken over from, as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// The overrides as given, `key=value`.
    pub overrides: Vec<String>,
    /// Its recipe, which trains the same supernet.
    pub recipe: Recipe,
}

impl Further {
    /// The device.
    pub fn target(&self) -> &str {
        &self.recipe.latency.target
    }
}

impl Manifest {
    /// For a run that begins now, on this machine.
    pub fn new(recipe: Recipe, space: VitDefinition, overrides: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            space_hash: space.hash(),
            overrides,
            machine: machine(),
            space,
            recipe,
            further: Vec::new(),
        }
    }

    /// The space that is searched.
    ///
    /// # Errors
    /// When the definition makes no sense, which opening the run would have found.
    pub fn vit_space(&self) -> Result<VitSpace> {
        VitSpace::new(self.space.clone())
    }

    /// What is different on a machine with these facts: name, then, now. A missing fact is empty.
    pub fn differences(&self, machine: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
        differences(&self.machine, machine)
    }

    pub(super) fn to_toml(&self) -> Result<String> {
        self.recipe.to_toml()?;
        let text = toml::to_string(self).map_err(|error| Error::Invalid {
            thing: "run.toml".to_owned(),
            problem: error.to_string(),
            next: "use plain text in the machine's facts".to_owned(),
        })?;
        Ok(format!(
            "# What this run was told. Written once; changing it changes nothing but the report.\n\n{text}"
        ))
    }

    pub(super) fn read(folder: &Path) -> Result<Self> {
        let fail = |problem: String, next: &str| {
            Err(Error::NotARun { path: folder.to_owned(), problem, next: next.to_owned() })
        };
        let path = folder.join("run.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let problem = if folder.is_dir() { "it has no run.toml" } else { "there is no such folder" };
                return Err(Error::NoRun {
                    path: folder.to_owned(),
                    problem: problem.to_owned(),
                    next: "give the folder that `masktas search` made".to_owned(),
                });
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        let damaged = "restore run.toml from a copy, or begin a new run";
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return fail(format!("run.toml is not TOML: {}", error.message()), damaged),
        };
        // Before anything else: a newer layout may differ in every other key.
        let format = table.get("format").and_then(Value::as_integer);
        match format {
            Some(format) if format == i64::from(FORMAT) => {}
            Some(format) if format > i64::from(FORMAT) => {
                let problem = format!("its layout is version {format}, this program knows up to {FORMAT}");
                return fail(problem, "use the newer program that began it");
            }
            _ => return fail("run.toml has no known `format`".to_owned(), damaged),
        }
        let manifest = match toml::from_str::<Self>(&text) {
            Ok(manifest) => manifest,
            Err(error) => return fail(format!("run.toml: {}", error.message()), damaged),
        };
        let found = manifest.space.hash();
        if found != manifest.space_hash {
            let problem =
                format!("its space has hash {found} and the run began with {}", manifest.space_hash);
            return fail(problem, damaged);
        }
        manifest.vit_space()?;
        Ok(manifest)
    }
}

/// What differs between the facts of two machines: name, then, now. A missing fact is empty.
pub(crate) fn differences(
    then: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<(String, String, String)> {
    let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let fact = |facts: &BTreeMap<String, String>, name: &str| facts.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name.clone(), fact(then, name), fact(now, name)))
        .filter(|(_, then, now)| then != now)
        .collect()
}

/// The facts of this machine that can change a result: system, processor, its vector features, cores.
pub fn machine() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("features".to_owned(), features().join(" ")),
    ]);
    if crate::ops::plain() {
        facts.insert("operations".to_owned(), "burn's own (MASKTAS_PLAIN)".to_owned());
    }
    if let Ok(cores) = std::thread::available_parallelism() {
        facts.insert("cores".to_owned(), cores.to_string());
    }
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    if let Some((_, model)) = model {
        facts.insert("processor".to_owned(), model.trim().to_owned());
    }
    facts
}

/// Vector features that choose between kernels.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}
