//! Weights of matrix products as 16-bit floats: half the bytes to keep and to read. Sums stay in 32 bits.
//!
//! The last of the rewrites, because the others compute with weights in 32 bits. A weight that 16 bits round to infinity keeps
//! its whole matrix in 32; so does a matrix whose largest weight has fewer than 11 bits there, unless none loses any.

use crate::kernels::{Core, Op};
use crate::plan::passes::normalise::column_sums;
use crate::plan::program::{Program, Role};
use crate::tensor::{Data, Dtype, Tensor, f32_to_half, half_to_f64};

/// The least float of 16 bits that has all 11 bits: 2^-14.
const WHOLE_MIN: f32 = 6.103_515_6e-5;

/// Whether `rounded` is near enough to `values`: finite, and no further off than 11 bits of the largest are.
fn near(values: &[f32], rounded: &[f32]) -> bool {
    let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    rounded.iter().all(|value| value.is_finite()) && (largest >= WHOLE_MIN || values == rounded)
}

pub(super) fn run(program: &mut Program) {
    for value in 0..program.values.len() {
        // One that other kernels read as well is left as it is.
        let _ = narrow(program, value);
    }
}

/// Whether the kernel reads `value` as the weights of a product and as nothing else.
fn weighs(op: &Op, value: usize) -> bool {
    matches!(op.core, Core::Matmul { .. } | Core::NormMatmul { .. })
        && op.inputs.iter().enumerate().all(|(at, operand)| (operand.value == value) == (at == 1))
}

/// Makes the constant `value` one of 16-bit floats where products alone read it, as their weights.
fn narrow(program: &mut Program, value: usize) -> Option<()> {
    let constant = program.values.get(value).filter(|value| value.role == Role::Constant)?;
    let reads = |op: &&Op| op.inputs.iter().any(|operand| operand.value == value);
    let mut readers = program.ops.iter().filter(reads).peekable();
    if readers.peek().is_none() || !readers.all(|op| weighs(op, value)) {
        return None;
    }
    let tensor = constant.constant.as_ref()?;
    let values = tensor.as_f32()?;
    let halves: Vec<u16> = values.iter().map(|value| f32_to_half(*value)).collect();
    let rounded: Vec<f32> = halves.iter().map(|half| half_to_f64(*half) as f32).collect();
    if !near(values, &rounded) {
        return None;
    }
    let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let halved = Tensor::new(tensor.shape().to_vec(), Data::Other(Dtype::F16, bytes.into())).ok()?;
    let mut sums = Vec::new();
    for op in program.ops.iter_mut().filter(|op| weighs(op, value)) {
        let [_, weight, behind @ ..] = op.inputs.as_mut_slice() else { continue };
        weight.dtype = Dtype::F16;
        if let (Core::NormMatmul { .. }, [depth, ..], [sum, ..]) =
            (&op.core, weight.view.shape.as_slice(), behind)
        {
            sums.push((sum.value, *depth));
        }
    }
    // The sums of columns are those of the weights as they are now: the mean must fall out of a row exactly.
    for (sum, depth) in sums {
        let made = column_sums(&rounded, depth);
        program.values.get_mut(sum)?.constant = Some(Tensor::f32([made.len()], made).ok()?);
    }
    let slot = program.values.get_mut(value)?;
    (slot.dtype, slot.constant) = (Dtype::F16, Some(halved));
    Some(())
}
