//! What runs on a device: takes models, measures them, tells the results.
//!
//! ```text
//! client ── JSON lines over ssh, adb, docker exec, a pipe, or TLS ──► Agent ──► Bench ──► one worker a model
//! ```
//!
//! An agent takes ONNX files and nothing else: no command, no path, no library. It caps their bytes, and each measured
//! model's time and memory, and it makes no connection of its own.

mod listen;
mod message;
mod serve;
mod store;
mod tls;

pub use listen::{Listener, Secrets};
pub use message::{ALIVE_S, EngineState, PART, PROTOCOL, Reply, Request, WireGolden, WireSubject};
pub(crate) use serve::engine_states;
pub use serve::{AgentOptions, serve};
pub use store::{Store, model_hash};
pub use tls::{Pin, connect};
