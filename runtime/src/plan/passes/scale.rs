//! A constant factor behind a matrix product moves into its weights and bias, exactly but for one
//! rounding each; one before a product moves behind it.

use crate::kernels::{Binary, Core, Expr, Instr, Operand};
use crate::plan::program::Program;
use crate::tensor::Tensor;

pub(super) fn run(program: &mut Program) {
    while let Some((scaled, product, place, operand, factor)) = before(program) {
        if let Some(op) = program.ops.get_mut(product) {
            if let Some(input) = op.inputs.get_mut(place) {
                *input = operand;
            }
            let behind = Expr(vec![Instr::Acc, Instr::Float(factor), Instr::Binary(Binary::Mul, 0, 1)]);
            op.expr = op.expr.substitute(|instr| *instr == Instr::Acc, &behind, Clone::clone);
        }
        program.ops.remove(scaled);
    }
    for index in 0..program.ops.len() {
        while let Some((factor, expr, scaled)) = find(program, index) {
            for value in scaled {
                if let Some(value) = program.values.get_mut(value)
                    && let Some(tensor) = value.constant.as_ref().and_then(|t| multiply(t, factor))
                {
                    value.constant = Some(tensor);
                }
            }
            if let Some(op) = program.ops.get_mut(index) {
                op.expr = expr;
            }
        }
    }
}

/// A kernel that only multiplies by a constant and that only one product reads: its place, the
/// product's, which operand it is there, what the product can read instead, and the factor.
fn before(program: &Program) -> Option<(usize, usize, usize, Operand, f32)> {
    let (readers, writers) = (program.readers(), program.writers());
    program.ops.iter().enumerate().find_map(|(index, op)| {
        let factor = match (&op.core, op.expr.0.as_slice()) {
            (Core::Map, [Instr::Load(0), Instr::Float(c), Instr::Binary(Binary::Mul, a, b)])
            | (Core::Map, [Instr::Float(c), Instr::Load(0), Instr::Binary(Binary::Mul, a, b)])
                if a != b =>
            {
                *c
            }
            _ => return None,
        };
        let value = op.output.value;
        let alone = readers.get(value) == Some(&1) && writers.get(value) == Some(&1);
        let whole = op.output.view.is_contiguous() && op.inputs.len() == 1;
        if !alone || !whole || program.is_port(value) || op.output.dtype != op.inputs.first()?.dtype {
            return None;
        }
        let reads = |op: &crate::kernels::Op| op.inputs.iter().take(2).position(|o| o.value == value);
        let (product, place) = program.ops.iter().enumerate().find_map(|(at, op)| {
            let plain = matches!(op.core, Core::Matmul { .. }) && op.expr.0.contains(&Instr::Acc);
            plain.then(|| Some((at, reads(op)?))).flatten()
        })?;
        let read = program.ops.get(product)?.inputs.get(place)?;
        let input = op.inputs.first()?;
        Some((
            index,
            product,
            place,
            Operand { view: read.view.after(&input.view)?, ..input.clone() },
            factor,
        ))
    })
}

fn multiply(tensor: &Tensor, factor: f64) -> Option<Tensor> {
    let values = tensor.as_f32()?.iter().map(|v| (f64::from(*v) * factor) as f32);
    Tensor::f32(tensor.shape().to_vec(), values.collect::<Vec<_>>()).ok()
}

/// The factor, the expression without it, and the constants to multiply.
fn find(program: &Program, index: usize) -> Option<(f64, Expr, Vec<usize>)> {
    let op = program.ops.get(index)?;
    let Core::Matmul { .. } = op.core else { return None };
    let (last, factor) = match op.expr.0.as_slice() {
        [rest @ .., Instr::Float(c), Instr::Binary(Binary::Mul, a, b)] if *b == rest.len() => {
            (*a, f64::from(*c))
        }
        [rest @ .., Instr::Float(c), Instr::Binary(Binary::Div, a, b)] if *b == rest.len() => {
            (*a, 1.0 / f64::from(*c))
        }
        _ => return None,
    };
    let rest = op.expr.0.get(..op.expr.0.len() - 2)?;
    if last + 1 != rest.len() || !factor.is_finite() {
        return None;
    }
    let weight = op.inputs.get(1)?.value;
    let scaled = match rest {
        [Instr::Acc] => vec![weight],
        [Instr::Acc, Instr::Load(bias), Instr::Binary(Binary::Add, 0, 1)]
        | [Instr::Load(bias), Instr::Acc, Instr::Binary(Binary::Add, 0, 1)]
        | [Instr::Acc, Instr::Load(bias), Instr::Binary(Binary::Add, 1, 0)]
        | [Instr::Load(bias), Instr::Acc, Instr::Binary(Binary::Add, 1, 0)] => {
            vec![weight, op.inputs.get(*bias)?.value]
        }
        _ => return None,
    };
    let readers = program.readers();
    let own = |value: &usize| {
        readers.get(*value) == Some(&1) && program.constant(*value).is_some_and(|t| t.as_f32().is_some())
    };
    scaled.iter().all(own).then(|| (factor, Expr(rest.to_vec()), scaled))
}
