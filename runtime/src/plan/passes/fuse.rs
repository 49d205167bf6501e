//! An elementwise kernel, or a copy, joins the kernel that feeds it.
//!
//! Bias, activation and residual thereby become the finish of a matrix product, and a transposed
//! copy becomes the order in which the feeding kernel writes.

use crate::kernels::{Core, Instr, Op, Operand, Target, View};
use crate::plan::program::{Program, tidy};

pub(super) fn run(program: &mut Program, target: &Target) {
    let most = target.max_storage_buffers_per_shader_stage as usize;
    // Joining can make another join possible; every join removes a kernel, so this ends.
    while let Some(found) = find(program, most) {
        apply(program, found);
    }
}

/// A reader with the kernels that feed it, and what becomes of each of them.
struct Found {
    reader: usize,
    feeders: Vec<(usize, Op)>,
}

/// Puts the joined kernels where the reader was.
fn apply(program: &mut Program, found: Found) {
    let mut ops = Vec::with_capacity(program.ops.len());
    let mut joined: Vec<Op> = found.feeders.iter().map(|(_, op)| op.clone()).collect();
    for (index, op) in std::mem::take(&mut program.ops).into_iter().enumerate() {
        if index == found.reader {
            ops.append(&mut joined);
        } else if found.feeders.iter().all(|(feeder, _)| *feeder != index) {
            ops.push(op);
        }
    }
    program.ops = ops;
}

fn find(program: &Program, most: usize) -> Option<Found> {
    let readers = program.readers();
    let mut writers_of: Vec<Vec<usize>> = vec![Vec::new(); program.values.len()];
    for (index, op) in program.ops.iter().enumerate() {
        if let Some(writers) = writers_of.get_mut(op.output.value) {
            writers.push(index);
        }
    }
    for (index, reader) in program.ops.iter().enumerate().filter(|(_, op)| op.core == Core::Map) {
        for operand in &reader.inputs {
            let value = operand.value;
            let here = reader.inputs.iter().filter(|o| o.value == value).count();
            if readers.get(value) != Some(&here) || program.is_port(value) {
                continue;
            }
            let elements = program.values.get(value)?.elements();
            let writers = writers_of.get(value).map(Vec::as_slice).unwrap_or_default();
            let joined = |writer: &usize| {
                let op = program.ops.get(*writer)?;
                let joined = match writers.len() {
                    1 => join(op, reader, value, elements, most),
                    _ => join_part(op, reader, value, elements, most),
                };
                Some((*writer, joined?))
            };
            let feeders: Option<Vec<_>> = writers.iter().map(joined).collect();
            if let Some(feeders) = feeders.filter(|feeders| !feeders.is_empty()) {
                return Some(Found { reader: index, feeders });
            }
        }
    }
    None
}

/// `reader` computed at the end of `feeder`, which alone writes the value `through`.
fn join(feeder: &Op, reader: &Op, through: usize, elements: usize, most: usize) -> Option<Op> {
    let view = &reader.inputs.iter().find(|o| o.value == through)?.view;
    if !view.is_bijection(elements) || !feeder.output.view.is_bijection(elements) {
        return None;
    }
    let map = Axes::of(&feeder.output.view, view)?;
    join_with(feeder, reader, through, most, |view| Some(map.view(view)))
}

/// The same where `feeder` is one of several kernels that each write a part of the value, as a
/// concatenation's are: each computes its part of what `reader` computes.
fn join_part(feeder: &Op, reader: &Op, through: usize, elements: usize, most: usize) -> Option<Op> {
    let view = &reader.inputs.iter().find(|o| o.value == through)?.view;
    if !view.is_contiguous() || view.elements() != elements {
        return None;
    }
    join_with(feeder, reader, through, most, |view| feeder.output.view.after(view))
}

/// The joined kernel; `map` turns a view of the reader's axes into one of the feeder's.
fn join_with(
    feeder: &Op,
    reader: &Op,
    through: usize,
    most: usize,
    map: impl Fn(&View) -> Option<View>,
) -> Option<Op> {
    let mut loads = reader.inputs.iter().filter(|o| o.value == through);
    let view = &loads.next()?.view;
    if !loads.all(|o| o.view == *view) {
        return None;
    }
    let first = feeder.inputs.len();
    let mut inputs = feeder.inputs.clone();
    for operand in &reader.inputs {
        inputs.push(Operand { view: map(&operand.view)?, ..operand.clone() });
    }
    let is_hole = |instr: &Instr| matches!(instr, Instr::Load(i) if reader.inputs.get(*i).is_some_and(|o| o.value == through));
    let rename = |instr: &Instr| match instr {
        Instr::Load(i) => Instr::Load(i + first),
        other => other.clone(),
    };
    let expr = reader.expr.substitute(is_hole, &feeder.expr, rename);
    let mut nodes = feeder.nodes.clone();
    nodes.extend(reader.nodes.iter().filter(|n| !feeder.nodes.contains(n)).cloned());
    let output = Operand { view: map(&reader.output.view)?, ..reader.output.clone() };
    let mut joined = Op { nodes, core: feeder.core.clone(), inputs, expr, output };
    tidy(&mut joined);
    (joined.inputs.len() < most).then_some(joined)
}

/// For every axis of a feeder, the reader's axis that it is part of and the steps it makes there.
struct Axes {
    shape: Vec<usize>,
    parts: Vec<Option<(usize, i64)>>,
}

impl Axes {
    /// `written` and `read` walk the same whole buffer; `None` when an axis written is split over
    /// several axes read.
    fn of(written: &View, read: &View) -> Option<Axes> {
        let mut parts = Vec::with_capacity(written.rank());
        for (extent, stride) in written.shape.iter().zip(&written.strides) {
            if *extent == 1 {
                parts.push(None);
                continue;
            }
            let part = read.shape.iter().zip(&read.strides).enumerate().find_map(|(axis, (wide, step))| {
                let holds =
                    *wide > 1 && stride % step == 0 && (step * *wide as i64) % (stride * *extent as i64) == 0;
                holds.then(|| (axis, stride / step))
            });
            parts.push(Some(part?));
        }
        Some(Axes { shape: written.shape.clone(), parts })
    }

    /// `view`, which has the reader's axes, with the feeder's.
    fn view(&self, view: &View) -> View {
        let stride = |part: &Option<(usize, i64)>| {
            part.and_then(|(axis, steps)| view.strides.get(axis).map(|s| s * steps)).unwrap_or(0)
        };
        View {
            offset: view.offset,
            shape: self.shape.clone(),
            strides: self.parts.iter().map(stride).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_follow_a_transposed_copy() {
        // A feeder writes [2, 3, 4] row-major; the reader walks it as [2, 4, 3] and writes that row-major.
        let written = View::contiguous(&[2, 3, 4]);
        let read = written.permute(&[0, 2, 1]).unwrap();
        let map = Axes::of(&written, &read).unwrap();
        assert_eq!(map.view(&View::contiguous(&[2, 4, 3])).strides, [12, 1, 3]);
        // Heads written apart may be read as one axis, not the other way round.
        let apart = View::contiguous(&[5, 2, 4]);
        let together = View::contiguous(&[5, 8]);
        let strides = Axes::of(&apart, &together)
            .map(|m| m.view(&View { offset: 3, shape: vec![5, 8], strides: vec![16, 2] }));
        assert_eq!(strides.unwrap().strides, [16, 8, 2]);
        assert!(Axes::of(&together, &apart.permute(&[1, 0, 2]).unwrap()).is_none());
    }
}
