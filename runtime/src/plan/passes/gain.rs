//! The gain and shift of a normalisation move into the weights and bias of the products that read it,
//! exactly but for one rounding each.

use crate::kernels::{Binary, Core, Expr, Instr, Op, Operand, View};
use crate::plan::program::{Program, tidy};
use crate::tensor::Tensor;

pub(super) fn run(program: &mut Program) {
    for index in 0..program.ops.len() {
        // One that cannot be folded whole is left as it is.
        let _ = fold(program, index);
    }
}

/// What a normalisation does to its result, one number a column.
#[derive(Default)]
struct Affine {
    gain: Option<Vec<f32>>,
    shift: Option<Vec<f32>>,
}

/// The affine part of a normalisation over its last axis; `None` when its expression is another.
fn affine(program: &Program, op: &Op, columns: usize) -> Option<Affine> {
    let column = |load: usize| -> Option<Vec<f32>> {
        let operand = op.inputs.get(load)?;
        let values = program.constant(operand.value)?.as_f32()?;
        is_row(&operand.view).then(|| values.to_vec()).filter(|values| values.len() == columns)
    };
    let pair = |a: &usize, b: &usize, x: usize, y: usize| (*a, *b) == (x, y) || (*a, *b) == (y, x);
    match op.expr.0.as_slice() {
        [Instr::Acc, Instr::Load(g), Instr::Binary(Binary::Mul, a, b)] if pair(a, b, 0, 1) => {
            Some(Affine { gain: Some(column(*g)?), shift: None })
        }
        [
            Instr::Acc,
            Instr::Load(g),
            Instr::Binary(Binary::Mul, a, b),
            Instr::Load(s),
            Instr::Binary(Binary::Add, c, d),
        ] if pair(a, b, 0, 1) && pair(c, d, 2, 3) => {
            Some(Affine { gain: Some(column(*g)?), shift: Some(column(*s)?) })
        }
        [Instr::Acc, Instr::Load(s), Instr::Binary(Binary::Add, a, b)] if pair(a, b, 0, 1) => {
            Some(Affine { gain: None, shift: Some(column(*s)?) })
        }
        _ => None,
    }
}

/// Whether a view repeats one row, from its first element on.
pub(super) fn is_row(view: &View) -> bool {
    let Some((last, rows)) = view.strides.split_last() else { return false };
    view.offset == 0 && (*last == 1 || view.shape.last() == Some(&1)) && rows.iter().all(|s| *s == 0)
}

/// Whether `op` is a product of whole rows of `value`, each of `columns`, by a constant of its own.
pub(super) fn reads_rows(
    program: &Program,
    readers: &[usize],
    op: &Op,
    value: usize,
    columns: usize,
) -> bool {
    let (Some(rows), Some(weight)) = (op.inputs.first(), op.inputs.get(1)) else { return false };
    let Some((last, outer)) = rows.view.strides.split_last() else { return false };
    let whole = rows.view.offset % columns as i64 == 0 && outer.iter().all(|s| s % columns as i64 == 0);
    matches!(op.core, Core::Matmul { batch: 0, k: 1, .. })
        && rows.value == value
        && op.inputs.iter().skip(1).all(|o| o.value != value)
        && (*last == 1 || columns == 1)
        && rows.view.shape.last() == Some(&columns)
        && whole
        && weight.view.is_contiguous()
        && weight.view.shape.first() == Some(&columns)
        && readers.get(weight.value) == Some(&1)
        && program.constant(weight.value).is_some_and(|t| t.as_f32().is_some())
}

fn fold(program: &mut Program, index: usize) -> Option<()> {
    let op = program.ops.get(index)?;
    let Core::Norm { axes: 1, .. } = op.core else { return None };
    let columns = *op.output.view.shape.last()?;
    let value = op.output.value;
    let whole = op.output.view.is_contiguous() && program.writers().get(value) == Some(&1);
    let affine = affine(program, op, columns)?;
    let readers = program.readers();
    let products: Vec<usize> = program
        .ops
        .iter()
        .enumerate()
        .filter(|(_, op)| op.inputs.iter().any(|o| o.value == value))
        .map(|(at, _)| at)
        .collect();
    let all = products
        .iter()
        .all(|at| program.ops.get(*at).is_some_and(|op| reads_rows(program, &readers, op, value, columns)));
    if !whole || !all || products.is_empty() || program.is_port(value) {
        return None;
    }
    for at in products {
        scale(program, at, &affine, &readers)?;
    }
    let op = program.ops.get_mut(index)?;
    op.expr = Expr::acc();
    tidy(op);
    Some(())
}

/// Moves `affine` into the product at `at`, which [`reads_rows`].
fn scale(program: &mut Program, at: usize, affine: &Affine, readers: &[usize]) -> Option<()> {
    let weight = program.ops.get(at)?.inputs.get(1)?.value;
    let tensor = program.constant(weight)?;
    let (shape, values) = (tensor.shape().to_vec(), tensor.as_f32()?);
    let width = values.len() / affine.gain.as_ref().or(affine.shift.as_ref())?.len();
    if let Some(shift) = &affine.shift {
        let mut sums = vec![0f64; width];
        for (row, shift) in values.chunks_exact(width).zip(shift) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*shift);
            }
        }
        if sums.iter().any(|sum| *sum != 0.0) {
            add(program, at, &sums, readers)?;
        }
    }
    if let Some(gain) = &affine.gain {
        let values = program.constant(weight)?.as_f32()?;
        let scaled: Vec<f32> = values
            .chunks_exact(width)
            .zip(gain)
            .flat_map(|(row, gain)| row.iter().map(move |v| (f64::from(*v) * f64::from(*gain)) as f32))
            .collect();
        program.values.get_mut(weight)?.constant = Some(Tensor::f32(shape, scaled).ok()?);
    }
    Some(())
}

/// Adds one number a column to the product at `at`: to its bias where that is a constant of its own,
/// else as a bias.
fn add(program: &mut Program, at: usize, sums: &[f64], readers: &[usize]) -> Option<()> {
    let op = program.ops.get(at)?;
    let own = |operand: &Operand| {
        let constant = program.constant(operand.value).and_then(Tensor::as_f32);
        readers.get(operand.value) == Some(&1)
            && is_row(&operand.view)
            && constant.is_some_and(|values| values.len() == sums.len())
    };
    let bias = match op.expr.0.as_slice() {
        [Instr::Acc, Instr::Load(i), Instr::Binary(Binary::Add, 0, 1), rest @ ..]
        | [Instr::Acc, Instr::Load(i), Instr::Binary(Binary::Add, 1, 0), rest @ ..]
            if !rest.iter().any(|instr| uses(instr, 0) || uses(instr, 1)) =>
        {
            op.inputs.get(*i).filter(|operand| own(operand)).map(|operand| operand.value)
        }
        _ => None,
    };
    if let Some(bias) = bias {
        let tensor = program.constant(bias)?;
        let joined = tensor.as_f32()?.iter().zip(sums).map(|(b, sum)| (f64::from(*b) + sum) as f32);
        let joined = Tensor::f32(tensor.shape().to_vec(), joined.collect::<Vec<_>>()).ok()?;
        program.values.get_mut(bias)?.constant = Some(joined);
        return Some(());
    }
    let name = format!("{}.shift", op.nodes.first().map_or("", String::as_str));
    let shape = op.output.view.shape.clone();
    let sums: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
    let operand = program.add_constant(&name, Tensor::f32([sums.len()], sums).ok()?);
    let op = program.ops.get_mut(at)?;
    op.inputs.push(Operand { view: operand.view.broadcast(&shape)?, ..operand });
    let load = Instr::Load(op.inputs.len() - 1);
    let shifted = Expr(vec![Instr::Acc, load, Instr::Binary(Binary::Add, 0, 1)]);
    op.expr = op.expr.substitute(|instr| *instr == Instr::Acc, &shifted, Clone::clone);
    Some(())
}

/// Whether an instruction reads the result of the one at `place`.
fn uses(instr: &Instr, place: usize) -> bool {
    match instr {
        Instr::Unary(_, a) | Instr::ToFloat(a) | Instr::ToInt(a) | Instr::ToBool(a) => *a == place,
        Instr::Binary(_, a, b) => *a == place || *b == place,
        Instr::Select(c, a, b) => [c, a, b].contains(&&place),
        _ => false,
    }
}
