//! Times exported members of fronts as the latency model's own measurements were taken: by the same protocol, in its unit
//! (the reference network's calibration), and in batches as full as those, because a model that shares the caches with
//! seven others is slower than one that has them to itself.

use std::ops::ControlFlow;
use std::path::PathBuf;

use masktas_devices::measure::BenchJob;
use masktas_devices::profile::{NamedModel, ProfileJob, Row, profile_models};
use masktas_devices::transport::Transport;

use super::Workshop;
use super::latency::{features, file, job, profiled};
use super::sample::sample;
use crate::error::{At, Error, Result};
use crate::progress::Progress;
use crate::run::Run;
use crate::space::{Genes, Space as _};

/// A member of the space and its ONNX file.
pub(super) struct Member {
    pub id: String,
    pub genes: Genes,
    pub model: PathBuf,
}

/// Times members on the target of `run` under one engine of its recipe; one row a member, in their order.
///
/// # Errors
/// [`masktas_devices::Error::Incomparable`] when the latency model's measurements were taken in another way after all,
/// such as by another version of the engine: its predictions must not stand beside these.
pub(super) fn remeasure(
    run: &Run,
    shop: &Workshop,
    transport: &mut dyn Transport,
    engine: &str,
    members: &[Member],
    progress: &mut dyn Progress,
) -> Result<Vec<Row>> {
    let (space, settings) = (&shop.space, &shop.recipe.latency);
    let protocol = shop.protocol();
    let mut models = Vec::with_capacity(members.len());
    for member in members {
        let bytes = std::fs::read(&member.model).at(&member.model)?;
        models.push(NamedModel::new(&member.id, features(space, &member.genes)?, bytes));
    }
    let mut company = sample(space, settings.samples, shop.recipe.seed)?;
    company.retain(|genes| members.iter().all(|member| member.genes != *genes));
    company.truncate(members.len().next_multiple_of(protocol.batch) - members.len());
    for genes in &company {
        models.push(NamedModel::new(&space.id(genes), features(space, genes)?, file(space, genes)?));
    }
    let reference = file(space, &space.smallest())?;
    let earlier = profiled(run, engine)?;
    let (key, calibration) =
        earlier.iter().find_map(Row::measurement).map(|m| (m.key(), m.calibration.clone())).unzip();
    let bench = BenchJob { calibration, ..job(settings, engine, &protocol) };
    let job = ProfileJob { retries: settings.retries, ..ProfileJob::new(&models, &reference, bench) };
    progress.begin(&format!("finalists under {engine}"), models.len() as u64, "model");
    let mut rows = Vec::with_capacity(models.len());
    let result = profile_models(
        transport,
        &job,
        &mut |now| {
            if let Some(lost) = &now.lost {
                progress.say(&lost.to_string());
            }
            progress.advance(now.done as u64, "");
            if progress.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |row| {
            if let (Some(key), Some(measurement)) = (&key, row.measurement()) {
                key.matches(&measurement.key())?;
            }
            rows.push(row);
            Ok(())
        },
    );
    match result {
        Err(masktas_devices::Error::Interrupted { .. }) => return Err(Error::Interrupted),
        other => {
            other?;
        }
    }
    rows.truncate(members.len());
    progress.end(&format!("{} finalists and {} others timed", members.len(), company.len()));
    Ok(rows)
}
