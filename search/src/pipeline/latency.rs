//! The latency chapter: what says the latency that a budget speaks of.

use std::collections::BTreeMap;
use std::sync::Mutex;

use masktas_devices::catalogue::{PriorOptions, Processor, prior};
use masktas_devices::engine::EngineOptions;
use masktas_devices::latency::{HeldOut, LatencyModel, Prediction, from_json};
use masktas_devices::measure::BenchJob;
use masktas_devices::profile::{EngineProfile, FORMAT, ProfileFile, Row, SpaceId};
use masktas_devices::protocol::Protocol;
use masktas_export::lower::{LowerOptions, lower};
use masktas_export::{Arch, Weights, onnx};
use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use super::Workshop;
use super::profile::profile;
use crate::budget::{Cost, Kind, Limit};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::recipe::{Latency, Recipe};
use crate::run::{Phase, Run, Table};
use crate::space::{Genes, VitSpace};

/// What the run keeps of a fitted latency model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Engine it was fitted for.
    pub engine: String,
    /// The fitted model, as `masktas_devices` stores it.
    pub model: String,
    /// Its error on measurements left out of the fit.
    pub held_out: HeldOut,
    /// Measured and predicted milliseconds of each profiled subnet, by id.
    pub rows: Vec<(String, f64, f64)>,
    /// How it predicts, in one line; runs of earlier versions do not say.
    #[serde(default)]
    pub how: Option<String>,
}

/// What says the latency that a budget speaks of.
pub(crate) enum Fitted {
    /// The model fitted to measurements under the recipe's first engine.
    Model(Box<dyn LatencyModel>),
    /// The catalogue's figures, where nothing was measured.
    Prior(Box<masktas_devices::Device>, PriorOptions),
}

impl Fitted {
    /// Predicted latency of an architecture.
    pub(crate) fn predict(&self, space: &VitSpace, genes: &Genes) -> Result<Prediction> {
        let features = features(space, genes)?;
        Ok(match self {
            Self::Model(model) => model.predict(&features)?,
            Self::Prior(device, options) => {
                let prior = prior(device, &features, options)?;
                // Everything is beyond what was measured, for nothing was.
                Prediction { ms: prior.ms, low: prior.low, high: prior.high, extrapolated: true }
            }
        })
    }

    /// Whether it learnt from measurements.
    pub(crate) fn measured(&self) -> bool {
        matches!(self, Self::Model(_))
    }

    /// The catalogue's figures for a recipe's target.
    pub(crate) fn prior(settings: &Latency) -> Result<Self> {
        let device = masktas_devices::device(&settings.target)?;
        let engine = settings.engines.first().map_or("ort", String::as_str);
        let provider = settings.provider.as_deref().unwrap_or("cpu");
        let processor = Processor::of(engine, provider).ok_or_else(|| Error::NotSupported {
            thing: "--prior".to_owned(),
            reason: format!("the catalogue has no figures for provider {provider} of engine {engine}"),
            next: "leave latency.provider out".to_owned(),
        })?;
        let options = PriorOptions { processor, threads: settings.threads, ..PriorOptions::default() };
        Ok(Self::Prior(Box::new(device), options))
    }

    /// Predicted milliseconds of a member, remembered by id: samplers ask again and again.
    pub(crate) fn cost<'a>(&'a self, space: &'a VitSpace) -> Box<Cost<'a>> {
        let known: Mutex<BTreeMap<Vec<u16>, f64>> = Mutex::new(BTreeMap::new());
        Box::new(move |genes: &Genes| {
            let remembered = known.lock().ok().and_then(|known| known.get(&genes.values).copied());
            if let Some(ms) = remembered {
                return Ok(ms);
            }
            let ms = self.predict(space, genes)?.ms;
            if let Ok(mut known) = known.lock() {
                known.insert(genes.values.clone(), ms);
            }
            Ok(ms)
        })
    }
}

/// About what members of a recipe's space take on its target by the catalogue's figures, in milliseconds; `None` where it
/// has none. For how long something will take, and nothing else.
pub fn rough_ms(recipe: &Recipe) -> Option<f64> {
    let space = VitSpace::load(&recipe.space.name).ok()?;
    let fitted = Fitted::prior(&recipe.latency).ok()?;
    let ends = [space.smallest(), space.largest()];
    let ms =
        ends.iter().map(|genes| fitted.predict(&space, genes).ok().map(|p| p.ms)).sum::<Option<f64>>()?;
    Some(ms / 2.0)
}

/// What an architecture costs, counted on its graph.
pub fn features(space: &VitSpace, genes: &Genes) -> Result<Features> {
    let graph = lower(&Arch::Vit(space.vit(genes)), None, &LowerOptions::default())?;
    Ok(graph.features().map_err(masktas_export::Error::from)?)
}

/// Times subnets under every engine of the recipe and fits a model for each, unless the run has
/// them. `None` when parameters or operations are limited and latency is not: then nothing is timed.
pub(crate) fn prepare(
    run: &mut Run,
    shop: &Workshop,
    limits: &[Limit],
    progress: &mut dyn Progress,
) -> Result<Option<Fitted>> {
    let timed = limits.is_empty() || limits.iter().any(|limit| limit.kind == Kind::Latency);
    if !timed {
        return Ok(None);
    }
    if shop.recipe.latency.prior {
        let target = &shop.recipe.latency.target;
        progress
            .say(&format!("latency of {target} is the catalogue's prior, not measured: it proves nothing"));
        return Ok(Some(Fitted::prior(&shop.recipe.latency)?));
    }
    let mut first = None;
    for engine in &shop.recipe.latency.engines {
        let report = match run.get_doc::<LatencyReport>(&document(engine))? {
            Some(report) => report,
            None => profile(run, shop, engine, progress)?,
        };
        let error = &report.held_out;
        progress.say(&format!(
            "latency of {} under {engine}: held-out error {:.1} % (n = {}), {:.0} % within 10 %",
            shop.recipe.latency.target,
            100.0 * error.mape,
            error.n,
            100.0 * error.within_10
        ));
        if first.is_none() {
            first = Some(Fitted::Model(from_json(&report.model)?));
        }
    }
    run.mark(Phase::Profile)?;
    Ok(first)
}

/// A finished profile as a file that can be shared.
///
/// # Errors
/// [`Error::NotARun`] when an engine has no model yet; the store's.
pub fn profile_file(run: &Run) -> Result<ProfileFile> {
    let manifest = run.manifest();
    let latency = &manifest.recipe.latency;
    let unfinished = |problem: String| Error::NotARun {
        path: run.folder().to_path_buf(),
        problem,
        next: format!("finish it with: masktas profile --resume {}", run.folder().display()),
    };
    let mut engines = Vec::new();
    let mut protocol = None;
    for engine in &latency.engines {
        let report = run.get_doc::<LatencyReport>(&document(engine))?;
        let report = report.ok_or_else(|| unfinished(format!("it has no latency model for {engine} yet")))?;
        let rows = profiled(run, engine)?;
        protocol = protocol.or_else(|| rows.iter().find_map(Row::measurement).map(|m| m.protocol.clone()));
        let model = serde_json::from_str(&report.model).map_err(|e| unfinished(e.to_string()))?;
        let (engine, held_out) = (engine.clone(), report.held_out);
        engines.push(EngineProfile { engine, model, held_out, rows });
    }
    Ok(ProfileFile {
        masktas_profile: FORMAT,
        device: latency.target.clone(),
        version: manifest.version.clone(),
        space: Some(SpaceId { name: manifest.recipe.space.name.clone(), hash: manifest.space_hash.clone() }),
        protocol: protocol.ok_or_else(|| unfinished("no subnet of it was measured".into()))?,
        threads: latency.threads,
        engines,
    })
}

/// Rows measured earlier under `engine`.
pub(crate) fn profiled(run: &Run, engine: &str) -> Result<Vec<Row>> {
    let prefix = format!("{engine}/");
    let rows = run.rows(Table::Profile)?.into_iter();
    Ok(rows.filter(|(key, _)| key.starts_with(&prefix)).map(|(_, row)| row).collect())
}

/// Name of the run's document about an engine: a [`LatencyReport`].
pub fn document(engine: &str) -> String {
    format!("latency/{engine}")
}

/// The protocol a recipe's `[latency]` asks for: by its hash every measured row says how it was measured. Models have
/// processes of their own on other devices always, on this machine where `engines` say how to start one.
pub fn protocol(settings: &Latency, engines: &EngineOptions) -> Protocol {
    Protocol {
        threads: settings.threads,
        isolated: !settings.on_host() || engines.worker.is_some(),
        runs: settings.runs,
        min_rounds: settings.rounds,
        // A quiet machine needs the fewest; a batch is over as soon as its intervals are narrow.
        max_rounds: settings.rounds * 10,
        min_warm_ups: settings.warmups,
        spread_s: 1.0,
        ..Protocol::default()
    }
}

/// How models are measured under one engine of a recipe. The provider is ONNX Runtime's own matter.
pub(crate) fn job(settings: &Latency, engine: &str, protocol: &Protocol) -> BenchJob {
    let provider = settings.provider.clone().filter(|_| engine == "ort");
    // An engine that is not on the device cannot check the others there.
    let gate = if settings.engines.iter().any(|name| name == "ort") { "ort" } else { engine };
    BenchJob { provider, gate: Some(gate.to_owned()), ..BenchJob::new(engine, protocol) }
}

/// The ONNX file of a member with random weights: latency does not depend on their values.
pub(crate) fn file(space: &VitSpace, genes: &Genes) -> masktas_export::Result<Vec<u8>> {
    let arch = Arch::Vit(space.vit(genes));
    let weights = Weights::random(&arch, None, 0)?;
    onnx::write(&lower(&arch, Some(&weights), &LowerOptions::default())?)
}
