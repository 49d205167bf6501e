//! Planner, kernels and session: each operator, each rewrite, whole transformers, errors.
//!
//! Plans are made and their kernels validated by naga everywhere; they run where an adapter exists.
#![cfg(feature = "wgpu")]

mod common;
mod cooperative;
mod joined;
mod operators;
mod packed;
mod passes;
mod precision;
mod serial;
mod session;
mod spelt;
mod surface;
