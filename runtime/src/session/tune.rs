//! Which kernel variants suit an adapter best, found by trying them, and kept in a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Gpu, Model, Options, Session, player};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::plan::{AdapterClass, Precision};
use crate::tensor::Tensor;

/// Runs of each variant; the least time counts, because a busy machine only ever adds.
const RUNS: usize = 5;
/// Version of the file of choices; a file of another is written anew.
const CACHE_VERSION: u32 = 1;
/// Largest file of choices that is read, in bytes.
const CACHE_MAX: u64 = 1 << 20;

/// One set of kernel variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Kernels for this class of adapters.
    pub class: AdapterClass,
    /// Whether those that use subgroups are among them.
    pub subgroups: bool,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = match self.class {
            AdapterClass::Software => "register tiles",
            AdapterClass::Gpu => "workgroup tiles",
        };
        write!(f, "{class}{}", if self.subgroups { " with subgroups" } else { "" })
    }
}

impl Variant {
    /// `options` with these kernels.
    fn chosen(self, options: &Options) -> Options {
        Options { class: Some(self.class), subgroups: self.subgroups, ..options.clone() }
    }
}

/// What a tune found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The fastest variant; the session that comes with it uses it.
    pub variant: Variant,
    /// Each variant that was tried with the least time of a run, in milliseconds; none where the choice was known.
    pub tried: Vec<(Variant, f64)>,
}

/// The file of choices.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cache {
    version: u32,
    choices: BTreeMap<String, Variant>,
}

impl Cache {
    /// The file's choices; none where there is no file, or one that is no such file: it can be made anew.
    fn read(path: &Path) -> Cache {
        let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= CACHE_MAX);
        let text = if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        let cache: Cache = serde_json::from_str(&text).unwrap_or_default();
        if cache.version == CACHE_VERSION { cache } else { Cache::default() }
    }

    /// Replaces the file as a whole, so that a reader never sees half of it.
    fn write(mut self, path: &Path) -> Result<()> {
        self.version = CACHE_VERSION;
        let failed = |source: std::io::Error| Error::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let text = serde_json::to_string_pretty(&self).unwrap_or_default();
        std::fs::write(&beside, text).map_err(failed)?;
        std::fs::rename(&beside, path).map_err(failed)
    }
}

impl Session {
    /// Puts a model on an adapter with the kernel variants that run it fastest there. Each variant is loaded
    /// and run a few times on zeros, which takes seconds; `announce` is told each variant with its time in
    /// milliseconds as it is found. With `cache`, the path of a file, the choice is kept there by adapter,
    /// driver and model, and known the next time. Tried are those variants that `options` allow: of its class where one is
    /// given, without subgroups where these are switched off; a choice among fewer is kept as one of its own.
    ///
    /// # Errors
    /// As [`Session::load`]; [`Error::Io`] when the choice cannot be kept.
    pub fn load_tuned<'a>(
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: Option<&Path>,
        announce: impl FnMut(Variant, f64),
    ) -> Result<(Session, Tuned)> {
        let gpu = Gpu::open(options.adapter.as_deref(), options.allow_software)?;
        Session::load_tuned_on(&gpu, model, options, cache, announce)
    }

    /// As [`Session::load_tuned`] on an open device; of `options` those that choose an adapter are not looked at.
    ///
    /// # Errors
    /// As [`Session::load_tuned`].
    pub fn load_tuned_on<'a>(
        gpu: &Gpu,
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: Option<&Path>,
        mut announce: impl FnMut(Variant, f64),
    ) -> Result<(Session, Tuned)> {
        able(gpu, options)?;
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let with = |variant: Variant| Session::load_on(gpu, graph, &variant.chosen(options));
        let mut known = cache.map(Cache::read).unwrap_or_default();
        let key = key(gpu, graph, options)?;
        let possible = variants(gpu, options);
        if let Some(variant) = known.choices.get(&key).copied().filter(|v| possible.contains(v)) {
            return Ok((with(variant)?, Tuned { variant, tried: Vec::new() }));
        }
        let mut best: Option<(Session, Variant, f64)> = None;
        let mut tried = Vec::new();
        for variant in possible {
            let session = with(variant)?;
            let time = time(&session)?;
            announce(variant, time);
            tried.push((variant, time));
            if best.as_ref().is_none_or(|(.., least)| time < *least) {
                best = Some((session, variant, time));
            }
        }
        let (session, variant, _) = best.ok_or_else(|| Error::Adapter {
            adapter: gpu.adapter().name.clone(),
            what: "run any kernel variant".to_owned(),
            why: "there is none for it".to_owned(),
        })?;
        if let Some(path) = cache {
            known.choices.insert(key, variant);
            known.write(path)?;
        }
        Ok((session, Tuned { variant, tried }))
    }
}

impl Session {
    /// As [`Session::load`], with the kernel variants that [`Session::load_tuned`] kept in the file `cache` for this adapter,
    /// driver and model; nothing is tried. The variant is told, or `None` where none was kept and the adapter's class decides.
    /// What `options` say of class and subgroups holds: a choice that was made without them is another.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn load_kept<'a>(
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: &Path,
    ) -> Result<(Session, Option<Variant>)> {
        let gpu = Gpu::open(options.adapter.as_deref(), options.allow_software)?;
        Session::load_kept_on(&gpu, model, options, cache)
    }

    /// As [`Session::load_kept`] on an open device; of `options` those that choose an adapter are not looked at.
    ///
    /// # Errors
    /// As [`Session::load_on`].
    pub fn load_kept_on<'a>(
        gpu: &Gpu,
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: &Path,
    ) -> Result<(Session, Option<Variant>)> {
        able(gpu, options)?;
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let known = Cache::read(cache).choices;
        // What a choice is kept under takes a plan to find out.
        let kept = match known.is_empty() {
            true => None,
            false => known.get(&key(gpu, graph, options)?).copied(),
        };
        let kept = kept.filter(|variant| variants(gpu, options).contains(variant));
        let chosen = kept.map_or_else(|| options.clone(), |variant| variant.chosen(options));
        Ok((Session::load_on(gpu, graph, &chosen)?, kept))
    }
}

/// Refuses a device that lacks what `options` want, before anything is planned for it.
fn able(gpu: &Gpu, options: &Options) -> Result<()> {
    if options.precision == Precision::F16 { player::f16(gpu, "precision f16") } else { Ok(()) }
}

/// What can run on the device and is allowed.
fn variants(gpu: &Gpu, options: &Options) -> Vec<Variant> {
    let target = &gpu.adapter().target;
    let mut variants = Vec::new();
    if target.subgroups && target.subgroup_size > 0 {
        variants.push(Variant { class: AdapterClass::Software, subgroups: true });
    }
    variants.push(Variant { class: AdapterClass::Software, subgroups: false });
    variants.push(Variant { class: AdapterClass::Gpu, subgroups: false });
    variants.retain(|variant| options.class.is_none_or(|class| class == variant.class));
    variants.retain(|variant| options.subgroups || !variant.subgroups);
    variants
}

/// Names adapter, driver, this crate's version, and the model by the kernels it is planned to.
fn key(gpu: &Gpu, graph: &Graph, options: &Options) -> Result<String> {
    let plan = crate::plan::plan_with(graph, &gpu.adapter().target, &options.planned())?;
    // Fowler, Noll and Vo's hash (FNV-1a): the same on every machine and in every version of Rust.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in plan.kernels.iter().flat_map(|text| text.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut key = format!("{}; masktas {}; {hash:016x}", gpu.adapter(), env!("CARGO_PKG_VERSION"));
    // A choice among fewer variants is not one among all.
    if let Some(class) = options.class {
        key += &format!("; {class:?} alone");
    }
    if !options.subgroups {
        key += "; no subgroups";
    }
    Ok(key)
}

/// The least time of a run on zeros, in milliseconds, after one that compiles the kernels.
fn time(session: &Session) -> Result<f64> {
    let mut inputs = Vec::new();
    for port in &session.info().inputs {
        inputs.push((port.name.as_str(), Tensor::zeros(port.shape.clone(), port.dtype)?));
    }
    session.run(&inputs)?;
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        session.run(&inputs)?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}
