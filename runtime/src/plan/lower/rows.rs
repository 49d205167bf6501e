//! Softmax, reductions and what else runs along one axis.

use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, Unary, View};
use crate::tensor::Dtype;

impl<'g> Lowering<'g> {
    /// `x` with `along` as its last axis, and the whole of a value of `out`'s shape walked in that order.
    fn last(&self, node: &Node, x: Operand, along: usize, out: &[usize]) -> Result<(Operand, View)> {
        let mut order: Vec<usize> = (0..x.view.rank()).filter(|a| *a != along).collect();
        order.push(along);
        let misfit = || node.invalid("its axes cannot be ordered");
        let view = x.view.permute(&order).ok_or_else(misfit)?;
        let out = View::contiguous(out).permute(&order).ok_or_else(misfit)?;
        Ok((Operand { view, ..x }, out))
    }

    pub(super) fn softmax(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let along = axis(node, node.int("axis").unwrap_or(-1), x.view.rank())?;
        let shape = x.view.shape.clone();
        let (x, out) = self.last(node, x, along, &shape)?;
        self.emit(node, Core::Softmax { log: node.op == "LogSoftmax" }, vec![x], Expr::acc(), Some(out))
    }

    /// One where the first greatest element along an axis is, else zero.
    pub(super) fn hardmax(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let shape = x.view.shape.clone();
        let along = axis(node, node.int("axis").unwrap_or(-1), shape.len())?;
        let (x, _) = self.last(node, x, along, &shape)?;
        let mut kept = shape.clone();
        kept.iter_mut().skip(along).take(1).for_each(|extent| *extent = 1);
        let place = self.temporary(node, Dtype::I64, &kept);
        let rows: Vec<usize> =
            kept.iter().enumerate().filter(|(i, _)| *i != along).map(|(_, e)| *e).collect();
        let output = Operand { view: View::contiguous(&rows), ..place.clone() };
        self.push(node, Core::Arg { largest: true, last: false }, vec![x], Expr::acc(), output);
        let count = self.counting(node, along, &shape)?;
        let (mut inputs, mut expr) = (Vec::new(), Expr::default());
        for operand in [&place, &count] {
            let instr = self.load(node, &mut inputs, operand, &shape)?;
            expr.push(instr);
        }
        let equal = expr.push(Instr::Binary(Binary::Equal, 0, 1));
        expr.push(Instr::ToFloat(equal));
        self.emit(node, Core::Map, inputs, expr, None)
    }

    pub(super) fn reduce(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let rank = x.view.rank();
        let given = self.integers(node, 1)?.or_else(|| node.ints("axes")).unwrap_or_default();
        if given.is_empty() && node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
            return self.movement(node, 0, x, false);
        }
        let mut axes = Vec::new();
        for a in given {
            axes.push(axis(node, *a, rank)?);
        }
        if axes.is_empty() {
            axes = (0..rank).collect();
        }
        let whole = matches!(node.op.as_str(), "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd");
        if !whole {
            self.floats(node, &x)?;
        }
        let mut finish = Expr::acc();
        let (fold, before) = match node.op.as_str() {
            "ReduceSum" | "ReduceLogSum" => (Fold::Sum, None),
            "ReduceMax" => (Fold::Max, None),
            "ReduceMin" => (Fold::Min, None),
            "ReduceProd" => (Fold::Product, None),
            "ReduceL1" => (Fold::Sum, Some(Instr::Unary(Unary::Abs, 0))),
            "ReduceL2" | "ReduceSumSquare" => (Fold::Sum, Some(Instr::Binary(Binary::Mul, 0, 0))),
            "ReduceLogSumExp" => return self.log_sum_exp(node, x, &axes),
            _ => (Fold::Mean, None),
        };
        match node.op.as_str() {
            "ReduceL2" => drop(finish.push(Instr::Unary(Unary::Sqrt, 0))),
            "ReduceLogSum" => drop(finish.push(Instr::Unary(Unary::Log, 0))),
            _ => {}
        }
        let x = match before {
            Some(instr) => {
                let made = self.temporary(node, Dtype::F32, &x.view.shape);
                self.push(node, Core::Map, vec![x], Expr(vec![Instr::Load(0), instr]), made.clone());
                made
            }
            None => x,
        };
        self.fold(node, x, &axes, fold, finish, Vec::new())
    }

    /// `log(sum(exp(x)))`, shifted by the greatest element so that nothing overflows.
    fn log_sum_exp(&mut self, node: &'g Node, x: Operand, axes: &[usize]) -> Result<()> {
        let shape = x.view.shape.clone();
        let most = self.folded(node, x.clone(), axes, Fold::Max, Expr::acc(), Vec::new(), Dtype::F32)?;
        let kept: Vec<usize> =
            shape.iter().enumerate().map(|(i, e)| if axes.contains(&i) { 1 } else { *e }).collect();
        let wide = Operand { view: View::contiguous(&kept), ..most.clone() };
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let instr = self.load(node, &mut inputs, &wide, &shape)?;
        let peak = expr.push(instr);
        let below = expr.push(Instr::Binary(Binary::Sub, 0, peak));
        expr.push(Instr::Unary(Unary::Exp, below));
        let shares = self.temporary(node, Dtype::F32, &shape);
        self.push(node, Core::Map, inputs, expr, shares.clone());
        let mut finish = Expr::acc();
        let log = finish.push(Instr::Unary(Unary::Log, 0));
        let peak = finish.push(Instr::Load(1));
        finish.push(Instr::Binary(Binary::Add, log, peak));
        self.fold(node, shares, axes, Fold::Sum, finish, vec![most])
    }

    /// Output 0 of `node`: `axes` of `x` folded and finished. `more` are operands of the finish, with the kept extents.
    pub(super) fn fold(
        &mut self,
        node: &'g Node,
        x: Operand,
        axes: &[usize],
        fold: Fold,
        finish: Expr,
        more: Vec<Operand>,
    ) -> Result<()> {
        let (core, inputs, out) = self.folding(node, x, axes, fold, more)?;
        self.emit(node, core, inputs, finish, Some(out))
    }

    /// As [`Lowering::fold`], as a new value whose shape is that of the kept extents.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn folded(
        &mut self,
        node: &Node,
        x: Operand,
        axes: &[usize],
        fold: Fold,
        finish: Expr,
        more: Vec<Operand>,
        dtype: Dtype,
    ) -> Result<Operand> {
        let (core, inputs, out) = self.folding(node, x, axes, fold, more)?;
        let made = self.temporary(node, dtype, &out.shape);
        self.push(node, core, inputs, finish, made.clone());
        Ok(made)
    }

    fn folding(
        &self,
        node: &Node,
        x: Operand,
        axes: &[usize],
        fold: Fold,
        more: Vec<Operand>,
    ) -> Result<(Core, Vec<Operand>, View)> {
        let mut order: Vec<usize> = (0..x.view.rank()).filter(|a| !axes.contains(a)).collect();
        let kept = order.len();
        order.extend(axes);
        let view = x.view.permute(&order).ok_or_else(|| node.invalid("its axes cannot be ordered"))?;
        // Kept extents of one vanish from the loop, the value keeps its shape.
        let out = View::contiguous(view.shape.get(..kept).unwrap_or_default());
        let mut inputs = vec![Operand { view, ..x }];
        inputs.extend(more);
        Ok((Core::Reduce { axes: axes.len(), fold }, inputs, out))
    }

    pub(super) fn arg(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let along = axis(node, node.int("axis").unwrap_or(0), x.view.rank())?;
        let shape = x.view.shape.clone();
        let (x, _) = self.last(node, x, along, &shape)?;
        let rows = View::contiguous(x.view.shape.split_last().map_or(&[][..], |(_, rows)| rows));
        let last = node.int("select_last_index").unwrap_or(0) != 0;
        let core = Core::Arg { largest: node.op == "ArgMax", last };
        self.emit(node, core, vec![x], Expr::acc(), Some(rows))
    }

    pub(super) fn top(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let along = axis(node, node.int("axis").unwrap_or(-1), x.view.rank())?;
        let largest = node.int("largest").unwrap_or(1) != 0;
        for index in 0..node.outputs.len() {
            if node.outputs.get(index).is_none_or(String::is_empty) {
                continue;
            }
            let place = self.fresh(node, index)?;
            let shape = self.shape(node, index)?;
            let (x, view) = self.last(node, x.clone(), along, shape)?;
            let core = Core::Top { largest, place: index == 1 };
            self.push(node, core, vec![x], Expr::acc(), Operand { view, ..place.clone() });
            self.put(node, index, place);
        }
        Ok(())
    }

    pub(super) fn cumulative(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let [along] = self.integers(node, 1)?.unwrap_or_default() else {
            return Err(node.invalid("it has no axis"));
        };
        let along = axis(node, *along, x.view.rank())?;
        let shape = x.view.shape.clone();
        let (x, out) = self.last(node, x, along, &shape)?;
        let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
        let core = Core::Scan { exclusive: flag("exclusive"), reverse: flag("reverse") };
        self.emit(node, core, vec![x], Expr::acc(), Some(out))
    }
}
