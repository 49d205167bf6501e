//! Elementwise kernels of constants are computed once on the host, and a constant that one kernel
//! reads in another order is stored in that order.

use crate::kernels::View;
use crate::plan::host;
use crate::plan::program::{Program, Role};

pub(super) fn run(program: &mut Program) {
    let writers = program.writers();
    let mut kept = Vec::with_capacity(program.ops.len());
    for op in std::mem::take(&mut program.ops) {
        let alone = writers.get(op.output.value) == Some(&1) && !program.is_port(op.output.value);
        let tensor = if alone { host::evaluate(program, &op) } else { None };
        match (tensor, program.values.get_mut(op.output.value)) {
            (Some(tensor), Some(value)) => {
                value.role = Role::Constant;
                value.constant = Some(tensor);
            }
            _ => kept.push(op),
        }
    }
    program.ops = kept;
    reorder(program);
}

fn reorder(program: &mut Program) {
    let readers = program.readers();
    for index in 0..program.ops.len() {
        let Some(op) = program.ops.get(index) else { continue };
        let mut changed = Vec::new();
        for (place, operand) in op.inputs.iter().enumerate() {
            let Some(constant) = program.constant(operand.value) else { continue };
            let turned = !operand.view.is_contiguous() && operand.view.is_bijection(constant.elements());
            if turned
                && readers.get(operand.value) == Some(&1)
                && let Some(tensor) = host::materialise(constant, &operand.view)
            {
                changed.push((place, operand.value, tensor));
            }
        }
        for (place, value, tensor) in changed {
            let view = View::contiguous(tensor.shape());
            if let Some(operand) = program.ops.get_mut(index).and_then(|op| op.inputs.get_mut(place)) {
                operand.view = view;
            }
            if let Some(value) = program.values.get_mut(value) {
                value.constant = Some(tensor);
            }
        }
    }
}
