//! A plan as two files: what comes back is the same plan, and what is no plan is an error.

use crate::common::vit::Vit;
use crate::common::{adapter, random};
use masktas_runtime::plan::{AdapterClass, PLAN_VERSION, Plan, Target, plan};
use masktas_runtime::session::{Options, Session};
use masktas_runtime::{Error, Graph};
use proptest::prelude::*;
use serde_json::{Value, json};

const SMALL: Vit = Vit { image: 12, patch: 4, width: 24, heads: 2, head: 8, hidden: 36, depth: 2 };

fn targets() -> [Target; 2] {
    [AdapterClass::Gpu, AdapterClass::Software].map(|class| Target { class, ..Target::webgpu_minimum() })
}

fn small() -> Graph {
    SMALL.build().0
}

#[test]
fn a_plan_that_was_read_back_gives_the_same_answer_bit_for_bit() {
    for target in targets() {
        let made = plan(&small(), &target).unwrap();
        let files = made.write().unwrap();
        let read = Plan::read(&files.json, files.weights).unwrap();
        assert_eq!(read, made);
        if !adapter() {
            continue;
        }
        let image = random(&[1, 3, 12, 12], 5);
        let [want, got] = [made, read].map(|plan| {
            let session = Session::from_plan(plan, &Options::default()).unwrap();
            session.run(&[("image", image.clone())]).unwrap()
        });
        let bits = |answer: &[(String, masktas_runtime::Tensor)]| {
            answer[0].1.as_f32().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&got), bits(&want));
        assert!(bits(&got).iter().any(|bits| *bits != 0));
    }
}

/// Class of kernels and buffers aside, one set of weights serves both classes.
#[test]
fn weights_do_not_depend_on_the_class_of_adapter() {
    let [gpu, software] = targets().map(|target| plan(&small(), &target).unwrap());
    assert_ne!(gpu.kernels, software.kernels);
    assert!(gpu.weights == software.weights, "{} and {} bytes", gpu.weights.len(), software.weights.len());
}

/// The value at `path` is replaced; what [`Plan::read`] says.
fn changed(path: &str, value: Value) -> Error {
    let files = plan(&small(), &Target::webgpu_minimum()).unwrap().write().unwrap();
    let mut json: Value = serde_json::from_slice(&files.json).unwrap();
    let place = json.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
    assert_ne!(*place, value, "{path} is that already");
    *place = value;
    Plan::read(&serde_json::to_vec(&json).unwrap(), files.weights).unwrap_err()
}

#[test]
fn what_does_not_hold_together_is_refused_by_name() {
    let cases = [
        ("/version", json!(PLAN_VERSION + 1), "version 2, this runtime plays 1"),
        ("/version", json!("one"), "invalid model: plan.json"),
        ("/buffers/0/bytes", json!(0), "buffer 0 of the plan: it has 0 bytes"),
        ("/buffers/0/bytes", json!(24), "buffer 0 of the plan: it has 24 bytes"),
        ("/buffers/0/bytes", json!(1u64 << 41), "the bytes of the plan's buffers is"),
        ("/buffers/0/bytes", json!(u64::MAX - 15), "the bytes of the plan's buffers is"),
        (
            "/buffers/0/bytes",
            json!(16),
            "value 'image' of the plan: a shape of [1, 3, 12, 12] in a buffer of 16 bytes",
        ),
        ("/buffers/0/role", json!("scratch"), "value 'image' of the plan: buffer 0 is none of its kind"),
        ("/buffers/2/role", json!("scratch"), "weights.bin: it has"),
        ("/inputs/0/shape", json!([u64::MAX, u64::MAX]), "value 'image' of the plan: a shape of"),
        ("/inputs/0/shape", json!([0]), "value 'image' of the plan: a shape of [0]"),
        ("/inputs/0/buffer", json!(1), "value 'image' of the plan: buffer 1"),
        ("/inputs", json!([]), "1 buffers for 0 Input values"),
        ("/kernels/1/0", json!(1 << 20), "kernel 1 of the plan: it wants line 1048576 of"),
        ("/lines", json!(["x".repeat(4 << 20)]), "of the plan: it wants line 1 of 1"),
        ("/kernels/0", json!(vec![0; 2 << 20]), "the bytes of the plan's kernels is"),
        ("/kernels", json!([]), "dispatch 0 of the plan: there is no kernel 0"),
        ("/dispatches", json!([]), "kernel 0 of the plan: no dispatch runs it"),
        ("/dispatches/0/kernel", json!(1 << 20), "dispatch 0 of the plan: there is no kernel 1048576"),
        ("/dispatches/0/bindings", json!([]), "dispatch 0 of the plan: it has no bindings"),
        ("/dispatches/0/bindings/0/0", json!(99), "dispatch 0 of the plan: there is no buffer 99"),
        ("/dispatches/0/bindings/0/1", json!(128), "bytes from byte 128"),
        ("/dispatches/0/bindings/0/1", json!(u64::MAX - 255), "dispatch 0 of the plan:"),
        ("/dispatches/0/bindings/0/2", json!(0), "0 bytes from byte"),
        ("/dispatches/0/bindings/0/2", json!(1 << 30), "1073741824 bytes from byte"),
        ("/dispatches/0/workgroups", json!([1, 0, 1]), "[1, 0, 1] workgroups are outside 1 to 65535"),
        ("/dispatches/0/workgroups/0", json!(65_536), "workgroups are outside 1 to 65535"),
        ("/dispatches/1/nodes", json!(7), "invalid model: plan.json"),
    ];
    for (path, value, want) in cases {
        let error = changed(path, value.clone()).to_string();
        assert!(error.contains(want), "{path} = {value}: {error}");
    }
}

#[test]
fn a_dispatch_writes_scratch_and_outputs_and_never_what_it_reads() {
    let files = plan(&small(), &Target::webgpu_minimum()).unwrap().write().unwrap();
    let json: Value = serde_json::from_slice(&files.json).unwrap();
    let last = json["dispatches"][0]["bindings"].as_array().unwrap().len() - 1;
    let read = json["dispatches"][0]["bindings"][0].clone();
    let error = changed(&format!("/dispatches/0/bindings/{last}"), read).to_string();
    assert!(error.contains("it reads and writes buffer"), "{error}");
    // A buffer that a caller or the maker fills.
    let first = |role: &str| {
        let buffers = json["buffers"].as_array().unwrap();
        buffers.iter().position(|buffer| buffer["role"] == role).unwrap()
    };
    let (input, weight) = (first("input"), first("weight"));
    let reads = |at: &usize, buffer| {
        let bindings = json["dispatches"][at]["bindings"].as_array().unwrap();
        bindings[..bindings.len() - 1].iter().any(|binding| binding[0] == buffer)
    };
    let count = json["dispatches"].as_array().unwrap().len();
    let at = (0..count).rfind(|at| !reads(at, input) && reads(at, weight)).unwrap();
    let last = json["dispatches"][at]["bindings"].as_array().unwrap().len() - 1;
    let bound = json!([input, 0, 16]);
    let error = changed(&format!("/dispatches/{at}/bindings/{last}"), bound).to_string();
    assert!(error.contains(&format!("it writes buffer {input}, which is only read")), "{error}");
}

#[test]
fn weights_of_another_size_and_other_bytes_are_refused() {
    let files = plan(&small(), &Target::webgpu_minimum()).unwrap().write().unwrap();
    let short = files.weights[1..].to_vec();
    let error = Plan::read(&files.json, short).unwrap_err().to_string();
    let (got, want) = (files.weights.len() - 1, files.weights.len());
    assert!(
        error.contains(&format!("weights.bin: it has {got} bytes, the plan's buffers want {want}")),
        "{error}"
    );
    for json in [&b""[..], b"{}", b"null", b"\xff\xfe", &b"[".repeat(100_000), &files.json[..99]] {
        assert!(matches!(Plan::read(json, Vec::new()), Err(Error::InvalidModel { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any number anywhere may be another one, and any byte.
    #[test]
    fn hostile_files_are_errors_or_plans_that_hold_together(
        numbers in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            0u64..40, Just(u64::MAX), Just(1 << 32), any::<u64>(),
        ]), 0..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let files = plan(&small(), &Target::webgpu_minimum()).unwrap().write().unwrap();
        let mut json: Value = serde_json::from_slice(&files.json).unwrap();
        let mut places = Vec::new();
        leaves(&json, String::new(), &mut places);
        for (at, number) in numbers {
            *json.pointer_mut(at.get(&places).as_str()).unwrap() = json!(number);
        }
        let mut bytes = serde_json::to_vec(&json).unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(plan) = Plan::read(&bytes, files.weights) {
            prop_assert!(plan.write().is_ok());
        }
    }
}

/// Pointers to all numbers of `json`.
fn leaves(json: &Value, at: String, found: &mut Vec<String>) {
    match json {
        Value::Number(_) => found.push(at),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, v)| leaves(v, format!("{at}/{i}"), found)),
        Value::Object(all) => all.iter().for_each(|(key, v)| leaves(v, format!("{at}/{key}"), found)),
        _ => {}
    }
}
