//! The last chapter: members of the front become files, are replayed in every engine, and are timed again.

use masktas_devices::engine::{self, Engine};
use masktas_devices::latency::Prediction;
use masktas_devices::measure::Measurement;
use masktas_devices::parity::{Parity, parity};
use masktas_devices::profile::{NamedModel, ProfileJob, Row, profile_models};
use masktas_export::VitArch;
use serde::{Deserialize, Serialize};

use super::latency::{Fitted, features, file, profiled, protocol};
use super::pick::{Candidate, Exported, Options, candidates, package};
use super::Workshop;
use crate::error::{Error, Result};
use crate::front::{Pick, Point};
use crate::progress::Progress;
use crate::run::{Phase, Run, Table};
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
    let mut finalists: Vec<Finalist> =
        run.rows(Table::Finalists)?.into_iter().map(|(_, finalist)| finalist).collect();
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
        let measured = match latency {
            Some(_) => measure(run, shop, &candidate, &files)?,
            None => Vec::new(),
        };
        let finalist = Finalist { candidate, arch, files, parity, predicted, measured };
        run.put_row(Table::Finalists, &finalist.candidate.id, &finalist)?;
        progress.advance(finalists.len() as u64 + 1, &format!("parity {}", finalist.parity.verdict));
        finalists.push(finalist);
    }
    progress.end(&format!("{} models exported and checked", finalists.len()));
    run.mark(Phase::Finalists)?;
    Ok(finalists)
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
    let model = std::fs::read(&files.model).map_err(|source| Error::Io { path: files.model.clone(), source })?;
    let golden = masktas_export::Golden::load(&files.golden)?;
    golden.check_model(&model)?;
    let engines: Vec<Box<dyn Engine>> =
        engine::engines().into_iter().map(|name| engine::engine(name, options)).collect::<std::result::Result<_, _>>()?;
    let golden = masktas_devices::measure::Golden {
        inputs: vec![(golden.input_name, golden.input)],
        outputs: vec![(golden.output_name, golden.output)],
    };
    Ok(parity(&model, &golden, &engines))
}

/// Times one model under every engine of the recipe, by the protocol and in the unit (the reference
/// network's calibration) of the measurements the latency model was fitted to.
fn measure(run: &Run, shop: &Workshop, candidate: &Candidate, files: &Exported) -> Result<Vec<Measurement>> {
    let bytes = std::fs::read(&files.model).map_err(|source| Error::Io { path: files.model.clone(), source })?;
    let models = [NamedModel::new(&candidate.id, features(&shop.space, &candidate.genes)?, bytes)];
    let reference = file(&shop.space, &shop.space.smallest())?;
    let protocol = protocol(shop);
    let mut measured = Vec::new();
    for engine in &shop.recipe.latency.engines {
        let calibration = profiled(run, engine)?.iter().find_map(Row::measurement).map(|m| m.calibration.clone());
        let job = ProfileJob {
            engine,
            calibration,
            ..ProfileJob::new(&models, &reference, &shop.engines, &protocol)
        };
        let mut sink = |row: Row| {
            measured.extend(row.measurement().cloned());
            Ok(())
        };
        profile_models(&job, &mut |_| std::ops::ControlFlow::Continue(()), &mut sink)?;
    }
    Ok(measured)
}
