//! ONNX files: the messages and the reader.
//!
//! [`proto`] declares the messages of `onnx.proto` that masktas reads and writes; [`read`] and
//! [`read_file`] turn an untrusted file into a checked [`Graph`](crate::Graph); [`admit`] tells whether an
//! engine may be given one that is not read here. The writer is in the
//! export crate.

mod admit;
mod limits;
mod order;
pub mod proto;
mod read;
mod tensor;

pub use admit::{admit, node_names};
pub use limits::{FILE_MAX, ITEMS_MAX};
pub use read::{read, read_file};
