//! The weight-sharing supernet: one maximal masked autoencoder whose leading slices are every
//! member of a space.
//!
//! `params` holds the weights, `block` and `encoder` compute, `decoder` guesses masked patches,
//! `masking` makes batches, `extract` turns a slice into stand-alone weights and back.

pub mod block;
pub mod decoder;
pub mod encoder;
pub mod extract;
pub mod masking;
pub mod params;

use burn::tensor::{Device, Tensor};
use masktas_export::VitArch;

pub use decoder::{Decoder, DecoderShape};
pub use encoder::{Encoder, Visible};
pub use masking::{Mask, MaskedBatch};
pub use params::{Leaves, Params, Region, Slot};

use crate::ops;
use block::Linear;
use params::Layout;

/// A masked autoencoder with elastic encoder, and projectors that bring its features to the
/// teacher's width.
#[derive(Clone, Debug)]
pub struct Supernet {
    /// The weights.
    pub params: Params,
    /// The elastic encoder.
    pub encoder: Encoder,
    decoder: Decoder,
    projectors: Vec<(f64, Linear)>,
}

/// What a subnet makes of a masked batch.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Tokens after the last norm, `[batch, 1 + seen, embed]`, class token first.
    pub tokens: Tensor<3>,
    /// Patch tokens at each projector's depth, brought to the teacher's width: `[batch, seen, width]`.
    pub projected: Vec<Tensor<3>>,
}

impl Encoded {
    /// Tokens of the patches, without the class token: `[batch, seen, embed]`.
    pub fn patches(&self) -> Tensor<3> {
        without_class(self.tokens.clone())
    }
}

/// Drops the class token: `[batch, 1 + seen, embed]` to `[batch, seen, embed]`.
pub fn without_class(tokens: Tensor<3>) -> Tensor<3> {
    let [batch, count, width] = tokens.dims();
    tokens.slice([0..batch, 1..count, 0..width])
}

/// The block, counted from 1, at a share of the depth in (0, 1].
pub fn block_at(share: f64, depth: usize) -> usize {
    ((share * depth as f64).round() as usize).clamp(1, depth)
}

impl Supernet {
    /// A fresh supernet whose largest member is `largest`.
    ///
    /// `projectors` names the depths, as shares in (0, 1], whose tokens are brought to the teacher's
    /// width; empty without feature distillation.
    pub fn new(
        largest: &VitArch,
        decoder: DecoderShape,
        projectors: &[f64],
        teacher_width: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut layout = Layout::default();
        let encoder = Encoder::declare(&mut layout, largest);
        let pixels = 3 * largest.patch * largest.patch;
        let decoder = Decoder::declare(&mut layout, decoder, largest.embed, largest.patches(), pixels);
        let projectors = projectors
            .iter()
            .enumerate()
            .map(|(i, share)| {
                let shape = [largest.embed, teacher_width];
                (*share, Linear::declare(&mut layout, &format!("projector.{i}"), shape))
            })
            .collect();
        Self { params: Params::new(layout, seed, device), encoder, decoder, projectors }
    }

    /// Encodes the seen patches with the subnet `arch`, and projects them when `project` is set.
    pub fn encode(&self, leaves: &Leaves, arch: &VitArch, visible: &Visible, project: bool) -> Encoded {
        let projectors = if project { self.projectors.as_slice() } else { &[] };
        let depth = arch.blocks.len();
        let taps: Vec<usize> = projectors.iter().map(|(share, _)| block_at(*share, depth)).collect();
        let (tokens, tapped) = self.encoder.encode_with(leaves, arch, visible, &taps, None);
        let projected = projectors
            .iter()
            .zip(taps.iter().zip(tapped))
            .map(|((_, projector), (block, tap))| {
                // The last block is read after the final norm: that is what deployed features are.
                let tap = if *block == depth { tokens.clone() } else { tap };
                let width = self.params.shape(projector.weight)[1];
                match leaves.host() {
                    Some(host) => ops::tail(host, None, *projector, tap, 1, width),
                    None => projector.apply(leaves, without_class(tap), width),
                }
            })
            .collect();
        Encoded { tokens, projected }
    }

    /// Guesses the masked patches: `[batch, masked, pixels]`.
    pub fn decode(&self, leaves: &Leaves, encoded: &Encoded, batch: &MaskedBatch) -> Tensor<3> {
        self.decoder.decode(leaves, encoded.tokens.clone(), batch)
    }

    /// What training the subnet `arch` touches: encoder, decoder and projector slices.
    pub fn regions(&self, arch: &VitArch) -> Vec<(Slot, Region)> {
        let mut regions = self.encoder.regions(arch);
        regions.extend(self.decoder.regions(arch.embed, arch.patches()));
        for (_, projector) in &self.projectors {
            let width = self.params.shape(projector.weight)[1];
            regions.extend(projector.region([arch.embed, width]));
        }
        regions
    }
}
