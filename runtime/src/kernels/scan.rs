//! Kernels that walk along a row in order, one thread a row: running sums, the place of the greatest, the greatest few,
//! and reductions of integers and by products.

use std::fmt::Write as _;

use crate::kernels::expr::Kind;
use crate::kernels::op::{Core, Fold, Op};
use crate::kernels::wgsl::{Walks, Writer, count, kind_of, unflatten};
use crate::kernels::{Kernel, Threads};

/// One thread a row.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let columns = match op.core {
        Core::Reduce { axes, .. } => axes,
        Core::Arg { .. } | Core::Top { .. } | Core::Scan { .. } => 1,
        _ => return None,
    };
    let input = &op.inputs.first()?.view;
    let row_axes = input.rank().checked_sub(columns)?;
    let extent: usize = input.shape.get(row_axes..)?.iter().product();
    let mut walks = Walks::of(op);
    let rows = walks.join_output(op, "r", (0, row_axes), &[(0, 0, row_axes)]);
    let read = walks.join(op, "c", &[(0, row_axes, columns)]);
    let keeps = matches!(op.core, Core::Top { .. } | Core::Scan { .. });
    let written = if keeps { walks.join_output(op, "k", (row_axes, 1), &[]) } else { Vec::new() };
    let mut writer = Writer::default();
    let parameters: &[&[_]] = if keeps { &[&rows, &written] } else { &[&rows] };
    writer.write_finish(op, &walks, parameters, None);
    let x = writer.read(0, false);
    let float = kind_of(op.inputs.first()?.dtype) == Kind::Float;
    let (zero, one, kind) = if float { ("0.0", "1.0", "f32") } else { ("0i", "1i", "i32") };
    let arguments: String =
        parameters.iter().flat_map(|a| a.iter()).map(|a| format!(", {}", a.name)).collect();
    let (total, size) = (count(&rows), threads.row);
    let load = format!("{}    let x = {x}[{}];\n", unflatten("e", &read, ""), walks.get(0).plain());
    let each = format!("    for (var e = 0u; e < {extent}u; e++) {{\n{load}");
    let store = |value: &str| format!("    y[{}] = finish({value}{arguments});\n", walks.output().plain());
    // The column written, where there is an axis of more than one.
    let column = |value: &str| {
        written.first().map_or(String::new(), |axis| format!("    let {} = {value};\n", axis.name))
    };
    let mut text = format!("    let row = g * {size}u + lane;\n    if (row >= {total}u) {{ return; }}\n");
    text += &unflatten("row", &rows, "");
    let _ = match op.core {
        Core::Reduce { fold, .. } => {
            let (first, step) = match fold {
                Fold::Sum | Fold::Mean => (zero.to_owned(), "all + x"),
                Fold::Product => (one.to_owned(), "all * x"),
                Fold::Max => (zero.to_owned(), "select(max(all, x), x, e == 0u)"),
                Fold::Min => (zero.to_owned(), "select(min(all, x), x, e == 0u)"),
            };
            let result = match fold {
                Fold::Mean => format!("all / {kind}({extent})"),
                _ => "all".to_owned(),
            };
            write!(
                text,
                "    var all: {kind} = {first};\n{each}    all = {step};\n    }}\n{}",
                store(&result)
            )
        }
        Core::Arg { largest, last } => {
            let better = match (largest, last) {
                (true, false) => "x > best",
                (true, true) => "x >= best",
                (false, false) => "x < best",
                (false, true) => "x <= best",
            };
            write!(
                text,
                "    var best: {kind} = {zero};\n    var place = 0i;\n{each}    \
                 if (e == 0u || {better}) {{ best = x; place = i32(e); }}\n    }}\n{}",
                store("place")
            )
        }
        Core::Scan { exclusive, reverse } => {
            let place = if reverse { format!("{extent}u - 1u - s") } else { "s".to_owned() };
            let (before, after) =
                if exclusive { (store("all"), String::new()) } else { (String::new(), store("all")) };
            write!(
                text,
                "    var all: {kind} = {zero};\n    for (var s = 0u; s < {extent}u; s++) {{\n    \
                 let e = {place};\n{load}{}{before}    all += x;\n{after}    }}\n",
                column("e")
            )
        }
        Core::Top { largest, place } => {
            let better = if largest { ">" } else { "<" };
            let wanted = op.output.view.shape.get(row_axes).copied()?;
            let result = if place { "found" } else { "best" };
            // Each round finds the best of what comes after the last one, equals in the order of their places.
            write!(
                text,
                "    var last: {kind} = {zero};\n    var last_at = -1i;\n    for (var s = 0u; s < {wanted}u; s++) {{\n    \
                 var best: {kind} = {zero};\n    var found = -1i;\n{each}    let at = i32(e);\n    \
                 let later = last_at < 0i || last {better} x || (x == last && at > last_at);\n    \
                 if (later && (found < 0i || x {better} best)) {{ best = x; found = at; }}\n    }}\n{}    \
                 last = best;\n    last_at = found;\n{}    }}\n",
                column("s"),
                store(result)
            )
        }
        _ => return None,
    };
    writer.body = text;
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}
