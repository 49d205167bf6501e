//! Runs a model file on a photo: `photo MODEL.onnx PHOTO`. The page docs/runtime.md shows it.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use masktas_runtime::session::{Options, Session};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(photo)) = (arguments.next(), arguments.next()) else {
        return Err("usage: photo MODEL.onnx PHOTO".into());
    };
    let session = Session::load(model.as_str(), &Options::default())?;
    let how = session.info().preprocess()?;
    let rgb = square(&photo, how.resize, how.crop)?;
    for (name, tensor) in session.run_images(&[&rgb])?.concat() {
        println!("{name}: {:?}", tensor.as_f32().unwrap_or_default());
    }
    Ok(())
}

/// The photo as the model saw photos in training: `crop * crop * 3` bytes, red, green, blue.
pub fn square(photo: &str, resize: usize, crop: usize) -> Result<Vec<u8>> {
    let mut decoder = ImageReader::open(photo)?.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut upright = DynamicImage::from_decoder(decoder)?;
    upright.apply_orientation(orientation);
    let rgb = upright.into_rgb8();

    let (width, height) = rgb.dimensions();
    let side = width.min(height);
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    let from = ImageRef::new(width, height, rgb.as_raw(), PixelType::U8x3)?;
    let mut to = Image::new(resize.try_into()?, resize.try_into()?, PixelType::U8x3);
    let lanczos = ResizeAlg::Convolution(FilterType::Lanczos3);
    let largest =
        ResizeOptions::new().resize_alg(lanczos).crop(left.into(), top.into(), side.into(), side.into());
    Resizer::new().resize(&from, &mut to, &largest)?;

    let margin = (resize - crop) / 2;
    let rows = to.buffer().chunks_exact(resize * 3).skip(margin).take(crop);
    Ok(rows.flat_map(|row| &row[margin * 3..(margin + crop) * 3]).copied().collect())
}
