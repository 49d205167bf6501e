//! Our own runtime on a GPU adapter (or a driver that runs shaders on the CPU, where that is the adapter).

use std::collections::BTreeMap;

use masktas_runtime::plan::{Passes, Precision};
use masktas_runtime::session::{Adapters, Options, Session, Variant};
use masktas_runtime::{Dim, Graph, Tensor, Tolerance};

use super::{
    Engine, InputInfo, Kernels, LoadOptions, LoadedModel, NodeRuns, Tensors, asked_shape, guarded, ordered,
};
use crate::error::{Error, Result};

const NAME: &str = "wgpu";

/// The engine `wgpu`.
pub(super) struct Wgpu {
    adapter: Option<String>,
    kernels: Kernels,
}

impl Wgpu {
    pub(super) fn new(adapter: Option<String>, kernels: Kernels) -> Self {
        Self { adapter, kernels }
    }
}

/// Names of all adapters with driver and kind, in the runtime's order. Empty where there is none, or where a
/// broken driver cannot even be asked.
pub fn adapters() -> Vec<String> {
    let listed = guarded(|| Ok(Adapters::list()));
    listed
        .unwrap_or_default()
        .iter()
        .map(|adapter| format!("{adapter}, {:?}", adapter.kind).to_lowercase())
        .collect()
}

impl Engine for Wgpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn runs_in_process(&self) -> bool {
        false
    }

    fn check(&self) -> Result<()> {
        // The smallest model there is, so that adapter, device and kernels are all tried.
        let mut builder = masktas_runtime::GraphBuilder::new("check", 20);
        let one = || [Dim::Fixed(1)];
        let x = builder.input("x", masktas_runtime::Dtype::F32, one());
        let y = builder.node("Add", "y", &[&x, &x], []);
        builder.output(&y, masktas_runtime::Dtype::F32, one());
        let graph = builder.finish()?;
        let options = Options { adapter: self.adapter.clone(), ..Options::default() };
        guarded(|| {
            Ok(Session::load(&graph, &options).and_then(|s| s.run(&[("x", Tensor::f32([1], vec![1.0])?)])))
        })
        .map_err(|reason| Error::Load { engine: NAME.into(), reason })??;
        Ok(())
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn LoadedModel>> {
        if options.threads != 1 {
            return Err(Error::NotSupported {
                engine: NAME.into(),
                what: format!("{} threads (the adapter has its own)", options.threads),
                next: "use 1 thread".into(),
            });
        }
        let session = guarded(|| {
            let made = || -> Result<(Session, Option<Variant>)> {
                let graph = masktas_runtime::onnx::read(model)?;
                let runtime = Options {
                    adapter: options.provider.clone().or_else(|| self.adapter.clone()),
                    passes: if options.optimise { Passes::ALL } else { Passes::NONE },
                    symbols: symbols(&graph, options)?,
                    precision: self.kernels.precision,
                    ..Options::default()
                };
                // The numeric reference is not tuned.
                Ok(match self.kernels.choices.as_ref().filter(|_| options.optimise) {
                    Some(choices) => Session::load_kept(&graph, &runtime, choices)?,
                    None => (Session::load(&graph, &runtime)?, None),
                })
            };
            Ok(made())
        });
        let (session, kept) = session.map_err(|reason| Error::Load { engine: NAME.into(), reason })??;
        let info = session.info();
        let provider = info.adapter.to_string();
        let inputs = info.inputs.iter().map(|port| InputInfo {
            name: port.name.clone(),
            dtype: port.dtype,
            shape: port.shape.clone(),
        });
        let inputs = inputs.collect();
        let mut remarks = Vec::new();
        if let Some(variant) = kept {
            remarks.push(format!("kernels: {variant}, as --tune found"));
        }
        if info.precision == Precision::F16 {
            remarks.push("weights of products in 16-bit floats".to_owned());
        }
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        Ok(Box::new(WgpuModel { session, inputs, provider, remark }))
    }
}

/// Sizes of the symbolic extents, from the shapes asked for.
fn symbols(graph: &Graph, options: &LoadOptions) -> Result<BTreeMap<String, usize>> {
    let mut symbols = BTreeMap::new();
    for input in &graph.inputs {
        let asked = asked_shape(options, &input.name);
        for (axis, dim) in input.shape.iter().enumerate() {
            let Dim::Symbol(symbol) = dim else { continue };
            let Some(extent) = asked.and_then(|shape| shape.get(axis)) else {
                return Err(Error::SymbolicInput { input: input.name.clone(), symbol: symbol.clone() });
            };
            symbols.insert(symbol.clone(), *extent);
        }
    }
    Ok(symbols)
}

struct WgpuModel {
    session: Session,
    inputs: Vec<InputInfo>,
    provider: String,
    remark: Option<String>,
}

impl LoadedModel for WgpuModel {
    fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Tensors> {
        let tensors = ordered(NAME, &self.inputs, inputs)?;
        let named: Vec<(&str, Tensor)> = self
            .inputs
            .iter()
            .zip(tensors)
            .map(|(info, tensor)| (info.name.as_str(), tensor.clone()))
            .collect();
        let session = &self.session;
        let outputs = guarded(|| Ok(session.run(&named)));
        Ok(outputs.map_err(|reason| Error::Run { engine: NAME.into(), reason })??)
    }

    fn provider_used(&self) -> &str {
        &self.provider
    }

    fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    fn tolerance(&self) -> Tolerance {
        match self.session.info().precision {
            Precision::F16 => Tolerance::F16,
            Precision::F32 => Tolerance::F32,
        }
    }

    fn node_runs(&mut self) -> Result<Vec<NodeRuns>> {
        Err(Error::NotSupported {
            engine: NAME.into(),
            what: "times of single nodes".into(),
            next: "trace under ort or tract".into(),
        })
    }
}
