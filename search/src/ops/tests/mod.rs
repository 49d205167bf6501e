//! Every operation against its composition of tensor operations (`composition.rs`), and its gradients against
//! differences of a plain reference in f64 (`differences.rs`, `plain.rs`).

mod composition;
mod differences;
pub(in crate::ops) mod plain;
mod products;

use crate::rand::{Draw, stream};
use crate::supernet::block::BlockShape;

/// Normal numbers, the same ones for a name.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let mut rng = stream(5, name, 0);
    (0..count).map(|_| rng.normal() as f32).collect()
}

const fn shape(embed: usize, heads: usize, head_dim: usize, hidden: usize) -> BlockShape {
    BlockShape { embed, heads, head_dim, hidden, relative_rows: 0 }
}

/// Super blocks with members of them: odd sizes, and the corners of `vit-micro` and `vit-tiny`.
const FAMILIES: [(BlockShape, &[BlockShape]); 3] = [
    (
        shape(40, 4, 8, 75),
        &[shape(40, 4, 8, 75), shape(24, 1, 8, 33), shape(40, 3, 8, 17), shape(17, 4, 8, 75)],
    ),
    (
        shape(160, 4, 32, 640),
        &[
            shape(160, 4, 32, 640),
            shape(96, 2, 32, 192),
            shape(96, 4, 32, 192),
            shape(96, 2, 32, 384),
            shape(96, 4, 32, 384),
            shape(160, 2, 32, 320),
            shape(160, 4, 32, 320),
            shape(160, 2, 32, 640),
        ],
    ),
    (
        shape(192, 3, 64, 768),
        &[
            shape(192, 3, 64, 768),
            shape(144, 2, 64, 432),
            shape(144, 3, 64, 432),
            shape(144, 2, 64, 576),
            shape(144, 3, 64, 576),
            shape(192, 2, 64, 576),
            shape(192, 3, 64, 576),
            shape(192, 2, 64, 768),
        ],
    ),
];
