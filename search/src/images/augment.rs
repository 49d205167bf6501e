//! The views of an image a network is trained on, and the batches they come in.

use serde::{Deserialize, Serialize};

use super::ImagesError;
use crate::error::Result;
use crate::rand::{Draw, Rng, stream};

/// A random resized crop and a horizontal flip, as torchvision's `RandomResizedCrop` and
/// `RandomHorizontalFlip` define them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Smallest and largest area of the crop, as a part of the image's.
    pub scale: [f64; 2],
    /// Smallest and largest width by height of the crop, drawn evenly in its logarithm.
    pub ratio: [f64; 2],
    /// Probability of a flip.
    pub flip: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Augment { scale: [0.2, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], flip: 0.5 }
    }
}

/// A crop of a square, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crop {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    flip: bool,
}

impl Augment {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A range is empty or leaves what is possible.
    pub fn check(&self) -> Result<()> {
        let fail = |what, found: [f64; 2], expected| {
            let found = format!("{} to {}", found[0], found[1]);
            Err(ImagesError::Option { what, found, expected }.into())
        };
        let [least, most] = self.scale;
        if !(least > 0.0 && least <= most && most <= 1.0) {
            return fail("the crop's scale", self.scale, "a range above 0 and up to 1");
        }
        let [least, most] = self.ratio;
        if !(least > 0.0 && least <= most && most.is_finite()) {
            return fail("the crop's ratio", self.ratio, "a range above 0");
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return fail("the flip's probability", [self.flip; 2], "between 0 and 1");
        }
        Ok(())
    }

    /// The crop of one image in one epoch, out of a square of `side` px.
    pub(crate) fn draw(&self, seed: u64, epoch: u32, index: u32, side: u32) -> Crop {
        let mut rng = stream(seed, "augment", (u64::from(epoch) << 32) | u64::from(index));
        let side = f64::from(side);
        let flip = rng.chance(self.flip);
        let within = |rng: &mut Rng, [from, to]: [f64; 2]| from + (to - from) * rng.unit();
        for _ in 0..10 {
            let area = side * side * within(&mut rng, self.scale);
            let ratio = within(&mut rng, self.ratio.map(f64::ln)).exp();
            let (width, height) = ((area * ratio).sqrt(), (area / ratio).sqrt());
            if width <= side && height <= side {
                let left = within(&mut rng, [0.0, side - width]);
                let top = within(&mut rng, [0.0, side - height]);
                return Crop { left, top, width, height, flip };
            }
        }
        Crop { left: 0.0, top: 0.0, width: side, height: side, flip }
    }
}

/// One output position along an axis: two neighbours and how much of the second.
struct Tap {
    low: usize,
    high: usize,
    part: f32,
}

fn taps(from: f64, length: f64, side: usize, out: usize, flip: bool) -> Vec<Tap> {
    let tap = |n: usize| {
        let n = if flip { out - 1 - n } else { n };
        // Pixel centres lie at halves.
        let at = (from + (n as f64 + 0.5) * length / out as f64 - 0.5).clamp(0.0, (side - 1) as f64);
        let low = at as usize;
        Tap { low, high: (low + 1).min(side - 1), part: (at - low as f64) as f32 }
    };
    (0..out).map(tap).collect()
}

/// Cuts a crop out of a square of interleaved bytes and writes it, bilinear and normalised, as three
/// planes of `out_side` x `out_side`. `square` has `side * side * 3` bytes, `out` three planes.
///
/// The square is at most a seventh larger than the output, so a crop is hardly ever shrunk and two
/// neighbours are enough.
pub(crate) fn resample(
    square: &[u8],
    side: usize,
    crop: Crop,
    out_side: usize,
    line: &[(f32, f32); 3],
    out: &mut [f32],
) {
    let columns = taps(crop.left, crop.width, side, out_side, crop.flip);
    let rows = taps(crop.top, crop.height, side, out_side, false);
    // Rows are interpolated along x once each and kept while y stays between the same two.
    let mut kept = [(usize::MAX, vec![0f32; 3 * out_side]), (usize::MAX, vec![0f32; 3 * out_side])];
    let across = |y: usize, to: &mut [f32]| {
        let row = &square[y * side * 3..(y + 1) * side * 3];
        let (red, rest) = to.split_at_mut(out_side);
        let (green, blue) = rest.split_at_mut(out_side);
        for (n, tap) in columns.iter().enumerate() {
            let (a, b) = (&row[tap.low * 3..tap.low * 3 + 3], &row[tap.high * 3..tap.high * 3 + 3]);
            let mix = |c: usize| {
                let (a, b) = (f32::from(a[c]), f32::from(b[c]));
                a + (b - a) * tap.part
            };
            (red[n], green[n], blue[n]) = (mix(0), mix(1), mix(2));
        }
    };
    for (y, tap) in rows.iter().enumerate() {
        if kept[0].0 != tap.low {
            kept.swap(0, 1);
            if kept[0].0 != tap.low {
                across(tap.low, &mut kept[0].1);
                kept[0].0 = tap.low;
            }
        }
        if kept[1].0 != tap.high {
            across(tap.high, &mut kept[1].1);
            kept[1].0 = tap.high;
        }
        for (c, (scale, bias)) in line.iter().enumerate() {
            let plane = c * out_side;
            let (above, below) = (&kept[0].1[plane..plane + out_side], &kept[1].1[plane..plane + out_side]);
            let start = c * out_side * out_side + y * out_side;
            for ((to, a), b) in out[start..start + out_side].iter_mut().zip(above).zip(below) {
                *to = (a + (b - a) * tap.part) * scale + bias;
            }
        }
    }
}

/// Lists of images, one per batch.
#[derive(Clone, Debug)]
pub struct Batches {
    order: Vec<u32>,
    size: usize,
    at: usize,
}

impl Batches {
    /// The images of one epoch in a new order, drawn from (seed, epoch). A last batch that is not
    /// full is left out, unless it is the only one.
    pub fn shuffled(images: &[u32], size: usize, seed: u64, epoch: u32) -> Batches {
        let mut order = images.to_vec();
        stream(seed, "batches", u64::from(epoch)).shuffle(&mut order);
        let size = size.max(1);
        if order.len() > size {
            order.truncate(order.len() - order.len() % size);
        }
        Batches { order, size, at: 0 }
    }

    /// The images as they stand; the last batch may be smaller.
    pub fn in_order(images: &[u32], size: usize) -> Batches {
        Batches { order: images.to_vec(), size: size.max(1), at: 0 }
    }

    /// Batches in all.
    pub fn count(images: usize, size: usize) -> usize {
        if images == 0 { 0 } else { (images / size.max(1)).max(1) }
    }

    /// The batch with this number, whatever was taken before; for going on in the middle of an epoch.
    pub fn get(&self, number: usize) -> Option<&[u32]> {
        self.order.chunks(self.size).nth(number)
    }
}

impl Iterator for Batches {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        let batch = self.get(self.at)?.to_vec();
        self.at += 1;
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.len().div_ceil(self.size).saturating_sub(self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

#[cfg(test)]
#[path = "tests/augment.rs"]
mod tests;
