//! The last chapter: members of the front become files, are replayed in every engine, and are timed again.

use std::path::Path;

use masktas_devices::engine::{self, Engine};
use masktas_devices::latency::Prediction;
use masktas_devices::measure::{Golden, Measurement};
use masktas_devices::parity::{Parity, parity};
use masktas_devices::profile::Outcome;
use masktas_export::VitArch;
use masktas_runtime::Verdict;
use serde::{Deserialize, Serialize};

use super::Workshop;
use super::latency::Fitted;
use super::pick::{Candidate, Exported, Options, candidates, package};
use super::remeasure::{Member, remeasure};
use crate::error::{At, Error, Result};
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
    /// Its answers on the target itself, where that is another machine and was connected.
    #[serde(default)]
    pub there: Option<Parity>,
}

impl Finalist {
    /// What it takes to time it.
    pub(super) fn member(&self) -> Member {
        let Candidate { id, genes, .. } = &self.candidate;
        Member { id: id.clone(), genes: genes.clone(), model: self.files.model.clone() }
    }

    /// The worst of what engines answered, here and on the target.
    pub fn verdict(&self) -> Verdict {
        let there = self.there.as_ref().map(|parity| parity.verdict);
        there.into_iter().fold(self.parity.verdict, Verdict::max)
    }
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
        let finalist =
            Finalist { candidate, arch, files, parity, predicted, measured: Vec::new(), there: None };
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
    let (model, golden) = pair(files)?;
    let engines: Vec<Box<dyn Engine>> = engine::engines()
        .into_iter()
        .map(|name| engine::engine(name, options))
        .collect::<std::result::Result<_, _>>()?;
    Ok(parity(&model, &golden, &engines))
}

/// A package's model and golden pair.
fn pair(files: &Exported) -> Result<(Vec<u8>, Golden)> {
    let model = std::fs::read(&files.model).at(&files.model)?;
    let golden = masktas_export::Golden::load(&files.golden)?;
    golden.check_model(&model)?;
    let golden = Golden {
        inputs: vec![(golden.input_name, golden.input)],
        outputs: vec![(golden.output_name, golden.output)],
    };
    Ok((model, golden))
}

/// Times the finalists under every engine of the recipe.
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
    if shop.connections.contains_key(&shop.recipe.latency.target) {
        // The answer on the device first: the time of a wrong one would mean nothing.
        let engines: Vec<&str> = shop.recipe.latency.engines.iter().map(String::as_str).collect();
        for finalist in finalists.iter_mut() {
            let (model, golden) = pair(&finalist.files)?;
            let there = transport.parity(&model, &golden, &engines)?;
            progress.say(&format!(
                "{} on {}: parity {}",
                finalist.candidate.id, shop.recipe.latency.target, there.verdict
            ));
            finalist.there = Some(there);
        }
    }
    let members: Vec<Member> = finalists.iter().map(Finalist::member).collect();
    for finalist in finalists.iter_mut() {
        finalist.measured.clear();
    }
    for engine in &shop.recipe.latency.engines {
        let rows = match remeasure(run, shop, transport.as_mut(), engine, &members, progress) {
            // The device is in another state than when it was profiled. What was found is no worse for it.
            Err(Error::Devices(error @ masktas_devices::Error::Incomparable { .. })) => {
                progress.say(&format!("the finalists stand unmeasured under {engine}: {error}"));
                continue;
            }
            other => other?,
        };
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
    }
    Ok(())
}
