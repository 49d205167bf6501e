//! Floating-point operations of one training step, two for each multiply-add of a matrix product.
//!
//! Norms, activations, losses and the optimiser are not counted: they are what a step pays beside its products.

use masktas_export::VitArch;
use masktas_search::supernet::DecoderShape;

/// Patches of one masked image.
#[derive(Clone, Copy)]
pub struct Patches {
    /// Seen by the encoder.
    pub seen: usize,
    /// To be guessed.
    pub masked: usize,
}

/// FLOPs per image of one step: the teacher looks once, each subnet goes forward and backward.
pub fn step(
    subnets: &[VitArch],
    teacher: &VitArch,
    taps: usize,
    decoder: DecoderShape,
    patches: Patches,
) -> usize {
    let subnet = |arch: &VitArch| {
        let forward = encoder(arch, patches.seen)
            + decode(decoder, arch, patches)
            + taps * linear(patches.seen, arch.embed, teacher.embed);
        // A backward pass is two products for each of the forward pass; pixels need no gradient.
        3 * forward - stem(arch, patches.seen)
    };
    encoder(teacher, patches.seen) + subnets.iter().map(subnet).sum::<usize>()
}

fn linear(rows: usize, input: usize, output: usize) -> usize {
    2 * rows * input * output
}

fn stem(arch: &VitArch, seen: usize) -> usize {
    linear(seen, 3 * arch.patch * arch.patch, arch.embed)
}

/// A block that looks at `tokens` and answers for the last of them.
fn block(tokens: usize, last: usize, embed: usize, attention: usize, hidden: usize) -> usize {
    linear(tokens, embed, 2 * attention)
        + 2 * linear(last, attention, embed)
        + 2 * linear(last, embed, hidden)
        + 2 * linear(last, attention, tokens)
}

fn encoder(arch: &VitArch, seen: usize) -> usize {
    let tokens = seen + 1;
    let blocks = arch
        .blocks
        .iter()
        .map(|one| block(tokens, tokens, arch.embed, one.heads * arch.head_dim, one.hidden));
    stem(arch, seen) + blocks.sum::<usize>()
}

fn decode(shape: DecoderShape, arch: &VitArch, patches: Patches) -> usize {
    let tokens = patches.seen + 1 + patches.masked;
    let block = |last: usize| block(tokens, last, shape.width, shape.width, 4 * shape.width);
    linear(patches.seen + 1, arch.embed, shape.width)
        + (shape.depth - 1) * block(tokens)
        + block(patches.masked)
        + linear(patches.masked, shape.width, 3 * arch.patch * arch.patch)
}
