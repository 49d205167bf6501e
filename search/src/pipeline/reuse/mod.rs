//! What one run takes over from another, so that it is done once: a finished profile, and a trained supernet.

mod profile;
mod supernet;

pub(crate) use profile::PROFILE_FROM;
pub(super) use profile::first_model;
pub(super) use profile::take_over as take_profile;
pub use profile::{Board, check_profile, engines_of, measured_itself};
pub(crate) use supernet::SUPERNET_FROM;
pub use supernet::recipe_of_supernet;
pub(super) use supernet::{take_images, take_over as take_supernet, take_trained};
