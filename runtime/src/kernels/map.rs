//! Elementwise kernels, and with them every movement of data: broadcasting, permuting, slicing and
//! joining are views, so a copy is an expression that only loads.

use std::fmt::Write as _;

use crate::kernels::op::Op;
use crate::kernels::wgsl::{Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// One thread an element, or four neighbours where every operand allows it.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let mut walks = Walks::of(op);
    let axes = walks.join_output(op, "c", (0, op.output.view.rank()), &[]);
    let last = axes.last().map(|a| a.name.clone());
    let fours = last.as_deref().filter(|axis| Writer::can_finish_fours(op, &walks, axis));
    let total = count(&axes);
    let work = if fours.is_some() { total / 4 } else { total };
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], fours);
    let unit = if fours.is_some() { 4 } else { 1 };
    let arguments: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
    let zero = if unit == 4 { "vec4<f32>()" } else { "0.0" };
    let size = threads.plain;
    let _ = write!(
        writer.body,
        "    let t = g * {size}u + lane;\n    if (t >= {work}u) {{ return; }}\n    let e = t * {unit}u;\n{}    \
         y[{}] = finish({zero}{arguments});\n",
        unflatten("e", &axes, ""),
        walks.output().index(unit, |n| Some(n.to_owned())),
    );
    Kernel::new(op, writer, unit == 4, size, (work as u64).div_ceil(u64::from(size)), threads)
}
