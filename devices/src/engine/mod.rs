//! Engines: programs that run an ONNX file.
//!
//! Adding one is one file and one line in the table `ENGINES`. An engine never falls back: a library, provider
//! or adapter that is missing is an error with one next step.

mod ort;
mod tract;
mod wgpu;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use masktas_runtime::plan::Precision;
use masktas_runtime::{Dtype, Tensor, Tolerance};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::worker::WorkerCommand;

pub(crate) use self::ort::newest_in as newest_library_in;
pub use self::ort::{Found, ORT_FLOOR, Place, find_library, library_version, search_places};
pub use self::wgpu::adapters;

/// Named tensors, in the order of the model.
pub type Tensors = Vec<(String, Tensor)>;

/// What an engine needs to know before it can start.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// ONNX Runtime's shared library; `None`: the search order of [`find_library`].
    pub ort_lib: Option<PathBuf>,
    /// Part of the name of the GPU adapter; `None`: the first one.
    pub adapter: Option<String>,
    /// How our own runtime runs a model.
    pub kernels: Kernels,
    /// How a measured model gets a process of its own; `None`: it cannot, and runs in this one.
    pub worker: Option<WorkerCommand>,
}

/// How the engine `wgpu` runs a model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kernels {
    /// What it keeps the weights of matrix products as.
    pub precision: Precision,
    /// The file in which a tune kept which kernel variants are fastest; `None`: the adapter's class decides.
    pub choices: Option<PathBuf>,
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Threads inside one operation, at least one; operations run one after the other.
    pub threads: usize,
    /// Execution provider by the engine's own name; `None`: the engine's CPU (for wgpu: its adapter).
    pub provider: Option<String>,
    /// Whether the engine may rewrite the graph. `false` gives the numeric reference.
    pub optimise: bool,
    /// Shapes to fix inputs at; needed only for inputs with a symbolic extent.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Whether each node's time is taken, for [`LoadedModel::node_runs`]. It makes runs slower.
    pub trace: bool,
}

/// What one node of an engine's own graph took, run by run.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRuns {
    /// Its name in the engine, which may have joined several nodes of the model.
    pub name: String,
    /// Its operator in the engine.
    pub op: String,
    /// Provider that ran it.
    pub provider: String,
    /// Milliseconds, run by run.
    pub ms: Vec<f64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { threads: 1, provider: None, optimise: true, shapes: Vec::new(), trace: false }
    }
}

/// Name, type and shape of an input at which a loaded model is run.
#[derive(Clone, Debug, PartialEq)]
pub struct InputInfo {
    /// Name of the value.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, all known.
    pub shape: Vec<usize>,
}

/// Runs ONNX files.
pub trait Engine {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// Version of the engine (for ONNX Runtime: of the library that is loaded).
    ///
    /// # Errors
    /// As [`Engine::check`].
    fn version(&self) -> Result<String>;

    /// Whether a run's work is done by this process, so that its processor time means something.
    fn runs_in_process(&self) -> bool {
        true
    }

    /// Whether the engine can be used here.
    ///
    /// # Errors
    /// What is missing, with one next step.
    fn check(&self) -> Result<()>;

    /// Loads a model from the bytes of an ONNX file.
    ///
    /// # Errors
    /// When the engine is missing, when it refuses the file, and when the provider or the thread count asked
    /// for is not there. A panic inside the engine is an error too.
    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn LoadedModel>>;
}

/// A model ready to run.
pub trait LoadedModel {
    /// The inputs [`LoadedModel::run`] needs.
    fn inputs(&self) -> &[InputInfo];

    /// Runs the model once and waits for the outputs, which are named and in the model's order.
    ///
    /// # Errors
    /// When an input is missing, has another type or shape, or the engine fails.
    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Tensors>;

    /// The provider that runs the nodes, by the engine's own name. One name: mixed placement is refused.
    fn provider_used(&self) -> &str;

    /// What there is to say about how the model is run, beside the provider.
    fn remark(&self) -> Option<&str> {
        None
    }

    /// The bounds for its answers beside those of 32-bit floats: wider where the engine was told to compute with less.
    fn tolerance(&self) -> Tolerance {
        Tolerance::F32
    }

    /// What each node took in all runs so far, of a model that was loaded with [`LoadOptions::trace`]. The trace ends.
    ///
    /// # Errors
    /// [`Error::NotSupported`] when the engine cannot tell.
    fn node_runs(&mut self) -> Result<Vec<NodeRuns>>;
}

type Make = fn(&EngineOptions) -> Box<dyn Engine>;

/// The registry: name and maker.
const ENGINES: &[(&str, Make)] = &[
    ("ort", |options| Box::new(ort::Ort::new(options.ort_lib.clone()))),
    ("tract", |_| Box::new(tract::Tract)),
    ("wgpu", |options| Box::new(wgpu::Wgpu::new(options.adapter.clone(), options.kernels.clone()))),
];

/// Names of all engines.
pub fn engines() -> Vec<&'static str> {
    ENGINES.iter().map(|(name, _)| *name).collect()
}

/// The engine called `name`. Nothing is loaded yet: [`Engine::check`] says whether it can be used.
///
/// # Errors
/// [`Error::UnknownEngine`].
pub fn engine(name: &str, options: &EngineOptions) -> Result<Box<dyn Engine>> {
    ENGINES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, make)| make(options))
        .ok_or_else(|| Error::UnknownEngine { name: name.to_owned(), known: engines().join(", ") })
}

/// Runs `work`, turning a panic inside an engine into its message.
fn guarded<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!("it panicked: {text}"))
        }
    }
}

/// Checks given inputs against what the model needs, and puts them in the model's order.
fn ordered<'a>(engine: &str, want: &[InputInfo], given: &'a [(String, Tensor)]) -> Result<Vec<&'a Tensor>> {
    let fail = |reason| Error::Run { engine: engine.to_owned(), reason };
    if given.len() != want.len() {
        return Err(fail(format!("{} inputs were given and the model has {}", given.len(), want.len())));
    }
    want.iter()
        .map(|info| {
            let Some((_, tensor)) = given.iter().find(|(name, _)| *name == info.name) else {
                let names: Vec<_> = given.iter().map(|(name, _)| name.as_str()).collect();
                return Err(fail(format!("input `{}` is missing (given: {})", info.name, names.join(", "))));
            };
            if tensor.dtype() != info.dtype || tensor.shape() != info.shape.as_slice() {
                return Err(fail(format!(
                    "input `{}` is {:?} {:?} and the model needs {:?} {:?}",
                    info.name,
                    tensor.dtype(),
                    tensor.shape(),
                    info.dtype,
                    info.shape
                )));
            }
            Ok(tensor)
        })
        .collect()
}

/// The shape asked for an input, where the caller gave one.
fn asked_shape<'a>(options: &'a LoadOptions, input: &str) -> Option<&'a [usize]> {
    options.shapes.iter().find(|(name, _)| name == input).map(|(_, shape)| shape.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_engine_is_an_error_with_the_list() {
        let error = engine("tensorrt", &EngineOptions::default()).err().unwrap().to_string();
        assert!(error.contains("tensorrt") && error.contains("ort, tract, wgpu"), "{error}");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guarded::<()>(|| panic!("index {} out of range", 7)).unwrap_err();
        assert_eq!(error, "it panicked: index 7 out of range");
    }

    #[test]
    fn inputs_are_checked_and_ordered() {
        let info = |name: &str, shape: &[usize]| InputInfo {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        let want = [info("a", &[1]), info("b", &[2])];
        let a = ("a".to_owned(), Tensor::f32([1], vec![1.0]).unwrap());
        let b = ("b".to_owned(), Tensor::f32([2], vec![1.0, 2.0]).unwrap());
        let both = [b.clone(), a.clone()];
        let ordered_both = ordered("e", &want, &both).unwrap();
        assert_eq!(ordered_both[0].shape(), [1]);
        assert!(ordered("e", &want, std::slice::from_ref(&a)).unwrap_err().to_string().contains("1 inputs"));
        let wrong = [a, ("b".to_owned(), Tensor::f32([3], vec![0.0; 3]).unwrap())];
        let text = ordered("e", &want, &wrong).unwrap_err().to_string();
        assert!(text.contains("[3]") && text.contains("[2]"), "{text}");
    }
}
