//! A coarse estimate of a latency from a device's peaks and bandwidth, for when nothing was measured yet.
//!
//! The estimate is a roofline (Williams, Waterman and Patterson, 2009) on a graph's [`Features`]: each kind of operation
//! takes the longer of its arithmetic at the peak and its memory traffic at the bandwidth, plus a fixed cost for each
//! start of an operation. Real engines reach a part of the peak that differs by engine, precision and shape; the parts
//! used here are assumptions, named below, and the range says what has been seen to go wrong with them. On published
//! latencies of vision transformers the middle is off by less than a third on one Jetson and on one core of a phone, and by up
//! to eight times on Raspberry Pis, under an engine that computes float16 files in float32 with an unknown number of threads.

use masktas_runtime::Features;
use masktas_runtime::graph::FEATURES_VERSION;
use serde::{Deserialize, Serialize};

use super::device::{Device, Fact, Peaks, PowerMode};
use crate::error::{Error, Result};

/// Part of the arithmetic peak that products reach in the middle estimate. DeiT models of three sizes reached 52 to 67 % of
/// it on one large core of a phone; the figure for GPUs fits one vision transformer under TensorRT in float16.
const REACHED: [(Processor, f64); 3] =
    [(Processor::Cpu, 0.55), (Processor::Gpu, 0.35), (Processor::Npu, 0.15)];
/// Part of the peak bandwidth that traffic reaches in the middle estimate.
const MOVED: f64 = 0.6;
/// Seconds to start one operation in the middle estimate. Engines merge some operations and split others.
const STARTED: [(Processor, f64); 3] =
    [(Processor::Cpu, 3e-6), (Processor::Gpu, 5e-6), (Processor::Npu, 5e-6)];
/// How many times the middle the truth has been seen to be.
const WORSE: [(Processor, f64); 3] = [(Processor::Cpu, 10.0), (Processor::Gpu, 4.0), (Processor::Npu, 10.0)];

/// An estimate that was not measured. It is a type of its own so that it cannot pass for a measurement or for a
/// prediction of a fitted model; all times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prior {
    /// Middle of the estimate.
    pub ms: f64,
    /// What no engine can beat: all arithmetic at the peak, and the weights read once at the peak bandwidth.
    pub low: f64,
    /// What a poor engine has been seen to need.
    pub high: f64,
    /// Device.
    pub device: String,
    /// What it assumes, one line for people.
    pub assumes: String,
}

impl std::fmt::Display for Prior {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ms ({:.3} to {:.3}; prior, not measured)", self.ms, self.low, self.high)
    }
}

/// Which part of the device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processor {
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU.
    Gpu,
    /// The unit for neural networks.
    Npu,
}

impl Processor {
    /// What an engine computes on under an execution provider of ONNX Runtime; `None` where that is not certain, as for
    /// CoreML and OpenVINO, which choose themselves.
    pub fn of(engine: &str, provider: &str) -> Option<Self> {
        match (engine, provider) {
            ("tract", _) => Some(Processor::Cpu),
            ("wgpu", _) => Some(Processor::Gpu),
            (_, "cpu" | "CPUExecutionProvider" | "xnnpack" | "XnnpackExecutionProvider") => {
                Some(Processor::Cpu)
            }
            (_, "cuda" | "CUDAExecutionProvider" | "tensorrt" | "TensorrtExecutionProvider") => {
                Some(Processor::Gpu)
            }
            (_, "webgpu" | "WebGpuExecutionProvider") => Some(Processor::Gpu),
            (_, "qnn" | "QNNExecutionProvider") => Some(Processor::Npu),
            _ => None,
        }
    }
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Processor::Cpu => "CPU",
            Processor::Gpu => "GPU",
            Processor::Npu => "NPU",
        })
    }
}

/// Number format of arithmetic and traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Float32.
    #[default]
    Fp32,
    /// Float16.
    Fp16,
    /// Int8.
    Int8,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
            Precision::Int8 => "int8",
        })
    }
}

/// How the model would be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorOptions {
    /// What computes.
    pub processor: Processor,
    /// In which format.
    pub precision: Precision,
    /// Threads on the CPU, on the fastest cores; 0 for all cores of the fastest cluster.
    pub threads: usize,
    /// Power mode of the device; its highest clocks without one.
    pub power_mode: Option<String>,
}

/// Estimates the latency of one run of a graph in float32 whose cost is `features`.
///
/// # Errors
/// [`Error::NoPrior`] when the catalogue lacks the peak, the bandwidth or the power mode; [`Error::InvalidFeatures`]
/// for features of another version.
pub fn prior(device: &Device, features: &Features, options: &PriorOptions) -> Result<Prior> {
    if features.version != FEATURES_VERSION {
        return Err(Error::InvalidFeatures {
            reason: format!("they have version {}, and {FEATURES_VERSION} is expected", features.version),
        });
    }
    let lacks = |what: String| Error::NoPrior { device: device.name.clone(), what };
    let mode = match &options.power_mode {
        Some(name) => Some(device.power_mode(name).ok_or_else(|| lacks(format!("power mode `{name}`")))?),
        None => None,
    };
    let what = || format!("{} peak in {}", options.processor, options.precision);
    let peak = peak(device, options, mode).ok_or_else(|| lacks(what()))?;
    let (bandwidth, practical) = bandwidth(device, mode).ok_or_else(|| lacks("memory bandwidth".into()))?;

    let width = match options.precision {
        Precision::Fp32 => 1.0,
        Precision::Fp16 => 0.5,
        Precision::Int8 => 0.25,
    };
    let term = |name: &str| features.get(name).unwrap_or(0.0);
    let of = |table: &[(Processor, f64); 3]| {
        table.iter().find(|(own, _)| *own == options.processor).map_or(1.0, |(_, value)| *value)
    };
    let (rate, traffic) = (peak * of(&REACHED), practical.unwrap_or(bandwidth * MOVED));
    // Kinds are those of the features that compute or move; a view does neither.
    let kinds = features.names.iter().filter_map(|name| name.strip_suffix(".bytes"));
    let middle: f64 = kinds
        .filter(|kind| *kind != "total" && *kind != "view")
        .map(|kind| {
            let arithmetic = term(&format!("{kind}.flops")) / rate;
            arithmetic.max(term(&format!("{kind}.bytes")) * width / traffic)
        })
        .sum();
    let middle = middle + term("total.launches") * of(&STARTED);
    let low = (term("total.flops") / peak).max(term("total.weight_bytes") * width / bandwidth);

    let mode = mode.map_or_else(|| "highest clocks".to_owned(), |mode| format!("power mode {}", mode.name));
    let assumes = format!(
        "{} in {} at {mode}: {:.3} TFLOPS and {:.1} GB/s at peak, of which {:.0} % and {:.0} % are taken as reached",
        options.processor,
        options.precision,
        peak / 1e12,
        bandwidth / 1e9,
        100.0 * of(&REACHED),
        100.0 * traffic / bandwidth
    );
    Ok(Prior {
        ms: middle.max(low) * 1e3,
        low: low * 1e3,
        high: middle.max(low) * of(&WORSE) * 1e3,
        device: device.name.clone(),
        assumes,
    })
}

/// Operations per second.
fn peak(device: &Device, options: &PriorOptions, mode: Option<&PowerMode>) -> Option<f64> {
    match options.processor {
        Processor::Cpu => cpu_peak(device, options, mode),
        Processor::Gpu => {
            let gpu = device.gpu.as_ref()?;
            let full = of_precision(&gpu.peak, options.precision)? * 1e12;
            let lowered = mode.and_then(|mode| Some(mode.gpu_mhz.as_ref()?.value / gpu.mhz.as_ref()?.value));
            Some(full * lowered.unwrap_or(1.0).min(1.0))
        }
        Processor::Npu => Some(of_precision(&device.npu.as_ref()?.peak, options.precision)? * 1e12),
    }
}

fn cpu_peak(device: &Device, options: &PriorOptions, mode: Option<&PowerMode>) -> Option<f64> {
    let clusters = &device.cpu.as_ref()?.clusters;
    let on = mode.and_then(|mode| mode.cores.as_ref()).map_or(usize::MAX, |cores| cores.value as usize);
    let limit = mode.and_then(|mode| mode.cpu_mhz.as_ref()).map_or(f64::INFINITY, |mhz| mhz.value);
    let wanted = match options.threads {
        0 => clusters.first()?.cores.value as usize,
        threads => threads,
    };
    let mut left = wanted.min(on);
    let mut sum = 0.0;
    for cluster in clusters {
        let rate = match options.precision {
            Precision::Fp32 => Some(&cluster.fp32),
            Precision::Fp16 => cluster.fp16.as_ref(),
            Precision::Int8 => cluster.int8.as_ref(),
        };
        let taken = left.min(cluster.cores.value as usize);
        if taken == 0 {
            break;
        }
        sum += taken as f64 * cluster.mhz.value.min(limit) * 1e6 * rate?.value;
        left -= taken;
    }
    (sum > 0.0).then_some(sum)
}

fn of_precision(peaks: &Peaks, precision: Precision) -> Option<f64> {
    let fact: Option<&Fact<f64>> = match precision {
        Precision::Fp32 => peaks.fp32.as_ref(),
        Precision::Fp16 => peaks.fp16.as_ref(),
        Precision::Int8 => peaks.int8.as_ref(),
    };
    fact.map(|fact| fact.value)
}

/// Bytes per second: the peak, and what programs are known to reach.
fn bandwidth(device: &Device, mode: Option<&PowerMode>) -> Option<(f64, Option<f64>)> {
    let memory = device.memory.as_ref()?;
    let limit = mode.and_then(|mode| mode.bandwidth.as_ref()).map_or(f64::INFINITY, |fact| fact.value);
    let giga = |fact: &Fact<f64>| fact.value.min(limit) * 1e9;
    Some((giga(&memory.bandwidth), memory.practical.as_ref().map(giga)))
}
