//! What can run a plan on this machine.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::{AdapterClass, Target};

/// Kind of hardware behind an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card with its own memory.
    Discrete,
    /// A graphics processor that shares the main memory.
    Integrated,
    /// A graphics processor lent by a host machine.
    Virtual,
    /// Not known.
    Other,
    /// A driver that runs shaders on the CPU.
    Software,
}

/// One adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its place in the list; names it in [`Options::adapter`](super::Options).
    pub index: usize,
    /// Its name, as the driver gives it.
    pub name: String,
    /// The interface: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
    /// Kind of hardware.
    pub kind: AdapterKind,
    /// Limits and features, as plans see them.
    pub target: Target,
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, self.driver)
    }
}

/// The adapters of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Adapters;

impl Adapters {
    /// All adapters, hardware first, in an order that does not change between calls.
    pub fn list() -> Vec<Adapter> {
        found().into_iter().map(|(info, _)| info).collect()
    }
}

const BACKENDS: wgpu::Backends =
    wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// The adapters, found once: looking costs tens of milliseconds and opens every driver. A machine
/// without any is looked at again.
fn found() -> Vec<(Adapter, wgpu::Adapter)> {
    static FOUND: Mutex<Vec<(Adapter, wgpu::Adapter)>> = Mutex::new(Vec::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found.is_empty() {
        *found = look();
    }
    found.clone()
}

fn look() -> Vec<(Adapter, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut all: Vec<(Adapter, wgpu::Adapter)> = pollster::block_on(instance.enumerate_adapters(BACKENDS))
        .into_iter()
        .map(|adapter| (describe(&adapter.get_info(), &adapter.limits(), adapter.features()), adapter))
        .collect();
    all.sort_by(|(a, _), (b, _)| (a.kind, &a.name, &a.backend).cmp(&(b.kind, &b.name, &b.backend)));
    for (index, (info, _)) in all.iter_mut().enumerate() {
        info.index = index;
    }
    all
}

/// An adapter, seen through the limits and features of itself or of a device opened on it.
pub(super) fn describe(info: &wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features) -> Adapter {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Other,
    };
    let class = if kind == AdapterKind::Software { AdapterClass::Software } else { AdapterClass::Gpu };
    let target = Target {
        class,
        max_buffer_size: limits.max_buffer_size,
        max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
        max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
        max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        max_compute_invocations_per_workgroup: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        subgroup_size: if info.subgroup_min_size == info.subgroup_max_size {
            info.subgroup_min_size
        } else {
            0
        },
        f16: features.contains(wgpu::Features::SHADER_F16),
    };
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
    let backend = format!("{:?}", info.backend).to_lowercase();
    Adapter { index: 0, name: info.name.clone(), backend, driver, kind, target }
}

/// The adapter that `wanted` names (by index or by a part of its name), or the first.
pub(super) fn choose(wanted: Option<&str>, allow_software: bool) -> Result<(Adapter, wgpu::Adapter)> {
    let all = found();
    let names: Vec<String> = all.iter().map(|(a, _)| format!("{} '{}'", a.index, a.name)).collect();
    let next = if all.is_empty() {
        "install a Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers)".to_owned()
    } else {
        format!("choose one of: {}", names.join(", "))
    };
    let Some(wanted) = wanted else {
        let first = all.into_iter().find(|(a, _)| allow_software || a.kind != AdapterKind::Software);
        let missing = if allow_software { "was found" } else { "of hardware was found" };
        let next = if names.is_empty() { next } else { format!("allow software adapters, or {next}") };
        return first.ok_or_else(|| Error::NoAdapter { wanted: missing.to_owned(), next });
    };
    let index = wanted.parse::<usize>().ok();
    let lower = wanted.to_lowercase();
    all.into_iter()
        .find(|(a, _)| match index {
            Some(index) => a.index == index,
            None => a.name.to_lowercase().contains(&lower),
        })
        .ok_or_else(|| match names.is_empty() {
            // Then no name would do.
            true => Error::NoAdapter { wanted: format!("is called '{wanted}'"), next },
            false => Error::UnknownAdapter { name: wanted.to_owned(), next },
        })
}
