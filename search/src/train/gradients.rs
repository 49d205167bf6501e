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
        let sums = params.sums();
        // Where our operations serve there is no f16.
        let scaled = precision == Precision::F16 && sums.is_none();
        let scale = scaled.then(|| LossScale::new(params.device()));
        Self { sums, tensors: params.slots().map(|_| None).collect(), scale, precision }
    }

    /// Whether training in f16 goes on at all: steps whose gradients are no numbers are passed over. Reads the loss scale from
    /// the device, where there is one; all lanes have the same.
    ///
    /// # Errors
    /// [`Error::Unusable`] when such a step was passed over with the smallest scale there is.
    pub(crate) fn check(lanes: &[Self]) -> Result<()> {
        lanes.iter().find_map(|lane| lane.scale.as_ref()).map_or(Ok(()), LossScale::check)
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
    ///
    /// # Errors
    /// [`Error::Unusable`] when it has another number of elements.
    pub(crate) fn restore_scale(lanes: &mut [Self], saved: &Saved, device: &Device) -> Result<()> {
        let Some(values) = saved.tensor(SCALE) else { return Ok(()) };
        let Ok(values) = <[f32; 2]>::try_from(values.as_slice()) else {
            return Err(saved.damaged(format!("{SCALE} has {} elements, not 2", values.len())));
        };
        for scale in lanes.iter_mut().filter_map(|lane| lane.scale.as_mut()) {
            *scale = LossScale::of(values, device);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supernet::params::{Init, Layout};
    use crate::train::checkpoint::{self, Header};
    use crate::train::{AdamW, AdamWConfig};

    fn params() -> Params {
        let mut layout = Layout::default();
        layout.vector("bias", [1, 3], Init::One);
        Params::new(layout, 1, &Device::flex())
    }

    /// As on a GPU: nothing of ours serves there.
    fn lanes(params: &Params, scale: Option<[f32; 2]>) -> [Gradients; 1] {
        let scale = scale.map(|scale| LossScale::of(scale, params.device()));
        [Gradients { sums: None, scale, ..Gradients::new(params, Precision::F32) }]
    }

    #[test]
    fn the_loss_scale_outlives_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let params = params();
        let optimizer = AdamW::new(&params, AdamWConfig { betas: [0.9, 0.95], weight_decay: 0.0, clip: 1.0 });
        let saved = |more| {
            let header = Header::new(7, "none", serde_json::Value::Null);
            checkpoint::write(&path, &header, &params, &optimizer, more).unwrap();
            checkpoint::read(&path).unwrap().unwrap()
        };
        let kept = saved(Gradients::scale_to_host(&lanes(&params, Some([8.0, 3.0]))).unwrap());
        let mut half = lanes(&params, Some([65_536.0, 0.0]));
        Gradients::restore_scale(&mut half, &kept, params.device()).unwrap();
        assert_eq!(half[0].scale.as_ref().unwrap().to_host().unwrap(), [8.0, 3.0]);
        // Gone on with in f32, and from a training that had none.
        let mut full = lanes(&params, None);
        Gradients::restore_scale(&mut full, &kept, params.device()).unwrap();
        assert!(full[0].scale.is_none());
        let none = saved(Gradients::scale_to_host(&full).unwrap());
        Gradients::restore_scale(&mut half, &none, params.device()).unwrap();
        assert_eq!(half[0].scale.as_ref().unwrap().to_host().unwrap(), [8.0, 3.0]);
        let damaged = saved(vec![(SCALE.to_owned(), [1, 3], vec![1.0; 3])]);
        let said = Gradients::restore_scale(&mut half, &damaged, params.device()).unwrap_err().to_string();
        assert!(said.contains("3 elements"), "{said}");
    }

    /// Where our operations serve, a loss is never scaled: nothing there would take the scale out again.
    #[test]
    fn nothing_is_scaled_on_the_cpu() {
        assert!(Gradients::new(&params(), Precision::F16).scale.is_none());
    }
}
