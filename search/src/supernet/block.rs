//! One transformer block, shared by the supernet, the teacher, the decoder and extracted subnets.

use burn::tensor::IndexingUpdateOp;
use burn::tensor::{Int, Tensor, activation, module};
use masktas_export::arch::NORM_EPSILON;

use super::params::{Init, Layout, Leaves, Region, Slot};
use crate::ops;

/// A linear layer's weight `[in, out]` and bias `[1, out]`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    pub(crate) weight: Slot,
    pub(crate) bias: Slot,
}

impl Linear {
    pub(crate) fn declare(layout: &mut Layout, name: &str, shape: Region) -> Self {
        Self {
            weight: layout.weight(format!("{name}.weight"), shape, Init::Xavier),
            bias: layout.vector(format!("{name}.bias"), [1, shape[1]], Init::Zero),
        }
    }

    /// `x · W[..in, ..out] + b[..out]` over the last axis of `x`.
    pub(crate) fn apply(self, leaves: &Leaves, x: Tensor<3>, out: usize) -> Tensor<3> {
        let [_, _, input] = x.dims();
        leaves.linear(x, leaves.matrix(self.weight, [input, out]), leaves.vector(self.bias, out))
    }

    pub(crate) fn region(self, shape: Region) -> [(Slot, Region); 2] {
        [(self.weight, shape), (self.bias, [1, shape[1]])]
    }
}

/// A layer norm's gain and bias, both `[1, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub(crate) gain: Slot,
    pub(crate) bias: Slot,
}

impl Norm {
    pub(crate) fn declare(layout: &mut Layout, name: &str, width: usize) -> Self {
        Self {
            gain: layout.vector(format!("{name}.weight"), [1, width], Init::One),
            bias: layout.vector(format!("{name}.bias"), [1, width], Init::Zero),
        }
    }

    pub(crate) fn apply(self, leaves: &Leaves, x: Tensor<3>) -> Tensor<3> {
        if let Some(host) = leaves.host() {
            return ops::norm_of(host, self, x);
        }
        self.composed(leaves, x)
    }

    /// The norm as burn has it.
    fn composed(self, leaves: &Leaves, x: Tensor<3>) -> Tensor<3> {
        let [_, _, width] = x.dims();
        let (gain, bias) = (leaves.vector(self.gain, width), leaves.vector(self.bias, width));
        module::layer_norm(x, gain, Some(bias), f64::from(NORM_EPSILON))
    }

    pub(crate) fn region(self, width: usize) -> [(Slot, Region); 2] {
        [(self.gain, [1, width]), (self.bias, [1, width])]
    }
}

/// Widths of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Residual width.
    pub embed: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Hidden width of the feed-forward part.
    pub hidden: usize,
    /// Rows of a relative position table, 0 for none.
    pub relative_rows: usize,
}

/// Slots of one block.
#[derive(Clone, Debug)]
pub struct Block {
    pub(crate) norm1: Norm,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) proj: Linear,
    pub(crate) norm2: Norm,
    pub(crate) fc1: Linear,
    pub(crate) fc2: Linear,
    pub(crate) relative: Option<RelativeTables>,
}

/// Relative position tables, each `[rows, head_dim]`, shared by the heads.
#[derive(Clone, Copy, Debug)]
pub struct RelativeTables {
    pub(crate) k_vertical: Slot,
    pub(crate) k_horizontal: Slot,
    pub(crate) v_vertical: Slot,
    pub(crate) v_horizontal: Slot,
}

/// For each pair of tokens, the rows of the vertical and horizontal tables: `[1 or batch, tokens, tokens]`.
#[derive(Clone, Debug)]
pub struct RelativeRows {
    /// Rows of the vertical tables.
    pub vertical: Tensor<3, Int>,
    /// Rows of the horizontal tables.
    pub horizontal: Tensor<3, Int>,
}

impl Block {
    pub(crate) fn declare(layout: &mut Layout, name: &str, shape: BlockShape) -> Self {
        let attention = shape.heads * shape.head_dim;
        let mut linear = |part: &str, shape| Linear::declare(layout, &format!("{name}.{part}"), shape);
        let q = linear("attn.q", [shape.embed, attention]);
        let k = linear("attn.k", [shape.embed, attention]);
        let v = linear("attn.v", [shape.embed, attention]);
        let proj = linear("attn.proj", [attention, shape.embed]);
        let fc1 = linear("mlp.fc1", [shape.embed, shape.hidden]);
        let fc2 = linear("mlp.fc2", [shape.hidden, shape.embed]);
        let norm1 = Norm::declare(layout, &format!("{name}.norm1"), shape.embed);
        let norm2 = Norm::declare(layout, &format!("{name}.norm2"), shape.embed);
        let relative = (shape.relative_rows > 0).then(|| {
            let table = [shape.relative_rows, shape.head_dim];
            let mut declare = |part: &str| {
                let name = format!("{name}.attn.rel_pos_embed_{part}");
                layout.vector(name, table, Init::Normal(0.02))
            };
            RelativeTables {
                k_vertical: declare("k.embeddings_table_v"),
                k_horizontal: declare("k.embeddings_table_h"),
                v_vertical: declare("v.embeddings_table_v"),
                v_horizontal: declare("v.embeddings_table_h"),
            }
        });
        Self { norm1, q, k, v, proj, norm2, fc1, fc2, relative }
    }

    /// What a block of `shape` uses of each parameter.
    pub(crate) fn regions(&self, shape: BlockShape) -> Vec<(Slot, Region)> {
        let attention = shape.heads * shape.head_dim;
        let mut regions = Vec::new();
        regions.extend(self.norm1.region(shape.embed));
        for linear in [self.q, self.k, self.v] {
            regions.extend(linear.region([shape.embed, attention]));
        }
        regions.extend(self.proj.region([attention, shape.embed]));
        regions.extend(self.norm2.region(shape.embed));
        regions.extend(self.fc1.region([shape.embed, shape.hidden]));
        regions.extend(self.fc2.region([shape.hidden, shape.embed]));
        if let Some(tables) = self.relative {
            for slot in [tables.k_vertical, tables.k_horizontal, tables.v_vertical, tables.v_horizontal] {
                regions.push((slot, [shape.relative_rows, shape.head_dim]));
            }
        }
        regions
    }

    /// `[batch, tokens, embed]` to the same. `path` scales the two residual branches, image by image.
    pub(crate) fn apply(
        &self,
        leaves: &Leaves,
        x: Tensor<3>,
        shape: BlockShape,
        rows: Option<&RelativeRows>,
        path: Option<&[Tensor<3>; 2]>,
    ) -> Tensor<3> {
        let factors =
            |i: usize| path.and_then(|scales| ops::flex(&scales[i])?.as_slice::<f32>().map(<[f32]>::to_vec));
        let along = |x: Tensor<3>, branch: Tensor<3>, i: usize| match path {
            Some(scales) => x + branch * scales[i].clone(),
            None => x + branch,
        };
        // On the CPU each branch is one operation; elsewhere, and with relative positions, it is composed of many.
        let x = match (leaves.host(), rows) {
            (Some(host), None) => ops::attention(host, self, x, 0, shape, factors(0)),
            _ => along(x.clone(), self.attention(leaves, x, 0, shape, rows), 0),
        };
        match leaves.host() {
            Some(host) => ops::feed_forward(host, self, x, shape, factors(1)),
            None => along(x.clone(), self.feed_forward(leaves, x, shape), 1),
        }
    }

    /// As [`Block::apply`] for the tokens from `skip` on, which look at all: `[batch, tokens - skip, embed]`.
    pub(crate) fn apply_to_last(
        &self,
        leaves: &Leaves,
        x: Tensor<3>,
        skip: usize,
        shape: BlockShape,
    ) -> Tensor<3> {
        match leaves.host() {
            Some(host) => {
                let x = ops::attention(host, self, x, skip, shape, None);
                ops::feed_forward(host, self, x, shape, None)
            }
            None => {
                let x = last_of(x.clone(), skip) + self.attention(leaves, x, skip, shape, None);
                x.clone() + self.feed_forward(leaves, x, shape)
            }
        }
    }

    /// The feed-forward branch, composed of tensor operations.
    pub(crate) fn feed_forward(&self, leaves: &Leaves, x: Tensor<3>, shape: BlockShape) -> Tensor<3> {
        let hidden = self.fc1.apply(leaves, self.norm2.composed(leaves, x), shape.hidden);
        self.fc2.apply(leaves, gelu(hidden), shape.embed)
    }

    /// The attention branch for the tokens from `skip` on, composed of tensor operations. Relative positions are those
    /// of all tokens.
    pub(crate) fn attention(
        &self,
        leaves: &Leaves,
        x: Tensor<3>,
        skip: usize,
        shape: BlockShape,
        rows: Option<&RelativeRows>,
    ) -> Tensor<3> {
        let x = self.norm1.composed(leaves, x);
        let (heads, width) = (shape.heads, shape.head_dim);
        let asking = last_of(x.clone(), skip);
        let [batch, tokens, _] = asking.dims();
        let split = |linear: Linear, x: Tensor<3>| {
            let [_, tokens, _] = x.dims();
            linear.apply(leaves, x, heads * width).reshape([batch, tokens, heads, width]).swap_dims(1, 2)
        };
        let q = split(self.q, asking) * (width as f64).powf(-0.5);
        let k = split(self.k, x.clone());
        let v = split(self.v, x);
        let mut logits = leaves.product(q.clone(), k.swap_dims(2, 3));
        let relative = self.relative.zip(rows);
        if let Some((tables, rows)) = relative {
            for (slot, rows) in [(tables.k_vertical, &rows.vertical), (tables.k_horizontal, &rows.horizontal)]
            {
                let table = leaves.get(slot).clone().transpose().unsqueeze::<4>();
                logits = logits + q.clone().matmul(table).gather(3, per_head(rows, batch, heads));
            }
        }
        let weights = activation::softmax(logits, 3);
        let mut mixed = leaves.product(weights.clone(), v);
        if let Some((tables, rows)) = relative {
            for (slot, rows) in [(tables.v_vertical, &rows.vertical), (tables.v_horizontal, &rows.horizontal)]
            {
                let table = leaves.get(slot).clone();
                let bins = Tensor::zeros([batch, heads, tokens, shape.relative_rows], &table.device());
                let rows = per_head(rows, batch, heads);
                let bins = bins.scatter(3, rows, weights.clone(), IndexingUpdateOp::Add);
                mixed = mixed + bins.matmul(table.unsqueeze::<4>());
            }
        }
        let mixed = mixed.swap_dims(1, 2).reshape([batch, tokens, heads * width]);
        self.proj.apply(leaves, mixed, shape.embed)
    }
}

/// Tokens from `skip` on.
fn last_of(x: Tensor<3>, skip: usize) -> Tensor<3> {
    let [batch, tokens, width] = x.dims();
    if skip == 0 { x } else { x.slice([0..batch, skip..tokens, 0..width]) }
}

/// By its definition: burn's own takes its gradient from the tanh approximation on some backends.
fn gelu(x: Tensor<3>) -> Tensor<3> {
    let share = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * share * 0.5
}

fn per_head(rows: &Tensor<3, Int>, batch: usize, heads: usize) -> Tensor<4, Int> {
    let [_, tokens, _] = rows.dims();
    rows.clone().unsqueeze_dim::<4>(1).expand([batch, heads, tokens, tokens])
}
