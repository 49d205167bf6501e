//! Rules of quantisation and of products of integers.

use crate::error::Result;
use crate::graph::shapes::{Call, Value, matrix};
use crate::tensor::Dtype;

pub(super) fn quantize(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    call.input(1)?;
    let dtype = match (call.optional(2), call.node.int("output_dtype").filter(|code| *code != 0)) {
        (Some(zero), _) => zero.dtype,
        (None, Some(code)) => Dtype::from_onnx(code)
            .ok_or_else(|| call.node.unsupported(format!("quantisation to the ONNX type number {code}")))?,
        (None, None) => Dtype::U8,
    };
    if dtype.is_float() || dtype == Dtype::Bool {
        return Err(call.node.invalid(format!("it quantises to {dtype:?}")));
    }
    Ok(Value::new(dtype, value.shape.clone()))
}

pub(super) fn dequantize(call: &Call<'_>) -> Result<Value> {
    let (value, scale) = (call.input(0)?, call.input(1)?);
    if !scale.dtype.is_float() || value.dtype.is_float() {
        let types = (value.dtype, scale.dtype);
        return Err(call.node.invalid(format!("it reads elements and scales of the types {types:?}")));
    }
    Ok(Value::new(scale.dtype, value.shape.clone()))
}

pub(super) fn dynamic(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    Ok(vec![
        Value::new(Dtype::U8, value.shape.clone()),
        Value::new(value.dtype, vec![]),
        Value::new(Dtype::U8, vec![]),
    ])
}

/// Elements of eight bits on both sides.
fn bytes(call: &Call<'_>, operands: [usize; 2]) -> Result<()> {
    for index in operands {
        let dtype = call.input(index)?.dtype;
        if dtype != Dtype::U8 && dtype != Dtype::I8 {
            return Err(call
                .node
                .invalid(format!("'{}' holds {dtype:?}, not 8-bit integers", call.name(index))));
        }
    }
    Ok(())
}

/// A zero point is of its operand's type: the standard knows no other, and the difference of two others may not fit.
fn points(call: &Call<'_>, pairs: [(usize, usize); 2]) -> Result<()> {
    for (index, point) in pairs {
        let Some(zero) = call.optional(point) else { continue };
        let dtype = call.input(index)?.dtype;
        if zero.dtype != dtype {
            let (of, name) = (call.name(index), call.name(point));
            return Err(call.node.invalid(format!(
                "the zero point '{name}' of '{of}' holds {:?}, but '{of}' holds {dtype:?}: both must be of one type",
                zero.dtype
            )));
        }
    }
    Ok(())
}

pub(super) fn matmul_integer(call: &Call<'_>) -> Result<Value> {
    bytes(call, [0, 1])?;
    points(call, [(0, 2), (1, 3)])?;
    Ok(Value::new(Dtype::I32, matrix::product(call, call.input(0)?, call.input(1)?)?))
}

pub(super) fn conv_integer(call: &Call<'_>) -> Result<Value> {
    bytes(call, [0, 1])?;
    points(call, [(0, 2), (1, 3)])?;
    Ok(Value::new(Dtype::I32, matrix::convolved(call, call.input(0)?, call.input(1)?)?))
}

/// Inputs of the quantised product and convolution: a, its scale and zero point, b, its scale and zero point, the
/// result's scale and zero point.
pub(super) fn linear(call: &Call<'_>) -> Result<Value> {
    bytes(call, [0, 3])?;
    points(call, [(0, 2), (3, 5)])?;
    let dtype = call.input(7)?.dtype;
    let (a, b) = (call.input(0)?, call.input(3)?);
    let shape = match call.node.op.as_str() {
        "QLinearConv" => matrix::convolved(call, a, b)?,
        _ => matrix::product(call, a, b)?,
    };
    Ok(Value::new(dtype, shape))
}
