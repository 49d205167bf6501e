//! Any bytes as an ONNX file: read, admitted as an agent does, and read as tensors.

#![no_main]

use libfuzzer_sys::fuzz_target;
use masktas_runtime::onnx;

fuzz_target!(|bytes: &[u8]| {
    drop(onnx::admit(bytes));
    drop(onnx::read(bytes));
});
