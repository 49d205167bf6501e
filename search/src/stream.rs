//! How tasks arrive: one now; a sequence of them in continual search (recipe `ccl`).

use crate::error::{Error, Result};
use crate::recipe::Data;

/// Registered streams.
pub const NAMES: &[&str] = &["single"];

/// The tasks of a search, in the order in which they arrive.
pub trait Stream: Send + Sync {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Number of tasks, at least 1. The supernet of a task starts from that of the one before.
    fn count(&self) -> usize;
    /// The data of task `index`, below [`Stream::count`].
    fn task(&self, data: &Data, index: usize) -> Data;
}

/// All data are there from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Stream for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn count(&self) -> usize {
        1
    }

    fn task(&self, data: &Data, _index: usize) -> Data {
        data.clone()
    }
}

/// The stream registered under `name`.
///
/// # Errors
/// Unknown names, with a suggestion.
pub fn by_name(name: &str) -> Result<Box<dyn Stream>> {
    match name {
        "single" => Ok(Box::new(Single)),
        _ => Err(Error::UnknownName {
            what: "stream",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, NAMES.iter().copied()),
        }),
    }
}
