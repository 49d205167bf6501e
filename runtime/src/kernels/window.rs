//! What kernels that slide a window over an image share: the loops over its taps and the pixels they fall on.

use std::fmt::Write as _;

use crate::kernels::op::Op;
use crate::kernels::view::View;
use crate::kernels::wgsl::{Axis, Walks};

/// A window, each list by axis of the image, outermost first.
pub(crate) struct Window<'a> {
    pub space: &'a [usize],
    pub kernel: &'a [usize],
    pub strides: &'a [usize],
    /// Padding before the first element.
    pub pads: &'a [usize],
    pub dilations: &'a [usize],
}

impl Window<'_> {
    /// Loops over the taps `i0`, `i1`, …, with the pixel's place `p0`, `p1`, …; taps outside the image are skipped.
    pub fn open(&self) -> String {
        self.loops(|axis, extent| format!("    if (p{axis} < 0i || p{axis} >= {extent}i) {{ continue; }}\n"))
    }

    /// As [`Window::open`], with the text `skip(axis, extent)` for what is left out.
    pub fn loops(&self, skip: impl Fn(usize, usize) -> String) -> String {
        let mut text = String::new();
        let at = |list: &[usize], axis: usize, default: usize| list.get(axis).copied().unwrap_or(default);
        for (axis, extent) in self.space.iter().enumerate() {
            let taps = at(self.kernel, axis, 1);
            let (stride, pad) = (at(self.strides, axis, 1), at(self.pads, axis, 0));
            let dilation = at(self.dilations, axis, 1);
            let _ = write!(
                text,
                "    for (var i{axis} = 0u; i{axis} < {taps}u; i{axis}++) {{\n    \
                 let p{axis} = i32(s{axis}0) * {stride}i + i32(i{axis}) * {dilation}i - {pad}i;\n{}",
                skip(axis, *extent)
            );
        }
        text
    }

    /// The ends of the loops.
    pub fn close(&self) -> String {
        "    }\n".repeat(self.space.len())
    }
}

/// The loop variables of an image written by `op`: `b0`, `o0`, then `s00`, `s10`, …; and the walks along them.
pub(crate) fn axes(op: &Op) -> (Vec<Axis>, Walks) {
    let mut walks = Walks::of(op);
    let mut axes = Vec::new();
    for (axis, extent) in op.output.view.shape.iter().enumerate() {
        // Each axis is a section of its own, because the window needs them apart.
        let prefix = match axis {
            0 => "b".to_owned(),
            1 => "o".to_owned(),
            space => format!("s{}", space - 2),
        };
        walks.join_output(op, &prefix, (axis, 1), &[]);
        axes.push(Axis { name: format!("{prefix}0"), extent: *extent });
    }
    (axes, walks)
}

/// The element of `view` at the places of the given names.
pub(crate) fn index(view: &View, names: &[String]) -> String {
    let terms: String = names.iter().zip(&view.strides).map(|(n, s)| format!(" + i32({n}) * {s}i")).collect();
    format!("u32({}i{terms})", view.offset)
}
