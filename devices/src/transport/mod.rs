//! Ways to reach a device and run models there.

mod address;
mod deploy;
mod link;
mod local;
mod remote;
mod unreachable;

use std::ops::ControlFlow;

use crate::agent::EngineState;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::measure::{BenchJob, Golden, Measure, Subject};
use crate::parity::Parity;
use crate::sustained::{Sustained, Window};
use crate::trace::{Trace, TraceJob};

pub use address::{Address, FORMS};
pub use local::Local;
pub use remote::{Remote, RemoteOptions};

/// A way to run models on a device. Everything that crosses it is plain data.
pub trait Transport {
    /// The device as people call it, such as `this machine` or `ssh://pi@board`.
    fn name(&self) -> String;

    /// Reads the device's fingerprint.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost).
    fn fingerprint(&mut self, threads: usize) -> Result<Fingerprint>;

    /// Every engine, its version there or why it cannot be used.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost).
    fn engines(&mut self) -> Result<Vec<EngineState>>;

    /// Loads and calibrates the reference network there, ready to measure batches.
    ///
    /// # Errors
    /// As [`crate::measure::Bench::new`]; [`Error::Lost`](crate::Error::Lost).
    fn bench<'a>(&'a mut self, job: &BenchJob, reference: &[u8]) -> Result<Box<dyn Measure + 'a>>;

    /// Replays a golden pair there, as [`crate::parity::parity`].
    ///
    /// # Errors
    /// [`Error::UnknownEngine`](crate::Error::UnknownEngine); [`Error::Lost`](crate::Error::Lost).
    fn parity(&mut self, model: &[u8], golden: &Golden, engines: &[&str]) -> Result<Parity>;

    /// Takes the time of each operation of a model there, as [`crate::trace::trace`].
    ///
    /// # Errors
    /// As there; [`Error::Lost`](crate::Error::Lost).
    fn trace(&mut self, model: &[u8], job: &TraceJob) -> Result<Trace>;

    /// Runs a model there without a pause, as [`crate::sustained::sustain`].
    ///
    /// # Errors
    /// As there; [`Error::Lost`](crate::Error::Lost).
    fn sustain(
        &mut self,
        subject: &Subject<'_>,
        job: &BenchJob,
        seconds: f64,
        progress: &mut dyn FnMut(&Window) -> ControlFlow<()>,
    ) -> Result<Sustained>;

    /// Makes a lost connection anew.
    ///
    /// # Errors
    /// [`Error::Unreachable`](crate::Error::Unreachable) when the device is still away.
    fn reconnect(&mut self) -> Result<()>;
}
