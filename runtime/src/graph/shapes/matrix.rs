//! Rules of matrix products, convolutions and pooling.

use crate::error::Result;
use crate::graph::shapes::{Call, Value, broadcast};
use crate::tensor::Dtype;

pub(super) fn matmul(call: &Call<'_>) -> Result<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    if a.dtype != b.dtype {
        return Err(call
            .node
            .invalid(format!("its operands are of the types {:?} and {:?}", a.dtype, b.dtype)));
    }
    Ok(Value::new(a.dtype, product(call, a, b)?))
}

/// Shape of the product of two matrix stacks.
pub(super) fn product(call: &Call<'_>, a: &Value, b: &Value) -> Result<Vec<usize>> {
    let misfit = || call.node.invalid(format!("cannot multiply {:?} by {:?}", a.shape, b.shape));
    // A vector on the left is one row, on the right one column; that extent is dropped afterwards.
    let (a_batch, rows, depth) = match a.shape.as_slice() {
        [] => return Err(misfit()),
        [k] => (&[][..], None, *k),
        [batch @ .., m, k] => (batch, Some(*m), *k),
    };
    let (b_batch, b_depth, columns) = match b.shape.as_slice() {
        [] => return Err(misfit()),
        [k] => (&[][..], *k, None),
        [batch @ .., k, n] => (batch, *k, Some(*n)),
    };
    if depth != b_depth {
        return Err(misfit());
    }
    let mut shape = broadcast(a_batch, b_batch).ok_or_else(misfit)?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}

pub(super) fn gemm(call: &Call<'_>) -> Result<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let turned = |value: &Value, attribute: &str| match value.shape.as_slice() {
        [x, y] if call.node.int(attribute).unwrap_or(0) != 0 => Some((*y, *x)),
        [x, y] => Some((*x, *y)),
        _ => None,
    };
    let misfit = || call.node.invalid(format!("cannot multiply {:?} by {:?}", a.shape, b.shape));
    let (m, k) = turned(a, "transA").ok_or_else(misfit)?;
    let (b_k, n) = turned(b, "transB").ok_or_else(misfit)?;
    if k != b_k || a.dtype != b.dtype {
        return Err(misfit());
    }
    let shape = vec![m, n];
    if let Some(c) = call.optional(2)
        && broadcast(&c.shape, &shape).as_ref() != Some(&shape)
    {
        let name = call.name(2);
        return Err(call
            .node
            .invalid(format!("'{name}' of shape {:?} does not broadcast to {shape:?}", c.shape)));
    }
    Ok(Value::new(a.dtype, shape))
}

pub(super) fn conv(call: &Call<'_>) -> Result<Value> {
    let (x, w) = (call.input(0)?, call.input(1)?);
    if x.dtype != w.dtype {
        return Err(call
            .node
            .invalid(format!("its operands are of the types {:?} and {:?}", x.dtype, w.dtype)));
    }
    let shape = convolved(call, x, w)?;
    let filters = shape.get(1).copied().unwrap_or(0);
    if let Some(bias) = call.optional(2)
        && bias.shape != [filters]
    {
        let (name, got) = (call.name(2), &bias.shape);
        return Err(call
            .node
            .invalid(format!("'{name}' has shape {got:?}, but there are {filters} filters")));
    }
    Ok(Value::new(x.dtype, shape))
}

/// Shape of the convolution of `x` by the filters `w`.
pub(super) fn convolved(call: &Call<'_>, x: &Value, w: &Value) -> Result<Vec<usize>> {
    let misfit =
        |why: &str| call.node.invalid(format!("image {:?} and filters {:?}: {why}", x.shape, w.shape));
    let ([batch, channels, space @ ..], [filters, depth, kernel @ ..]) =
        (x.shape.as_slice(), w.shape.as_slice())
    else {
        return Err(misfit("both need three extents or more"));
    };
    if space.is_empty() || space.len() != kernel.len() {
        return Err(misfit("ranks differ"));
    }
    let group = usize::try_from(call.node.int("group").unwrap_or(1)).ok().filter(|g| *g > 0);
    let group = group.ok_or_else(|| misfit("attribute 'group' must be positive"))?;
    if depth.checked_mul(group) != Some(*channels) || filters % group != 0 {
        return Err(misfit(&format!("{channels} channels in {group} groups")));
    }
    if let Some(stated) = call.node.ints("kernel_shape")
        && !stated.iter().copied().eq(kernel.iter().map(|k| *k as i64))
    {
        return Err(misfit(&format!("attribute 'kernel_shape' is {stated:?}")));
    }
    let mut shape = vec![*batch, *filters];
    shape.extend(slide(call, space, kernel)?);
    Ok(shape)
}

/// Values and, where they are asked for, their places.
pub(super) fn max_pool(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = pool(call)?;
    let places = Value::new(Dtype::I64, value.shape.clone());
    Ok(vec![value, places])
}

pub(super) fn pool(call: &Call<'_>) -> Result<Value> {
    let x = call.input(0)?;
    let [batch, channels, space @ ..] = x.shape.as_slice() else {
        return Err(call.node.invalid(format!("image {:?} needs three extents or more", x.shape)));
    };
    let kernel = call
        .node
        .ints("kernel_shape")
        .ok_or_else(|| call.node.invalid("attribute 'kernel_shape' is missing"))?;
    let kernel: Option<Vec<usize>> = kernel.iter().map(|k| usize::try_from(*k).ok()).collect();
    let kernel = kernel.filter(|kernel| kernel.len() == space.len());
    let kernel =
        kernel.ok_or_else(|| call.node.invalid("attribute 'kernel_shape' does not fit the image"))?;
    let mut shape = vec![*batch, *channels];
    shape.extend(slide(call, space, &kernel)?);
    Ok(Value::new(x.dtype, shape))
}

pub(super) fn global_pool(call: &Call<'_>) -> Result<Value> {
    let x = call.input(0)?;
    if x.shape.len() < 3 {
        return Err(call.node.invalid(format!("image {:?} needs three extents or more", x.shape)));
    }
    let shape = x.shape.iter().enumerate().map(|(i, extent)| if i < 2 { *extent } else { 1 }).collect();
    Ok(Value::new(x.dtype, shape))
}

/// Extents left when a window slides over `space`.
fn slide(call: &Call<'_>, space: &[usize], kernel: &[usize]) -> Result<Vec<usize>> {
    let node = call.node;
    let rank = space.len();
    let read = |name: &str, count: usize, default: i64, least: i64| -> Result<Vec<i64>> {
        let values = node.ints(name).map_or_else(|| vec![default; count], <[i64]>::to_vec);
        // The upper bound keeps the sums below from overflowing.
        if values.len() == count && values.iter().all(|v| (least..=1 << 31).contains(v)) {
            return Ok(values);
        }
        Err(node.invalid(format!(
            "attribute '{name}' is {values:?}; it needs {count} integers of at least {least}"
        )))
    };
    let strides = read("strides", rank, 1, 1)?;
    let dilations = read("dilations", rank, 1, 1)?;
    let pads = match node.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" => read("pads", 2 * rank, 0, 0)?,
        "VALID" => vec![0; 2 * rank],
        // Padded so that each window starts inside the image.
        "SAME_UPPER" | "SAME_LOWER" => {
            let count =
                |(extent, stride): (&usize, &i64)| usize::try_from(*stride).map_or(0, |s| extent.div_ceil(s));
            return Ok(space.iter().zip(&strides).map(count).collect());
        }
        other => return Err(node.unsupported(format!("auto_pad {other}"))),
    };
    let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
    let (before, after) = pads.split_at(rank);
    let mut out = Vec::with_capacity(rank);
    let sides = before.iter().zip(after).map(|(a, b)| a + b);
    let steps = strides.iter().zip(&dilations);
    for (((extent, window), pad), (stride, dilation)) in space.iter().zip(kernel).zip(sides).zip(steps) {
        let room = i64::try_from(*extent).ok().and_then(|e| e.checked_add(pad));
        let reach = i64::try_from(*window).ok().filter(|w| *w > 0).and_then(|w| dilation.checked_mul(w - 1));
        let left = room.zip(reach).map(|(room, reach)| room - reach - 1).filter(|left| *left >= 0);
        let Some(left) = left else {
            return Err(
                node.invalid(format!("a window of {window} does not fit into {extent} with padding {pad}"))
            );
        };
        let count = if ceil {
            // A window that would start in the padding at the end does not count.
            let count = left / stride + i64::from(left % stride != 0) + 1;
            let last_start = (count - 1).saturating_mul(*stride);
            let begin = pad_limit(*extent, before, out.len());
            if last_start >= begin { count - 1 } else { count }
        } else {
            left / stride + 1
        };
        out.push(count as usize);
    }
    Ok(out)
}

fn pad_limit(extent: usize, before: &[i64], axis: usize) -> i64 {
    (extent as i64).saturating_add(before.get(axis).copied().unwrap_or(0))
}
