//! The light decoder that guesses the masked patches from the encoder's tokens.
//!
//! It is the same for every subnet; only the rows of its input projection are sliced.

use burn::tensor::{Int, Tensor};

use super::block::{Block, BlockShape, Linear, Norm};
use super::masking::MaskedBatch;
use super::params::{Init, Layout, Leaves, Region, Slot};
use crate::ops::{self, Join};

/// Size of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderShape {
    /// Width.
    pub width: usize,
    /// Blocks, at least one.
    pub depth: usize,
    /// Heads; divides the width.
    pub heads: usize,
}

/// Slots of the decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    shape: DecoderShape,
    pixels: usize,
    embed: Linear,
    mask_token: Slot,
    positions: Slot,
    blocks: Vec<Block>,
    last: Block,
    norm: Norm,
    head: Linear,
}

impl Decoder {
    /// Declares a decoder for encoders up to `encoder_width` wide that guesses patches of `pixels` values.
    pub(crate) fn declare(
        layout: &mut Layout,
        shape: DecoderShape,
        encoder_width: usize,
        patches: usize,
        pixels: usize,
    ) -> Self {
        let width = shape.width;
        let block = |layout: &mut Layout, i: usize| {
            Block::declare(layout, &format!("decoder_blocks.{i}"), block_shape(shape))
        };
        let others = shape.depth.saturating_sub(1);
        Self {
            embed: Linear::declare(layout, "decoder_embed", [encoder_width, width]),
            mask_token: layout.vector("mask_token", [1, width], Init::Normal(0.02)),
            positions: layout.vector("decoder_pos_embed", [patches + 1, width], Init::Normal(0.02)),
            blocks: (0..others).map(|i| block(layout, i)).collect(),
            last: block(layout, others),
            norm: Norm::declare(layout, "decoder_norm", width),
            head: Linear::declare(layout, "decoder_pred", [width, pixels]),
            shape,
            pixels,
        }
    }

    /// What a subnet of this encoder width uses of each parameter.
    pub(crate) fn regions(&self, encoder_width: usize, patches: usize) -> Vec<(Slot, Region)> {
        let width = self.shape.width;
        let mut regions = Vec::new();
        regions.extend(self.embed.region([encoder_width, width]));
        regions.push((self.mask_token, [1, width]));
        regions.push((self.positions, [patches + 1, width]));
        for block in self.blocks.iter().chain([&self.last]) {
            regions.extend(block.regions(block_shape(self.shape)));
        }
        regions.extend(self.norm.region(width));
        regions.extend(self.head.region([width, self.pixels]));
        regions
    }

    /// Guesses the masked patches of `batch`, `[batch, masked, pixels]`, from the encoder's tokens, class token first.
    ///
    /// Tokens stay in the order seen, then masked: attention does not care, so nothing is shuffled back.
    pub(crate) fn decode(&self, leaves: &Leaves, tokens: Tensor<3>, batch: &MaskedBatch) -> Tensor<3> {
        let [_, count, _] = tokens.dims();
        let mut x = match leaves.host() {
            Some(host) => {
                let [seen, masked] = batch.host.clone();
                let (linear, token, positions) = (self.embed, self.mask_token, self.positions);
                let width = self.shape.width;
                ops::join(host, tokens, Join { linear, token, positions, width, seen, masked })
            }
            None => self.join(leaves, tokens, &batch.seen, &batch.masked),
        };
        let shape = block_shape(self.shape);
        for block in &self.blocks {
            x = block.apply(leaves, x, shape, None, None);
        }
        // Nobody reads what the last block makes of the tokens that were seen.
        let x = self.last.apply_to_last(leaves, x, count, shape);
        match leaves.host() {
            Some(host) => ops::tail(host, Some(self.norm), self.head, x, 0, self.pixels),
            None => self.head.apply(leaves, self.norm.apply(leaves, x), self.pixels),
        }
    }

    /// The encoder's tokens and a mask token for every hidden patch, with their positions, composed of tensor operations.
    fn join(
        &self,
        leaves: &Leaves,
        tokens: Tensor<3>,
        seen: &Tensor<1, Int>,
        masked: &Tensor<1, Int>,
    ) -> Tensor<3> {
        let [batch, count, _] = tokens.dims();
        let width = self.shape.width;
        let hidden = masked.dims()[0] / batch;
        let positions = leaves.get(self.positions).clone();
        let patches = positions.dims()[0] - 1;
        let places = positions.clone().slice([1..patches + 1, 0..width]);
        let place = |index: &Tensor<1, Int>, n: usize| {
            places.clone().select(0, index.clone()).reshape([batch, n, width])
        };
        let class = positions.slice([0..1, 0..width]).unsqueeze::<3>().expand([batch, 1, width]);
        let seen = Tensor::cat(vec![class, place(seen, count - 1)], 1);
        let known = self.embed.apply(leaves, tokens, width) + seen;
        let unknown = leaves.get(self.mask_token).clone().unsqueeze::<3>() + place(masked, hidden);
        Tensor::cat(vec![known, unknown], 1)
    }
}

fn block_shape(shape: DecoderShape) -> BlockShape {
    BlockShape {
        embed: shape.width,
        heads: shape.heads,
        head_dim: shape.width / shape.heads,
        hidden: 4 * shape.width,
        relative_rows: 0,
    }
}
