//! Elements picked along one axis by an index tensor.
//!
//! Negative indices count from the end. An index outside the axis, which can only come from an
//! input of the model, gives NaN (or zero for integers): a kernel cannot raise an error.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::wgsl::{Axis, Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};
use crate::tensor::Dtype;

/// One thread an element.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let data = &op.inputs.first()?.view;
    let mut walks = Walks::of(op);
    let (axis, axes): (usize, Vec<Axis>) = match op.core {
        Core::Gather { axis, rank } => {
            let after = data.rank().checked_sub(axis + 1)?;
            let before_axes = walks.join_output(op, "p", (0, axis), &[(0, 0, axis)]);
            let index_axes = walks.join_output(op, "i", (axis, rank), &[(1, 0, rank)]);
            let after_axes = walks.join_output(op, "q", (axis + rank, after), &[(0, axis + 1, after)]);
            (axis, [before_axes, index_axes, after_axes].concat())
        }
        Core::Pick { axis } => {
            let after = data.rank().checked_sub(axis + 1)?;
            let before_axes = walks.join_output(op, "p", (0, axis), &[(0, 0, axis), (1, 0, axis)]);
            let index_axes = walks.join_output(op, "i", (axis, 1), &[(1, axis, 1)]);
            let both = [(0, axis + 1, after), (1, axis + 1, after)];
            let after_axes = walks.join_output(op, "q", (axis + 1, after), &both);
            (axis, [before_axes, index_axes, after_axes].concat())
        }
        _ => return None,
    };
    let (extent, stride) = (*data.shape.get(axis)?, *data.strides.get(axis)?);
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let (x, indices) = (writer.read(0, false), writer.read(1, false));
    let (total, size) = (count(&axes), threads.plain);
    let arguments: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
    let float = op.inputs.first()?.dtype == Dtype::F32;
    if float {
        writer.items += "fn not_a_number(pattern: u32) -> f32 { return bitcast<f32>(pattern); }\n";
    }
    let (missing, result) = if float { ("not_a_number(0x7fc00000u)", "f32") } else { ("0", "i32") };
    let _ = write!(
        writer.body,
        "    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n{}    \
         let wanted = {indices}[{}];\n    let at = select(wanted, wanted + {extent}i, wanted < 0i);\n    \
         var value: {result} = {missing};\n    \
         if (at >= 0i && at < {extent}i) {{ value = {x}[u32(i32({}) + at * {stride}i)]; }}\n    \
         y[{}] = finish(value{arguments});\n",
        unflatten("t", &axes, ""),
        walks.get(1).plain(),
        walks.get(0).plain(),
        walks.output().plain(),
    );
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}
