//! Plays a plan on an adapter, natively through wgpu.
//!
//! Everything is made when a model is loaded: buffers, pipelines (one for each different kernel) and
//! bind groups. A run writes the inputs, submits one command buffer with one compute pass, and reads
//! all outputs back at once. Nothing ever falls back to the CPU: a missing adapter, a lost one and a
//! full memory are errors.
//!
//! ```no_run
//! use masktas_runtime::session::{Options, Session};
//! use masktas_runtime::Tensor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let session = Session::load(std::fs::read("model.onnx")?.as_slice(), &Options::default())?;
//! let image = Tensor::f32([1, 3, 32, 32], vec![0.0; 3 * 32 * 32])?;
//! for (name, tensor) in session.run(&[("image", image)])? {
//!     assert_eq!(name, "features");
//!     assert_eq!(tensor.shape().len(), 2);
//! }
//! # Ok(())
//! # }
//! ```

mod adapters;
mod player;

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::onnx;
use crate::plan::{AdapterClass, Dispatch, Passes, Plan, PlanOptions, Port, plan_with};
use crate::tensor::Tensor;

pub use adapters::{Adapter, AdapterKind, Adapters};
use player::Player;

/// How to load a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Index in [`Adapters::list`] or a part of a name; `None`: the first, hardware before software.
    pub adapter: Option<String>,
    /// Whether `None` above may choose a driver that runs shaders on the CPU.
    pub allow_software: bool,
    /// Kernel variants for another class of adapter than the chosen one's; to compare them.
    pub class: Option<AdapterClass>,
    /// Rewrites of the plan.
    pub passes: Passes,
    /// Sizes of symbolic extents, such as a batch.
    pub symbols: BTreeMap<String, usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            adapter: None,
            allow_software: true,
            class: None,
            passes: Passes::ALL,
            symbols: BTreeMap::new(),
        }
    }
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug)]
pub enum Model<'a> {
    /// The bytes of an ONNX file.
    Bytes(&'a [u8]),
    /// A graph in memory.
    Graph(&'a Graph),
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
    /// Bytes of its buffers on the adapter.
    pub bytes: u64,
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
    /// [`Error::NoAdapter`], [`Error::AdapterMemory`], [`Error::AdapterLost`] and [`Error::Adapter`] from the adapter.
    pub fn load<'a>(model: impl Into<Model<'a>>, options: &Options) -> Result<Session> {
        let (info, adapter) = adapters::choose(options.adapter.as_deref(), options.allow_software)?;
        let mut target = info.target.clone();
        if let Some(class) = options.class {
            target.class = class;
        }
        let plan_options = PlanOptions { passes: options.passes, symbols: options.symbols.clone() };
        let read;
        let graph = match model.into() {
            Model::Graph(graph) => graph,
            Model::Bytes(bytes) => {
                read = onnx::read(bytes)?;
                &read
            }
        };
        let plan = plan_with(graph, &target, &plan_options)?;
        Session::start(plan, graph.metadata.clone(), info, &adapter)
    }

    /// Puts a plan made earlier on an adapter; of `options` only the adapter matters.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a plan of another version or made for larger limits than the
    /// adapter's; else as [`Session::load`].
    pub fn from_plan(plan: Plan, options: &Options) -> Result<Session> {
        let (info, adapter) = adapters::choose(options.adapter.as_deref(), options.allow_software)?;
        Session::start(plan, BTreeMap::new(), info, &adapter)
    }

    fn start(
        mut plan: Plan,
        metadata: BTreeMap<String, String>,
        info: Adapter,
        adapter: &wgpu::Adapter,
    ) -> Result<Session> {
        let player = Player::new(&plan, &info, adapter)?;
        plan.weights = Vec::new();
        let info = Info {
            name: plan.name.clone(),
            adapter: info,
            inputs: plan.inputs.clone(),
            outputs: plan.outputs.clone(),
            metadata,
            pipelines: plan.kernels.len(),
            bytes: plan.bytes(),
            dispatches: plan.dispatches,
        };
        Ok(Session { info, player })
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
        let describe = |port: &Port| format!("{:?} of shape {:?}", port.dtype, port.shape);
        let names = || self.info.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        for (at, (name, _)) in inputs.iter().enumerate() {
            let twice = inputs.iter().take(at).any(|(other, _)| other == name);
            let unknown = self.info.inputs.iter().all(|port| port.name != *name);
            if unknown || twice {
                let (want, got) = if twice { ("it once", "it twice") } else { ("no such input", "a tensor") };
                return Err(Error::InputMismatch {
                    name: (*name).to_owned(),
                    want: want.to_owned(),
                    got: got.to_owned(),
                    next: format!("its inputs are: {}", names()),
                });
            }
        }
        let mut given = Vec::with_capacity(self.info.inputs.len());
        for port in &self.info.inputs {
            let mismatch = |got: String, next: &str| Error::InputMismatch {
                name: port.name.clone(),
                want: describe(port),
                got,
                next: next.to_owned(),
            };
            let (_, tensor) = inputs
                .iter()
                .find(|(name, _)| *name == port.name)
                .ok_or_else(|| mismatch("nothing".to_owned(), "give it"))?;
            if tensor.dtype() != port.dtype || tensor.shape() != port.shape {
                let got = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
                return Err(mismatch(got, "convert or reshape it"));
            }
            given.push((port, tensor));
        }
        self.player.run(&given, &self.info.outputs)
    }
}
