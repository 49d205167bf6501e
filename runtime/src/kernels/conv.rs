//! Direct two-dimensional convolution, one thread a result.
//!
//! Convolutions whose windows do not overlap, such as a patch embedding, never come here: the
//! planner makes them matrix products.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::wgsl::{Axis, Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// One thread a result, over its whole window.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let Core::Conv { strides, pads, dilations, groups } = op.core else { return None };
    let ([_, _, height, width], [_, channels, kh, kw]) =
        (four(&op.inputs.first()?.view.shape)?, four(&op.inputs.get(1)?.view.shape)?);
    let out = four(&op.output.view.shape)?;
    let axes: Vec<Axis> = ["b0", "o0", "h0", "w0"]
        .iter()
        .zip(out)
        .map(|(name, extent)| Axis { name: (*name).to_owned(), extent })
        .collect();
    // Each axis is a section of its own, because the window needs them apart.
    let mut walks = Walks::of(op);
    for (axis, prefix) in ["b", "o", "h", "w"].iter().enumerate() {
        walks.join_output(op, prefix, (axis, 1), &[]);
    }
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let (x, w) = (writer.read(0, false), writer.read(1, false));
    let index = |operand: usize, names: [&str; 4]| -> Option<String> {
        let view = &op.inputs.get(operand)?.view;
        let terms: String =
            names.iter().zip(&view.strides).map(|(n, s)| format!(" + i32({n}) * {s}i")).collect();
        Some(format!("u32({}i{terms})", view.offset))
    };
    let total = count(&axes);
    let size = threads.plain;
    let per_group = (out.get(1)? / groups).max(1);
    let mut text = format!("    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n");
    text += &unflatten("t", &axes, "");
    let _ = write!(
        text,
        "    let first = (o0 / {per_group}u) * {channels}u;\n    var sum = 0.0;\n    \
         for (var c = 0u; c < {channels}u; c++) {{\n    for (var i = 0u; i < {kh}u; i++) {{\n    \
         let row = i32(h0) * {}i + i32(i) * {}i - {}i;\n    if (row < 0i || row >= {height}i) {{ continue; }}\n    \
         for (var j = 0u; j < {kw}u; j++) {{\n    let column = i32(w0) * {}i + i32(j) * {}i - {}i;\n    \
         if (column < 0i || column >= {width}i) {{ continue; }}\n    let channel = first + c;\n    \
         sum += {x}[{}] * {w}[{}];\n    }}\n    }}\n    }}\n    y[{}] = finish(sum, b0, o0, h0, w0);\n",
        strides[0],
        dilations[0],
        pads[0],
        strides[1],
        dilations[1],
        pads[1],
        index(0, ["b0", "channel", "row", "column"])?,
        index(1, ["o0", "c", "i", "j"])?,
        walks.output().plain(),
    );
    writer.body = text;
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}

fn four(shape: &[usize]) -> Option<[usize; 4]> {
    shape.try_into().ok()
}
