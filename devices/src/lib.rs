//! Runs a model elsewhere, checks it and times it.
//!
//! ```text
//!                 ┌─► parity    golden pair replayed: pass, warn or fail per engine
//! ONNX ─► Engine ─┤
//!                 └─► Bench ─► Measurement ─► LatencyModel ─► Prediction with an interval
//!                       │          │
//!                   Protocol   Fingerprint
//! ```
//!
//! Main nouns: a [`Device`] is reached by a [`Transport`]; an [`Engine`] (ort, tract, wgpu) runs an ONNX file; a
//! [`Protocol`] says how time is taken, and its hash travels with every [`Measurement`], as does the [`Fingerprint`] of the
//! machine; a [`LatencyModel`] learns from measurements of one [`Key`] and predicts from a graph's
//! [`Features`](masktas_runtime::Features), so it serves any ONNX file.
//!
//! What it does not do: it never trains or makes a model, knows no architecture by name, prints nothing, and
//! never falls back to another engine, library, provider or device than the one asked for.

pub mod agent;
pub mod catalogue;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod latency;
pub mod measure;
pub mod parity;
mod process;
pub mod profile;
pub mod protocol;
pub mod stats;
pub mod suggest;
pub mod sustained;
pub mod trace;
pub mod transport;
pub mod wire;
pub mod worker;

pub use catalogue::{Catalogue, Device, device, devices};
pub use doctor::{Check, Status, doctor, machine_checks};
pub use engine::{
    Engine, EngineOptions, InputInfo, Kernels, LoadOptions, LoadedModel, Tensors, engine, engines,
};
pub use error::{Error, Result};
pub use fingerprint::{Fingerprint, State};
pub use latency::{HeldOut, LatencyModel, Prediction, Ridge, Sample, latency_model, latency_models};
pub use measure::{
    Bench, BenchJob, Calibration, Gate, Golden, Key, Measure, Measurement, Steadiness, Subject,
};
pub use parity::{Parity, ParityRow, parity};
pub use profile::{
    Library, LostConnection, NamedModel, Outcome, ProfileFile, ProfileJob, Progress, Row, Summary,
    profile_models,
};
pub use protocol::{Clock, Protocol};
pub use sustained::{Sustained, Window};
pub use trace::{NodeTime, Trace, TraceJob};
pub use transport::{Address, Local, Remote, RemoteOptions, Transport};
pub use worker::{Limits, WorkerCommand};
