//! Operators that only move data: views where they can be, copies where they must.

use super::{Lowering, axis};
use crate::error::Result;
use crate::graph::Node;
use crate::graph::shapes::layout::span;
use crate::kernels::{Core, Expr, Op, Operand};
use crate::tensor::{Data, Tensor};

impl<'g> Lowering<'g> {
    pub(super) fn reshape(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node, 0)?;
        let mut source = x.clone();
        if x.view.reshape(shape).is_none() {
            source = self.copy(node, 0, x)?;
        }
        let view = source
            .view
            .reshape(shape)
            .ok_or_else(|| node.invalid(format!("{:?} cannot become {shape:?}", source.view.shape)))?;
        // Of a whole buffer a reshape is always an alias: only its name changes.
        let alias = view.is_contiguous();
        self.movement(node, 0, Operand { view, ..source }, alias)
    }

    pub(super) fn transpose(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let order: Vec<usize> = match node.ints("perm") {
            Some(perm) => perm.iter().filter_map(|a| usize::try_from(*a).ok()).collect(),
            None => (0..x.view.rank()).rev().collect(),
        };
        let view = x
            .view
            .permute(&order)
            .ok_or_else(|| node.invalid(format!("perm {order:?} is not a permutation")))?;
        self.movement(node, 0, Operand { view, ..x }, false)
    }

    pub(super) fn slice(&mut self, node: &'g Node) -> Result<()> {
        let mut x = self.input(node, 0)?;
        let need = |what: &str| node.invalid(format!("'{what}' is missing"));
        let starts = self.integers(node, 1)?.ok_or_else(|| need("starts"))?;
        let ends = self.integers(node, 2)?.ok_or_else(|| need("ends"))?;
        let all: Vec<i64> = (0..starts.len() as i64).collect();
        let axes = self.integers(node, 3)?.unwrap_or(&all);
        let ones = vec![1; starts.len()];
        let steps = self.integers(node, 4)?.unwrap_or(&ones);
        for (((start, end), a), step) in starts.iter().zip(ends).zip(axes).zip(steps) {
            let a = axis(node, *a, x.view.rank())?;
            let extent = x.view.shape.get(a).copied().unwrap_or(0);
            let (first, count) = span(*start, *end, *step, extent)
                .ok_or_else(|| node.invalid(format!("axis {a} has the step {step}")))?;
            x.view = x.view.slice(a, first, *step, count).ok_or_else(|| need("axis"))?;
        }
        self.movement(node, 0, x, false)
    }

    pub(super) fn split(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let a = axis(node, node.int("axis").unwrap_or(0), x.view.rank())?;
        let mut first = 0i64;
        for index in 0..node.outputs.len() {
            let Some(name) = node.outputs.get(index).filter(|name| !name.is_empty()) else {
                // Inference knows the size of a part only by its name.
                return Err(node.unsupported(format!("output {} has no name", index + 1)));
            };
            let size = self.value(name)?.shape.get(a).copied().unwrap_or(0);
            let view =
                x.view.slice(a, first, 1, size).ok_or_else(|| node.invalid("its axis does not exist"))?;
            first += size as i64;
            self.movement(node, index, Operand { view, ..x.clone() }, false)?;
        }
        Ok(())
    }

    pub(super) fn expand(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node, 0)?;
        let view = x
            .view
            .broadcast(shape)
            .ok_or_else(|| node.invalid(format!("{:?} does not expand to {shape:?}", x.view.shape)))?;
        self.movement(node, 0, Operand { view, ..x }, false)
    }

    pub(super) fn concat(&mut self, node: &'g Node) -> Result<()> {
        let place = self.fresh(node, 0)?;
        let a = axis(node, node.int("axis").unwrap_or(0), place.view.rank())?;
        let mut first = 0i64;
        for index in 0..node.inputs.len() {
            let input = self.input(node, index)?;
            let size = input.view.shape.get(a).copied().unwrap_or(0);
            let view =
                place.view.slice(a, first, 1, size).ok_or_else(|| node.invalid("its axis does not exist"))?;
            first += size as i64;
            let output = Operand { view, ..place.clone() };
            let nodes = vec![node.name.clone()];
            self.program.ops.push(Op {
                nodes,
                core: Core::Map,
                inputs: vec![input],
                expr: Expr::load(0),
                output,
            });
        }
        self.put(node, 0, place);
        Ok(())
    }

    pub(super) fn gather(&mut self, node: &'g Node) -> Result<()> {
        let (data, indices) = (self.input(node, 0)?, self.input(node, 1)?);
        let a = axis(node, node.int("axis").unwrap_or(0), data.view.rank())?;
        // One known index is a slice.
        if let (Some([index]), true) = (self.integers(node, 1)?, indices.view.rank() <= 1) {
            let extent = data.view.shape.get(a).copied().unwrap_or(0) as i64;
            let at = if *index < 0 { index + extent } else { *index };
            if !(0..extent).contains(&at) {
                return Err(node.invalid(format!("index {index} is outside the {extent} of axis {a}")));
            }
            let view =
                if indices.view.rank() == 0 { data.view.select(a, at) } else { data.view.slice(a, at, 1, 1) };
            let view = view.ok_or_else(|| node.invalid("its axis does not exist"))?;
            return self.movement(node, 0, Operand { view, ..data }, false);
        }
        let rank = indices.view.rank();
        self.emit(node, Core::Gather { axis: a, rank }, vec![data, indices], Expr::acc(), None)
    }

    /// Outside training nothing is dropped: the value as it is, and a mask of ones.
    pub(super) fn dropout(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        if node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
            let one = Tensor::new(vec![], Data::Bool([true].into()))?;
            let kept = self.program.add_constant(&format!("{}.kept", node.name), one);
            let view = kept.view.broadcast(&x.view.shape);
            let view = view.ok_or_else(|| node.invalid("its mask does not fit"))?;
            self.put(node, 1, Operand { view, ..kept });
        }
        self.movement(node, 0, x, false)
    }
}
