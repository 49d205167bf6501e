//! Makes a model file.
//!
//! An [`Arch`] says what a network looks like, [`Weights`] hold its parameters, [`lower()`] turns both
//! into a [`Graph`](masktas_runtime::Graph), [`onnx::write`] turns that into bytes, and a [`Package`]
//! is what a user takes away: one ONNX file with its preprocessing inside and a [`Golden`] input/output
//! pair beside it.
//!
//! ```text
//! Arch ───┬─► lower ─► Graph ─► onnx::write ─┬─► NAME.onnx
//! Weights ┘              ▲                   │
//!   Preprocess, Provenance (metadata)        └─► NAME.golden.safetensors
//! ```
//!
//! [`web::write`] makes a graph a folder for any static host: a page that runs the model in a browser.
//!
//! What it does not do: it trains nothing and runs nothing.

pub mod arch;
pub mod error;
pub mod files;
pub mod lower;
pub mod onnx;
pub mod package;
pub mod web;
pub mod weights;

pub use arch::{Arch, VitArch, VitBlock};
pub use error::{Error, Result};
pub use lower::{Batch, Head, LowerOptions, lower, relative_bucket};
pub use package::{Golden, Labels, Package, Provenance};
pub use web::WebPage;
pub use weights::{Weights, names_and_shapes};
