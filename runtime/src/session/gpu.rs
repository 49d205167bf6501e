//! An opened device: what sessions and tensors on it share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use super::adapters::{self, Adapter};
use crate::error::{Error, Result};
use crate::kernels::CooperativeSizes;

/// Features that kernels or traces use where a device has them.
const WANTED: wgpu::Features =
    wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_F16).union(wgpu::Features::TIMESTAMP_QUERY);

/// A device on an adapter. Clones are the same device; it closes when the last one and all that was
/// made with it are gone.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) adapter: Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// Why the device was lost, once it is.
    lost: Arc<Mutex<Option<String>>>,
}

/// The lock's content, also after another thread panicked: the content stays valid.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Error scopes around one piece of work; the device's errors come out of [`Scopes::finish`].
pub(super) struct Scopes(wgpu::ErrorScopeGuard, wgpu::ErrorScopeGuard, wgpu::ErrorScopeGuard);

impl Scopes {
    pub fn open(gpu: &Gpu) -> Scopes {
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        Scopes(memory, validation, gpu.device.push_error_scope(wgpu::ErrorFilter::Internal))
    }

    pub fn finish(self) -> Option<wgpu::Error> {
        // Scopes close in the reverse order of their opening.
        let internal = pollster::block_on(self.2.pop());
        let validation = pollster::block_on(self.1.pop());
        let memory = pollster::block_on(self.0.pop());
        memory.or(internal).or(validation)
    }
}

impl Gpu {
    /// Opens a device. `adapter` is an index in [`super::Adapters::list`] or a part of a name; `None`: the
    /// first, hardware before software, and software only where `allow_software` says so.
    ///
    /// # Errors
    /// [`Error::UnknownAdapter`], [`Error::NoAdapter`], [`Error::Adapter`].
    pub fn open(adapter: Option<&str>, allow_software: bool) -> Result<Gpu> {
        Gpu::open_with(adapter, allow_software, false)
    }

    /// As [`Gpu::open`], with the adapter's cooperative matrices where it reports some that kernels here use
    /// ([`Adapter::cooperative`]). wgpu calls them experimental: its own compilers and the driver's may be wrong there.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_cooperative(adapter: Option<&str>, allow_software: bool) -> Result<Gpu> {
        Gpu::open_with(adapter, allow_software, true)
    }

    fn open_with(adapter: Option<&str>, allow_software: bool, cooperative: bool) -> Result<Gpu> {
        let (mut info, found) = adapters::choose(adapter, allow_software)?;
        if !cooperative {
            info.cooperative = CooperativeSizes::NONE;
        }
        let mut required_features = found.features() & WANTED;
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !info.cooperative.is_none() {
            required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: wgpu wants it acknowledged that this feature may have defects that safe code runs into. It is asked for
            // only where a caller wants cooperative matrices or a tune that tries them, and a tune compares answers.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let request = found.request_device(&wgpu::DeviceDescriptor {
            label: None,
            required_features,
            required_limits: found.limits(),
            experimental_features,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request).map_err(|e| Error::Adapter {
            adapter: info.name.clone(),
            what: "open a device".to_owned(),
            why: e.to_string(),
        })?;
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let (on_lost, on_error) = (lost.clone(), lost.clone());
        device.set_device_lost_callback(move |reason, message| {
            *lock(&on_lost) = Some(format!("{reason:?} {message}").trim().to_owned());
        });
        // Errors outside every scope would panic by default; they end the session instead.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&on_error).get_or_insert_with(|| error.to_string());
        }));
        Ok(Gpu { adapter: info, device, queue, lost })
    }

    /// A device that the program has opened itself, to share it. Plans keep to the limits and
    /// features it was opened with; its callbacks for errors and loss stay the program's.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        let adapter = adapters::describe(adapter, &device.limits(), device.features());
        Gpu { adapter, device, queue, lost: Arc::default() }
    }

    /// The adapter, with the limits and features of this device.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Whether single kernels can be timed.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Turns what the device reported while it did `what` into this crate's errors.
    pub(super) fn check(
        &self,
        what: &str,
        model: &str,
        bytes: u64,
        error: Option<wgpu::Error>,
    ) -> Result<()> {
        let adapter = self.adapter.name.clone();
        if let Some(why) = lock(&self.lost).clone() {
            return Err(Error::AdapterLost { adapter, why });
        }
        match error {
            None => Ok(()),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::AdapterMemory { adapter, model: model.to_owned(), bytes })
            }
            Some(other) => Err(Error::Adapter { adapter, what: what.to_owned(), why: other.to_string() }),
        }
    }

    pub(super) fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }

    /// A buffer that [`Gpu::read`] reads.
    pub(super) fn staging(&self, size: u64) -> wgpu::Buffer {
        self.buffer(size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    /// Waits for what was submitted as `index` and gives the bytes of a mappable buffer.
    pub(super) fn read(&self, staging: &wgpu::Buffer, index: wgpu::SubmissionIndex) -> Result<Vec<u8>> {
        let failed = |why: String| Error::Adapter {
            adapter: self.adapter.name.clone(),
            what: "read results back".to_owned(),
            why,
        };
        let (send, receive) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only when this run has failed already.
            let _ = send.send(result);
        });
        self.device
            .poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })
            .map_err(|e| failed(e.to_string()))?;
        receive
            .recv()
            .map_err(|_| failed("it was never answered".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        let bytes = staging.get_mapped_range(..).map(|view| view.to_vec());
        staging.unmap();
        bytes.map_err(|e| failed(e.to_string()))
    }

    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.device.destroy();
    }
}
