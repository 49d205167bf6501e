//! Kernels that look at a whole row before they write: normalisation, softmax, reductions.
//!
//! A row belongs to one thread on drivers that run shaders on the CPU, and to one workgroup, which
//! joins its lanes' parts through workgroup memory, on graphics processors. A reduction to a single number is a workgroup's
//! work on both: one thread would use one lane of the processor's vectors.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Fold, Op};
use crate::kernels::target::AdapterClass;
use crate::kernels::wgsl::{Axis, Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// Lanes that share a row on a graphics processor.
const LANES: u32 = 64;

/// Elements from which one row is shared on drivers that run shaders on the CPU; below, the barriers cost what lanes save.
const SHARED_FROM: usize = 4096;

/// The text of one loop over a row and what surrounds it.
struct Row {
    columns: usize,
    axes: Vec<Axis>,
    unit: usize,
    lanes: u32,
    load: String,
}

impl Row {
    /// A loop over the row, four elements at a time where `unit` is four; `x` is what was loaded.
    fn each(&self, statement: &str) -> String {
        let step = self.unit * self.lanes as usize;
        let start = if self.lanes == 1 { "0u".to_owned() } else { format!("lane * {}u", self.unit) };
        format!(
            "    for (var e = {start}; e < {}u; e += {step}u) {{\n{}    let x = {};\n    {statement}\n    }}\n",
            self.columns,
            unflatten("e", &self.axes, ""),
            self.load
        )
    }

    /// The lanes' scalars `value` joined by `how`.
    fn join(&self, how: &str, value: &str) -> String {
        if self.lanes == 1 { value.to_owned() } else { format!("join_{how}(lane, {value})") }
    }

    fn add(&self, value: &str) -> String {
        let value = if self.unit == 4 { format!("dot({value}, vec4<f32>(1.0))") } else { value.to_owned() };
        self.join("add", &value)
    }

    fn peak(&self, f: &str, value: &str) -> String {
        let value = if self.unit == 4 {
            format!("{f}({f}({value}.x, {value}.y), {f}({value}.z, {value}.w))")
        } else {
            value.to_owned()
        };
        self.join(f, &value)
    }
}

/// Norm, softmax or reduction.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let reduces = matches!(op.core, Core::Reduce { .. });
    let column_axes = match op.core {
        Core::Norm { axes, .. } | Core::Reduce { axes, .. } => axes,
        _ => 1,
    };
    let rank = op.inputs.first()?.view.rank();
    let row_axes = rank.checked_sub(column_axes)?;
    let mut walks = Walks::of(op);
    let rows = walks.join_output(op, "r", (0, row_axes), &[(0, 0, row_axes)]);
    let columns = if reduces {
        walks.join(op, "c", &[(0, row_axes, column_axes)])
    } else {
        walks.join_output(op, "c", (row_axes, column_axes), &[(0, row_axes, column_axes)])
    };
    let input = walks.get(0);
    let last = columns.last().map(|a| a.name.clone()).unwrap_or_default();
    let fours = input.fours(&last) && (reduces || Writer::can_finish_fours(op, &walks, &last));
    let finish_fours = fours && !reduces;
    let (row_count, column_count) = (count(&rows), count(&columns));
    let shared = reduces && row_count == 1 && column_count >= SHARED_FROM && threads.most >= LANES;
    let lanes = if threads.class == AdapterClass::Software && !shared { 1 } else { LANES };

    let mut writer = Writer::default();
    let parameters: &[&[Axis]] = if reduces { &[&rows] } else { &[&rows, &columns] };
    writer.write_finish(op, &walks, parameters, finish_fours.then_some(last.as_str()));
    let unit = if fours { 4 } else { 1 };
    let array = writer.read(0, fours);
    let row = Row {
        columns: column_count,
        axes: columns.clone(),
        unit,
        lanes,
        load: format!("{array}[{}]", input.index(unit as i64, |n| Some(n.to_owned()))),
    };
    let (size, groups) = if lanes == 1 {
        (threads.row, (row_count as u64).div_ceil(u64::from(threads.row)))
    } else {
        (lanes, row_count as u64)
    };
    let mut text = String::new();
    let _ = if lanes == 1 {
        write!(text, "    let row = g * {size}u + lane;\n    if (row >= {row_count}u) {{ return; }}\n")
    } else {
        write!(text, "    let row = g;\n    if (row >= {row_count}u) {{ return; }}\n")
    };
    text += &unflatten("row", &rows, "");
    let arguments: String =
        parameters.iter().flat_map(|a| a.iter()).map(|a| format!(", {}", a.name)).collect();
    let zero = if fours { "vec4<f32>()" } else { "0.0" };
    let out = walks.output().index(if finish_fours { 4 } else { 1 }, |n| Some(n.to_owned()));
    let total = row.columns;
    match op.core {
        Core::Norm { epsilon, centred: false, .. } => {
            let _ = write!(
                text,
                "    var square = {zero};\n{}    let scale = 1.0 / sqrt({} / {total}.0 + {epsilon:?}f);\n{}",
                row.each("square += x * x;"),
                row.add("square"),
                row.each(&format!("y[{out}] = finish(x * scale{arguments});")),
            );
        }
        Core::Norm { epsilon, .. } => {
            let _ = write!(
                text,
                "    var sum = {zero};\n{}    let mean = {} / {total}.0;\n    var square = {zero};\n{}    \
                 let scale = 1.0 / sqrt({} / {total}.0 + {epsilon:?}f);\n{}",
                row.each("sum += x;"),
                row.add("sum"),
                row.each("square += (x - mean) * (x - mean);"),
                row.add("square"),
                row.each(&format!("y[{out}] = finish((x - mean) * scale{arguments});")),
            );
        }
        Core::Softmax { log } => {
            // The logarithm is of the sum alone, so that small shares keep their digits.
            let (shift, result) = if log {
                (format!("log({})", row.add("sum")), "x - peak - shift")
            } else {
                (format!("1.0 / {}", row.add("sum")), "exp(x - peak) * shift")
            };
            let first = if fours { "vec4<f32>(-3.4028234e38)" } else { "-3.4028234e38f" };
            let _ = write!(
                text,
                "    var most = {first};\n{}    let peak = {};\n    var sum = {zero};\n{}    \
                 let shift = {shift};\n{}",
                row.each("most = max(most, x);"),
                row.peak("max", "most"),
                row.each("sum += exp(x - peak);"),
                row.each(&format!("y[{out}] = finish({result}{arguments});")),
            );
        }
        Core::Reduce { fold, .. } => {
            let (first, step, result) = match fold {
                Fold::Sum => (zero.to_owned(), "all += x;", row.add("all")),
                Fold::Mean => (zero.to_owned(), "all += x;", format!("{} / {total}.0", row.add("all"))),
                Fold::Max => (row.load_first(), "all = max(all, x);", row.peak("max", "all")),
                Fold::Min => (row.load_first(), "all = min(all, x);", row.peak("min", "all")),
                Fold::Product => return None,
            };
            let _ = write!(
                text,
                "    var all = {first};\n{}    let result = {result};\n    {}y[{out}] = finish(result{arguments});\n",
                row.each(step),
                if lanes == 1 { "" } else { "if (lane == 0u) " },
            );
            // The statement after an `if` needs braces in WGSL.
            text = text.replace("if (lane == 0u) y[", "if (lane == 0u) { y[");
            if lanes != 1 {
                text += "    }\n";
            }
        }
        _ => return None,
    }
    if lanes != 1 {
        write_joins(&mut writer, &text);
    }
    writer.body = text;
    Kernel::new(op, writer, finish_fours, size, groups, threads)
}

impl Row {
    /// The value a greatest or least element starts from.
    fn load_first(&self) -> String {
        let mut text = self.load.clone();
        for axis in &self.axes {
            text = replace_name(&text, &axis.name, "0u");
        }
        text
    }
}

/// `text` with the whole word `name` replaced.
fn replace_name(text: &str, name: &str, by: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = rest.split_at(at);
        let tail = after.get(name.len()..).unwrap_or_default();
        out += before;
        let inside = before.chars().next_back().is_some_and(word) || tail.chars().next().is_some_and(word);
        out += if inside { name } else { by };
        rest = tail;
    }
    out + rest
}

/// Writes the functions that join the lanes' scalars, those that `body` calls.
fn write_joins(writer: &mut Writer, body: &str) {
    let _ = writeln!(writer.items, "var<workgroup> parts: array<f32, {LANES}>;");
    for (name, joined) in [
        ("add", "parts[lane] + parts[lane + s]"),
        ("max", "max(parts[lane], parts[lane + s])"),
        ("min", "min(parts[lane], parts[lane + s])"),
    ] {
        if body.contains(&format!("join_{name}(")) {
            let _ = write!(
                writer.items,
                "fn join_{name}(lane: u32, value: f32) -> f32 {{\n    parts[lane] = value;\n    workgroupBarrier();\n    \
                 for (var s = {}u; s > 0u; s /= 2u) {{\n    if (lane < s) {{ parts[lane] = {joined}; }}\n    \
                 workgroupBarrier();\n    }}\n    let all = parts[0];\n    workgroupBarrier();\n    return all;\n}}\n",
                LANES / 2
            );
        }
    }
}
