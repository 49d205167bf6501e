//! Rewrites of a program, one a file. Each keeps the answer and can be switched off.

mod attention;
mod dead;
mod fold;
mod fuse;
mod gain;
mod half;
mod merge;
mod normalise;
mod pull;
mod recompose;
mod scale;

use serde::{Deserialize, Serialize};

use crate::kernels::Target;
use crate::plan::Precision;
use crate::plan::program::Program;

/// Which rewrites a plan is made with. All are on by default; the answer is the same with any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// Movement of data as views instead of copies.
    pub views: bool,
    /// Products of 8-bit integers take four of them at a time, packed in a word.
    pub pack: bool,
    /// Elementwise kernels of constants, and permuted constants, computed once on the host.
    pub fold: bool,
    /// Kernels that nobody reads are dropped.
    pub dead: bool,
    /// Layer and RMS normalisations that are spelt out become one kernel.
    pub recompose: bool,
    /// Elementwise kernels and copies join the kernels that feed them, or the one that reads them in parts.
    pub fuse: bool,
    /// A constant factor behind a matrix product moves into its weights, one before it behind it.
    pub scale: bool,
    /// Products of one input by several weights (query, key, value) become one.
    pub merge: bool,
    /// Gains and shifts of normalisations move into the weights and biases behind them.
    pub gain: bool,
    /// A normalisation that one product reads becomes part of that product.
    pub normalise: bool,
    /// Product, softmax, product become one kernel that stores no scores.
    pub attention: bool,
    /// Scratch buffers are used again once their value is dead.
    pub reuse: bool,
}

impl Passes {
    /// Every rewrite.
    pub const ALL: Passes = Passes::same(true);
    /// None: one kernel or more for every node.
    pub const NONE: Passes = Passes::same(false);

    /// Each by its name, in the order they are applied, and whether it is on.
    pub fn named(&self) -> [(&'static str, bool); 12] {
        [
            ("views", self.views),
            ("pack", self.pack),
            ("fold", self.fold),
            ("dead", self.dead),
            ("recompose", self.recompose),
            ("fuse", self.fuse),
            ("scale", self.scale),
            ("merge", self.merge),
            ("gain", self.gain),
            ("normalise", self.normalise),
            ("attention", self.attention),
            ("reuse", self.reuse),
        ]
    }

    const fn same(on: bool) -> Passes {
        Passes {
            views: on,
            pack: on,
            fold: on,
            dead: on,
            recompose: on,
            fuse: on,
            scale: on,
            merge: on,
            gain: on,
            normalise: on,
            attention: on,
            reuse: on,
        }
    }
}

impl Default for Passes {
    fn default() -> Self {
        Passes::ALL
    }
}

/// Applies the passes that are on.
pub(crate) fn run(program: &mut Program, passes: &Passes, precision: Precision, target: &Target) {
    if passes.fold {
        fold::run(program);
    }
    if passes.dead {
        dead::run(program);
    }
    if passes.recompose {
        recompose::run(program);
        // What a normalisation was spelt with reads its input still, which would keep others from joining it.
        if passes.dead {
            dead::run(program);
        }
    }
    if passes.fuse {
        fuse::run(program, target);
        pull::run(program, target);
    }
    if passes.scale {
        scale::run(program);
    }
    if passes.merge {
        merge::run(program);
    }
    if passes.gain {
        gain::run(program);
    }
    if passes.normalise {
        normalise::run(program);
    }
    if passes.attention {
        attention::run(program, target);
    }
    if passes.dead {
        dead::run(program);
    }
    if precision == Precision::F16 {
        half::run(program);
    }
}
