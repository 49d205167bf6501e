//! Attention in one kernel: the score matrix is never stored.
//!
//! Each thread owns one query and walks over the keys with a running maximum and a running sum
//! (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).

use std::fmt::Write as _;

use crate::kernels::op::{Binary, Core, Expr, Instr, Op, Unary};
use crate::kernels::target::AdapterClass;
use crate::kernels::wgsl::{Axis, Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads, shared_attention};

/// Widest head kept in registers.
const WIDEST: usize = 128;

/// The axes of an attention and how its operands walk them.
pub(crate) struct Attention {
    pub walks: Walks,
    pub batch: Vec<Axis>,
    pub queries: Vec<Axis>,
    pub keys: Axis,
    pub depth: Axis,
    pub width: Axis,
    pub score: Expr,
}

impl Attention {
    fn of(op: &Op) -> Option<Attention> {
        let Core::Attention { batch, keys, score } = &op.core else { return None };
        let mut walks = Walks::of(op);
        let loads = score.loads();
        let scored = |first: usize, axes: usize| loads.iter().map(move |i| (*i, first, axes));
        let mut b = vec![(0, 0, *batch), (1, 0, *batch), (2, 0, *batch)];
        b.extend(scored(0, *batch));
        let batch_axes = walks.join_output(op, "b", (0, *batch), &b);
        let mut q = vec![(0, *batch, 1)];
        q.extend(scored(*batch, 1));
        let queries = walks.join_output(op, "m", (*batch, 1), &q);
        let mut j = vec![(1, batch + 1, 1), (2, *batch, 1)];
        j.extend(scored(batch + 1, 1));
        walks.join(op, "j", &j);
        let depth = walks.join(op, "d", &[(0, batch + 1, 1), (1, *batch, 1)]).pop()?;
        let width = walks.join_output(op, "e", (batch + 1, 1), &[(2, batch + 1, 1)]).pop()?;
        let keys = Axis { name: "j0".to_owned(), extent: *keys };
        Some(Attention { walks, batch: batch_axes, queries, keys, depth, width, score: score.clone() })
    }

    /// Whether the register variant can do it.
    fn fits(&self, op: &Op) -> bool {
        let plain = |instr: &Instr| match instr {
            Instr::Unary(f, _) => matches!(f, Unary::Neg | Unary::Exp | Unary::Abs),
            Instr::Binary(f, ..) => *f != Binary::Pow,
            _ => true,
        };
        self.depth.extent <= WIDEST
            && self.width.extent <= WIDEST
            && self.walks.get(0).fours(&self.depth.name)
            && self.walks.get(1).fours(&self.depth.name)
            && self.walks.get(2).fours(&self.width.name)
            && self.score.0.iter().all(plain)
            && Writer::can_finish_fours(op, &self.walks, &self.width.name)
    }
}

/// Whether `op`, an attention, has the layout and the head width that the kernel wants.
pub(crate) fn fits(op: &Op) -> bool {
    Attention::of(op).is_some_and(|attention| attention.fits(op))
}

/// One thread a query, or the variant that shares keys and values through subgroups.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let attention = Attention::of(op).filter(|a| a.fits(op))?;
    if threads.class == AdapterClass::Software
        && let Some(kernel) = shared_attention::generate(op, &attention, threads)
    {
        return Some(kernel);
    }
    let Attention { walks, batch, queries, keys, depth, width, score } = &attention;
    let mut writer = Writer::default();
    let keys_axis = [keys.clone()];
    let width_axis = [width.clone()];
    writer.write_finish(op, walks, &[batch, queries, &width_axis], Some(&width.name));
    writer.write_function("score", score, op, walks, &[batch, queries, &keys_axis], None);
    let (q, k, v) = (writer.read(0, true), writer.read(1, true), writer.read(2, true));
    let work = count(batch).checked_mul(count(queries))?;
    let size = threads.row;
    let name = |out: &'static [u8]| {
        move |n: &str| n.as_bytes().first().is_some_and(|c| out.contains(c)).then(|| n.to_owned())
    };
    let mut text = format!("    let t = g * {size}u + lane;\n    if (t >= {work}u) {{ return; }}\n");
    let mut axes = batch.clone();
    axes.extend(queries.iter().cloned());
    text += &unflatten("t", &axes, "");
    let _ = write!(
        text,
        "    let qa = {};\n    let ka = {};\n    let va = {};\n",
        walks.get(0).index(4, name(b"bm")),
        walks.get(1).index(4, name(b"b")),
        walks.get(2).index(4, name(b"b")),
    );
    let (deep, wide) = (depth.extent / 4, width.extent / 4);
    for i in 0..deep {
        let _ = writeln!(text, "    let q{i} = {q}[qa + {i}u];");
    }
    for i in 0..wide {
        let _ = writeln!(text, "    var o{i} = vec4<f32>();");
    }
    let arguments = |more: &str| -> String {
        let mut text: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
        text += more;
        text
    };
    let _ = write!(
        text,
        "    var most = -3.4028234e38f;\n    var sum = 0.0;\n    for (var j0 = 0u; j0 < {}u; j0++) {{\n    \
         let kb = ka + {};\n    let vb = va + {};\n    var dots = q0 * {k}[kb];\n",
        keys.extent,
        walks.get(1).partial(4, name(b"j")),
        walks.get(2).partial(4, name(b"j")),
    );
    for i in 1..deep {
        let _ = writeln!(text, "    dots += q{i} * {k}[kb + {i}u];");
    }
    let _ = write!(
        text,
        "    let s = score(dot(dots, vec4<f32>(1.0)){});\n    let peak = max(most, s);\n    \
         let old = exp(most - peak);\n    let part = exp(s - peak);\n    sum = sum * old + part;\n    most = peak;\n",
        arguments(", j0")
    );
    for i in 0..wide {
        let _ = writeln!(text, "    o{i} = o{i} * old + {v}[vb + {i}u] * part;");
    }
    text += "    }\n    let scale = 1.0 / sum;\n";
    for i in 0..wide {
        let column = format!("{}u", 4 * i);
        let index =
            walks.output().index(4, |n| Some(if n == width.name { column.clone() } else { n.to_owned() }));
        let _ = writeln!(text, "    y[{index}] = finish(o{i} * scale{});", arguments(&format!(", {column}")));
    }
    writer.body = text;
    Kernel::new(op, writer, true, size, (work as u64).div_ceil(u64::from(size)), threads)
}
