//! One case on an adapter.

use std::path::Path;

use masktas_runtime::onnx::read_file;
use masktas_runtime::plan::AdapterClass;
use masktas_runtime::session::{Options, Session};
use masktas_runtime::tensor::{Number, numbers};
use masktas_runtime::{Data, Dtype, Error, Tensor};
use serde_json::Value;

/// What a case gave.
pub enum Verdict {
    Pass,
    Host,
    NotSupported(String),
    Fail(String),
    /// The test's own data are wrong, for this reason, and our answer is another.
    Differs(String),
}

impl Verdict {
    /// The verdict on a test whose data are said to be wrong: it must be a failure.
    pub fn differs(&self, why: &str) -> Verdict {
        match self {
            Verdict::Fail(_) => Verdict::Differs(why.to_owned()),
            other => Verdict::Fail(format!("it gives {other} now; take `differs` off the list")),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Host => "host",
            Verdict::NotSupported(_) => "not supported",
            Verdict::Fail(_) => "fail",
            Verdict::Differs(_) => "differs",
        }
    }

    pub fn failure(&self) -> Option<&str> {
        match self {
            Verdict::Fail(why) => Some(why),
            _ => None,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Verdict::NotSupported(why) | Verdict::Fail(why) | Verdict::Differs(why) => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}

/// The case of the file at `path`, whose inputs and outputs `about` describes.
pub fn judge(path: &Path, about: &Value) -> Verdict {
    let mut verdict = Verdict::Pass;
    for class in [AdapterClass::Software, AdapterClass::Gpu] {
        match run(path, about, class) {
            Ok(true) => {}
            Ok(false) => verdict = Verdict::Host,
            Err(Refusal::Lacking(why)) => return Verdict::NotSupported(why),
            Err(Refusal::Wrong(why)) => return Verdict::Fail(format!("{class:?} kernels: {why}")),
        }
    }
    verdict
}

enum Refusal {
    Lacking(String),
    Wrong(String),
}

fn sort(error: Error) -> Refusal {
    // The reasons that are kept hold wherever the file lies.
    let error = match error {
        Error::InFile { source, .. } => *source,
        other => other,
    };
    // What to do next is advice to a caller, no reason.
    let text = error.to_string().replace('\n', " ");
    let why = text.split("; export the model without it").next().unwrap_or_default().to_owned();
    match error {
        Error::Unsupported { .. } | Error::UnsupportedOp { .. } => Refusal::Lacking(why),
        _ => Refusal::Wrong(why),
    }
}

/// Whether kernels read every input.
fn run(path: &Path, about: &Value, class: AdapterClass) -> Result<bool, Refusal> {
    let wrong = |why: String| Refusal::Wrong(why);
    let graph = read_file(path).map_err(sort)?;
    let options = Options { class: Some(class), ..Options::default() };
    let session = Session::load(&graph, &options).map_err(sort)?;
    let inputs = tensors(&about["inputs"]).map_err(sort)?;
    let given: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let got = session.run(&given).map_err(sort)?;
    let want = tensors(&about["outputs"]).map_err(sort)?;
    if got.len() != want.len() {
        return Err(wrong(format!("{} outputs, want {}", got.len(), want.len())));
    }
    for ((name, got), (_, want)) in got.iter().zip(&want) {
        agree(got, want).map_err(|why| wrong(format!("'{name}': {why}")))?;
    }
    let bound = |buffer: usize| {
        session.info().dispatches.iter().any(|d| d.bindings.iter().any(|binding| binding.buffer == buffer))
    };
    Ok(!inputs.is_empty() && session.info().inputs.iter().all(|port| bound(port.buffer)))
}

/// Integers exactly; floats to a thousandth, or 1e-5 near zero, as `scripts/conformance.py` judges other engines.
fn agree(got: &Tensor, want: &Tensor) -> Result<(), String> {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        let (got, want) = ((got.dtype(), got.shape()), (want.dtype(), want.shape()));
        return Err(format!("{got:?}, want {want:?}"));
    }
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-5 + 1e-3 * b.abs();
    for (index, (a, b)) in elements(got).into_iter().zip(elements(want)).enumerate() {
        let same = match (a, b) {
            (Number::Float(a), Number::Float(b)) => close(a, b),
            (a, b) => a == b,
        };
        if !same {
            return Err(format!("element {index} is {a:?}, want {b:?}"));
        }
    }
    Ok(())
}

fn elements(tensor: &Tensor) -> Vec<Number> {
    let int = |value: i64| Number::Int(value);
    match tensor.data() {
        Data::F32(v) => v.iter().map(|x| Number::Float((*x).into())).collect(),
        Data::I64(v) => v.iter().map(|x| int(*x)).collect(),
        Data::I32(v) => v.iter().map(|x| int((*x).into())).collect(),
        Data::U8(v) => v.iter().map(|x| int((*x).into())).collect(),
        Data::I8(v) => v.iter().map(|x| int((*x).into())).collect(),
        Data::Bool(v) => v.iter().map(|x| int((*x).into())).collect(),
        other => numbers(other).into_iter().map(|number| number.unwrap_or(int(i64::MIN))).collect(),
    }
}

fn tensors(described: &Value) -> masktas_runtime::Result<Vec<(String, Tensor)>> {
    described.as_array().unwrap().iter().map(tensor).collect()
}

fn tensor(value: &Value) -> masktas_runtime::Result<(String, Tensor)> {
    let name = value["name"].as_str().unwrap().to_owned();
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|e| e.as_u64().unwrap() as usize).collect();
    let code = value["type"].as_i64().unwrap();
    let dtype = Dtype::from_onnx(code).ok_or_else(|| Error::Unsupported {
        what: format!("value '{name}'"),
        why: format!("it has the ONNX type number {code}"),
    })?;
    let hex = value["elements"].as_str().unwrap();
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    fn each<const N: usize, T>(bytes: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    let data = match dtype {
        Dtype::F32 => Data::F32(each(&bytes, f32::from_le_bytes).into()),
        Dtype::I64 => Data::I64(each(&bytes, i64::from_le_bytes).into()),
        Dtype::I32 => Data::I32(each(&bytes, i32::from_le_bytes).into()),
        Dtype::U8 => Data::U8(bytes.into()),
        Dtype::I8 => Data::I8(each(&bytes, i8::from_le_bytes).into()),
        Dtype::Bool => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
        other => Data::Other(other, bytes.into()),
    };
    Ok((name, Tensor::new(shape, data)?))
}
