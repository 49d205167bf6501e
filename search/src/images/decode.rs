//! From the bytes of a file to RGB pixels of a fixed size. The one place where an image is decoded
//! and resized, used for training, scoring and `masktas run` alike.

use std::io::Cursor;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};

use super::ImagesError;
use crate::error::Result;

/// Largest image decoded, in pixels. A larger one is refused from its header, before any of it is
/// decoded.
pub const MAX_PIXELS: u64 = 64 << 20;
/// Largest file read, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// What one decoder may allocate: 16 bytes a pixel, which 16-bit RGBA and its copy stay under.
const MAX_DECODER_BYTES: u64 = 16 * MAX_PIXELS;

/// Why a candidate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file has no bytes.
    #[error("is empty (0 bytes)")]
    Empty,
    /// Neither a JPEG nor a PNG nor a WebP, whatever its name says.
    #[error("is not a JPEG, PNG or WebP image")]
    NotAnImage,
    /// More pixels than [`MAX_PIXELS`].
    #[error("has {width} x {height} = {pixels} pixels, at most {MAX_PIXELS} are decoded")]
    TooManyPixels {
        /// Width in px.
        width: u32,
        /// Height in px.
        height: u32,
        /// Their product.
        pixels: u64,
    },
    /// More bytes than [`MAX_FILE_BYTES`].
    #[error("has {0} bytes, at most {MAX_FILE_BYTES} are read")]
    TooManyBytes(u64),
    /// A pipe, a socket or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// The data end before the image does.
    #[error("is cut short: {0}")]
    Truncated(String),
    /// The data are damaged.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// The content is not what it was a moment ago.
    #[error("has changed since it was first read")]
    Changed,
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// File format of an image, found from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Raw pixels (CIFAR batches).
    Raw,
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl Format {
    /// The number that stands for the format in a cache file.
    pub(crate) fn code(self) -> u8 {
        match self {
            Format::Raw => 0,
            Format::Jpeg => 1,
            Format::Png => 2,
            Format::Webp => 3,
        }
    }

    /// The format with this number.
    pub(crate) fn from_code(code: u8) -> Option<Format> {
        [Format::Raw, Format::Jpeg, Format::Png, Format::Webp].into_iter().find(|f| f.code() == code)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Webp => "webp",
        }
    }
}

/// A decoded image: RGB, 8 bits, rows from the top, upright.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in px, after the orientation was applied.
    pub width: u32,
    /// Height in px, after the orientation was applied.
    pub height: u32,
    /// `width * height * 3` bytes, interleaved.
    pub rgb: Vec<u8>,
    /// What the file was.
    pub format: Format,
}

/// How an image becomes the network's input: the largest centred square of the upright original, resized to
/// `resize` x `resize` with a Lanczos filter of 3 lobes widened by the scale (what Pillow calls `LANCZOS`), then the
/// centre `crop` x `crop`. `masktas_runtime::preprocess` spells it out. Travels in every exported model, so that `masktas run` does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Side of the largest centred square after resizing, px. The cache holds squares of this side.
    pub resize: u32,
    /// Side of the network's input, px; at most `resize`.
    pub crop: u32,
}

impl Geometry {
    /// Largest side supported, px.
    pub const MAX: u32 = 4096;

    /// The geometry for a network input of `side` px. A source whose images already are squares of
    /// one size (CIFAR) is resized to exactly `side`; photographs keep a margin of a seventh, as in
    /// the usual 256 before 224, so that a random crop has room.
    pub fn of(native: Option<u32>, side: u32) -> Geometry {
        let resize = if native.is_some() { side } else { side + side.div_ceil(7) };
        Geometry { resize, crop: side }
    }

    /// Checks both sides.
    ///
    /// # Errors
    /// A side is 0 or above [`Geometry::MAX`], or the crop is larger than what it is cut from.
    pub fn check(self) -> Result<()> {
        let Geometry { resize, crop } = self;
        if crop == 0 || crop > resize || resize > Self::MAX {
            let found = format!("crop {crop} px from {resize} px");
            let expected = "a crop of at least 1 px, not larger than a resized side of at most 4096 px";
            return Err(ImagesError::Option { what: "the image size", found, expected }.into());
        }
        Ok(())
    }
}

/// Format of these bytes by their first few, never by a file's name.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    match image::guess_format(bytes).ok()? {
        ImageFormat::Jpeg => Some(Format::Jpeg),
        ImageFormat::Png => Some(Format::Png),
        ImageFormat::WebP => Some(Format::Webp),
        _ => None,
    }
}

/// Decodes a JPEG, PNG or WebP file's bytes: first frame, EXIF orientation applied, transparency
/// dropped, grey repeated in three channels, 16 bits cut to 8.
///
/// # Errors
/// Why these bytes cannot be used.
pub fn decode(bytes: &[u8]) -> std::result::Result<Picture, Reason> {
    if bytes.is_empty() {
        return Err(Reason::Empty);
    }
    let format = sniff(bytes).ok_or(Reason::NotAnImage)?;
    if format == Format::Jpeg {
        jpeg_is_whole(bytes)?;
    }
    // A decoder that panics on hostile bytes is that file's fault, and must not end a run.
    match std::panic::catch_unwind(AssertUnwindSafe(|| decode_as(bytes, format))) {
        Ok(done) => done,
        Err(_) => Err(Reason::Damaged(format!("the {} decoder gave up", format.name()))),
    }
}

fn decode_as(bytes: &[u8], format: Format) -> std::result::Result<Picture, Reason> {
    let as_format = match format {
        Format::Png => ImageFormat::Png,
        Format::Webp => ImageFormat::WebP,
        Format::Jpeg | Format::Raw => ImageFormat::Jpeg,
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), as_format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| reason(&e))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Reason::Damaged(format!("its size is {width} x {height}")));
    }
    if pixels > MAX_PIXELS {
        return Err(Reason::TooManyPixels { width, height, pixels });
    }
    decoder.set_limits(limits).map_err(|e| reason(&e))?;
    // Damaged EXIF data only cost the orientation: the pixels are still good.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut whole = DynamicImage::from_decoder(decoder).map_err(|e| reason(&e))?;
    whole.apply_orientation(orientation);
    let rgb = whole.into_rgb8();
    Ok(Picture { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw(), format })
}

fn reason(error: &image::ImageError) -> Reason {
    let text = error.to_string();
    match error {
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Reason::Truncated(text)
        }
        _ => Reason::Damaged(text),
    }
}

/// The JPEG decoder fills what is missing with grey, so a file cut short has to be found here: walk
/// the marker segments to the first scan; inside entropy-coded data 0xFF is always stuffed, so an
/// end-of-image marker after that point is the real one.
fn jpeg_is_whole(bytes: &[u8]) -> std::result::Result<(), Reason> {
    const SCAN: u8 = 0xDA;
    const END: [u8; 2] = [0xFF, 0xD9];
    let cut = |what: &str| Reason::Truncated(format!("{what} is missing after {} bytes", bytes.len()));
    let mut at = 2;
    loop {
        // Fill bytes (0xFF) may precede a marker.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let (Some(0xFF), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else {
            return match bytes.get(at + 1) {
                None => Err(cut("the first scan")),
                Some(_) => Err(Reason::Damaged(format!("no marker at byte {at}"))),
            };
        };
        if marker == SCAN {
            break;
        }
        let (Some(&high), Some(&low)) = (bytes.get(at + 2), bytes.get(at + 3)) else {
            return Err(cut("the first scan"));
        };
        at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.windows(2).any(|pair| pair == END) { Ok(()) } else { Err(cut("the end-of-image marker")) }
}

/// Reads and decodes one file.
///
/// # Errors
/// Why it cannot be used.
pub fn decode_file(path: &Path) -> std::result::Result<Picture, Reason> {
    decode(&read_file(path)?)
}

/// Reads one regular file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_file(path: &Path) -> std::result::Result<Vec<u8>, Reason> {
    let unreadable = |e: std::io::Error| Reason::Unreadable(e.to_string());
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Reason::NotAFile);
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(Reason::TooManyBytes(meta.len()));
    }
    std::fs::read(path).map_err(unreadable)
}

/// The largest centred square of an image, resized to `side` px: `side * side * 3` RGB bytes.
///
/// # Errors
/// The picture's bytes do not agree with its size.
pub fn prepare(picture: &Picture, side: u32, resizer: &mut Resizer) -> std::result::Result<Vec<u8>, Reason> {
    let damaged = |e: &dyn std::fmt::Display| Reason::Damaged(e.to_string());
    let (width, height) = (picture.width, picture.height);
    let source = ImageRef::new(width, height, &picture.rgb, PixelType::U8x3).map_err(|e| damaged(&e))?;
    let square = width.min(height);
    let (left, top) = ((width - square) / 2, (height - square) / 2);
    let mut out = Image::new(side, side, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(left.into(), top.into(), square.into(), square.into())
        .use_alpha(false);
    resizer.resize(&source, &mut out, &options).map_err(|e| damaged(&e))?;
    Ok(out.into_vec())
}

/// The centre `crop` x `crop` of a square of `side` px, both RGB and interleaved.
pub(crate) fn centre(square: &[u8], side: u32, crop: u32) -> impl Iterator<Item = &[u8]> {
    let (side, crop) = (side as usize, crop as usize);
    let margin = side.saturating_sub(crop) / 2;
    square
        .chunks_exact((side * 3).max(1))
        .skip(margin)
        .take(crop)
        .map(move |row| row.get(margin * 3..(margin + crop) * 3).unwrap_or_default())
}

/// Decodes an image as the network wants it: `crop * crop * 3` RGB bytes, interleaved. The same
/// bytes as the cache gives for the same file and geometry.
///
/// # Errors
/// The geometry is out of range, or why the file cannot be used.
pub fn decode_for(path: &Path, geometry: Geometry) -> Result<Vec<u8>> {
    geometry.check()?;
    let named = |reason| ImagesError::Picture { path: path.into(), reason };
    let picture = decode_file(path).map_err(named)?;
    let square = prepare(&picture, geometry.resize, &mut Resizer::new()).map_err(named)?;
    Ok(centre(&square, geometry.resize, geometry.crop).flatten().copied().collect())
}
