//! Rules of operators that move, view, join or reduce axes.

use crate::error::Result;
use crate::graph::shapes::{Call, KNOWN_MAX, Value, broadcast};
use crate::tensor::Dtype;

/// Axes from input `index`, or from attribute `axes` in older operator sets; `None` when left out.
fn axes(call: &Call<'_>, index: usize, as_input: bool, rank: usize) -> Result<Option<Vec<usize>>> {
    let given = if as_input {
        match call.optional(index) {
            Some(_) => Some(call.integers(index)?),
            None => None,
        }
    } else {
        call.node.ints("axes")
    };
    let Some(given) = given else { return Ok(None) };
    let mut axes = Vec::with_capacity(given.len());
    for axis in given {
        let axis = call.axis(*axis, rank)?;
        if axes.contains(&axis) {
            return Err(call.node.invalid(format!("axis {axis} is named twice")));
        }
        axes.push(axis);
    }
    Ok(Some(axes))
}

pub(super) fn reduce(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let as_input = call.opset >= 18 || call.node.op == "ReduceSum";
    let given = axes(call, 1, as_input, value.shape.len())?.unwrap_or_default();
    let keep = call.node.int("keepdims").unwrap_or(1) != 0;
    if given.is_empty() && call.node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(Value::new(value.dtype, value.shape.clone()));
    }
    let mut shape = Vec::with_capacity(value.shape.len());
    for (axis, extent) in value.shape.iter().enumerate() {
        if !given.is_empty() && !given.contains(&axis) {
            shape.push(*extent);
        } else if keep {
            shape.push(1);
        }
    }
    Ok(Value::new(value.dtype, shape))
}

/// Steps in a row-major list from one index of an axis to the next. Only an extent of zero could make them overflow, and then there is
/// no element to find.
fn strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    let mut stride = 1i64;
    for (at, extent) in strides.iter_mut().zip(shape).rev() {
        *at = stride;
        stride = stride.wrapping_mul(*extent as i64);
    }
    strides
}

/// The elements of `known` that a view of `shape` walks over, from `start` on.
fn walk(known: &[i64], shape: &[usize], start: i64, strides: &[i64]) -> Option<Vec<i64>> {
    let count: usize = shape.iter().product();
    let element = |index: usize| {
        let (mut rest, mut at) = (index, start);
        for (extent, stride) in shape.iter().zip(strides).rev() {
            at = at.wrapping_add(stride.wrapping_mul((rest % extent) as i64));
            rest /= extent;
        }
        known.get(usize::try_from(at).ok()?).copied()
    };
    (0..count).map(element).collect()
}

pub(super) fn transpose(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape.len();
    let backwards: Vec<i64> = (0..rank as i64).rev().collect();
    let order = call.node.ints("perm").unwrap_or(&backwards);
    let mut seen = vec![false; rank];
    let mut shape = Vec::with_capacity(rank);
    let (own, mut turned) = (strides(&value.shape), Vec::with_capacity(rank));
    for axis in order {
        let axis = usize::try_from(*axis).ok();
        match axis.and_then(|axis| Some((seen.get_mut(axis)?, value.shape.get(axis)?, own.get(axis)?))) {
            Some((seen, extent, stride)) if !*seen => {
                *seen = true;
                shape.push(*extent);
                turned.push(*stride);
            }
            _ => return Err(call.node.invalid(format!("perm {order:?} does not permute {rank} axes"))),
        }
    }
    if shape.len() != rank {
        return Err(call.node.invalid(format!("perm {order:?} does not permute {rank} axes")));
    }
    let known = value.known.as_ref().and_then(|known| walk(known, &shape, 0, &turned));
    Ok(Value::known(value.dtype, shape, known))
}

pub(super) fn reshape(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let wanted = call.integers(1)?;
    let misfit = || {
        let name = call.name(0);
        call.node.invalid(format!("cannot reshape '{name}' of shape {:?} to {wanted:?}", value.shape))
    };
    let copies = call.node.int("allowzero").unwrap_or(0) == 0;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (i, extent) in wanted.iter().enumerate() {
        shape.push(match *extent {
            -1 if free.is_none() => {
                free = Some(i);
                1
            }
            0 if copies => value.shape.get(i).copied().ok_or_else(misfit)?,
            extent => usize::try_from(extent).map_err(|_| misfit())?,
        });
    }
    let count = value.elements();
    let rest = shape.iter().try_fold(1usize, |n, e| n.checked_mul(*e)).ok_or_else(misfit)?;
    match free.and_then(|i| shape.get_mut(i)) {
        // With no elements at all the free extent is ambiguous; the standard says zero.
        Some(extent) if rest > 0 && count % rest == 0 => *extent = count / rest,
        Some(_) => return Err(misfit()),
        None if rest == count => {}
        None => return Err(misfit()),
    }
    Ok(Value::known(value.dtype, shape, value.known.clone()))
}

pub(super) fn flatten(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape.len();
    let axis = call.node.int("axis").unwrap_or(1);
    let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
    let (front, back) = value.shape.split_at(axis);
    Ok(Value::new(value.dtype, vec![front.iter().product(), back.iter().product()]))
}

pub(super) fn squeeze(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let given = axes(call, 1, true, value.shape.len())?;
    let mut shape = Vec::with_capacity(value.shape.len());
    for (axis, extent) in value.shape.iter().enumerate() {
        match &given {
            Some(axes) if axes.contains(&axis) => {
                if *extent != 1 {
                    return Err(call
                        .node
                        .invalid(format!("axis {axis} of {:?} is {extent}, not 1", value.shape)));
                }
            }
            None if *extent == 1 => {}
            _ => shape.push(*extent),
        }
    }
    Ok(Value::known(value.dtype, shape, value.known.clone()))
}

pub(super) fn unsqueeze(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape.len() + call.integers(1)?.len();
    let given = axes(call, 1, true, rank)?.unwrap_or_default();
    let mut rest = value.shape.iter().copied();
    let shape =
        (0..rank).map(|axis| if given.contains(&axis) { 1 } else { rest.next().unwrap_or(1) }).collect();
    Ok(Value::known(value.dtype, shape, value.known.clone()))
}

pub(super) fn slice(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let (starts, ends) = (call.integers(1)?, call.integers(2)?);
    let rank = value.shape.len();
    let axes = match axes(call, 3, true, rank)? {
        Some(axes) => axes,
        None => (0..starts.len().min(rank)).collect(),
    };
    let steps = match call.optional(4) {
        Some(_) => call.integers(4)?.to_vec(),
        None => vec![1; starts.len()],
    };
    if starts.len() != ends.len() || starts.len() != axes.len() || starts.len() != steps.len() {
        let counts = [starts.len(), ends.len(), axes.len(), steps.len()];
        return Err(call.node.invalid(format!("starts, ends, axes and steps have {counts:?} entries")));
    }
    let mut shape = value.shape.clone();
    let (mut strides, mut begin) = (strides(&shape), 0i64);
    for (((start, end), axis), step) in starts.iter().zip(ends).zip(&axes).zip(&steps) {
        let Some((extent, stride)) = shape.get_mut(*axis).zip(strides.get_mut(*axis)) else { continue };
        let (first, count) = span(*start, *end, *step, *extent)
            .ok_or_else(|| call.node.invalid(format!("a slice of axis {axis} has the step {step}")))?;
        *extent = count;
        begin = begin.wrapping_add(first.wrapping_mul(*stride));
        *stride = stride.wrapping_mul(*step);
    }
    let known = value.known.as_ref().and_then(|known| walk(known, &shape, begin, &strides));
    Ok(Value::known(value.dtype, shape, known))
}

/// First index and number of indices of a slice, clamped as the standard says; `None` for a step of zero.
pub(crate) fn span(start: i64, end: i64, step: i64, extent: usize) -> Option<(i64, usize)> {
    let n = i64::try_from(extent).ok()?;
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (start, end) = (wrap(start), wrap(end));
    let (first, distance) = match step {
        0 => return None,
        1.. => {
            let (start, end) = (start.clamp(0, n), end.clamp(0, n));
            (start, end - start)
        }
        _ => {
            let (start, end) = (start.clamp(-1, n - 1), end.clamp(-1, n - 1));
            (start, start - end)
        }
    };
    if distance <= 0 {
        return Some((first.max(0), 0));
    }
    let stride = i64::try_from(step.unsigned_abs()).unwrap_or(i64::MAX);
    usize::try_from((distance - 1) / stride + 1).ok().map(|count| (first, count))
}

pub(super) fn split(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let axis = call.axis(call.node.int("axis").unwrap_or(0), value.shape.len())?;
    let extent = value.shape.get(axis).copied().unwrap_or(0);
    let parts = call.node.outputs.len();
    let sizes: Vec<usize> = match call.optional(1) {
        Some(_) => {
            let sizes: Option<Vec<usize>> =
                call.integers(1)?.iter().map(|s| usize::try_from(*s).ok()).collect();
            sizes.ok_or_else(|| call.node.invalid("a part has a negative size"))?
        }
        None => {
            // Equal parts; the last may be smaller (since operator set 18).
            let size = extent.div_ceil(parts.max(1));
            let left = |i: usize| extent.saturating_sub(size.saturating_mul(i)).min(size);
            (0..parts).map(left).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s));
    if sizes.len() != parts || total != Some(extent) {
        let why = format!("parts {sizes:?} for {parts} outputs do not make up the {extent} of axis {axis}");
        return Err(call.node.invalid(why));
    }
    let mut begin = 0usize;
    let known = value.known.as_ref().filter(|_| value.shape.len() == 1);
    let part = |size: usize| {
        let mut shape = value.shape.clone();
        if let Some(extent) = shape.get_mut(axis) {
            *extent = size;
        }
        let known = known.and_then(|v| v.get(begin..begin + size)).map(<[i64]>::to_vec);
        begin += size;
        Value::known(value.dtype, shape, known)
    };
    Ok(sizes.into_iter().map(part).collect())
}

pub(super) fn concat(call: &Call<'_>) -> Result<Value> {
    let first = call.input(0)?;
    let axis = call.node.int("axis").ok_or_else(|| call.node.invalid("attribute 'axis' is missing"))?;
    let axis = call.axis(axis, first.shape.len())?;
    let mut shape = first.shape.clone();
    let mut known = first.known.clone().filter(|_| first.shape.len() == 1);
    for index in 1..call.inputs.len() {
        let value = call.input(index)?;
        let fits = value.dtype == first.dtype
            && value.shape.len() == shape.len()
            && value.shape.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
        let total = shape.get(axis).zip(value.shape.get(axis)).and_then(|(a, b)| a.checked_add(*b));
        let (true, Some(total), Some(extent)) = (fits, total, shape.get_mut(axis)) else {
            let name = call.name(index);
            let why =
                format!("'{name}' of shape {:?} does not join {shape:?} along axis {axis}", value.shape);
            return Err(call.node.invalid(why));
        };
        *extent = total;
        known = known.zip(value.known.as_ref()).map(|(mut all, more)| {
            all.extend(more);
            all
        });
    }
    Ok(Value::known(first.dtype, shape, known.filter(|v| v.len() <= KNOWN_MAX)))
}

pub(super) fn gather(call: &Call<'_>) -> Result<Value> {
    let (value, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(call.node.int("axis").unwrap_or(0), value.shape.len())?;
    let extent = value.shape.get(axis).copied().unwrap_or(0);
    if indices.dtype != Dtype::I64 && indices.dtype != Dtype::I32 {
        return Err(call.node.invalid(format!(
            "'{}' must hold integers, but holds {:?}",
            call.name(1),
            indices.dtype
        )));
    }
    if let Some(known) = &indices.known {
        let wrapped = |i: i64| if i < 0 { i.saturating_add(extent as i64) } else { i };
        if let Some(bad) = known.iter().find(|i| !(0..extent as i64).contains(&wrapped(**i))) {
            return Err(call.node.invalid(format!("index {bad} is outside the {extent} of axis {axis}")));
        }
    }
    let (front, back) = value.shape.split_at(axis);
    let mut shape = front.to_vec();
    shape.extend(&indices.shape);
    shape.extend(back.iter().skip(1));
    let known = value.known.as_ref().filter(|_| value.shape.len() == 1).zip(indices.known.as_ref());
    let known = known.and_then(|(v, indices)| {
        let at = |i: &i64| usize::try_from(if *i < 0 { i + v.len() as i64 } else { *i }).ok();
        indices.iter().map(|i| v.get(at(i)?).copied()).collect()
    });
    Ok(Value::known(value.dtype, shape, known))
}

pub(super) fn expand(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let wanted = call.integers(1)?;
    let misfit = || call.node.invalid(format!("cannot expand shape {:?} to {wanted:?}", value.shape));
    let target: Option<Vec<usize>> = wanted.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    let shape = broadcast(&value.shape, &target.ok_or_else(misfit)?).ok_or_else(misfit)?;
    let known = match value.known.as_deref() {
        Some([one]) => {
            let count = shape.iter().try_fold(1usize, |n, e| n.checked_mul(*e)).filter(|n| *n <= KNOWN_MAX);
            count.map(|count| vec![*one; count])
        }
        _ => value.known.clone().filter(|_| shape == value.shape),
    };
    Ok(Value::known(value.dtype, shape, known))
}

pub(super) fn shape(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape.len() as i64;
    let clamp = |i: i64| if i < 0 { i.saturating_add(rank).max(0) } else { i.min(rank) };
    let start = clamp(call.node.int("start").unwrap_or(0)) as usize;
    let end = clamp(call.node.int("end").unwrap_or(rank)) as usize;
    let part = value.shape.get(start..end).unwrap_or(&[]);
    let known: Vec<i64> = part.iter().map(|extent| *extent as i64).collect();
    Ok(Value::known(Dtype::I64, vec![known.len()], Some(known)))
}
