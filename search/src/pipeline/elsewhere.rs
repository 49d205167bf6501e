//! A run's front on another device: its architectures are scored already, and a profile says what they would cost there.

use std::path::Path;

use masktas_devices::latency::{HeldOut, from_json};

use super::latency::Fitted;
use super::pick::{Candidate, front_of};
use super::reuse::first_model;
use crate::error::Result;
use crate::run::Run;
use crate::space::Space as _;

/// The scored architectures of a run that nothing beats on another device.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The device.
    pub target: String,
    /// The engine.
    pub engine: String,
    /// Error of the latency model on measurements left out of its fit.
    pub held_out: HeldOut,
    /// The front, cheapest first; its cost is predicted ms. It was chosen among what was scored for the run's own device,
    /// so a search for the other device may find a better one.
    pub front: Vec<Candidate>,
}

/// The front of a run on the device of the profile in `from`, a finished run or a file, under its first engine.
///
/// # Errors
/// [`crate::Error::OtherProfile`] when the profile is of another space; when run or profile cannot be read.
pub fn elsewhere(run: &Run, from: &Path) -> Result<Elsewhere> {
    let space = run.manifest().vit_space()?;
    let (target, report) = first_model(from, &run.manifest().recipe.space.name, &space.hash())?;
    let model = Fitted::Model(from_json(&report.model)?);
    let mut trials = run.scored()?;
    for trial in &mut trials {
        trial.cost = model.predict(&space, &trial.genes)?.ms;
    }
    let front = front_of(&space, &trials);
    Ok(Elsewhere { target, engine: report.engine, held_out: report.held_out, front })
}
