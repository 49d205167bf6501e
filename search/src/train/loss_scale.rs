//! Loss scaling for training in f16: a loss is multiplied before its gradient is taken, so that small gradients are no
//! zeros in a type of 5 bits of exponent (Micikevicius et al., Mixed Precision Training, ICLR 2018).
//!
//! The factor finds itself: it halves after a step whose gradients were no numbers, which is not taken, and doubles
//! after a number of steps that all were. It lives on the device and is changed there, so no step waits for it.

use burn::tensor::{Device, Tensor};

use crate::error::{Error, Result};
use crate::supernet::params::to_host;

/// The first factor, the smallest and the largest.
const FIRST: f32 = 65_536.0;
const SMALLEST: f32 = 1.0;
const LARGEST: f32 = 16_777_216.0;
/// Steps without a failure after which the factor doubles.
const PATIENCE: f32 = 2_000.0;

/// The factor, and the steps since it last changed.
#[derive(Clone, Debug)]
pub struct LossScale {
    factor: Tensor<1>,
    steps: Tensor<1>,
}

impl LossScale {
    /// Before the first step.
    pub(crate) fn new(device: &Device) -> Self {
        Self::of([FIRST, 0.0], device)
    }

    /// As a checkpoint has it.
    pub(crate) fn of([factor, steps]: [f32; 2], device: &Device) -> Self {
        let one = |value: f32| Tensor::full([1], value, device);
        Self { factor: one(factor), steps: one(steps) }
    }

    /// What a loss is multiplied by, `[1]`.
    pub(crate) fn factor(&self) -> Tensor<1> {
        self.factor.clone()
    }

    /// Takes note of a step: `finite` is 1 when all its gradients were numbers, else 0.
    pub(crate) fn note(&mut self, finite: Tensor<1>) {
        let steps = (self.steps.clone() + 1.0) * finite.clone();
        let patient = steps.clone().greater_equal_elem(PATIENCE).float();
        // 1, 2 after patience, 1/2 after a failure.
        let change = (finite + 1.0) * 0.5 + patient.clone();
        self.factor = (self.factor.clone() * change).clamp(SMALLEST, LARGEST);
        self.steps = steps * (patient * -1.0 + 1.0);
    }

    /// For a checkpoint.
    ///
    /// # Errors
    /// When the device lost it.
    pub(crate) fn to_host(&self) -> Result<Vec<f32>> {
        to_host(&Tensor::cat(vec![self.factor.clone(), self.steps.clone()], 0))
    }

    /// # Errors
    /// [`Error::Unusable`] when a step failed with the smallest factor: no smaller one would help.
    pub(crate) fn check(&self) -> Result<()> {
        match self.to_host()?.as_slice() {
            [SMALLEST, 0.0] => Err(Error::Unusable {
                thing: "training in f16".to_owned(),
                problem: format!(
                    "gradients are no numbers even with a loss scale of {SMALLEST}, and steps are passed over"
                ),
                next: "set precision to bf16 or f32, or supernet.learning_rate lower".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_on_failure_and_doubles_after_patience() {
        let device = Device::flex();
        let mut scale = LossScale::of([8.0, PATIENCE - 2.0], &device);
        let mut after = |finite: f32| {
            scale.note(Tensor::full([1], finite, &device));
            scale.to_host().unwrap()
        };
        assert_eq!(after(1.0), [8.0, PATIENCE - 1.0]);
        assert_eq!(after(1.0), [16.0, 0.0]);
        assert_eq!(after(1.0), [16.0, 1.0]);
        assert_eq!(after(0.0), [8.0, 0.0]);
        for _ in 0..5 {
            after(0.0);
        }
        assert_eq!(after(0.0), [1.0, 0.0], "never below 1");
        assert_eq!(after(1.0), [1.0, 1.0]);
        scale.check().unwrap();
        scale.note(Tensor::full([1], 0.0, &device));
        let said = scale.check().unwrap_err().to_string();
        assert!(said.contains("f16"), "{said}");
    }
}
