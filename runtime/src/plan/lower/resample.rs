//! Resizing, padding, repeating, and blocks of pixels as channels.

use super::Lowering;
use crate::error::Result;
use crate::graph::Node;
use crate::graph::shapes::resample::{pads, resize_axes, resized};
use crate::kernels::{Binary, Core, Expr, Instr, Operand, View};
use crate::plan::taps::{self, Along, Taps};
use crate::tensor::{Dtype, Tensor};

/// More taps than this are a product with a matrix of weights.
const TAPS_MAX: usize = 4;

impl<'g> Lowering<'g> {
    /// Resizing one axis after the other: with few taps each tap is a gather, with many all are one matrix product.
    pub(super) fn resize(&mut self, node: &'g Node) -> Result<()> {
        let mut x = self.input(node, 0)?;
        let shape = x.view.shape.clone();
        let real = |this: &Self, index: usize| match node.inputs.get(index) {
            Some(name) if !name.is_empty() => Ok(this.value(name)?.real.as_deref().filter(|v| !v.is_empty())),
            _ => Ok(None),
        };
        let (scales, roi) = (real(self, 2)?, real(self, 1)?);
        let extents = resized(node, &shape, scales, self.integers(node, 3)?, roi)?;
        let axes = resize_axes(node, shape.len())?;
        let mode = node.text("mode").unwrap_or("nearest");
        let crop = node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        let nearest = mode == "nearest";
        if !nearest {
            self.floats(node, &x)?;
        }
        let mut changed = false;
        for (place, axis) in axes.iter().enumerate() {
            let Some((extent, scale)) = extents.get(*axis).copied() else { continue };
            let given = x.view.shape.get(*axis).copied().unwrap_or(0);
            let part = roi.filter(|_| crop);
            let part = part.and_then(|roi| Some((*roi.get(place)?, *roi.get(place + axes.len())?)));
            if extent == given && scale == 1.0 && part.is_none_or(|part| part == (0.0, 1.0)) {
                continue;
            }
            super::short(&format!("node '{}'", node.name), extent)?;
            let along = Along { given, wanted: extent, scale, part };
            x = self.resample(node, x, *axis, &taps::taps(node, &along)?)?;
            changed = true;
        }
        if changed {
            self.put(node, 0, x);
            return Ok(());
        }
        self.movement(node, 0, x, false)
    }

    /// `x` with `axis` made of weighted elements of it.
    fn resample(&mut self, node: &Node, x: Operand, axis: usize, taps: &Taps) -> Result<Operand> {
        let mut shape = x.view.shape.clone();
        shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = taps.outside.len());
        let given = x.view.shape.get(axis).copied().unwrap_or(0);
        if taps.places.len() > TAPS_MAX {
            return self.weighted(node, x, axis, &taps.matrix(given)?, shape);
        }
        let mut result: Option<Operand> = None;
        let last = taps.places.len().saturating_sub(1);
        for (index, (places, weights)) in taps.places.iter().zip(&taps.weights).enumerate() {
            let mut expr = Expr::acc();
            let indices = Tensor::i64([places.len()], places.clone())?;
            let indices = self.program.add_constant(&format!("{}.places", node.name), indices);
            let mut inputs = vec![x.clone(), indices];
            let mut sum = 0;
            if weights.iter().any(|w| *w != 1.0) {
                let weights = Tensor::f32([weights.len()], weights.clone())?;
                let weights = self.program.add_constant(&format!("{}.weights", node.name), weights);
                let weights = self.along(node, &weights, axis, shape.len())?;
                let instr = self.load(node, &mut inputs, &weights, &shape)?;
                let weight = expr.push(instr);
                sum = expr.push(Instr::Binary(Binary::Mul, sum, weight));
            }
            if let Some(before) = &result {
                let instr = self.load(node, &mut inputs, before, &shape)?;
                let before = expr.push(instr);
                sum = expr.push(Instr::Binary(Binary::Add, sum, before));
            }
            if index == last && taps.outside.iter().any(|outside| *outside) {
                let fill = node.float("extrapolation_value").unwrap_or(0.0);
                let outside = taps.outside.iter().map(|outside| i64::from(*outside)).collect::<Vec<_>>();
                let outside = Tensor::i64([outside.len()], outside)?;
                let outside = self.program.add_constant(&format!("{}.outside", node.name), outside);
                let outside = self.along(node, &outside, axis, shape.len())?;
                let instr = self.load(node, &mut inputs, &outside, &shape)?;
                let outside = expr.push(instr);
                let float = x.dtype == Dtype::F32;
                let fill = expr.push(if float { Instr::Float(fill) } else { Instr::Int(fill as i64) });
                expr.push(Instr::Select(outside, fill, sum));
            }
            let made = self.temporary(node, x.dtype, &shape);
            self.push(node, Core::Gather { axis, rank: 1 }, inputs, expr, made.clone());
            result = Some(made);
        }
        Ok(result.unwrap_or(x))
    }

    /// `x` with `axis` multiplied by a matrix of weights, elements given by elements wanted.
    fn weighted(
        &mut self,
        node: &Node,
        x: Operand,
        axis: usize,
        matrix: &Tensor,
        shape: Vec<usize>,
    ) -> Result<Operand> {
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
        order.push(axis);
        let misfit = || node.invalid("its axes cannot be ordered");
        let view = x.view.permute(&order).ok_or_else(misfit)?;
        let made = self.temporary(node, Dtype::F32, &shape);
        let out = made.view.permute(&order).ok_or_else(misfit)?;
        let weights = self.program.add_constant(&format!("{}.weights", node.name), matrix.clone());
        let core = Core::Matmul { batch: 0, m: rank - 1, k: 1 };
        let inputs = vec![Operand { view, ..x }, weights];
        self.push(node, core, inputs, Expr::acc(), Operand { view: out, ..made.clone() });
        Ok(made)
    }

    /// Padding one axis after the other, by gathering.
    pub(super) fn pad(&mut self, node: &'g Node) -> Result<()> {
        let mut x = self.input(node, 0)?;
        let given = self.integers(node, 1)?.ok_or_else(|| node.invalid("it has no pads"))?;
        let sides = pads(node, x.view.rank(), given, self.integers(node, 3)?)?;
        let mode = node.text("mode").unwrap_or("constant");
        let fill = match mode {
            "constant" => match self.optional(node, 2)? {
                Some(mut fill) => {
                    fill.view =
                        fill.view.reshape(&[]).ok_or_else(|| node.invalid("its value is no number"))?;
                    Some(fill)
                }
                None => None,
            },
            _ => None,
        };
        let mut changed = false;
        for (axis, (before, after)) in sides.iter().enumerate().filter(|(_, sides)| **sides != (0, 0)) {
            x = self.padded(node, x, axis, (*before, *after), mode, fill.as_ref())?;
            changed = true;
        }
        if changed {
            self.put(node, 0, x);
            return Ok(());
        }
        self.movement(node, 0, x, false)
    }

    /// `x` with elements added before and after along `axis`; negative counts cut. In mode `constant` they are `fill`, or
    /// zero without one.
    pub(super) fn padded(
        &mut self,
        node: &Node,
        x: Operand,
        axis: usize,
        (before, after): (i64, i64),
        mode: &str,
        fill: Option<&Operand>,
    ) -> Result<Operand> {
        let extent = x.view.shape.get(axis).copied().unwrap_or(0) as i64;
        let total = extent.saturating_add(before).saturating_add(after);
        super::short(&format!("node '{}'", node.name), usize::try_from(total).unwrap_or(0))?;
        let period = 2 * (extent - 1);
        let mut places = Vec::new();
        let mut outside = Vec::new();
        for i in 0..total {
            let at = i - before;
            let inside = (0..extent).contains(&at);
            outside.push(i64::from(!inside && mode == "constant"));
            places.push(match mode {
                _ if inside => at,
                "constant" => 0,
                "edge" => at.clamp(0, extent - 1),
                "wrap" => at.rem_euclid(extent),
                "reflect" if period <= 0 => 0,
                "reflect" => {
                    let at = at.rem_euclid(period);
                    at.min(period - at)
                }
                other => return Err(node.unsupported(format!("attribute 'mode' is '{other}'"))),
            });
        }
        let mut shape = x.view.shape.clone();
        shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = places.len());
        let float = x.dtype == Dtype::F32;
        let mask = outside.contains(&1);
        let places = Tensor::i64([places.len()], places)?;
        let places = self.program.add_constant(&format!("{}.places", node.name), places);
        let made = self.temporary(node, x.dtype, &shape);
        let mut inputs = vec![x, places];
        let mut expr = Expr::acc();
        if mask {
            let outside = Tensor::i64([outside.len()], outside)?;
            let outside = self.program.add_constant(&format!("{}.outside", node.name), outside);
            let outside = self.along(node, &outside, axis, shape.len())?;
            let instr = self.load(node, &mut inputs, &outside, &shape)?;
            let outside = expr.push(instr);
            let fill = match fill {
                Some(fill) => self.load(node, &mut inputs, fill, &shape)?,
                None if float => Instr::Float(0.0),
                None => Instr::Int(0),
            };
            let fill = expr.push(fill);
            expr.push(Instr::Select(outside, fill, 0));
        }
        self.push(node, Core::Gather { axis, rank: 1 }, inputs, expr, made.clone());
        Ok(made)
    }

    pub(super) fn tile(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node, 0)?;
        let (mut split, mut given) = (Vec::new(), Vec::new());
        for (extent, total) in x.view.shape.iter().zip(shape) {
            split.extend([total / extent.max(&1), *extent]);
            given.extend([1, *extent]);
        }
        let misfit = || node.invalid("its repeats do not fit");
        let view = x.view.reshape(&given).and_then(|view| view.broadcast(&split)).ok_or_else(misfit)?;
        let out = View::contiguous(&split);
        self.emit(node, Core::Map, vec![Operand { view, ..x }], Expr::load(0), Some(out))
    }

    pub(super) fn depth_and_space(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let block = node.int("blocksize").and_then(|b| usize::try_from(b).ok()).unwrap_or(1);
        let [batch, channels, height, width] = *x.view.shape.as_slice() else {
            return Err(node.invalid("its image has no four extents"));
        };
        let (split, order): (_, [usize; 6]) = if node.op == "SpaceToDepth" {
            ([batch, channels, height / block, block, width / block, block], [0, 3, 5, 1, 2, 4])
        } else {
            match node.text("mode").unwrap_or("DCR") {
                "DCR" => {
                    ([batch, block, block, channels / (block * block), height, width], [0, 3, 4, 1, 5, 2])
                }
                "CRD" => {
                    ([batch, channels / (block * block), block, block, height, width], [0, 1, 4, 2, 5, 3])
                }
                other => return Err(node.invalid(format!("attribute 'mode' is '{other}'"))),
            }
        };
        let x = self.reshaped(node, x, &split)?;
        let view = x.view.permute(&order).ok_or_else(|| node.invalid("its axes cannot be ordered"))?;
        let out = View::contiguous(&view.shape);
        self.emit(node, Core::Map, vec![Operand { view, ..x }], Expr::load(0), Some(out))
    }

    /// One element seen everywhere.
    pub(super) fn constant_of_shape(&mut self, node: &'g Node) -> Result<()> {
        let shape = self.shape(node, 0)?;
        let tensor = match node.attributes.get("value") {
            Some(crate::graph::Attribute::Tensor(tensor)) => super::widened(&node.name, tensor)?,
            _ => Tensor::f32([1], vec![0.0])?,
        };
        let operand = self.program.add_constant(&node.name, tensor);
        let view = operand.view.reshape(&[]).and_then(|view| view.broadcast(shape));
        let view = view.ok_or_else(|| node.invalid("attribute 'value' is not one element"))?;
        self.put(node, 0, Operand { view, ..operand });
        Ok(())
    }
}
