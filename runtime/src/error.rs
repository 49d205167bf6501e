//! What can go wrong when a model is read, planned or run.

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
    #[error("a tensor of shape {shape:?} has {want} elements, but {got} were given")]
    ElementCount {
        /// The shape.
        shape: Vec<usize>,
        /// Its product.
        want: usize,
        /// Elements given.
        got: usize,
    },
    /// The product of a shape overflows.
    #[error("a tensor of shape {shape:?} is too large for this machine's address space")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
}
