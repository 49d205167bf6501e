//! Kernels whose result nobody reads are dropped, last to first.

use crate::plan::program::{Program, Role};

pub(super) fn run(program: &mut Program) {
    let mut read: Vec<bool> = program.values.iter().map(|v| v.role == Role::Output).collect();
    let mut kept = Vec::with_capacity(program.ops.len());
    for op in program.ops.drain(..).rev() {
        if read.get(op.output.value) == Some(&true) {
            for operand in &op.inputs {
                if let Some(flag) = read.get_mut(operand.value) {
                    *flag = true;
                }
            }
            kept.push(op);
        }
    }
    kept.reverse();
    program.ops = kept;
}
