//! Shape inference and integer arithmetic against the single-operator test models of the ONNX project.
//!
//! Needs a Python with `onnx` and `numpy`, named by `MASKTAS_PYTHON`; without, it says so and does nothing, or
//! fails where `MASKTAS_REQUIRE_ENGINES` is 1, as under `make test`.
//! A model may be refused as not supported (types and operators we lack); it must never be called
//! invalid, and what is inferred must be right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use masktas_runtime::onnx::read_file;
use masktas_runtime::{Dtype, Error};
use serde_json::Value;

/// Operators whose every case must be understood, so that a refusal cannot hide a broken rule.
const WHOLE: [&str; 24] = [
    "MatMul",
    "Gemm",
    "Conv",
    "Gelu",
    "Erf",
    "Sqrt",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Softmax",
    "Transpose",
    "Flatten",
    "Concat",
    "Gather",
    "Expand",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Reshape",
    "Shape",
    "ReduceMean",
    "GlobalAveragePool",
    "Where",
    "LayerNormalization",
];

/// Cases of those that are refused, each with its reason.
const LACKING: [(&str, &str); 0] = [];

fn number(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::I64 => "int64",
        Dtype::I32 => "int32",
        Dtype::U8 => "uint8",
        Dtype::I8 => "int8",
        Dtype::Bool => "bool",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        Dtype::F64 => "float64",
        Dtype::I16 => "int16",
        Dtype::U16 => "uint16",
        Dtype::U32 => "uint32",
        Dtype::U64 => "uint64",
    }
}

#[test]
fn single_operators_agree_with_the_standard() {
    let Ok(python) = std::env::var("MASKTAS_PYTHON") else {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, and MASKTAS_PYTHON is not set; run `make test`");
        eprintln!("skipped: MASKTAS_PYTHON names no Python with onnx and numpy; run `make test`");
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("node-cases-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node_cases.py");
    let ran = Command::new(&python).arg(script).arg(&folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Value> = serde_json::from_str(&expected).unwrap();

    let (mut agreed, mut computed, mut wrong) = (0, 0, vec![]);
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for (name, case) in &expected {
        match judge(&folder.join(format!("{name}.onnx")), case) {
            Ok(elements) => {
                agreed += 1;
                computed += elements;
            }
            Err(Verdict::Refused(why)) => {
                let op = case["op"].as_str().unwrap();
                let lacking = LACKING.iter().any(|(own, _)| own == name);
                if WHOLE.contains(&op) && !lacking && !why.contains("type number") {
                    wrong.push(format!("{name}: {why}"));
                }
                refused.insert(name.clone());
            }
            Err(Verdict::Wrong(why)) => wrong.push(format!("{name}: {why}")),
        }
    }
    for (name, _) in LACKING {
        assert!(refused.contains(name), "{name} is understood now; take it off the list");
    }
    eprintln!(
        "{agreed} agree ({computed} tensors computed), {} refused, of {}",
        refused.len(),
        expected.len()
    );
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        agreed >= 300 && computed >= 8,
        "only {agreed} models were understood, {computed} tensors computed"
    );
}

enum Verdict {
    Refused(String),
    Wrong(String),
}

/// What is wrong, whatever the file's name.
fn of_any_file(error: Error) -> Error {
    match error {
        Error::InFile { source, .. } => *source,
        other => other,
    }
}

/// Number of outputs whose elements were computed and are right.
fn judge(path: &Path, case: &Value) -> Result<usize, Verdict> {
    let sort = |error: Error| match of_any_file(error) {
        refused @ (Error::Unsupported { .. } | Error::UnsupportedOp { .. } | Error::UnboundSymbol { .. }) => {
            Verdict::Refused(refused.to_string())
        }
        other => Verdict::Wrong(other.to_string()),
    };
    let graph = read_file(path).map_err(sort)?;
    let shapes = graph.shapes(&BTreeMap::new()).map_err(sort)?;
    let known = graph.known_integers(&BTreeMap::new()).map_err(sort)?;
    let mut computed = 0;
    for output in case["outputs"].as_array().unwrap() {
        let name = output["name"].as_str().unwrap();
        let (dtype, shape) = &shapes[name];
        let want: Vec<usize> =
            output["shape"].as_array().unwrap().iter().map(|e| e.as_u64().unwrap() as usize).collect();
        if *shape != want || output["dtype"] != number(*dtype) {
            return Err(Verdict::Wrong(format!("{dtype:?} {shape:?}, want {} {want:?}", output["dtype"])));
        }
        if let (Some(known), Some(elements)) = (known.get(name), output["elements"].as_array()) {
            let want: Vec<i64> = elements.iter().map(|e| e.as_i64().unwrap()).collect();
            if *known != want {
                return Err(Verdict::Wrong(format!("elements {known:?}, want {want:?}")));
            }
            computed += 1;
        }
    }
    Ok(computed)
}
