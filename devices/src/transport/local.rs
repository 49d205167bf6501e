//! This machine, in this process.

use std::ops::ControlFlow;

use super::Transport;
use crate::engine::{Engine, EngineOptions, engine};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::measure::Golden;
use crate::parity::{Parity, parity};
use crate::profile::{ProfileJob, Progress, Row, Summary, profile_models};

/// The transport `local`.
pub(super) struct Local;

impl Transport for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn fingerprint(&mut self, threads: usize) -> Result<Fingerprint> {
        Ok(Fingerprint::read(threads))
    }

    fn profile(
        &mut self,
        job: &ProfileJob<'_>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
        sink: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<Summary> {
        profile_models(job, progress, sink)
    }

    fn parity(
        &mut self,
        model: &[u8],
        golden: &Golden,
        engines: &[&str],
        options: &EngineOptions,
    ) -> Result<Parity> {
        let engines: Vec<Box<dyn Engine>> =
            engines.iter().map(|name| engine(name, options)).collect::<Result<_>>()?;
        Ok(parity(model, golden, &engines))
    }
}
