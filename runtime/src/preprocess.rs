//! What a model wants done to an image before it sees it, carried in the model file itself.
//!
//! | metadata key | value |
//! | --- | --- |
//! | `masktas.preprocess.version` | `1`; another version is not supported |
//! | `masktas.preprocess.resize` | side of the image's largest centred square after resizing, in pixels |
//! | `masktas.preprocess.crop` | side of the centre cut out of it, in pixels: the model's input side |
//! | `masktas.preprocess.interpolation` | `nearest`, `bilinear`, `bicubic` or `lanczos3` |
//! | `masktas.preprocess.mean` | three numbers (red, green, blue), separated by spaces, for channels in 0 to 1 |
//! | `masktas.preprocess.std` | three numbers likewise |
//! | `masktas.classes` | names of the classes in the order of the logits, a JSON list of texts; absent without a classifier |
//!
//! Decoding, resizing and cropping are not done here: this crate knows no image format. A caller gives the bytes to
//! [`Preprocess::apply`] after doing what training did, in this order:
//!
//! 1. decode, and turn upright as the file's EXIF orientation says; drop transparency, repeat grey in three channels, cut 16 bits
//!    to 8; leave colour profiles alone;
//! 2. of `width` by `height` pixels take the largest centred square: `side = min(width, height)`, its left edge at
//!    `(width - side) / 2` and its top edge at `(height - side) / 2`, rounded down;
//! 3. resize it to `resize` by `resize` pixels; `lanczos3` is a windowed sinc of three lobes, widened by `side / resize` where that
//!    shrinks, which reads beyond the square where the image goes on; computed in whole numbers, down before across, rounded to
//!    bytes in between, as the crate `fast_image_resize` does;
//! 4. take the centre of that, `crop` by `crop` pixels, `(resize - crop) / 2` from its left and top edges, rounded down.
//!
//! The example `photo` of this crate does it in thirty lines, to the same bytes as `masktas run`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Version of the metadata keys.
pub const PREPROCESS_VERSION: u32 = 1;

const VERSION: &str = "masktas.preprocess.version";
const RESIZE: &str = "masktas.preprocess.resize";
const CROP: &str = "masktas.preprocess.crop";
const INTERPOLATION: &str = "masktas.preprocess.interpolation";
const MEAN: &str = "masktas.preprocess.mean";
const STD: &str = "masktas.preprocess.std";
const CLASSES: &str = "masktas.classes";

/// Largest side accepted, in pixels.
const SIDE_MAX: usize = 1 << 14;

/// How pixels are made when an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear in both directions, over the whole source area when shrinking.
    Bilinear,
    /// Cubic (a = -0.5) in both directions.
    Bicubic,
    /// Windowed sinc of three lobes.
    Lanczos3,
}

impl Interpolation {
    const ALL: [(Interpolation, &str); 4] = [
        (Interpolation::Nearest, "nearest"),
        (Interpolation::Bilinear, "bilinear"),
        (Interpolation::Bicubic, "bicubic"),
        (Interpolation::Lanczos3, "lanczos3"),
    ];
}

impl std::fmt::Display for Interpolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(own, _)| own == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// Resize, crop, normalise; and the names of the classes the model tells apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the image's largest centred square after resizing, in pixels; at least `crop`.
    pub resize: usize,
    /// Side of the centre cut out of it, in pixels: the model's input side.
    pub crop: usize,
    /// Mean of the red, green and blue channels, of values in 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of the channels; positive.
    pub std: [f32; 3],
    /// How to resize.
    pub interpolation: Interpolation,
    /// Names of the classes, in the order of the logits.
    pub labels: Option<Vec<String>>,
}

impl Preprocess {
    /// Number of bytes [`Preprocess::apply`] wants: `crop * crop * 3`.
    pub fn input_bytes(&self) -> usize {
        self.crop.saturating_mul(self.crop).saturating_mul(3)
    }

    /// Normalises a square RGB image that was resized and cropped already: rows top to bottom, three
    /// bytes a pixel. Each value becomes `(byte / 255 - mean) / std` in 32-bit floats.
    ///
    /// Returns `[1, 3, crop, crop]`.
    ///
    /// # Errors
    /// [`Error::ImageSize`] when `rgb` has another length.
    pub fn apply(&self, rgb: &[u8]) -> Result<Tensor> {
        let want = self.input_bytes();
        if rgb.len() != want {
            return Err(Error::ImageSize { side: self.crop, want, got: rgb.len() });
        }
        let mut values = Vec::with_capacity(want);
        for (channel, (mean, std)) in self.mean.iter().zip(&self.std).enumerate() {
            values.extend(
                rgb.iter().skip(channel).step_by(3).map(|byte| (f32::from(*byte) / 255.0 - mean) / std),
            );
        }
        Tensor::f32(vec![1, 3, self.crop, self.crop], values)
    }

    /// Writes the keys above into a graph's metadata.
    ///
    /// # Errors
    /// [`Error::Metadata`] for values that [`Preprocess::read_from`] would refuse.
    pub fn write_to(&self, metadata: &mut BTreeMap<String, String>) -> Result<()> {
        self.check()?;
        let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
        put(VERSION, PREPROCESS_VERSION.to_string());
        put(RESIZE, self.resize.to_string());
        put(CROP, self.crop.to_string());
        put(INTERPOLATION, self.interpolation.to_string());
        put(MEAN, numbers(&self.mean));
        put(STD, numbers(&self.std));
        match &self.labels {
            Some(labels) => {
                let list = serde_json::to_string(labels).map_err(|error| bad(CLASSES, error.to_string()))?;
                metadata.insert(CLASSES.to_owned(), list);
            }
            None => drop(metadata.remove(CLASSES)),
        }
        Ok(())
    }

    /// Reads the keys above from a graph's metadata.
    ///
    /// # Errors
    /// [`Error::Metadata`] naming the key that is missing or malformed; [`Error::Unsupported`] for
    /// another version.
    pub fn read_from(metadata: &BTreeMap<String, String>) -> Result<Self> {
        let get = |key: &str| metadata.get(key).map(String::as_str).ok_or_else(|| bad(key, "it is missing"));
        let version = get(VERSION)?;
        if version != PREPROCESS_VERSION.to_string() {
            let why = format!("version '{version}', but this program knows {PREPROCESS_VERSION}");
            return Err(Error::Unsupported { what: format!("metadata key '{VERSION}'"), why });
        }
        let side = |key: &str| -> Result<usize> {
            let text = get(key)?;
            text.parse().map_err(|_| bad(key, format!("'{text}' is not a number of pixels")))
        };
        let name = get(INTERPOLATION)?;
        let interpolation = Interpolation::ALL.iter().find(|(_, own)| *own == name).map(|(value, _)| *value);
        let interpolation =
            interpolation.ok_or_else(|| bad(INTERPOLATION, format!("'{name}' is not a way to resize")))?;
        let labels = match metadata.get(CLASSES) {
            Some(list) => Some(serde_json::from_str(list).map_err(|error| bad(CLASSES, error.to_string()))?),
            None => None,
        };
        let read = Self {
            resize: side(RESIZE)?,
            crop: side(CROP)?,
            mean: triple(MEAN, get(MEAN)?)?,
            std: triple(STD, get(STD)?)?,
            interpolation,
            labels,
        };
        read.check()?;
        Ok(read)
    }

    /// Whether metadata says how to preprocess at all.
    pub fn is_in(metadata: &BTreeMap<String, String>) -> bool {
        metadata.contains_key(VERSION)
    }

    fn check(&self) -> Result<()> {
        if !(1..=SIDE_MAX).contains(&self.crop) {
            return Err(bad(CROP, format!("{} is outside 1 to {SIDE_MAX}", self.crop)));
        }
        if !(self.crop..=SIDE_MAX).contains(&self.resize) {
            return Err(bad(
                RESIZE,
                format!("{} is outside {} (the crop) to {SIDE_MAX}", self.resize, self.crop),
            ));
        }
        if let Some(value) = self.mean.iter().find(|value| !value.is_finite()) {
            return Err(bad(MEAN, format!("{value} is not finite")));
        }
        match self.std.iter().find(|value| !value.is_finite() || **value <= 0.0) {
            Some(value) => Err(bad(STD, format!("{value} is not a positive number"))),
            None => Ok(()),
        }
    }
}

fn bad(key: &str, why: impl Into<String>) -> Error {
    Error::Metadata { key: key.to_owned(), why: why.into() }
}

/// Shortest decimals that read back to the same floats.
fn numbers(values: &[f32; 3]) -> String {
    values.map(|value| value.to_string()).join(" ")
}

fn triple(key: &str, text: &str) -> Result<[f32; 3]> {
    let values: Option<Vec<f32>> = text.split(' ').map(|part| part.parse().ok()).collect();
    let values = values.and_then(|values| <[f32; 3]>::try_from(values).ok());
    values.ok_or_else(|| bad(key, format!("'{text}' is not three numbers separated by spaces")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Preprocess {
        Preprocess {
            resize: 4,
            crop: 2,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            interpolation: Interpolation::Bicubic,
            labels: None,
        }
    }

    #[test]
    fn channels_come_apart_and_are_normalised() {
        let rgb = [0, 51, 255, 255, 51, 0, 0, 0, 0, 255, 255, 255];
        let tensor = example().apply(&rgb).unwrap();
        assert_eq!(tensor.shape(), [1, 3, 2, 2]);
        let values = tensor.as_f32().unwrap();
        let want = |byte: u8, channel: usize| {
            (f32::from(byte) / 255.0 - example().mean[channel]) / example().std[channel]
        };
        assert_eq!(values[..4], [want(0, 0), want(255, 0), want(0, 0), want(255, 0)]);
        assert_eq!(values[4..8], [want(51, 1), want(51, 1), want(0, 1), want(255, 1)]);
        assert_eq!(values[8..], [want(255, 2), want(0, 2), want(0, 2), want(255, 2)]);
        let refused = example().apply(&rgb[1..]).unwrap_err().to_string();
        assert!(refused.contains("12 bytes") && refused.contains("11 were given"), "{refused}");
    }

    proptest! {
        #[test]
        fn metadata_loses_nothing(
            crop in 1usize..500, more in 0usize..500,
            mean in prop::array::uniform3(-10.0f32..10.0), std in prop::array::uniform3(1e-6f32..10.0),
            labels in prop::option::of(prop::collection::vec(".*", 0..5)),
            pick in 0usize..4,
        ) {
            let interpolation = Interpolation::ALL[pick].0;
            let written = Preprocess { resize: crop + more, crop, mean, std, interpolation, labels };
            let mut metadata = BTreeMap::new();
            prop_assert!(!Preprocess::is_in(&metadata));
            written.write_to(&mut metadata).unwrap();
            prop_assert!(Preprocess::is_in(&metadata));
            prop_assert_eq!(Preprocess::read_from(&metadata).unwrap(), written);
        }
    }

    #[test]
    fn broken_metadata_names_the_key() {
        let mut good = BTreeMap::new();
        example().write_to(&mut good).unwrap();
        let refused = |key: &str, value: Option<&str>| {
            let mut metadata = good.clone();
            match value {
                Some(value) => drop(metadata.insert(key.to_owned(), value.to_owned())),
                None => drop(metadata.remove(key)),
            }
            Preprocess::read_from(&metadata).unwrap_err().to_string()
        };
        for key in [VERSION, RESIZE, CROP, INTERPOLATION, MEAN, STD] {
            assert!(refused(key, None).contains(&format!("'{key}': it is missing")));
        }
        assert!(refused(VERSION, Some("2")).contains("version '2', but this program knows 1"));
        assert!(refused(CROP, Some("-1")).contains("'-1' is not a number of pixels"));
        assert!(refused(RESIZE, Some("1")).contains("1 is outside 2 (the crop)"));
        assert!(refused(MEAN, Some("0 1")).contains("three numbers"));
        assert!(refused(MEAN, Some("0 1 NaN")).contains("not finite"));
        assert!(refused(STD, Some("0 1 1")).contains("0 is not a positive number"));
        assert!(refused(INTERPOLATION, Some("cubist")).contains("'cubist'"));
        assert!(refused(CLASSES, Some("[1]")).contains("'masktas.classes'"));
    }
}
