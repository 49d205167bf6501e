//! Compute kernels: WGSL text made from the shapes of one operation.
//!
//! An [`Op`] says what one kernel computes: a core, an expression that finishes each result, and
//! the strided [`View`]s through which it reads and writes. One file writes one family. Everything
//! is known when the text is written, so every extent and stride is a number in it; kernels of equal
//! text are one pipeline.
//!
//! All texts but those with cooperative matrices stay inside what both naga and tint accept. Work that exceeds the limit of workgroups
//! along one dimension is spread over three.

mod attention;
mod conv;
mod cooperative;
mod expr;
mod gather;
mod integer;
mod map;
mod matmul;
mod op;
mod pool;
mod registers;
mod rows;
mod scan;
mod scatter;
mod shared;
mod shared_attention;
mod target;
mod view;
mod wgsl;
mod window;
mod workgroup;

pub use op::{Binary, Core, Expr, Fold, Instr, Op, Operand, Pool, Unary};
pub use target::{AdapterClass, CooperativeSizes, Target};
pub use view::{Positions, View};

pub(crate) use attention::fits as attention_fits;
pub(crate) use cooperative::rounds_rows;
pub(crate) use expr::{ERF_FAR, ERF_NEAR};
pub(crate) use wgsl::{ENABLE_COOPERATIVE, ENABLE_F16};

use crate::error::{Error, Result};
use wgsl::Writer;

/// One kernel's text and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The shader module; its entry point is `main`.
    pub wgsl: String,
    /// Values bound for reading, in binding order; the output is bound after them.
    pub reads: Vec<usize>,
    /// Workgroups to start.
    pub workgroups: [u32; 3],
}

/// Threads of a workgroup by kind of kernel, and the class of adapter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub class: AdapterClass,
    /// One element a thread.
    pub plain: u32,
    /// One row a thread.
    pub row: u32,
    /// One register tile a thread.
    pub register: u32,
    /// Lanes of a subgroup, or 0 where kernels may not count on them.
    pub lanes: u32,
    /// Most threads a workgroup may have.
    pub most: u32,
    /// Cooperative matrices.
    pub cooperative: CooperativeSizes,
    most_groups: u32,
}

impl Threads {
    fn of(target: &Target) -> Threads {
        let most = target.max_compute_invocations_per_workgroup;
        let most_groups = target.max_compute_workgroups_per_dimension;
        // Small workgroups spread few rows over all cores.
        let row = 16.min(most);
        let lanes = if target.subgroups && target.subgroup_size <= most { target.subgroup_size } else { 0 };
        Threads {
            class: target.class,
            plain: 64.min(most),
            row,
            register: 16.min(most),
            lanes,
            most,
            cooperative: if target.subgroups { target.cooperative } else { CooperativeSizes::NONE },
            most_groups,
        }
    }

    /// Workgroups over three dimensions, or `None` when they do not fit.
    pub fn grid(&self, groups: u64) -> Option<[u32; 3]> {
        wgsl::spread(groups, self.most_groups)
    }
}

impl Kernel {
    /// The finished kernel, or `None` when its workgroups do not fit the target.
    fn new(
        op: &Op,
        writer: Writer,
        out_fours: bool,
        size: u32,
        groups: u64,
        threads: Threads,
    ) -> Option<Kernel> {
        let workgroups = threads.grid(groups)?;
        let (wgsl, reads) = writer.finish(op, out_fours, size, workgroups);
        Some(Kernel { wgsl, reads, workgroups })
    }
}

/// Whether the core computes with integers.
fn whole_numbers(op: &Op) -> bool {
    op.inputs.first().is_some_and(|operand| operand.dtype != crate::tensor::Dtype::F32)
}

/// Writes the kernel of `op` for `target`.
///
/// # Errors
/// [`Error::Unsupported`] when the work does not fit the target's limits, naming the first node.
pub fn generate(op: &Op, target: &Target) -> Result<Kernel> {
    let threads = Threads::of(target);
    let kernel = match op.core {
        Core::Map => map::generate(op, threads),
        Core::Matmul { .. } if whole_numbers(op) => integer::generate(op, threads),
        Core::Matmul { .. } | Core::PackedMatmul { .. } | Core::NormMatmul { .. } => {
            matmul::generate(op, threads)
        }
        Core::Conv { .. } => conv::generate(op, threads),
        Core::Pool { .. } => pool::generate(op, threads),
        Core::Reduce { fold, .. } if fold == Fold::Product || whole_numbers(op) => {
            scan::generate(op, threads)
        }
        Core::Norm { .. } | Core::Softmax { .. } | Core::Reduce { .. } => rows::generate(op, threads),
        Core::Arg { .. } | Core::Top { .. } | Core::Scan { .. } => scan::generate(op, threads),
        Core::Gather { .. } | Core::Pick { .. } => gather::generate(op, threads),
        Core::Scatter { .. } => scatter::generate(op, threads),
        Core::Attention { .. } => attention::generate(op, threads),
    };
    let node = || format!("node '{}'", op.nodes.first().map_or("", String::as_str));
    let kernel = kernel.ok_or_else(|| Error::Unsupported {
        what: node(),
        why: format!(
            "its {} kernel over {:?} does not fit {} workgroups a dimension",
            op.core.name(),
            op.output.view.shape,
            target.max_compute_workgroups_per_dimension
        ),
    })?;
    let bound = kernel.reads.len() + 1;
    if bound > target.max_storage_buffers_per_shader_stage as usize {
        return Err(Error::Unsupported {
            what: node(),
            why: format!(
                "its kernel binds {bound} buffers, the adapter allows {}",
                target.max_storage_buffers_per_shader_stage
            ),
        });
    }
    Ok(kernel)
}
