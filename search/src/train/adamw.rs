//! AdamW with decoupled weight decay, over the slices a step touched.
//!
//! A slice no sampled subnet used has no gradient: its moments stay, and it is not decayed
//! (AutoFormer's supernet decays it, which shrinks rarely sampled weights).
//!
//! On the CPU one pass over each touched slice changes value and moments where they lie and leaves zeros in place of
//! the gradient (`ops::optimizer`); elsewhere the same is composed of tensor operations.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use super::gradients::Gradients;
use super::lanes::Lanes;
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::ops::{self, optimizer};
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
    /// [`Error::Backend`] when the device fails.
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
        match &mut self.moments {
            Moments::Host(moments) => {
                let numbers = Numbers { config: self.config, steps: self.steps, learning_rate };
                step_on_host(numbers, moments, params, gradients, &regions, lanes, collective)
            }
            Moments::Device(moments) => {
                let numbers = Numbers { config: self.config, steps: self.steps, learning_rate };
                step_on_device(numbers, moments, params, gradients, &regions, collective)
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
    /// [`Error::Backend`] when the device lost them.
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

/// A parameter in the hands of a lane.
struct Held<'a> {
    slot: Slot,
    value: Tensor<2>,
    moments: &'a mut [Vec<f32>; 2],
    gradient: Vec<f32>,
}

fn step_on_host(
    numbers: Numbers,
    moments: &mut [[Vec<f32>; 2]],
    params: &mut Params,
    gradients: &mut [Gradients],
    regions: &[Vec<Region>],
    lanes: &Lanes,
    collective: &dyn Collective,
) -> Result<()> {
    let shapes: Vec<Region> = params.slots().map(|slot| params.shape(slot)).collect();
    let mut buffers: Vec<_> =
        gradients.iter().filter_map(|lane| lane.sums.as_ref()).map(|s| s.lock()).collect();
    // First the sum over lanes, which the norm is of. Lanes are dealt items in turn: the largest ones first.
    let mut slots: Vec<Slot> =
        (0..regions.len()).map(Slot).filter(|slot| !regions[slot.0].is_empty()).collect();
    slots.sort_by_key(|slot| (std::cmp::Reverse(moments[slot.0][0].len()), *slot));
    let parts = slots
        .iter()
        .map(|slot| (*slot, buffers.iter_mut().map(|lane| std::mem::take(&mut lane[slot.0])).collect()))
        .collect();
    let summed = lanes.map(parts, |(slot, mut parts): (Slot, Vec<Vec<f32>>)| {
        // Below the last row that a subnet reached there is nothing.
        let rows = regions[slot.0].iter().map(|region| region[0]).max().unwrap_or(0);
        let used = rows * shapes[slot.0][1];
        if let [sum, others @ ..] = parts.as_mut_slice() {
            others.iter_mut().for_each(|other| optimizer::add(&mut sum[..used], &mut other[..used]));
        }
        Ok((slot, parts, used))
    })?;
    let mut sums: Vec<(Slot, Vec<f32>, usize)> = Vec::with_capacity(summed.len());
    for (slot, parts, used) in summed {
        let mut parts = parts.into_iter();
        sums.push((slot, parts.next().unwrap_or_default(), used));
        for (lane, part) in buffers.iter_mut().skip(1).zip(parts) {
            lane[slot.0] = part;
        }
    }
    if collective.size() > 1 {
        // In an order that is the same on every rank.
        sums.iter_mut().for_each(|(_, sum, _)| collective.all_reduce_mean(sum));
    }
    let squares = lanes.map(sums.iter().collect(), |(_, sum, used): &(Slot, Vec<f32>, usize)| {
        let mut total = 0.0;
        optimizer::squares(&sum[..*used], &mut total);
        Ok(total)
    })?;
    let clip = numbers.clip(squares.iter().sum());
    let [first, second] = numbers.corrections();
    // Then value and moments, slice by slice.
    let mut all: Vec<Option<&mut [Vec<f32>; 2]>> = moments.iter_mut().map(Some).collect();
    let mut held = Vec::with_capacity(sums.len());
    for (slot, gradient, _) in sums {
        if let Some(moments) = all[slot.0].take() {
            held.push(Held { slot, value: params.take(slot), moments, gradient });
        }
    }
    let shared = &*params;
    let done = lanes.map(held, |held: Held<'_>| {
        let Held { slot, value, moments: [one, two], mut gradient } = held;
        let rates = optimizer::Rates {
            betas: numbers.config.betas.map(|beta| beta as f32),
            rest: numbers.config.betas.map(|beta| (1.0 - beta) as f32),
            clip: clip as f32,
            rate: (numbers.learning_rate / first) as f32,
            second: (1.0 / second) as f32,
            keep: (1.0 - numbers.decay(shared.decays(slot))) as f32,
            epsilon: EPSILON as f32,
        };
        let [_, stride] = shared.shape(slot);
        let value = ops::change(value, |value| {
            for (rows, columns) in segments(&regions[slot.0]) {
                for range in slices(rows, columns, stride) {
                    optimizer::update(
                        &mut value[range.clone()],
                        &mut one[range.clone()],
                        &mut two[range.clone()],
                        &mut gradient[range],
                        rates,
                    );
                }
            }
        });
        Ok((slot, value, gradient))
    })?;
    for (slot, value, gradient) in done {
        params.set(slot, value);
        if let Some(lane) = buffers.first_mut() {
            lane[slot.0] = gradient;
        }
    }
    Ok(())
}

/// The union of leading rectangles as ranges of rows, each with its number of columns.
fn segments(regions: &[Region]) -> Vec<(Range<usize>, usize)> {
    let mut ends: Vec<usize> = regions.iter().map(|region| region[0]).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut begin = 0;
    let mut segments = Vec::with_capacity(ends.len());
    for end in ends {
        let columns = regions.iter().filter(|region| region[0] >= end).map(|region| region[1]).max();
        segments.push((begin..end, columns.unwrap_or(0)));
        begin = end;
    }
    segments
}

/// Where `columns` of each of `rows` lie in a matrix of `stride` columns.
fn slices(rows: Range<usize>, columns: usize, stride: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = columns == stride;
    let (count, length) = if whole { (1, rows.len() * stride) } else { (rows.len(), columns) };
    let begin = rows.start * stride;
    (0..count).map(move |row| begin + row * stride..begin + row * stride + length)
}

fn step_on_device(
    numbers: Numbers,
    moments: &mut [[Tensor<2>; 2]],
    params: &mut Params,
    gradients: &mut [Gradients],
    regions: &[Vec<Region>],
    collective: &dyn Collective,
) -> Result<()> {
    let mut sums: Vec<Option<Tensor<2>>> = vec![None; params.len()];
    for lane in gradients {
        for (sum, gradient) in sums.iter_mut().zip(&mut lane.tensors) {
            *sum = match (sum.take(), gradient.take()) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
    if collective.size() > 1 {
        for sum in sums.iter_mut().flatten() {
            let mut values = to_host(sum)?;
            collective.all_reduce_mean(&mut values);
            *sum = Tensor::from_data(TensorData::new(values, sum.dims()), params.device());
        }
    }
    let factor = if numbers.config.clip > 0.0 { numbers.clip(squares(&sums)?) } else { 1.0 };
    let [beta1, beta2] = numbers.config.betas;
    let [correct1, correct2] = numbers.corrections();
    for ((slot, gradient), regions) in params.slots().zip(sums).zip(regions) {
        let (Some(gradient), Some(union)) = (gradient, Union::of(regions)) else { continue };
        let area = union.bounds;
        let full = params.shape(slot) == area;
        let cut = |tensor: &Tensor<2>| {
            if full { tensor.clone() } else { tensor.clone().slice([0..area[0], 0..area[1]]) }
        };
        let gradient = cut(&gradient) * factor;
        let [whole1, whole2] = &mut moments[slot.0];
        let (old, old1, old2) = (cut(params.value(slot)), cut(whole1), cut(whole2));
        let mut first = old1.clone() * beta1 + gradient.clone() * (1.0 - beta1);
        let mut second = old2.clone() * beta2 + gradient.square() * (1.0 - beta2);
        let update = first.clone() / ((second.clone() * (1.0 / correct2)).sqrt() + EPSILON);
        let decay = numbers.decay(params.decays(slot));
        let mut value = old.clone() * (1.0 - decay) - update * (numbers.learning_rate / correct1);
        if let Some(outside) = union.outside(params.device()) {
            first = first.mask_where(outside.clone(), old1);
            second = second.mask_where(outside.clone(), old2);
            value = value.mask_where(outside, old);
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

/// Sum of the squares of all gradients.
fn squares(gradients: &[Option<Tensor<2>>]) -> Result<f64> {
    let squares: Vec<Tensor<1>> =
        gradients.iter().flatten().map(|gradient| gradient.clone().square().sum()).collect();
    if squares.is_empty() {
        return Ok(0.0);
    }
    let sum = Tensor::cat(squares, 0).sum().try_into_scalar::<f32>();
    sum.map(f64::from).map_err(|error| Error::Backend(format!("{error:?}")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Solo;
    use crate::rand::{Draw, stream};
    use crate::supernet::params::{Init, Layout};

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
        let mut lanes_of = [Gradients::new(&here), Gradients::new(&here)];
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
            let mut given = [Gradients { sums: None, tensors }];
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

    #[test]
    fn segments_cover_the_union_of_rectangles_once() {
        let regions = [[4, 2], [2, 5], [3, 3], [1, 1], [4, 1]];
        let mut seen = vec![0; 6 * 5];
        for (rows, columns) in segments(&regions) {
            slices(rows, columns, 5).flatten().for_each(|at| seen[at] += 1);
        }
        for (at, seen) in seen.iter().enumerate() {
            let inside = regions.iter().any(|part| at / 5 < part[0] && at % 5 < part[1]);
            assert_eq!(*seen, usize::from(inside), "row {}, column {}", at / 5, at % 5);
        }
        let whole: Vec<_> = slices(1..3, 5, 5).collect();
        assert_eq!(whole, vec![5..15]);
    }
}
