//! ONNX Runtime through its shared library: the only folder that names the `ort` crate.

mod library;
mod providers;
mod trace;

use std::path::PathBuf;

use masktas_runtime::{Data, Dtype, Tensor};

use self::library::{Loaded, loaded};
use self::providers::Provider;
use super::{Engine, InputInfo, LoadOptions, LoadedModel, NodeRuns, Tensors, asked_shape, guarded, ordered};
use crate::error::{Error, Result};

pub(crate) use self::library::newest_in;
pub use self::library::{Found, ORT_FLOOR, Place, find_library, library_version, search_places};

const NAME: &str = "ort";

/// The engine `ort`.
pub(super) struct Ort {
    library: Option<PathBuf>,
}

impl Ort {
    pub(super) fn new(library: Option<PathBuf>) -> Self {
        Self { library }
    }
}

impl Engine for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        Ok(loaded(self.library.as_deref())?.version.clone())
    }

    fn check(&self) -> Result<()> {
        loaded(self.library.as_deref()).map(|_| ())
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn LoadedModel>> {
        // ONNX Runtime would take all cores for 0, and a time says how many threads it was taken with.
        if options.threads == 0 {
            return Err(Error::NotSupported {
                engine: NAME.into(),
                what: "0 threads".into(),
                next: "use at least 1 thread".into(),
            });
        }
        let loaded = loaded(self.library.as_deref())?;
        let provider = Provider::of(options.provider.as_deref())?;
        // Where nodes really run is known only from a profile of a run.
        let profile = if options.trace || !provider.is_cpu() { Some(trace::Profile::new()?) } else { None };
        let session = guarded(|| {
            session(loaded, model, options, provider, profile.as_ref()).map_err(|e| e.to_string())
        })
        .map_err(|reason| Error::Load { engine: NAME.into(), reason })?;
        let inputs = session.inputs().iter().map(|outlet| input(outlet, options)).collect::<Result<_>>()?;
        let outputs = session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        Ok(Box::new(OrtModel { session, inputs, outputs, provider, profile, trace: options.trace }))
    }
}

fn session(
    loaded: &Loaded,
    model: &[u8],
    options: &LoadOptions,
    provider: Provider,
    profile: Option<&trace::Profile>,
) -> ::ort::Result<::ort::session::Session> {
    use ::ort::session::builder::GraphOptimizationLevel as Level;
    let level = if options.optimise { Level::All } else { Level::Disable };
    // Spinning threads of one model would steal time from the next one measured.
    let mut builder = ::ort::session::Session::builder(&loaded.environment)?
        .with_optimization_level(level)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?;
    if let Some(dispatch) = provider.dispatch() {
        builder = builder.with_execution_providers([dispatch.error_on_failure()])?;
    }
    if let Some(profile) = profile {
        builder = builder.with_profiling(profile.prefix())?;
    }
    builder.commit_from_memory(model)
}

fn input(outlet: &::ort::value::Outlet, options: &LoadOptions) -> Result<InputInfo> {
    use ::ort::value::{TensorElementType as Type, ValueType};
    let unsupported = |what: String| Error::NotSupported {
        engine: NAME.into(),
        what,
        next: "export the model with tensors of float, integer or boolean elements".into(),
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(unsupported(format!("input `{}`, which is not a tensor", outlet.name())));
    };
    let dtype = match ty {
        Type::Float32 => Dtype::F32,
        Type::Int64 => Dtype::I64,
        Type::Int32 => Dtype::I32,
        Type::Uint8 => Dtype::U8,
        Type::Int8 => Dtype::I8,
        Type::Bool => Dtype::Bool,
        other => {
            return Err(unsupported(format!("input `{}` with elements of type {other:?}", outlet.name())));
        }
    };
    let shape = match asked_shape(options, outlet.name()) {
        Some(asked) => asked.to_vec(),
        None => shape
            .iter()
            .enumerate()
            .map(|(axis, extent)| {
                usize::try_from(*extent).map_err(|_| Error::SymbolicInput {
                    input: outlet.name().to_owned(),
                    symbol: dimension_symbols.get(axis).cloned().unwrap_or_default(),
                })
            })
            .collect::<Result<_>>()?,
    };
    Ok(InputInfo { name: outlet.name().to_owned(), dtype, shape })
}

struct OrtModel {
    session: ::ort::session::Session,
    inputs: Vec<InputInfo>,
    outputs: Vec<String>,
    provider: Provider,
    /// The profile that is being written.
    profile: Option<trace::Profile>,
    /// Whether the profile is kept for the caller; else its first run only says where nodes run.
    trace: bool,
}

impl OrtModel {
    /// Ends the profile after the first run and refuses a model of which a part ran elsewhere.
    fn check_placement(&mut self) -> Result<()> {
        if self.trace || self.provider.is_cpu() {
            return Ok(());
        }
        match self.profile.take() {
            Some(profile) => self.provider.all(&profile.end(&mut self.session)?),
            None => Ok(()),
        }
    }
}

impl LoadedModel for OrtModel {
    fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Tensors> {
        let tensors = ordered(NAME, &self.inputs, inputs)?;
        let (session, outputs) = (&mut self.session, &self.outputs);
        let ran = guarded(|| {
            let values =
                tensors.iter().map(|tensor| value(tensor)).collect::<std::result::Result<Vec<_>, _>>()?;
            let mut results = session.run(values.as_slice()).map_err(|e| e.to_string())?;
            outputs
                .iter()
                .map(|name| {
                    let value = results.remove(name).ok_or_else(|| format!("output `{name}` is missing"))?;
                    Ok((name.clone(), tensor(name, &value)?))
                })
                .collect()
        });
        let ran = ran.map_err(|reason| Error::Run { engine: NAME.into(), reason })?;
        self.check_placement()?;
        Ok(ran)
    }

    fn provider_used(&self) -> &str {
        self.provider.name()
    }

    fn node_runs(&mut self) -> Result<Vec<NodeRuns>> {
        match self.profile.take() {
            Some(profile) => profile.end(&mut self.session),
            None => Err(Error::Caller("the model was loaded without a trace".into())),
        }
    }
}

fn value(tensor: &Tensor) -> std::result::Result<::ort::session::SessionInputValue<'_>, String> {
    use ::ort::value::TensorRef;
    let shape = tensor.shape().to_vec();
    let value = match tensor.data() {
        Data::F32(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::I64(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::I32(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::U8(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::I8(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::Bool(v) => TensorRef::from_array_view((shape, &v[..])).map(Into::into),
        Data::Other(dtype, _) => return Err(format!("an input has elements of the type {dtype:?}")),
        Data::Unset(_) => return Err("an input has a shape but no elements".into()),
    };
    value.map_err(|e: ::ort::Error| e.to_string())
}

fn tensor(name: &str, value: &::ort::value::DynValue) -> std::result::Result<Tensor, String> {
    use ::ort::value::{PrimitiveTensorElementType, TensorElementType as Type, ValueType};
    fn take<T: PrimitiveTensorElementType + Copy>(
        value: &::ort::value::DynValue,
        data: fn(std::sync::Arc<[T]>) -> Data,
    ) -> std::result::Result<Tensor, String> {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(|e| e.to_string())?;
        let shape = shape.iter().map(|extent| usize::try_from(*extent).map_err(|e| e.to_string()));
        Tensor::new(shape.collect::<std::result::Result<_, _>>()?, data(elements.into()))
            .map_err(|e| e.to_string())
    }
    match value.dtype() {
        ValueType::Tensor { ty: Type::Float32, .. } => take(value, Data::F32),
        ValueType::Tensor { ty: Type::Int64, .. } => take(value, Data::I64),
        ValueType::Tensor { ty: Type::Int32, .. } => take(value, Data::I32),
        ValueType::Tensor { ty: Type::Uint8, .. } => take(value, Data::U8),
        ValueType::Tensor { ty: Type::Int8, .. } => take(value, Data::I8),
        ValueType::Tensor { ty: Type::Bool, .. } => take(value, Data::Bool),
        other => Err(format!("output `{name}` is {other:?}, which is not a tensor of a type known here")),
    }
}
