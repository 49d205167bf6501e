//! Plays a plan on an adapter, natively through wgpu.
//!
//! Everything is made when a model is loaded: buffers, pipelines (one for each different kernel) and
//! bind groups. A run writes the inputs, submits one command buffer with one compute pass, and reads
//! all outputs back at once. Nothing ever falls back to the CPU: a missing adapter, a lost one and a
//! full memory are errors.
//!
//! ```
//! use masktas_runtime::graph::GraphBuilder;
//! use masktas_runtime::session::{Adapters, Options, Session};
//! use masktas_runtime::{Dtype, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if Adapters::list().is_empty() {
//!     return Ok(()); // No GPU and no software driver.
//! }
//! // A model is a file's path, its bytes, or a graph made here.
//! let mut builder = GraphBuilder::new("twice", 20);
//! let x = builder.input("x", Dtype::F32, [3.into()]);
//! let y = builder.node("Add", "y", &[&x, &x], []);
//! builder.output(&y, Dtype::F32, [3.into()]);
//! let session = Session::load(&builder.finish()?, &Options::default())?;
//!
//! let outputs = session.run(&[("x", Tensor::f32([3], vec![1.0, 2.0, 3.0])?)])?;
//! assert_eq!(outputs[0].1.as_f32(), Some(&[2.0, 4.0, 6.0][..]));
//! println!("{}", session.info()); // the adapter, the memory, every kernel with its nodes
//!
//! // Between models on one device, tensors need not come back.
//! let again = Session::load_on(session.gpu(), &builder_of_another()?, &Options::default())?;
//! let x = session.upload("x", &Tensor::f32([3], vec![1.0, 2.0, 3.0])?)?;
//! let doubled = session.run_resident(&[("x", &x)])?;
//! let root = again.run_resident(&[("x", &doubled[0].1)])?;
//! assert_eq!(root[0].1.read()?.as_f32().map(|v| v[1]), Some(2.0));
//! # Ok(())
//! # }
//! # fn builder_of_another() -> masktas_runtime::Result<masktas_runtime::Graph> {
//! #     let mut builder = GraphBuilder::new("root", 20);
//! #     let x = builder.input("x", Dtype::F32, [3.into()]);
//! #     let y = builder.node("Sqrt", "y", &[&x], []);
//! #     builder.output(&y, Dtype::F32, [3.into()]);
//! #     builder.finish()
//! # }
//! ```
//!
//! A program that has a device of its own hands it over with [`Gpu::from_wgpu`] and reaches a
//! tensor's buffer by [`GpuTensor::buffer`]; nothing else here names a wgpu type.

mod adapters;
mod explain;
mod gpu;
mod images;
mod player;
mod resident;
mod trace;
mod tune;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::onnx;
use crate::plan::{AdapterClass, Buffer, BufferRole, Dispatch, Passes, Plan, PlanOptions, Port, plan_with};
use crate::preprocess::Preprocess;
use crate::tensor::{Dtype, Tensor};

pub use crate::plan::Precision;
pub use adapters::{Adapter, AdapterKind, Adapters};
pub use gpu::Gpu;
pub use resident::GpuTensor;
pub use trace::Timed;
pub use tune::{Tried, Tuned, Variant};

use player::Player;

/// When kernels use cooperative matrices: small squares that a graphics processor's subgroup multiplies at once.
///
/// They are never the default: they have not run on any hardware in this project, and wgpu calls the feature experimental. On Vulkan no
/// tune tries them either: what wgpu 30 writes there does not promise that threads see each other's writes (its issue 8805).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cooperative {
    /// Not even where a tune would find them fastest: for answers that must not depend on an experiment, and for drivers that do
    /// not survive one.
    Never,
    /// Where a tune, now or earlier, found them right and fastest: [`Session::load_tuned`], [`Session::load_kept`].
    #[default]
    Tuned,
    /// In every product that they fit, with the kernels of [`AdapterClass::Gpu`] unless another class is named; an adapter that
    /// reports none is refused.
    Always,
}

/// How to load a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Index in [`Adapters::list`] or a part of a name; `None`: the first, hardware before software.
    pub adapter: Option<String>,
    /// Whether `None` above may choose a driver that runs shaders on the CPU.
    pub allow_software: bool,
    /// Kernel variants for another class of adapter than the chosen one's; to compare them.
    pub class: Option<AdapterClass>,
    /// Whether kernels may use subgroups where the adapter has them.
    pub subgroups: bool,
    /// When kernels use cooperative matrices.
    pub cooperative: Cooperative,
    /// Rewrites of the plan.
    pub passes: Passes,
    /// Sizes of symbolic extents, such as a batch, by the names that the model gives them ([`Graph::symbols`]). A name that it does
    /// not have is refused.
    pub symbols: BTreeMap<String, usize>,
    /// What the weights of matrix products are kept as; 16-bit floats need an adapter with `SHADER_F16`.
    pub precision: Precision,
}

impl Options {
    fn planned(&self) -> PlanOptions {
        PlanOptions { passes: self.passes, symbols: self.symbols.clone(), precision: self.precision }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            adapter: None,
            allow_software: true,
            class: None,
            subgroups: true,
            cooperative: Cooperative::default(),
            passes: Passes::ALL,
            symbols: BTreeMap::new(),
            precision: Precision::F32,
        }
    }
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug)]
pub enum Model<'a> {
    /// The bytes of an ONNX file.
    Bytes(&'a [u8]),
    /// The path of an ONNX file.
    Path(&'a Path),
    /// A graph in memory.
    Graph(&'a Graph),
}

impl<'a> Model<'a> {
    /// The graph; one that has to be read is put into `read`.
    fn graph<'g>(self, read: &'g mut Option<Graph>) -> Result<&'g Graph>
    where
        'a: 'g,
    {
        Ok(match self {
            Model::Graph(graph) => graph,
            Model::Bytes(bytes) => read.insert(onnx::read(bytes)?),
            Model::Path(path) => read.insert(onnx::read_file(path)?),
        })
    }
}

impl<'a> From<&'a str> for Model<'a> {
    fn from(path: &'a str) -> Self {
        Model::Path(Path::new(path))
    }
}

impl<'a> From<&'a Path> for Model<'a> {
    fn from(path: &'a Path) -> Self {
        Model::Path(path)
    }
}

impl<'a> From<&'a std::path::PathBuf> for Model<'a> {
    fn from(path: &'a std::path::PathBuf) -> Self {
        Model::Path(path)
    }
}

impl<'a> From<&'a [u8]> for Model<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Model::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Model<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Model::Bytes(bytes)
    }
}

impl<'a> From<&'a Graph> for Model<'a> {
    fn from(graph: &'a Graph) -> Self {
        Model::Graph(graph)
    }
}

/// What a loaded model is and where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Name of the model.
    pub name: String,
    /// The adapter it runs on.
    pub adapter: Adapter,
    /// Values it wants.
    pub inputs: Vec<Port>,
    /// Values it gives.
    pub outputs: Vec<Port>,
    /// The file's free text: preprocessing, class names, provenance.
    pub metadata: BTreeMap<String, String>,
    /// Kernels run for one answer, in order, with the nodes they stand for.
    pub dispatches: Vec<Dispatch>,
    /// Different kernels among them.
    pub pipelines: usize,
    /// The buffers that dispatches name.
    pub buffers: Vec<Buffer>,
    /// The rewrites it was planned with; `None` for a plan that was made earlier.
    pub passes: Option<Passes>,
    /// What the weights of its matrix products are kept as.
    pub precision: Precision,
    /// Of the matrix products whose weights were to be kept in 16 bits, how many keep 32, because rounding would lose too much
    /// or other kernels read the weights too; none where 32 were asked for.
    pub wide_products: usize,
    /// Of the matrix products, how many round their rows to 16 bits ([`Precision::F16`] through cooperative matrices).
    pub rounded_products: usize,
    /// Bytes of its buffers on the adapter, by what they are for.
    pub memory: Memory,
}

impl Info {
    /// What the model wants done to an image, as its file says.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a file that says nothing or something malformed.
    pub fn preprocess(&self) -> Result<Preprocess> {
        Preprocess::read_from(&self.metadata)
    }
}

/// Bytes of a model's buffers on the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Constants of the model.
    pub weights: u64,
    /// Inputs and outputs.
    pub ports: u64,
    /// Values in between; buffers are used again as soon as their value is dead.
    pub scratch: u64,
    /// What outputs are read back through.
    pub staging: u64,
}

impl Memory {
    fn of(plan: &Plan) -> Memory {
        let mut memory = Memory::default();
        for buffer in &plan.buffers {
            match buffer.role {
                BufferRole::Weight => memory.weights += buffer.bytes,
                BufferRole::Scratch => memory.scratch += buffer.bytes,
                BufferRole::Input => memory.ports += buffer.bytes,
                BufferRole::Output => {
                    memory.ports += buffer.bytes;
                    memory.staging += buffer.bytes;
                }
            }
        }
        memory
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.weights + self.ports + self.scratch + self.staging
    }
}

/// A model on an adapter, ready to run. Several threads may share one; their runs take turns.
#[derive(Debug)]
pub struct Session {
    info: Info,
    player: Player,
}

impl Session {
    /// Puts a model on an adapter.
    ///
    /// # Errors
    /// As [`onnx::read`] for bytes and [`plan_with`] for the graph; [`Error::UnknownAdapter`],
    /// [`Error::NoAdapter`], [`Error::MissingFeature`], [`Error::AdapterMemory`], [`Error::AdapterLost`] and [`Error::Adapter`] from the adapter.
    pub fn load<'a>(model: impl Into<Model<'a>>, options: &Options) -> Result<Session> {
        let (adapter, software) = (options.adapter.as_deref(), options.allow_software);
        let gpu = match options.cooperative {
            Cooperative::Always => Gpu::open_cooperative(adapter, software)?,
            _ => Gpu::open(adapter, software)?,
        };
        Session::load_on(&gpu, model, options)
    }

    /// Puts a model on an open device, beside other models or the program's own work; of `options`
    /// those that choose an adapter are not looked at.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn load_on<'a>(gpu: &Gpu, model: impl Into<Model<'a>>, options: &Options) -> Result<Session> {
        let mut target = gpu.adapter().target.clone();
        if options.cooperative == Cooperative::Always {
            player::cooperative(gpu.adapter(), "kernels with cooperative matrices")?;
            target.cooperative = gpu.adapter().cooperative;
            target.class = AdapterClass::Gpu;
        }
        if let Some(class) = options.class {
            target.class = class;
        }
        target.subgroups &= options.subgroups;
        if options.precision == Precision::F16 {
            player::f16(gpu.adapter(), "precision f16")?;
        }
        let mut read = None;
        let graph = model.into().graph(&mut read)?;
        let plan = plan_with(graph, &target, &options.planned())?;
        let wide = plan.wide_products();
        let mut session = Session::start(plan, graph.metadata.clone(), Some(options.passes), gpu)?;
        if options.precision == Precision::F16 {
            session.info.wide_products = wide;
        }
        Ok(session)
    }

    /// Puts a plan made earlier on an adapter; of `options` only the adapter matters.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a plan of another version, made for larger limits than the
    /// adapter's or for other cooperative matrices; else as [`Session::load`].
    pub fn from_plan(plan: Plan, options: &Options) -> Result<Session> {
        let (adapter, software) = (options.adapter.as_deref(), options.allow_software);
        let gpu = match plan.is_cooperative() {
            true => Gpu::open_cooperative(adapter, software)?,
            false => Gpu::open(adapter, software)?,
        };
        Session::from_plan_on(&gpu, plan)
    }

    /// Puts a plan made earlier on an open device.
    ///
    /// # Errors
    /// As [`Session::from_plan`].
    pub fn from_plan_on(gpu: &Gpu, plan: Plan) -> Result<Session> {
        Session::start(plan, BTreeMap::new(), None, gpu)
    }

    fn start(
        mut plan: Plan,
        metadata: BTreeMap<String, String>,
        passes: Option<Passes>,
        gpu: &Gpu,
    ) -> Result<Session> {
        let player = Player::new(&plan, gpu)?;
        plan.weights = Vec::new();
        let info = Info {
            name: plan.name.clone(),
            adapter: gpu.adapter().clone(),
            inputs: plan.inputs.clone(),
            outputs: plan.outputs.clone(),
            metadata,
            pipelines: plan.kernels.len(),
            memory: Memory::of(&plan),
            passes,
            precision: plan.precision(),
            // Of a plan made earlier only its kernels say what was asked for.
            wide_products: if plan.precision() == Precision::F16 { plan.wide_products() } else { 0 },
            rounded_products: plan.rounded_products(),
            buffers: plan.buffers,
            dispatches: plan.dispatches,
        };
        Ok(Session { info, player })
    }

    /// The device it is on, to load more on it.
    pub fn gpu(&self) -> &Gpu {
        &self.player.gpu
    }

    /// What the model is and where it runs.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Runs the model once. Every input is given by name; outputs come in the model's order.
    ///
    /// # Errors
    /// [`Error::InputMismatch`] for a missing, unknown or misshapen input; [`Error::AdapterLost`],
    /// [`Error::AdapterMemory`] and [`Error::Adapter`] from the adapter.
    pub fn run(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>> {
        self.player.run(&self.given(inputs)?, &self.info.outputs)
    }

    /// The input called `name`.
    fn port(&self, name: &str) -> Result<&Port> {
        let found = self.info.inputs.iter().find(|port| port.name == name);
        found.ok_or_else(|| self.mismatch(name, "no such input", "a tensor"))
    }

    fn mismatch(&self, name: &str, want: &str, got: &str) -> Error {
        let names = self.info.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::InputMismatch {
            name: name.to_owned(),
            want: want.to_owned(),
            got: got.to_owned(),
            next: format!("its inputs are: {names}"),
        }
    }

    /// For every input of the model, its place among `names`; each name stands there once.
    fn order(&self, names: &[&str]) -> Result<Vec<usize>> {
        for (at, name) in names.iter().enumerate() {
            self.port(name)?;
            if names.iter().take(at).any(|other| other == name) {
                return Err(self.mismatch(name, "it once", "it twice"));
            }
        }
        let place = |port: &Port| {
            let place = names.iter().position(|name| *name == port.name);
            place.ok_or_else(|| Error::InputMismatch {
                name: port.name.clone(),
                want: format!("{:?} of shape {:?}", port.dtype, port.shape),
                got: "nothing".to_owned(),
                next: "give it".to_owned(),
            })
        };
        self.info.inputs.iter().map(place).collect()
    }

    /// Checks the type and shape of what is given for an input.
    fn fits(&self, port: &Port, dtype: Dtype, shape: &[usize]) -> Result<()> {
        if dtype == port.dtype && shape == port.shape {
            return Ok(());
        }
        Err(Error::InputMismatch {
            name: port.name.clone(),
            want: format!("{:?} of shape {:?}", port.dtype, port.shape),
            got: format!("{dtype:?} of shape {shape:?}"),
            next: "convert or reshape it".to_owned(),
        })
    }

    /// The tensors in the order of the model's inputs, checked.
    fn given<'a>(&'a self, inputs: &'a [(&str, Tensor)]) -> Result<Vec<(&'a Port, &'a Tensor)>> {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let order = self.order(&names)?;
        let mut given = Vec::with_capacity(order.len());
        for (port, at) in self.info.inputs.iter().zip(order) {
            let Some((_, tensor)) = inputs.get(at) else { continue };
            self.fits(port, tensor.dtype(), tensor.shape())?;
            given.push((port, tensor));
        }
        Ok(given)
    }
}
