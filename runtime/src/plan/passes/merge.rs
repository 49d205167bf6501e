//! Products of one input by several weights become one product by the weights side by side; whoever
//! read one of the results reads its columns of the joint one.

use crate::kernels::{Binary, Core, Expr, Instr, Op, Operand, View};
use crate::plan::program::{Program, Role, Value};
use crate::tensor::{Dtype, Tensor};

pub(super) fn run(program: &mut Program) {
    let mut index = 0;
    while index < program.ops.len() {
        let group = group(program, index);
        if group.len() > 1 {
            // A group that cannot be joined is left as it is.
            let _ = join(program, &group);
        }
        index += 1;
    }
}

/// A product by a constant matrix with at most a bias.
struct Part {
    op: usize,
    value: usize,
    columns: usize,
    weight: usize,
    bias: Option<usize>,
}

fn part(program: &Program, index: usize, readers: &[usize]) -> Option<Part> {
    let op = program.ops.get(index)?;
    let Core::Matmul { batch: 0, k: 1, .. } = op.core else { return None };
    let weight = op.inputs.get(1)?;
    let columns = *weight.view.shape.get(1)?;
    let own = |value: usize| {
        readers.get(value) == Some(&1) && program.constant(value).is_some_and(|t| t.as_f32().is_some())
    };
    let value = program.values.get(op.output.value)?;
    let plain = own(weight.value)
        && weight.view.is_contiguous()
        && columns % 4 == 0
        && value.role == Role::Scratch
        && op.output.view.is_contiguous()
        && value.elements() == op.output.view.elements();
    let bias = match op.expr.0.as_slice() {
        [Instr::Acc] => None,
        [a, b, Instr::Binary(Binary::Add, 0 | 1, 0 | 1)] => {
            let ((Instr::Acc, Instr::Load(i)) | (Instr::Load(i), Instr::Acc)) = (a, b) else { return None };
            let bias = op.inputs.get(*i)?;
            let (last, rows) = bias.view.strides.split_last()?;
            let flat = bias.view.offset == 0 && *last == 1 && rows.iter().all(|s| *s == 0);
            let whole = program.constant(bias.value)?.elements() == columns;
            if !(flat && whole && own(bias.value)) {
                return None;
            }
            Some(bias.value)
        }
        _ => return None,
    };
    plain.then_some(Part { op: index, value: op.output.value, columns, weight: weight.value, bias })
}

/// The product at `first` and the later ones of the same input and form.
fn group(program: &Program, first: usize) -> Vec<Part> {
    let readers = program.readers();
    let Some(head) = part(program, first, &readers) else { return Vec::new() };
    let (input, core) = match program.ops.get(first) {
        Some(op) => (op.inputs.first().cloned(), op.core.clone()),
        None => return Vec::new(),
    };
    let biased = head.bias.is_some();
    let mut parts = vec![head];
    for index in first + 1..program.ops.len() {
        let same =
            program.ops.get(index).is_some_and(|op| op.inputs.first().cloned() == input && op.core == core);
        if same && let Some(part) = part(program, index, &readers).filter(|p| p.bias.is_some() == biased) {
            parts.push(part);
        }
    }
    let values: Vec<(usize, usize)> = parts.iter().map(|p| (p.value, p.columns)).collect();
    // All readers must look at columns within rows.
    let readable = program.ops.iter().flat_map(|op| &op.inputs).all(|operand| {
        let columns = values.iter().find(|(value, _)| *value == operand.value).map(|(_, columns)| *columns);
        columns.is_none_or(|columns| widen(&operand.view, columns, columns, 0).is_some())
    });
    if readable { parts } else { Vec::new() }
}

/// `view` of a matrix of `columns`, as a view of one of `total` columns in which it starts at `first`.
fn widen(view: &View, columns: usize, total: usize, first: usize) -> Option<View> {
    let (columns, total) = (columns as i64, total as i64);
    let (row, column) = (view.offset.div_euclid(columns), view.offset.rem_euclid(columns));
    let mut reach = column;
    let mut strides = Vec::with_capacity(view.rank());
    for (extent, stride) in view.shape.iter().zip(&view.strides) {
        if stride % columns == 0 {
            strides.push(stride / columns * total);
        } else if *stride > 0 {
            reach += stride * (*extent as i64 - 1);
            strides.push(*stride);
        } else {
            return None;
        }
    }
    let offset = row * total + column + first as i64;
    (reach < columns).then(|| View { offset, shape: view.shape.clone(), strides })
}

/// Columns of several matrices of equal height side by side.
fn beside(program: &Program, values: &[usize], rows: usize) -> Option<Vec<f32>> {
    let parts: Option<Vec<&[f32]>> = values.iter().map(|v| program.constant(*v)?.as_f32()).collect();
    let parts = parts?;
    let mut all = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    for row in 0..rows {
        for part in &parts {
            let columns = part.len() / rows;
            all.extend_from_slice(part.get(row * columns..(row + 1) * columns)?);
        }
    }
    Some(all)
}

fn join(program: &mut Program, parts: &[Part]) -> Option<()> {
    let head = program.ops.get(parts.first()?.op)?.clone();
    let total: usize = parts.iter().map(|p| p.columns).sum();
    let depth = *head.inputs.get(1)?.view.shape.first()?;
    let weights: Vec<usize> = parts.iter().map(|p| p.weight).collect();
    let biases: Option<Vec<usize>> = parts.iter().map(|p| p.bias).collect();
    let mut shape = head.output.view.shape.clone();
    *shape.last_mut()? = total;
    let view = View::contiguous(&shape);
    let weight = Tensor::f32([depth, total], beside(program, &weights, depth)?).ok()?;
    let bias = match &biases {
        Some(biases) => Some(Tensor::f32([total], beside(program, biases, 1)?).ok()?),
        None => None,
    };
    let name = |suffix: &str| head.nodes.first().map_or(String::new(), |n| format!("{n}.joint{suffix}"));
    let mut inputs = vec![head.inputs.first()?.clone(), program.add_constant(&name(".weight"), weight)];
    let mut expr = Expr::acc();
    if let Some(bias) = bias {
        let bias = program.add_constant(&name(".bias"), bias);
        inputs.push(Operand { view: bias.view.broadcast(&shape)?, ..bias });
        let load = expr.push(Instr::Load(2));
        expr.push(Instr::Binary(Binary::Add, 0, load));
    }
    let value = program.add(Value::new(&name(""), Dtype::F32, &shape, Role::Scratch));
    let mut nodes = Vec::new();
    for part in parts {
        nodes.extend(program.ops.get(part.op).map(|op| op.nodes.clone()).unwrap_or_default());
    }
    let joint = Op {
        nodes,
        core: head.core.clone(),
        inputs,
        expr,
        output: Operand { value, dtype: Dtype::F32, view },
    };
    let mut first = 0;
    for part in parts {
        for operand in program.ops.iter_mut().flat_map(|op| &mut op.inputs).filter(|o| o.value == part.value)
        {
            operand.view = widen(&operand.view, part.columns, total, first)?;
            operand.value = value;
        }
        first += part.columns;
    }
    for part in parts.iter().skip(1).rev() {
        program.ops.remove(part.op);
    }
    *program.ops.get_mut(parts.first()?.op)? = joint;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_in_the_joint_matrix() {
        // [65, 192] as [65, 3, 64] permuted to heads first, at columns 192.. of 576.
        let heads = View::contiguous(&[65, 192]).reshape(&[65, 3, 64]).unwrap().permute(&[1, 0, 2]).unwrap();
        let wide = widen(&heads, 192, 576, 192).unwrap();
        assert_eq!((wide.offset, wide.strides), (192, vec![64, 576, 1]));
        // A view that runs over the end of a row has no place in a wider matrix.
        assert!(widen(&View::contiguous(&[4]), 2, 6, 0).is_none());
    }
}
