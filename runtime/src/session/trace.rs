//! How long each kernel of a run took on the device, by its own clock.

use super::Session;
use super::gpu::{Scopes, lock};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// One kernel of a traced run.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Family of the kernel, such as `matmul`.
    pub family: String,
    /// Names of the graph's nodes it stands for.
    pub nodes: Vec<String>,
    /// Time between its start and its end on the device, in nanoseconds.
    pub nanoseconds: f64,
}

impl Session {
    /// Runs the model once, each kernel in a compute pass of its own between two timestamps, and gives
    /// the times in the order of [`super::Info::dispatches`]. Such a run takes longer than a plain one,
    /// because kernels cannot overlap.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Adapter`] where the device has no timestamps or more kernels than
    /// its timestamps can tell apart are to be timed.
    pub fn trace(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<Timed>> {
        let given = self.given(inputs)?;
        let gpu = &self.player.gpu;
        let count = self.info.dispatches.len() as u32 * 2;
        let failed = |why: String| Error::Adapter {
            adapter: gpu.adapter.name.clone(),
            what: "time single kernels".to_owned(),
            why,
        };
        if !gpu.has_timestamps() {
            return Err(failed("its device has no timestamps".to_owned()));
        }
        if count > wgpu::QUERY_SET_MAX_QUERIES {
            let most = wgpu::QUERY_SET_MAX_QUERIES;
            return Err(failed(format!("{count} timestamps are needed, it has {most}")));
        }
        // The buffers serve one run at a time.
        let turn = lock(&self.player.staging);
        let scopes = Scopes::open(gpu);
        let bytes = self.stamps(&given, count);
        gpu.check("trace", &self.info.name, self.info.memory.total(), scopes.finish())?;
        drop(turn);
        let bytes = bytes?;
        let stamps: Vec<u64> =
            bytes.chunks_exact(8).filter_map(|c| Some(u64::from_le_bytes(c.try_into().ok()?))).collect();
        let period = f64::from(gpu.queue.get_timestamp_period());
        let timed = |(dispatch, pair): (&crate::plan::Dispatch, &[u64])| Timed {
            family: dispatch.family.clone(),
            nodes: dispatch.nodes.clone(),
            nanoseconds: match pair {
                [start, end] => end.saturating_sub(*start) as f64 * period,
                _ => 0.0,
            },
        };
        Ok(self.info.dispatches.iter().zip(stamps.chunks_exact(2)).map(timed).collect())
    }

    /// The timestamps before and after each kernel, as the device wrote them.
    fn stamps(&self, given: &[(&crate::plan::Port, &Tensor)], count: u32) -> Result<Vec<u8>> {
        let gpu = &self.player.gpu;
        let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let bytes = u64::from(count) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let (resolved, staging) = (gpu.buffer(bytes, usage), gpu.staging(bytes));
        self.player.write(given)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.player.encode_timed(&mut encoder, &set);
        encoder.resolve_query_set(&set, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
        let index = gpu.queue.submit([encoder.finish()]);
        gpu.read(&staging, index)
    }
}
