//! A step of AdamW composed of tensor operations, for weights that are not on the CPU.
//!
//! Nothing is read back: the norm that clipping needs, and whether gradients scaled for f16 are numbers, stay tensors.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::{EPSILON, Numbers};
use crate::collective::Collective;
use crate::error::Result;
use crate::supernet::params::to_host;
use crate::supernet::{Params, Region};
use crate::train::Gradients;

/// Sums of squares from here on count as infinite.
const LARGEST_SQUARES: f32 = 1e30;

/// What all gradients are multiplied by, and whether a step is to be passed over; both `[1, 1]`.
struct Verdict {
    factor: Tensor<2>,
    skip: Option<Tensor<2, Bool>>,
}

/// One step by the sum of all lanes' gradients.
pub(super) fn step(
    numbers: Numbers,
    moments: &mut [[Tensor<2>; 2]],
    params: &mut Params,
    gradients: &mut [Gradients],
    regions: &[Vec<Region>],
    collective: &dyn Collective,
) -> Result<()> {
    let mut sums = add_up(params, gradients);
    if collective.size() > 1 {
        for sum in sums.iter_mut().flatten() {
            let mut values = to_host(sum)?;
            collective.all_reduce_mean(&mut values);
            *sum = Tensor::from_data(TensorData::new(values, sum.dims()), params.device());
        }
    }
    let verdict = judge(numbers, &sums, gradients);
    let [beta1, beta2] = numbers.config.betas;
    let [correct1, correct2] = numbers.corrections();
    for ((slot, gradient), regions) in params.slots().zip(sums).zip(regions) {
        let (Some(gradient), Some(union)) = (gradient, Union::of(regions)) else { continue };
        let area = union.bounds;
        let full = params.shape(slot) == area;
        let cut = |tensor: &Tensor<2>| {
            if full { tensor.clone() } else { tensor.clone().slice([0..area[0], 0..area[1]]) }
        };
        let gradient = match &verdict {
            Some(Verdict { factor, .. }) => cut(&gradient) * factor.clone(),
            None => cut(&gradient),
        };
        let [whole1, whole2] = &mut moments[slot.0];
        let (old, old1, old2) = (cut(params.value(slot)), cut(whole1), cut(whole2));
        let mut first = old1.clone() * beta1 + gradient.clone() * (1.0 - beta1);
        let mut second = old2.clone() * beta2 + gradient.square() * (1.0 - beta2);
        let update = first.clone() / ((second.clone() * (1.0 / correct2)).sqrt() + EPSILON);
        let decay = numbers.decay(params.decays(slot));
        let mut value = old.clone() * (1.0 - decay) - update * (numbers.learning_rate / correct1);
        let skip = verdict.as_ref().and_then(|verdict| verdict.skip.clone());
        for keep in [union.outside(params.device()), skip.map(|skip| skip.expand(area))].into_iter().flatten()
        {
            first = first.mask_where(keep.clone(), old1.clone());
            second = second.mask_where(keep.clone(), old2.clone());
            value = value.mask_where(keep, old.clone());
        }
        let paste = |whole: &Tensor<2>, part: Tensor<2>| {
            if full { part } else { whole.clone().slice_assign([0..area[0], 0..area[1]], part) }
        };
        *whole1 = paste(whole1, first);
        *whole2 = paste(whole2, second);
        let value = paste(params.value(slot), value);
        params.set(slot, value);
    }
    Ok(())
}

/// The lanes' gradients, used up.
fn add_up(params: &Params, gradients: &mut [Gradients]) -> Vec<Option<Tensor<2>>> {
    let mut sums: Vec<Option<Tensor<2>>> = vec![None; params.len()];
    for lane in gradients {
        for (sum, gradient) in sums.iter_mut().zip(&mut lane.tensors) {
            *sum = match (sum.take(), gradient.take()) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
    sums
}

/// Clips, takes the loss scale out of the gradients and tells it how they were; `None` when there is nothing to do.
fn judge(numbers: Numbers, sums: &[Option<Tensor<2>>], gradients: &mut [Gradients]) -> Option<Verdict> {
    let scaled = gradients.iter().any(|lane| lane.scale.is_some());
    let limit = numbers.config.clip;
    if limit <= 0.0 && !scaled {
        return None;
    }
    let squares: Vec<Tensor<1>> = sums.iter().flatten().map(|sum| sum.clone().square().sum()).collect();
    if squares.is_empty() {
        return None;
    }
    let squares = Tensor::cat(squares, 0).sum();
    // All lanes' losses have the same scale: they are told the same every step.
    let scale = gradients.iter().find_map(|lane| lane.scale.as_ref()).map(|scale| scale.factor());
    let norm = match &scale {
        Some(scale) => squares.clone().sqrt() / scale.clone(),
        None => squares.clone().sqrt(),
    };
    let clip = match limit > 0.0 {
        true => norm.clone().clamp_min(limit).recip() * limit,
        false => norm.ones_like(),
    };
    let factor = match scale {
        Some(scale) => clip / scale,
        None => clip,
    };
    let skip = scaled.then(|| {
        // Of a sum with an infinity or what is no number in it this does not hold. Compilers for GPUs may take every number
        // for finite, so the limit is one that finite numbers, too, could pass.
        let finite = squares.lower_elem(LARGEST_SQUARES);
        for scale in gradients.iter_mut().filter_map(|lane| lane.scale.as_mut()) {
            scale.note(finite.clone().float());
        }
        finite.bool_not().unsqueeze::<2>()
    });
    Some(Verdict { factor: factor.unsqueeze::<2>(), skip })
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
    fn outside(&self, device: &Device) -> Option<Tensor<2, Bool>> {
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
