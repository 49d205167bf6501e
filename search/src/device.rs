//! Where training computes: the CPU, or a GPU.
//!
//! On a GPU, which kernel is the fastest for a shape is found by timing several (autotune). What is found is kept between
//! runs, adapter by adapter, in the folder `kernels` of [`crate::cache`]. A `cubecl.toml` that names an environment or another place
//! for it is left to itself.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::suggest::hint;

/// Names of the devices, whether or not this build has them, and how a build gets them.
const DEVICES: [(&str, &str); 4] = [
    ("flex", "it is always there"),
    ("vulkan", "make install GPU=1"),
    ("wgpu", "cargo install --locked --path . --features gpu-wgsl"),
    ("cuda", "cargo install --locked --path . --features cuda"),
];

/// The training device called `name`.
///
/// # Errors
/// [`Error::NotSupported`] when this build lacks it or there is no such hardware, [`Error::UnknownName`] for a stranger.
pub fn by_name(name: &str) -> Result<Device> {
    #[cfg(feature = "tuned")]
    use burn::tensor::DeviceType;
    let Some((_, build)) = DEVICES.iter().find(|(known, _)| *known == name) else {
        let hint = hint(name, DEVICES.map(|(known, _)| known));
        return Err(Error::UnknownName { what: "training device", name: name.to_owned(), hint });
    };
    match name {
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "gpu")]
        "vulkan" => gpu::open(name, DeviceType::Vulkan),
        #[cfg(feature = "gpu-wgsl")]
        "wgpu" => gpu::open(name, DeviceType::Wgpu),
        #[cfg(feature = "cuda")]
        "cuda" => gpu::open(name, DeviceType::Cuda),
        _ => Err(Error::NotSupported {
            thing: format!("training on `{name}`"),
            reason: "this program was built without it".into(),
            next: format!("use --device flex, or build with it: {build}"),
        }),
    }
}

/// Whether tensors of this device are in the memory of the CPU.
pub(crate) fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Tells the user what to know before the first step on a GPU; on the CPU, nothing.
pub(crate) fn announce(device: &Device, progress: &mut dyn Progress) {
    if let Some(announcement) = announcement(device) {
        progress.say(&announcement);
    }
}

/// What a user should know before the first step on a GPU; `None` on the CPU.
pub fn announcement(device: &Device) -> Option<String> {
    if is_cpu(device) {
        return None;
    }
    #[cfg(feature = "tuned")]
    return Some(gpu::announcement(device));
    #[cfg(not(feature = "tuned"))]
    None
}

/// Bytes that this process has reserved on a GPU for tensors; `None` where nobody counts them.
pub fn reserved(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// How often numbers were read from a GPU. Each time everything asked of it before was waited for.
static READINGS: AtomicU64 = AtomicU64::new(0);

/// How often this process has read numbers from a GPU, waiting for everything it had asked of it.
pub fn readings() -> u64 {
    READINGS.load(Ordering::Relaxed)
}

pub(crate) fn count_reading() {
    READINGS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(feature = "tuned")]
mod gpu {
    use std::sync::Once;

    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    use burn::cubecl::environment;
    use burn::tensor::{Device, DeviceType};

    use crate::cache;
    use crate::error::{Error, Result};

    /// The first device of a kind, and the environment in which its kernels are kept.
    pub(super) fn open(name: &str, kind: DeviceType) -> Result<Device> {
        let ours = keep();
        let device =
            Device::enumerate(kind).into_vec().into_iter().next().ok_or_else(|| Error::NotSupported {
                thing: format!("training on `{name}`"),
                reason: "no such adapter was found".into(),
                next: "install its driver (`masktas devices` lists adapters), or use --device flex".into(),
            })?;
        if let (true, Some(identity)) = (ours, device.identity()) {
            environment::activate(format!("{}-{}", identity.name, identity.fingerprint));
        }
        Ok(device)
    }

    /// Names the place where kernels are kept, once, before the first device is opened. Whether that was for us to say.
    fn keep() -> bool {
        static ONCE: Once = Once::new();
        let default = CubeClRuntimeConfig::default().environment;
        ONCE.call_once(|| {
            let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
            let untouched = matches!(config.environment.path, CacheConfig::Target);
            if let (true, Some(folder)) =
                (untouched && config.environment.name == default.name, cache::folder("kernels"))
            {
                config.environment.path = CacheConfig::Directory(folder);
                config.compilation.cache = true;
            }
            // A host program may have set its own before: that stands.
            CubeClRuntimeConfig::try_set(config);
        });
        match &CubeClRuntimeConfig::get().environment.path {
            CacheConfig::Directory(folder) => cache::folder("kernels").is_some_and(|ours| ours == *folder),
            _ => false,
        }
    }

    pub(super) fn announcement(device: &Device) -> String {
        let name = device.identity().map_or_else(|| format!("{device:?}"), |identity| identity.name);
        let kept = environment::namespaces();
        let kept = kept.iter().filter(|one| one.namespace.starts_with("autotune/"));
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

    #[cfg(not(feature = "tuned"))]
    #[test]
    fn what_was_not_built_says_how_it_is() {
        let lacking = format!("{:?}", by_name("cuda").unwrap_err());
        assert!(lacking.contains("--features cuda"), "{lacking}");
    }
}
