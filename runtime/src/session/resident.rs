//! Tensors that stay in a device's memory between runs.

use super::Session;
use super::gpu::{Gpu, Scopes};
use crate::error::{Error, Result};
use crate::plan::{Port, from_words, to_words};
use crate::tensor::{Dtype, Tensor};

/// A tensor in a device's memory: the result of one run and the input of another, without a way
/// through the main memory. Clones are the same tensor.
#[derive(Clone, Debug)]
pub struct GpuTensor {
    gpu: Gpu,
    pub(super) buffer: wgpu::Buffer,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl GpuTensor {
    fn new(gpu: &Gpu, port: &Port, bytes: u64) -> GpuTensor {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.buffer(bytes, usage);
        GpuTensor { gpu: gpu.clone(), buffer, dtype: port.dtype, shape: port.shape.clone() }
    }

    /// Its element type. In the buffer every type but `F32` is a 32-bit integer.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The buffer that holds it, for the program's own kernels: row-major, one 32-bit word an element.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Copies it to the main memory; waits for the runs it comes from.
    ///
    /// # Errors
    /// [`Error::AdapterLost`], [`Error::AdapterMemory`] and [`Error::Adapter`].
    pub fn read(&self) -> Result<Tensor> {
        let bytes = self.buffer.size();
        self.gpu.check("read a tensor", "a tensor", bytes, None)?;
        let scopes = Scopes::open(&self.gpu);
        let staging = self.gpu.staging(bytes);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.buffer, 0, &staging, 0, Some(bytes));
        let index = self.gpu.queue.submit([encoder.finish()]);
        let read = self.gpu.read(&staging, index);
        self.gpu.check("read a tensor", "a tensor", bytes, scopes.finish())?;
        let data = from_words(self.dtype, self.shape.iter().product(), &read?);
        Tensor::new(self.shape.clone(), data)
    }
}

impl Session {
    /// Copies a tensor for the input `name` to the device.
    ///
    /// # Errors
    /// [`Error::InputMismatch`] for an unknown name, another type or shape; else as [`Session::run`].
    pub fn upload(&self, name: &str, tensor: &Tensor) -> Result<GpuTensor> {
        let port = self.port(name)?;
        self.fits(port, tensor.dtype(), tensor.shape())?;
        let words = to_words(name, tensor.data())?;
        let gpu = &self.player.gpu;
        let bytes = self.player.size(port.buffer);
        let scopes = Scopes::open(gpu);
        let made = GpuTensor::new(gpu, port, bytes);
        gpu.queue.write_buffer(&made.buffer, 0, &words);
        gpu.check("upload a tensor", &self.info.name, bytes, scopes.finish())?;
        Ok(made)
    }

    /// Runs the model once on tensors of its device and leaves the outputs there. It does not wait for
    /// the device: reading an output, or the next run, does.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::InputMismatch`] also for a tensor of another device.
    pub fn run_resident(&self, inputs: &[(&str, &GpuTensor)]) -> Result<Vec<(String, GpuTensor)>> {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let order = self.order(&names)?;
        let gpu = &self.player.gpu;
        let mut given = Vec::with_capacity(order.len());
        for (port, at) in self.info.inputs.iter().zip(order) {
            let Some((_, tensor)) = inputs.get(at) else { continue };
            self.fits(port, tensor.dtype, &tensor.shape)?;
            if tensor.gpu.device != gpu.device {
                return Err(Error::InputMismatch {
                    name: port.name.clone(),
                    want: format!("a tensor on the session's device on {}", gpu.adapter.name),
                    got: format!("one on another device on {}", tensor.gpu.adapter.name),
                    next: "upload it through this session, or load both with one Gpu".to_owned(),
                });
            }
            given.push((port.buffer, &tensor.buffer));
        }
        let made = |port: &Port| GpuTensor::new(gpu, port, self.player.size(port.buffer));
        let scopes = Scopes::open(gpu);
        let outputs: Vec<GpuTensor> = self.info.outputs.iter().map(made).collect();
        let places: Vec<(usize, &wgpu::Buffer)> =
            self.info.outputs.iter().zip(&outputs).map(|(port, made)| (port.buffer, &made.buffer)).collect();
        self.player.run_resident(&given, &places);
        gpu.check("run", &self.info.name, self.info.memory.total(), scopes.finish())?;
        Ok(self.info.outputs.iter().map(|port| port.name.clone()).zip(outputs).collect())
    }
}
