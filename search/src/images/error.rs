//! What can go wrong with a source of images.

use std::path::PathBuf;

/// An error that names the thing, both numbers, and one next step.
///
/// A single bad file is never an error: it is skipped, counted and listed in the
/// [`Summary`](super::Summary).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// Nothing stands at the path.
    #[error(
        "{path}: there is no such folder; give --data a folder of images, or leave it out for the built-in photographs"
    )]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The path is a file.
    #[error("{path}: is a file, not a folder of images; give the folder that holds it")]
    NotAFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder or file could not be read.
    #[error("{path}: {source}; check that it can be read")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The source holds no candidate for an image at all.
    #[error(
        "{origin}: no JPEG, PNG or WebP file among {seen} files; check the path, and that names end in .jpg, .jpeg, .png or .webp"
    )]
    Empty {
        /// The source.
        origin: String,
        /// Files seen.
        seen: usize,
    },
    /// There were candidates, and none of them could be read.
    #[error(
        "{origin}: none of {candidates} images could be read (first: {first}); run `masktas data {origin}` for the list"
    )]
    AllUnreadable {
        /// The source.
        origin: String,
        /// Candidates.
        candidates: usize,
        /// Path and reason of the first.
        first: String,
    },
    /// Too few images for a training, a validation and a test part.
    #[error(
        "{origin}: {found} different images to divide into {parts}, at least {needed} are needed; add images"
    )]
    TooFew {
        /// The source.
        origin: String,
        /// Images found.
        found: usize,
        /// Images needed.
        needed: usize,
        /// Which parts are to be made of them.
        parts: &'static str,
    },
    /// A file is not what its place says it is.
    #[error("{path}: invalid {what}: {found}, expected {expected}; fetch the file again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which property.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// One image asked for by name cannot be used.
    #[error("{path}: {reason}; give an image that can be read, or mend this one")]
    Picture {
        /// The image.
        path: PathBuf,
        /// Why.
        reason: super::Reason,
    },
    /// An option lies outside its range.
    #[error("{what} is {found}, it must be {expected}; change it in masktas.toml or on the command line")]
    Option {
        /// Which option.
        what: &'static str,
        /// What was asked for.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The cache of decoded images could not be written; nothing half-written stays behind.
    #[error(
        "{path}: wrote {written} of {needed} bytes of the image cache: {source}; free space there, or point MASKTAS_CACHE to a folder that has it"
    )]
    CacheWrite {
        /// The cache file.
        path: PathBuf,
        /// Bytes written before the failure.
        written: u64,
        /// Bytes the whole file needs at most.
        needed: u64,
        /// Why.
        source: std::io::Error,
    },
    /// There is no place for the cache.
    #[error(
        "no folder for the image cache: none of MASKTAS_CACHE, XDG_CACHE_HOME and HOME is set; set MASKTAS_CACHE"
    )]
    NoCacheFolder,
    /// A split written earlier belongs to other images.
    #[error(
        "the split was made for source {expected}, the images are source {found}; point --data at the images of that run, or start a new run"
    )]
    SourceChanged {
        /// Identity in the split.
        expected: String,
        /// Identity of the images.
        found: String,
    },
    /// A list of images names one that does not exist.
    #[error("image {index} of {count}; the list belongs to other images")]
    OutOfRange {
        /// The index asked for.
        index: u32,
        /// Images there are.
        count: usize,
    },
    /// A buffer has the wrong length.
    #[error("a batch of {images} images at {side} px needs {needed} numbers, the buffer has {found}")]
    Buffer {
        /// Images in the batch.
        images: usize,
        /// Side of one image, px.
        side: u32,
        /// Numbers needed.
        needed: usize,
        /// Numbers the buffer has.
        found: usize,
    },
    /// The source carries no labels.
    #[error(
        "{origin}: no labels: its images do not lie in class folders; put each class into a folder of its own directly below it, or use a set that has labels"
    )]
    NoLabels {
        /// The source.
        origin: String,
    },
}
