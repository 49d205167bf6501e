//! What a person should know before measuring: a machine held against the catalogue.

use serde::{Deserialize, Serialize};

use super::device::Device;
use crate::doctor::Status;
use crate::fingerprint::Fingerprint;

/// Oldest GNU C library that ONNX Runtime's published libraries run with.
const ONNXRUNTIME_GLIBC: (u32, u32) = (2, 28);

/// Smallest part of the catalogue's memory that counts as the same variant; systems keep some for themselves.
const SAME_MEMORY: f64 = 0.8;

/// One thing to know, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// [`Status::Fail`] where the device is not the one that was named; else [`Status::Warn`].
    pub status: Status,
    /// What was seen, with both values where there are two.
    pub what: String,
    /// One next step.
    pub next: String,
}

impl Device {
    /// What in a machine's fingerprint does not fit this device or makes its latencies slower, less steady or impossible to
    /// take. Only another processor than the device's is a failure: it is another device.
    pub fn remarks(&self, machine: &Fingerprint) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut say = |what: String, next: &str| {
            remarks.push(Remark { status: Status::Warn, what, next: next.to_owned() });
        };
        let settings = &machine.settings;
        if let Some(l4t) = &settings.l4t {
            match self.runtime_for(l4t) {
                Some(row) => {
                    let because = row.because.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                    let version = &row.onnxruntime.value;
                    let what = format!("{} takes ONNX Runtime up to {version}{because}", row.system);
                    say(what, "give its library with --ort-lib, or use --engine tract");
                }
                None if !self.runtimes.is_empty() => {
                    let what = format!("the catalogue knows no ONNX Runtime for Jetson Linux {l4t}");
                    say(what, "try `masktas doctor` on the board, or use --engine tract");
                }
                None => {}
            }
            if settings.clocks_locked == Some(false) {
                say(
                    "the clocks may change while models are timed".into(),
                    "run `sudo jetson_clocks` on the board",
                );
            }
        }
        let old = settings.glibc.as_deref().filter(|version| older(version, ONNXRUNTIME_GLIBC));
        if let Some(version) = old.filter(|_| self.engines.iter().any(|engine| engine == "ort")) {
            let (major, minor) = ONNXRUNTIME_GLIBC;
            let what =
                format!("the C library is {version}, and ONNX Runtime's libraries need {major}.{minor}");
            say(what, "use --engine tract");
        }
        if let (Some(has), Some(memory)) = (machine.memory_bytes, &self.memory)
            && (has as f64) < memory.bytes.value as f64 * SAME_MEMORY
        {
            let giga = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let what = format!(
                "the board has {:.1} GiB of memory, and the catalogue's variant has {:.0}",
                giga(has),
                giga(memory.bytes.value)
            );
            say(what, "expect large models to fail; add a device of your own with `masktas devices add`");
        }
        if !settings.offline_cpus.is_empty() {
            let list = settings.offline_cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            say(
                format!("cores {list} are switched off"),
                "choose another power mode, or keep this one for good",
            );
        }
        remarks.splice(0..0, self.other_processor(machine));
        remarks
    }

    /// A machine of another processor is another device.
    fn other_processor(&self, machine: &Fingerprint) -> Option<Remark> {
        let same = self.architecture == "any" || machine.arch.is_empty() || machine.arch == self.architecture;
        (!same).then(|| Remark {
            status: Status::Fail,
            what: format!("`{}` is {}, and this machine is {}", self.name, self.architecture, machine.arch),
            next: "name the right device with --target".into(),
        })
    }
}

/// Whether a version such as `2.27` is older than another.
fn older(version: &str, than: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < than,
        _ => false,
    }
}
