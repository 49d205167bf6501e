//! ONNX files: the messages and the reader.
//!
//! [`proto`] declares the messages of `onnx.proto` that masktas reads and writes; [`read`] and
//! [`read_file`] turn an untrusted file into a checked [`Graph`](crate::Graph). The writer is in the
//! export crate.

mod limits;
mod order;
pub mod proto;
mod read;
mod tensor;

pub use limits::{FILE_MAX, ITEMS_MAX};
pub use read::{read, read_file};
