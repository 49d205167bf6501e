//! AdamW with decoupled weight decay, over the slices a step touched.
//!
//! A slice no sampled subnet used has no gradient: its moments stay, and it is not decayed
//! (AutoFormer's supernet decays it, which shrinks rarely sampled weights).
//!
//! On the CPU one pass over each touched slice changes value and moments where they lie and leaves zeros in place of
//! the gradient (`host.rs`); elsewhere the same is composed of tensor operations (`device.rs`).

mod device;
mod host;

use burn::tensor::{Device, Tensor};

use super::gradients::Gradients;
use super::lanes::Lanes;
use crate::collective::Collective;
use crate::error::Result;
use crate::ops;
use crate::supernet::params::{matrix, to_host};
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
    moments: Moments,
    steps: u64,
}

/// First and second moment of every parameter, where the parameters are.
#[derive(Clone, Debug)]
enum Moments {
    Host(Vec<[Vec<f32>; 2]>),
    Device(Vec<[Tensor<2>; 2]>),
}

impl AdamW {
    /// Fresh moments for `params`.
    pub fn new(params: &Params, config: AdamWConfig) -> Self {
        let moments = if ops::serves(params.device()) {
            let size = |slot| params.shape(slot).iter().product();
            Moments::Host(params.slots().map(|slot| [0; 2].map(|_| vec![0.0; size(slot)])).collect())
        } else {
            let zeros = |slot| Tensor::zeros(params.shape(slot), params.device());
            Moments::Device(params.slots().map(|slot| [0; 2].map(|_| zeros(slot))).collect())
        };
        Self { config, moments, steps: 0 }
    }

    /// One step by the sum of all lanes' gradients, averaged over ranks. `touched` lists, possibly several times, what
    /// the step's subnets used. The gradients are used up.
    ///
    /// # Errors
    /// [`crate::Error::Backend`] when the device fails; on the CPU [`crate::Error::Diverged`] when a gradient is no number, and
    /// nothing has moved then.
    pub fn step(
        &mut self,
        params: &mut Params,
        gradients: &mut [Gradients],
        touched: &[(Slot, Region)],
        learning_rate: f64,
        lanes: &Lanes,
        collective: &dyn Collective,
    ) -> Result<()> {
        self.steps += 1;
        let mut regions: Vec<Vec<Region>> = vec![Vec::new(); params.len()];
        for (slot, region) in touched {
            regions[slot.0].push(*region);
        }
        let numbers = Numbers { config: self.config, steps: self.steps, learning_rate };
        match &mut self.moments {
            Moments::Host(moments) => {
                host::step(numbers, moments, params, gradients, &regions, lanes, collective)
            }
            Moments::Device(moments) => {
                device::step(numbers, moments, params, gradients, &regions, collective)
            }
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First and second moment of a parameter, row by row.
    ///
    /// # Errors
    /// [`crate::Error::Backend`] when the device lost them.
    pub(crate) fn moments(&self, slot: Slot) -> Result<[Vec<f32>; 2]> {
        match &self.moments {
            Moments::Host(moments) => Ok(moments[slot.0].clone()),
            Moments::Device(moments) => {
                let [first, second] = &moments[slot.0];
                Ok([to_host(first)?, to_host(second)?])
            }
        }
    }

    /// Puts saved moments back.
    pub(crate) fn restore(&mut self, slot: Slot, saved: [Vec<f32>; 2], shape: Region, device: &Device) {
        match &mut self.moments {
            Moments::Host(moments) => moments[slot.0] = saved,
            Moments::Device(moments) => moments[slot.0] = saved.map(|values| matrix(values, shape, device)),
        }
    }

    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}

/// What the formulas of one step need.
#[derive(Clone, Copy)]
struct Numbers {
    config: AdamWConfig,
    steps: u64,
    learning_rate: f64,
}

impl Numbers {
    /// Bias corrections of both moments.
    fn corrections(&self) -> [f64; 2] {
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        self.config.betas.map(|beta| 1.0 - beta.powi(steps))
    }

    /// What gradients are multiplied by so that their norm is at most the limit.
    fn clip(&self, squares: f64) -> f64 {
        let (norm, limit) = (squares.sqrt(), self.config.clip);
        if limit > 0.0 && norm > limit { limit / norm } else { 1.0 }
    }

    fn decay(&self, decays: bool) -> f64 {
        if decays { self.learning_rate * self.config.weight_decay } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Solo;
    use crate::ops::Precision;
    use crate::rand::{Draw, stream};
    use crate::supernet::params::{Init, Layout};
    use crate::train::LossScale;

    const SHAPES: [Region; 3] = [[9, 7], [1, 40], [30, 16]];

    fn params() -> Params {
        let mut layout = Layout::default();
        for (i, shape) in SHAPES.into_iter().enumerate() {
            match i {
                1 => layout.vector(format!("{i}"), shape, Init::Normal(1.0)),
                _ => layout.weight(format!("{i}"), shape, Init::Normal(1.0)),
            };
        }
        Params::new(layout, 1, &Device::flex())
    }

    /// Slices that change where they lie against tensor operations, over steps of other slices: the same values and
    /// moments; what no slice reached keeps every bit; gradients are used up.
    #[test]
    fn slices_move_as_tensors_do_and_nothing_else_moves() {
        let config = AdamWConfig { betas: [0.9, 0.999], weight_decay: 0.05, clip: 1.0 };
        let (mut here, mut there) = (params(), params());
        let mut host = AdamW::new(&here, config);
        let zeros = |shape: Region| Tensor::zeros(shape, there.device());
        let moments = SHAPES.iter().map(|shape| [0; 2].map(|_| zeros(*shape))).collect();
        let mut device = AdamW { config, moments: Moments::Device(moments), steps: 0 };
        let mut lanes_of = [0; 2].map(|_| Gradients::new(&here, Precision::F32));
        let lanes = Lanes::new(2).unwrap();
        for step in 0..6 {
            let mut rng = stream(3, "adamw", step);
            let mut part = |most: usize| 1 + (rng.unit() * most as f64) as usize % most;
            // The last parameter is left alone every other step.
            let slots = if step % 2 == 0 { 3 } else { 2 };
            let touched: Vec<(Slot, Region)> =
                (0..slots).flat_map(|i| [0; 3].map(|_| (Slot(i), SHAPES[i].map(&mut part)))).collect();
            let inside = |slot: usize, at: usize| {
                let (row, column) = (at / SHAPES[slot][1], at % SHAPES[slot][1]);
                touched.iter().any(|(of, part)| of.0 == slot && row < part[0] && column < part[1])
            };
            let mut rng = stream(4, "adamw", step);
            let mut tensors: Vec<Option<Tensor<2>>> = vec![None; 3];
            for slot in 0..slots {
                let mut sum = vec![0.0f32; SHAPES[slot].iter().product()];
                for lane in &lanes_of {
                    let sums = lane.sums.as_ref().unwrap();
                    for (at, (all, one)) in sum.iter_mut().zip(sums.lock()[slot].iter_mut()).enumerate() {
                        *one = if inside(slot, at) { rng.normal() as f32 } else { 0.0 };
                        *all += *one;
                    }
                }
                tensors[slot] = Some(matrix(sum, SHAPES[slot], there.device()));
            }
            let before = here.to_host().unwrap();
            let old: Vec<_> = here.slots().map(|slot| host.moments(slot).unwrap()).collect();
            host.step(&mut here, &mut lanes_of, &touched, 1e-2, &lanes, &Solo).unwrap();
            let mut given = [Gradients { sums: None, tensors, scale: None, precision: Precision::F32 }];
            device.step(&mut there, &mut given, &touched, 1e-2, &lanes, &Solo).unwrap();
            let (after, expected) = (here.to_host().unwrap(), there.to_host().unwrap());
            for slot in 0..3 {
                let ([first, second], [want1, want2]) =
                    (host.moments(Slot(slot)).unwrap(), device.moments(Slot(slot)).unwrap());
                for at in 0..after[slot].2.len() {
                    let got = [after[slot].2[at], first[at], second[at]];
                    let want = [expected[slot].2[at], want1[at], want2[at]];
                    for (got, want) in got.into_iter().zip(want) {
                        assert!(
                            (got - want).abs() < 2e-6,
                            "step {step}, slot {slot}, {at}: {got}, not {want}"
                        );
                    }
                    if !inside(slot, at) {
                        let was = [before[slot].2[at], old[slot][0][at], old[slot][1][at]];
                        assert_eq!(got, was, "step {step}, slot {slot}, {at}: nothing reached it");
                    }
                }
            }
            let left: f32 =
                lanes_of.iter().flat_map(|lane| lane.to_host().unwrap()).flatten().flatten().sum();
            assert_eq!(left, 0.0, "gradients are used up");
        }
    }

    /// What a GPU does in f16: gradients of a scaled loss move everything as those of the loss itself; a step with one
    /// that is no number moves nothing and halves the scale.
    #[test]
    fn scaled_gradients_move_alike_and_bad_ones_not_at_all() {
        let config = AdamWConfig { betas: [0.9, 0.999], weight_decay: 0.05, clip: 1.0 };
        let (mut plain, mut scaled) = (params(), params());
        let lanes = Lanes::caller();
        let touched: Vec<(Slot, Region)> = (0..3).map(|i| (Slot(i), SHAPES[i])).collect();
        let zeros = |shape: Region| Tensor::zeros(shape, &Device::flex());
        let moments = || Moments::Device(SHAPES.iter().map(|shape| [0; 2].map(|_| zeros(*shape))).collect());
        let mut optimizers = [0; 2].map(|_| AdamW { config, moments: moments(), steps: 0 });
        let scales = [None, Some(LossScale::new(&Device::flex()))];
        let mut of =
            scales.map(|scale| [Gradients { sums: None, scale, ..Gradients::new(&plain, Precision::F32) }]);
        let factor = |of: &[Gradients; 1]| Gradients::scale_to_host(of).unwrap()[0].2[0];
        let before = factor(&of[1]);
        for (step, odd) in [None, Some(f32::INFINITY), Some(f32::NAN), None].into_iter().enumerate() {
            let mut rng = stream(5, "adamw", step as u64);
            for (slot, shape) in SHAPES.into_iter().enumerate() {
                let mut values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.normal() as f32).collect();
                of[0][0].tensors[slot] = Some(matrix(values.clone(), shape, &Device::flex()));
                let scale = factor(&of[1]);
                values.iter_mut().for_each(|value| *value *= scale);
                if let (Some(odd), 2) = (odd, slot) {
                    values[3] = odd;
                }
                of[1][0].tensors[slot] = Some(matrix(values, shape, &Device::flex()));
            }
            let [one, other] = &mut optimizers;
            let was = scaled.to_host().unwrap();
            other.step(&mut scaled, &mut of[1], &touched, 1e-2, &lanes, &Solo).unwrap();
            if odd.is_some() {
                assert_eq!(scaled.to_host().unwrap(), was, "step {step}");
                // The step counts, so that both are corrected alike in what follows.
                one.steps += 1;
                continue;
            }
            one.step(&mut plain, &mut of[0], &touched, 1e-2, &lanes, &Solo).unwrap();
            for ((name, _, a), (_, _, b)) in plain.to_host().unwrap().iter().zip(scaled.to_host().unwrap()) {
                let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far < 2e-6, "step {step}, {name}: {far:e}");
            }
        }
        assert_eq!(factor(&of[1]), before / 4.0);
    }
}
