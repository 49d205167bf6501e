//! Direct convolution over one, two or three axes, one thread a result.
//!
//! Convolutions whose windows do not overlap, such as a patch embedding, never come here: the
//! planner makes them matrix products. Of integers the sum is one, too.

use std::fmt::Write as _;

use crate::kernels::expr::Kind;
use crate::kernels::op::{Core, Op};
use crate::kernels::wgsl::{Axis, Writer, count, kind_of, unflatten};
use crate::kernels::window::{self, Window};
use crate::kernels::{Kernel, Threads};

/// One thread a result, over its whole window.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let Core::Conv { strides, pads, dilations, groups } = &op.core else { return None };
    let (x_view, w_view) = (&op.inputs.first()?.view, &op.inputs.get(1)?.view);
    let (space, kernel) = (x_view.shape.get(2..)?, w_view.shape.get(2..)?);
    let channels = *w_view.shape.get(1)?;
    let out = &op.output.view.shape;
    let (axes, walks) = window::axes(op);
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let (x, w) = (writer.read(0, false), writer.read(1, false));
    let places = |first: &str, second: &str, prefix: &str| {
        let space = (0..space.len()).map(|i| format!("{prefix}{i}"));
        [first.to_owned(), second.to_owned()].into_iter().chain(space).collect::<Vec<_>>()
    };
    let window = Window { space, kernel, strides, pads, dilations };
    let total = count(&axes);
    let size = threads.plain;
    let per_group = (out.get(1)? / groups).max(1);
    let zero = if kind_of(op.inputs.first()?.dtype) == Kind::Float { "0.0" } else { "0i" };
    let mut text = format!("    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n");
    text += &unflatten("t", &axes, "");
    let _ = write!(
        text,
        "    let first = (o0 / {per_group}u) * {channels}u;\n    var sum = {zero};\n    \
         for (var c = 0u; c < {channels}u; c++) {{\n    let channel = first + c;\n{}    \
         sum += {x}[{}] * {w}[{}];\n{}    }}\n    y[{}] = finish(sum{});\n",
        window.open(),
        window::index(x_view, &places("b0", "channel", "p")),
        window::index(w_view, &places("o0", "c", "i")),
        window.close(),
        walks.output().plain(),
        arguments(&axes),
    );
    writer.body = text;
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}

fn arguments(axes: &[Axis]) -> String {
    axes.iter().map(|a| format!(", {}", a.name)).collect()
}
