//! A person's own devices.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::device::{Confidence, Device, Fact, Memory, Source};
use super::{Catalogue, file};
use crate::error::{Error, Result};

/// Where a person's device files lie: `$XDG_CONFIG_HOME/masktas/devices`, else `~/.config/masktas/devices`; none
/// where neither variable is set to an absolute path.
pub fn user_folder() -> Option<PathBuf> {
    folder_of(|name| std::env::var_os(name).map(PathBuf::from))
}

/// [`user_folder`], of the variables that `variable` gives.
fn folder_of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("masktas").join("devices"))
}

/// What is said of a new device; the file can be completed by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Name: small letters, digits and hyphens.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Family; the name itself where none is given.
    pub family: Option<String>,
    /// CPU architecture, such as `aarch64`.
    pub architecture: String,
    /// How it is reached: `local`, `ssh`, `adb`, `tcp` or `docker`.
    pub transport: String,
    /// Engines that run there.
    pub engines: Vec<String>,
    /// Execution providers of ONNX Runtime that it has.
    pub providers: Vec<String>,
    /// Parts of the device tree's model text by which it is known.
    pub models: Vec<String>,
    /// Memory: size in bytes and peak bandwidth in GB/s.
    pub memory: Option<(u64, f64)>,
    /// Where the numbers come from. Needed when there are any.
    pub source: Option<String>,
    /// Month they were looked up, `YYYY-MM`. Needed when there are any.
    pub date: Option<String>,
}

impl NewDevice {
    fn device(&self) -> Result<Device> {
        let mut sources = BTreeMap::new();
        if self.memory.is_some() || self.source.is_some() {
            let missing = |what: &str| Error::InvalidDevice {
                place: self.name.clone(),
                reason: format!("it has numbers, and their {what} is missing"),
            };
            sources.insert(
                "own".to_owned(),
                Source {
                    text: self.source.clone().ok_or_else(|| missing("source"))?,
                    url: None,
                    date: self.date.clone().ok_or_else(|| missing("date (YYYY-MM)"))?,
                    confidence: Confidence::Verified,
                },
            );
        }
        let own = "own".to_owned();
        Ok(Device {
            name: self.name.clone(),
            aliases: Vec::new(),
            description: self.description.clone(),
            family: self.family.clone().unwrap_or_else(|| self.name.clone()),
            architecture: self.architecture.clone(),
            transport: self.transport.clone(),
            also_reached: Vec::new(),
            engines: self.engines.clone(),
            providers: self.providers.clone(),
            models: self.models.clone(),
            cpu_models: Vec::new(),
            cpu: None,
            gpu: None,
            npu: None,
            memory: self.memory.map(|(bytes, bandwidth)| Memory {
                bytes: Fact { value: bytes, unit: "bytes".into(), source: own.clone() },
                bandwidth: Fact { value: bandwidth, unit: "GB/s".into(), source: own },
                practical: None,
            }),
            power_modes: Vec::new(),
            runtimes: Vec::new(),
            notes: Vec::new(),
            sources,
            file: None,
        })
    }
}

/// Writes a device file into `folder` (see [`user_folder`]), which is made if it is missing, and gives its path.
/// Nothing is left half-written: the text is read back and checked before the file gets its name.
///
/// # Errors
/// [`Error::DeviceExists`] when the person has a device of this name and `replace` is false;
/// [`Error::InvalidDevice`] for values that do not fit and for names that a built-in or another own device has;
/// [`Error::Io`].
pub fn add(folder: &Path, new: &NewDevice, replace: bool) -> Result<PathBuf> {
    let device = new.device()?;
    let text = file::text(&device, &device.name)?;
    let device = file::parse(&text, &device.name)?;
    // The name was checked, so it is a file name of this folder.
    let path = folder.join(format!("{}.toml", device.name));
    if path.exists() && !replace {
        return Err(Error::DeviceExists { name: device.name, path });
    }
    Catalogue::with_folder_but(folder, Some(&path))?.admit(&device)?;

    let io = |source| Error::Io { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let unfinished = folder.join(format!(".{}.{}.part", device.name, std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = std::fs::remove_file(&unfinished);
    }
    written.map_err(io)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_variables() {
        let of = |xdg: Option<&str>, home: Option<&str>| {
            let folder = folder_of(|name| match name {
                "XDG_CONFIG_HOME" => xdg.map(PathBuf::from),
                "HOME" => home.map(PathBuf::from),
                other => panic!("{other}"),
            });
            folder.map(|path| path.display().to_string())
        };
        assert_eq!(of(Some("/x"), Some("/h")).as_deref(), Some("/x/masktas/devices"));
        assert_eq!(of(None, Some("/h")).as_deref(), Some("/h/.config/masktas/devices"));
        // The convention says to ignore a relative path.
        assert_eq!(of(Some("x"), Some("/h")).as_deref(), Some("/h/.config/masktas/devices"));
        assert_eq!(of(None, None), None);
    }
}
