//! Where a step's gradients add up.

use burn::tensor::Tensor;

use crate::error::{Error, Result};
use crate::ops::{self, Precision, Sums};
use crate::supernet::{Leaves, Params};

/// The gradients of one lane: added up over its images and over the subnets of a step.
///
/// On the CPU operations add to buffers that stay from step to step; elsewhere tensors are added.
#[derive(Debug)]
pub struct Gradients {
    pub(super) sums: Option<Sums>,
    pub(super) tensors: Vec<Option<Tensor<2>>>,
}

impl Gradients {
    /// Nothing yet, for the values of `params`.
    pub fn new(params: &Params) -> Self {
        Self { sums: params.sums(), tensors: params.slots().map(|_| None).collect() }
    }

    /// Leaves whose gradients come here.
    pub(crate) fn leaves(&self, params: &Params, precision: Precision) -> Leaves {
        params.leaves(self.sums.as_ref(), precision)
    }

    /// Adds the gradients of `loss` for every leaf it reaches.
    ///
    /// # Errors
    /// [`Error::Backend`] when a gradient is not where its value is.
    pub(crate) fn add(&mut self, leaves: &Leaves, params: &Params, loss: Tensor<1>) -> Result<()> {
        let mut gradients = loss.backward();
        for slot in params.slots() {
            let Some(gradient) = leaves.get(slot).grad_remove(&mut gradients) else { continue };
            match &self.sums {
                Some(sums) => {
                    let gradient = ops::flex(&gradient);
                    let gradient = gradient.as_ref().and_then(|gradient| gradient.as_slice::<f32>());
                    let gradient = gradient.ok_or_else(|| Error::Backend("a gradient off the CPU".into()))?;
                    let sum = &mut sums.lock()[slot.0];
                    sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
                }
                None => {
                    let sum = &mut self.tensors[slot.0];
                    *sum = Some(match sum.take() {
                        Some(sum) => sum + gradient,
                        None => gradient,
                    });
                }
            }
        }
        Ok(())
    }

    /// Every gradient on the host, by slot; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device lost them.
    #[cfg(test)]
    pub(crate) fn to_host(&self) -> Result<Vec<Option<Vec<f32>>>> {
        match &self.sums {
            Some(sums) => Ok(sums.lock().iter().cloned().map(Some).collect()),
            None => self
                .tensors
                .iter()
                .map(|tensor| tensor.as_ref().map(crate::supernet::params::to_host).transpose())
                .collect(),
        }
    }
}
