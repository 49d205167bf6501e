//! This machine, from this process.

use std::ops::ControlFlow;

use super::Transport;
use crate::agent::{EngineState, engine_states};
use crate::engine::EngineOptions;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::measure::{Bench, BenchJob, Golden, Measure, Subject};
use crate::parity::{Parity, parity_apart};
use crate::sustained::{Sustained, Window, sustain};
use crate::trace::{Trace, TraceJob, trace};

/// This machine.
pub struct Local {
    options: EngineOptions,
}

impl Local {
    /// This machine with the engines that `options` find.
    pub fn new(options: &EngineOptions) -> Self {
        Self { options: options.clone() }
    }
}

impl Transport for Local {
    fn name(&self) -> String {
        "this machine".into()
    }

    fn fingerprint(&mut self, threads: usize) -> Result<Fingerprint> {
        Ok(Fingerprint::read(threads))
    }

    fn engines(&mut self) -> Result<Vec<EngineState>> {
        Ok(engine_states(&self.options))
    }

    fn bench<'a>(&'a mut self, job: &BenchJob, reference: &[u8]) -> Result<Box<dyn Measure + 'a>> {
        Ok(Box::new(Bench::new(job, reference, &self.options)?))
    }

    fn parity(&mut self, model: &[u8], golden: &Golden, engines: &[&str]) -> Result<Parity> {
        parity_apart(model, golden, engines, &self.options)
    }

    fn trace(&mut self, model: &[u8], job: &TraceJob) -> Result<Trace> {
        trace(job, model, &self.options)
    }

    fn sustain(
        &mut self,
        subject: &Subject<'_>,
        job: &BenchJob,
        seconds: f64,
        progress: &mut dyn FnMut(&Window) -> ControlFlow<()>,
    ) -> Result<Sustained> {
        sustain(job, subject, &self.options, seconds, progress)
    }

    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }
}
