//! tract: pure Rust, no library to install, one thread.

use std::io::Cursor;

use masktas_runtime::{Data, Dtype, Tensor};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec,
    Tensor as TractTensor, TractError, TractResult, TypedSimplePlan, TypedSimpleState,
};
use tract_onnx::tract_core::plan::eval;
use tract_onnx::tract_hir::infer::Factoid;

use super::{Engine, InputInfo, LoadOptions, LoadedModel, NodeRuns, Tensors, asked_shape, guarded, ordered};
use crate::error::{Error, Result};

const NAME: &str = "tract";
const PROVIDER: &str = "cpu";
/// Version of tract this program was built with; a test compares it with the lock file.
const VERSION: &str = "0.23.9";

/// The engine `tract`.
pub(super) struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        Ok(VERSION.to_owned())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn LoadedModel>> {
        if options.threads != 1 {
            return Err(Error::NotSupported {
                engine: NAME.into(),
                what: format!("{} threads (it was built for 1)", options.threads),
                next: "use 1 thread, or engine ort".into(),
            });
        }
        if let Some(asked) = options.provider.as_deref().filter(|asked| *asked != PROVIDER) {
            return Err(Error::Provider {
                engine: NAME.into(),
                asked: asked.to_owned(),
                available: PROVIDER.into(),
            });
        }
        let loaded = guarded(|| load(model, options).map_err(words));
        match loaded.map_err(|reason| Error::Load { engine: NAME.into(), reason })? {
            Ok(model) => Ok(Box::new(model)),
            Err(error) => Err(error),
        }
    }
}

/// tract's own errors are chains; the first link alone rarely says what is wrong.
fn words(error: TractError) -> String {
    format!("{error:#}")
}

fn load(bytes: &[u8], options: &LoadOptions) -> TractResult<Result<TractModel>> {
    let onnx = tract_onnx::onnx();
    let proto = onnx.proto_model_for_read(&mut Cursor::new(bytes))?;
    let outputs: Vec<String> =
        proto.graph.iter().flat_map(|graph| graph.output.iter().map(|value| value.name.clone())).collect();
    let mut model = onnx.model_for_proto_model(&proto)?;
    drop(proto);
    let mut inputs = Vec::new();
    for (slot, outlet) in model.inputs.clone().into_iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let fact = model.outlet_fact(outlet)?.clone();
        let dtype = fact.datum_type.concretize().and_then(dtype);
        let Some((dtype, datum)) = dtype.and_then(|dtype| Some((dtype, datum(dtype)?))) else {
            return Ok(Err(Error::NotSupported {
                engine: NAME.into(),
                what: format!("input `{name}` with elements of type {:?}", fact.datum_type),
                next: "export the model with tensors of float, integer or boolean elements".into(),
            }));
        };
        let shape: Vec<usize> = match asked_shape(options, &name) {
            Some(asked) => asked.to_vec(),
            None => {
                let Some(dims) = fact.shape.concretize() else {
                    return Ok(Err(Error::SymbolicInput {
                        input: name,
                        symbol: format!("{:?}", fact.shape),
                    }));
                };
                let fixed: Option<Vec<usize>> = dims
                    .iter()
                    .map(|dim| dim.to_i64().ok().and_then(|extent| usize::try_from(extent).ok()))
                    .collect();
                match fixed {
                    Some(shape) => shape,
                    None => {
                        let symbol = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                        return Ok(Err(Error::SymbolicInput { input: name, symbol }));
                    }
                }
            }
        };
        model.set_input_fact(slot, InferenceFact::dt_shape(datum, shape.as_slice()))?;
        inputs.push(InputInfo { name, dtype, shape });
    }
    let typed =
        if options.optimise { model.into_optimized()? } else { model.into_typed()?.into_decluttered()? };
    let plan: std::sync::Arc<TypedSimplePlan> = typed.into_runnable()?;
    let state = plan.spawn()?;
    let times = options.trace.then(Vec::new);
    Ok(Ok(TractModel { plan, state, inputs, outputs, times }))
}

struct TractModel {
    plan: std::sync::Arc<TypedSimplePlan>,
    state: TypedSimpleState,
    inputs: Vec<InputInfo>,
    outputs: Vec<String>,
    /// Where each node's time is kept, when it is taken.
    times: Option<Vec<NodeRuns>>,
}

/// Runs the model and notes what each node takes.
fn run_noting(
    state: &mut TypedSimpleState,
    values: TVec<TValue>,
    times: &mut Vec<NodeRuns>,
) -> TractResult<TVec<TValue>> {
    let mut place = 0;
    state.run_plan_with_eval(values, |context, op_state, node, inputs| {
        let start = std::time::Instant::now();
        let result = eval(context, op_state, node, inputs);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        match times.get_mut(place) {
            Some(known) => known.ms.push(ms),
            None => times.push(NodeRuns {
                name: node.name.clone(),
                op: node.op.name().into_owned(),
                provider: PROVIDER.into(),
                ms: vec![ms],
            }),
        }
        place += 1;
        result
    })
}

impl LoadedModel for TractModel {
    fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Tensors> {
        let tensors = ordered(NAME, &self.inputs, inputs)?;
        let (state, outputs, times) = (&mut self.state, &self.outputs, &mut self.times);
        let result = guarded(|| {
            let values =
                tensors.iter().map(|tensor| value(tensor)).collect::<std::result::Result<TVec<_>, _>>()?;
            let results = match times {
                Some(times) => run_noting(state, values, times),
                None => state.run(values),
            };
            let results = results.map_err(words)?;
            if results.len() != outputs.len() {
                return Err(format!("it gave {} outputs and the model has {}", results.len(), outputs.len()));
            }
            outputs
                .iter()
                .zip(&results)
                .map(|(name, value)| Ok((name.clone(), tensor(name, value)?)))
                .collect()
        });
        if result.is_err() {
            // A run that failed half-way leaves values behind.
            if let Ok(Ok(fresh)) = guarded(|| Ok(self.plan.spawn())) {
                self.state = fresh;
            }
        }
        result.map_err(|reason| Error::Run { engine: NAME.into(), reason })
    }

    fn provider_used(&self) -> &str {
        PROVIDER
    }

    fn node_runs(&mut self) -> Result<Vec<NodeRuns>> {
        self.times.take().ok_or_else(|| Error::Caller("the model was loaded without a trace".into()))
    }
}

fn dtype(datum: DatumType) -> Option<Dtype> {
    Some(match datum {
        DatumType::F32 => Dtype::F32,
        DatumType::I64 => Dtype::I64,
        DatumType::I32 => Dtype::I32,
        DatumType::U8 => Dtype::U8,
        DatumType::I8 => Dtype::I8,
        DatumType::Bool => Dtype::Bool,
        _ => return None,
    })
}

fn datum(dtype: Dtype) -> Option<DatumType> {
    Some(match dtype {
        Dtype::F32 => DatumType::F32,
        Dtype::I64 => DatumType::I64,
        Dtype::I32 => DatumType::I32,
        Dtype::U8 => DatumType::U8,
        Dtype::I8 => DatumType::I8,
        Dtype::Bool => DatumType::Bool,
        _ => return None,
    })
}

fn value(tensor: &Tensor) -> std::result::Result<TValue, String> {
    let shape = tensor.shape();
    let made = match tensor.data() {
        Data::F32(v) => TractTensor::from_shape(shape, v),
        Data::I64(v) => TractTensor::from_shape(shape, v),
        Data::I32(v) => TractTensor::from_shape(shape, v),
        Data::U8(v) => TractTensor::from_shape(shape, v),
        Data::I8(v) => TractTensor::from_shape(shape, v),
        Data::Bool(v) => TractTensor::from_shape(shape, v),
        Data::Other(dtype, _) => return Err(format!("an input has elements of the type {dtype:?}")),
        Data::Unset(_) => return Err("an input has a shape but no elements".into()),
    };
    made.map(IntoTValue::into_tvalue).map_err(words)
}

fn tensor(name: &str, value: &TractTensor) -> std::result::Result<Tensor, String> {
    use tract_onnx::prelude::Datum;
    fn take<T: Datum + Copy>(
        value: &TractTensor,
        data: fn(std::sync::Arc<[T]>) -> Data,
    ) -> std::result::Result<Tensor, String> {
        let plain = value.try_as_plain_ram().map_err(words)?;
        let elements = plain.as_slice::<T>().map_err(words)?;
        Tensor::new(value.shape().to_vec(), data(elements.into())).map_err(|e| e.to_string())
    }
    match value.datum_type() {
        DatumType::F32 => take(value, Data::F32),
        DatumType::I64 => take(value, Data::I64),
        DatumType::I32 => take(value, Data::I32),
        DatumType::U8 => take(value, Data::U8),
        DatumType::I8 => take(value, Data::I8),
        DatumType::Bool => take(value, Data::Bool),
        other => Err(format!("output `{name}` has elements of type {other:?}, which is not known here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let at = lock.find("name = \"tract-onnx\"").unwrap();
        let line = lock[at..].lines().nth(1).unwrap();
        assert_eq!(line, format!("version = \"{VERSION}\""));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let load = |options| Tract.load(b"", &options).err().unwrap().to_string();
        let text = load(LoadOptions { threads: 4, ..LoadOptions::default() });
        assert!(text.contains("4 threads"), "{text}");
        let text = load(LoadOptions { provider: Some("cuda".into()), ..LoadOptions::default() });
        assert!(text.contains("cuda") && text.contains("cpu"), "{text}");
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let mut rng = crate::stats::Rng::new(1);
        for length in [1usize, 7, 100, 5000] {
            let bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
            assert!(Tract.load(&bytes, &LoadOptions::default()).is_err());
        }
    }
}
