//! What crosses a pipe or a socket: one JSON value a line, of bounded length.
//!
//! Lines are read by [`Lines`] on a thread of its own, so that whoever waits for one can stop waiting; tensors and files
//! travel as base64 text inside them.

mod lines;
mod stdout;
mod tensors;

pub use lines::{Heard, Lines, MAX_LINE, send};
pub use stdout::own_stdout;
pub use tensors::{Base64, WireTensor, from_wire, to_wire};
