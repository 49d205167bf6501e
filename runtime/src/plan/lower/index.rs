//! Picking, placing and making elements by their indices.

use super::activation::Writer;
use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, View};
use crate::tensor::{Dtype, Tensor};

impl<'g> Lowering<'g> {
    /// `0, 1, 2, …` along `axis` of a value of `shape`, ready to broadcast.
    pub(super) fn counting(&mut self, node: &Node, axis: usize, shape: &[usize]) -> Result<Operand> {
        let extent = shape.get(axis).copied().unwrap_or(1);
        super::short(&format!("node '{}'", node.name), extent)?;
        let numbers = Tensor::i64([extent], (0..extent as i64).collect::<Vec<_>>())?;
        let operand = self.program.add_constant(&format!("{}.count", node.name), numbers);
        self.along(node, &operand, axis, shape.len())
    }

    pub(super) fn gather_elements(&mut self, node: &'g Node) -> Result<()> {
        let (mut data, indices) = (self.input(node, 0)?, self.input(node, 1)?);
        let along = axis(node, node.int("axis").unwrap_or(0), data.view.rank())?;
        data.view = self.window_of(node, &data.view, &indices.view.shape, along)?;
        self.emit(node, Core::Pick { axis: along }, vec![data, indices], Expr::acc(), None)
    }

    /// The first extents of `view` on every axis but `along`.
    fn window_of(&self, node: &Node, view: &View, extents: &[usize], along: usize) -> Result<View> {
        let mut part = view.clone();
        for (a, extent) in extents.iter().enumerate().filter(|(a, _)| *a != along) {
            part = part.slice(a, 0, 1, *extent).ok_or_else(|| node.invalid("ranks differ"))?;
        }
        Ok(part)
    }

    fn reduction(&self, node: &Node) -> Result<Option<Fold>> {
        Ok(Some(match node.text("reduction").unwrap_or("none") {
            "none" => return Ok(None),
            "add" => Fold::Sum,
            "mul" => Fold::Product,
            "max" => Fold::Max,
            "min" => Fold::Min,
            other => return Err(node.invalid(format!("attribute 'reduction' is '{other}'"))),
        }))
    }

    pub(super) fn scatter_elements(&mut self, node: &'g Node) -> Result<()> {
        let (mut data, indices, updates) = (self.input(node, 0)?, self.input(node, 1)?, self.input(node, 2)?);
        let along = axis(node, node.int("axis").unwrap_or(0), data.view.rank())?;
        let core = Core::Scatter { axis: along, fold: self.reduction(node)? };
        let place = self.fresh(node, 0)?;
        let view = self.window_of(node, &place.view, &indices.view.shape, along)?;
        if view.shape != place.view.shape {
            // What the indices do not span stays as it is.
            self.push(node, Core::Map, vec![data.clone()], Expr::load(0), place.clone());
        }
        data.view = self.window_of(node, &data.view, &indices.view.shape, along)?;
        let output = Operand { view, ..place.clone() };
        self.push(node, core, vec![data, indices, updates], Expr::acc(), output);
        self.put(node, 0, place);
        Ok(())
    }

    /// Row numbers into the axes `dims` merged, out of index tuples along the last axis of `indices`. `base` is added; a tuple
    /// that lies outside becomes a number that lies outside.
    fn merged(
        &mut self,
        node: &Node,
        indices: &Operand,
        dims: &[usize],
        base: Option<&Operand>,
    ) -> Result<Operand> {
        let last = indices.view.rank().saturating_sub(1);
        let shape = indices.view.shape.get(..last).unwrap_or_default().to_vec();
        let (mut inputs, mut expr) = (Vec::new(), Expr::default());
        let mut sum = match base {
            Some(base) => {
                let instr = self.load(node, &mut inputs, base, &shape)?;
                expr.push(instr)
            }
            None => expr.push(Instr::Int(0)),
        };
        let mut inside = expr.push(Instr::Int(1));
        for (place, extent) in dims.iter().enumerate() {
            let view = indices.view.select(last, place as i64);
            let view = view.ok_or_else(|| node.invalid("its indices have no axes"))?;
            let part = Operand { view, ..indices.clone() };
            let instr = self.load(node, &mut inputs, &part, &shape)?;
            let index = expr.push(instr);
            let mut f = Writer(&mut expr);
            let index = f.wrapped(index, *extent);
            let (least, most) = (f.int(-1), f.int(*extent as i64));
            let (low, high) = (f.two(Binary::Less, least, index), f.two(Binary::Less, index, most));
            inside = f.two(Binary::And, inside, low);
            inside = f.two(Binary::And, inside, high);
            let scaled = f.two(Binary::Mul, sum, most);
            sum = f.two(Binary::Add, scaled, index);
        }
        let outside = expr.push(Instr::Int(i64::from(i32::MIN)));
        expr.push(Instr::Select(inside, sum, outside));
        let made = self.temporary(node, Dtype::I64, &shape);
        self.push(node, Core::Map, inputs, expr, made.clone());
        Ok(made)
    }

    pub(super) fn gather_nd(&mut self, node: &'g Node) -> Result<()> {
        let (data, indices) = (self.input(node, 0)?, self.input(node, 1)?);
        let batch = usize::try_from(node.int("batch_dims").unwrap_or(0)).unwrap_or(0);
        let length = indices.view.shape.last().copied().unwrap_or(0);
        let shape = data.view.shape.clone();
        let (batches, dims) = (shape.get(..batch), shape.get(batch..batch + length));
        let (Some(batches), Some(dims)) = (batches, dims) else {
            return Err(node.invalid("its indices are longer than its data's shape"));
        };
        let rows: usize = batches.iter().chain(dims).product();
        let rest: usize = shape.iter().skip(batch + length).product();
        let base = if batch > 0 {
            let count: usize = batches.iter().product();
            let mut wide = batches.to_vec();
            wide.resize(indices.view.rank().saturating_sub(1), 1);
            let count = self.counting(node, 0, &[count])?;
            Some(self.reshaped(node, count, &wide)?)
        } else {
            None
        };
        let place = self.merged(node, &indices, dims, base.as_ref())?;
        let data = self.reshaped(node, data, &[rows, rest])?;
        let rank = place.view.rank();
        let out = View::contiguous(&[place.view.shape.as_slice(), &[rest]].concat());
        self.emit(node, Core::Gather { axis: 0, rank }, vec![data, place], Expr::acc(), Some(out))
    }

    pub(super) fn scatter_nd(&mut self, node: &'g Node) -> Result<()> {
        let (data, indices, updates) = (self.input(node, 0)?, self.input(node, 1)?, self.input(node, 2)?);
        let core = Core::Scatter { axis: 0, fold: self.reduction(node)? };
        let length = indices.view.shape.last().copied().unwrap_or(0);
        let shape = data.view.shape.clone();
        let dims = shape.get(..length).ok_or_else(|| node.invalid("its indices are too long"))?;
        let rows: usize = dims.iter().product();
        let rest: usize = shape.iter().skip(length).product();
        let place = self.merged(node, &indices, dims, None)?;
        let count = place.view.elements();
        let place = self.reshaped(node, place, &[count, 1])?;
        let view = place.view.broadcast(&[count, rest]).ok_or_else(|| node.invalid("its updates misfit"))?;
        let data = self.reshaped(node, data, &[rows, rest])?;
        let updates = self.reshaped(node, updates, &[count, rest])?;
        let inputs = vec![data, Operand { view, ..place }, updates];
        self.emit(node, core, inputs, Expr::acc(), Some(View::contiguous(&[rows, rest])))
    }

    pub(super) fn one_hot(&mut self, node: &'g Node) -> Result<()> {
        let (indices, values) = (self.input(node, 0)?, self.input(node, 2)?);
        let shape = self.shape(node, 0)?;
        let along = axis(node, node.int("axis").unwrap_or(-1), shape.len())?;
        let depth = shape.get(along).copied().unwrap_or(0);
        let mut view = indices.view.clone();
        view.shape.insert(along, 1);
        view.strides.insert(along, 0);
        let count = self.counting(node, along, shape)?;
        let (mut inputs, mut expr) = (Vec::new(), Expr::default());
        let float = indices.dtype == Dtype::F32;
        let instr = self.load(node, &mut inputs, &Operand { view, ..indices }, shape)?;
        let mut index = expr.push(instr);
        if float {
            index = expr.push(Instr::ToInt(index));
        }
        let index = Writer(&mut expr).wrapped(index, depth);
        let instr = self.load(node, &mut inputs, &count, shape)?;
        let count = expr.push(instr);
        let mut parts = Vec::new();
        for place in 0..2 {
            let view = values.view.select(0, place).ok_or_else(|| node.invalid("its values are not two"))?;
            let instr = self.load(node, &mut inputs, &Operand { view, ..values.clone() }, shape)?;
            parts.push(expr.push(instr));
        }
        let here = expr.push(Instr::Binary(Binary::Equal, index, count));
        if let [off, on] = *parts.as_slice() {
            expr.push(Instr::Select(here, on, off));
        }
        self.emit(node, Core::Map, inputs, expr, None)
    }

    /// The instructions that load row and column numbers of a matrix stack of `shape`.
    fn row_and_column(
        &mut self,
        node: &Node,
        shape: &[usize],
        inputs: &mut Vec<Operand>,
        expr: &mut Expr,
    ) -> Result<(usize, usize)> {
        let rank = shape.len();
        if rank < 2 {
            return Err(node.invalid(format!("shape {shape:?} is no matrix")));
        }
        let (rows, columns) = (self.counting(node, rank - 2, shape)?, self.counting(node, rank - 1, shape)?);
        let row = self.load(node, inputs, &rows, shape)?;
        let row = expr.push(row);
        let column = self.load(node, inputs, &columns, shape)?;
        Ok((row, expr.push(column)))
    }

    pub(super) fn triangle(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let shape = x.view.shape.clone();
        let mut inputs = vec![x.clone()];
        let mut expr = Expr::load(0);
        let (row, column) = self.row_and_column(node, &shape, &mut inputs, &mut expr)?;
        let mut diagonal = row;
        if let Some(mut shift) = self.optional(node, 1)? {
            shift.view = shift.view.reshape(&[]).ok_or_else(|| node.invalid("its diagonal is no number"))?;
            let instr = self.load(node, &mut inputs, &shift, &shape)?;
            let shift = expr.push(instr);
            diagonal = expr.push(Instr::Binary(Binary::Add, row, shift));
        }
        let upper = node.int("upper").unwrap_or(1) != 0;
        let (low, high) = if upper { (diagonal, column) } else { (column, diagonal) };
        let kept = expr.push(Instr::Binary(Binary::LessOrEqual, low, high));
        let zero = expr.push(if x.dtype == Dtype::F32 { Instr::Float(0.0) } else { Instr::Int(0) });
        expr.push(Instr::Select(kept, 0, zero));
        self.emit(node, Core::Map, inputs, expr, None)
    }

    pub(super) fn eye_like(&mut self, node: &'g Node) -> Result<()> {
        let shape = self.shape(node, 0)?;
        let (mut inputs, mut expr) = (Vec::new(), Expr::default());
        let (row, column) = self.row_and_column(node, shape, &mut inputs, &mut expr)?;
        let shift = expr.push(Instr::Int(node.int("k").unwrap_or(0)));
        let diagonal = expr.push(Instr::Binary(Binary::Add, row, shift));
        let here = expr.push(Instr::Binary(Binary::Equal, diagonal, column));
        if self.fresh_dtype(node, 0)? == Dtype::F32 {
            expr.push(Instr::ToFloat(here));
        }
        self.emit(node, Core::Map, inputs, expr, None)
    }

    pub(super) fn range(&mut self, node: &'g Node) -> Result<()> {
        let [count] = *self.shape(node, 0)? else { return Err(node.invalid("its result is no list")) };
        let mut bounds = Vec::new();
        for index in [0, 2] {
            let known = self.value(node.inputs.get(index).map_or("", String::as_str))?;
            let whole = known.known.as_deref().and_then(<[i64]>::first).map(|v| *v as f64);
            let real = known.real.as_deref().and_then(<[f32]>::first).map(|v| f64::from(*v));
            bounds.push(
                whole.or(real).ok_or_else(|| node.unsupported("its bounds are known only at run time"))?,
            );
        }
        let [start, step] = *bounds.as_slice() else { return Ok(()) };
        let at = |i: usize| start + step * i as f64;
        let tensor = if self.fresh_dtype(node, 0)? == Dtype::F32 {
            Tensor::f32([count], (0..count).map(|i| at(i) as f32).collect::<Vec<_>>())?
        } else {
            Tensor::i64([count], (0..count).map(|i| at(i) as i64).collect::<Vec<_>>())?
        };
        let operand = self.program.add_constant(&node.name, tensor);
        self.put(node, 0, operand);
        Ok(())
    }
}
