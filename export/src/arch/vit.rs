//! The vision transformer family.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Added to the variance in every normalisation, as in the MAE and timm reference models.
pub const NORM_EPSILON: f32 = 1e-6;

/// A pre-norm vision transformer with a class token, learned positions, GELU (erf form) and mean
/// pooling of the patch tokens after the last norm.
///
/// Head width is fixed, so the attention width is `heads * head_dim` whatever the embedding width
/// is (AutoFormer's `change_qkv`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitArch {
    /// Side of the square input image, in pixels.
    pub image: usize,
    /// Side of a square patch, in pixels; divides `image`.
    pub patch: usize,
    /// Residual width.
    pub embed: usize,
    /// Width of one attention head.
    pub head_dim: usize,
    /// Blocks, first to last.
    pub blocks: Vec<VitBlock>,
    /// Relative position tables for keys and values, clipped at this distance in patches; `None`: no tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<usize>,
}

/// One transformer block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitBlock {
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    pub hidden: usize,
}

impl VitArch {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image / self.patch
    }

    /// Patch tokens, without the class token.
    pub fn patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Tokens, with the class token.
    pub fn tokens(&self) -> usize {
        self.patches() + 1
    }

    /// Rows of one relative position table: offsets `-clip..=clip` and one row for the class token.
    pub fn relative_rows(clip: usize) -> usize {
        2 * clip + 2
    }

    /// Parameters of the encoder, plus a linear classifier when `classes` is given.
    ///
    /// Closed formula of AutoFormer; its three published nets are test vectors.
    pub fn parameters(&self, classes: Option<usize>) -> u64 {
        let d = self.embed as u64;
        let stem = 3 * (self.patch * self.patch) as u64 * d + d;
        let tokens = d * (self.tokens() as u64 + 1);
        let relative = self.relative.map_or(0, |clip| 4 * (Self::relative_rows(clip) * self.head_dim) as u64);
        let blocks: u64 = self
            .blocks
            .iter()
            .map(|block| {
                let q = (block.heads * self.head_dim) as u64;
                let m = block.hidden as u64;
                3 * q * d + 3 * q + q * d + d + 2 * d * m + m + d + 4 * d + relative
            })
            .sum();
        let head = classes.map_or(0, |c| (d + 1) * c as u64);
        stem + tokens + blocks + 2 * d + head
    }

    /// FLOPs of the encoder on one image: two for each multiply-add of the patch convolution and of
    /// every matrix product, as lowered (products with relative tables included), and nothing for
    /// the rest. Half of it is what papers print as "GFLOPs". A classifier adds `2 * embed * classes`.
    /// Cannot overflow for an architecture that passes [`VitArch::check`].
    pub fn flops(&self) -> u64 {
        let (d, n, t) = (self.embed as u64, self.patches() as u64, self.tokens() as u64);
        let stem = 3 * (self.patch * self.patch) as u64 * d * n;
        // Both tables side by side; see `lower::relative_bucket`.
        let rows = self.relative.map_or(0, |clip| 2 * Self::relative_rows(clip) as u64);
        let blocks: u64 = self
            .blocks
            .iter()
            .map(|block| {
                let (h, m) = (block.heads as u64, block.hidden as u64);
                let q = h * self.head_dim as u64;
                let projections = t * d * 4 * q + t * 2 * d * m;
                let attention = 2 * t * t * q;
                let relative = 2 * (t * q * rows + h * t * t * rows);
                projections + attention + relative
            })
            .sum();
        2 * (stem + blocks)
    }

    /// Checks that the numbers describe a network that can be built without overflow.
    ///
    /// # Errors
    /// [`Error::InvalidArch`] naming the field, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        let within = |what: &str, got: usize, least: usize, most: usize| {
            if (least..=most).contains(&got) {
                return Ok(());
            }
            let want = format!("{least} to {most}");
            Err(Error::InvalidArch { what: what.to_owned(), got: got as u64, want })
        };
        within("the image side in pixels", self.image, 1, 1 << 14)?;
        within("the patch side in pixels", self.patch, 1, self.image)?;
        if !self.image.is_multiple_of(self.patch) {
            let want = format!("a divisor of the image side {}", self.image);
            return Err(Error::InvalidArch {
                what: "the patch side in pixels".into(),
                got: self.patch as u64,
                want,
            });
        }
        within("the number of tokens", self.tokens(), 2, 1 << 16)?;
        within("the embedding width", self.embed, 1, 1 << 14)?;
        within("the head width", self.head_dim, 1, 1 << 10)?;
        within("the number of blocks", self.blocks.len(), 0, 1 << 10)?;
        for (index, block) in self.blocks.iter().enumerate() {
            within(&format!("the number of heads of block {index}"), block.heads, 1, 1 << 8)?;
            within(&format!("the hidden width of block {index}"), block.hidden, 1, 1 << 16)?;
        }
        self.relative.map_or(Ok(()), |clip| within("the clip of relative positions", clip, 1, 1 << 9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(embed: usize, ratios: &[f64], heads: &[usize]) -> u64 {
        let blocks = ratios.iter().zip(heads);
        let blocks =
            blocks.map(|(r, h)| VitBlock { heads: *h, hidden: (embed as f64 * r) as usize }).collect();
        let arch = VitArch { image: 224, patch: 16, embed, head_dim: 64, blocks, relative: Some(14) };
        arch.parameters(Some(1000))
    }

    /// A field that this version does not know changes what the network is, so it is refused.
    #[test]
    fn json_names_the_family_and_nothing_unknown() {
        let json = r#"{"family":"vit","image":32,"patch":4,"embed":96,"head_dim":32,"blocks":[{"heads":2,"hidden":192}]}"#;
        let arch: crate::Arch = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&arch).unwrap(), json);
        let refused =
            serde_json::from_str::<crate::Arch>(&json.replace("\"embed\"", "\"distil\":1,\"embed\""));
        assert!(refused.unwrap_err().to_string().contains("distil"));
        let refused =
            serde_json::from_str::<crate::Arch>(&json.replace("\"heads\"", "\"groups\":1,\"heads\""));
        assert!(refused.unwrap_err().to_string().contains("groups"));
    }

    /// The three nets AutoFormer released, with their published sizes (5.8, 22.9 and 53.7 M).
    #[test]
    fn parameters_of_the_published_nets() {
        let tiny = published(
            192,
            &[3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5],
            &[3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3],
        );
        let small = published(
            384,
            &[3.0, 3.5, 3.0, 3.5, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.5, 4.0],
            &[6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7],
        );
        let base = published(
            576,
            &[3.5, 3.5, 4.0, 3.5, 4.0, 3.5, 3.5, 3.0, 4.0, 4.0, 3.0, 4.0, 3.0, 3.5],
            &[9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10],
        );
        assert_eq!([tiny, small, base], [5_867_944, 22_891_432, 53_691_688]);
    }
}
