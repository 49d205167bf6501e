//! The readers. Sources: the kernel's documentation of procfs, sysfs and the device tree.

use std::path::Path;

use super::files::{names, number, text};
use super::settings::{settings, swaps};
use super::state::State;
use super::{Fingerprint, clocks, thermal};

/// CPU features that change which kernels engines pick, on x86 and Arm.
const FEATURES: &[&str] = &[
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimddp",
    "asimdhp",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512f",
    "avx512vl",
    "avx_vnni",
    "bf16",
    "f16c",
    "fma",
    "fphp",
    "i8mm",
    "neon",
    "sse4_1",
    "sse4_2",
    "sve",
    "sve2",
];

pub(super) fn fingerprint(root: &Path, threads: usize) -> Fingerprint {
    let cpuinfo = text(root, "proc/cpuinfo").unwrap_or_default();
    let field = |names: &[&str]| {
        names.iter().find_map(|name| {
            cpuinfo.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == *name && !value.trim().is_empty()).then(|| value.trim().to_owned())
            })
        })
    };
    let flags = field(&["flags", "Features"]).unwrap_or_default();
    let mut cpu_features: Vec<String> =
        flags.split_whitespace().filter(|flag| FEATURES.contains(flag)).map(str::to_owned).collect();
    cpu_features.sort();
    cpu_features.dedup();
    let cores =
        cpuinfo.lines().filter(|line| line.split(':').next().is_some_and(|k| k.trim() == "processor"));
    let policy = "sys/devices/system/cpu/cpu0/cpufreq";
    Fingerprint {
        board: board(root).unwrap_or_else(|| "unknown".into()),
        arch: std::env::consts::ARCH.into(),
        cpu: field(&["model name", "Model", "Hardware"])
            .or_else(|| arm_core(field(&["CPU implementer"])?, field(&["CPU part"])?))
            .unwrap_or_else(|| "unknown".into()),
        cpu_features,
        cores: cores.count().max(1),
        memory_bytes: meminfo(root, "MemTotal"),
        os: os(root),
        kernel: text(root, "proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
        governor: text(root, &format!("{policy}/scaling_governor")),
        max_khz: max_khz(root),
        virtual_machine: flags.split_whitespace().any(|flag| flag == "hypervisor"),
        threads,
        settings: settings(root),
        state: state(root),
    }
}

/// The power chip of a Jetson Nano always reports 100 degrees.
const FIXED_ZONE: &str = "PMIC-Die";

pub(super) fn state(root: &Path) -> State {
    let zones = thermal::zones(root);
    let counters = thermal::counters(root);
    let swaps = swaps(root);
    State {
        khz: number(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        temperature_c: zones
            .iter()
            .filter(|zone| zone.name != FIXED_ZONE)
            .map(|zone| zone.celsius)
            .max_by(f64::total_cmp),
        load_1m: text(root, "proc/loadavg").and_then(|line| line.split_whitespace().next()?.parse().ok()),
        throttled: (!counters.is_empty())
            .then(|| counters.iter().fold(0u64, |sum, counter| sum.saturating_add(counter.count))),
        available_bytes: meminfo(root, "MemAvailable"),
        zones,
        cooling: thermal::cooling(root),
        clocks: clocks::now(root),
        fans: thermal::fans(root),
        counters,
        raspberry_pi: thermal::raspberry_pi(root),
        under_voltage: thermal::under_voltage(root),
        swap_used_bytes: swaps.disk.map(|swap| swap.used),
        zram_used_bytes: swaps.zram.map(|swap| swap.used),
    }
}

fn board(root: &Path) -> Option<String> {
    text(root, "proc/device-tree/model").or_else(|| {
        let vendor = text(root, "sys/devices/virtual/dmi/id/sys_vendor");
        let product = text(root, "sys/devices/virtual/dmi/id/product_name")?;
        Some(match vendor {
            Some(vendor) if !product.starts_with(&vendor) => format!("{vendor} {product}"),
            _ => product,
        })
    })
}

fn arm_core(implementer: String, part: String) -> Option<String> {
    Some(format!("Arm implementer {implementer} part {part}"))
}

fn os(root: &Path) -> String {
    let release = text(root, "etc/os-release").unwrap_or_default();
    release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_else(|| std::env::consts::OS.into())
}

fn meminfo(root: &Path, name: &str) -> Option<u64> {
    let text = text(root, "proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn max_khz(root: &Path) -> Option<u64> {
    names(root, "sys/devices/system/cpu")
        .iter()
        .filter(|name| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok()))
        .filter_map(|name| number(root, &format!("sys/devices/system/cpu/{name}/cpufreq/scaling_max_freq")))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn jetson() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let cpu = "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nFeatures\t: fp asimd asimddp fphp crc32\n\n";
        write(root.path(), "proc/cpuinfo", &format!("{cpu}{}", cpu.replace(": 0", ": 1")));
        write(root.path(), "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0");
        write(root.path(), "proc/meminfo", "MemTotal:  7802880 kB\nMemAvailable:  5000000 kB\n");
        write(root.path(), "proc/loadavg", "0.52 0.40 0.30 1/300 999\n");
        write(root.path(), "etc/os-release", "NAME=\"Ubuntu\"\nPRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\n");
        write(root.path(), "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n");
        write(root.path(), "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "729600\n");
        write(root.path(), "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1510400\n");
        write(root.path(), "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq", "1728000\n");
        write(root.path(), "sys/class/thermal/thermal_zone0/temp", "48250\n");
        write(root.path(), "sys/class/thermal/thermal_zone1/temp", "-256000\n");
        write(root.path(), "sys/class/hwmon/hwmon1/name", "soctherm_oc\n");
        write(root.path(), "sys/class/hwmon/hwmon1/oc1_event_cnt", "2\n");
        write(root.path(), "sys/class/hwmon/hwmon1/oc3_event_cnt", "40\n");
        write(root.path(), "sys/class/hwmon/hwmon0/name", "ina3221\n");
        root
    }

    #[test]
    fn a_copied_tree_of_a_board_is_read() {
        let root = jetson();
        let print = Fingerprint::read_from(root.path(), 4);
        assert_eq!(print.board, "NVIDIA Jetson Orin Nano Developer Kit");
        assert_eq!(print.cpu_features, ["asimd", "asimddp", "fphp"]);
        assert_eq!((print.cores, print.threads), (2, 4));
        assert_eq!(print.memory_bytes, Some(7_802_880 * 1024));
        assert_eq!(print.os, "Ubuntu 22.04.4 LTS");
        assert_eq!(print.governor.as_deref(), Some("schedutil"));
        assert_eq!(print.max_khz, Some(1_728_000));
        assert_eq!(print.state.temperature_c, Some(48.25));
        assert_eq!(print.state.throttled, Some(42));
        assert_eq!(print.state.load_1m, Some(0.52));
        assert_eq!(print.state.khz, Some(729_600));
        assert!(print.line().contains("Orin Nano") && print.line().contains("schedutil"));
    }

    #[test]
    fn the_key_ignores_what_changes_and_sees_what_is_set() {
        let root = jetson();
        let before = Fingerprint::read_from(root.path(), 1);
        write(root.path(), "sys/class/thermal/thermal_zone0/temp", "71000\n");
        write(root.path(), "proc/loadavg", "3.00 0.40 0.30 1/300 999\n");
        write(root.path(), "sys/class/hwmon/hwmon1/oc3_event_cnt", "41\n");
        write(root.path(), "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1510400\n");
        let after = Fingerprint::read_from(root.path(), 1);
        assert_ne!(before.state, after.state);
        assert_eq!(before.key(), after.key());
        write(root.path(), "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
        assert_ne!(Fingerprint::read_from(root.path(), 1).key(), before.key());
        assert_ne!(Fingerprint::read_from(root.path(), 2).key(), after.key());
    }

    #[test]
    fn an_empty_tree_is_unknown_not_an_error() {
        let root = tempfile::tempdir().unwrap();
        let print = Fingerprint::read_from(root.path(), 1);
        assert_eq!((print.board.as_str(), print.cpu.as_str()), ("unknown", "unknown"));
        assert_eq!(print.state, State::default());
    }
}
