//! Random small vision transformers.

use masktas_export::{Batch, Head, LowerOptions, VitArch, VitBlock};
use proptest::prelude::*;

pub fn arch() -> impl Strategy<Value = VitArch> {
    let block = (1usize..4, 1usize..20).prop_map(|(heads, hidden)| VitBlock { heads, hidden });
    let relative = prop_oneof![Just(None), (1usize..4).prop_map(Some)];
    (1usize..4, 1usize..5, 1usize..13, 1usize..9, prop::collection::vec(block, 0..4), relative).prop_map(
        |(grid, patch, embed, head_dim, blocks, relative)| VitArch {
            image: grid * patch,
            patch,
            embed,
            head_dim,
            blocks,
            relative,
        },
    )
}

pub fn options() -> impl Strategy<Value = LowerOptions> {
    let batch = prop_oneof![Just(Batch::Dynamic), (1usize..4).prop_map(Batch::Fixed)];
    let head =
        prop_oneof![Just(Head::Features), (1usize..6).prop_map(|classes| Head::Classifier { classes })];
    (batch, head, prop::sample::select(vec![17i64, 20, 23])).prop_map(|(batch, head, opset)| LowerOptions {
        batch,
        head,
        opset,
    })
}
