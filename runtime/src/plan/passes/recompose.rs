//! Layer and RMS normalisations that a file spells out, as exporters below operator set 17 do, become the one kernel that a
//! normalisation by its name is lowered to; gain and shift behind them are then fused as theirs.
//!
//! `c = x - mean(x)`, `c / sqrt(mean(c^2) + epsilon)`, over the last axes; without the mean for RMS.

use crate::kernels::{Binary, Core, Expr, Fold, Instr, Op, Operand, Unary, View};
use crate::plan::program::Program;

pub(super) fn run(program: &mut Program) {
    for index in 0..program.ops.len() {
        if let Some(op) = find(program, index)
            && let Some(slot) = program.ops.get_mut(index)
        {
            // What led to it is dead, unless something else reads it.
            *slot = op;
        }
    }
}

/// A number that an instruction loads or holds.
enum Leaf<'a> {
    Load(&'a Operand),
    Float(f32),
}

/// The elementwise kernel of two numbers that computes `f`; an operand read twice is both.
fn binary(op: &Op, f: Binary) -> Option<(Leaf<'_>, Leaf<'_>)> {
    let leaf = |instr: &Instr| match instr {
        Instr::Load(i) => op.inputs.get(*i).map(Leaf::Load),
        Instr::Float(value) => Some(Leaf::Float(*value)),
        _ => None,
    };
    match (&op.core, op.expr.0.as_slice()) {
        // A constant exponent may stand unused among the leaves.
        (Core::Map, [leaves @ .., Instr::Binary(g, a, b)]) if *g == f && leaves.len() <= 2 => {
            Some((leaf(leaves.get(*a)?)?, leaf(leaves.get(*b)?)?))
        }
        _ => None,
    }
}

/// The kernel that alone writes what `operand` reads, whole and in the order it is read.
fn writer<'a>(program: &'a Program, operand: &Operand) -> Option<&'a Op> {
    let mut writers = program.ops.iter().filter(|op| op.output.value == operand.value);
    let op = writers.next()?;
    let elements = program.values.get(operand.value)?.elements();
    let whole = |view: &View| view.is_contiguous() && view.elements() == elements;
    (writers.next().is_none() && whole(&op.output.view)).then_some(op)
}

/// What a mean over the last axes is of, and how many they are, where `operand` gives every element of `shape` its row's.
fn mean<'a>(program: &'a Program, operand: &Operand, shape: &[usize]) -> Option<(&'a Operand, usize)> {
    let op = writer(program, operand)?;
    let Core::Reduce { axes, fold: Fold::Mean } = op.core else { return None };
    let of = op.inputs.first()?;
    let alike = of.view.shape == shape && op.expr.is_copy() && op.inputs.len() == 1;
    (alike && per_row(&operand.view, shape, axes)).then_some((of, axes))
}

/// Whether a view repeats one number for each row of `shape`, which has `axes` axes.
fn per_row(view: &View, shape: &[usize], axes: usize) -> bool {
    let mut kept = shape.to_vec();
    kept.iter_mut().rev().take(axes).for_each(|extent| *extent = 1);
    View::contiguous(&kept).broadcast(shape).as_ref() == Some(view)
}

/// Whether both read the same elements in the same order.
fn same(a: &Operand, b: &Operand) -> bool {
    a.value == b.value && a.view == b.view
}

/// Of `x - mean(x)`: `x`, its mean, and over how many axes that is.
fn centred<'a>(program: &'a Program, operand: &Operand) -> Option<(&'a Operand, &'a Operand, usize)> {
    let shape = operand.view.shape.as_slice();
    let op = writer(program, operand).filter(|_| operand.view.is_contiguous())?;
    let (Leaf::Load(x), Leaf::Load(row)) = binary(op, Binary::Sub)? else { return None };
    let (of, axes) = mean(program, row, shape)?;
    same(x, of).then_some((x, row, axes))
}

/// What a product is the square of; so is a power of two lowered.
fn squared<'a>(program: &'a Program, operand: &Operand) -> Option<&'a Operand> {
    let op = writer(program, operand).filter(|_| operand.view.is_contiguous())?;
    match binary(op, Binary::Mul)? {
        (Leaf::Load(a), Leaf::Load(b)) if same(a, b) => Some(a),
        _ => None,
    }
}

/// The normalisation whose last kernel, a division, is at `index`.
fn find(program: &Program, index: usize) -> Option<Op> {
    let op = program.ops.get(index)?;
    let (Leaf::Load(above), Leaf::Load(below)) = binary(op, Binary::Div)? else { return None };
    let shape = op.output.view.shape.as_slice();
    let root = writer(program, below)?;
    match (&root.core, root.expr.0.as_slice()) {
        // Written as a power, it has its exponent beside.
        (Core::Map, [Instr::Load(0), Instr::Unary(Unary::Sqrt, 0)])
        | (Core::Map, [Instr::Load(0), Instr::Float(_), Instr::Unary(Unary::Sqrt, 0)]) => {}
        _ => return None,
    }
    let stable = root.inputs.first()?;
    let sum = writer(program, stable)?;
    let (variance, epsilon) = match binary(sum, Binary::Add)? {
        (Leaf::Load(variance), Leaf::Float(epsilon)) | (Leaf::Float(epsilon), Leaf::Load(variance)) => {
            (variance, epsilon)
        }
        _ => return None,
    };
    // The root has a number for each row; what it is of must have them in the same order.
    let plain = variance.view.is_contiguous() && stable.view.is_contiguous();
    if !plain || !epsilon.is_finite() || epsilon < 0.0 {
        return None;
    }
    let wide = Operand { view: below.view.clone(), ..variance.clone() };
    let (square, axes) = mean(program, &wide, shape)?;
    let base = squared(program, square)?;
    let mut led = vec![below, stable, variance, square, base, above];
    let (x, centred) = match (centred(program, above), centred(program, base)) {
        (Some((x, row, over)), Some((y, same_row, also))) if same(x, y) && over == axes && also == axes => {
            led.extend([row, same_row]);
            (x, true)
        }
        _ if same(above, base) => {
            led.truncate(4);
            (above, false)
        }
        _ => return None,
    };
    let whole = op.output.view.is_contiguous() && x.view.shape == shape;
    whole.then(|| Op {
        nodes: nodes(program, op, &led),
        core: Core::Norm { axes, epsilon, centred },
        inputs: vec![x.clone()],
        expr: Expr::acc(),
        output: op.output.clone(),
    })
}

/// The nodes of the kernels that write `operands`, and those of `last`, in the program's order.
fn nodes(program: &Program, last: &Op, operands: &[&Operand]) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    let writes = |op: &&Op| operands.iter().any(|operand| operand.value == op.output.value);
    for name in program.ops.iter().filter(writes).chain([last]).flat_map(|op| &op.nodes) {
        if !nodes.contains(name) {
            nodes.push(name.clone());
        }
    }
    nodes
}
