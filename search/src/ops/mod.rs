//! The two branches of a transformer block as single operations on the CPU, forward and backward.
//!
//! burn's flex backend computes a block as some forty tensor operations, each of which reads and writes memory once
//! more; slices of super weights are copied, and their gradients are written into zeros of full size. Here a branch is
//! one node of the gradient graph: products read the super weights where they lie, and whatever is cheap to compute
//! again is not kept. Other backends use the plain composition in `supernet::block`, which is also what these
//! operations are tested against.
//!
//! | file | what |
//! | --- | --- |
//! | `attention.rs`, `feed_forward.rs` | the branches |
//! | `linear.rs`, `norm.rs`, `gelu.rs` | their parts |
//! | `product.rs`, `vector.rs` | matrix products and vector loops |
//!
//! Everything runs on one thread: a batch is dealt to lanes, one a core (`train::Lanes`).

mod attention;
mod feed_forward;
mod gelu;
mod linear;
mod node;
mod norm;
mod product;
mod vector;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use crate::supernet::block::{Block, BlockShape};
use crate::supernet::params::Leaves;

/// Whether the operations here serve tensors on this device.
pub(crate) fn serves(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// `proj(softmax(q k / sqrt(d)) v)` of the normed `x`, `[images, tokens, embed]`, without the residual.
pub(crate) fn attention(block: &Block, leaves: &Leaves, x: Tensor<3>, shape: BlockShape) -> Tensor<3> {
    let leaf = |slot| leaves.get(slot).clone().into_dispatch();
    let out = <Dispatch as node::BlockOps>::attention_branch(
        x.into_dispatch(),
        leaf(block.norm1.gain),
        leaf(block.norm1.bias),
        leaf(block.q.weight),
        leaf(block.q.bias),
        leaf(block.k.weight),
        leaf(block.k.bias),
        leaf(block.v.weight),
        leaf(block.v.bias),
        leaf(block.proj.weight),
        leaf(block.proj.bias),
        shape.heads,
        shape.head_dim,
    );
    Tensor::from_dispatch(out)
}

/// `fc2(gelu(fc1(.)))` of the normed `x`, `[images, tokens, embed]`, without the residual.
pub(crate) fn feed_forward(block: &Block, leaves: &Leaves, x: Tensor<3>, shape: BlockShape) -> Tensor<3> {
    let leaf = |slot| leaves.get(slot).clone().into_dispatch();
    let out = <Dispatch as node::BlockOps>::feed_forward_branch(
        x.into_dispatch(),
        leaf(block.norm2.gain),
        leaf(block.norm2.bias),
        leaf(block.fc1.weight),
        leaf(block.fc1.bias),
        leaf(block.fc2.weight),
        leaf(block.fc2.bias),
        shape.hidden,
    );
    Tensor::from_dispatch(out)
}

#[cfg(test)]
mod tests;
