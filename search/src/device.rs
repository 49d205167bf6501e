//! Where training computes: the CPU, or a GPU.
//!
//! On a GPU, which kernel is the fastest for a shape is found by timing several (autotune). The timings are kept between
//! runs, in `MASKTAS_CACHE/kernels` or the user's cache folder; a `cubecl.toml` that names another place wins.

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::suggest::hint;

/// Names of the devices, whether or not this build has them.
pub const NAMES: [&str; 4] = ["flex", "vulkan", "wgpu", "cuda"];

/// The training device called `name`.
///
/// # Errors
/// [`Error::NotSupported`] when this build lacks it, [`Error::UnknownName`] for a stranger.
pub fn by_name(name: &str) -> Result<Device> {
    #[cfg(feature = "tuned")]
    kernels::keep();
    match name {
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "gpu")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "gpu-wgsl")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0usize)),
        _ if !NAMES.contains(&name) => {
            let hint = hint(name, NAMES);
            Err(Error::UnknownName { what: "training device", name: name.to_owned(), hint })
        }
        _ => Err(Error::NotSupported {
            thing: format!("training on `{name}`"),
            reason: "this program was built without it".into(),
            next: "use --device flex, or build with GPU support: make install GPU=1".into(),
        }),
    }
}

/// What a user should know before the first step on a GPU; `None` on the CPU.
pub fn announcement(device: &Device) -> Option<String> {
    if device.clone().inner() == Device::flex() {
        return None;
    }
    #[cfg(feature = "tuned")]
    return Some(kernels::announcement(device));
    #[cfg(not(feature = "tuned"))]
    None
}

/// Bytes that this process has reserved on a GPU for tensors; `None` where nobody counts them.
pub fn reserved(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

#[cfg(feature = "tuned")]
mod kernels {
    use std::sync::Once;

    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    use burn::cubecl::environment;
    use burn::tensor::Device;

    use crate::cache;

    /// Names the place where timings and compiled kernels are kept, once, before the first device is opened.
    pub(super) fn keep() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
            if let (CacheConfig::Target, Some(folder)) = (&config.environment.path, cache::folder("kernels"))
            {
                config.environment.path = CacheConfig::Directory(folder);
                config.compilation.cache = true;
            }
            // A host program may have set its own before: that stands.
            CubeClRuntimeConfig::try_set(config);
        });
    }

    pub(super) fn announcement(device: &Device) -> String {
        let name = device.identity().map_or_else(|| format!("{device:?}"), |identity| identity.name);
        let kept = environment::namespaces();
        let kept = kept.iter().filter(|one| one.namespace.contains("autotune"));
        let kept: u64 = kept.map(|one| one.entries).sum();
        let place = environment::path();
        let place = place.display();
        match kept {
            0 => format!(
                "training on {name}: the fastest kernel of each shape is found first, which makes the first steps slow; \
                 it is kept in {place}"
            ),
            _ => format!("training on {name}: the fastest kernels of {kept} shapes are known from {place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there_and_strangers_are_named() {
        assert!(announcement(&by_name("flex").unwrap()).is_none());
        let unknown = by_name("vulcan").unwrap_err().to_string();
        assert!(unknown.contains("vulcan"), "{unknown}");
    }
}
