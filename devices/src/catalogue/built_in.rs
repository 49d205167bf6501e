//! The device files that the library carries.

use std::sync::OnceLock;

use super::device::Device;
use super::file::parse;
use crate::error::{Error, Result};

/// Name of the file and its text. A test checks that every file of the folder is here.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// File names and texts, sorted by name.
        pub(super) const FILES: &[(&str, &str)] =
            &[$((concat!($name, ".toml"), include_str!(concat!("../../catalogue/", $name, ".toml")))),*];
    };
}

files![
    "apple-m1",
    "apple-m2",
    "apple-m3",
    "apple-m4",
    "coral-host",
    "host",
    "intel-n100",
    "iphone-a14",
    "iphone-a15",
    "iphone-a16",
    "iphone-a17",
    "jetson-agx-orin",
    "jetson-nano",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-tx2",
    "jetson-xavier-nx",
    "laptop-i5-1135g7",
    "laptop-i7-12700h",
    "laptop-ryzen-7-7840u",
    "pi4",
    "pi5",
    "qemu-aarch64",
    "snapdragon-8-gen-2",
    "snapdragon-8-gen-3",
    "snapdragon-855",
];

/// The built-in devices, sorted by name; read once.
///
/// # Errors
/// [`Error::InvalidDevice`]. A test reads every file, so this cannot happen in a released library.
pub(super) fn built_in() -> Result<&'static [Device]> {
    static DEVICES: OnceLock<std::result::Result<Vec<Device>, (String, String)>> = OnceLock::new();
    let read = DEVICES.get_or_init(|| {
        FILES
            .iter()
            .map(|(name, text)| {
                parse(text, name).map_err(|error| match error {
                    Error::InvalidDevice { place, reason } => (place, reason),
                    other => ((*name).to_owned(), other.to_string()),
                })
            })
            .collect()
    });
    match read {
        Ok(devices) => Ok(devices),
        Err((place, reason)) => Err(Error::InvalidDevice { place: place.clone(), reason: reason.clone() }),
    }
}
