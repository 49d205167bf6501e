//! What a plan is made for: limits and features as plain data, never a live adapter.

use serde::{Deserialize, Serialize};

/// Kind of adapter, which decides between kernel variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterClass {
    /// A driver that runs shaders on the CPU: registers pay, barriers and workgroup memory do not.
    Software,
    /// A graphics processor: workgroup tiles and parallel reductions pay.
    Gpu,
}

/// Sides of the square cooperative matrices that kernels may multiply; 0 where there are none. Sums are 32-bit floats with either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CooperativeSizes {
    /// Of 32-bit floats.
    pub f32: u32,
    /// Of 16-bit floats, for weights that are kept in 16 bits where there are no matrices of 32-bit floats. The rows they are
    /// multiplied with are rounded to 16 bits as well.
    pub f16: u32,
}

impl CooperativeSizes {
    /// No matrices at all.
    pub const NONE: CooperativeSizes = CooperativeSizes { f32: 0, f16: 0 };

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == CooperativeSizes::NONE
    }
}

/// What kernels and buffers may use. The names are those of WebGPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Which kernel variants to use.
    pub class: AdapterClass,
    /// Bytes of the largest buffer.
    pub max_buffer_size: u64,
    /// Bytes of the largest binding.
    pub max_storage_buffer_binding_size: u64,
    /// Storage buffers one kernel may bind.
    pub max_storage_buffers_per_shader_stage: u32,
    /// Workgroups along one dimension.
    pub max_compute_workgroups_per_dimension: u32,
    /// Threads of a workgroup.
    pub max_compute_invocations_per_workgroup: u32,
    /// Bytes of a workgroup's memory.
    pub max_compute_workgroup_storage_size: u32,
    /// Whether kernels may use subgroup operations.
    pub subgroups: bool,
    /// Lanes of every subgroup; 0 where they are not known or not always the same.
    #[serde(default)]
    pub subgroup_size: u32,
    /// Whether kernels may use 16-bit floats.
    pub f16: bool,
    /// Cooperative matrices that products may use, on a graphics processor with subgroups. Browsers have none of these, so a plan
    /// with such kernels is not written to files.
    #[serde(default, skip_serializing_if = "CooperativeSizes::is_none")]
    pub cooperative: CooperativeSizes,
}

impl Target {
    /// The limits that every WebGPU device has, on a graphics processor, without optional features.
    pub fn webgpu_minimum() -> Target {
        Target {
            class: AdapterClass::Gpu,
            max_buffer_size: 256 << 20,
            max_storage_buffer_binding_size: 128 << 20,
            max_storage_buffers_per_shader_stage: 8,
            max_compute_workgroups_per_dimension: 65_535,
            max_compute_invocations_per_workgroup: 256,
            max_compute_workgroup_storage_size: 16 << 10,
            subgroups: false,
            subgroup_size: 0,
            f16: false,
            cooperative: CooperativeSizes::NONE,
        }
    }

    /// The same limits on a driver that runs shaders on the CPU.
    pub fn software() -> Target {
        Target { class: AdapterClass::Software, ..Target::webgpu_minimum() }
    }
}
