//! What somebody chose on a machine: system release, power mode, limits of clocks.
//!
//! Sources: the kernel's documentation of cpufreq, devfreq and procfs; NVIDIA's Jetson Linux developer guide for
//! `nv_tegra_release` and `nvpmodel`; the releases of JetPack in NVIDIA's archive.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clocks;
use super::files::{cpu_list, names, number, text};

/// What was chosen on a machine. What cannot be read is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Release of Jetson Linux, such as `36.4.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4t: Option<String>,
    /// JetPack, where exactly one belongs to that release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jetpack: Option<String>,
    /// Power mode of `nvpmodel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_mode: Option<Mode>,
    /// Fan profile of `nvpmodel`, such as `quiet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_mode: Option<String>,
    /// CPU clusters that share a clock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterLimits>,
    /// Whether the lowest clock is the highest one, on every cluster and on the GPU where there is one, as after
    /// `jetson_clocks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks_locked: Option<bool>,
    /// Whether clocks above the nominal one are allowed (x86).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boost: Option<bool>,
    /// Cores that are switched off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offline_cpus: Vec<usize>,
    /// Cores that the scheduler leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolated_cpus: Vec<usize>,
    /// The GPU's limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuLimits>,
    /// Version of NVIDIA's kernel driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_driver: Option<String>,
    /// Swap on disks, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Swap in compressed memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zram_bytes: Option<u64>,
    /// Version of the GNU C library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glibc: Option<String>,
    /// Kind of container this runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What Android says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub android: Option<Android>,
}

/// A power mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Its number.
    pub number: u32,
    /// Its name, where the board's table has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Limits of a CPU cluster. Clocks in kHz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLimits {
    /// Cores that share the clock.
    pub cpus: Vec<usize>,
    /// Frequency governor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Lowest clock allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_khz: Option<u64>,
    /// Highest clock allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_khz: Option<u64>,
    /// Highest clock the hardware has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_khz: Option<u64>,
}

/// Limits of a GPU's clock in kHz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuLimits {
    /// Name of its node.
    pub name: String,
    /// Lowest clock allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_khz: Option<u64>,
    /// Highest clock allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_khz: Option<u64>,
}

/// Properties of an Android system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Android {
    /// Release, such as `14`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Level of its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<u32>,
    /// Maker and model of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The SoC's model, such as `SM8650`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soc: Option<String>,
}

impl Settings {
    /// Whether nothing could be read.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The part that must agree before latencies may be mixed. Empty on a machine that has none of it, so that the
    /// identity of plain machines does not depend on it.
    pub(super) fn key(&self) -> String {
        let mut parts = Vec::new();
        if let Some(l4t) = &self.l4t {
            parts.push(format!("l4t {l4t}"));
        }
        if let Some(mode) = &self.power_mode {
            parts.push(format!("mode {} {}", mode.number, mode.name.as_deref().unwrap_or_default()));
        }
        if self.clocks_locked == Some(true) {
            parts.push("clocks locked".into());
        }
        if self.boost == Some(false) {
            parts.push("no boost".into());
        }
        if !self.offline_cpus.is_empty() {
            parts.push(format!("offline {:?}", self.offline_cpus));
        }
        if let Some(driver) = &self.gpu_driver {
            parts.push(format!("driver {driver}"));
        }
        if let Some(android) = &self.android {
            parts.push(format!("android {:?} {:?} {:?}", android.release, android.model, android.soc));
        }
        parts.join("|")
    }
}

pub(super) fn settings(root: &Path) -> Settings {
    let l4t = l4t(root);
    let clusters = clocks::clusters(root);
    let gpu =
        clocks::gpu(root).map(|gpu| GpuLimits { name: gpu.name, min_khz: gpu.min_khz, max_khz: gpu.max_khz });
    let (power_mode, fan_mode) = nvpmodel(root);
    let swaps = swaps(root);
    Settings {
        jetpack: l4t.as_deref().and_then(jetpack).map(str::to_owned),
        l4t,
        power_mode,
        fan_mode,
        clocks_locked: locked(&clusters, gpu.as_ref()),
        clusters,
        boost: boost(root),
        offline_cpus: list(root, "offline"),
        isolated_cpus: list(root, "isolated"),
        gpu,
        gpu_driver: gpu_driver(root),
        swap_bytes: swaps.disk.map(|swap| swap.size),
        zram_bytes: swaps.zram.map(|swap| swap.size),
        glibc: glibc(root),
        container: container(root),
        android: android(root),
    }
}

/// The first line is like `# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ...`.
fn l4t(root: &Path) -> Option<String> {
    let text = text(root, "etc/nv_tegra_release")?;
    let line = text.lines().next()?;
    let major = line.trim_start_matches(['#', ' ']).strip_prefix('R')?.split_whitespace().next()?;
    let revision = line.split("REVISION:").nth(1)?.split(',').next()?.trim();
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    (digits(major) && digits(revision)).then(|| format!("{major}.{revision}"))
}

/// The JetPack of a release of Jetson Linux, for releases that belong to one JetPack alone.
pub fn jetpack(l4t: &str) -> Option<&'static str> {
    const RELEASES: &[(&str, &str)] = &[
        ("32.4.3", "4.4"),
        ("32.4.4", "4.4.1"),
        ("32.5.0", "4.5"),
        ("32.5.1", "4.5.1"),
        ("32.6.1", "4.6"),
        ("32.7.1", "4.6.1"),
        ("32.7.2", "4.6.2"),
        ("32.7.3", "4.6.3"),
        ("32.7.4", "4.6.4"),
        ("32.7.5", "4.6.5"),
        ("32.7.6", "4.6.6"),
        ("35.1.0", "5.0.2"),
        ("35.2.1", "5.1"),
        ("35.3.1", "5.1.1"),
        ("35.4.1", "5.1.2"),
        ("35.5.0", "5.1.3"),
        ("35.6.0", "5.1.4"),
        ("36.3.0", "6.0"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("36.4.4", "6.2.1"),
        ("36.4.7", "6.2.1"),
        ("36.5.0", "6.2.2"),
        ("38.2.0", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
    ];
    RELEASES.iter().find(|(release, _)| *release == l4t).map(|(_, jetpack)| *jetpack)
}

/// Mode and fan profile: `pmode:0002 fmode:fan_mode_quiet`, and `< POWER_MODEL ID=2 NAME=MAXN_SUPER >` in the table.
fn nvpmodel(root: &Path) -> (Option<Mode>, Option<String>) {
    let Some(status) = text(root, "var/lib/nvpmodel/status") else { return (None, None) };
    let field = |name: &str| status.split_whitespace().find_map(|word| word.strip_prefix(name));
    let fan = field("fmode:").map(|mode| mode.trim_start_matches("fan_mode_").to_owned());
    let mode = field("pmode:").and_then(|digits| digits.parse().ok()).map(|number| Mode {
        number,
        name: text(root, "etc/nvpmodel.conf").and_then(|table| mode_name(&table, number)),
    });
    (mode, fan)
}

fn mode_name(table: &str, number: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let words = line.trim().strip_prefix('<')?.trim_end().strip_suffix('>')?;
        let words: Vec<&str> = words.split_whitespace().collect();
        let field = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
        let own = words.contains(&"POWER_MODEL") && field("ID=")?.parse() == Ok(number);
        own.then(|| field("NAME=").map(str::to_owned)).flatten()
    })
}

/// None when no limits can be read.
fn locked(clusters: &[ClusterLimits], gpu: Option<&GpuLimits>) -> Option<bool> {
    let same = |min: Option<u64>, max: Option<u64>| Some(min? == max?);
    let cpus: Vec<bool> =
        clusters.iter().filter_map(|cluster| same(cluster.min_khz, cluster.max_khz)).collect();
    let gpu = gpu.and_then(|gpu| same(gpu.min_khz, gpu.max_khz));
    (!cpus.is_empty()).then(|| cpus.iter().all(|same| *same) && gpu.unwrap_or(true))
}

fn boost(root: &Path) -> Option<bool> {
    let no_turbo = number(root, "sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| off == 0);
    no_turbo.or_else(|| number(root, "sys/devices/system/cpu/cpufreq/boost").map(|on| on == 1))
}

fn list(root: &Path, name: &str) -> Vec<usize> {
    text(root, &format!("sys/devices/system/cpu/{name}")).map(|text| cpu_list(&text)).unwrap_or_default()
}

fn gpu_driver(root: &Path) -> Option<String> {
    text(root, "sys/module/nvidia/version").or_else(|| {
        let text = text(root, "proc/driver/nvidia/version")?;
        let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
        // `... x86_64 Kernel Module  535.183.01  Sun May ...` and `... Open Kernel Module for aarch64  540.4.0  ...`.
        let version =
            |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
        line.split_whitespace().find(version).map(str::to_owned)
    })
}

/// Size and use of swap in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swap {
    pub(super) size: u64,
    pub(super) used: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swaps {
    pub(super) disk: Option<Swap>,
    pub(super) zram: Option<Swap>,
}

/// Lines are `Filename Type Size Used Priority`, sizes in units of 1,024 bytes.
pub(super) fn swaps(root: &Path) -> Swaps {
    let mut swaps = Swaps::default();
    for line in text(root, "proc/swaps").unwrap_or_default().lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bytes = |index: usize| fields.get(index)?.parse::<u64>().ok()?.checked_mul(1024);
        let (Some(name), Some(size), Some(used)) = (fields.first(), bytes(2), bytes(3)) else { continue };
        let kind = if name.contains("zram") { &mut swaps.zram } else { &mut swaps.disk };
        let sum = kind.get_or_insert_default();
        sum.size = sum.size.saturating_add(size);
        sum.used = sum.used.saturating_add(used);
    }
    swaps
}

/// The library states its version in a text of its own: `... stable release version 2.35.`
fn glibc(root: &Path) -> Option<String> {
    use std::io::Read;
    const SAID: &[u8] = b"stable release version ";
    const LIMIT: u64 = 8 << 20;
    const PLACES: [&str; 6] = [
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib/aarch64-linux-gnu/libc.so.6",
        "lib64/libc.so.6",
        "usr/lib/libc.so.6",
        "lib64/ld-linux-x86-64.so.2",
        "lib/ld-linux-aarch64.so.1",
    ];
    PLACES.iter().find_map(|place| {
        let mut bytes = Vec::new();
        std::fs::File::open(root.join(place)).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
        let start = bytes.windows(SAID.len()).position(|window| window == SAID)? + SAID.len();
        let version: String = bytes
            .get(start..)?
            .iter()
            .take(16)
            .map(|byte| char::from(*byte))
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let version = version.trim_end_matches('.').to_owned();
        (!version.is_empty()).then_some(version)
    })
}

fn container(root: &Path) -> Option<String> {
    let is_there = |path: &str| root.join(path).exists();
    if is_there(".dockerenv") {
        return Some("docker".into());
    }
    if is_there("run/.containerenv") {
        return Some("podman".into());
    }
    let groups = text(root, "proc/1/cgroup")?;
    ["kubepods", "docker", "lxc"].iter().find(|kind| groups.contains(**kind)).map(|kind| (*kind).to_owned())
}

/// Lines are `key=value`. Many systems do not let programs read them.
fn android(root: &Path) -> Option<Android> {
    let files = ["system/build.prop", "vendor/build.prop"];
    let text: Vec<String> = files.iter().filter_map(|file| text(root, file)).collect();
    if text.is_empty() {
        return None;
    }
    let property = |names: &[&str]| {
        names.iter().find_map(|name| {
            let mut lines = text.iter().flat_map(|text| text.lines());
            let value = lines.find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
            (!value.trim().is_empty()).then(|| value.trim().to_owned())
        })
    };
    let maker = property(&["ro.product.manufacturer", "ro.product.system.manufacturer"]);
    let model = property(&["ro.product.model", "ro.product.system.model", "ro.product.vendor.model"]);
    let found = Android {
        release: property(&["ro.build.version.release"]),
        sdk: property(&["ro.build.version.sdk"]).and_then(|level| level.parse().ok()),
        model: match (maker, model) {
            (Some(maker), Some(model)) if !model.starts_with(&maker) => Some(format!("{maker} {model}")),
            (_, model) => model,
        },
        soc: property(&["ro.soc.model", "ro.board.platform"]),
    };
    (found != Android::default()).then_some(found)
}

/// Names of hwmon chips and their folders, in order.
pub(super) fn chips(root: &Path) -> Vec<(String, String)> {
    names(root, "sys/class/hwmon")
        .into_iter()
        .filter_map(|name| {
            let folder = format!("sys/class/hwmon/{name}");
            Some((text(root, &format!("{folder}/name"))?, folder))
        })
        .collect()
}
