//! Rules of operators that compute each element, or each row, on its own.

use crate::error::Result;
use crate::graph::Attribute;
use crate::graph::shapes::{Call, KNOWN_MAX, Value, broadcast};
use crate::tensor::{Data, Dtype, Tensor};

/// Element of `known` (of shape `shape`) that broadcasts to the flat `index` of `out`.
fn pick(known: &[i64], shape: &[usize], out: &[usize], index: usize) -> Option<i64> {
    let skip = out.len().checked_sub(shape.len())?;
    let (mut rest, mut stride, mut flat) = (index, 1usize, 0usize);
    for (i, extent) in out.iter().enumerate().rev() {
        let coordinate = rest % extent;
        rest /= extent;
        if let Some(own) = i.checked_sub(skip).and_then(|j| shape.get(j)) {
            if *own != 1 {
                flat += coordinate * stride;
            }
            stride *= own;
        }
    }
    known.get(flat).copied()
}

/// Applies `f` to the known elements of two operands; `None` when one is unknown or `f` has no answer.
fn fold(a: &Value, b: &Value, out: &[usize], f: impl Fn(i64, i64) -> Option<i64>) -> Option<Vec<i64>> {
    let (x, y) = (a.known.as_ref()?, b.known.as_ref()?);
    let count = out.iter().try_fold(1usize, |n, e| n.checked_mul(*e)).filter(|n| *n <= KNOWN_MAX)?;
    (0..count).map(|i| f(pick(x, &a.shape, out, i)?, pick(y, &b.shape, out, i)?)).collect()
}

fn joined(call: &Call<'_>, a: &Value, b: &Value) -> Result<Vec<usize>> {
    broadcast(&a.shape, &b.shape).ok_or_else(|| {
        call.node.invalid(format!("shapes {:?} and {:?} do not broadcast to one another", a.shape, b.shape))
    })
}

fn same_type(call: &Call<'_>, a: &Value, b: &Value) -> Result<()> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    Err(call.node.invalid(format!("its inputs are of the types {:?} and {:?}", a.dtype, b.dtype)))
}

pub(super) fn arithmetic(call: &Call<'_>) -> Result<Value> {
    let op = call.node.op.as_str();
    let variadic = matches!(op, "Max" | "Min" | "Sum" | "Mean");
    let mut value = call.input(0)?.clone();
    value.constant = false;
    let last = if variadic { call.inputs.len() } else { 2 };
    for index in 1..last {
        let other = call.input(index)?;
        if op != "Pow" {
            same_type(call, &value, other)?;
        }
        let shape = joined(call, &value, other)?;
        let known = fold(&value, other, &shape, |a, b| match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            // Integer division truncates in ONNX as in Rust.
            "Div" => a.checked_div(b),
            "Max" => Some(a.max(b)),
            "Min" => Some(a.min(b)),
            // The sign of the divisor, or with 'fmod' that of the dividend.
            "Mod" if call.node.int("fmod").unwrap_or(0) != 0 => a.checked_rem(b),
            "Mod" => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            _ => None,
        });
        // What wraps in a narrower type is left to the adapter.
        let fits = matches!(value.dtype, Dtype::I64 | Dtype::I32);
        let known = known.filter(|_| fits || matches!(op, "Max" | "Min"));
        value = Value::known(value.dtype, shape, known);
    }
    Ok(value)
}

pub(super) fn comparison(call: &Call<'_>) -> Result<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    same_type(call, a, b)?;
    let shape = joined(call, a, b)?;
    let op = call.node.op.as_str();
    let known = fold(a, b, &shape, |x, y| {
        Some(i64::from(match op {
            "Equal" => x == y,
            "Less" => x < y,
            "Greater" => x > y,
            "LessOrEqual" => x <= y,
            "And" => x != 0 && y != 0,
            "Or" => x != 0 || y != 0,
            "Xor" => (x != 0) != (y != 0),
            _ => x >= y,
        }))
    });
    Ok(Value::known(Dtype::Bool, shape, known))
}

pub(super) fn select(call: &Call<'_>) -> Result<Value> {
    let (condition, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if condition.dtype != Dtype::Bool {
        return Err(call
            .node
            .invalid(format!("its condition is of the type {:?}, not Bool", condition.dtype)));
    }
    same_type(call, a, b)?;
    let pair = Value::new(a.dtype, joined(call, a, b)?);
    let shape = joined(call, condition, &pair)?;
    let yes = fold(condition, a, &shape, |c, x| Some(if c != 0 { x } else { 0 }));
    let no = fold(condition, b, &shape, |c, x| Some(if c != 0 { 0 } else { x }));
    let known = yes.zip(no).map(|(yes, no)| yes.iter().zip(&no).map(|(x, y)| x + y).collect());
    Ok(Value::known(a.dtype, shape, known))
}

pub(super) fn unary(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let known = match call.node.op.as_str() {
        "Identity" => value.known.clone(),
        "Not" => value.known.as_ref().map(|v| v.iter().map(|x| i64::from(*x == 0)).collect()),
        "Neg" => value.known.as_ref().and_then(|v| v.iter().map(|x| x.checked_neg()).collect()),
        _ => None,
    };
    Ok(Value::known(value.dtype, value.shape.clone(), known))
}

pub(super) fn softmax(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    call.axis(call.node.int("axis").unwrap_or(-1), value.shape.len())?;
    Ok(Value::new(value.dtype, value.shape.clone()))
}

pub(super) fn cumulative(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    match call.integers(1)? {
        [axis] => call.axis(*axis, value.shape.len())?,
        _ => return Err(call.node.invalid(format!("'{}' must hold one axis", call.name(1)))),
    };
    Ok(Value::new(value.dtype, value.shape.clone()))
}

pub(super) fn dropout(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let training = match call.optional(2) {
        Some(_) => call.flag(2)?,
        None => false,
    };
    let ratio = call.optional(1).and_then(|v| v.real.as_ref()?.first().copied());
    if training && ratio != Some(0.0) {
        return Err(call.node.unsupported("it drops elements at random, as in training"));
    }
    Ok(vec![value.clone(), Value::new(Dtype::Bool, value.shape.clone())])
}

/// Checks that input `index` broadcasts to the trailing extents `tail`.
fn check_tail(call: &Call<'_>, index: usize, tail: &[usize]) -> Result<()> {
    let Some(value) = call.optional(index) else { return Ok(()) };
    if broadcast(&value.shape, tail).as_deref() == Some(tail) {
        return Ok(());
    }
    let name = call.name(index);
    Err(call
        .node
        .invalid(format!("'{name}' has shape {:?}, but the normalised axes are {tail:?}", value.shape)))
}

pub(super) fn layer_norm(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    call.input(1)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), value.shape.len())?;
    let (_, tail) = value.shape.split_at(axis);
    check_tail(call, 1, tail)?;
    check_tail(call, 2, tail)?;
    let mut row = value.shape.clone();
    row.iter_mut().skip(axis).for_each(|extent| *extent = 1);
    let row = Value::new(Dtype::F32, row);
    Ok(vec![Value::new(value.dtype, value.shape.clone()), row.clone(), row])
}

pub(super) fn normalised(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    if call.node.op == "RMSNormalization" {
        call.input(1)?;
        let axis = call.axis(call.node.int("axis").unwrap_or(-1), value.shape.len())?;
        let (_, tail) = value.shape.split_at(axis);
        check_tail(call, 1, tail)?;
    } else {
        let mut channels = value.shape.get(1).copied();
        if call.node.op == "GroupNormalization" {
            let groups = call.node.int("num_groups").and_then(|g| usize::try_from(g).ok());
            let whole = |g: &usize| *g > 0 && channels.is_some_and(|c| c % g == 0);
            let groups = groups.filter(whole).ok_or_else(|| {
                call.node.invalid(format!("{channels:?} channels are no multiple of attribute 'num_groups'"))
            })?;
            // Scale and bias were one a group before operator set 21.
            channels = if call.opset < 21 { Some(groups) } else { channels };
        }
        for index in 1..call.inputs.len() {
            let shape = &call.input(index)?.shape;
            if shape.len() != 1 || shape.first().copied() != channels {
                let name = call.name(index);
                return Err(call
                    .node
                    .invalid(format!("'{name}' has shape {shape:?}, but there are {channels:?} channels")));
            }
        }
    }
    Ok(Value::new(value.dtype, value.shape.clone()))
}

pub(super) fn cast(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let code = call.node.int("to").ok_or_else(|| call.node.invalid("attribute 'to' is missing"))?;
    let dtype = Dtype::from_onnx(code)
        .ok_or_else(|| call.node.unsupported(format!("a cast to the ONNX type number {code}")))?;
    let known = match dtype {
        Dtype::I64 => value.known.clone(),
        Dtype::I32 => value.known.clone().filter(|v| v.iter().all(|x| i32::try_from(*x).is_ok())),
        Dtype::Bool => value.known.as_ref().map(|v| v.iter().map(|x| i64::from(*x != 0)).collect()),
        _ => None,
    };
    Ok(Value::known(dtype, value.shape.clone(), known))
}

pub(super) fn constant(call: &Call<'_>) -> Result<Value> {
    let node = call.node;
    let attribute = |name: &str| node.attributes.get(name);
    if let Some(Attribute::Tensor(tensor)) = attribute("value") {
        return Ok(Value::of(tensor));
    }
    let ints = |values: &[i64], shape: Vec<usize>| Value {
        constant: true,
        ..Value::known(Dtype::I64, shape, (values.len() <= KNOWN_MAX).then(|| values.to_vec()))
    };
    let floats = |shape: Vec<usize>| Value { constant: true, ..Value::new(Dtype::F32, shape) };
    if let Some(value) = node.int("value_int") {
        Ok(ints(&[value], vec![]))
    } else if let Some(values) = node.ints("value_ints") {
        Ok(ints(values, vec![values.len()]))
    } else if node.float("value_float").is_some() {
        Ok(floats(vec![]))
    } else if let Some(Attribute::Floats(values)) = attribute("value_floats") {
        Ok(floats(vec![values.len()]))
    } else {
        Err(node.unsupported("a constant that is neither a tensor nor numbers"))
    }
}

pub(super) fn constant_of_shape(call: &Call<'_>) -> Result<Value> {
    let mut shape = Vec::new();
    for extent in call.integers(0)? {
        let extent = usize::try_from(*extent);
        shape.push(
            extent.map_err(|_| call.node.invalid(format!("'{}' holds a negative extent", call.name(0))))?,
        );
    }
    let (dtype, fill) = match call.node.attributes.get("value") {
        None => (Dtype::F32, None),
        Some(Attribute::Tensor(tensor)) => (tensor.dtype(), first_integer(tensor)),
        Some(_) => return Err(call.node.invalid("attribute 'value' is not a tensor")),
    };
    let count = shape.iter().try_fold(1usize, |n, e| n.checked_mul(*e)).filter(|n| *n <= KNOWN_MAX);
    let known = fill.zip(count).map(|(fill, count)| vec![fill; count]);
    Ok(Value::known(dtype, shape, known))
}

fn first_integer(tensor: &Tensor) -> Option<i64> {
    match tensor.data() {
        Data::I64(v) => v.first().copied(),
        Data::I32(v) => v.first().map(|x| i64::from(*x)),
        Data::Bool(v) => v.first().map(|x| i64::from(*x)),
        _ => None,
    }
}
