//! Devices that models are measured on, and the way to reach them.
//!
//! The catalogue holds only `host`, this machine. Remote devices come next: each is an entry with another [`Transport`].

mod host;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::engine::{EngineOptions, engines};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::Golden;
use crate::parity::Parity;
use crate::profile::{ProfileJob, Progress, Row, Summary};

/// A device of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name on the command line.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// How it is reached.
    pub transport: String,
    /// Engines that exist for it, whether or not they can be used at the moment.
    pub engines: Vec<String>,
}

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

/// The catalogue, sorted by name.
pub fn devices() -> Vec<Device> {
    vec![Device {
        name: "host".into(),
        description: "this machine, in this process".into(),
        transport: "local".into(),
        engines: engines().into_iter().map(str::to_owned).collect(),
    }]
}

/// The device called `name`.
///
/// # Errors
/// [`Error::UnknownDevice`]: only this machine can be measured now.
pub fn device(name: &str) -> Result<Device> {
    let known = devices();
    known.iter().find(|device| device.name == name).cloned().ok_or_else(|| Error::UnknownDevice {
        name: name.to_owned(),
        known: known.iter().map(|device| format!("`{}`", device.name)).collect::<Vec<_>>().join(", "),
    })
}

impl Device {
    /// Reaches the device.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when it has a transport this version lacks.
    pub fn connect(&self) -> Result<Box<dyn Transport>> {
        match self.transport.as_str() {
            "local" => Ok(Box::new(host::Local)),
            _ => Err(Error::UnknownDevice { name: self.name.clone(), known: "`host`".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_can_be_measured_now() {
        let host = device("host").unwrap();
        assert_eq!(host.connect().unwrap().name(), "local");
        let text = device("jetson-orin-nano").unwrap_err().to_string();
        assert!(
            text.contains("jetson-orin-nano") && text.contains("`host`") && text.contains("come next"),
            "{text}"
        );
        assert!(Device { transport: "ssh".into(), ..host }.connect().is_err());
    }
}
