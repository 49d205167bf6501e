//! Writes a vision transformer with random weights as an ONNX file, for benches:
//! `write_vit vit-micro|vit-tiny|deit-tiny FILE [BATCH]`.
//!
//! `vit-micro` is the largest member of the search space of that name; `vit-tiny` has 192 channels, 12 blocks and
//! 4 x 4 patches of 32 x 32 images; `deit-tiny` the same blocks on 16 x 16 patches of 224 x 224 images.

use masktas_export::arch::VitBlock;
use masktas_export::{Arch, Batch, LowerOptions, VitArch, Weights, lower, onnx};

fn vit(image: usize, patch: usize, embed: usize, head_dim: usize, depth: usize, block: VitBlock) -> Arch {
    Arch::Vit(VitArch { image, patch, embed, head_dim, blocks: vec![block; depth], relative: None })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: write_vit vit-micro|vit-tiny|deit-tiny FILE [BATCH]";
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or(usage)?;
    let path = arguments.next().ok_or(usage)?;
    let batch: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let tiny = VitBlock { heads: 3, hidden: 768 };
    let arch = match name.as_str() {
        "vit-micro" => vit(32, 4, 160, 32, 8, VitBlock { heads: 4, hidden: 640 }),
        "vit-tiny" => vit(32, 4, 192, 64, 12, tiny),
        "deit-tiny" => vit(224, 16, 192, 64, 12, tiny),
        _ => return Err(usage.into()),
    };
    let options = LowerOptions { batch: Batch::Fixed(batch), ..LowerOptions::default() };
    let graph = lower(&arch, Some(&Weights::random(&arch, None, 0)?), &options)?;
    std::fs::write(&path, onnx::write(&graph)?)?;
    println!("{path}: {:.1} MFLOP an image, {} parameters", arch.flops() as f64 / 1e6, arch.parameters(None));
    Ok(())
}
