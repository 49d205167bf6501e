//! Rules of operators that pick or place elements by index, or find indices.

use crate::error::Result;
use crate::graph::shapes::{Call, KNOWN_MAX, Value};
use crate::tensor::Dtype;

/// Longest result of `Range`, in elements; it is written out when a model is planned.
const RANGE_MAX: usize = 1 << 24;

fn indices<'a>(call: &Call<'a>, index: usize) -> Result<&'a Value> {
    let value = call.input(index)?;
    if value.dtype == Dtype::I64 || value.dtype == Dtype::I32 {
        return Ok(value);
    }
    let why = format!("'{}' must hold integers, but holds {:?}", call.name(index), value.dtype);
    Err(call.node.invalid(why))
}

pub(super) fn arg(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(0), value.shape.len())?;
    let mut shape = value.shape.clone();
    if call.node.int("keepdims").unwrap_or(1) != 0 {
        shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = 1);
    } else {
        shape.remove(axis);
    }
    Ok(Value::new(Dtype::I64, shape))
}

pub(super) fn top(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), value.shape.len())?;
    let [count] = call.integers(1)? else {
        return Err(call.node.invalid(format!("'{}' must hold one number", call.name(1))));
    };
    let extent = value.shape.get(axis).copied().unwrap_or(0);
    let count = usize::try_from(*count).ok().filter(|count| *count <= extent).ok_or_else(|| {
        call.node.invalid(format!("it asks for {count} of the {extent} elements of axis {axis}"))
    })?;
    let mut shape = value.shape.clone();
    shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = count);
    Ok(vec![Value::new(value.dtype, shape.clone()), Value::new(Dtype::I64, shape)])
}

pub(super) fn gather_elements(call: &Call<'_>) -> Result<Value> {
    let (value, indices) = (call.input(0)?, indices(call, 1)?);
    let axis = call.axis(call.node.int("axis").unwrap_or(0), value.shape.len())?;
    check_aligned(call, &value.shape, &indices.shape, axis)?;
    Ok(Value::new(value.dtype, indices.shape.clone()))
}

/// Refuses indices that reach beyond the data on an axis other than `axis`.
fn check_aligned(call: &Call<'_>, data: &[usize], indices: &[usize], axis: usize) -> Result<()> {
    let inside = indices.iter().zip(data).enumerate().all(|(i, (own, whole))| i == axis || own <= whole);
    if indices.len() == data.len() && inside {
        return Ok(());
    }
    Err(call.node.invalid(format!("indices {indices:?} do not fit data {data:?} along axis {axis}")))
}

/// Leading axes shared by data and indices, and the length of one index.
fn tuples(call: &Call<'_>, data: &[usize], indices: &[usize], batch: usize) -> Result<usize> {
    let misfit = || call.node.invalid(format!("indices {indices:?} do not fit data {data:?}"));
    let length = indices.last().copied().ok_or_else(misfit)?;
    let shared = batch < indices.len() && data.get(..batch) == indices.get(..batch);
    if !shared || batch.checked_add(length).is_none_or(|used| used > data.len()) {
        return Err(misfit());
    }
    Ok(length)
}

pub(super) fn gather_nd(call: &Call<'_>) -> Result<Value> {
    let (value, indices) = (call.input(0)?, indices(call, 1)?);
    let batch = call.node.int("batch_dims").unwrap_or(0);
    let batch = usize::try_from(batch)
        .map_err(|_| call.node.invalid(format!("attribute 'batch_dims' is {batch}")))?;
    let length = tuples(call, &value.shape, &indices.shape, batch)?;
    let mut shape = indices.shape.clone();
    shape.pop();
    shape.extend(value.shape.iter().skip(batch + length));
    Ok(Value::new(value.dtype, shape))
}

pub(super) fn scatter_elements(call: &Call<'_>) -> Result<Value> {
    let (value, indices, updates) = (call.input(0)?, indices(call, 1)?, call.input(2)?);
    let axis = call.axis(call.node.int("axis").unwrap_or(0), value.shape.len())?;
    check_aligned(call, &value.shape, &indices.shape, axis)?;
    check_updates(call, value, updates, &indices.shape)?;
    Ok(Value::new(value.dtype, value.shape.clone()))
}

pub(super) fn scatter_nd(call: &Call<'_>) -> Result<Value> {
    let (value, indices, updates) = (call.input(0)?, indices(call, 1)?, call.input(2)?);
    let length = tuples(call, &value.shape, &indices.shape, 0)?;
    let mut shape = indices.shape.clone();
    shape.pop();
    shape.extend(value.shape.iter().skip(length));
    check_updates(call, value, updates, &shape)?;
    Ok(Value::new(value.dtype, value.shape.clone()))
}

fn check_updates(call: &Call<'_>, value: &Value, updates: &Value, shape: &[usize]) -> Result<()> {
    if updates.dtype == value.dtype && updates.shape == shape {
        return Ok(());
    }
    let got = (updates.dtype, &updates.shape);
    Err(call.node.invalid(format!("updates are {got:?}, but {:?} {shape:?} are wanted", value.dtype)))
}

pub(super) fn one_hot(call: &Call<'_>) -> Result<Value> {
    let (indices, values) = (call.input(0)?, call.input(2)?);
    let depth = match (call.input(1)?.known.as_deref(), call.input(1)?.real.as_deref()) {
        (Some([depth]), _) => usize::try_from(*depth).ok(),
        (_, Some([depth])) if *depth >= 1.0 && *depth < 1e9 => Some(*depth as usize),
        (None, None) => return Err(call.depends(1)),
        _ => None,
    };
    let depth = depth.filter(|depth| *depth > 0);
    let depth = depth.ok_or_else(|| call.node.invalid(format!("'{}' holds no depth", call.name(1))))?;
    if values.shape != [2] {
        return Err(call.node.invalid(format!("'{}' has shape {:?}, not [2]", call.name(2), values.shape)));
    }
    let axis = call.axis(call.node.int("axis").unwrap_or(-1), indices.shape.len() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, depth);
    Ok(Value::new(values.dtype, shape))
}

pub(super) fn eye_like(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    if value.shape.len() != 2 {
        return Err(call.node.invalid(format!("shape {:?} is no matrix", value.shape)));
    }
    let dtype = match call.node.int("dtype") {
        Some(code) => Dtype::from_onnx(code)
            .ok_or_else(|| call.node.unsupported(format!("the ONNX type number {code}")))?,
        None => value.dtype,
    };
    Ok(Value::new(dtype, value.shape.clone()))
}

pub(super) fn range(call: &Call<'_>) -> Result<Value> {
    let dtype = call.input(0)?.dtype;
    let (count, known) = match dtype {
        Dtype::I64 | Dtype::I32 => {
            let one = |index: usize| -> Result<i64> {
                match call.integers(index)? {
                    [value] => Ok(*value),
                    _ => Err(call.node.invalid(format!("'{}' is not one number", call.name(index)))),
                }
            };
            let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
            if step == 0 {
                return Err(call.node.invalid("its step is 0"));
            }
            let distance = i128::from(limit) - i128::from(start);
            let (distance, by) =
                if step < 0 { (-distance, -i128::from(step)) } else { (distance, step.into()) };
            let count = (distance + by - 1).div_euclid(by);
            let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
            let at = |i: usize| start.checked_add(step.checked_mul(i as i64)?);
            (count, if count <= KNOWN_MAX { (0..count).map(at).collect() } else { None })
        }
        Dtype::F32 => {
            let one = |index: usize| match call.input(index).map(|v| v.real.as_deref()) {
                Ok(Some([value])) => Ok(f64::from(*value)),
                Ok(_) => Err(call.depends(index)),
                Err(error) => Err(error),
            };
            let count = ((one(1)? - one(0)?) / one(2)?).ceil();
            if count.is_nan() {
                return Err(call.node.invalid("its step is 0"));
            }
            (if count < 1e15 { count.max(0.0) as usize } else { usize::MAX }, None)
        }
        other => return Err(call.node.unsupported(format!("a range of the type {other:?}"))),
    };
    if count > RANGE_MAX {
        return Err(call.node.unsupported(format!("a range of {count} elements, more than {RANGE_MAX}")));
    }
    Ok(Value::known(dtype, vec![count], known))
}

pub(super) fn size(call: &Call<'_>) -> Result<Value> {
    let count = call.input(0)?.elements();
    Ok(Value::known(Dtype::I64, vec![], i64::try_from(count).ok().map(|count| vec![count])))
}
