//! Product, softmax, product become one kernel that never stores the scores.

use crate::kernels::{Core, Instr, Op, Target, attention_fits};
use crate::plan::program::{Program, tidy};

pub(super) fn run(program: &mut Program, target: &Target) {
    let mut index = 0;
    while index < program.ops.len() {
        if let Some((first, second, op)) = find(program, index, target) {
            if let Some(slot) = program.ops.get_mut(index) {
                *slot = op;
            }
            program.ops.remove(second.max(first));
            program.ops.remove(second.min(first));
        }
        index += 1;
    }
}

/// The scores' product, the softmax and the kernel that replaces both and the product at `last`.
fn find(program: &Program, last: usize, target: &Target) -> Option<(usize, usize, Op)> {
    let product = program.ops.get(last)?;
    let Core::Matmul { batch, m: 1, k: 1 } = product.core else { return None };
    let weights = product.inputs.first()?;
    let softmax_at = writer(program, weights.value)?;
    let softmax = program.ops.get(softmax_at)?;
    let scores = softmax.inputs.first()?;
    let scores_at = writer(program, scores.value)?;
    let score = program.ops.get(scores_at)?;
    let Core::Matmul { batch: score_batch, m: 1, k: 1 } = score.core else { return None };
    let chained = softmax.core == Core::Softmax { log: false }
        && softmax.expr.is_copy()
        && score_batch == batch
        && scores.view == score.output.view
        && weights.view == softmax.output.view
        && scores.view.is_contiguous()
        && weights.view.is_contiguous()
        && scores.view.shape == softmax.output.view.shape
        && product.inputs.get(1)?.value != weights.value;
    if !chained {
        return None;
    }
    let keys = *scores.view.shape.last()?;
    // Operands: q, k, v, then what the score reads, then what the finish reads.
    let mut inputs =
        vec![score.inputs.first()?.clone(), score.inputs.get(1)?.clone(), product.inputs.get(1)?.clone()];
    inputs.extend(score.inputs.iter().skip(2).cloned());
    let first = inputs.len();
    inputs.extend(product.inputs.iter().skip(2).cloned());
    let shift = |by: usize| {
        move |instr: &Instr| match instr {
            Instr::Load(i) => Instr::Load(i - 2 + by),
            other => other.clone(),
        }
    };
    let loads_core = |op: &Op| op.expr.loads().first().is_some_and(|i| *i < 2);
    if loads_core(score) || loads_core(product) {
        return None;
    }
    let mut expr = product.expr.clone();
    expr.0 = expr.0.iter().map(shift(first)).collect();
    let mut scored = score.expr.clone();
    scored.0 = scored.0.iter().map(shift(3)).collect();
    let mut nodes = score.nodes.clone();
    nodes.extend(softmax.nodes.iter().chain(&product.nodes).cloned());
    let core = Core::Attention { batch, keys, score: scored };
    let mut op = Op { nodes, core, inputs, expr, output: product.output.clone() };
    tidy(&mut op);
    let few = op.inputs.len() < target.max_storage_buffers_per_shader_stage as usize;
    (few && attention_fits(&op)).then_some((scores_at, softmax_at, op))
}

/// The only kernel that writes `value`, when only one operand reads it.
fn writer(program: &Program, value: usize) -> Option<usize> {
    if program.is_port(value) {
        return None;
    }
    let mut writers = program.ops.iter().enumerate().filter(|(_, op)| op.output.value == value);
    let (index, _) = writers.next()?;
    let alone = writers.next().is_none() && program.readers().get(value) == Some(&1);
    alone.then_some(index)
}
