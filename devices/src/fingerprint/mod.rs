//! Which machine a number came from, and in what state it was.
//!
//! Everything is read from files of the system below a root folder, so that a copied tree of another board can stand in
//! for the real one in tests. What cannot be read is left out, never guessed.

mod clocks;
mod files;
pub mod power;
mod read;
mod settings;
mod state;
mod thermal;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::protocol::short_hash;

pub use settings::{Android, ClusterLimits, GpuLimits, Mode, Settings, jetpack};
pub use state::{ClockNow, Cooling, Counter, Fan, PiThrottle, State, Zone};

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Board or product name (device tree or firmware tables), or `unknown`.
    pub board: String,
    /// CPU architecture, such as `x86_64`.
    pub arch: String,
    /// CPU model as the system names it, or `unknown`.
    pub cpu: String,
    /// Features of the CPU that decide which kernels an engine picks, sorted.
    pub cpu_features: Vec<String>,
    /// Logical cores this process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Operating system and its release, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor of the first core.
    pub governor: Option<String>,
    /// Highest clock of any core in kHz, as the governor allows it.
    pub max_khz: Option<u64>,
    /// Whether a hypervisor announces itself.
    pub virtual_machine: bool,
    /// Threads inside one operation that were asked of the engine.
    pub threads: usize,
    /// Release, power mode and limits that somebody chose.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// Values that change from minute to minute.
    pub state: State,
}

impl Fingerprint {
    /// Reads this machine.
    pub fn read(threads: usize) -> Self {
        let mut fingerprint = Self::read_from(Path::new("/"), threads);
        if let Ok(cores) = std::thread::available_parallelism() {
            fingerprint.cores = cores.get();
        }
        fingerprint
    }

    /// Reads the machine whose system files lie below `root`.
    pub fn read_from(root: &Path, threads: usize) -> Self {
        read::fingerprint(root, threads)
    }

    /// Identity of the machine and its settings, without anything that changes while it works: temperature,
    /// load, current clock, free memory, and the kernel's patch level are left out. A power mode, Jetson Linux's release,
    /// locked clocks, switched-off cores, a GPU's driver and Android's release count where there are any.
    pub fn key(&self) -> String {
        let mut text = format!(
            "{}|{}|{}|{}|{}|{:?}|{}|{:?}|{:?}|{}",
            self.board,
            self.arch,
            self.cpu,
            self.cpu_features.join(" "),
            self.cores,
            self.memory_bytes.map(|bytes| bytes >> 30),
            self.os,
            self.governor,
            self.max_khz,
            self.threads
        );
        let settings = self.settings.key();
        if !settings.is_empty() {
            text = format!("{text}|{settings}");
        }
        short_hash(text.as_bytes())
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!("{}, {} cores, {}", self.cpu, self.cores, self.os);
        if self.board != "unknown" {
            line = format!("{}: {line}", self.board);
        }
        match (&self.settings.jetpack, &self.settings.l4t) {
            (Some(jetpack), Some(l4t)) => line.push_str(&format!(", JetPack {jetpack} (L4T {l4t})")),
            (None, Some(l4t)) => line.push_str(&format!(", L4T {l4t}")),
            _ => {}
        }
        if let Some(mode) = &self.settings.power_mode {
            let name = mode.name.clone().unwrap_or_else(|| mode.number.to_string());
            line.push_str(&format!(", power mode {name}"));
        }
        if let Some(governor) = &self.governor {
            line.push_str(&format!(", governor {governor}"));
        }
        if self.settings.clocks_locked == Some(true) {
            line.push_str(", clocks locked");
        }
        if self.virtual_machine {
            line.push_str(", virtual machine");
        }
        line
    }
}
