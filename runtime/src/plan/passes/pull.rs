//! An elementwise kernel of which one other reads every element once, in parts, is computed in that one, part by part: so
//! what is quantised is packed into words at once.
//!
//! The join of `fuse` wants one view of the whole and goes the other way, into the kernel that feeds.

use crate::kernels::{Core, Instr, Op, Operand, Target};
use crate::plan::program::{Program, tidy};

pub(super) fn run(program: &mut Program, target: &Target) {
    let most = target.max_storage_buffers_per_shader_stage as usize;
    let mut index = 0;
    while index < program.ops.len() {
        match find(program, index, most) {
            Some((feeder, op)) => {
                if let Some(slot) = program.ops.get_mut(index) {
                    *slot = op;
                }
                // The kernel that is gone stood before: this one may read another in parts.
                program.ops.remove(feeder);
                index -= 1;
            }
            None => index += 1,
        }
    }
}

/// The kernel that feeds the one at `index` alone, and both as one.
fn find(program: &Program, index: usize, most: usize) -> Option<(usize, Op)> {
    let reader = program.ops.get(index).filter(|op| op.core == Core::Map)?;
    let parts = |value: usize| reader.inputs.iter().filter(move |operand| operand.value == value);
    // Few kernels read anything twice; only for those is counted who reads and writes.
    if !reader.inputs.iter().any(|operand| parts(operand.value).nth(1).is_some()) {
        return None;
    }
    let (readers, writers) = (program.readers(), program.writers());
    reader.inputs.iter().find_map(|operand| {
        let value = operand.value;
        let parts: Vec<&Operand> = parts(value).collect();
        let alone = readers.get(value) == Some(&parts.len()) && writers.get(value) == Some(&1);
        let once = parts.iter().map(|part| part.view.elements()).sum::<usize>()
            == program.values.get(value)?.elements();
        if parts.len() < 2 || !alone || !once || program.is_port(value) {
            return None;
        }
        let (at, feeder) = program.ops.iter().enumerate().find(|(_, op)| op.output.value == value)?;
        if feeder.core != Core::Map || at >= index || !feeder.output.view.is_contiguous() {
            return None;
        }
        Some((at, join(feeder, reader, value, most)?))
    })
}

/// `reader` with what it reads of `value` computed as `feeder` does.
fn join(feeder: &Op, reader: &Op, value: usize, most: usize) -> Option<Op> {
    let mut op = reader.clone();
    for (place, part) in reader.inputs.iter().enumerate().filter(|(_, part)| part.value == value) {
        let first = op.inputs.len();
        for operand in &feeder.inputs {
            op.inputs.push(Operand { view: part.view.after(&operand.view)?, ..operand.clone() });
        }
        let mut computed = feeder.expr.clone();
        for instr in &mut computed.0 {
            if let Instr::Load(load) = instr {
                *load += first;
            }
        }
        op.expr = op.expr.substitute(|instr| *instr == Instr::Load(place), &computed, Clone::clone);
    }
    let added = reader.nodes.iter().filter(|name| !feeder.nodes.contains(name)).cloned();
    op.nodes = feeder.nodes.iter().cloned().chain(added).collect();
    tidy(&mut op);
    (op.inputs.len() < most).then_some(op)
}
