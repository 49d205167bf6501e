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

/// An expression over operands that are all seen as one shape.
struct Terms {
    inputs: Vec<Operand>,
    expr: Expr,
    shape: Vec<usize>,
}

impl Terms {
    /// Of `x` alone, which is instruction 0.
    fn of(x: Operand) -> Terms {
        let shape = x.view.shape.clone();
        Terms { inputs: vec![x], expr: Expr::load(0), shape }
    }

    /// Instruction `place`, of type `dtype`, as a float.
    fn float(&mut self, place: usize, dtype: Dtype) -> usize {
        if dtype == Dtype::F32 { place } else { self.expr.push(Instr::ToFloat(place)) }
    }

    /// A function of two instructions.
    fn two(&mut self, f: Binary, a: usize, b: usize) -> usize {
        self.expr.push(Instr::Binary(f, a, b))
    }
}

impl<'g> Lowering<'g> {
    /// The instruction that reads `operand` among `terms`.
    fn term(&self, node: &Node, terms: &mut Terms, operand: &Operand) -> Result<usize> {
        let instr = self.load(node, &mut terms.inputs, operand, &terms.shape)?;
        Ok(terms.expr.push(instr))
    }

    /// As [`Lowering::term`], as a float.
    fn float_term(&self, node: &Node, terms: &mut Terms, operand: &Operand) -> Result<usize> {
        let place = self.term(node, terms, operand)?;
        Ok(terms.float(place, operand.dtype))
    }

    pub(super) fn quantize(&mut self, node: &'g Node) -> Result<()> {
        let (x, scale) = (self.input(node, 0)?, self.input(node, 1)?);
        let range = range(node, self.fresh_dtype(node, 0)?)?;
        let blocks = Blocks::of(node, &x.view.shape, &scale.view.shape)?;
        let x = self.reshaped(node, x, &blocks.split)?;
        let kind = x.dtype;
        let mut terms = Terms::of(x);
        let value = terms.float(0, kind);
        let scale = self.reshaped(node, scale, &blocks.scale)?;
        let scale = self.float_term(node, &mut terms, &scale)?;
        let mut zero = None;
        if let Some(point) = self.optional(node, 2)? {
            let point = self.reshaped(node, point, &blocks.scale)?;
            zero = Some(self.float_term(node, &mut terms, &point)?);
        }
        let value = terms.two(Binary::Div, value, scale);
        finish(&mut Writer(&mut terms.expr), value, zero, range);
        self.emit(node, Core::Map, terms.inputs, terms.expr, Some(View::contiguous(&blocks.split)))
    }

    pub(super) fn dequantize(&mut self, node: &'g Node) -> Result<()> {
        let (x, scale) = (self.input(node, 0)?, self.input(node, 1)?);
        let blocks = Blocks::of(node, &x.view.shape, &scale.view.shape)?;
        let mut terms = Terms::of(self.reshaped(node, x, &blocks.split)?);
        let mut value = 0;
        if let Some(zero) = self.optional(node, 2)? {
            let zero = self.reshaped(node, zero, &blocks.scale)?;
            let zero = self.term(node, &mut terms, &zero)?;
            value = terms.two(Binary::Sub, value, zero);
        }
        let value = terms.expr.push(Instr::ToFloat(value));
        let scale = self.reshaped(node, scale, &blocks.scale)?;
        let scale = self.term(node, &mut terms, &scale)?;
        terms.two(Binary::Mul, value, scale);
        self.emit(node, Core::Map, terms.inputs, terms.expr, Some(View::contiguous(&blocks.split)))
    }

    /// Scale and zero point out of a value's own range, and the value in them.
    pub(super) fn dynamic_quantize(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let least = self.bound(node, &x, Fold::Min, Binary::Min)?;
        let most = self.bound(node, &x, Fold::Max, Binary::Max)?;
        let (scale, zero) = (self.fresh(node, 1)?, self.fresh(node, 2)?);

        let mut expr = Expr(vec![Instr::Load(0), Instr::Load(1)]);
        let mut f = Writer(&mut expr);
        let (span, levels) = (f.two(Binary::Sub, 1, 0), f.float(255.0));
        f.two(Binary::Div, span, levels);
        self.push(node, Core::Map, vec![least.clone(), most], expr, scale.clone());

        let mut expr = Expr(vec![Instr::Load(0), Instr::Load(1)]);
        let mut f = Writer(&mut expr);
        let point = f.two(Binary::Div, 0, 1);
        let point = f.one(Unary::Neg, point);
        finish(&mut f, point, None, (0.0, 255.0));
        self.push(node, Core::Map, vec![least, scale.clone()], expr, zero.clone());

        let mut terms = Terms::of(x);
        let by = self.term(node, &mut terms, &scale)?;
        let shift = self.float_term(node, &mut terms, &zero)?;
        let value = terms.two(Binary::Div, 0, by);
        finish(&mut Writer(&mut terms.expr), value, Some(shift), (0.0, 255.0));
        self.emit(node, Core::Map, terms.inputs, terms.expr, None)?;
        self.put(node, 1, scale);
        self.put(node, 2, zero);
        Ok(())
    }

    /// The least or greatest element of `x`, or zero where that lies beyond.
    fn bound(&mut self, node: &Node, x: &Operand, fold: Fold, f: Binary) -> Result<Operand> {
        let axes: Vec<usize> = (0..x.view.rank()).collect();
        let mut expr = Expr::acc();
        let zero = expr.push(Instr::Float(0.0));
        expr.push(Instr::Binary(f, 0, zero));
        self.folded(node, x.clone(), &axes, fold, expr, Vec::new(), Dtype::F32)
    }

    /// Integers less their zero point, which lies along `axis` where it is no single number.
    fn centred(&mut self, node: &'g Node, side: Side, axis: usize) -> Result<Operand> {
        let Side { values, zero } = side;
        let Some(zero) = zero else { return Ok(values) };
        let mut terms = Terms::of(values);
        let rank = terms.shape.len();
        let zero = if zero.view.rank() > 1 { zero } else { self.along(node, &zero, axis, rank)? };
        let zero = self.term(node, &mut terms, &zero)?;
        terms.two(Binary::Sub, 0, zero);
        let made = self.temporary(node, Dtype::I32, &terms.shape);
        self.push(node, Core::Map, terms.inputs, terms.expr, made.clone());
        Ok(made)
    }

    /// The product, or the convolution, of the integers at the first of two inputs, whose zero points are at the second: in
    /// words where that can be done, which is told, else one by one.
    fn of_integers(
        &mut self,
        node: &'g Node,
        conv: bool,
        [a, a_zero]: [usize; 2],
        [b, b_zero]: [usize; 2],
    ) -> Result<(Packed, bool)> {
        let left = Side { values: self.input(node, a)?, zero: self.optional(node, a_zero)? };
        let right = Side { values: self.input(node, b)?, zero: self.optional(node, b_zero)? };
        let packed = match conv {
            true => self.packed_tiles(node, &left, &right)?,
            false => self.packed_product(node, &left, &right)?,
        };
        if let Some(packed) = packed {
            return Ok((packed, true));
        }
        let axis =
            |side: &Side, last: usize| if conv { 0 } else { side.values.view.rank().saturating_sub(last) };
        let (rows, columns) = (axis(&left, 2), axis(&right, 1));
        let (a, b) = (self.centred(node, left, rows)?, self.centred(node, right, columns)?);
        let (core, inputs, view) = if conv {
            let shape = self.shape(node, 0)?;
            (self.convolution(node, &a, &b, shape)?, vec![a, b], View::contiguous(shape))
        } else {
            self.product(node, a, b)?
        };
        Ok((Packed { core, inputs, expr: Expr::acc(), view }, false))
    }

    /// `MatMulInteger` and `ConvInteger`.
    pub(super) fn integers_only(&mut self, node: &'g Node) -> Result<()> {
        let (made, _) = self.of_integers(node, node.op == "ConvInteger", [0, 2], [1, 3])?;
        self.emit(node, made.core, made.inputs, made.expr, Some(made.view))
    }

    /// `QLinearMatMul` and `QLinearConv`.
    pub(super) fn linear(&mut self, node: &'g Node) -> Result<()> {
        let conv = node.op == "QLinearConv";
        let (Packed { core, inputs, expr, view }, packed) = self.of_integers(node, conv, [0, 2], [3, 5])?;
        // Channels of a convolution lie on axis 1 of its result, behind the others where it is a product of tiles.
        let channel = if packed { 3 } else { 1 };
        let range = range(node, self.fresh_dtype(node, 0)?)?;
        let mut terms = Terms { inputs, expr, shape: view.shape.clone() };
        let rank = terms.shape.len();
        let mut sum = terms.expr.0.len() - 1;
        if let Some(bias) = self.optional(node, 8)?.filter(|_| conv) {
            let bias = self.along(node, &bias, channel, rank)?;
            let bias = self.term(node, &mut terms, &bias)?;
            sum = terms.two(Binary::Add, sum, bias);
        }
        let mut value = terms.expr.push(Instr::ToFloat(sum));
        // Rows and columns of a product lie on its last two axes.
        let last = rank.saturating_sub(1);
        let places = if conv { [channel, channel] } else { [last.saturating_sub(1), last] };
        for (index, axis) in [(1, places[0]), (4, places[1])] {
            let scale = self.parameter(node, index, axis, rank)?;
            let scale = self.term(node, &mut terms, &scale)?;
            value = terms.two(Binary::Mul, value, scale);
        }
        let scale = self.parameter(node, 6, last, rank)?;
        let scale = self.float_term(node, &mut terms, &scale)?;
        let zero = self.parameter(node, 7, last, rank)?;
        let zero = self.float_term(node, &mut terms, &zero)?;
        let value = terms.two(Binary::Div, value, scale);
        finish(&mut Writer(&mut terms.expr), value, Some(zero), range);
        self.emit(node, core, terms.inputs, terms.expr, Some(view))
    }

    /// The scale or zero point at input `index`, which lies along `axis` where it is a vector.
    fn parameter(&mut self, node: &'g Node, index: usize, axis: usize, rank: usize) -> Result<Operand> {
        let given = self.input(node, index)?;
        match given.view.rank() {
            0 | 1 => self.along(node, &given, axis, rank),
            _ => Ok(lean(&given, rank)),
        }
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
