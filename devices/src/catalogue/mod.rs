//! Devices that models are searched for and measured on: what vendors say of them, and how they are reached.
//!
//! A device is a TOML file: those of `devices/catalogue` are built in, a person's own lie in the folder that
//! [`user_folder`] names. Every value has a source, the month it was looked up, and says whether it was read there.
//! [`choose`] turns what was typed after `--target` into one device; [`prior`](prior::prior) makes a coarse estimate of a
//! latency from peaks and bandwidth. Neither is a measurement, and nothing here is ever shown as one.

mod add;
mod built_in;
mod choose;
mod device;
mod file;
mod prior;
mod remarks;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::suggest::closest;

pub use add::{NewDevice, add, user_folder};
pub use choose::{Because, Choice, Connected, choose};
pub use device::{
    Accelerator, Cluster, Confidence, Cpu, Device, Fact, Memory, Peaks, PowerMode, Row, Runtime, Source,
};
pub(crate) use file::check_name;
pub use prior::{Precision, Prior, PriorOptions, Processor, prior};
pub use remarks::Remark;

/// The built-in devices and a person's own, sorted by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    devices: Vec<Device>,
}

impl Catalogue {
    /// The built-in devices alone.
    pub fn built_in() -> Self {
        Self { devices: devices() }
    }

    /// The built-in devices and those of the person's folder.
    ///
    /// # Errors
    /// As [`with_folder`](Catalogue::with_folder).
    pub fn open() -> Result<Self> {
        match user_folder() {
            Some(folder) => Self::with_folder(&folder),
            None => Ok(Self::built_in()),
        }
    }

    /// The built-in devices and those of the `.toml` files of `folder`, which may be missing.
    ///
    /// # Errors
    /// [`Error::InvalidDevice`] for a file that cannot be understood, or whose name, alias or family is a name that
    /// another device has; [`Error::Io`] for one that cannot be read.
    pub fn with_folder(folder: &Path) -> Result<Self> {
        Self::with_folder_but(folder, None)
    }

    /// As [`with_folder`](Catalogue::with_folder), without the file `but`, which is about to be replaced.
    fn with_folder_but(folder: &Path, but: Option<&Path>) -> Result<Self> {
        let mut catalogue = Self { devices: built_in::built_in()?.to_vec() };
        for path in files(folder)?.into_iter().filter(|path| Some(path.as_path()) != but) {
            let device = read(&path)?;
            catalogue.admit(&device)?;
            catalogue.devices.push(device);
        }
        catalogue.devices.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(catalogue)
    }

    /// All devices, sorted by name.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The device of this name or alias, in any case.
    pub fn find(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.is_called(name))
    }

    /// The device of this name or alias, in any case, or the only one of this family.
    ///
    /// # Errors
    /// [`Error::WhichDevice`] with the members of a family; [`Error::NoDevice`] with the closest name.
    pub fn device(&self, name: &str) -> Result<&Device> {
        if let Some(device) = self.find(name) {
            return Ok(device);
        }
        match self.family(name).as_slice() {
            [] => Err(self.unknown(name)),
            [only] => Ok(only),
            several => Err(Error::WhichDevice {
                asked: name.to_owned(),
                choices: several.iter().map(|device| device.name.clone()).collect(),
            }),
        }
    }

    /// Devices of a family, sorted by name.
    pub fn family(&self, family: &str) -> Vec<&Device> {
        self.devices.iter().filter(|device| device.family.eq_ignore_ascii_case(family)).collect()
    }

    /// The device that a machine says it is, by the longest part of its board's or CPU's name that a device gives.
    pub fn recognise(&self, board: &str, cpu: &str) -> Option<&Device> {
        let (board, cpu) = (board.to_lowercase(), cpu.to_lowercase());
        let longest = |parts: &[String], text: &str| {
            parts.iter().filter(|part| text.contains(&part.to_lowercase())).map(String::len).max()
        };
        let mut best: Option<(usize, &Device)> = None;
        for device in &self.devices {
            // What the board says of itself is surer than the name of its CPU.
            let by_board = longest(&device.models, &board).map(|length| length + 1000);
            let found = by_board.or_else(|| longest(&device.cpu_models, &cpu));
            if let Some(length) = found
                && best.is_none_or(|(most, _)| length > most)
            {
                best = Some((length, device));
            }
        }
        best.map(|(_, device)| device)
    }

    /// As [`recognise`](Catalogue::recognise), of a machine's fingerprint.
    pub fn recognise_machine(&self, machine: &Fingerprint) -> Option<&Device> {
        self.recognise(&machine.board, &machine.cpu)
    }

    /// Refuses a device whose names are taken.
    fn admit(&self, new: &Device) -> Result<()> {
        let place = new.file.as_deref().map_or_else(|| new.name.clone(), |file| file.display().to_string());
        for name in new.names() {
            let taken = if let Some(other) = self.find(name) {
                Some(format!("the name `{name}` belongs to the device `{}`", other.name))
            } else if !self.family(name).is_empty() {
                Some(format!("the name `{name}` is a family of devices"))
            } else {
                None
            };
            if let Some(reason) = taken {
                return Err(Error::InvalidDevice { place, reason });
            }
        }
        match self.find(&new.family) {
            Some(other) if other.family != new.family => Err(Error::InvalidDevice {
                place,
                reason: format!("the family `{}` is the name of the device `{}`", new.family, other.name),
            }),
            _ => Ok(()),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let names = self.devices.iter().flat_map(Device::names);
        let families = self.devices.iter().map(|device| device.family.as_str());
        let all: Vec<&str> = names.chain(families).collect();
        Error::NoDevice { name: name.to_owned(), suggestion: closest(name, all).map(str::to_owned) }
    }
}

/// The built-in devices, sorted by name.
pub fn devices() -> Vec<Device> {
    built_in::built_in().map(<[Device]>::to_vec).unwrap_or_default()
}

/// The device of this name or alias, or the only one of this family: of the built-in catalogue, else of the person's folder.
///
/// # Errors
/// As [`Catalogue::device`]. A name that is not built in also meets the errors of
/// [`Catalogue::open`]; a broken file of the folder never stands in the way of a built-in device.
pub fn device(name: &str) -> Result<Device> {
    if let Some(device) = built_in::built_in()?.iter().find(|device| device.is_called(name)) {
        return Ok(device.clone());
    }
    Catalogue::open()?.device(name).cloned()
}

/// Device files of a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { path: folder.to_owned(), source }),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| Error::Io { path: folder.to_owned(), source })?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one device file.
fn read(path: &Path) -> Result<Device> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    let place = path.display().to_string();
    if size > file::FILE_LIMIT {
        let reason = format!("it has {size} bytes, and {} are the most", file::FILE_LIMIT);
        return Err(Error::InvalidDevice { place, reason });
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    let mut device = file::parse(&text, &place)?;
    device.file = Some(path.to_owned());
    Ok(device)
}
