//! Pooling over one, two or three axes, one thread a result.

use std::fmt::Write as _;

use crate::kernels::expr::Kind;
use crate::kernels::op::{Core, Op, Pool};
use crate::kernels::wgsl::{Walks, Writer, count, kind_of, unflatten};
use crate::kernels::window::{self, Window};
use crate::kernels::{Kernel, Threads};

/// One thread a result, over its whole window.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let Core::Pool { kernel, strides, pads, dilations, pool } = &op.core else { return None };
    let view = &op.inputs.first()?.view;
    let space = view.shape.get(2..)?;
    let (axes, walks): (_, Walks) = window::axes(op);
    let mut writer = Writer::default();
    writer.write_finish(op, &walks, &[&axes], None);
    let x = writer.read(0, false);
    let names: Vec<String> = ["b0", "o0"]
        .map(str::to_owned)
        .into_iter()
        .chain((0..space.len()).map(|i| format!("p{i}")))
        .collect();
    let window = Window { space, kernel, strides, pads, dilations };
    let load = format!("    let v = {x}[{}];\n", window::index(view, &names));
    let float = kind_of(op.inputs.first()?.dtype) == Kind::Float;
    let (zero, real) = if float { ("0.0", "f32") } else { ("0i", "i32") };
    let (total, size) = (count(&axes), threads.plain);
    let mut text = format!("    let t = g * {size}u + lane;\n    if (t >= {total}u) {{ return; }}\n");
    text += &unflatten("t", &axes, "");
    let (open, close) = (window.open(), window.close());
    let result = match pool {
        Pool::Max | Pool::Place { .. } => {
            let _ = write!(
                text,
                "    var most: {real} = {zero};\n    var place = -1i;\n{open}{load}    let at = {};\n    \
                 if (place < 0i || v > most) {{ most = v; place = at; }}\n{close}",
                place(pool, view.shape.as_slice())
            );
            if *pool == Pool::Max { "most" } else { "place" }
        }
        Pool::Mean { ends: None } => {
            let _ = write!(
                text,
                "    var sum = 0.0;\n    var taps = 0.0;\n{open}{load}    sum += v;\n    taps += 1.0;\n{close}"
            );
            "sum / taps"
        }
        Pool::Mean { ends: Some(ends) } => {
            // Taps in the padding count, those beyond it do not.
            let open = window.loops(|axis, extent| {
                let end = extent + ends.get(axis).copied().unwrap_or(0);
                format!("    if (p{axis} >= {end}i) {{ continue; }}\n")
            });
            let inside: Vec<String> =
                space.iter().enumerate().map(|(i, e)| format!("p{i} >= 0i && p{i} < {e}i")).collect();
            let _ = write!(
                text,
                "    var sum = 0.0;\n    var taps = 0.0;\n{open}    taps += 1.0;\n    \
                 if ({}) {{\n{load}    sum += v;\n    }}\n{close}",
                inside.join(" && ")
            );
            "sum / taps"
        }
        Pool::Power(power) => {
            let (term, result) = match power {
                1 => ("abs(v)".to_owned(), "sum"),
                2 => ("v * v".to_owned(), "sqrt(sum)"),
                _ => (format!("pow(abs(v), {power}.0)"), "root"),
            };
            let _ = write!(text, "    var sum = 0.0;\n{open}{load}    sum += {term};\n{close}");
            if result == "root" {
                let _ = writeln!(text, "    let root = pow(sum, 1.0 / {power}.0);");
            }
            result
        }
    };
    let arguments: String = axes.iter().map(|a| format!(", {}", a.name)).collect();
    let _ = writeln!(text, "    y[{}] = finish({result}{arguments});", walks.output().plain());
    writer.body = text;
    Kernel::new(op, writer, false, size, (total as u64).div_ceil(u64::from(size)), threads)
}

/// The place of pixel `p0`, `p1`, … in the whole image, rows first or columns first.
fn place(pool: &Pool, shape: &[usize]) -> String {
    let space = shape.get(2..).unwrap_or_default();
    let channels = shape.get(1).copied().unwrap_or(1);
    let pixels: usize = space.iter().product();
    let mut text = format!("i32(b0 * {}u + o0 * {pixels}u)", channels * pixels);
    let mut below = 1;
    let columns = matches!(pool, Pool::Place { columns: true });
    let order: Vec<usize> =
        if columns { (0..space.len()).collect() } else { (0..space.len()).rev().collect() };
    for axis in order {
        let _ = write!(text, " + p{axis} * {below}i");
        below *= space.get(axis).copied().unwrap_or(1);
    }
    text
}
