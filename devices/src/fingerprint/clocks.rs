//! Clocks of CPU clusters, GPU and memory.
//!
//! Sources: the kernel's documentation of cpufreq (`policy*`) and devfreq; names of GPU and memory nodes as Jetson Linux,
//! Android and i915 have them.

use std::path::Path;

use super::files::{cpu_list, cpu_ranges, names, number, text};
use super::settings::ClusterLimits;
use super::state::ClockNow;

const POLICIES: &str = "sys/devices/system/cpu/cpufreq";
const DEVFREQ: &str = "sys/class/devfreq";

/// Parts of the names that devfreq nodes of GPUs have: Jetson's, Qualcomm's, Arm's and Broadcom's.
const GPUS: [&str; 8] = ["gpu", "ga10b", "gv11b", "gp10b", "gm20b", "kgsl", "mali", "v3d"];

/// A GPU's clocks in kHz.
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) khz: Option<u64>,
    pub(super) min_khz: Option<u64>,
    pub(super) max_khz: Option<u64>,
}

/// CPU clusters. Without cpufreq there are none.
pub(super) fn clusters(root: &Path) -> Vec<ClusterLimits> {
    policies(root)
        .into_iter()
        .map(|folder| ClusterLimits {
            cpus: cores_of(root, &folder),
            governor: text(root, &format!("{folder}/scaling_governor")),
            min_khz: number(root, &format!("{folder}/scaling_min_freq")),
            max_khz: number(root, &format!("{folder}/scaling_max_freq")),
            hardware_khz: number(root, &format!("{folder}/cpuinfo_max_freq")),
        })
        .collect()
}

fn policies(root: &Path) -> Vec<String> {
    names(root, POLICIES)
        .into_iter()
        .filter(|name| name.starts_with("policy"))
        .map(|name| format!("{POLICIES}/{name}"))
        .collect()
}

/// `affected_cpus` is a list with spaces.
fn cores_of(root: &Path, folder: &str) -> Vec<usize> {
    let list = text(root, &format!("{folder}/affected_cpus"))
        .or_else(|| text(root, &format!("{folder}/related_cpus")));
    cpu_list(&list.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(","))
}

/// The GPU: a devfreq node, else the i915 driver's files.
pub(super) fn gpu(root: &Path) -> Option<Gpu> {
    let nodes = names(root, DEVFREQ);
    let node = nodes.iter().find(|name| GPUS.iter().any(|part| name.contains(part)));
    if let Some(name) = node {
        let khz = |file: &str| number(root, &format!("{DEVFREQ}/{name}/{file}")).map(|hz| hz / 1000);
        return Some(Gpu {
            name: name.clone(),
            khz: khz("cur_freq"),
            min_khz: khz("min_freq"),
            max_khz: khz("max_freq"),
        });
    }
    let card = names(root, "sys/class/drm")
        .into_iter()
        .find(|name| root.join(format!("sys/class/drm/{name}/gt_cur_freq_mhz")).exists())?;
    let khz = |file: &str| {
        number(root, &format!("sys/class/drm/{card}/{file}")).and_then(|mhz| mhz.checked_mul(1000))
    };
    Some(Gpu {
        khz: khz("gt_cur_freq_mhz"),
        min_khz: khz("gt_min_freq_mhz"),
        max_khz: khz("gt_max_freq_mhz"),
        name: card,
    })
}

/// The memory's clock and its highest, in kHz. Most systems show it to the superuser alone.
fn memory(root: &Path) -> Option<(u64, Option<u64>)> {
    const PLACES: [(&str, &str); 3] = [
        // Xavier and Orin; TX2 and Nano; boards with a bandwidth manager under devfreq.
        ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/bpmp/debug/clk/emc/max_rate"),
        ("sys/kernel/debug/clk/emc/clk_rate", "sys/kernel/debug/clk/emc/clk_max_rate"),
        ("sys/class/devfreq/bwmgr/cur_freq", "sys/class/devfreq/bwmgr/max_freq"),
    ];
    PLACES
        .iter()
        .find_map(|(rate, max)| Some((number(root, rate)? / 1000, number(root, max).map(|hz| hz / 1000))))
}

/// All clocks as they are.
pub(super) fn now(root: &Path) -> Vec<ClockNow> {
    let mut clocks = Vec::new();
    for folder in policies(root) {
        let read = |file: &str| number(root, &format!("{folder}/{file}"));
        // What the hardware says, where it may be read, over what was asked of it: a Raspberry Pi's firmware lowers the
        // clock behind the system's back.
        let Some(khz) = read("cpuinfo_cur_freq").or_else(|| read("scaling_cur_freq")) else { continue };
        let limit_khz = read("scaling_max_freq");
        clocks.push(ClockNow {
            name: format!("cpu {}", cpu_ranges(&cores_of(root, &folder))),
            khz,
            held: limit_khz.is_some() && read("scaling_min_freq") == limit_khz,
            limit_khz,
        });
    }
    if let Some(gpu) = gpu(root)
        && let Some(khz) = gpu.khz
    {
        clocks.push(ClockNow {
            name: format!("gpu {}", gpu.name),
            khz,
            held: gpu.max_khz.is_some() && gpu.min_khz == gpu.max_khz,
            limit_khz: gpu.max_khz,
        });
    }
    if let Some((khz, limit_khz)) = memory(root) {
        clocks.push(ClockNow { name: "memory".into(), khz, limit_khz, held: false });
    }
    clocks
}
