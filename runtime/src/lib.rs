//! Runs a model.
//!
//! An ONNX file is read into a [`Graph`], the only model representation of masktas. A graph is
//! compiled into a `Plan` (plain data: buffers, WGSL texts, dispatches, weights), and a plan is
//! played by a `Session` on any wgpu adapter.
//!
//! ```text
//! ONNX bytes ─► onnx::read ─► Graph ─► plan ─► Plan ─► Session (wgpu)
//!                               │
//!                               └─► Features (FLOPs, bytes, shapes per operation)
//! ```
//!
//! What it does not do: it never trains, never searches, knows no architecture by name, and never
//! falls back to the CPU. Without the `wgpu` feature it is the graph, the reader and the planner.

pub mod error;
pub mod graph;
pub mod kernels;
pub mod onnx;
pub mod plan;
pub mod preprocess;
#[cfg(feature = "wgpu")]
pub mod session;
pub mod tensor;
pub mod tolerance;

pub use error::{Error, Result};
pub use graph::{Attribute, Dim, Features, Graph, GraphBuilder, Node, ValueInfo};
pub use preprocess::{Interpolation, Preprocess};
pub use tensor::{Data, Dtype, Tensor};
pub use tolerance::{Tolerance, Verdict};
