//! Devices that models are measured on.
//!
//! The catalogue holds only `host`, this machine.

use serde::{Deserialize, Serialize};

use crate::engine::engines;
use crate::error::{Error, Result};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_can_be_measured_now() {
        let host = device("host").unwrap();
        assert_eq!(host.transport, "local");
        let text = device("jetson-orin-nano").unwrap_err().to_string();
        assert!(
            text.contains("jetson-orin-nano") && text.contains("`host`") && text.contains("come next"),
            "{text}"
        );
    }
}
