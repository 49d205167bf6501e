//! The wgpu side of a session: a plan's buffers, pipelines and bind groups on a device.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::Adapter;
use super::gpu::{Gpu, Scopes, lock};
use crate::error::{Error, Result};
use crate::plan::{BufferRole, PLAN_VERSION, Plan, Port, Precision, from_words, to_words};
use crate::tensor::Tensor;

/// One step of the compute pass.
#[derive(Debug)]
struct Step {
    pipeline: usize,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// A plan on a device.
#[derive(Debug)]
pub(super) struct Player {
    pub gpu: Gpu,
    model: String,
    bytes: u64,
    buffers: Vec<wgpu::Buffer>,
    sizes: Vec<u64>,
    pipelines: Vec<wgpu::ComputePipeline>,
    steps: Vec<Step>,
    /// All outputs one after another, for one read-back; the lock gives each run its turn.
    pub staging: Mutex<wgpu::Buffer>,
}

/// The part of `plan.target` that `adapter` does not offer.
fn beyond(plan: &Plan, adapter: &Adapter) -> Option<(&'static str, u64, u64)> {
    let (want, have) = (&plan.target, &adapter.target);
    [
        (
            "bytes of a buffer",
            want.max_buffer_size,
            have.max_buffer_size,
            plan.buffers.iter().map(|b| b.bytes).max(),
        ),
        (
            "bytes of a binding",
            want.max_storage_buffer_binding_size,
            have.max_storage_buffer_binding_size,
            plan.dispatches.iter().flat_map(|d| &d.bindings).map(|b| b.bytes).max(),
        ),
        (
            "storage buffers of a kernel",
            want.max_storage_buffers_per_shader_stage.into(),
            have.max_storage_buffers_per_shader_stage.into(),
            plan.dispatches.iter().map(|d| d.bindings.len() as u64).max(),
        ),
        (
            "workgroups of a dimension",
            want.max_compute_workgroups_per_dimension.into(),
            have.max_compute_workgroups_per_dimension.into(),
            plan.dispatches.iter().flat_map(|d| d.workgroups).map(u64::from).max(),
        ),
        (
            "threads of a workgroup",
            want.max_compute_invocations_per_workgroup.into(),
            have.max_compute_invocations_per_workgroup.into(),
            None,
        ),
    ]
    .into_iter()
    // A plan for larger limits is fine as long as it does not use them.
    .map(|(what, want, have, used)| (what, used.unwrap_or(want), have))
    .find(|(_, used, have)| used > have)
}

/// Refuses an adapter without 16-bit floats.
pub(super) fn f16(adapter: &Adapter, what: &str) -> Result<()> {
    if adapter.target.f16 {
        return Ok(());
    }
    Err(Error::MissingFeature {
        adapter: adapter.name.clone(),
        feature: "SHADER_F16 (16-bit floats)",
        what: what.to_owned(),
        next: "choose another adapter, or precision f32".to_owned(),
    })
}

/// Refuses an adapter without cooperative matrices, or a device that was opened without them.
pub(super) fn cooperative(adapter: &Adapter, what: &str) -> Result<()> {
    if !adapter.cooperative.is_none() {
        return Ok(());
    }
    Err(Error::MissingFeature {
        adapter: adapter.name.clone(),
        feature: "EXPERIMENTAL_COOPERATIVE_MATRIX (cooperative matrices of a usable size)",
        what: what.to_owned(),
        next: "choose another adapter, or kernels without cooperative matrices".to_owned(),
    })
}

impl Player {
    pub fn new(plan: &Plan, gpu: &Gpu) -> Result<Player> {
        if plan.version != PLAN_VERSION {
            let why = format!("version {} of the plan, this runtime plays {PLAN_VERSION}", plan.version);
            return Err(Error::Unsupported { what: format!("plan '{}'", plan.name), why });
        }
        let have = &gpu.adapter.target;
        if plan.precision() == Precision::F16 {
            f16(&gpu.adapter, &format!("plan '{}'", plan.name))?;
        }
        let shares = plan.kernels.iter().any(|text| text.contains("subgroup"));
        if shares && (!have.subgroups || have.subgroup_size != plan.target.subgroup_size) {
            let (used, have) = (plan.target.subgroup_size, have.subgroup_size);
            let why = format!("it uses subgroups of {used} lanes, adapter '{}' has {have}", gpu.adapter.name);
            return Err(Error::Unsupported { what: format!("plan '{}'", plan.name), why });
        }
        if plan.is_cooperative() {
            cooperative(&gpu.adapter, &format!("plan '{}'", plan.name))?;
            let (used, have) = (plan.target.cooperative, gpu.adapter.cooperative);
            let other = |used: u32, have: u32| used > 0 && used != have;
            if other(used.f32, have.f32) || other(used.f16, have.f16) {
                let why = format!("it uses {used:?}, adapter '{}' has {have:?}", gpu.adapter.name);
                return Err(Error::Unsupported { what: format!("plan '{}'", plan.name), why });
            }
        }
        if let Some((what, used, have)) = beyond(plan, &gpu.adapter) {
            let why = format!("it uses {used} {what}, adapter '{}' offers {have}", gpu.adapter.name);
            return Err(Error::Unsupported { what: format!("plan '{}'", plan.name), why });
        }
        let scopes = Scopes::open(gpu);
        let mut player = Player {
            gpu: gpu.clone(),
            model: plan.name.clone(),
            bytes: plan.bytes(),
            staging: Mutex::new(gpu.staging(staging_bytes(plan))),
            buffers: Vec::new(),
            sizes: plan.buffers.iter().map(|b| b.bytes).collect(),
            pipelines: Vec::new(),
            steps: Vec::new(),
        };
        let built = player.build(plan);
        player.check("load the model", scopes.finish())?;
        built?;
        Ok(player)
    }

    fn build(&mut self, plan: &Plan) -> Result<()> {
        let mut weights = plan.weights.as_slice();
        for buffer in &plan.buffers {
            let usage = wgpu::BufferUsages::STORAGE
                | match buffer.role {
                    BufferRole::Input | BufferRole::Weight => wgpu::BufferUsages::COPY_DST,
                    BufferRole::Output => wgpu::BufferUsages::COPY_SRC,
                    BufferRole::Scratch => wgpu::BufferUsages::empty(),
                };
            let made = self.gpu.buffer(buffer.bytes, usage);
            if buffer.role == BufferRole::Weight {
                let size = usize::try_from(buffer.bytes).unwrap_or(usize::MAX);
                let (now, later) = weights.split_at_checked(size).ok_or_else(|| Error::InvalidModel {
                    what: format!("plan '{}'", plan.name),
                    why: format!(
                        "its weights have {} bytes left, the next buffer wants {size}",
                        weights.len()
                    ),
                })?;
                self.gpu.queue.write_buffer(&made, 0, now);
                weights = later;
            }
            self.buffers.push(made);
        }
        // Sent now, so that the driver copies weights while it compiles kernels.
        self.gpu.queue.submit([]);
        let layouts: BTreeMap<usize, (wgpu::BindGroupLayout, wgpu::PipelineLayout)> = plan
            .dispatches
            .iter()
            .map(|d| d.bindings.len())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .map(|count| (count, self.layout(count)))
            .collect();
        let bad =
            |why: &str| Error::InvalidModel { what: format!("plan '{}'", plan.name), why: why.to_owned() };
        let mut bound = vec![0usize; plan.kernels.len()];
        for dispatch in &plan.dispatches {
            *bound.get_mut(dispatch.kernel).ok_or_else(|| bad("a dispatch names no kernel"))? =
                dispatch.bindings.len();
        }
        for (text, count) in plan.kernels.iter().zip(&bound) {
            let module = self.gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
            });
            self.pipelines.push(self.gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: layouts.get(count).map(|(_, layout)| layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            }));
        }
        for dispatch in &plan.dispatches {
            let mut entries = Vec::with_capacity(dispatch.bindings.len());
            for (place, binding) in dispatch.bindings.iter().enumerate() {
                let buffer =
                    self.buffers.get(binding.buffer).ok_or_else(|| bad("a binding names no buffer"))?;
                let size = std::num::NonZeroU64::new(binding.bytes);
                entries.push(wgpu::BindGroupEntry {
                    binding: place as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer,
                        offset: binding.offset,
                        size,
                    }),
                });
            }
            let (layout, _) = layouts.get(&entries.len()).ok_or_else(|| bad("a dispatch has no layout"))?;
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            let bind_group = self.gpu.device.create_bind_group(&descriptor);
            self.steps.push(Step { pipeline: dispatch.kernel, bind_group, workgroups: dispatch.workgroups });
        }
        Ok(())
    }

    /// Layouts for `count` storage buffers, of which the last is written.
    fn layout(&self, count: usize) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..count)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: binding + 1 < count },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let group = self
            .gpu
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline = self.gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        (group, pipeline)
    }

    fn check(&self, what: &str, error: Option<wgpu::Error>) -> Result<()> {
        self.gpu.check(what, &self.model, self.bytes, error)
    }

    /// Bytes of a buffer of the plan.
    pub fn size(&self, buffer: usize) -> u64 {
        self.sizes.get(buffer).copied().unwrap_or(0)
    }

    pub fn run(&self, inputs: &[(&Port, &Tensor)], outputs: &[Port]) -> Result<Vec<(String, Tensor)>> {
        // Inputs, scratch and outputs are one set of buffers: one run at a time.
        let staging = lock(&self.staging);
        self.check("run", None)?;
        let scopes = Scopes::open(&self.gpu);
        let bytes = self.play(&staging, inputs, outputs);
        self.check("run", scopes.finish())?;
        let bytes = bytes?;
        let mut results = Vec::with_capacity(outputs.len());
        let mut at = 0usize;
        for port in outputs {
            let size = usize::try_from(self.size(port.buffer)).unwrap_or(0);
            let elements = port.shape.iter().product();
            let data = from_words(port.dtype, elements, bytes.get(at..at + size).unwrap_or_default());
            results.push((port.name.clone(), Tensor::new(port.shape.clone(), data)?));
            at += size;
        }
        Ok(results)
    }

    fn play(&self, staging: &wgpu::Buffer, inputs: &[(&Port, &Tensor)], outputs: &[Port]) -> Result<Vec<u8>> {
        self.write(inputs)?;
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encode(&mut encoder);
        let mut at = 0;
        for port in outputs {
            let size = self.size(port.buffer);
            if let Some(buffer) = self.buffers.get(port.buffer) {
                encoder.copy_buffer_to_buffer(buffer, 0, staging, at, Some(size));
            }
            at += size;
        }
        let index = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.read(staging, index)
    }

    /// Copies inputs to their buffers.
    pub fn write(&self, inputs: &[(&Port, &Tensor)]) -> Result<()> {
        for (port, tensor) in inputs {
            let words = to_words(&port.name, tensor.data())?;
            if let Some(buffer) = self.buffers.get(port.buffer) {
                self.gpu.queue.write_buffer(buffer, 0, &words);
            }
        }
        Ok(())
    }

    /// Every step in one compute pass.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut current = None;
        for step in &self.steps {
            if current != Some(step.pipeline)
                && let Some(pipeline) = self.pipelines.get(step.pipeline)
            {
                pass.set_pipeline(pipeline);
                current = Some(step.pipeline);
            }
            pass.set_bind_group(0, &step.bind_group, &[]);
            let [x, y, z] = step.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// Every step in a compute pass of its own, between two timestamps of `set`.
    pub fn encode_timed(&self, encoder: &mut wgpu::CommandEncoder, set: &wgpu::QuerySet) {
        for (at, step) in self.steps.iter().enumerate() {
            let first = at as u32 * 2;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: set,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            if let Some(pipeline) = self.pipelines.get(step.pipeline) {
                pass.set_pipeline(pipeline);
            }
            pass.set_bind_group(0, &step.bind_group, &[]);
            let [x, y, z] = step.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// A run between buffers of the device: `inputs` to the plan's buffers, the steps, the plan's
    /// buffers to `outputs`.
    pub fn run_resident(&self, inputs: &[(usize, &wgpu::Buffer)], outputs: &[(usize, &wgpu::Buffer)]) {
        let _turn = lock(&self.staging);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (place, from) in inputs {
            if let Some(to) = self.buffers.get(*place) {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(self.size(*place)));
            }
        }
        self.encode(&mut encoder);
        for (place, to) in outputs {
            if let Some(from) = self.buffers.get(*place) {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(self.size(*place)));
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
    }
}

fn staging_bytes(plan: &Plan) -> u64 {
    let size = |port: &Port| plan.buffers.get(port.buffer).map_or(0, |b| b.bytes);
    plan.outputs.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::graph::GraphBuilder;
    use crate::session::{Adapters, Options, Session};
    use crate::tensor::{Dtype, Tensor};

    /// A device that goes away is an error, now and at every later run; never a panic.
    #[test]
    fn a_lost_adapter_is_an_error() {
        if Adapters::list().is_empty() {
            let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
            assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but there is no adapter; run `make setup`");
            eprintln!("skipped: no adapter; `make setup` installs a software driver");
            return;
        }
        let mut b = GraphBuilder::new("lost", 20);
        b.input("x", Dtype::F32, [2.into()]);
        b.node("Exp", "y", &["x"], []);
        b.output("y", Dtype::F32, [2.into()]);
        let session = Session::load(&b.finish().unwrap(), &Options::default()).unwrap();
        let run = || session.run(&[("x", Tensor::f32([2], vec![0.0, 1.0]).unwrap())]);
        assert!(run().is_ok());
        session.player.gpu.lose();
        for _ in 0..2 {
            let error = run().unwrap_err();
            assert!(matches!(error, Error::AdapterLost { .. } | Error::Adapter { .. }), "{error}");
        }
    }
}
