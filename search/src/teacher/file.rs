//! Teachers from safetensors files: what a file says of itself, what its shapes say, and how its network comes to
//! see this run's images as it saw its own.
//!
//! `masktas teacher` writes one metadata key, `masktas.teacher`: a [`Card`] as JSON. A file of another maker (timm,
//! MAE) has none; then the recipe says what shapes cannot, and its images count as normalised like this run's.

use std::path::Path;

use masktas_export::weights::WeightsFile;
use masktas_export::{Arch, VitArch, VitBlock, Weights};
use masktas_runtime::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::images::Stats;
use crate::recipe::{self, Labels};
use crate::run::write_atomic;

/// The metadata key of the description.
pub const KEY: &str = "masktas.teacher";

/// Version of the description.
pub const VERSION: u32 = 1;

/// Name of the run's document with the SHA-256 of the teacher file it began with.
pub const PIN: &str = "teacher-file";

const FILTERS: &str = "patch_embed.proj.weight";
const BIAS: &str = "patch_embed.proj.bias";
const POSITIONS: &str = "pos_embed";

/// Beginnings of tensor names that are no part of an encoder: classifiers, and the decoder of a masked autoencoder.
const NOT_ENCODER: [&str; 3] = ["head.", "decoder_", "mask_token"];

/// The next step after a file that is no teacher.
const GIVE_VIT: &str = "give a vision transformer in timm or MAE naming";

/// The next step after a file that contradicts itself.
const MAKE_AGAIN: &str = "make the file again with masktas teacher";

/// What a teacher file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// [`VERSION`].
    pub version: u32,
    /// Attention heads of each block.
    pub heads: usize,
    /// Whether labels went into it.
    pub labels: Labels,
    /// Mean of each channel of the images it was trained on, of values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, likewise.
    pub std: [f32; 3],
    /// Side of its images, px.
    pub image: usize,
    /// Side of its patches, px.
    pub patch: usize,
    /// Identity of the images it was trained on, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha: Option<String>,
    /// Program and version that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
}

impl Card {
    /// Of a network of this program: `arch` trained on images with these channel statistics and this identity.
    pub fn new(arch: &VitArch, labels: Labels, images: &Stats, source_sha: &str) -> Self {
        Self {
            version: VERSION,
            heads: arch.blocks.first().map_or(0, |block| block.heads),
            labels,
            mean: images.mean,
            std: images.std,
            image: arch.image,
            patch: arch.patch,
            source_sha: Some(source_sha.to_owned()),
            producer: Some(concat!("masktas ", env!("CARGO_PKG_VERSION")).to_owned()),
        }
    }

    /// Writes `weights` with this description; the old file stays whole until the new one is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, weights: &Weights, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|error| damaged(path, error.to_string(), "train the teacher again"))?;
        Ok(weights.save_with(path, KEY, text)?)
    }

    /// Reads the description in the file at `path`.
    fn read(text: &str, path: &Path) -> Result<Self> {
        let wrong = |why: String| damaged(path, format!("metadata key {KEY}: {why}"), MAKE_AGAIN);
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let found =
                version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
            return Err(wrong(format!("it has {found}, but this program knows version {VERSION}")));
        }
        let card: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if let Some(mean) = card.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(wrong(format!("a mean is {mean}, not a number")));
        }
        if let Some(std) = card.std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            return Err(wrong(format!("a standard deviation is {std}, not above 0")));
        }
        Ok(card)
    }

    /// How its images were normalised.
    fn stats(&self) -> Stats {
        Stats { mean: self.mean, std: self.std }
    }
}

/// A teacher file, ready to teach a run.
#[derive(Clone, Debug)]
pub struct TeacherFile {
    /// Its architecture.
    pub arch: VitArch,
    /// Its encoder, for images normalised as the run's are.
    pub weights: Weights,
    /// What is known about labels.
    pub labels: Labels,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// What it says of itself.
    pub card: Option<Card>,
}

impl TeacherFile {
    /// Reads the file at `path` for a run whose images are normalised by `images`.
    ///
    /// Where the file describes itself, its number of heads counts. As to labels, a recipe can say that more were
    /// seen than the file admits, never fewer. Classifiers and masked autoencoders' decoders are left out.
    ///
    /// # Errors
    /// When the file is not the one with the digest `pinned`; when it is no vision transformer, contradicts itself,
    /// or is claimed by the recipe to have seen no label and does not say so.
    pub fn load(
        path: &Path,
        pinned: Option<&str>,
        settings: &recipe::Teacher,
        images: &Stats,
    ) -> Result<Self> {
        let WeightsFile { mut weights, metadata, sha256 } = WeightsFile::load(path)?;
        if let Some(first) = pinned.filter(|first| *first != sha256) {
            return Err(replaced(path, first, &sha256));
        }
        weights.tensors.retain(|name, _| !NOT_ENCODER.iter().any(|other| name.starts_with(other)));
        let card = metadata.get(KEY).map(|text| Card::read(text, path)).transpose()?;
        let heads = card.as_ref().map_or(settings.heads, |card| card.heads);
        let arch = infer(&weights, heads, path)?;
        weights.check(&Arch::Vit(arch.clone()), None)?;
        if let Some(card) = &card {
            if (card.image, card.patch) != (arch.image, arch.patch) {
                return Err(damaged(
                    path,
                    format!(
                        "it says {}-pixel images in {}-pixel patches, and its tensors are made for {}-pixel images in \
                         {}-pixel patches",
                        card.image, card.patch, arch.image, arch.patch
                    ),
                    MAKE_AGAIN,
                ));
            }
            renormalise(&mut weights, &card.stats(), images)?;
        }
        let labels = settle(card.as_ref().map(|card| card.labels), settings.labels, path)?;
        Ok(Self { arch, weights, labels, sha256, card })
    }
}

/// Copies the teacher file at `from`, which was read with this digest, to `to`: whole or not at all.
///
/// # Errors
/// When the file cannot be read or is another one by now; the disk's.
pub fn keep(from: &Path, sha256: &str, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).at(from)?;
    let now = masktas_export::package::sha256(&bytes);
    if now != sha256 {
        return Err(replaced(from, sha256, &now));
    }
    write_atomic(to, &bytes)
}

/// What counts as known about labels, from what the file and the recipe say.
fn settle(file: Option<Labels>, recipe: Labels, path: &Path) -> Result<Labels> {
    match (file, recipe) {
        (None, recipe) => Ok(recipe),
        (Some(file @ (Labels::Used | Labels::Unknown)), Labels::None) => Err(invalid(
            path,
            format!("it says labels = {}, and the recipe teacher.labels = {}", file.name(), recipe.name()),
            "leave teacher.labels out",
        )),
        (Some(_), Labels::Used) => Ok(Labels::Used),
        (Some(file), Labels::None | Labels::Unknown) => Ok(file),
    }
}

/// Reads an architecture off the shapes of weights; the number of heads cannot be seen there.
///
/// # Errors
/// [`Error::Invalid`] naming the tensor that is missing or has another shape than a transformer's, and when `heads`
/// does not divide the width.
pub fn infer(weights: &Weights, heads: usize, path: &Path) -> Result<VitArch> {
    let shape = |name: &str| {
        let tensor = weights.tensors.get(name);
        tensor.map(Tensor::shape).ok_or_else(|| invalid(path, format!("it has no tensor {name}"), GIVE_VIT))
    };
    let (filters, positions) = (shape(FILTERS)?, shape(POSITIONS)?);
    let &[embed, 3, patch, height] = filters else {
        let problem = format!("{FILTERS} has the shape {filters:?}, not [width, 3, patch, patch]");
        return Err(invalid(path, problem, GIVE_VIT));
    };
    if patch != height || patch == 0 || embed == 0 {
        let problem =
            format!("{FILTERS} has the shape {filters:?}: it is empty, or its patches are not squares");
        return Err(invalid(path, problem, GIVE_VIT));
    }
    let &[1, tokens, width] = positions else {
        let problem = format!("{POSITIONS} has the shape {positions:?}, not [1, tokens, {embed}]");
        return Err(invalid(path, problem, GIVE_VIT));
    };
    if width != embed {
        let problem = format!("{POSITIONS} is {width} wide, and {FILTERS} {embed}");
        return Err(invalid(path, problem, GIVE_VIT));
    }
    let places = tokens.saturating_sub(1);
    let grid = places.isqrt();
    if grid == 0 || grid * grid != places {
        let problem =
            format!("{POSITIONS} has {places} places beside the class token, which are no square grid");
        return Err(invalid(path, problem, "give a teacher of square images"));
    }
    if heads == 0 || !embed.is_multiple_of(heads) {
        let problem = format!("{heads} heads do not divide a width of {embed}");
        return Err(invalid(
            path,
            problem,
            "give the number it was trained with: in the file if that says one, else as teacher.heads",
        ));
    }
    let fc1 = |block: usize| format!("blocks.{block}.mlp.fc1.weight");
    let mut blocks = Vec::new();
    while let Ok(shape) = shape(&fc1(blocks.len())) {
        blocks.push(VitBlock { heads, hidden: shape.first().copied().unwrap_or(0) });
    }
    if blocks.is_empty() {
        return Err(invalid(path, format!("it has no tensor {}", fc1(0)), GIVE_VIT));
    }
    Ok(VitArch { image: grid * patch, patch, embed, head_dim: embed / heads, blocks, relative: None })
}

/// Makes a network trained on images normalised by `own` see those normalised by `images` as it saw its own.
///
/// A pixel `x` of the latter is `(x * images.std + images.mean - own.mean) / own.std` in its own terms. That is one
/// line a channel, and the patch embedding is linear and sees no padding; so weights and bias take it up exactly.
fn renormalise(weights: &mut Weights, own: &Stats, images: &Stats) -> Result<()> {
    if own == images {
        return Ok(());
    }
    let lines: [(f64, f64); 3] = std::array::from_fn(|c| {
        let std = f64::from(own.std[c]);
        (f64::from(images.std[c]) / std, (f64::from(images.mean[c]) - f64::from(own.mean[c])) / std)
    });
    let (shape, mut filters) = floats(weights, FILTERS)?;
    let (bias_shape, mut bias) = floats(weights, BIAS)?;
    let area = shape.iter().skip(2).product::<usize>().max(1);
    for (filter, bias) in filters.chunks_exact_mut(3 * area).zip(&mut bias) {
        let mut shift = 0.0;
        for (channel, (scale, offset)) in filter.chunks_exact_mut(area).zip(lines) {
            shift += offset * channel.iter().map(|weight| f64::from(*weight)).sum::<f64>();
            for weight in channel.iter_mut() {
                *weight = (f64::from(*weight) * scale) as f32;
            }
        }
        *bias = (f64::from(*bias) + shift) as f32;
    }
    for (name, shape, values) in [(FILTERS, shape, filters), (BIAS, bias_shape, bias)] {
        let tensor = Tensor::f32(shape, values).map_err(masktas_export::Error::from)?;
        weights.tensors.insert(name.to_owned(), tensor);
    }
    Ok(())
}

/// Shape and elements of a float tensor.
fn floats(weights: &Weights, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = weights.tensors.get(name).and_then(|tensor| Some((tensor.shape(), tensor.as_f32()?)));
    let (shape, values) =
        tensor.ok_or_else(|| Error::Checkpoint(format!("the weights have no float tensor {name}")))?;
    Ok((shape.to_vec(), values.to_vec()))
}

/// A file that is not what was asked for.
fn invalid(path: &Path, problem: String, next: &str) -> Error {
    Error::Invalid { thing: format!("teacher file {}", path.display()), problem, next: next.to_owned() }
}

/// A file that is not what it was, or not what it says.
fn damaged(path: &Path, problem: String, next: &str) -> Error {
    Error::Unusable { thing: format!("teacher file {}", path.display()), problem, next: next.to_owned() }
}

/// A file that was another one when the run began.
fn replaced(path: &Path, first: &str, now: &str) -> Error {
    let problem = format!("its SHA-256 was {first} when this run began, and is {now} now");
    damaged(path, problem, "put the first file back, or begin a new run with --out")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::rand::{Draw, stream};
    use crate::recipe::Recipe;
    use crate::supernet::Visible;
    use crate::supernet::extract::Network;

    const OWN: Stats = Stats { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    const OTHER: Stats = Stats { mean: [0.2, 0.7, 0.5], std: [0.31, 0.12, 0.27] };

    fn arch() -> VitArch {
        let blocks = vec![VitBlock { heads: 3, hidden: 20 }; 2];
        VitArch { image: 8, patch: 4, embed: 12, head_dim: 4, blocks, relative: None }
    }

    fn weights() -> Weights {
        Weights::random(&Arch::Vit(arch()), None, 3).unwrap()
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::f32(shape.to_vec(), vec![0.0f32; shape.iter().product()]).unwrap()
    }

    /// What a recipe says that has other heads than the file.
    fn settings(labels: Labels) -> recipe::Teacher {
        recipe::Teacher { heads: 2, labels, ..Recipe::load(None, None, &[]).unwrap().teacher }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn refused<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
        let said = result.expect_err("it is refused").to_string();
        for part in parts {
            assert!(said.contains(part), "{part} is missing in: {said}");
        }
    }

    #[test]
    fn a_file_that_describes_itself_comes_back_as_it_was() {
        let folder = folder();
        let path = folder.path().join("teacher.safetensors");
        let card = Card::new(&arch(), Labels::None, &OWN, "abc");
        card.save(&weights(), &path).unwrap();
        let file = TeacherFile::load(&path, None, &settings(Labels::Unknown), &OWN).unwrap();
        assert_eq!((file.arch, file.weights, file.labels), (arch(), weights(), Labels::None));
        assert_eq!(file.card, Some(card.clone()));
        // The same content is the same bytes, and a file of the first digest is let in again.
        let again = folder.path().join("again.safetensors");
        card.save(&weights(), &again).unwrap();
        let again = TeacherFile::load(&again, Some(&file.sha256), &settings(Labels::Unknown), &OWN).unwrap();
        assert_eq!(again.sha256, file.sha256);
        let other = TeacherFile::load(&path, Some("0123"), &settings(Labels::Unknown), &OWN);
        refused(other, &["0123", &again.sha256, "begin a new run"]);
    }

    #[test]
    fn a_copy_that_is_kept_is_the_file_that_was_read() {
        let folder = folder();
        let [given, own] = ["given", "own"].map(|name| folder.path().join(name));
        Card::new(&arch(), Labels::None, &OWN, "abc").save(&weights(), &given).unwrap();
        let settings = settings(Labels::Unknown);
        let first = TeacherFile::load(&given, None, &settings, &OWN).unwrap();
        keep(&given, &first.sha256, &own).unwrap();
        std::fs::remove_file(&given).unwrap();
        let copy = TeacherFile::load(&own, Some(&first.sha256), &settings, &OWN).unwrap();
        assert_eq!((copy.weights, copy.card), (first.weights, first.card));
        // A file replaced after it was read is not kept.
        weights().save(&given).unwrap();
        let late = folder.path().join("late");
        refused(keep(&given, &first.sha256, &late), &["given", &first.sha256, "begin a new run"]);
        assert!(!late.exists());
    }

    #[test]
    fn a_recipe_cannot_take_labels_back() {
        let folder = folder();
        let path = folder.path().join("teacher.safetensors");
        let load = |file: Labels, recipe: Labels| {
            Card::new(&arch(), file, &OWN, "abc").save(&weights(), &path).unwrap();
            TeacherFile::load(&path, None, &settings(recipe), &OWN).map(|file| file.labels)
        };
        for (file, recipe, labels) in [
            (Labels::None, Labels::None, Labels::None),
            (Labels::None, Labels::Unknown, Labels::None),
            (Labels::None, Labels::Used, Labels::Used),
            (Labels::Used, Labels::Unknown, Labels::Used),
            (Labels::Used, Labels::Used, Labels::Used),
            (Labels::Unknown, Labels::Unknown, Labels::Unknown),
            (Labels::Unknown, Labels::Used, Labels::Used),
        ] {
            assert_eq!(load(file, recipe).unwrap(), labels, "{file:?} {recipe:?}");
        }
        refused(load(Labels::Used, Labels::None), &["labels = used", "teacher.labels = none", "leave"]);
        refused(load(Labels::Unknown, Labels::None), &["labels = unknown", "teacher.labels = none"]);
    }

    #[test]
    fn a_foreign_file_is_described_by_the_recipe_and_loses_what_is_not_encoder() {
        let folder = folder();
        let path = folder.path().join("teacher.safetensors");
        let mut foreign = weights();
        let others: [(&str, &[usize]); 3] =
            [("head.weight", &[5, 12]), ("decoder_pos_embed", &[1, 5, 8]), ("mask_token", &[1, 1, 8])];
        for (name, shape) in others {
            foreign.tensors.insert(name.to_owned(), zeros(shape));
        }
        foreign.save(&path).unwrap();
        let file = TeacherFile::load(&path, None, &settings(Labels::Used), &OTHER).unwrap();
        assert_eq!((file.weights, file.labels, file.card), (weights(), Labels::Used, None));
        assert_eq!((file.arch.blocks[0].heads, file.arch.head_dim), (2, 6));
        // Anything else might be a part of the network.
        foreign.tensors.insert("blocks.0.ls1.gamma".to_owned(), zeros(&[12]));
        foreign.save(&path).unwrap();
        refused(TeacherFile::load(&path, None, &settings(Labels::Used), &OTHER), &["blocks.0.ls1.gamma"]);
    }

    #[test]
    fn a_description_that_cannot_be_used_is_refused() {
        let folder = folder();
        let path = folder.path().join("teacher.safetensors");
        let load = |change: &dyn Fn(&mut Card)| {
            let mut card = Card::new(&arch(), Labels::None, &OWN, "abc");
            change(&mut card);
            card.save(&weights(), &path).unwrap();
            TeacherFile::load(&path, None, &settings(Labels::Unknown), &OWN)
        };
        refused(load(&|card| card.version = 7), &["version 7", "version 1", KEY]);
        refused(load(&|card| card.std[1] = 0.0), &["standard deviation is 0"]);
        refused(load(&|card| card.mean[2] = f32::NAN), &[KEY]);
        refused(load(&|card| card.heads = 5), &["5 heads", "width of 12"]);
        refused(load(&|card| card.image = 16), &["16-pixel images", "8-pixel images"]);
        weights().save_with(&path, KEY, "{".to_owned()).unwrap();
        refused(TeacherFile::load(&path, None, &settings(Labels::Unknown), &OWN), &[KEY]);
    }

    #[test]
    fn an_architecture_is_read_off_shapes_or_refused() {
        let path = Path::new("a.safetensors");
        assert_eq!(infer(&weights(), 3, path).unwrap(), arch());
        let without = |name: &str| {
            let mut weights = weights();
            weights.tensors.remove(name);
            infer(&weights, 3, path)
        };
        for name in [FILTERS, POSITIONS, "blocks.0.mlp.fc1.weight"] {
            refused(without(name), &["a.safetensors", "no tensor", name]);
        }
        let with = |name: &str, shape: &[usize]| {
            let mut weights = weights();
            weights.tensors.insert(name.to_owned(), zeros(shape));
            infer(&weights, 3, path)
        };
        refused(with(FILTERS, &[12, 1, 4, 4]), &[FILTERS, "[12, 1, 4, 4]", "3"]);
        refused(with(FILTERS, &[12, 3, 16]), &[FILTERS, "[12, 3, 16]"]);
        refused(with(FILTERS, &[12, 3, 4, 2]), &[FILTERS, "[12, 3, 4, 2]", "squares"]);
        refused(with(FILTERS, &[0, 3, 4, 4]), &[FILTERS]);
        refused(with(POSITIONS, &[1, 6, 12]), &[POSITIONS, "5 places"]);
        refused(with(POSITIONS, &[1, 1, 12]), &[POSITIONS, "0 places"]);
        refused(with(POSITIONS, &[1, 0, 12]), &[POSITIONS, "0 places"]);
        refused(with(POSITIONS, &[5, 12]), &[POSITIONS, "[5, 12]"]);
        refused(with(POSITIONS, &[1, 5, 10]), &[POSITIONS, "10 wide", "12"]);
        for heads in [0, 5, 24] {
            refused(
                infer(&weights(), heads, path),
                &[&format!("{heads} heads"), "width of 12", "teacher.heads"],
            );
        }
    }

    /// Folded into the patch embedding, the teacher's own normalisation gives what normalising the pixels gives.
    #[test]
    fn a_teacher_sees_images_normalised_its_own_way() {
        let (device, arch) = (Device::flex(), arch());
        let mut rng = stream(3, "pixels", 0);
        let pixels: Vec<f32> = (0..2 * 3 * 64).map(|_| rng.unit() as f32).collect();
        let features = |weights: &Weights, stats: &Stats| -> Vec<f32> {
            let mut seen = pixels.clone();
            for image in seen.chunks_exact_mut(3 * 64) {
                for (c, channel) in image.chunks_exact_mut(64).enumerate() {
                    channel.iter_mut().for_each(|x| *x = (*x - stats.mean[c]) / stats.std[c]);
                }
            }
            let network = Network::from_weights(&arch, None, weights, 0, &device).unwrap();
            let visible = Visible::all(&seen, &arch, &device);
            network.features(&network.params.frozen(), &visible).try_to_vec_as::<f32>().unwrap()
        };
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        let own = features(&weights(), &OWN);
        let mut folded = weights();
        renormalise(&mut folded, &OWN, &OTHER).unwrap();
        let same = far(&own, &features(&folded, &OTHER));
        assert!(same < 1e-4, "{same}");
        let without = far(&own, &features(&weights(), &OTHER));
        assert!(without > 1e-2, "the test tells nothing: {without}");
        let mut unchanged = weights();
        renormalise(&mut unchanged, &OWN, &OWN).unwrap();
        assert_eq!(unchanged, weights());
    }
}
