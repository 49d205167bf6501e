//! A device of the catalogue: plain data, each value with its source.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A device of the catalogue.
///
/// Peaks and bandwidths are what vendors print, or follow from it; they are priors and never measurements. The
/// TOML form of a device file is this structure, and a key that it lacks is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name on the command line.
    pub name: String,
    /// Other names for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// One line for people.
    pub description: String,
    /// Group of devices that one word may stand for, such as `jetson`.
    pub family: String,
    /// CPU architecture, such as `aarch64`.
    pub architecture: String,
    /// How it is usually reached: `local`, `ssh`, `adb`, `tcp`, `docker`, or `none` where nothing of this program runs
    /// there and profiles are imported.
    pub transport: String,
    /// Other ways to reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_reached: Vec<String>,
    /// Engines that exist for it, whether or not they can be used at the moment. Empty where no engine of this
    /// program runs there.
    #[serde(default)]
    pub engines: Vec<String>,
    /// Execution providers of ONNX Runtime that exist for it; the library on the device decides which it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<String>,
    /// Parts of the device tree's `model` text by which a connected board is known, in any case. The longest
    /// match in the catalogue wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Parts of the CPU's name by which a machine without a device tree is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_models: Vec<String>,
    /// The CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Accelerator>,
    /// A unit for neural networks alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npu: Option<Accelerator>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Power modes the vendor ships, in the vendor's order.
    #[serde(default, rename = "power_mode", skip_serializing_if = "Vec::is_empty")]
    pub power_modes: Vec<PowerMode>,
    /// The newest ONNX Runtime each system takes.
    #[serde(default, rename = "runtime", skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<Runtime>,
    /// What else a person should know.
    #[serde(default, rename = "note", skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Fact<String>>,
    /// Where the values come from, by the keys that facts name.
    #[serde(default, rename = "source", skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, Source>,
    /// The file it was read from; none for a device of the built-in catalogue.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// One value with its unit and the key of its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Unit, empty for texts and counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Key in [`Device::sources`].
    pub source: String,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Title, and what was read there.
    pub text: String,
    /// Address, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Month it was looked up, `YYYY-MM`.
    pub date: String,
    /// How sure the values are.
    pub confidence: Confidence,
}

/// How sure a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Read at the named source.
    Verified,
    /// Follows by arithmetic from other values of the file; no surer than they are.
    Derived,
    /// General knowledge of the field; the source was not read again.
    Unverified,
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Confidence::Verified => "verified",
            Confidence::Derived => "derived",
            Confidence::Unverified => "unverified",
        })
    }
}

/// A CPU as clusters of equal cores, the fastest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Its clusters.
    #[serde(rename = "cluster")]
    pub clusters: Vec<Cluster>,
}

/// Equal cores. The rates are operations per clock and core, where a multiply-add counts as two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name of the core, such as `Cortex-A76`.
    pub core: Fact<String>,
    /// Number of cores.
    pub cores: Fact<u32>,
    /// Highest clock in MHz.
    pub mhz: Fact<f64>,
    /// Rate in float32, `FLOP/cycle`.
    pub fp32: Fact<f64>,
    /// Rate in float16, `FLOP/cycle`; none where it does not compute in float16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16: Option<Fact<f64>>,
    /// Rate in int8 with 32-bit sums, `OP/cycle`; none where no such instruction is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Fact<f64>>,
}

/// A GPU or a unit for neural networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// What it is.
    pub model: Fact<String>,
    /// Clock in MHz that the peaks hold at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mhz: Option<Fact<f64>>,
    /// CUDA compute capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<Fact<String>>,
    /// Peaks without regard to sparsity.
    pub peak: Peaks,
    /// Peaks that need half of the weights to be zero in a fixed pattern; never used for a prior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Peaks>,
}

/// Peaks by precision, in `TFLOPS` or `TOPS`; none where the unit cannot compute in it, or it is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peaks {
    /// Float32, `TFLOPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp32: Option<Fact<f64>>,
    /// Float16, `TFLOPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16: Option<Fact<f64>>,
    /// Int8, `TOPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Fact<f64>>,
}

/// Memory that CPU and GPU share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Size of the usual variant in `bytes`.
    pub bytes: Fact<u64>,
    /// Peak bandwidth in `GB/s`.
    pub bandwidth: Fact<f64>,
    /// What programs are known to reach, in `GB/s`, where that is far below the peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practical: Option<Fact<f64>>,
}

/// A power mode. What it does not name it leaves at its highest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerMode {
    /// The vendor's name.
    pub name: String,
    /// Number for `nvpmodel -m`, where the system has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Power budget in `W`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<Fact<f64>>,
    /// CPU cores that stay on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<Fact<u32>>,
    /// Highest CPU clock in MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_mhz: Option<Fact<f64>>,
    /// Highest GPU clock in MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_mhz: Option<Fact<f64>>,
    /// Highest memory bandwidth in `GB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Fact<f64>>,
}

/// The newest ONNX Runtime that a system takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// System, such as `JetPack 6.2`.
    pub system: String,
    /// Releases of Jetson Linux it stands for: `35`, or `36.4` for 36.4 and its revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l4t: Option<String>,
    /// Version.
    pub onnxruntime: Fact<String>,
    /// Why not a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// One line of what the catalogue knows of a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Path of the value, such as `memory.bandwidth`.
    pub name: String,
    /// The value as text.
    pub value: String,
    /// Unit, empty for texts and counts.
    pub unit: String,
    /// Key of the source in [`Device::sources`].
    pub key: String,
    /// Where it comes from.
    pub source: String,
    /// Month it was looked up.
    pub date: String,
    /// How sure it is.
    pub confidence: Confidence,
}

impl Device {
    /// Every sourced value as a line, in the order of the file.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.each_fact(&mut |name, value, unit, key| {
            let Some(source) = self.sources.get(key) else { return };
            rows.push(Row {
                name,
                value,
                unit: unit.to_owned(),
                key: key.to_owned(),
                source: match &source.url {
                    Some(url) => format!("{} ({url})", source.text),
                    None => source.text.clone(),
                },
                date: source.date.clone(),
                confidence: source.confidence,
            });
        });
        rows
    }

    /// Its name and aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// Whether `name` is its name or an alias, in any case.
    pub fn is_called(&self, name: &str) -> bool {
        self.names().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The row that says which ONNX Runtime a release of Jetson Linux takes: the most exact one wins.
    ///
    /// `l4t` is a release such as `36.4.3`.
    pub fn runtime_for(&self, l4t: &str) -> Option<&Runtime> {
        let covers = |row: &&Runtime| {
            row.l4t.as_deref().is_some_and(|own| {
                l4t.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        self.runtimes.iter().filter(covers).max_by_key(|row| row.l4t.as_ref().map_or(0, String::len))
    }

    /// The power mode called `name`, in any case.
    pub fn power_mode(&self, name: &str) -> Option<&PowerMode> {
        self.power_modes.iter().find(|mode| mode.name.eq_ignore_ascii_case(name))
    }

    /// Calls `visit` with the path, value, unit and source key of every fact.
    pub(super) fn each_fact(&self, visit: &mut dyn FnMut(String, String, &str, &str)) {
        let mut visit = Visitor(visit);
        for (index, cluster) in self.cpu.iter().flat_map(|cpu| &cpu.clusters).enumerate() {
            let at = |field: &str| format!("cpu.cluster.{index}.{field}");
            visit.fact(at("core"), &cluster.core);
            visit.fact(at("cores"), &cluster.cores);
            visit.fact(at("mhz"), &cluster.mhz);
            visit.fact(at("fp32"), &cluster.fp32);
            visit.some(at("fp16"), &cluster.fp16);
            visit.some(at("int8"), &cluster.int8);
        }
        for (name, unit) in [("gpu", &self.gpu), ("npu", &self.npu)] {
            let Some(unit) = unit else { continue };
            visit.fact(format!("{name}.model"), &unit.model);
            visit.some(format!("{name}.mhz"), &unit.mhz);
            visit.some(format!("{name}.compute_capability"), &unit.compute_capability);
            for (kind, peaks) in [("peak", Some(&unit.peak)), ("sparse", unit.sparse.as_ref())] {
                let Some(peaks) = peaks else { continue };
                visit.some(format!("{name}.{kind}.fp32"), &peaks.fp32);
                visit.some(format!("{name}.{kind}.fp16"), &peaks.fp16);
                visit.some(format!("{name}.{kind}.int8"), &peaks.int8);
            }
        }
        if let Some(memory) = &self.memory {
            visit.fact("memory.bytes".into(), &memory.bytes);
            visit.fact("memory.bandwidth".into(), &memory.bandwidth);
            visit.some("memory.practical".into(), &memory.practical);
        }
        for mode in &self.power_modes {
            let at = |field: &str| format!("power_mode.{}.{field}", mode.name);
            visit.some(at("watts"), &mode.watts);
            visit.some(at("cores"), &mode.cores);
            visit.some(at("cpu_mhz"), &mode.cpu_mhz);
            visit.some(at("gpu_mhz"), &mode.gpu_mhz);
            visit.some(at("bandwidth"), &mode.bandwidth);
        }
        for row in &self.runtimes {
            visit.fact(format!("runtime.{}.onnxruntime", row.system), &row.onnxruntime);
        }
        for note in &self.notes {
            visit.fact("note".into(), note);
        }
    }
}

/// What is called with path, value, unit and source key of a fact.
struct Visitor<'a>(&'a mut dyn FnMut(String, String, &str, &str));

impl Visitor<'_> {
    fn fact<T: std::fmt::Display>(&mut self, name: String, fact: &Fact<T>) {
        (self.0)(name, fact.value.to_string(), &fact.unit, &fact.source);
    }

    fn some<T: std::fmt::Display>(&mut self, name: String, fact: &Option<Fact<T>>) {
        if let Some(fact) = fact {
            self.fact(name, fact);
        }
    }
}
