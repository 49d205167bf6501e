//! Makes a model file.
//!
//! An [`Arch`] says what a network looks like, [`Weights`] hold its parameters, `lower` turns both
//! into a [`Graph`](masktas_runtime::Graph), and a `Package` is what a user takes away: one ONNX
//! file with its preprocessing inside and a golden input/output pair beside it.
//!
//! What it does not do: it trains nothing and runs nothing.

pub mod arch;
pub mod error;
pub mod weights;

pub use arch::{Arch, VitArch, VitBlock};
pub use error::{Error, Result};
pub use weights::Weights;
