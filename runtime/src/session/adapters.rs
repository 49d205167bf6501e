//! What can run a plan on this machine.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::{AdapterClass, CooperativeSizes, Target};

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
    /// Limits and features, as plans see them. Cooperative matrices are none of them: kernels use these only where they are
    /// asked for.
    pub target: Target,
    /// Cooperative matrices that it reports and kernels here can use; of an open device, those it was opened with.
    #[serde(default, skip_serializing_if = "CooperativeSizes::is_none")]
    pub cooperative: CooperativeSizes,
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
        .map(|adapter| (describe(&adapter, &adapter.limits(), adapter.features()), adapter))
        .collect();
    all.sort_by(|(a, _), (b, _)| (a.kind, &a.name, &a.backend).cmp(&(b.kind, &b.name, &b.backend)));
    for (index, (info, _)) in all.iter_mut().enumerate() {
        info.index = index;
    }
    all
}

/// An adapter, seen through the limits and features of itself or of a device opened on it.
pub(super) fn describe(adapter: &wgpu::Adapter, limits: &wgpu::Limits, features: wgpu::Features) -> Adapter {
    let info = adapter.get_info();
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
        cooperative: CooperativeSizes::NONE,
    };
    let cooperative = usable(&adapter.cooperative_matrix_properties(), features);
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
    let backend = format!("{:?}", info.backend).to_lowercase();
    Adapter { index: 0, name: info.name.clone(), backend, driver, kind, target, cooperative }
}

/// Of the cooperative matrices that an adapter reports those that kernels here use: square, and summed in 32-bit floats. A shader
/// must be able to tell its subgroup's number, too.
fn usable(reported: &[wgpu::CooperativeMatrixProperties], features: wgpu::Features) -> CooperativeSizes {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP) {
        return CooperativeSizes::NONE;
    }
    let has = |element: wgpu::CooperativeScalarType, side: u32| {
        reported.iter().any(|one| {
            [one.m_size, one.n_size, one.k_size] == [side; 3]
                && (one.ab_type, one.cr_type) == (element, F32)
                && !one.saturating_accumulation
        })
    };
    // The size that is common for each kind of element comes first.
    let first = |element, sides: [u32; 2]| sides.into_iter().find(|side| has(element, *side)).unwrap_or(0);
    let half = features.contains(wgpu::Features::SHADER_F16);
    CooperativeSizes { f32: first(F32, [8, 16]), f16: if half { first(F16, [16, 8]) } else { 0 } }
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

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::CooperativeScalarType::{F16, F32, I32};

    fn reported(
        sizes: [u32; 3],
        ab_type: wgpu::CooperativeScalarType,
        cr_type: wgpu::CooperativeScalarType,
    ) -> wgpu::CooperativeMatrixProperties {
        let [m_size, n_size, k_size] = sizes;
        wgpu::CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        }
    }

    /// Only exactly what the kernels are written for is taken.
    #[test]
    fn usable_matrices_are_square_and_summed_in_32_bits() {
        let all = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16;
        let sizes = |f32, f16| CooperativeSizes { f32, f16 };
        let apple = [reported([8; 3], F32, F32), reported([8; 3], F16, F16), reported([8; 3], F16, F32)];
        let nvidia =
            [reported([16; 3], F16, F16), reported([16, 8, 16], F16, F32), reported([16; 3], F16, F32)];
        assert_eq!(usable(&apple, all), sizes(8, 8));
        assert_eq!(usable(&nvidia, all), sizes(0, 16));
        assert_eq!(usable(&nvidia[..2], all), CooperativeSizes::NONE);
        assert_eq!(usable(&[reported([16; 3], I32, I32)], all), CooperativeSizes::NONE);
        let saturating =
            wgpu::CooperativeMatrixProperties { saturating_accumulation: true, ..reported([8; 3], F32, F32) };
        assert_eq!(usable(&[saturating], all), CooperativeSizes::NONE);
        assert_eq!(usable(&apple, all - wgpu::Features::SHADER_F16), sizes(8, 0));
        for missing in [wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, wgpu::Features::SUBGROUP] {
            assert_eq!(usable(&apple, all - missing), CooperativeSizes::NONE);
        }
    }
}
