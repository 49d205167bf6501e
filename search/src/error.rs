//! What can go wrong in a search.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing, both numbers, and one next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Names the file in an input/output error.
pub trait At<T> {
    /// Names `path` in the error.
    ///
    /// # Errors
    /// The error itself, with the path.
    fn at(self, path: impl Into<std::path::PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl Into<std::path::PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.into(), source })
    }
}
