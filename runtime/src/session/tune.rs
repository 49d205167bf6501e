//! Which kernel variants suit an adapter best, found by trying them, and kept in a file.
//!
//! Variants must agree: an answer that differs from the first variant's is a defect, of these kernels or of the driver, and its
//! variant is never chosen, however fast.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Adapter, Cooperative, Gpu, Model, Options, Session, adapters, player};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::plan::{AdapterClass, Precision};
use crate::tensor::{Dtype, Tensor};
use crate::tolerance::{Tolerance, Verdict, relative_difference};

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
    /// Whether those that use cooperative matrices are among them.
    #[serde(default)]
    pub cooperative: bool,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = match self.class {
            AdapterClass::Software => "register tiles",
            AdapterClass::Gpu => "workgroup tiles",
        };
        let with = match (self.cooperative, self.subgroups) {
            (true, _) => " with cooperative matrices",
            (_, true) => " with subgroups",
            _ => "",
        };
        write!(f, "{class}{with}")
    }
}

impl Variant {
    /// `options` with these kernels.
    fn chosen(self, options: &Options) -> Options {
        let cooperative = if self.cooperative { Cooperative::Always } else { Cooperative::Never };
        Options { class: Some(self.class), subgroups: self.subgroups, cooperative, ..options.clone() }
    }
}

/// How one variant did in a tune.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// It agrees with the first one; the least time of a run, in milliseconds.
    Time(f64),
    /// It does not, and is not chosen.
    Wrong {
        /// By how much, as a part of the first one's largest value; `NaN` where only one of them is finite.
        difference: f64,
        /// What is allowed.
        allowed: f64,
    },
    /// Its kernels, which are experimental, did not load or run; why.
    Refused(String),
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tried::Time(time) => write!(f, "{time:.2} ms"),
            Tried::Wrong { difference, allowed } => {
                write!(
                    f,
                    "wrong by {difference:.1e} of the largest value ({allowed:.0e} is allowed): not chosen"
                )
            }
            Tried::Refused(why) => write!(f, "not usable: {why}"),
        }
    }
}

/// What a tune found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The fastest variant that is right; the session that comes with it uses it.
    pub variant: Variant,
    /// Each variant that was tried; none where the choice was known.
    pub tried: Vec<(Variant, Tried)>,
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
    /// and run a few times on random numbers, which takes seconds, and its answers compared with the first one's; `announce` is told
    /// each variant with what was found. With `cache`, the path of a file, the choice is kept there by adapter,
    /// driver and model, and known the next time. Tried are those variants that `options` allow: of its class where one is
    /// given, without subgroups or cooperative matrices where these are switched off; a choice among fewer is kept as one of its
    /// own. The device is opened with the adapter's cooperative matrices where they are among them.
    ///
    /// # Errors
    /// As [`Session::load`]; [`Error::Io`] when the choice cannot be kept.
    pub fn load_tuned<'a>(
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: Option<&Path>,
        announce: impl FnMut(Variant, Tried),
    ) -> Result<(Session, Tuned)> {
        // With an experimental feature only where a variant would use it.
        let (adapter, _) = adapters::choose(options.adapter.as_deref(), options.allow_software)?;
        let cooperative = variants(&adapter, options).iter().any(|variant| variant.cooperative);
        let gpu = open(options, cooperative)?;
        Session::load_tuned_on(&gpu, model, options, cache, announce)
    }

    /// As [`Session::load_tuned`] on an open device; of `options` those that choose an adapter are not looked at. Cooperative
    /// matrices are tried where the device was opened with them ([`Gpu::open_cooperative`]).
    ///
    /// # Errors
    /// As [`Session::load_tuned`].
    pub fn load_tuned_on<'a>(
        gpu: &Gpu,
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: Option<&Path>,
        announce: impl FnMut(Variant, Tried),
    ) -> Result<(Session, Tuned)> {
        able(gpu.adapter(), options)?;
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let with = |variant: Variant| Session::load_on(gpu, graph, &variant.chosen(options));
        let mut known = cache.map(Cache::read).unwrap_or_default();
        let key = key(gpu.adapter(), graph, options)?;
        let possible = variants(gpu.adapter(), options);
        if let Some(variant) = known.choices.get(&key).copied().filter(|v| possible.contains(v)) {
            return Ok((with(variant)?, Tuned { variant, tried: Vec::new() }));
        }
        let (best, tried) = choose(possible, with, tolerance(graph, options), announce)?;
        let (session, variant) = best.ok_or_else(|| Error::Adapter {
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
    /// What `options` say of class, subgroups and cooperative matrices holds: a choice that was made without them is another.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn load_kept<'a>(
        model: impl Into<Model<'a>>,
        options: &Options,
        cache: &Path,
    ) -> Result<(Session, Option<Variant>)> {
        let (adapter, _) = adapters::choose(options.adapter.as_deref(), options.allow_software)?;
        able(&adapter, options)?;
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let kept = kept(&adapter, graph, options, cache)?;
        // What was kept says whether the device is opened with an experimental feature.
        let always = options.cooperative == Cooperative::Always;
        let gpu = open(options, always || kept.is_some_and(|variant| variant.cooperative))?;
        Session::load_variant(&gpu, graph, options, kept)
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
        able(gpu.adapter(), options)?;
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let kept = kept(gpu.adapter(), graph, options, cache)?;
        Session::load_variant(gpu, graph, options, kept)
    }

    fn load_variant(
        gpu: &Gpu,
        graph: &Graph,
        options: &Options,
        kept: Option<Variant>,
    ) -> Result<(Session, Option<Variant>)> {
        let chosen = kept.map_or_else(|| options.clone(), |variant| variant.chosen(options));
        Ok((Session::load_on(gpu, graph, &chosen)?, kept))
    }
}

fn open(options: &Options, cooperative: bool) -> Result<Gpu> {
    let (adapter, software) = (options.adapter.as_deref(), options.allow_software);
    if cooperative { Gpu::open_cooperative(adapter, software) } else { Gpu::open(adapter, software) }
}

/// The choice that was kept and that `options` allow.
fn kept(adapter: &Adapter, graph: &Graph, options: &Options, cache: &Path) -> Result<Option<Variant>> {
    let known = Cache::read(cache).choices;
    // What a choice is kept under takes a plan to find out.
    if known.is_empty() {
        return Ok(None);
    }
    let kept = known.get(&key(adapter, graph, options)?).copied();
    Ok(kept.filter(|variant| variants(adapter, options).contains(variant)))
}

/// Refuses an adapter that lacks what `options` want, before anything is planned for it.
fn able(adapter: &Adapter, options: &Options) -> Result<()> {
    if options.cooperative == Cooperative::Always {
        player::cooperative(adapter, "kernels with cooperative matrices")?;
    }
    if options.precision == Precision::F16 { player::f16(adapter, "precision f16") } else { Ok(()) }
}

/// What can run on the adapter and is allowed. The first one's answers are those that others are held to.
fn variants(adapter: &Adapter, options: &Options) -> Vec<Variant> {
    let target = &adapter.target;
    let plain = |class| Variant { class, subgroups: false, cooperative: false };
    // The plainest first: what others are held to asks least of a driver.
    let mut variants = vec![plain(AdapterClass::Software)];
    if target.subgroups && target.subgroup_size > 0 {
        variants.push(Variant { subgroups: true, ..plain(AdapterClass::Software) });
    }
    variants.push(plain(AdapterClass::Gpu));
    if !adapter.cooperative.is_none() {
        // Last, because a driver that they break may be of no use afterwards.
        variants.push(Variant { class: AdapterClass::Gpu, subgroups: true, cooperative: true });
    }
    variants.retain(|variant| options.class.is_none_or(|class| class == variant.class));
    variants.retain(|variant| options.subgroups || !variant.subgroups);
    variants.retain(|variant| match options.cooperative {
        Cooperative::Never => !variant.cooperative,
        // What wgpu 30 writes for Vulkan does not promise that threads see each other's writes (its issue 8805), and answers that
        // agree now may not agree later.
        Cooperative::Tuned => !variant.cooperative || adapter.backend != "vulkan",
        Cooperative::Always => variant.cooperative,
    });
    variants
}

/// Names adapter, driver, this crate's version, and the model by the kernels it is planned to.
fn key(adapter: &Adapter, graph: &Graph, options: &Options) -> Result<String> {
    let plan = crate::plan::plan_with(graph, &adapter.target, &options.planned())?;
    // Fowler, Noll and Vo's hash (FNV-1a): the same on every machine and in every version of Rust.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in plan.kernels.iter().flat_map(|text| text.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut key = format!("{adapter}; masktas {}; {hash:016x}", env!("CARGO_PKG_VERSION"));
    // A choice among fewer variants is not one among all.
    if let Some(class) = options.class {
        key += &format!("; {class:?} alone");
    }
    if !options.subgroups {
        key += "; no subgroups";
    }
    if variants(adapter, options).iter().any(|variant| variant.cooperative) {
        key += "; cooperative matrices";
    }
    if options.cooperative == Cooperative::Always {
        key += " alone";
    }
    Ok(key)
}

/// How far answers of variants may lie apart.
fn tolerance(graph: &Graph, options: &Options) -> Tolerance {
    // A last bit can move a number to the next step of a quantisation, but variants sum the same integers.
    let quantised = |op: &str| op.contains("Quantize") || op.contains("QLinear") || op.ends_with("Integer");
    if graph.nodes.iter().any(|node| quantised(&node.op)) {
        Tolerance { warn: Tolerance::I8.pass, ..Tolerance::I8 }
    } else if options.precision == Precision::F16 {
        Tolerance::F16
    } else {
        Tolerance::F32
    }
}

/// The values of a run.
type Answer = Vec<(String, Tensor)>;

/// Tries the variants that `with` loads, and gives the fastest that agrees with the first, and what each did.
#[allow(clippy::type_complexity)]
fn choose(
    possible: Vec<Variant>,
    with: impl Fn(Variant) -> Result<Session>,
    tolerance: Tolerance,
    mut announce: impl FnMut(Variant, Tried),
) -> Result<(Option<(Session, Variant)>, Vec<(Variant, Tried)>)> {
    let mut best: Option<(Session, Variant, f64)> = None;
    let mut first: Option<Answer> = None;
    let mut tried = Vec::new();
    for variant in possible {
        let ran = with(variant).and_then(|session| Ok((run(&session, first.as_ref())?, session)));
        let found = match ran {
            Ok((Ran { difference, .. }, _)) if tolerance.judge(difference) == Verdict::Fail => {
                Tried::Wrong { difference, allowed: tolerance.warn }
            }
            Ok((Ran { answer, time, .. }, session)) => {
                if best.as_ref().is_none_or(|(.., least)| time < *least) {
                    best = Some((session, variant, time));
                }
                first.get_or_insert(answer);
                Tried::Time(time)
            }
            Err(lost @ Error::AdapterLost { .. }) => return Err(lost),
            Err(error) if variant.cooperative => Tried::Refused(error.to_string()),
            Err(error) => return Err(error),
        };
        announce(variant, found.clone());
        tried.push((variant, found));
    }
    Ok((best.map(|(session, variant, _)| (session, variant)), tried))
}

/// The largest relative difference of outputs that are floats. Where neither answer is finite they do not differ.
fn differ(first: &Answer, other: &Answer) -> f64 {
    let difference = |((_, first), (_, other)): (&(String, Tensor), &(String, Tensor))| {
        let (first, other) = (first.as_f32()?, other.as_f32()?);
        let either = first.iter().zip(other).filter(|(a, b)| a.is_finite() || b.is_finite());
        let (first, other): (Vec<f32>, Vec<f32>) = either.unzip();
        Some(relative_difference(&first, &other))
    };
    worst(first.iter().zip(other).filter_map(difference))
}

/// What a variant did on random numbers.
struct Ran {
    answer: Answer,
    /// The largest difference of any run's answer from the yardstick.
    difference: f64,
    /// The least time of a run, in milliseconds, after one that compiles the kernels.
    time: f64,
}

/// Runs a session a few times. Each answer is compared with `first`, or with the session's own first one: what threads read before
/// others have written it may come out right once.
fn run(session: &Session, first: Option<&Answer>) -> Result<Ran> {
    let mut inputs = Vec::new();
    for port in &session.info().inputs {
        inputs.push((port.name.as_str(), numbers(&port.shape, port.dtype)?));
    }
    let answer = session.run(&inputs)?;
    let yardstick = first.unwrap_or(&answer);
    let mut differences = vec![differ(yardstick, &answer)];
    let mut time = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        let again = session.run(&inputs)?;
        time = time.min(start.elapsed().as_secs_f64() * 1e3);
        differences.push(differ(yardstick, &again));
    }
    let difference = worst(differences);
    Ok(Ran { answer, difference, time })
}

/// The greatest of differences, of which `NaN` is one.
fn worst(differences: impl IntoIterator<Item = f64>) -> f64 {
    // Nothing compares as greater than NaN, so it stays.
    differences.into_iter().fold(0.0, |most: f64, one| if one.is_nan() || one > most { one } else { most })
}

/// Floats in -1..1, the same each time: on zeros a wrong product would go unseen. Integers may be places, and are zeros.
fn numbers(shape: &[usize], dtype: Dtype) -> Result<Tensor> {
    if dtype != Dtype::F32 {
        return Tensor::zeros(shape.to_vec(), dtype);
    }
    // Knuth's linear congruential generator (MMIX), of which the upper bits are taken.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    Tensor::f32(shape.to_vec(), (0..shape.iter().product()).map(|_| next()).collect::<Vec<f32>>())
}

#[cfg(test)]
mod tests;
