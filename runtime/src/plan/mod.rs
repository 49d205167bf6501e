//! From a graph to a plan: plain data that a thin player can play without knowing the model.
//!
//! ```text
//! Graph ─► lower ─► Program (kernels over views) ─► passes ─► WGSL texts ─► buffers ─► Plan
//! ```
//!
//! A [`Plan`] holds the texts of its kernels, the sizes of its buffers, the dispatches in order and
//! the weights. It refers to no live adapter: [`Target`] says what it may use. [`Plan::write`] gives
//! it as two files, of which [`Plan::read`] trusts nothing.

mod buffers;
mod host;
mod lower;
mod passes;
mod program;
mod serial;
mod taps;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::Graph;
pub use crate::kernels::{AdapterClass, CooperativeSizes, Target};
use crate::kernels::{ENABLE_COOPERATIVE, ENABLE_F16, rounds_rows};
use crate::tensor::Dtype;

pub use buffers::{from_words, to_words};
pub use passes::Passes;
pub use serial::{BUFFER_BYTES_MAX, PLAN_BYTES_MAX, PlanFiles};

/// Version of [`Plan`]'s layout; a player refuses others.
pub const PLAN_VERSION: u32 = 1;

/// What the weights of matrix products are kept as. Sums are 32-bit floats with either, and so is everything else but where it
/// is said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats, which every adapter has.
    #[default]
    F32,
    /// 16-bit floats, half the memory, rounded once to 11 bits; where the adapter has the feature `SHADER_F16`. A matrix of
    /// which that would make infinities, or whose largest weight is below 2^-14 and not all of whose weights 16 bits hold, keeps 32.
    /// Where kernels with cooperative matrices were asked for or chosen by a tune, and the adapter has none of 32-bit floats, the
    /// rows of such a product are rounded to 11 bits too, and must be within 65,504.
    F16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Precision::F16 { "f16" } else { "f32" })
    }
}

/// How to make a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which rewrites to apply.
    pub passes: Passes,
    /// Sizes of symbolic extents, such as a batch.
    pub symbols: BTreeMap<String, usize>,
    /// What the weights of matrix products are kept as.
    pub precision: Precision,
}

/// A model as buffers, kernels and dispatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the maker.
    pub version: u32,
    /// Name of the model.
    pub name: String,
    /// What it was made for.
    pub target: Target,
    /// Values the caller gives, in the model's order.
    pub inputs: Vec<Port>,
    /// Values the caller gets, in the model's order.
    pub outputs: Vec<Port>,
    /// Buffers to make.
    pub buffers: Vec<Buffer>,
    /// WGSL modules, each with the entry point `main`.
    pub kernels: Vec<String>,
    /// What to run, in order, in one compute pass.
    pub dispatches: Vec<Dispatch>,
    /// Elements of the weight buffers one after another, in the order of `buffers`. Kept beside the
    /// plan, not in it.
    #[serde(skip)]
    pub weights: Vec<u8>,
}

/// An input or output of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Its element type for the caller; on the adapter every type but `F32` is a 32-bit integer.
    pub dtype: Dtype,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its buffer.
    pub buffer: usize,
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BufferRole {
    /// Written by the caller.
    Input,
    /// Read by the caller.
    Output,
    /// Written once, from [`Plan::weights`].
    Weight,
    /// Written and read by kernels.
    Scratch,
}

/// One buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Its size; a multiple of 16.
    pub bytes: u64,
    /// What it is for.
    pub role: BufferRole,
}

/// A part of a buffer that a kernel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Which buffer.
    pub buffer: usize,
    /// First byte; a multiple of 256.
    pub offset: u64,
    /// Bytes; a multiple of 16.
    pub bytes: u64,
}

/// One kernel with its bindings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Which of [`Plan::kernels`].
    pub kernel: usize,
    /// Read-only bindings in order, then the one that is written.
    pub bindings: Vec<Binding>,
    /// Workgroups to start.
    pub workgroups: [u32; 3],
    /// Family of the kernel, such as `matmul`.
    pub family: String,
    /// Names of the graph's nodes it stands for.
    pub nodes: Vec<String>,
}

impl Plan {
    /// Bytes of all buffers together.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|b| b.bytes).sum()
    }

    /// What it keeps weights of matrix products as: its kernels say so.
    pub fn precision(&self) -> Precision {
        let half = self.kernels.iter().any(|text| text.contains(ENABLE_F16));
        if half { Precision::F16 } else { Precision::F32 }
    }

    /// Whether kernels use cooperative matrices.
    pub fn is_cooperative(&self) -> bool {
        self.kernels.iter().any(|text| text.contains(ENABLE_COOPERATIVE))
    }

    /// How many products round their rows to 16 bits, as cooperative matrices of 16-bit floats do.
    pub fn rounded_products(&self) -> usize {
        let rounds =
            |dispatch: &&Dispatch| self.kernels.get(dispatch.kernel).is_some_and(|text| rounds_rows(text));
        self.dispatches.iter().filter(rounds).count()
    }

    /// How many products of floats read weights that are kept in 32 bits.
    #[cfg(feature = "wgpu")]
    pub(crate) fn wide_products(&self) -> usize {
        let weight = |dispatch: &Dispatch| {
            let buffer = dispatch.bindings.get(1).and_then(|binding| self.buffers.get(binding.buffer));
            buffer.is_some_and(|buffer| buffer.role == BufferRole::Weight)
        };
        let half = |dispatch: &Dispatch| {
            self.kernels.get(dispatch.kernel).is_some_and(|text| text.contains(ENABLE_F16))
        };
        let product = |family: &str| family.ends_with("matmul") && !family.starts_with("packed");
        self.dispatches.iter().filter(|d| product(&d.family) && weight(d) && !half(d)).count()
    }
}

/// Plans `graph` for `target` with every rewrite.
///
/// # Errors
/// As [`plan_with`].
pub fn plan(graph: &Graph, target: &Target) -> Result<Plan> {
    plan_with(graph, target, &PlanOptions::default())
}

/// Plans `graph` for `target`.
///
/// # Errors
/// As [`Graph::validate`], [`Graph::check_weights`] and [`Graph::shapes`];
/// [`Error::UnknownSymbol`] for the size of a symbol that the graph does not have;
/// [`crate::Error::UnsupportedOp`] and [`crate::Error::Unsupported`], naming the node, for what no
/// kernel computes or what exceeds the target's limits; [`Error::Unsupported`] for 16-bit floats where the target has none.
pub fn plan_with(graph: &Graph, target: &Target, options: &PlanOptions) -> Result<Plan> {
    if options.precision == Precision::F16 && !target.f16 {
        return Err(Error::Unsupported {
            what: "precision f16".to_owned(),
            why: "16-bit floats (SHADER_F16) on a target that has none (precision f32 wants none)".to_owned(),
        });
    }
    graph.validate()?;
    graph.check_weights()?;
    known_symbols(graph, &options.symbols)?;
    let known = graph.infer(&options.symbols)?;
    let mut program = lower::lower(graph, &known, &options.passes)?;
    passes::run(&mut program, &options.passes, options.precision, target);
    buffers::assign(graph, &program, target, options.passes.reuse)
}

/// Refuses the size of a symbol that no input or output has: a misspelt one would be ignored, or be missed under its right name.
fn known_symbols(graph: &Graph, given: &BTreeMap<String, usize>) -> Result<()> {
    let own = graph.symbols();
    let Some((symbol, size)) = given.iter().find(|(symbol, _)| !own.contains(symbol.as_str())) else {
        return Ok(());
    };
    let (known, next) = if own.is_empty() {
        let next = format!("leave '{symbol}' out, or export the model with a symbolic extent");
        ("the model has no symbolic extents".to_owned(), next)
    } else {
        let names: Vec<String> = own.iter().map(|name| format!("'{name}'")).collect();
        (
            format!("the model's symbols are {}", names.join(", ")),
            format!("name one of them instead of '{symbol}'"),
        )
    };
    Err(Error::UnknownSymbol { symbol: symbol.clone(), size: *size, known, next })
}
