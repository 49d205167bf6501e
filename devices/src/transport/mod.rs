//! Ways to reach a device and run models there.

mod local;

use std::ops::ControlFlow;

use crate::catalogue::Device;
use crate::engine::EngineOptions;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::Golden;
use crate::parity::Parity;
use crate::profile::{ProfileJob, Progress, Row, Summary};

/// A way to run models on a device. Everything that crosses it is plain data.
pub trait Transport {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Reads the device's fingerprint.
    ///
    /// # Errors
    /// When the device cannot be reached.
    fn fingerprint(&mut self, threads: usize) -> Result<Fingerprint>;

    /// Measures models there, as [`crate::profile::profile_models`].
    ///
    /// # Errors
    /// As there, and when the device is lost; finished rows are kept.
    fn profile(
        &mut self,
        job: &ProfileJob<'_>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
        sink: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<Summary>;

    /// Replays a golden pair there, as [`crate::parity::parity`].
    ///
    /// # Errors
    /// [`Error::UnknownEngine`], and when the device is lost.
    fn parity(
        &mut self,
        model: &[u8],
        golden: &Golden,
        engines: &[&str],
        options: &EngineOptions,
    ) -> Result<Parity>;
}

impl Device {
    /// Reaches the device.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when it has a transport this version lacks.
    pub fn connect(&self) -> Result<Box<dyn Transport>> {
        match self.transport.as_str() {
            "local" => Ok(Box::new(local::Local)),
            _ => Err(Error::UnknownDevice { name: self.name.clone(), known: "`host`".into() }),
        }
    }
}
