//! AdamW with decoupled weight decay, over the slices a step touched.
//!
//! A slice no sampled subnet used has no gradient: its moments stay, and it is not decayed
//! (AutoFormer's supernet decays it, which shrinks rarely sampled weights).

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::supernet::params::matrix;
use crate::supernet::{Params, Region, Slot};

/// Added to the root of the second moment.
const EPSILON: f64 = 1e-8;

/// Settings that do not change during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay; biases, norms and tokens are spared.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; 0: no clipping.
    pub clip: f64,
}

/// The optimiser's moments.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
    steps: u64,
}

/// Gradients summed over the subnets of a step.
#[derive(Clone, Debug, Default)]
pub struct Gradients(pub(crate) Vec<Option<Tensor<2>>>);

impl AdamW {
    /// Fresh moments for `params`.
    pub fn new(params: &Params, config: AdamWConfig) -> Self {
        let zeros =
            || params.slots().map(|slot| Tensor::zeros(params.shape(slot), params.device())).collect();
        Self { config, first: zeros(), second: zeros(), steps: 0 }
    }

    /// One step. `touched` lists, possibly several times, what the step's subnets used.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    pub fn step(
        &mut self,
        params: &mut Params,
        gradients: Gradients,
        touched: &[(Slot, Region)],
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let factor = self.clip_factor(&gradients)?;
        let [beta1, beta2] = self.config.betas;
        let correct1 = 1.0 - beta1.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        let correct2 = 1.0 - beta2.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        let mut regions: Vec<Vec<Region>> = vec![Vec::new(); params.len()];
        for (slot, region) in touched {
            regions[slot.0].push(*region);
        }
        for ((slot, gradient), regions) in params.slots().zip(gradients.0).zip(regions) {
            let (Some(gradient), Some(union)) = (gradient, Union::of(&regions)) else { continue };
            let area = union.bounds;
            let full = params.shape(slot) == area;
            let cut = |tensor: &Tensor<2>| {
                if full { tensor.clone() } else { tensor.clone().slice([0..area[0], 0..area[1]]) }
            };
            let gradient = cut(&gradient) * factor;
            let (old, old1, old2) =
                (cut(params.value(slot)), cut(&self.first[slot.0]), cut(&self.second[slot.0]));
            let mut first = old1.clone() * beta1 + gradient.clone() * (1.0 - beta1);
            let mut second = old2.clone() * beta2 + gradient.square() * (1.0 - beta2);
            let update = first.clone() / ((second.clone() * (1.0 / correct2)).sqrt() + EPSILON);
            let decay = if params.decays(slot) { learning_rate * self.config.weight_decay } else { 0.0 };
            let mut value = old.clone() * (1.0 - decay) - update * (learning_rate / correct1);
            if let Some(outside) = union.outside(params.device()) {
                first = first.mask_where(outside.clone(), old1);
                second = second.mask_where(outside.clone(), old2);
                value = value.mask_where(outside, old);
            }
            let paste = |whole: &Tensor<2>, part: Tensor<2>| {
                if full { part } else { whole.clone().slice_assign([0..area[0], 0..area[1]], part) }
            };
            self.first[slot.0] = paste(&self.first[slot.0], first);
            self.second[slot.0] = paste(&self.second[slot.0], second);
            let value = paste(params.value(slot), value);
            params.set(slot, value);
        }
        Ok(())
    }

    /// What gradients are multiplied by so that their norm is at most the limit.
    fn clip_factor(&self, gradients: &Gradients) -> Result<f64> {
        if self.config.clip <= 0.0 {
            return Ok(1.0);
        }
        let squares: Vec<Tensor<1>> =
            gradients.0.iter().flatten().map(|gradient| gradient.clone().square().sum()).collect();
        if squares.is_empty() {
            return Ok(1.0);
        }
        let sum = Tensor::cat(squares, 0).sum().try_into_scalar::<f32>();
        let norm = f64::from(sum.map_err(|error| Error::Backend(format!("{error:?}")))?).sqrt();
        Ok(if norm > self.config.clip { self.config.clip / norm } else { 1.0 })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First and second moment of a parameter.
    pub(crate) fn moments(&self, slot: Slot) -> [&Tensor<2>; 2] {
        [&self.first[slot.0], &self.second[slot.0]]
    }

    /// Puts saved moments back.
    pub(crate) fn restore(&mut self, slot: Slot, moments: [Vec<f32>; 2], shape: Region, device: &Device) {
        let [first, second] = moments;
        self.first[slot.0] = matrix(first, shape, device);
        self.second[slot.0] = matrix(second, shape, device);
    }

    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}

impl Gradients {
    /// Adds another subnet's gradients.
    pub fn add(&mut self, gradients: Vec<Option<Tensor<2>>>) {
        if self.0.is_empty() {
            self.0 = gradients;
            return;
        }
        for (sum, gradient) in self.0.iter_mut().zip(gradients) {
            *sum = match (sum.take(), gradient) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
}

/// The union of leading rectangles of one parameter.
struct Union {
    bounds: Region,
    parts: Vec<Region>,
}

impl Union {
    fn of(regions: &[Region]) -> Option<Self> {
        let bounds = [regions.iter().map(|r| r[0]).max()?, regions.iter().map(|r| r[1]).max()?];
        Some(Self { bounds, parts: regions.to_vec() })
    }

    /// Where, inside the bounds, no part reaches; `None` when one part is all of it.
    fn outside(&self, device: &Device) -> Option<Tensor<2, burn::tensor::Bool>> {
        if self.parts.contains(&self.bounds) {
            return None;
        }
        let [rows, columns] = self.bounds;
        let outside = |i: usize| {
            let (row, column) = (i / columns, i % columns);
            !self.parts.iter().any(|part| row < part[0] && column < part[1])
        };
        let mask: Vec<bool> = (0..rows * columns).map(outside).collect();
        Some(Tensor::from_data(TensorData::new(mask, [rows, columns]), device))
    }
}
