//! Quantisation, and products and convolutions of 8-bit integers, summed exactly in 32 bits.

use super::activation::Writer;
use super::packed::{Packed, Side, lean};
use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, Unary, View};
use crate::tensor::Dtype;

/// Least and greatest number of an integer type that something is quantised to.
fn range(node: &Node, dtype: Dtype) -> Result<(f32, f32)> {
    Ok(match dtype {
        Dtype::U8 => (0.0, 255.0),
        Dtype::I8 => (-128.0, 127.0),
        Dtype::U16 => (0.0, 65_535.0),
        Dtype::I16 => (-32_768.0, 32_767.0),
        other => return Err(node.unsupported(format!("quantisation to the type {other:?}"))),
    })
}

/// A value split into blocks that share a scale, and the scale's or zero point's place in it.
struct Blocks {
    /// The value's extents, with the blocked axis split in two.
    split: Vec<usize>,
    /// Extents of scale and zero point, ready to broadcast to `split`.
    scale: Vec<usize>,
}

impl Blocks {
    fn of(node: &Node, shape: &[usize], scale: &[usize]) -> Result<Blocks> {
        if scale.iter().product::<usize>() == 1 {
            return Ok(Blocks { split: shape.to_vec(), scale: vec![1; shape.len()] });
        }
        let along = axis(node, node.int("axis").unwrap_or(1), shape.len())?;
        let extent = shape.get(along).copied().unwrap_or(1);
        let misfit = || node.invalid(format!("scales {scale:?} do not fit a value of shape {shape:?}"));
        if scale.len() == 1 && shape.len() != 1 || scale.first() == Some(&extent) && shape.len() == 1 {
            let mut wide = vec![1; shape.len()];
            wide.iter_mut().skip(along).take(1).for_each(|own| *own = scale.iter().product());
            return if scale == [extent] {
                Ok(Blocks { split: shape.to_vec(), scale: wide })
            } else {
                Err(misfit())
            };
        }
        let blocks = scale.get(along).copied().filter(|blocks| *blocks > 0 && extent % blocks == 0);
        let blocks = blocks.filter(|_| scale.len() == shape.len()).ok_or_else(misfit)?;
        let (mut split, mut wide) = (shape.to_vec(), scale.to_vec());
        split.splice(along..=along, [blocks, extent / blocks]);
        wide.insert(along + 1, 1);
        Ok(Blocks { split, scale: wide })
    }
}

impl<'g> Lowering<'g> {
    fn number(&self, expr: &mut Expr, instr: Instr, dtype: Dtype) -> usize {
        let loaded = expr.push(instr);
        if dtype == Dtype::F32 { loaded } else { expr.push(Instr::ToFloat(loaded)) }
    }

    pub(super) fn quantize(&mut self, node: &'g Node) -> Result<()> {
        let (x, scale) = (self.input(node, 0)?, self.input(node, 1)?);
        let (least, most) = range(node, self.fresh_dtype(node, 0)?)?;
        let shape = x.view.shape.clone();
        let blocks = Blocks::of(node, &shape, &scale.view.shape)?;
        let x = self.reshaped(node, x, &blocks.split)?;
        let kind = x.dtype;
        let mut inputs = vec![x];
        let mut expr = Expr::default();
        let value = self.number(&mut expr, Instr::Load(0), kind);
        let scale = self.reshaped(node, scale, &blocks.scale)?;
        let instr = self.load(node, &mut inputs, &scale, &blocks.split)?;
        let scale = self.number(&mut expr, instr, scale.dtype);
        let zero = match self.optional(node, 2)? {
            Some(zero) => {
                let zero = self.reshaped(node, zero, &blocks.scale)?;
                let instr = self.load(node, &mut inputs, &zero, &blocks.split)?;
                Some(self.number(&mut expr, instr, zero.dtype))
            }
            None => None,
        };
        let mut f = Writer(&mut expr);
        let value = f.two(Binary::Div, value, scale);
        finish(&mut f, value, zero, (least, most));
        self.emit(node, Core::Map, inputs, expr, Some(View::contiguous(&blocks.split)))
    }

    pub(super) fn dequantize(&mut self, node: &'g Node) -> Result<()> {
        let (x, scale) = (self.input(node, 0)?, self.input(node, 1)?);
        let shape = x.view.shape.clone();
        let blocks = Blocks::of(node, &shape, &scale.view.shape)?;
        let x = self.reshaped(node, x, &blocks.split)?;
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let mut value = 0;
        if let Some(zero) = self.optional(node, 2)? {
            let zero = self.reshaped(node, zero, &blocks.scale)?;
            let instr = self.load(node, &mut inputs, &zero, &blocks.split)?;
            let zero = expr.push(instr);
            value = expr.push(Instr::Binary(Binary::Sub, value, zero));
        }
        let value = expr.push(Instr::ToFloat(value));
        let scale = self.reshaped(node, scale, &blocks.scale)?;
        let instr = self.load(node, &mut inputs, &scale, &blocks.split)?;
        let scale = expr.push(instr);
        expr.push(Instr::Binary(Binary::Mul, value, scale));
        self.emit(node, Core::Map, inputs, expr, Some(View::contiguous(&blocks.split)))
    }

    /// Scale and zero point out of a value's own range, and the value in them.
    pub(super) fn dynamic_quantize(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let axes: Vec<usize> = (0..x.view.rank()).collect();
        let bound = |f: Binary| {
            let mut expr = Expr::acc();
            let zero = expr.push(Instr::Float(0.0));
            expr.push(Instr::Binary(f, 0, zero));
            expr
        };
        let least =
            self.folded(node, x.clone(), &axes, Fold::Min, bound(Binary::Min), Vec::new(), Dtype::F32)?;
        let most =
            self.folded(node, x.clone(), &axes, Fold::Max, bound(Binary::Max), Vec::new(), Dtype::F32)?;
        let mut expr = Expr(vec![Instr::Load(0), Instr::Load(1)]);
        let mut f = Writer(&mut expr);
        let (span, levels) = (f.two(Binary::Sub, 1, 0), f.float(255.0));
        f.two(Binary::Div, span, levels);
        let scale = self.fresh(node, 1)?;
        self.push(node, Core::Map, vec![least.clone(), most], expr, scale.clone());
        let mut expr = Expr(vec![Instr::Load(0), Instr::Load(1)]);
        let mut f = Writer(&mut expr);
        let zero = f.two(Binary::Div, 0, 1);
        let zero = f.one(Unary::Neg, zero);
        finish(&mut f, zero, None, (0.0, 255.0));
        let zero = self.fresh(node, 2)?;
        self.push(node, Core::Map, vec![least, scale.clone()], expr, zero.clone());
        let shape = x.view.shape.clone();
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let instr = self.load(node, &mut inputs, &scale, &shape)?;
        let by = expr.push(instr);
        let instr = self.load(node, &mut inputs, &zero, &shape)?;
        let shift = self.number(&mut expr, instr, zero.dtype);
        let mut f = Writer(&mut expr);
        let value = f.two(Binary::Div, 0, by);
        finish(&mut f, value, Some(shift), (0.0, 255.0));
        self.emit(node, Core::Map, inputs, expr, None)?;
        self.put(node, 1, scale);
        self.put(node, 2, zero);
        Ok(())
    }

    /// Input `index` less the zero point at input `zero`, which lies along `axis` where it is no single number.
    fn centred(&mut self, node: &'g Node, index: usize, zero: usize, axis: usize) -> Result<Operand> {
        let x = self.input(node, index)?;
        let Some(zero) = self.optional(node, zero)? else { return Ok(x) };
        let shape = x.view.shape.clone();
        let zero = if zero.view.rank() > 1 { zero } else { self.along(node, &zero, axis, shape.len())? };
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let instr = self.load(node, &mut inputs, &zero, &shape)?;
        let zero = expr.push(instr);
        expr.push(Instr::Binary(Binary::Sub, 0, zero));
        let made = self.temporary(node, Dtype::I32, &shape);
        self.push(node, Core::Map, inputs, expr, made.clone());
        Ok(made)
    }

    /// Input `index` and its zero point at input `zero`.
    fn side(&mut self, node: &'g Node, index: usize, zero: usize) -> Result<Side> {
        Ok(Side { values: self.input(node, index)?, zero: self.optional(node, zero)? })
    }

    pub(super) fn matmul_integer(&mut self, node: &'g Node) -> Result<()> {
        let (a, b) = (self.side(node, 0, 2)?, self.side(node, 1, 3)?);
        if let Some(Packed { core, inputs, expr, view }) = self.packed_product(node, &a, &b)? {
            return self.emit(node, core, inputs, expr, Some(view));
        }
        let rows = self.input(node, 0)?.view.rank().saturating_sub(2);
        let columns = self.input(node, 1)?.view.rank().saturating_sub(1);
        let (a, b) = (self.centred(node, 0, 2, rows)?, self.centred(node, 1, 3, columns)?);
        let (core, inputs, view) = self.product(node, a, b)?;
        self.emit(node, core, inputs, Expr::acc(), Some(view))
    }

    pub(super) fn conv_integer(&mut self, node: &'g Node) -> Result<()> {
        let (x, w) = (self.side(node, 0, 2)?, self.side(node, 1, 3)?);
        if let Some(Packed { core, inputs, expr, view }) = self.packed_tiles(node, &x, &w)? {
            return self.emit(node, core, inputs, expr, Some(view));
        }
        let (x, w) = (self.centred(node, 0, 2, 0)?, self.centred(node, 1, 3, 0)?);
        let core = self.convolution(node, &x, &w, self.shape(node, 0)?)?;
        self.emit(node, core, vec![x, w], Expr::acc(), None)
    }

    /// `QLinearMatMul` and `QLinearConv`.
    pub(super) fn linear(&mut self, node: &'g Node) -> Result<()> {
        let conv = node.op == "QLinearConv";
        let rank = |this: &mut Self, index: usize| Ok(this.input(node, index)?.view.rank());
        let (a_axis, b_axis) =
            if conv { (0, 0) } else { (rank(self, 0)?.saturating_sub(2), rank(self, 3)?.saturating_sub(1)) };
        let (left, right) = (self.side(node, 0, 2)?, self.side(node, 3, 5)?);
        let packed = match conv {
            true => self.packed_tiles(node, &left, &right)?,
            false => self.packed_product(node, &left, &right)?,
        };
        // Channels of a convolution lie on axis 1 of its result, behind the others where it is a product of tiles.
        let channel = if packed.is_some() { 3 } else { 1 };
        let Packed { core, mut inputs, mut expr, view } = match packed {
            Some(packed) => packed,
            None => {
                let (a, b) = (self.centred(node, 0, 2, a_axis)?, self.centred(node, 3, 5, b_axis)?);
                let (core, inputs, view) = if conv {
                    let shape = self.shape(node, 0)?;
                    (self.convolution(node, &a, &b, shape)?, vec![a, b], View::contiguous(shape))
                } else {
                    self.product(node, a, b)?
                };
                Packed { core, inputs, expr: Expr::acc(), view }
            }
        };
        let (least, most) = range(node, self.fresh_dtype(node, 0)?)?;
        let shape = view.shape.clone();
        let mut sum = expr.0.len() - 1;
        if let Some(bias) = self.optional(node, 8)?.filter(|_| conv) {
            let bias = self.along(node, &bias, channel, shape.len())?;
            let instr = self.load(node, &mut inputs, &bias, &shape)?;
            let bias = expr.push(instr);
            sum = expr.push(Instr::Binary(Binary::Add, sum, bias));
        }
        let mut value = expr.push(Instr::ToFloat(sum));
        // Rows and columns of a product lie on its last two axes.
        let last = shape.len().saturating_sub(1);
        let places = if conv { [channel, channel] } else { [last.saturating_sub(1), last] };
        for (index, axis) in [(1, places[0]), (4, places[1])] {
            let scale = self.input(node, index)?;
            let scale = match scale.view.rank() {
                0 | 1 => self.along(node, &scale, axis, shape.len())?,
                _ => lean(&scale, shape.len()),
            };
            let instr = self.load(node, &mut inputs, &scale, &shape)?;
            let scale = expr.push(instr);
            value = expr.push(Instr::Binary(Binary::Mul, value, scale));
        }
        let mut parts = Vec::new();
        for index in [6, 7] {
            let part = self.input(node, index)?;
            let part = match part.view.rank() {
                0 | 1 => self.along(node, &part, last, shape.len())?,
                _ => lean(&part, shape.len()),
            };
            let instr = self.load(node, &mut inputs, &part, &shape)?;
            parts.push(self.number(&mut expr, instr, part.dtype));
        }
        if let [scale, zero] = *parts.as_slice() {
            let mut f = Writer(&mut expr);
            let value = f.two(Binary::Div, value, scale);
            finish(&mut f, value, Some(zero), (least, most));
        }
        self.emit(node, core, inputs, expr, Some(view))
    }
}

/// Rounds half to even, adds the zero point, and keeps within the type.
fn finish(f: &mut Writer<'_>, value: usize, zero: Option<usize>, (least, most): (f32, f32)) {
    let mut value = f.one(Unary::Round, value);
    if let Some(zero) = zero {
        value = f.two(Binary::Add, value, zero);
    }
    let value = f.clamp(value, least, most);
    f.0.push(Instr::ToInt(value));
}
