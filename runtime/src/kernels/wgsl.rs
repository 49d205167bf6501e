//! Helpers that every kernel family writes WGSL with: bindings, indices, the linear workgroup number.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::kernels::expr::{self, Kind};
use crate::kernels::op::{Core, Expr, Op, Operand, Pool};
use crate::kernels::view::{View, collapse};
use crate::tensor::Dtype;

/// One loop variable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Its name in the text.
    pub name: String,
    /// Its extent.
    pub extent: usize,
}

/// How an operand's index follows from the loop variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    offset: i64,
    steps: Vec<(String, usize, i64)>,
}

impl Walk {
    /// A walk that so far stays at `offset`.
    pub fn at(offset: i64) -> Walk {
        Walk { offset, steps: Vec::new() }
    }

    /// Whether fours along `axis` can be read as aligned vectors; `extent` is the axis's.
    pub fn fours(&self, axis: &str) -> bool {
        self.offset % 4 == 0
            && self.stride(axis) == 1
            && self.steps.iter().all(
                |(name, extent, stride)| {
                    if name == axis { extent % 4 == 0 } else { stride % 4 == 0 }
                },
            )
    }

    /// Elements for one step along `axis`.
    pub fn stride(&self, axis: &str) -> i64 {
        self.steps.iter().find(|(name, ..)| name == axis).map_or(0, |(.., stride)| *stride)
    }

    /// The index as WGSL, divided by `unit` (1 or 4), with each variable written as `name(variable)`;
    /// variables for which that is `None` are left out.
    pub fn index(&self, unit: i64, name: impl Fn(&str) -> Option<String>) -> String {
        self.sum(self.offset, unit, name)
    }

    /// As [`Walk::index`], without the offset: what is added to an index for some of the variables.
    pub fn partial(&self, unit: i64, name: impl Fn(&str) -> Option<String>) -> String {
        self.sum(0, unit, name)
    }

    fn sum(&self, offset: i64, unit: i64, name: impl Fn(&str) -> Option<String>) -> String {
        let negative = offset < 0 || self.steps.iter().any(|(.., stride)| *stride < 0);
        let kind = if negative { "i" } else { "u" };
        let mut terms = Vec::new();
        if offset != 0 {
            terms.push(format!("{}{kind}", offset / unit));
        }
        for (axis, _, stride) in &self.steps {
            let Some(variable) = name(axis) else { continue };
            let variable = if negative { format!("i32({variable})") } else { variable };
            terms.push(match stride {
                1 if unit == 1 => variable,
                1 => format!("{variable} / {unit}{kind}"),
                _ if stride / unit == 1 => variable,
                _ => format!("{variable} * {}{kind}", stride / unit),
            });
        }
        let sum = if terms.is_empty() { format!("0{kind}") } else { terms.join(" + ") };
        if negative { format!("u32({sum})") } else { sum }
    }

    /// The index with every variable under its own name.
    pub fn plain(&self) -> String {
        self.index(1, |name| Some(name.to_owned()))
    }
}

/// The walks of an op's operands: its inputs in order, then its output.
#[derive(Debug)]
pub(crate) struct Walks(Vec<Walk>);

impl Walks {
    /// Walks that stay at each operand's offset.
    pub fn of(op: &Op) -> Walks {
        Walks(op.inputs.iter().chain([&op.output]).map(|o| Walk::at(o.view.offset)).collect())
    }

    /// The walk of operand `index`.
    pub fn get(&self, index: usize) -> Walk {
        self.0.get(index).cloned().unwrap_or_default()
    }

    /// The output's walk.
    pub fn output(&self) -> Walk {
        self.0.last().cloned().unwrap_or_default()
    }

    /// Joins one section of the loop: the same axes as each of `operands` walks them, given as
    /// (operand, first axis, axes). Gives the loop variables `prefix0`, `prefix1`, ….
    pub fn join(&mut self, op: &Op, prefix: &str, operands: &[(usize, usize, usize)]) -> Vec<Axis> {
        let part = |(operand, first, axes): &(usize, usize, usize)| {
            let operand = op.inputs.get(*operand).unwrap_or(&op.output);
            operand.view.part(*first..first + axes)
        };
        let mut views: Vec<View> = operands.iter().map(part).collect();
        collapse(&mut views);
        let shape = views.first().map(|v| v.shape.clone()).unwrap_or_default();
        let name = |(i, extent): (usize, &usize)| Axis { name: format!("{prefix}{i}"), extent: *extent };
        let axes: Vec<Axis> = shape.iter().enumerate().map(name).collect();
        for ((operand, ..), view) in operands.iter().zip(views) {
            let steps = axes.iter().zip(view.strides).filter(|(_, stride)| *stride != 0);
            if let Some(walk) = self.0.get_mut(*operand) {
                walk.steps.extend(steps.map(|(axis, stride)| (axis.name.clone(), axis.extent, stride)));
            }
        }
        axes
    }

    /// As [`Walks::join`] for axes `first..first + axes` of the output and of all operands that only
    /// the expression reads, together with `more`.
    pub fn join_output(
        &mut self,
        op: &Op,
        prefix: &str,
        (first, axes): (usize, usize),
        more: &[(usize, usize, usize)],
    ) -> Vec<Axis> {
        let mut operands: Vec<_> = op.expr.loads().into_iter().map(|i| (i, first, axes)).collect();
        operands.push((op.inputs.len(), first, axes));
        operands.extend_from_slice(more);
        self.join(op, prefix, &operands)
    }
}

/// Product of the extents.
pub(crate) fn count(axes: &[Axis]) -> usize {
    axes.iter().map(|a| a.extent).product()
}

/// Lines that split the linear index `from` into the axes' variables, each with `suffix`.
pub(crate) fn unflatten(from: &str, axes: &[Axis], suffix: &str) -> String {
    let mut text = String::new();
    let mut below = 1usize;
    for (place, axis) in axes.iter().enumerate().rev() {
        let quotient = if below == 1 { from.to_owned() } else { format!("{from} / {below}u") };
        let value = match (place, below) {
            (0, _) => quotient,
            (_, 1) => format!("{quotient} % {}u", axis.extent),
            _ => format!("({quotient}) % {}u", axis.extent),
        };
        let _ = writeln!(text, "    let {}{suffix} = {value};", axis.name);
        below = below.saturating_mul(axis.extent);
    }
    text
}

/// `name: u32` for each axis, as function parameters after another one.
pub(crate) fn parameters(axes: &[&[Axis]]) -> String {
    axes.iter().flat_map(|a| a.iter()).map(|a| format!(", {}: u32", a.name)).collect()
}

/// What stands first in the text of a kernel that reads 16-bit floats.
pub(crate) const ENABLE_F16: &str = "enable f16;";

/// What stands first in the text of a kernel with cooperative matrices: naga's own extension of WGSL.
pub(crate) const ENABLE_COOPERATIVE: &str = "enable wgpu_cooperative_matrix;";

/// Further parameters of an entry point that multiplies cooperative matrices.
const SUBGROUPS: &str = ", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32";

/// WGSL type of one element on the device. Integers and booleans are `i32`.
pub(crate) fn scalar(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        _ => "i32",
    }
}

/// Kind of an element on the device.
pub(crate) fn kind_of(dtype: Dtype) -> Kind {
    if matches!(dtype, Dtype::F32 | Dtype::F16) { Kind::Float } else { Kind::Int }
}

/// `text`, which reads one element of operand `input` or four, as a 32-bit number.
pub(crate) fn widened(op: &Op, input: usize, fours: bool, text: String) -> String {
    match op.inputs.get(input).map(|operand| operand.dtype) {
        Some(Dtype::F16) if fours => format!("vec4<f32>({text})"),
        Some(Dtype::F16) => format!("f32({text})"),
        _ => text,
    }
}

/// WGSL type of four elements.
fn vector(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "vec4<f32>",
        Kind::Int => "vec4<i32>",
    }
}

/// Kind of the core's result.
pub(crate) fn acc_kind(op: &Op) -> Kind {
    match (&op.core, op.inputs.first()) {
        (Core::Arg { .. } | Core::Top { place: true, .. }, _) => Kind::Int,
        (Core::Pool { pool: Pool::Place { .. }, .. }, _) => Kind::Int,
        (Core::Map, _) | (_, None) => Kind::Float,
        (_, Some(operand)) => kind_of(operand.dtype),
    }
}

/// The kernel's text while it is written, with the bindings it needs.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Operands read, in binding order, with whether four elements are read at a time.
    reads: Vec<(usize, bool)>,
    /// Helpers that expressions call.
    functions: BTreeSet<&'static str>,
    /// Functions and workgroup variables before the entry point.
    pub items: String,
    /// The entry point's statements.
    pub body: String,
    /// Whether these multiply cooperative matrices: they know their `subgroup` and how many `subgroups` a workgroup has.
    pub cooperative: bool,
}

impl Writer {
    /// The variable through which operand `input` is read, by fours or one by one.
    pub fn read(&mut self, input: usize, fours: bool) -> String {
        let place = self.reads.iter().position(|r| *r == (input, fours)).unwrap_or_else(|| {
            self.reads.push((input, fours));
            self.reads.len() - 1
        });
        format!("x{place}")
    }

    /// Whether `op`'s results can be finished and stored four at a time along `axis`.
    pub fn can_finish_fours(op: &Op, walks: &Walks, axis: &str) -> bool {
        let operand = |i: usize| walks.get(i).stride(axis) == 0 || walks.get(i).fours(axis);
        expr::goes_by_fours(&op.expr)
            && walks.output().fours(axis)
            && op.expr.loads().into_iter().all(operand)
    }

    /// Writes the function `finish(acc, axes…)`, and gives the name of the stored index: the op's
    /// expression at one place of the loop, or at four places along `fours`.
    pub fn write_finish(&mut self, op: &Op, walks: &Walks, axes: &[&[Axis]], fours: Option<&str>) {
        self.write_function("finish", &op.expr, op, walks, axes, fours);
    }

    /// As [`Writer::write_finish`] for any expression over `op`'s inputs and under any name.
    pub fn write_function(
        &mut self,
        name: &str,
        expr: &Expr,
        op: &Op,
        walks: &Walks,
        axes: &[&[Axis]],
        fours: Option<&str>,
    ) {
        let acc = acc_kind(op);
        let text = expr::write(expr, fours.is_some(), acc, |input| {
            let walk = walks.get(input);
            let kind = op.inputs.get(input).map_or(Kind::Float, |o| kind_of(o.dtype));
            let text = match fours {
                Some(axis) if walk.stride(axis) != 0 => {
                    format!("{}[{}]", self.read(input, true), walk.index(4, |n| Some(n.to_owned())))
                }
                Some(_) => format!("{}({}[{}])", vector(kind), self.read(input, false), walk.plain()),
                None => format!("{}[{}]", self.read(input, false), walk.plain()),
            };
            (text, kind)
        });
        let typed = |kind: Kind| match (kind, fours) {
            (kind, Some(_)) => vector(kind),
            (Kind::Float, None) => "f32",
            (Kind::Int, None) => "i32",
        };
        let core = typed(acc);
        let out = typed(if name == "finish" { kind_of(op.output.dtype) } else { Kind::Float });
        self.functions.extend(text.functions);
        let _ = write!(
            self.items,
            "fn {name}(acc: {core}{}) -> {out} {{\n{}    return {};\n}}\n",
            parameters(axes),
            text.lines,
            text.result
        );
    }

    /// The whole text and the values in binding order; the output is bound last, as `y`.
    pub fn finish(self, op: &Op, out_fours: bool, threads: u32, grid: [u32; 3]) -> (String, Vec<usize>) {
        let array = |operand: &Operand, fours: bool| match fours {
            true => format!("array<vec4<{}>>", scalar(operand.dtype)),
            false => format!("array<{}>", scalar(operand.dtype)),
        };
        let mut text = String::new();
        let is_half =
            |(input, _): &(usize, bool)| op.inputs.get(*input).is_some_and(|o| o.dtype == Dtype::F16);
        if self.reads.iter().any(is_half) {
            let _ = writeln!(text, "{ENABLE_F16}");
        }
        if self.cooperative {
            let _ = writeln!(text, "{ENABLE_COOPERATIVE}");
        }
        let mut values = Vec::new();
        for (binding, (input, fours)) in self.reads.iter().enumerate() {
            if let Some(operand) = op.inputs.get(*input) {
                let kind = array(operand, *fours);
                let _ =
                    writeln!(text, "@group(0) @binding({binding}) var<storage, read> x{binding}: {kind};");
                values.push(operand.value);
            }
        }
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read_write> y: {};",
            values.len(),
            array(&op.output, out_fours)
        );
        text.push_str(&expr::functions(&self.functions, out_fours));
        text.push_str(&self.items);
        let group = match grid {
            [_, 1, 1] => "group.x".to_owned(),
            [x, _, 1] => format!("group.x + group.y * {x}u"),
            [x, y, _] => format!("group.x + (group.y + group.z * {y}u) * {x}u"),
        };
        let more = if self.cooperative { SUBGROUPS } else { "" };
        let _ = write!(
            text,
            "@compute @workgroup_size({threads})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32{more}) {{\n    \
             let g = {group};\n{}}}\n",
            self.body
        );
        (text, values)
    }
}

/// Spreads `groups` workgroups over three dimensions of at most `most` each; the product may be a
/// little more than `groups`. `None` when they do not fit.
pub(crate) fn spread(groups: u64, most: u32) -> Option<[u32; 3]> {
    let most = u64::from(most);
    if groups == 0 || most == 0 {
        return None;
    }
    if groups <= most {
        return Some([u32::try_from(groups).ok()?, 1, 1]);
    }
    let rows = groups.div_ceil(most);
    let (y, z) = if rows <= most { (rows, 1) } else { (most, rows.div_ceil(most)) };
    if z > most {
        return None;
    }
    let x = groups.div_ceil(y * z);
    Some([u32::try_from(x).ok()?, u32::try_from(y).ok()?, u32::try_from(z).ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_spread_over_three_dimensions() {
        assert_eq!(spread(65_535, 65_535), Some([65_535, 1, 1]));
        assert_eq!(spread(65_536, 65_535), Some([32_768, 2, 1]));
        for groups in [1u64, 10, 11, 100, 101, 999, 1000] {
            let [x, y, z] = spread(groups, 10).unwrap();
            assert!(x <= 10 && y <= 10 && z <= 10);
            assert!(u64::from(x) * u64::from(y) * u64::from(z) >= groups);
        }
        assert_eq!(spread(1001, 10), None);
        assert_eq!(spread(0, 10), None);
    }

    #[test]
    fn indices_divide_evenly_and_walk_backwards() {
        let walk = Walk { offset: 8, steps: vec![("n0".into(), 3, 12), ("n1".into(), 4, 1)] };
        assert!(walk.fours("n1"));
        assert_eq!(walk.index(4, |n| Some(n.to_owned())), "2u + n0 * 3u + n1 / 4u");
        let back = Walk { offset: 2, steps: vec![("n0".into(), 3, -1)] };
        assert_eq!(back.plain(), "u32(2i + i32(n0) * -1i)");
    }
}
