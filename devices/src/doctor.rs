//! What works on this machine and how to mend what does not, as data.

use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Device};
use crate::engine::{EngineOptions, ORT_FLOOR, adapters, engine, find_library, library_version};
use crate::fingerprint::Fingerprint;

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// It is missing, or will make results less sure; everything else works without it.
    Warn,
    /// It was asked for and is broken.
    Fail,
}

/// One line of the doctor's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Outcome.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// How to mend it; present exactly when the status is not ok.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: String) -> Self {
        Self { name: name.into(), status: Status::Ok, detail, fix: None }
    }

    fn bad(name: &str, status: Status, detail: String, fix: &str) -> Self {
        Self { name: name.into(), status, detail, fix: Some(fix.into()) }
    }
}

/// Looks at every engine and at the machine. Nothing is changed, and nothing is downloaded.
pub fn doctor(options: &EngineOptions) -> Vec<Check> {
    let mut checks = vec![onnx_runtime(options), simple("tract", options), wgpu(options)];
    let print = Fingerprint::read(1);
    checks.extend(board(&print));
    checks
}

/// What a machine is, what makes its latencies unsteady, and what does not fit the device that it is said to be.
pub fn machine_checks(print: &Fingerprint, device: &Device) -> Vec<Check> {
    let mut checks = machine(print);
    checks.push(Check::ok("device", format!("{}, {}", device.name, device.description)));
    let remarks = device.remarks(print).into_iter();
    checks.extend(remarks.map(|remark| Check::bad("device", remark.status, remark.what, &remark.next)));
    checks
}

fn onnx_runtime(options: &EngineOptions) -> Check {
    const NAME: &str = "ONNX Runtime";
    const FIX: &str = "run `make ort`, or name the library with --ort-lib or MASKTAS_ORT_LIB";
    let found = match find_library(options.ort_lib.as_deref()) {
        Ok(found) => found,
        Err(error) => return Check::bad(NAME, Status::Warn, error.to_string(), FIX),
    };
    let version = match library_version(&found.path) {
        Ok(version) => version,
        Err(error) => return Check::bad(NAME, Status::Fail, error.to_string(), FIX),
    };
    let detail = format!(
        "{version} (1.{ORT_FLOOR} or newer is needed) at {}, from {}",
        found.path.display(),
        found.place
    );
    match engine("ort", options).and_then(|ort| ort.check()) {
        Ok(()) => Check::ok(NAME, detail),
        Err(error) => Check::bad(NAME, Status::Fail, format!("{detail}: {error}"), FIX),
    }
}

fn simple(name: &str, options: &EngineOptions) -> Check {
    match checked(name, options) {
        Ok(version) => Check::ok(name, version),
        Err(error) => Check::bad(name, Status::Fail, error.to_string(), "use another engine: --engine ort"),
    }
}

fn checked(name: &str, options: &EngineOptions) -> crate::error::Result<String> {
    let engine = engine(name, options)?;
    engine.check()?;
    engine.version()
}

fn wgpu(options: &EngineOptions) -> Check {
    const FIX: &str =
        "install a Vulkan driver (Debian: apt-get install mesa-vulkan-drivers), or use --engine ort";
    let adapters = adapters();
    let listed = if adapters.is_empty() { "no adapter".to_owned() } else { adapters.join("; ") };
    match checked("wgpu", options) {
        Ok(version) => Check::ok("wgpu", format!("{version} on {listed}")),
        Err(error) => {
            // An adapter that was named, or that is there and broken, is more than something left out.
            let missing = adapters.is_empty() && options.adapter.is_none();
            let status = if missing { Status::Warn } else { Status::Fail };
            Check::bad("wgpu", status, format!("{listed}: {error}"), FIX)
        }
    }
}

/// What makes latencies unsteady.
fn machine(print: &Fingerprint) -> Vec<Check> {
    let mut checks = vec![Check::ok("machine", print.line())];
    if let Some(load) = print.state.load_1m {
        let detail = format!("{load:.2} on {} cores", print.cores);
        checks.push(if load > print.cores as f64 * 0.5 {
            Check::bad("load average", Status::Warn, detail, "stop other programs before you profile")
        } else {
            Check::ok("load average", detail)
        });
    }
    if let Some(governor) = &print.governor {
        // Locked clocks are as steady as that governor's.
        checks.push(if governor == "performance" || print.settings.clocks_locked == Some(true) {
            Check::ok("frequency governor", governor.clone())
        } else {
            let fix = "for steadier latencies: sudo cpupower frequency-set -g performance";
            Check::bad("frequency governor", Status::Warn, governor.clone(), fix)
        });
    }
    if let Some(degrees) = print.state.temperature_c {
        let detail = format!("{degrees:.0} degrees Celsius");
        checks.push(if degrees > 80.0 {
            Check::bad("temperature", Status::Warn, detail, "let the device cool down before you profile")
        } else {
            Check::ok("temperature", detail)
        });
    }
    checks
}

/// This machine, as the device of the catalogue that it is, where the catalogue has it.
fn board(print: &Fingerprint) -> Vec<Check> {
    // A broken file of the user's own is an error of the commands that need it; what is built in always reads.
    let catalogue = Catalogue::open().unwrap_or_else(|_| Catalogue::built_in());
    match catalogue.recognise_machine(print) {
        Some(device) => machine_checks(print, device),
        None => machine(print),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Settings, State};

    #[test]
    fn a_wrong_library_fails_with_its_path_and_the_next_step() {
        let options =
            EngineOptions { ort_lib: Some("/nowhere/libonnxruntime.so".into()), ..EngineOptions::default() };
        let check = onnx_runtime(&options);
        assert_eq!(check.status, Status::Fail);
        assert!(check.detail.contains("/nowhere/libonnxruntime.so"));
        assert!(check.fix.unwrap().contains("make ort"));
    }

    #[test]
    fn every_line_that_is_not_ok_says_how_to_mend_it() {
        let checks = doctor(&EngineOptions::default());
        assert!(checks.iter().any(|check| check.name == "tract" && check.status == Status::Ok));
        for check in checks {
            assert_eq!(check.fix.is_some(), check.status != Status::Ok, "{check:?}");
        }
    }

    #[test]
    fn a_busy_hot_machine_is_warned_about() {
        let state = State { load_1m: Some(3.0), temperature_c: Some(91.0), ..State::default() };
        let print =
            Fingerprint { cores: 4, governor: Some("powersave".into()), state, ..Fingerprint::default() };
        let warned: Vec<_> =
            machine(&print).into_iter().filter(|c| c.status == Status::Warn).map(|c| c.name).collect();
        assert_eq!(warned, ["load average", "frequency governor", "temperature"]);
    }

    #[test]
    fn another_processor_than_the_devices_is_a_failure() {
        let print = Fingerprint { arch: "x86_64".into(), ..Fingerprint::default() };
        let device = crate::device("pi5").unwrap();
        let checks = machine_checks(&print, &device);
        let failed: Vec<_> = checks.iter().filter(|check| check.status == Status::Fail).collect();
        assert_eq!(failed.len(), 1, "{checks:?}");
        assert!(failed[0].detail.contains("aarch64") && failed[0].detail.contains("x86_64"), "{checks:?}");
        let print = Fingerprint { arch: "aarch64".into(), ..print };
        assert!(machine_checks(&print, &device).iter().all(|check| check.status != Status::Fail));
    }

    #[test]
    fn a_board_of_the_catalogue_is_named_and_held_against_it() {
        let settings =
            Settings { clocks_locked: Some(false), l4t: Some("36.4.3".into()), ..Settings::default() };
        let print = Fingerprint {
            board: "NVIDIA Jetson Orin Nano Developer Kit".into(),
            arch: "aarch64".into(),
            settings,
            ..Fingerprint::default()
        };
        let checks: Vec<Check> = board(&print).into_iter().filter(|check| check.name == "device").collect();
        assert!(checks[0].detail.starts_with("jetson-orin-nano"), "{checks:?}");
        assert!(checks[1..].iter().any(|check| check.detail.contains("clocks")), "{checks:?}");
        let toaster = Fingerprint { board: "a toaster".into(), ..Fingerprint::default() };
        assert!(board(&toaster).iter().all(|check| check.name != "device"));
    }
}
