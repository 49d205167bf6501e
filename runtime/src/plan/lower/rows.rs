//! Normalisation, softmax and reductions.

use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, View};

impl<'g> Lowering<'g> {
    pub(super) fn layer_norm(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        if node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            return Err(node.unsupported("its outputs Mean and InvStdDev are asked for"));
        }
        if node.int("stash_type").unwrap_or(1) != 1 {
            return Err(node.unsupported("attribute 'stash_type' is not 1"));
        }
        let shape = x.view.shape.clone();
        let first = axis(node, node.int("axis").unwrap_or(-1), shape.len())?;
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        if !epsilon.is_finite() || epsilon < 0.0 {
            return Err(node.invalid(format!("attribute 'epsilon' is {epsilon}")));
        }
        let mut inputs = vec![x];
        let mut expr = Expr::acc();
        let mut result = 0;
        for (index, f) in [(1, Binary::Mul), (2, Binary::Add)] {
            if let Some(operand) = self.optional(node, index)? {
                let instr = self.load(node, &mut inputs, &operand, &shape)?;
                let operand = expr.push(instr);
                result = expr.push(Instr::Binary(f, result, operand));
            }
        }
        self.emit(node, Core::Norm { axes: shape.len() - first, epsilon }, inputs, expr, None)
    }

    pub(super) fn softmax(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let rank = x.view.rank();
        let along = axis(node, node.int("axis").unwrap_or(-1), rank)?;
        let mut order: Vec<usize> = (0..rank).filter(|a| *a != along).collect();
        order.push(along);
        let misfit = || node.invalid("its axes cannot be ordered");
        let view = x.view.permute(&order).ok_or_else(misfit)?;
        let out = View::contiguous(&x.view.shape).permute(&order).ok_or_else(misfit)?;
        self.emit(node, Core::Softmax, vec![Operand { view, ..x }], Expr::acc(), Some(out))
    }

    pub(super) fn reduce(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
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
        let fold = match node.op.as_str() {
            "ReduceSum" => Fold::Sum,
            "ReduceMax" => Fold::Max,
            "ReduceMin" => Fold::Min,
            _ => Fold::Mean,
        };
        self.fold(node, x, &axes, fold)
    }

    pub(super) fn global_pool(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let axes: Vec<usize> = (2..x.view.rank()).collect();
        let fold = if node.op == "GlobalMaxPool" { Fold::Max } else { Fold::Mean };
        self.fold(node, x, &axes, fold)
    }

    fn fold(&mut self, node: &'g Node, x: Operand, axes: &[usize], fold: Fold) -> Result<()> {
        let mut order: Vec<usize> = (0..x.view.rank()).filter(|a| !axes.contains(a)).collect();
        let kept = order.len();
        order.extend(axes);
        let view = x.view.permute(&order).ok_or_else(|| node.invalid("its axes cannot be ordered"))?;
        // Kept extents of one vanish from the loop, the value keeps its shape.
        let out = View::contiguous(view.shape.get(..kept).unwrap_or_default());
        let core = Core::Reduce { axes: axes.len(), fold };
        self.emit(node, core, vec![Operand { view, ..x }], Expr::acc(), Some(out))
    }
}
