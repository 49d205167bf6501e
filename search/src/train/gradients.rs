//! Where a step's gradients add up.

use burn::tensor::{Device, Tensor};

use super::checkpoint::Saved;
use super::loss_scale::LossScale;
use crate::error::{Error, Result};
use crate::ops::{self, Precision, Sums};
use crate::supernet::{Leaves, Params, Region};

/// Name of the loss scale in a checkpoint.
const SCALE: &str = "loss_scale";

/// The gradients of one lane: added up over its images and over the subnets of a step.
///
/// On the CPU operations add to buffers that stay from step to step; elsewhere tensors are added.
#[derive(Debug)]
pub struct Gradients {
    pub(super) sums: Option<Sums>,
    pub(super) tensors: Vec<Option<Tensor<2>>>,
    /// Of training in f16.
    pub(super) scale: Option<LossScale>,
    pub(super) precision: Precision,
}

impl Gradients {
    /// Nothing yet, for the values of `params`, with products in `precision`.
    pub fn new(params: &Params, precision: Precision) -> Self {
        let scale = (precision == Precision::F16).then(|| LossScale::new(params.device()));
        Self { sums: params.sums(), tensors: params.slots().map(|_| None).collect(), scale, precision }
    }

    /// Leaves whose gradients come here.
    pub(crate) fn leaves(&self, params: &Params) -> Leaves {
        params.leaves(self.sums.as_ref(), self.precision)
    }

    /// Adds the gradients of `loss` for every leaf it reaches.
    ///
    /// # Errors
    /// [`Error::Backend`] when a gradient is not where its value is.
    pub(crate) fn add(&mut self, leaves: &Leaves, params: &Params, loss: Tensor<1>) -> Result<()> {
        let loss = match &self.scale {
            Some(scale) => loss * Tensor::from_inner(scale.factor()),
            None => loss,
        };
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

    /// The loss scale of training in f16, which all lanes share, as tensors of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device lost it.
    pub(crate) fn scale_to_host(lanes: &[Self]) -> Result<Vec<(String, Region, Vec<f32>)>> {
        let scale = lanes.iter().find_map(|lane| lane.scale.as_ref());
        scale.map(|scale| Ok((SCALE.to_owned(), [2, 1], scale.to_host()?))).into_iter().collect()
    }

    /// Puts a saved loss scale back, where there is one and lanes have one.
    pub(crate) fn restore_scale(lanes: &mut [Self], saved: &Saved, device: &Device) {
        let Some(values) = saved.tensor(SCALE).filter(|values| values.len() == 2) else { return };
        for scale in lanes.iter_mut().filter_map(|lane| lane.scale.as_mut()) {
            scale.restore(values.clone(), device);
        }
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
