//! Elements replaced, or joined with others, along one axis where an index tensor says so.
//!
//! One thread a result looks through all updates that could be meant for it, so that two of the same place neither race nor
//! depend on the order of threads: of several the last one counts. An index outside the axis changes nothing.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Fold, Op};
use crate::kernels::wgsl::{Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// One thread a result, over all updates along the axis.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let Core::Scatter { axis, fold } = op.core else { return None };
    let data = &op.inputs.first()?.view;
    let (extent, after) = (*data.shape.get(axis)?, data.rank().checked_sub(axis + 1)?);
    let updates = *op.inputs.get(1)?.view.shape.get(axis)?;
    let mut walks = Walks::of(op);
    let all = |first: usize, axes: usize| [(0, first, axes), (1, first, axes), (2, first, axes)];
    let before_axes = walks.join_output(op, "p", (0, axis), &all(0, axis));
    let own = walks.join_output(op, "a", (axis, 1), &[(0, axis, 1)]);
    walks.join(op, "j", &[(1, axis, 1), (2, axis, 1)]);
    let after_axes = walks.join_output(op, "q", (axis + 1, after), &all(axis + 1, after));
    let here = own.first().map_or("0u".to_owned(), |axis| axis.name.clone());
    let axes = [before_axes, own, after_axes].concat();
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let (x, indices, u) = (writer.read(0, false), writer.read(1, false), writer.read(2, false));
    let (total, size) = (count(&axes), threads.plain);
    let arguments: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
    let joined = match fold {
        None => "update",
        Some(Fold::Sum | Fold::Mean) => "value + update",
        Some(Fold::Product) => "value * update",
        Some(Fold::Max) => "max(value, update)",
        Some(Fold::Min) => "min(value, update)",
    };
    let _ = write!(
        writer.body,
        "    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n{}    \
         var value = {x}[{}];\n    for (var j0 = 0u; j0 < {updates}u; j0++) {{\n    \
         let wanted = {indices}[{}];\n    let at = select(wanted, wanted + {extent}i, wanted < 0i);\n    \
         if (at == i32({here})) {{\n    let update = {u}[{}];\n    value = {joined};\n    }}\n    }}\n    \
         y[{}] = finish(value{arguments});\n",
        unflatten("t", &axes, ""),
        walks.get(0).plain(),
        walks.get(1).plain(),
        walks.get(2).plain(),
        walks.output().plain(),
    );
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}
