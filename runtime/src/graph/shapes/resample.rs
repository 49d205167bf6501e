//! Rules of operators that change the extents of an image or a list: resizing, padding, tiling, blocks of depth.

use crate::error::Result;
use crate::graph::Node;
use crate::graph::shapes::{Call, Value};

/// For every axis of `Resize` the extent it becomes and the scale by which coordinates are mapped.
pub(crate) fn resized(
    node: &Node,
    shape: &[usize],
    scales: Option<&[f32]>,
    sizes: Option<&[i64]>,
    roi: Option<&[f32]>,
) -> Result<Vec<(usize, f64)>> {
    let axes = resize_axes(node, shape.len())?;
    let misfit = |what: &str, got: usize| {
        node.invalid(format!("'{what}' has {got} entries, but {} axes are resized", axes.len()))
    };
    let mut result: Vec<(usize, f64)> = shape.iter().map(|extent| (*extent, 1.0)).collect();
    let crop = node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    if let Some(sizes) = sizes.filter(|sizes| !sizes.is_empty()) {
        if sizes.len() != axes.len() {
            return Err(misfit("sizes", sizes.len()));
        }
        let ratio = |(axis, size): (&usize, &i64)| {
            *size as f64 / shape.get(*axis).copied().unwrap_or(1).max(1) as f64
        };
        let ratios = axes.iter().zip(sizes).map(ratio);
        let common = match node.text("keep_aspect_ratio_policy").unwrap_or("stretch") {
            "stretch" => None,
            "not_larger" => ratios.fold(None, |least: Option<f64>, r| Some(least.map_or(r, |l| l.min(r)))),
            "not_smaller" => ratios.fold(None, |most: Option<f64>, r| Some(most.map_or(r, |m| m.max(r)))),
            other => return Err(node.invalid(format!("attribute 'keep_aspect_ratio_policy' is '{other}'"))),
        };
        for (axis, size) in axes.iter().zip(sizes) {
            let Some(slot) = result.get_mut(*axis) else { continue };
            let size = usize::try_from(*size)
                .map_err(|_| node.invalid(format!("axis {axis} is resized to {size}")))?;
            // Round half up, as the standard's reference does.
            let size = common.map_or(size, |r| (r * slot.0 as f64 + 0.5).floor() as usize);
            let scale = common.unwrap_or(size as f64 / slot.0.max(1) as f64);
            *slot = (size, scale);
        }
        return Ok(result);
    }
    let scales = scales.ok_or_else(|| node.invalid("it has neither scales nor sizes"))?;
    if scales.len() != axes.len() {
        return Err(misfit("scales", scales.len()));
    }
    for (place, (axis, scale)) in axes.iter().zip(scales).enumerate() {
        let Some(slot) = result.get_mut(*axis) else { continue };
        let scale = f64::from(*scale);
        if !scale.is_finite() || scale <= 0.0 {
            return Err(node.invalid(format!("axis {axis} is scaled by {scale}")));
        }
        let part = match roi.filter(|_| crop) {
            Some(roi) => {
                let (start, end) = (roi.get(place), roi.get(place + axes.len()));
                start.zip(end).map(|(s, e)| f64::from(*e) - f64::from(*s)).unwrap_or(1.0)
            }
            None => 1.0,
        };
        let size = (slot.0 as f64 * part * scale).floor();
        if !(0.0..1e15).contains(&size) {
            return Err(node.invalid(format!("axis {axis} of {} is scaled by {scale}", slot.0)));
        }
        *slot = (size as usize, scale);
    }
    Ok(result)
}

/// The axes that `Resize` is about, in the order of its scales.
pub(crate) fn resize_axes(node: &Node, rank: usize) -> Result<Vec<usize>> {
    let Some(given) = node.ints("axes") else { return Ok((0..rank).collect()) };
    let wrap = |axis: &i64| {
        let axis = if *axis < 0 { axis.saturating_add(rank as i64) } else { *axis };
        usize::try_from(axis).ok().filter(|axis| *axis < rank)
    };
    let axes: Option<Vec<usize>> = given.iter().map(wrap).collect();
    axes.ok_or_else(|| node.invalid(format!("axes {given:?} are not all within a rank of {rank}")))
}

pub(super) fn resize(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    for index in 1..call.inputs.len() {
        let unknown = |v: &&Value| v.elements() > 0 && v.known.is_none() && v.real.is_none();
        if call.optional(index).filter(unknown).is_some() {
            return Err(call.depends(index));
        }
    }
    let real = |index: usize| call.optional(index).and_then(|v| v.real.as_deref()).filter(|v| !v.is_empty());
    let sizes = call.optional(3).and_then(|v| v.known.as_deref());
    let extents = resized(call.node, &value.shape, real(2), sizes, real(1))?;
    Ok(Value::new(value.dtype, extents.into_iter().map(|(extent, _)| extent).collect()))
}

/// For every axis the elements before and after it, negative where it is cut.
pub(crate) fn pads(node: &Node, rank: usize, pads: &[i64], axes: Option<&[i64]>) -> Result<Vec<(i64, i64)>> {
    let all: Vec<i64> = (0..rank as i64).collect();
    let axes = axes.unwrap_or(&all);
    let misfit = || node.invalid(format!("{} pads for {} axes", pads.len(), axes.len()));
    if pads.len() != 2 * axes.len() {
        return Err(misfit());
    }
    let mut result = vec![(0, 0); rank];
    let (before, after) = pads.split_at(axes.len());
    for ((axis, before), after) in axes.iter().zip(before).zip(after) {
        let axis = if *axis < 0 { axis.saturating_add(rank as i64) } else { *axis };
        let slot = usize::try_from(axis).ok().and_then(|axis| result.get_mut(axis)).ok_or_else(misfit)?;
        *slot = (*before, *after);
    }
    Ok(result)
}

pub(super) fn pad(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let axes = match call.optional(3) {
        Some(_) => Some(call.integers(3)?),
        None => None,
    };
    let pads = pads(call.node, value.shape.len(), call.integers(1)?, axes)?;
    let mut shape = Vec::with_capacity(pads.len());
    for (extent, (before, after)) in value.shape.iter().zip(pads) {
        let total = (*extent as i64).checked_add(before).and_then(|sum| sum.checked_add(after));
        let total = total.and_then(|total| usize::try_from(total).ok());
        shape.push(total.ok_or_else(|| {
            call.node.invalid(format!("an extent of {extent} is padded by {before} and {after}"))
        })?);
    }
    Ok(Value::new(value.dtype, shape))
}

pub(super) fn tile(call: &Call<'_>) -> Result<Value> {
    let (value, repeats) = (call.input(0)?, call.integers(1)?);
    let times = |(extent, count): (&usize, &i64)| extent.checked_mul(usize::try_from(*count).ok()?);
    let shape: Option<Vec<usize>> = value.shape.iter().zip(repeats).map(times).collect();
    match shape.filter(|_| repeats.len() == value.shape.len()) {
        Some(shape) => Ok(Value::new(value.dtype, shape)),
        None => {
            Err(call.node.invalid(format!("shape {:?} cannot be repeated {repeats:?} times", value.shape)))
        }
    }
}

pub(super) fn depth_and_space(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let block = call.node.int("blocksize").and_then(|b| usize::try_from(b).ok()).filter(|b| *b > 0);
    let block = block.ok_or_else(|| call.node.invalid("attribute 'blocksize' must be positive"))?;
    let misfit = || call.node.invalid(format!("image {:?} in blocks of {block}", value.shape));
    let [batch, channels, height, width] = *value.shape.as_slice() else { return Err(misfit()) };
    let square = block.checked_mul(block).ok_or_else(misfit)?;
    let shape = if call.node.op == "DepthToSpace" {
        let sides = height.checked_mul(block).zip(width.checked_mul(block)).ok_or_else(misfit)?;
        (channels % square == 0).then(|| vec![batch, channels / square, sides.0, sides.1])
    } else {
        let whole = height % block == 0 && width % block == 0;
        let depth = channels.checked_mul(square).ok_or_else(misfit)?;
        whole.then(|| vec![batch, depth, height / block, width / block])
    };
    Ok(Value::new(value.dtype, shape.ok_or_else(misfit)?))
}
