//! The parts of a masked autoencoder as single operations on the CPU, forward and backward.
//!
//! burn's flex backend computes a block as some forty tensor operations, each of which reads and writes memory once
//! more; slices of super weights are copied, and their gradients are written into zeros of full size. Here a branch of a
//! block is one node of the gradient graph: products read the super weights where they lie and add their gradients
//! where these belong. Other backends use the plain composition in `supernet` and `objective::terms`, which is also
//! what these operations are tested against.
//!
//! | file | what |
//! | --- | --- |
//! | `attention.rs`, `feed_forward.rs`, `residual.rs` | the branches of a block |
//! | `places.rs` | patches to tokens, encoder's tokens to decoder's |
//! | `tail.rs` | last rows of each image through a linear layer: projectors, guess |
//! | `loss.rs` | the terms of the loss |
//! | `optimizer.rs` | AdamW |
//! | `linear.rs`, `norm.rs`, `gelu.rs`, `last_rows.rs` | their parts |
//! | `precision.rs` | what products read: f32, bf16, f16 |
//! | `product.rs`, `bf16.rs`, `vector.rs` | matrix products and vector loops |
//! | `node.rs`, `host.rs` | how all of that is tied to burn's graph and tensors |
//!
//! Everything runs on one thread: a batch is dealt to lanes, one a core (`train::Lanes`).

mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod calls;
mod feed_forward;
mod gelu;
mod host;
mod last_rows;
mod linear;
mod loss;
mod node;
mod norm;
pub(crate) mod optimizer;
mod places;
mod precision;
mod product;
mod residual;
mod tail;
mod vector;

pub(crate) use calls::{
    Join, attention, embed, feed_forward, join, norm_of, pixel, relation, relation_each, smooth_l1, tail,
};
pub(crate) use host::{Host, Sums, change, flex};
pub use precision::{Precision, bf16_available};
pub(crate) use product::{Onto, View, fresh, product};
pub use product::{ProductRate, product_rate};

use std::sync::OnceLock;

use burn::tensor::Device;

use crate::device::is_cpu;

/// Whether the operations here serve tensors on this device. With `MASKTAS_PLAIN=1` in the environment none does: for
/// comparing them with the plain composition over a whole training.
pub(crate) fn serves(device: &Device) -> bool {
    !plain() && is_cpu(device)
}

/// Whether the environment asks for burn's own operations. A run notes it, as results differ by rounding.
pub(crate) fn plain() -> bool {
    static PLAIN: OnceLock<bool> = OnceLock::new();
    *PLAIN.get_or_init(|| std::env::var_os("MASKTAS_PLAIN").is_some_and(|value| value == "1"))
}

#[cfg(test)]
mod tests;
