//! Finds a model: the vision transformer that sees a folder of unlabelled images best within a
//! device's latency.
//!
//! ```text
//! Images ─► Teacher ─┐
//!                    ├─► Supernet ─► Score ◄─ Sampler ◄─ LatencyModel (masktas-devices)
//! Space ──► Genes ───┘                 │
//!                                      ▼
//!                          Front ─► extract ─► finetune ─► masktas-export
//! ```
//!
//! Everything is written to a [`run::Run`] as it happens, so a search continues after a kill. No
//! label reaches the search: labels are read only by `evaluate` and `finetune`.
//!
//! What it does not do: it parses no command line and prints nothing.

pub mod budget;
pub mod cache;
pub mod collective;
pub mod combine;
pub mod compare;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod finetune;
pub mod front;
pub mod images;
mod keys;
pub mod objective;
mod ops;
pub mod pipeline;
pub mod predictor;
pub mod progress;
pub mod rand;
pub mod recipe;
pub mod report;
pub mod run;
pub mod sampler;
pub mod score;
pub mod space;
pub mod stream;
pub mod suggest;
pub mod supernet;
pub mod table;
pub mod teacher;
pub mod topology;
pub mod train;

pub use error::{Error, Result};
