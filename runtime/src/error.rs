//! What can go wrong when a model is read, planned or run.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing and, where there are two numbers, both.
///
/// "Invalid" means that the file breaks the ONNX standard; "not supported" means that it is valid
/// and that this runtime lacks the operation or the case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shape and data disagree.
    #[error(
        "a tensor of shape {shape:?} has {want} elements, but {got} were given; reshape it or give the missing elements"
    )]
    ElementCount {
        /// The shape.
        shape: Vec<usize>,
        /// Its product.
        want: usize,
        /// Elements given.
        got: usize,
    },
    /// The product of a shape overflows.
    #[error("a tensor of shape {shape:?} is too large for this machine's address space; use a smaller one")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read and is not a model that this crate runs.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A count or size is beyond what this crate accepts from an untrusted file.
    #[error("{what} is {got}, above the limit of {limit}; split or shrink the model")]
    Limit {
        /// What was counted, with its name.
        what: String,
        /// The count found.
        got: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// The bytes are not an ONNX file.
    #[error("not an ONNX file: {why}; check that the file is complete, or export it again")]
    NotOnnx {
        /// What the decoder met.
        why: String,
    },
    /// A model breaks the standard outside any one node.
    #[error("invalid model: {what}: {why}; export it again")]
    InvalidModel {
        /// The value, attribute or field.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A node breaks the standard.
    #[error("invalid node '{node}' ({op}): {why}; export the model again")]
    InvalidNode {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it, with the value's name and both numbers.
        why: String,
    },
    /// A valid operator that this crate does not know.
    #[error("node '{node}': operator {op} is not supported; export the model without it")]
    UnsupportedOp {
        /// The node's name.
        node: String,
        /// Its operator, with the domain when it is not the standard one.
        op: String,
    },
    /// A valid case of a known operator or of the format that this crate lacks.
    #[error("{what}: {why}, which is not supported; export the model without it")]
    Unsupported {
        /// The node, value or field, by name.
        what: String,
        /// The case.
        why: String,
    },
    /// A symbolic extent has no value.
    #[error(
        "value '{value}' has the symbolic extent '{symbol}'; give it a size by `Options::symbols`, or export the model with a fixed one"
    )]
    UnboundSymbol {
        /// The input.
        value: String,
        /// The symbol.
        symbol: String,
    },
    /// A symbol was given a size, and no extent of the model has that name.
    #[error("`Options::symbols` gives '{symbol}' the size {size}, but {known}; {next}")]
    UnknownSymbol {
        /// The symbol.
        symbol: String,
        /// The size given.
        size: usize,
        /// The model's own symbols.
        known: String,
        /// What to do.
        next: String,
    },
    /// A constant of a graph that was lowered without weights.
    #[error(
        "constant '{value}' has no elements, because the graph was made without weights; lower it with weights"
    )]
    Unset {
        /// The constant.
        value: String,
    },
    /// A key of the file's metadata is missing or malformed.
    #[error("metadata key '{key}': {why}; export the model again with masktas")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// An image's bytes do not have the size the model wants.
    #[error(
        "the model wants {want} bytes ({side} x {side} RGB), but {got} were given; resize and crop the image first"
    )]
    ImageSize {
        /// Side of the square crop, in pixels.
        side: usize,
        /// Bytes wanted.
        want: usize,
        /// Bytes given.
        got: usize,
    },
    /// No adapter has this name or number.
    #[error("no adapter is called '{name}'; {next}")]
    UnknownAdapter {
        /// What was asked for.
        name: String,
        /// What there is and what to do.
        next: String,
    },
    /// There is no adapter of the kind that is needed.
    #[error("no adapter {wanted}; {next}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// What there is and what to do.
        next: String,
    },
    /// The adapter lacks a feature.
    #[error("adapter '{adapter}' lacks {feature}, which {what} needs; {next}")]
    MissingFeature {
        /// Its name.
        adapter: String,
        /// The feature's name.
        feature: &'static str,
        /// What was asked for.
        what: String,
        /// What to do.
        next: String,
    },
    /// The adapter refused something that should have worked.
    #[error("adapter '{adapter}' failed to {what}: {why}; update its driver or choose another adapter")]
    Adapter {
        /// Its name.
        adapter: String,
        /// What was tried.
        what: String,
        /// What the driver said.
        why: String,
    },
    /// The adapter's memory is full.
    #[error(
        "adapter '{adapter}' has no room for the {bytes} bytes of '{model}'; free its memory or choose another"
    )]
    AdapterMemory {
        /// Its name.
        adapter: String,
        /// The model.
        model: String,
        /// Bytes of all buffers of the model.
        bytes: u64,
    },
    /// The adapter went away while a model was on it.
    #[error("adapter '{adapter}' was lost: {why}; load the model again")]
    AdapterLost {
        /// Its name.
        adapter: String,
        /// What the driver said.
        why: String,
    },
    /// The tensors given to a run are not those that the model wants.
    #[error("input '{name}': the model wants {want}, but {got} was given; {next}")]
    InputMismatch {
        /// The input.
        name: String,
        /// What the model wants.
        want: String,
        /// What was given.
        got: String,
        /// What to do.
        next: String,
    },
}

impl Error {
    /// The same, naming the file that the model came from.
    pub fn in_file(self, path: &Path) -> Error {
        Error::InFile { path: path.to_owned(), source: Box::new(self) }
    }
}
