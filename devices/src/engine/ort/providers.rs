//! Execution providers by name.

use ::ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};

use super::NAME;
use crate::engine::NodeRuns;
use crate::error::{Error, Result};

const CPU: &str = "CPUExecutionProvider";

/// A way to run nodes that the loaded library was built with.
#[derive(Clone, Copy)]
pub(super) struct Provider(&'static Entry);

struct Entry {
    /// What people type.
    short: &'static str,
    /// ONNX Runtime's name.
    name: &'static str,
    /// Whether the library was built with it; `None` for the CPU's, which always is.
    available: Option<fn() -> ::ort::Result<bool>>,
    dispatch: fn() -> ExecutionProviderDispatch,
}

macro_rules! entry {
    ($short:literal, $kind:ty) => {
        Entry {
            short: $short,
            name: <$kind as ExecutionProvider>::NAME,
            available: Some(<$kind as ExecutionProvider>::is_available),
            dispatch: || <$kind>::default().build(),
        }
    };
}

const ENTRIES: &[Entry] = &[
    Entry { short: "cpu", name: CPU, available: None, dispatch: || ep::CPU::default().build() },
    entry!("cuda", ep::CUDA),
    entry!("tensorrt", ep::TensorRT),
    entry!("webgpu", ep::WebGPU),
    entry!("openvino", ep::OpenVINO),
    entry!("xnnpack", ep::XNNPACK),
    entry!("qnn", ep::QNN),
    entry!("nnapi", ep::NNAPI),
    entry!("coreml", ep::CoreML),
    entry!("directml", ep::DirectML),
    entry!("migraphx", ep::MIGraphX),
    entry!("acl", ep::ACL),
];

impl Provider {
    /// The provider called `asked`, by either name; `None`: the CPU's.
    ///
    /// # Errors
    /// [`Error::Provider`] when the library was built without it.
    pub(super) fn of(asked: Option<&str>) -> Result<Self> {
        let asked = asked.unwrap_or("cpu");
        let here = |entry: &Entry| entry.available.is_none_or(|available| available().unwrap_or(false));
        let known = ENTRIES.iter().find(|e| e.short == asked || e.name == asked).filter(|entry| here(entry));
        known.map(Self).ok_or_else(|| Error::Provider {
            engine: NAME.into(),
            asked: asked.to_owned(),
            available: ENTRIES
                .iter()
                .filter(|entry| here(entry))
                .map(|e| e.short)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    pub(super) fn is_cpu(self) -> bool {
        self.0.name == CPU
    }

    pub(super) fn name(self) -> &'static str {
        self.0.name
    }

    /// What to register; `None` for the CPU's, which is always there.
    pub(super) fn dispatch(self) -> Option<ExecutionProviderDispatch> {
        (!self.is_cpu()).then(|| (self.0.dispatch)())
    }

    /// Refuses a run of which a part took place elsewhere.
    ///
    /// # Errors
    /// [`Error::Placement`] with both numbers and some of the nodes.
    pub(super) fn all(self, runs: &[NodeRuns]) -> Result<()> {
        let elsewhere: Vec<&NodeRuns> = runs.iter().filter(|run| run.provider != self.name()).collect();
        if elsewhere.is_empty() && !runs.is_empty() {
            return Ok(());
        }
        let named =
            elsewhere.iter().take(3).map(|run| format!("{} ({}, on {})", run.name, run.op, run.provider));
        Err(Error::Placement {
            provider: self.0.short.to_owned(),
            elsewhere: elsewhere.len(),
            nodes: runs.len(),
            examples: named.collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(provider: &str) -> NodeRuns {
        NodeRuns { name: "n".into(), op: "Gather".into(), provider: provider.into(), ms: vec![1.0] }
    }

    #[test]
    fn a_part_elsewhere_is_refused_with_both_numbers() {
        let cuda = Provider(ENTRIES.iter().find(|entry| entry.short == "cuda").unwrap());
        assert!(cuda.all(&[run("CUDAExecutionProvider"), run("CUDAExecutionProvider")]).is_ok());
        let text = cuda.all(&[run("CUDAExecutionProvider"), run(CPU)]).unwrap_err().to_string();
        assert!(text.contains("1 of 2") && text.contains("Gather") && text.contains(CPU), "{text}");
        assert!(cuda.all(&[]).is_err(), "a run that shows nothing proves nothing");
    }
}
