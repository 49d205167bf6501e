//! Subnets of the space are timed on the target, and a latency model is fitted to them.

use std::ops::ControlFlow;
use std::path::PathBuf;

use masktas_devices::latency::{Adaptive, DEFAULT_MODEL, LatencyModel, from_json, latency_model};
use masktas_devices::profile::{NamedModel, Outcome, ProfileFile, ProfileJob, Row, profile_models};
use masktas_devices::transport::Transport;
use serde_json::Value;

use super::Workshop;
use super::latency::{LatencyReport, document, features, file, job, profiled};
use super::sample::sample;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::run::{Run, Table};
use crate::space::{Genes, Space as _};

/// Name of the run's document with the latency models of other devices that this run's models lean on: names and stored
/// models.
const SOURCES: &str = "latency-sources";

/// Fits a model to each of these profiles of other devices on the run's space and keeps it in the run, to lean on. One with too
/// few measurements is left out, and so is one of the run's own target.
///
/// A profile's stored model is not taken: it may lean on others itself, and models would grow with every generation.
///
/// # Errors
/// When a profile cannot be read; the disk's.
pub(super) fn lean_on(run: &mut Run, profiles: &[PathBuf], progress: &mut dyn Progress) -> Result<()> {
    let target = &run.manifest().recipe.latency.target;
    let space = run.manifest().vit_space()?;
    let costs = features(&space, &space.smallest())?;
    let mut sources: Vec<(String, Value)> = Vec::new();
    for path in profiles {
        let profile = ProfileFile::read(path)?;
        for engine in profile.engines.iter().filter(|_| profile.device != *target) {
            let name = format!("{}.{}", profile.device, engine.engine);
            if sources.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let fitted = || {
                let mut model = latency_model(DEFAULT_MODEL)?;
                model.fit(&engine.rows.iter().filter_map(Row::sample).collect::<Vec<_>>())?;
                model.predict(&costs)?;
                model.to_json()
            };
            match fitted() {
                Ok(model) => {
                    let model = serde_json::from_str(&model).map_err(|error| Error::Unusable {
                        thing: format!("latency model of {}", path.display()),
                        problem: error.to_string(),
                        next: "leave it out with --no-sources".into(),
                    })?;
                    sources.push((name, model));
                }
                Err(error) => progress.say(&format!("{} is not leant on: {error}", path.display())),
            }
        }
    }
    if !sources.is_empty() {
        let names: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
        progress.say(&format!("learning from what other devices say too: {}", names.join(", ")));
    }
    run.put_doc(SOURCES, &sources).map(drop)
}

/// An unfitted model that leans on the run's sources.
fn unfitted(run: &Run) -> Result<Box<dyn LatencyModel>> {
    let sources: Vec<(String, Value)> = run.get_doc(SOURCES)?.unwrap_or_default();
    if sources.is_empty() {
        return Ok(latency_model(DEFAULT_MODEL)?);
    }
    let models = sources.into_iter().map(|(name, model)| Ok((name, from_json(&model.to_string())?)));
    Ok(Box::new(Adaptive::with_sources(models.collect::<Result<_>>()?)?))
}

/// Times subnets under one engine, those that the run has left out, and fits a model.
///
/// # Errors
/// [`Error::NotProfiled`] when the target is not connected; [`Error::Interrupted`] after a stop: what was timed is kept.
pub(super) fn profile(
    run: &mut Run,
    shop: &Workshop,
    engine: &str,
    progress: &mut dyn Progress,
) -> Result<LatencyReport> {
    let (space, seed) = (&shop.space, shop.recipe.seed);
    let settings = &shop.recipe.latency;
    let Some(transport) = shop.transport()? else {
        let (target, space) = (settings.target.clone(), shop.recipe.space.name.clone());
        return Err(Error::NotProfiled { target, space });
    };
    progress.begin(&format!("profile {engine}"), settings.samples as u64, "subnet");
    let members = sample(space, settings.samples, seed)?;
    let mut rows = profiled(run, engine)?;
    // These are tried once more.
    rows.retain(|row| !matches!(row.outcome, Outcome::Failed(_)));
    time(run, shop, transport, engine, &members, &mut rows, progress)?;
    let samples: Vec<_> = rows.iter().filter_map(Row::sample).collect();
    let mut model = unfitted(run)?;
    model.fit(&samples)?;
    let fitted = rows
        .iter()
        .filter_map(|row| Some((row.id.clone(), row.sample()?)))
        .map(|(id, sample)| Ok((id, sample.ms, model.predict(&sample.features)?.ms)))
        .collect::<Result<Vec<_>>>()?;
    let report = LatencyReport {
        engine: engine.to_string(),
        model: model.to_json()?,
        held_out: model.held_out()?.clone(),
        rows: fitted,
        how: Some(model.describe()?),
    };
    let report = run.put_doc(&document(engine), &report)?;
    progress.end(&format!("{} subnets timed", samples.len()));
    Ok(report)
}

/// Times those of `members` that have no row yet; each row is in the run before the next is taken.
fn time(
    run: &mut Run,
    shop: &Workshop,
    mut transport: Box<dyn Transport>,
    engine: &str,
    members: &[Genes],
    rows: &mut Vec<Row>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let (space, settings) = (&shop.space, &shop.recipe.latency);
    let models = members.iter().map(|genes| {
        let make = move || {
            file(space, genes)
                .map_err(|error| masktas_devices::Error::Caller(format!("{}: {error}", space.id(genes))))
        };
        Ok(NamedModel::lazy(&space.id(genes), features(space, genes)?, make))
    });
    let models = models.collect::<Result<Vec<_>>>()?;
    let reference = file(space, &space.smallest())?;
    let bench = job(settings, engine, &shop.protocol());
    let job = ProfileJob { retries: settings.retries, ..ProfileJob::new(&models, &reference, bench) };
    let job = job.resume(rows);
    let result = profile_models(
        transport.as_mut(),
        &job,
        &mut |now| {
            if let Some(lost) = &now.lost {
                progress.say(&lost.to_string());
            }
            // A batch takes long, and its rounds show that something happens.
            let round = if now.rounds > 0 { format!("round {}", now.rounds) } else { String::new() };
            let failed = if now.failed > 0 { format!("{} failed  ", now.failed) } else { String::new() };
            progress.advance(now.done as u64, &format!("{failed}{round}"));
            if progress.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |row| {
            let stored = run.put_row(Table::Profile, &format!("{engine}/{}", row.id), &row);
            stored.map_err(|error| masktas_devices::Error::Caller(error.to_string()))?;
            rows.push(row);
            Ok(())
        },
    );
    match result {
        Err(masktas_devices::Error::Interrupted { .. }) => Err(Error::Interrupted),
        other => Ok(other.map(drop)?),
    }
}
