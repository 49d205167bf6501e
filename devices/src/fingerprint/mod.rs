//! Which machine a number came from, and in what state it was.
//!
//! Everything is read from files of the system below a root folder, so that a copied tree of another board can stand in
//! for the real one in tests. What cannot be read is left out, never guessed.

mod read;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::protocol::short_hash;

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
    /// Values that change from minute to minute.
    pub state: State,
}

/// What changes on a machine while it is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Clock of the first core in kHz.
    pub khz: Option<u64>,
    /// Hottest thermal zone in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Sum of all throttle counters that can be read; a change between two readings is a throttled run.
    pub throttled: Option<u64>,
    /// Free memory in bytes, as the system estimates it.
    pub available_bytes: Option<u64>,
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
    /// load, current clock, free memory, and the kernel's patch level are left out.
    pub fn key(&self) -> String {
        let text = format!(
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
        short_hash(text.as_bytes())
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!("{}, {} cores, {}", self.cpu, self.cores, self.os);
        if self.board != "unknown" {
            line = format!("{}: {line}", self.board);
        }
        if let Some(governor) = &self.governor {
            line.push_str(&format!(", governor {governor}"));
        }
        if self.virtual_machine {
            line.push_str(", virtual machine");
        }
        line
    }
}
