//! Matrix products.

use super::Lowering;
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Instr, Operand, View};

impl<'g> Lowering<'g> {
    pub(super) fn matmul(&mut self, node: &'g Node) -> Result<()> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &a)?;
        let (core, inputs, view) = self.product(node, a, b)?;
        self.emit(node, core, inputs, Expr::acc(), Some(view))
    }

    /// The product of two matrix stacks: core, operands, and how the result is walked.
    pub(super) fn product(
        &self,
        node: &Node,
        mut a: Operand,
        mut b: Operand,
    ) -> Result<(Core, Vec<Operand>, View)> {
        let misfit = || node.invalid("its operands do not fit together");
        // A vector is one row on the left and one column on the right.
        if a.view.rank() == 1 {
            a.view.shape.insert(0, 1);
            a.view.strides.insert(0, 0);
        }
        if b.view.rank() == 1 {
            b.view.shape.push(1);
            b.view.strides.push(0);
        }
        let (a_shape, b_shape) = (a.view.shape.clone(), b.view.shape.clone());
        let ([a_batch @ .., m, k], [b_batch @ .., _, n]) = (a_shape.as_slice(), b_shape.as_slice()) else {
            return Err(misfit());
        };
        let single = |batch: &[usize]| batch.iter().all(|extent| *extent == 1);
        // Stacks of one matrix each, as one head has, stay stacks.
        let stacks = !b_batch.is_empty() && b_batch.len() == a_batch.len() && single(a_batch);
        if single(b_batch) && !stacks {
            // One matrix for all rows: the leading axes of `a` are more rows. The output then has the
            // batch axes of `a`, perhaps behind further ones of extent one.
            let view = b.view.reshape(&[*k, *n]).ok_or_else(misfit)?;
            b.view = view;
            let rows = a_batch.len() + 1;
            let mut shape = a_batch.to_vec();
            shape.extend([*m, *n]);
            let core = Core::Matmul { batch: 0, m: rows, k: 1 };
            return Ok((core, vec![a, b], View::contiguous(&shape)));
        }
        let batch = crate::graph::shapes::broadcast(a_batch, b_batch).ok_or_else(misfit)?;
        let whole = |rows: usize, columns: usize| [batch.as_slice(), &[rows, columns]].concat();
        a.view = a.view.broadcast(&whole(*m, *k)).ok_or_else(misfit)?;
        b.view = b.view.broadcast(&whole(*k, *n)).ok_or_else(misfit)?;
        let core = Core::Matmul { batch: batch.len(), m: 1, k: 1 };
        Ok((core, vec![a, b], View::contiguous(&whole(*m, *n))))
    }

    pub(super) fn gemm(&mut self, node: &'g Node) -> Result<()> {
        let (mut a, mut b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &a)?;
        let turn = |operand: &mut Operand, attribute: &str| -> Result<()> {
            if node.int(attribute).unwrap_or(0) != 0 {
                operand.view = operand
                    .view
                    .permute(&[1, 0])
                    .ok_or_else(|| node.invalid("an operand is not a matrix"))?;
            }
            Ok(())
        };
        turn(&mut a, "transA")?;
        turn(&mut b, "transB")?;
        let mut inputs = vec![a, b];
        let mut expr = Expr::acc();
        let alpha = node.float("alpha").unwrap_or(1.0);
        let mut result = 0;
        if alpha != 1.0 {
            let factor = expr.push(Instr::Float(alpha));
            result = expr.push(Instr::Binary(Binary::Mul, result, factor));
        }
        let beta = node.float("beta").unwrap_or(1.0);
        if let Some(c) = self.optional(node, 2)?.filter(|_| beta != 0.0) {
            let shape = self.shape(node, 0)?;
            let instr = self.load(node, &mut inputs, &c, shape)?;
            let mut c = expr.push(instr);
            if beta != 1.0 {
                let factor = expr.push(Instr::Float(beta));
                c = expr.push(Instr::Binary(Binary::Mul, c, factor));
            }
            expr.push(Instr::Binary(Binary::Add, result, c));
        }
        self.emit(node, Core::Matmul { batch: 0, m: 1, k: 1 }, inputs, expr, None)
    }
}
