//! What can go wrong when a model file is made.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing and, where there are two numbers, both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or a graph is not what it should be.
    #[error(transparent)]
    Runtime(#[from] masktas_runtime::Error),
    /// A number of an architecture is out of range.
    #[error("invalid architecture: {what} is {got}, but must be {want}; change it and try again")]
    InvalidArch {
        /// The field.
        what: String,
        /// Its value.
        got: u64,
        /// What it may be.
        want: String,
    },
    /// An option of lowering is out of range.
    #[error("{what} {got} is not supported; use {want}")]
    UnsupportedOption {
        /// The option.
        what: &'static str,
        /// Its value.
        got: i64,
        /// What it may be.
        want: &'static str,
    },
    /// Weights lack a tensor.
    #[error("weights have no tensor '{name}' of shape {want:?}; check that they belong to this architecture")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// Its shape by the architecture.
        want: Vec<usize>,
    },
    /// A tensor's shape or type is not the architecture's.
    #[error(
        "weight '{name}' is {got}, but the architecture needs F32 {want:?}; check that they belong together"
    )]
    WrongTensor {
        /// The tensor.
        name: String,
        /// Its shape by the architecture.
        want: Vec<usize>,
        /// Type and shape found.
        got: String,
    },
    /// Weights hold a tensor that the architecture has no place for.
    #[error(
        "weight '{name}' of shape {got:?} has no place in the architecture; check that they belong together"
    )]
    ExtraTensor {
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<usize>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}; check the path, its permissions and the free space", path.display())]
    Io {
        /// `read`, `write` or `make the folder`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {why}; check that the file is complete, or make it again", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A model would not fit into one ONNX file.
    #[error(
        "{what} takes {got} bytes, above the {limit} that one ONNX file can hold; choose a smaller model"
    )]
    TooLarge {
        /// What was counted.
        what: String,
        /// Its size.
        got: u64,
        /// The largest possible.
        limit: u64,
    },
    /// A golden pair does not fit the model.
    #[error("golden pair: {what}: {why}; make the pair with the model that is exported")]
    InvalidGolden {
        /// Input or output.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A model that a page cannot show.
    #[error("no page for this model: {what} {why}; export it with masktas for one image a run")]
    InvalidPage {
        /// The part of the model.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A folder for a page has files, and no earlier page.
    #[error(
        "{} has {name}, which is not a page's that masktas wrote; give an empty folder, a new one, or an earlier page's", folder.display()
    )]
    NotAPage {
        /// The folder.
        folder: PathBuf,
        /// One of its files.
        name: String,
    },
    /// A golden pair belongs to another model file.
    #[error(
        "the golden pair was made for the model with SHA-256 {want}, but this one has {got}; export it again"
    )]
    OtherModel {
        /// Digest in the pair.
        want: String,
        /// Digest of the file.
        got: String,
    },
}
