//! Normalisation, each with what scales and shifts its result.

use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, Unary, View};
use crate::tensor::Dtype;

fn epsilon(node: &Node) -> Result<f32> {
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    if !epsilon.is_finite() || epsilon < 0.0 {
        return Err(node.invalid(format!("attribute 'epsilon' is {epsilon}")));
    }
    Ok(epsilon)
}

impl<'g> Lowering<'g> {
    /// Layer and RMS normalisation.
    pub(super) fn layer_norm(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        if node.int("stash_type").unwrap_or(1) != 1 {
            return Err(node.unsupported("attribute 'stash_type' is not 1"));
        }
        let shape = x.view.shape.clone();
        let first = axis(node, node.int("axis").unwrap_or(-1), shape.len())?;
        let epsilon = epsilon(node)?;
        if node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            self.moments(node, &x, first, epsilon)?;
        }
        let centred = node.op == "LayerNormalization";
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
        self.emit(node, Core::Norm { axes: shape.len() - first, epsilon, centred }, inputs, expr, None)
    }

    /// The outputs Mean and InvStdDev of a layer normalisation.
    fn moments(&mut self, node: &'g Node, x: &Operand, first: usize, epsilon: f32) -> Result<()> {
        let (shape, axes) = (x.view.shape.clone(), x.view.rank() - first);
        let mut kept = shape.clone();
        kept.iter_mut().skip(first).for_each(|extent| *extent = 1);
        let rows = shape.get(..first).unwrap_or_default().to_vec();
        let core = Core::Reduce { axes, fold: Fold::Mean };
        let mean = self.temporary(node, Dtype::F32, &kept);
        let whole = |operand: &Operand| Operand { view: View::contiguous(&rows), ..operand.clone() };
        self.push(node, core.clone(), vec![x.clone()], Expr::acc(), whole(&mean));
        let mut inputs = vec![x.clone()];
        let mut expr = Expr::load(0);
        let instr = self.load(node, &mut inputs, &mean, &shape)?;
        let m = expr.push(instr);
        let off = expr.push(Instr::Binary(Binary::Sub, 0, m));
        expr.push(Instr::Binary(Binary::Mul, off, off));
        let squares = self.temporary(node, Dtype::F32, &shape);
        self.push(node, Core::Map, inputs, expr, squares.clone());
        let mut expr = Expr::acc();
        let small = expr.push(Instr::Float(epsilon));
        let sum = expr.push(Instr::Binary(Binary::Add, 0, small));
        let root = expr.push(Instr::Unary(Unary::Sqrt, sum));
        expr.push(Instr::Unary(Unary::Reciprocal, root));
        let spread = self.temporary(node, Dtype::F32, &kept);
        self.push(node, core, vec![squares], expr, whole(&spread));
        self.put(node, 1, mean);
        self.put(node, 2, spread);
        Ok(())
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, as one factor and one shift a channel.
    pub(super) fn batch_norm(&mut self, node: &'g Node) -> Result<()> {
        if node.int("training_mode").unwrap_or(0) != 0 {
            return Err(node.unsupported("attribute 'training_mode' is set"));
        }
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let epsilon = epsilon(node)?;
        let (scale, bias) = (self.input(node, 1)?, self.input(node, 2)?);
        let (mean, variance) = (self.input(node, 3)?, self.input(node, 4)?);
        let channels = scale.view.shape.clone();
        let load = |index: usize| Instr::Load(index);
        // Constants make a constant: these two kernels are then computed on the host.
        let mut expr = Expr(vec![load(0), load(1), Instr::Float(epsilon)]);
        let sum = expr.push(Instr::Binary(Binary::Add, 1, 2));
        let root = expr.push(Instr::Unary(Unary::Sqrt, sum));
        expr.push(Instr::Binary(Binary::Div, 0, root));
        let factor = self.temporary(node, Dtype::F32, &channels);
        self.push(node, Core::Map, vec![scale, variance], expr, factor.clone());
        let mut expr = Expr(vec![load(0), load(1), load(2)]);
        let moved = expr.push(Instr::Binary(Binary::Mul, 1, 2));
        expr.push(Instr::Binary(Binary::Sub, 0, moved));
        let shift = self.temporary(node, Dtype::F32, &channels);
        self.push(node, Core::Map, vec![bias, mean, factor.clone()], expr, shift.clone());
        let shape = x.view.shape.clone();
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let mut result = 0;
        for (operand, f) in [(factor, Binary::Mul), (shift, Binary::Add)] {
            let operand = self.along(node, &operand, 1.min(shape.len() - 1), shape.len())?;
            let instr = self.load(node, &mut inputs, &operand, &shape)?;
            let operand = expr.push(instr);
            result = expr.push(Instr::Binary(f, result, operand));
        }
        self.emit(node, Core::Map, inputs, expr, None)
    }

    /// Instance and group normalisation: groups of channels and all of space are one row.
    pub(super) fn group_norm(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let epsilon = epsilon(node)?;
        let shape = x.view.shape.clone();
        let [batch, channels, space @ ..] = shape.as_slice() else {
            return Err(node.invalid(format!("image {shape:?} has no channels")));
        };
        let groups = match node.op.as_str() {
            "GroupNormalization" => node.int("num_groups").and_then(|g| usize::try_from(g).ok()).unwrap_or(1),
            _ => *channels,
        };
        if groups == 0 || channels % groups != 0 {
            return Err(node.invalid(format!("{channels} channels in {groups} groups")));
        }
        let split = [&[*batch, groups, channels / groups], space].concat();
        let x = self.reshaped(node, x, &split)?;
        let mut inputs = vec![x];
        let mut expr = Expr::acc();
        let mut result = 0;
        for (index, f) in [(1, Binary::Mul), (2, Binary::Add)] {
            let vector = self.input(node, index)?;
            // One number a channel, or one a group before operator set 21.
            let each = if vector.view.elements() == *channels { channels / groups } else { 1 };
            let mut wide = vec![1; split.len()];
            wide.iter_mut().skip(1).zip([groups, each]).for_each(|(extent, count)| *extent = count);
            let vector = self.reshaped(node, vector, &wide)?;
            let instr = self.load(node, &mut inputs, &vector, &split)?;
            let operand = expr.push(instr);
            result = expr.push(Instr::Binary(f, result, operand));
        }
        let core = Core::Norm { axes: split.len() - 2, epsilon, centred: true };
        self.emit(node, core, inputs, expr, Some(View::contiguous(&split)))
    }

    /// `x` over the root of its absolute powers along one axis; rows of zeros stay zeros.
    pub(super) fn lp_norm(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let shape = x.view.shape.clone();
        let along = axis(node, node.int("axis").unwrap_or(-1), shape.len())?;
        let mut expr = Expr::load(0);
        let root = match node.int("p").unwrap_or(2) {
            1 => {
                expr.push(Instr::Unary(Unary::Abs, 0));
                Expr::acc()
            }
            2 => {
                expr.push(Instr::Binary(Binary::Mul, 0, 0));
                let mut root = Expr::acc();
                root.push(Instr::Unary(Unary::Sqrt, 0));
                root
            }
            other => return Err(node.unsupported(format!("attribute 'p' is {other}"))),
        };
        let powers = self.temporary(node, Dtype::F32, &shape);
        self.push(node, Core::Map, vec![x.clone()], expr, powers.clone());
        let size = self.folded(node, powers, &[along], Fold::Sum, root, Vec::new(), Dtype::F32)?;
        let mut kept = shape.clone();
        kept.iter_mut().skip(along).take(1).for_each(|extent| *extent = 1);
        let size = Operand { view: View::contiguous(&kept), ..size };
        let mut inputs = vec![x];
        let mut expr = Expr::load(0);
        let instr = self.load(node, &mut inputs, &size, &shape)?;
        let size = expr.push(instr);
        let zero = expr.push(Instr::Float(0.0));
        let empty = expr.push(Instr::Binary(Binary::Equal, size, zero));
        let share = expr.push(Instr::Binary(Binary::Div, 0, size));
        expr.push(Instr::Select(empty, zero, share));
        self.emit(node, Core::Map, inputs, expr, None)
    }
}
