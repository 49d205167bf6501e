//! The last chapter: members of the front become files, are replayed in every engine, and are timed again.

use std::ops::ControlFlow;
use std::path::Path;

use masktas_devices::engine::{self, Engine};
use masktas_devices::latency::Prediction;
use masktas_devices::measure::{BenchJob, Measurement};
use masktas_devices::parity::{Parity, parity};
use masktas_devices::profile::{NamedModel, Outcome, ProfileJob, Row, profile_models};
use masktas_export::VitArch;
use serde::{Deserialize, Serialize};

use super::Workshop;
use super::latency::{Fitted, features, file, job, profiled, sample};
use super::pick::{Candidate, Exported, Options, candidates, package};
use crate::error::{Error, Result};
use crate::front::{Pick, Point};
use crate::progress::Progress;
use crate::run::{Phase, Run, Table};
use crate::space::Space as _;
use crate::supernet::Supernet;
use crate::supernet::extract::{Network, extract};

/// A member of the front that was exported, checked and timed again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finalist {
    /// The member.
    pub candidate: Candidate,
    /// Its architecture.
    pub arch: VitArch,
    /// Its files.
    pub files: Exported,
    /// Its answers in every engine.
    pub parity: Parity,
    /// What the latency model says, when there is one.
    pub predicted: Option<Prediction>,
    /// What was measured afterwards, engine by engine.
    pub measured: Vec<Measurement>,
}

/// Exports, checks and times finalists that are not yet in the run.
pub(crate) fn finish(
    run: &mut Run,
    shop: &Workshop,
    supernet: &Supernet,
    latency: Option<&Fitted>,
    progress: &mut dyn Progress,
) -> Result<Vec<Finalist>> {
    let mut finalists = stored(run)?;
    if run.is_done(Phase::Finalists)? {
        return Ok(finalists);
    }
    let chosen = choose(&candidates(run)?, shop.recipe.latency.finalists);
    progress.begin("finalists", chosen.len() as u64, "model");
    for candidate in chosen.into_iter().skip(finalists.len()) {
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let arch = shop.space.vit(&candidate.genes);
        let weights = extract(&supernet.params, &supernet.encoder, &arch)?;
        let network = Network::from_weights(&arch, None, &weights, 0, &shop.device)?;
        let files = package(run, &network, &candidate.id, None, &Options::default())?;
        let parity = replay(&files, &shop.engines)?;
        let predicted = latency.map(|model| model.predict(&shop.space, &candidate.genes)).transpose()?;
        let finalist = Finalist { candidate, arch, files, parity, predicted, measured: Vec::new() };
        run.put_row(Table::Finalists, &finalist.candidate.id, &finalist)?;
        progress.advance(finalists.len() as u64 + 1, &format!("parity {}", finalist.parity.verdict));
        finalists.push(finalist);
    }
    progress.end(&format!("{} models exported and checked", finalists.len()));
    // A prior was never measured, so there is nothing to hold a measurement against.
    if latency.is_some_and(Fitted::measured) {
        time(run, shop, &mut finalists, progress)?;
        for finalist in &finalists {
            run.put_row(Table::Finalists, &finalist.candidate.id, finalist)?;
        }
    }
    run.mark(Phase::Finalists)?;
    Ok(finalists)
}

/// The finalists in a run. Where their files are follows from the run's folder, which may have been moved.
pub(crate) fn stored(run: &Run) -> Result<Vec<Finalist>> {
    let rows: Vec<(String, Finalist)> = run.rows(Table::Finalists)?;
    let here = |path: &Path| run.models().join(path.file_name().unwrap_or_default());
    let found = rows.into_iter().map(|(_, mut finalist)| {
        finalist.files.model = here(&finalist.files.model);
        finalist.files.golden = here(&finalist.files.golden);
        finalist
    });
    Ok(found.collect())
}

/// The knee, the best and the fastest, then members spread evenly along the front.
fn choose(front: &[Candidate], count: usize) -> Vec<Candidate> {
    let members: Vec<(String, Point)> = front.iter().map(|c| (c.id.clone(), c.point())).collect();
    let mut chosen: Vec<usize> = [Pick::Knee, Pick::Best, Pick::Fastest]
        .iter()
        .filter_map(|pick| crate::front::pick(&members, pick).ok())
        .collect();
    chosen.extend((0..count).map(|i| i * front.len().saturating_sub(1) / count.saturating_sub(1).max(1)));
    let mut unique = Vec::new();
    for i in chosen {
        if unique.len() < count && i < front.len() && !unique.contains(&i) {
            unique.push(i);
        }
    }
    unique.into_iter().map(|i| front[i].clone()).collect()
}

/// Replays a package's golden pair in every engine there is.
pub(crate) fn replay(files: &Exported, options: &engine::EngineOptions) -> Result<Parity> {
    let model =
        std::fs::read(&files.model).map_err(|source| Error::Io { path: files.model.clone(), source })?;
    let golden = masktas_export::Golden::load(&files.golden)?;
    golden.check_model(&model)?;
    let engines: Vec<Box<dyn Engine>> = engine::engines()
        .into_iter()
        .map(|name| engine::engine(name, options))
        .collect::<std::result::Result<_, _>>()?;
    let golden = masktas_devices::measure::Golden {
        inputs: vec![(golden.input_name, golden.input)],
        outputs: vec![(golden.output_name, golden.output)],
    };
    Ok(parity(&model, &golden, &engines))
}

/// Times the finalists under every engine of the recipe as the latency model's own measurements were taken: by the
/// same protocol, in its unit (the reference network's calibration), and in batches as full as those, because a
/// model that shares the caches with seven others is slower than one that has them to itself.
///
/// # Errors
/// [`masktas_devices::Error::Incomparable`] when the latency model's measurements were taken in another way after all,
/// such as by another version of the engine: its predictions must not stand beside these.
fn time(run: &Run, shop: &Workshop, finalists: &mut [Finalist], progress: &mut dyn Progress) -> Result<()> {
    if finalists.is_empty() {
        return Ok(());
    }
    let Some(mut transport) = shop.transport()? else {
        let target = &shop.recipe.latency.target;
        progress.say(&format!(
            "the finalists were not timed: {target} is not connected; add --connect to time them"
        ));
        return Ok(());
    };
    let space = &shop.space;
    let mut models = Vec::with_capacity(finalists.len());
    for finalist in finalists.iter() {
        let path = &finalist.files.model;
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        models.push(NamedModel::new(
            &finalist.candidate.id,
            features(space, &finalist.candidate.genes)?,
            bytes,
        ));
    }
    let reference = file(space, &space.smallest())?;
    let protocol = shop.protocol();
    let settings = &shop.recipe.latency;
    let mut company = sample(space, settings.samples, shop.recipe.seed);
    company.retain(|genes| finalists.iter().all(|finalist| finalist.candidate.genes != *genes));
    company.truncate(finalists.len().next_multiple_of(protocol.batch) - finalists.len());
    for genes in &company {
        models.push(NamedModel::new(&space.id(genes), features(space, genes)?, file(space, genes)?));
    }
    for finalist in finalists.iter_mut() {
        finalist.measured.clear();
    }
    for engine in &settings.engines {
        let rows = profiled(run, engine)?;
        let (key, calibration) =
            rows.iter().find_map(Row::measurement).map(|m| (m.key(), m.calibration.clone())).unzip();
        let bench = BenchJob { calibration, ..job(settings, engine, &protocol) };
        let job = ProfileJob { retries: settings.retries, ..ProfileJob::new(&models, &reference, bench) };
        progress.begin(&format!("finalists under {engine}"), models.len() as u64, "model");
        let mut rows = Vec::with_capacity(models.len());
        let result = profile_models(
            transport.as_mut(),
            &job,
            &mut |now| {
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
        for (finalist, row) in finalists.iter_mut().zip(rows) {
            match row.outcome {
                Outcome::Measured(measurement) => finalist.measured.push(*measurement),
                // Nothing is imported here.
                Outcome::Imported { .. } => {}
                Outcome::Failed(why) => {
                    progress.say(&format!("{} could not be timed under {engine}: {why}", row.id))
                }
            }
        }
        progress.end(&format!("{} finalists and {} others timed", finalists.len(), company.len()));
    }
    Ok(())
}
