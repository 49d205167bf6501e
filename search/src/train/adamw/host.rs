//! A step of AdamW on the CPU: one pass over each touched slice, where value, moments and gradient lie.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{EPSILON, Numbers};
use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::ops::{self, optimizer};
use crate::supernet::{Params, Region, Slot};
use crate::train::{Gradients, Lanes};

/// A parameter in the hands of a lane.
struct Held<'a> {
    slot: Slot,
    value: Tensor<2>,
    moments: &'a mut [Vec<f32>; 2],
    gradient: Vec<f32>,
}

/// One step by the sum of all lanes' gradients.
pub(super) fn step(
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
    let squares: f64 = squares.iter().sum();
    if !squares.is_finite() {
        return Err(Error::Diverged { term: "the gradient's norm", value: squares });
    }
    let clip = numbers.clip(squares);
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

#[cfg(test)]
mod tests {
    use super::*;

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
