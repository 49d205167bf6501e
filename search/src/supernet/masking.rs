//! Masked batches: which patches the networks see, and what they have to guess.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use masktas_export::VitArch;

use super::block::RelativeRows;
use super::encoder::{Visible, copy_patch};
use crate::rand::{Draw, Rng};

/// Added to a patch's variance before dividing by its root, as in MAE.
const PATCH_EPSILON: f32 = 1e-6;

/// Which patches of one image are seen, and which are masked; both ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Places of the seen patches.
    pub seen: Vec<u32>,
    /// Places of the masked patches.
    pub masked: Vec<u32>,
}

impl Mask {
    /// A uniformly random mask that leaves `round((1 - ratio) * patches)` patches, at least one
    /// seen and one masked.
    pub fn draw(rng: &mut Rng, patches: usize, ratio: f64) -> Self {
        let seen = (((1.0 - ratio) * patches as f64).round() as usize).clamp(1, patches.max(2) - 1);
        let mut places: Vec<u32> = (0..patches as u32).collect();
        rng.shuffle(&mut places);
        let mut masked = places.split_off(seen);
        places.sort_unstable();
        masked.sort_unstable();
        Self { seen: places, masked }
    }
}

/// A batch of masked images on a device.
#[derive(Clone, Debug)]
pub struct MaskedBatch {
    /// What the encoder sees.
    pub visible: Visible,
    /// Places of the seen patches, `[batch * seen]`.
    pub seen: Tensor<1, Int>,
    /// Places of the masked patches, `[batch * masked]`.
    pub masked: Tensor<1, Int>,
    /// Places of the seen and of the masked patches on the host.
    pub(crate) host: [Arc<Vec<u32>>; 2],
    /// Masked patches, each normalised to mean 0 and variance 1: `[batch, masked, 3 * patch * patch]`.
    pub target: Tensor<3>,
}

impl MaskedBatch {
    /// Cuts `pixels` (`[batch, 3, side, side]`) by one mask an image; all masks leave equally many patches.
    pub fn new(pixels: &[f32], masks: &[Mask], arch: &VitArch, device: &Device) -> Self {
        let (side, patch, grid) = (arch.image, arch.patch, arch.grid());
        let width = 3 * patch * patch;
        let (batch, seen) = (masks.len(), masks[0].seen.len());
        let hidden = masks[0].masked.len();
        let mut patches = vec![0.0; batch * seen * width];
        let mut target = vec![0.0; batch * hidden * width];
        for (i, (image, mask)) in pixels.chunks_exact(3 * side * side).zip(masks).enumerate() {
            let out = patches[i * seen * width..][..seen * width].chunks_exact_mut(width);
            for (place, out) in mask.seen.iter().zip(out) {
                copy_patch(image, side, patch, *place as usize, out);
            }
            let out = target[i * hidden * width..][..hidden * width].chunks_exact_mut(width);
            for (place, out) in mask.masked.iter().zip(out) {
                copy_patch(image, side, patch, *place as usize, out);
                normalise(out);
            }
        }
        let places = |pick: fn(&Mask) -> &Vec<u32>| -> Arc<Vec<u32>> {
            Arc::new(masks.iter().flat_map(|mask| pick(mask).iter().copied()).collect())
        };
        let [seen_host, masked_host] = [places(|mask| &mask.seen), places(|mask| &mask.masked)];
        let index = |places: &Arc<Vec<u32>>| {
            let places: Vec<i64> = places.iter().map(|place| i64::from(*place)).collect();
            let count = places.len();
            Tensor::<1, Int>::from_data(TensorData::new(places, [count]), device)
        };
        let seen_places = index(&seen_host);
        let relative = arch.relative.map(|clip| {
            let lists: Vec<&[u32]> = masks.iter().map(|mask| mask.seen.as_slice()).collect();
            RelativeRows::new(&lists, grid, clip, device)
        });
        Self {
            visible: Visible {
                patches: Tensor::from_data(TensorData::new(patches, [batch, seen, width]), device),
                places: Some(seen_places.clone()),
                host: Some(seen_host.clone()),
                relative,
            },
            seen: seen_places,
            masked: index(&masked_host),
            host: [seen_host, masked_host],
            target: Tensor::from_data(TensorData::new(target, [batch, hidden, width]), device),
        }
    }

    /// Images in the batch.
    pub fn len(&self) -> usize {
        self.target.dims()[0]
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn normalise(patch: &mut [f32]) {
    let n = patch.len() as f32;
    let mean = patch.iter().sum::<f32>() / n;
    let variance = patch.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / (n - 1.0).max(1.0);
    let scale = (variance + PATCH_EPSILON).sqrt().recip();
    for x in patch {
        *x = (*x - mean) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::stream;

    #[test]
    fn a_mask_is_a_partition_of_the_grid() {
        for (patches, ratio, seen) in
            [(64, 0.75, 16), (64, 0.9, 6), (4, 0.99, 1), (4, 0.0, 3), (196, 0.75, 49)]
        {
            let mask = Mask::draw(&mut stream(1, "masks", 0), patches, ratio);
            assert_eq!(mask.seen.len(), seen);
            let mut all = [mask.seen.clone(), mask.masked].concat();
            all.sort_unstable();
            assert_eq!(all, (0..patches as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn targets_are_normalised_masked_patches() {
        let arch = VitArch { image: 8, patch: 4, embed: 8, head_dim: 4, blocks: vec![], relative: None };
        let pixels: Vec<f32> = (0..3 * 64).map(|i| (i * i % 97) as f32).collect();
        let mask = Mask { seen: vec![1, 2], masked: vec![0, 3] };
        let device = Device::flex();
        let batch = MaskedBatch::new(&pixels, &[mask], &arch, &device);
        let seen = batch.visible.patches.try_to_vec_as::<f32>().unwrap();
        // Patch 1 starts at row 0, column 4 of channel 0.
        assert_eq!(seen[..4], pixels[4..8]);
        assert_eq!(seen[4..8], pixels[12..16]);
        let target = batch.target.try_to_vec_as::<f32>().unwrap();
        for patch in target.chunks(48) {
            let mean = patch.iter().sum::<f32>() / 48.0;
            let variance = patch.iter().map(|x| x * x).sum::<f32>() / 47.0;
            assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        }
    }
}
