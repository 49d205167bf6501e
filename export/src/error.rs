//! What can go wrong when a model file is made.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing and, where there are two numbers, both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or a graph is not what it should be.
    #[error(transparent)]
    Runtime(#[from] masktas_runtime::Error),
}
