//! The parameters of a network, by their timm/MAE names.

use std::collections::BTreeMap;

use masktas_runtime::Tensor;

/// Named parameters in PyTorch layout (`[out, in]`), in timm/MAE naming: `patch_embed.proj.weight`,
/// `cls_token`, `pos_embed`, `blocks.0.attn.qkv.weight` (rows: all of q, then k, then v), `norm.weight`,
/// `head.weight`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}
