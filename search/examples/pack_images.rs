//! Packs a folder of images into one file, small enough to travel inside the binary.
//!
//! `cargo run --release -p masktas-search --example pack_images -- FOLDER OUT [SIDE] [QUALITY]`
//!
//! Every image is decoded as the search decodes it, resized with a Lanczos filter until its shorter
//! side is SIDE px (64), and written as a JPEG of QUALITY (82). Folders keep their names; files are
//! numbered within their folder in the order of their old names. The format of the pack is described
//! in `search/src/images/embedded.rs`. The same folder gives the same pack.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use masktas_search::images::{PACK_MAGIC, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, options @ ..] = arguments.as_slice() else {
        return Err("usage: pack_images FOLDER OUT [SIDE] [QUALITY]".into());
    };
    let side: u32 = options.first().map_or(Ok(64), |s| s.parse())?;
    let quality: u8 = options.get(1).map_or(Ok(82), |q| q.parse())?;

    let root = Path::new(folder);
    let mut files = Vec::new();
    list(root, &mut files)?;
    files.sort();
    let mut resizer = Resizer::new();
    let mut numbers: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let (mut index, mut data) = (format!("{PACK_MAGIC}\n"), Vec::new());
    for file in &files {
        let jpeg =
            shrink(file, side, quality, &mut resizer).map_err(|e| format!("{}: {e}", file.display()))?;
        let parent = file.parent().unwrap_or(root).strip_prefix(root)?.to_path_buf();
        let number = numbers.entry(parent.clone()).or_default();
        index += &format!("{} {}/{number:03}.jpg\n", jpeg.len(), parent.display());
        *number += 1;
        data.extend(jpeg);
    }
    index.push('\n');
    let mut pack = index.into_bytes();
    pack.extend(data);
    fs::write(out, &pack)?;
    eprintln!("{} images, {} bytes: {out}", files.len(), pack.len());
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "jpg" || e == "png" || e == "webp") {
            files.push(path);
        }
    }
    Ok(())
}

fn shrink(file: &Path, side: u32, quality: u8, resizer: &mut Resizer) -> Result<Vec<u8>, Box<dyn Error>> {
    let picture = decode::decode_file(file)?;
    let (width, height) = (picture.width, picture.height);
    let scale = f64::from(side) / f64::from(width.min(height));
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let source = ImageRef::new(width, height, &picture.rgb, PixelType::U8x3)?;
    let mut small = Image::new(scaled(width), scaled(height), PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    resizer.resize(&source, &mut small, &options)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality).write_image(
        small.buffer(),
        small.width(),
        small.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(jpeg)
}
