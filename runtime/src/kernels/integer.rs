//! Matrix products of integers, one thread a result; sums are exact up to 32 bits.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::wgsl::{Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// One thread a result.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let Core::Matmul { batch, m, k } = op.core else { return None };
    let (a, b) = (&op.inputs.first()?.view, &op.inputs.get(1)?.view);
    let n = b.rank().checked_sub(batch + k)?;
    let depth: usize = a.shape.get(batch + m..)?.iter().product();
    let mut walks = Walks::of(op);
    let batches = walks.join_output(op, "b", (0, batch), &[(0, 0, batch), (1, 0, batch)]);
    let rows = walks.join_output(op, "m", (batch, m), &[(0, batch, m)]);
    let columns = walks.join_output(op, "n", (batch + m, n), &[(1, batch + k, n)]);
    let summed = walks.join(op, "k", &[(0, batch + m, k), (1, batch, k)]);
    let axes = [batches, rows, columns].concat();
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let (x, w) = (writer.read(0, false), writer.read(1, false));
    let (total, size) = (count(&axes), threads.plain);
    let arguments: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
    let _ = write!(
        writer.body,
        "    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n{}    var sum = 0i;\n    \
         for (var e = 0u; e < {depth}u; e++) {{\n{}    sum += {x}[{}] * {w}[{}];\n    }}\n    \
         y[{}] = finish(sum{arguments});\n",
        unflatten("t", &axes, ""),
        unflatten("e", &summed, ""),
        walks.get(0).plain(),
        walks.get(1).plain(),
        walks.output().plain(),
    );
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}
