//! The vision transformer encoder, at any architecture that fits inside its maximal one.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use masktas_export::VitArch;

use super::block::{Block, BlockShape, Linear, Norm, RelativeRows};
use super::params::{Init, Layout, Leaves, Region, Slot};
use crate::ops;

/// Slots of an encoder whose maximal architecture is `arch`.
///
/// A subnet is a set of leading slices: widths are leading rows and columns, depth is a prefix of
/// the blocks. Queries, keys and values are separate matrices, so that head `j` keeps its weights
/// and biases in every subnet.
#[derive(Clone, Debug)]
pub struct Encoder {
    arch: VitArch,
    pub(crate) patch: Linear,
    pub(crate) class_token: Slot,
    pub(crate) positions: Slot,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
}

/// The patches an encoder sees.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Pixels, `[batch, seen, 3 * patch * patch]`, channel-major inside a patch.
    pub patches: Tensor<3>,
    /// Place of each seen patch in the grid, row-major: `[batch * seen]`, or `None` when all are seen in order.
    pub places: Option<Tensor<1, Int>>,
    /// The same on the host.
    pub(crate) host: Option<Arc<Vec<u32>>>,
    /// Rows of the relative position tables, class token first; `None` where the space has no tables.
    pub relative: Option<RelativeRows>,
}

impl Encoder {
    pub(crate) fn declare(layout: &mut Layout, arch: &VitArch) -> Self {
        let width = arch.embed;
        let pixels = 3 * arch.patch * arch.patch;
        Self {
            patch: Linear::declare(layout, "patch_embed.proj", [pixels, width]),
            class_token: layout.vector("cls_token", [1, width], Init::Normal(0.02)),
            positions: layout.vector("pos_embed", [arch.tokens(), width], Init::Normal(0.02)),
            blocks: (0..arch.blocks.len())
                .map(|i| Block::declare(layout, &format!("blocks.{i}"), block_shape(arch, i)))
                .collect(),
            norm: Norm::declare(layout, "norm", width),
            arch: arch.clone(),
        }
    }

    /// The maximal architecture.
    pub fn arch(&self) -> &VitArch {
        &self.arch
    }

    /// What the subnet `arch` uses of each parameter.
    pub fn regions(&self, arch: &VitArch) -> Vec<(Slot, Region)> {
        let pixels = 3 * arch.patch * arch.patch;
        let mut regions = Vec::new();
        regions.extend(self.patch.region([pixels, arch.embed]));
        regions.push((self.class_token, [1, arch.embed]));
        regions.push((self.positions, [arch.tokens(), arch.embed]));
        for (i, block) in self.blocks.iter().take(arch.blocks.len()).enumerate() {
            regions.extend(block.regions(block_shape(arch, i)));
        }
        regions.extend(self.norm.region(arch.embed));
        regions
    }

    /// Encodes with the subnet `arch`: tokens after the last norm, `[batch, 1 + seen, embed]`, the
    /// class token first.
    pub fn encode(&self, leaves: &Leaves, arch: &VitArch, visible: &Visible) -> Tensor<3> {
        self.encode_with(leaves, arch, visible, &[], None).0
    }

    /// As [`Encoder::encode`], with two extras.
    ///
    /// `taps` are depths (counted from 1) whose output, before any final norm, is returned as well.
    /// `paths` scales the two residual branches of each block image by image, `[batch, 1, 1]` each:
    /// stochastic depth.
    pub fn encode_with(
        &self,
        leaves: &Leaves,
        arch: &VitArch,
        visible: &Visible,
        taps: &[usize],
        paths: Option<&[[Tensor<3>; 2]]>,
    ) -> (Tensor<3>, Vec<Tensor<3>>) {
        let mut x = self.embed(leaves, arch, visible);
        let mut tapped = vec![None; taps.len()];
        for (i, block) in self.blocks.iter().take(arch.blocks.len()).enumerate() {
            let path = paths.map(|paths| &paths[i]);
            x = block.apply(leaves, x, block_shape(arch, i), visible.relative.as_ref(), path);
            for (slot, _) in tapped.iter_mut().zip(taps).filter(|(_, depth)| **depth == i + 1) {
                *slot = Some(x.clone());
            }
        }
        (self.norm.apply(leaves, x), tapped.into_iter().flatten().collect())
    }

    /// Class token and seen patches with their positions: `[batch, 1 + seen, embed]`.
    fn embed(&self, leaves: &Leaves, arch: &VitArch, visible: &Visible) -> Tensor<3> {
        let [batch, seen, _] = visible.patches.dims();
        let width = arch.embed;
        if let Some(host) = leaves.host() {
            let slots = [self.class_token, self.positions];
            let places = visible.host.clone();
            return ops::embed(host, slots, self.patch, &visible.patches, places, width, leaves.anchor());
        }
        let positions = leaves.matrix(self.positions, [arch.tokens(), width]);
        let patches = self.patch.apply(leaves, visible.patches.clone(), width);
        let places = positions.clone().slice([1..arch.tokens(), 0..width]);
        let places = match &visible.places {
            Some(index) => places.select(0, index.clone()).reshape([batch, seen, width]),
            None => places.unsqueeze::<3>(),
        };
        let class = leaves.matrix(self.class_token, [1, width]) + positions.slice([0..1, 0..width]);
        let class = class.unsqueeze::<3>().expand([batch, 1, width]);
        Tensor::cat(vec![class, patches + places], 1)
    }

    /// Mean of the patch tokens of [`Encoder::encode`]'s output: `[batch, embed]`.
    pub fn pool(tokens: Tensor<3>) -> Tensor<2> {
        let [batch, count, width] = tokens.dims();
        tokens.slice([0..batch, 1..count, 0..width]).mean_dim(1).reshape([batch, width])
    }
}

pub(crate) fn block_shape(arch: &VitArch, i: usize) -> BlockShape {
    BlockShape {
        embed: arch.embed,
        heads: arch.blocks[i].heads,
        head_dim: arch.head_dim,
        hidden: arch.blocks[i].hidden,
        relative_rows: arch.relative.map_or(0, VitArch::relative_rows),
    }
}

impl Visible {
    /// Every patch of `pixels` (`[batch, 3, side, side]`, row-major on the host), unmasked.
    pub fn all(pixels: &[f32], arch: &VitArch, device: &Device) -> Self {
        let (grid, patch) = (arch.grid(), arch.patch);
        let width = 3 * patch * patch;
        let batch = pixels.len() / (3 * arch.image * arch.image);
        let mut patches = vec![0.0; pixels.len()];
        for (image, out) in pixels
            .chunks_exact(3 * arch.image * arch.image)
            .zip(patches.chunks_exact_mut(grid * grid * width))
        {
            for (place, out) in out.chunks_exact_mut(width).enumerate() {
                copy_patch(image, arch.image, patch, place, out);
            }
        }
        let patches = Tensor::from_data(TensorData::new(patches, [batch, grid * grid, width]), device);
        let relative = arch.relative.map(|clip| {
            let places: Vec<u32> = (0..arch.patches() as u32).collect();
            RelativeRows::new(&[&places], grid, clip, device)
        });
        Self { patches, places: None, host: None, relative }
    }
}

/// Copies the patch at `place` (row-major in the grid) out of one `[3, side, side]` image, channel-major.
pub(crate) fn copy_patch(image: &[f32], side: usize, patch: usize, place: usize, out: &mut [f32]) {
    let grid = side / patch;
    let (top, left) = (place / grid * patch, place % grid * patch);
    for (row, out) in out.chunks_exact_mut(patch).enumerate() {
        let (channel, y) = (row / patch, row % patch);
        let start = (channel * side + top + y) * side + left;
        out.copy_from_slice(&image[start..start + patch]);
    }
}

impl RelativeRows {
    /// Rows for lists of seen patches (one list an image, or one for all), class token first.
    pub fn new<P: AsRef<[u32]>>(seen: &[P], grid: usize, clip: usize, device: &Device) -> Self {
        let tokens = seen.first().map_or(0, |places| places.as_ref().len()) + 1;
        let mut vertical = Vec::with_capacity(seen.len() * tokens * tokens);
        let mut horizontal = Vec::with_capacity(seen.len() * tokens * tokens);
        for places in seen {
            // Token 0 is the class token; patch p is token p + 1.
            let token = |i: usize| if i == 0 { 0 } else { places.as_ref()[i - 1] as usize + 1 };
            for i in 0..tokens {
                for j in 0..tokens {
                    let (v, h) = masktas_export::lower::relative_bucket(grid, clip, token(i), token(j));
                    vertical.push(v as i64);
                    horizontal.push(h as i64);
                }
            }
        }
        let shape = [seen.len(), tokens, tokens];
        Self {
            vertical: Tensor::from_data(TensorData::new(vertical, shape), device),
            horizontal: Tensor::from_data(TensorData::new(horizontal, shape), device),
        }
    }
}
