//! Relative positions in two dimensions (AutoFormer, Chen et al. 2021, after Shaw et al. 2018).

use std::sync::Arc;

use masktas_runtime::{Dtype, Tensor};

use crate::arch::VitArch;
use crate::error::{Error, Result};

/// Rows `(vertical, horizontal)` of the relative tables for query token `query` and key token `key`.
///
/// Token 0 is the class token; token `1 + r * grid + c` is the patch in row `r` and column `c`. A pair
/// with a class token in it uses row 0 of both tables. Any other pair uses the offset of the key from
/// the query, `key - query`, in rows for the vertical and in columns for the horizontal table, clipped
/// to `-clip..=clip`, plus `clip + 1`. So each table has `2 * clip + 2` rows. Tables are shared by the heads
/// of a block; with scale `s = head_dim^-0.5` and attention weights `a`,
///
/// ```text
/// logit(i, j) = s * q_i · (k_j + Kv[v] + Kh[h])        (v, h) = relative_bucket(grid, clip, i, j)
/// out(i)      = Σ_j a(i, j) * (v_j + Vv[v] + Vh[h])
/// ```
///
/// where `Kv` is `rel_pos_embed_k.embeddings_table_v`, `Vh` is `rel_pos_embed_v.embeddings_table_h`, and so on.
pub fn relative_bucket(grid: usize, clip: usize, query: usize, key: usize) -> (usize, usize) {
    let (Some(query), Some(key)) = (query.checked_sub(1), key.checked_sub(1)) else {
        return (0, 0);
    };
    let grid = grid.max(1);
    // The offset is clipped first, so that the sum cannot be negative.
    let row = |from: usize, to: usize| (to + clip + 1).saturating_sub(from).clamp(1, 2 * clip + 1);
    (row(query / grid, key / grid), row(query % grid, key % grid))
}

/// The two-hot tensor `[tokens, tokens, 2 * rows]` that picks table rows by matrix products: entry
/// `(i, j, v)` and `(i, j, rows + h)` are one for `(v, h) = relative_bucket(grid, clip, i, j)`, so its
/// last axis goes with the vertical table stacked on the horizontal one.
pub(super) fn two_hot(arch: &VitArch, clip: usize, filled: bool) -> Result<Tensor> {
    let (tokens, rows) = (arch.tokens(), VitArch::relative_rows(clip));
    let shape = vec![tokens, tokens, 2 * rows];
    if !filled {
        return Ok(Tensor::unset(shape, Dtype::F32));
    }
    // Within u64, because `VitArch::check` bounds tokens and clip.
    let (bytes, limit) = ((tokens * tokens * 2 * rows * 4) as u64, i32::MAX as u64);
    if bytes > limit {
        return Err(Error::TooLarge { what: "the tensor of relative positions".into(), got: bytes, limit });
    }
    let mut values = vec![0.0f32; tokens * tokens * 2 * rows];
    for (pair, hot) in values.chunks_exact_mut(2 * rows).enumerate() {
        let (v, h) = relative_bucket(arch.grid(), clip, pair / tokens, pair % tokens);
        for index in [v, rows + h] {
            if let Some(value) = hot.get_mut(index) {
                *value = 1.0;
            }
        }
    }
    Ok(Tensor::f32(shape, Arc::<[f32]>::from(values))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against signed arithmetic written out, over a whole grid.
    #[test]
    fn buckets_by_hand() {
        let (grid, clip) = (5usize, 2i64);
        assert_eq!(relative_bucket(grid, clip as usize, 0, 3), (0, 0));
        assert_eq!(relative_bucket(grid, clip as usize, 3, 0), (0, 0));
        for query in 0..25i64 {
            for key in 0..25i64 {
                let offset = |f: fn(i64) -> i64| (f(key) - f(query)).clamp(-clip, clip) + clip + 1;
                let want = (offset(|t| t / 5) as usize, offset(|t| t % 5) as usize);
                assert_eq!(relative_bucket(grid, clip as usize, query as usize + 1, key as usize + 1), want);
            }
        }
        // A patch and its right neighbour: same row, one column on.
        assert_eq!(relative_bucket(5, 2, 1, 2), (3, 4));
        assert_eq!(relative_bucket(5, 2, 2, 1), (3, 2));
    }
}
