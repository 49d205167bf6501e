//! The planner's own form of a model: kernels over numbered values.

use crate::kernels::{Instr, Op, Operand, View};
use crate::tensor::{Dtype, Tensor};

/// What a value is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Given by the caller.
    Input,
    /// Given to the caller.
    Output,
    /// Fixed in the model.
    Constant,
    /// Neither.
    Scratch,
}

/// One value: a buffer of elements, row-major where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub role: Role,
    /// The elements of a constant.
    pub constant: Option<Tensor>,
}

impl Value {
    /// A value that is not a constant.
    pub fn new(name: &str, dtype: Dtype, shape: &[usize], role: Role) -> Value {
        Value { name: name.to_owned(), dtype, shape: shape.to_vec(), role, constant: None }
    }

    /// Product of the extents; inference has checked that it does not overflow.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Kernels in the order they run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub values: Vec<Value>,
    pub ops: Vec<Op>,
}

impl Program {
    /// Adds a value and gives its number.
    pub fn add(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    /// Adds a constant and gives it as an operand.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> Operand {
        let (dtype, view) = (tensor.dtype(), View::contiguous(tensor.shape()));
        let value = Value::new(name, dtype, tensor.shape(), Role::Constant);
        let value = self.add(Value { constant: Some(tensor), ..value });
        Operand { value, dtype, view }
    }

    /// The elements of a constant.
    pub fn constant(&self, value: usize) -> Option<&Tensor> {
        self.values.get(value)?.constant.as_ref()
    }

    /// Whether the value is given by or to the caller.
    pub fn is_port(&self, value: usize) -> bool {
        self.values.get(value).is_some_and(|v| matches!(v.role, Role::Input | Role::Output))
    }

    /// For every value, how many operands read it (an operand read by several instructions counts once).
    pub fn readers(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for operand in self.ops.iter().flat_map(|op| &op.inputs) {
            if let Some(count) = counts.get_mut(operand.value) {
                *count += 1;
            }
        }
        counts
    }

    /// For every value, how many kernels write to it.
    pub fn writers(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for op in &self.ops {
            if let Some(count) = counts.get_mut(op.output.value) {
                *count += 1;
            }
        }
        counts
    }
}

/// Drops operands that neither the core nor the expression reads, and renumbers loads.
pub(crate) fn tidy(op: &mut Op) {
    let keep = op.core.operands();
    let mut loads = op.expr.loads();
    if let crate::kernels::Core::Attention { score, .. } = &op.core {
        loads.extend(score.loads());
    }
    let mut inputs: Vec<Operand> = Vec::new();
    let mut renamed = vec![0; op.inputs.len()];
    for (index, operand) in op.inputs.iter().enumerate() {
        if index < keep {
            inputs.push(operand.clone());
        } else if loads.contains(&index) {
            // Equal operands become one.
            let same = inputs.iter().skip(keep).position(|o| o == operand).map(|i| i + keep);
            let place = same.unwrap_or_else(|| {
                inputs.push(operand.clone());
                inputs.len() - 1
            });
            if let Some(to) = renamed.get_mut(index) {
                *to = place;
            }
            continue;
        }
        if let Some(to) = renamed.get_mut(index) {
            *to = inputs.len().saturating_sub(1);
        }
    }
    let rename = |instr: &Instr| match instr {
        Instr::Load(i) => Instr::Load(renamed.get(*i).copied().unwrap_or(*i)),
        other => other.clone(),
    };
    op.expr.0 = op.expr.0.iter().map(rename).collect();
    if let crate::kernels::Core::Attention { score, .. } = &mut op.core {
        score.0 = score.0.iter().map(rename).collect();
    }
    op.inputs = inputs;
}
