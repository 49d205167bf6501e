//! A normalisation that one product reads becomes part of that product.
//!
//! With `c` any number, `x` a row and `w` a column, `(x - mean) / deviation * w` is
//! `((x - c) * w - (mean - c) * sum(w)) / deviation`: the product can begin before mean and deviation are
//! known, and find both from the elements it reads anyway. The column sums are constants.

use crate::kernels::{Core, Instr, Op, Operand};
use crate::plan::passes::gain::reads_rows;
use crate::plan::program::Program;
use crate::tensor::Tensor;

pub(super) fn run(program: &mut Program) {
    let mut index = 0;
    while index < program.ops.len() {
        match join(program, index) {
            Some((product, op)) => {
                if let Some(slot) = program.ops.get_mut(product) {
                    *slot = op;
                }
                program.ops.remove(index);
            }
            None => index += 1,
        }
    }
}

/// The product that alone reads the normalisation at `index`, and what it becomes.
fn join(program: &mut Program, index: usize) -> Option<(usize, Op)> {
    let norm = program.ops.get(index)?;
    let Core::Norm { axes: 1, epsilon, centred } = norm.core else { return None };
    let value = norm.output.value;
    let columns = *norm.output.view.shape.last()?;
    let readers = program.readers();
    let alone = readers.get(value) == Some(&1) && program.writers().get(value) == Some(&1);
    if !alone || !norm.expr.is_copy() || !norm.output.view.is_contiguous() || program.is_port(value) {
        return None;
    }
    let (at, product) =
        program.ops.iter().enumerate().find(|(_, op)| op.inputs.iter().any(|o| o.value == value))?;
    let Core::Matmul { m, .. } = product.core else { return None };
    if !reads_rows(program, &readers, product, value, columns) {
        return None;
    }
    let source = norm.inputs.first()?;
    let rows = Operand { view: product.inputs.first()?.view.after(&source.view)?, ..source.clone() };
    let weight = product.inputs.get(1)?.clone();
    let sums = column_sums(program.constant(weight.value)?.as_f32()?, columns);
    let shape = product.output.view.shape.clone();
    let mut nodes = norm.nodes.clone();
    nodes.extend(product.nodes.iter().cloned());
    let shift = |instr: &Instr| match instr {
        Instr::Load(i) => Instr::Load(i + 1),
        other => other.clone(),
    };
    let mut op = Op { nodes, core: Core::NormMatmul { m, epsilon, centred }, ..product.clone() };
    if op.expr.loads().iter().any(|load| *load < 2) {
        return None;
    }
    op.expr.0 = op.expr.0.iter().map(shift).collect();
    let name = format!("{}.sums", op.nodes.first().map_or("", String::as_str));
    let sums = program.add_constant(&name, Tensor::f32([sums.len()], sums).ok()?);
    let sums = Operand { view: sums.view.broadcast(&shape)?, ..sums };
    op.inputs.splice(0..1, [rows]);
    op.inputs.insert(2, sums);
    Some((at, op))
}

/// The sum of each column of a row-major matrix of `rows` rows.
pub(super) fn column_sums(values: &[f32], rows: usize) -> Vec<f32> {
    let width = values.len() / rows.max(1);
    let mut sums = vec![0f64; width];
    for row in values.chunks_exact(width.max(1)) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_summed() {
        assert_eq!(column_sums(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [9.0, 12.0]);
    }
}
