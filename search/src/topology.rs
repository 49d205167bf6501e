//! Who holds the data: one party now; several that hold different features of the same images in
//! vertical federated search (recipe `ss-vfnas`).

use crate::error::{Error, Result};
use crate::images::{self, ImageSource};
use crate::recipe::Data;

/// Registered topologies.
pub const NAMES: &[&str] = &["single"];

/// The parties of a search and what each of them sees.
pub trait Topology: Send + Sync {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Number of parties, at least 1.
    fn parties(&self) -> usize;
    /// What party `index`, below [`Topology::parties`], holds of a task's data.
    ///
    /// # Errors
    /// The source does not exist or is damaged.
    fn source(&self, data: &Data, index: usize) -> Result<Box<dyn ImageSource>>;
}

/// One party holds every image whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Topology for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn parties(&self) -> usize {
        1
    }

    fn source(&self, data: &Data, _index: usize) -> Result<Box<dyn ImageSource>> {
        images::open(data.path.as_deref())
    }
}

/// The topology registered under `name`.
///
/// # Errors
/// Unknown names, with a suggestion.
pub fn by_name(name: &str) -> Result<Box<dyn Topology>> {
    match name {
        "single" => Ok(Box::new(Single)),
        _ => Err(Error::UnknownName {
            what: "topology",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, NAMES.iter().copied()),
        }),
    }
}
