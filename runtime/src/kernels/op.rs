//! What one kernel computes: a core, an expression that finishes each of its results, and the views
//! through which it reads and writes.

use crate::kernels::view::View;
use crate::tensor::Dtype;

/// A value as one kernel reads or writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Which value, by index in its program.
    pub value: usize,
    /// Its element type.
    pub dtype: Dtype,
    /// How it is walked.
    pub view: View,
}

/// One kernel: `output[i] = expr(core(inputs)[i], inputs…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Names of the graph's nodes it stands for.
    pub nodes: Vec<String>,
    /// The part that is more than elementwise.
    pub core: Core,
    /// The core's operands first, then those that only `expr` reads. The latter have the shape of
    /// `output`'s view.
    pub inputs: Vec<Operand>,
    /// What is done to each result before it is stored.
    pub expr: Expr,
    /// Where results go; its view's shape is the space the kernel loops over.
    pub output: Operand,
}

/// The part of a kernel that is more than elementwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Core {
    /// Nothing: the expression alone. Reads no operand of its own.
    Map,
    /// `a[batch.., m.., k..] x b[batch.., k.., n..]`, looping over `batch.. m.. n..`.
    Matmul {
        /// Leading axes shared by both.
        batch: usize,
        /// Row axes of `a`.
        m: usize,
        /// Summed axes.
        k: usize,
    },
    /// As [`Core::Matmul`], of 8-bit signed integers, four neighbours of a summed axis to a word: `a[batch.., m.., k..]`,
    /// `b[batch.., k.., n..]` of such words, to exact sums in 32 bits.
    PackedMatmul {
        /// Leading axes shared by both.
        batch: usize,
        /// Row axes of `a`.
        m: usize,
        /// Summed axes.
        k: usize,
    },
    /// Rows of `a`, normalised as by [`Core::Norm`] over their one summed axis, times `b`.
    ///
    /// `a[m.., k]`, `b[k, n]`, and as the third operand the sums of the columns of `b`, looping over `m.. n`.
    NormMatmul {
        /// Row axes of `a`.
        m: usize,
        /// Added to the variance.
        epsilon: f32,
        /// Whether the mean is taken away first.
        centred: bool,
    },
    /// Direct convolution of `x[batch, channels, space..]` by `w[out, channels / groups, window..]`.
    Conv {
        /// Steps of the window along each axis of space.
        strides: Vec<usize>,
        /// Zeros before the first element of each axis.
        pads: Vec<usize>,
        /// Distance of the window's taps.
        dilations: Vec<usize>,
        /// Groups of channels.
        groups: usize,
    },
    /// A window over `x[batch, channels, space..]`, joined to one number.
    Pool {
        /// Extents of the window.
        kernel: Vec<usize>,
        /// Its steps.
        strides: Vec<usize>,
        /// Elements left out before the first of each axis.
        pads: Vec<usize>,
        /// Distance of the window's taps.
        dilations: Vec<usize>,
        /// How elements are joined.
        pool: Pool,
    },
    /// `(x - mean) / sqrt(variance + epsilon)` over the last `axes` axes; not centred, `x / sqrt(mean(x^2) + epsilon)`.
    Norm {
        /// Axes that are normalised.
        axes: usize,
        /// Added to the variance.
        epsilon: f32,
        /// Whether the mean is taken away first.
        centred: bool,
    },
    /// Softmax over the last axis, or its logarithm.
    Softmax {
        /// Whether the logarithm is wanted.
        log: bool,
    },
    /// The place of the greatest or least element along the last axis of the operand, which vanishes.
    Arg {
        /// Greatest or least.
        largest: bool,
        /// Of equals the last or the first.
        last: bool,
    },
    /// The greatest or least elements along the last axis in order, or their places; of equals the first comes first.
    Top {
        /// Greatest or least.
        largest: bool,
        /// Places instead of elements.
        place: bool,
    },
    /// Running sums along the last axis.
    Scan {
        /// Whether an element is left out of its own sum.
        exclusive: bool,
        /// Whether sums run from the end.
        reverse: bool,
    },
    /// Reduces the last `axes` axes of its operand, whose leading axes are the output's.
    Reduce {
        /// Axes that vanish.
        axes: usize,
        /// How.
        fold: Fold,
    },
    /// `data` taken at `indices` along one axis.
    ///
    /// `data` has the output's axes before `axis`, the gathered axis, and the output's axes after
    /// the `rank` axes of `indices`.
    Gather {
        /// The gathered axis of `data`.
        axis: usize,
        /// Axes of `indices`.
        rank: usize,
    },
    /// `data` taken along one axis at `indices`, which have the output's shape; so has `data` on the other axes.
    Pick {
        /// The axis.
        axis: usize,
    },
    /// `data` with elements along one axis replaced by, or joined with, `updates` at `indices`.
    ///
    /// `data` has the output's shape. `indices` and `updates` have one shape, which is the output's but for the axis.
    Scatter {
        /// The axis.
        axis: usize,
        /// How an update joins; `None`: it replaces.
        fold: Option<Fold>,
    },
    /// `softmax(score(q k^T)) v`, without storing the scores.
    ///
    /// `q[batch.., m, d]`, `k[batch.., d, n]`, `v[batch.., n, e]`, looping over `batch.. m e`.
    Attention {
        /// Leading axes shared by all three.
        batch: usize,
        /// Keys.
        keys: usize,
        /// What is done to a score before the softmax; loads operands of shape `[batch.., m, n]`.
        score: Expr,
    },
}

impl Core {
    /// Operands that the core itself reads; they come first.
    pub fn operands(&self) -> usize {
        match self {
            Core::Map => 0,
            Core::Norm { .. } | Core::Softmax { .. } | Core::Reduce { .. } | Core::Pool { .. } => 1,
            Core::Arg { .. } | Core::Top { .. } | Core::Scan { .. } => 1,
            Core::Matmul { .. } | Core::PackedMatmul { .. } | Core::Conv { .. } => 2,
            Core::Gather { .. } | Core::Pick { .. } => 2,
            Core::Attention { .. } | Core::Scatter { .. } | Core::NormMatmul { .. } => 3,
        }
    }

    /// Name of the kernel family.
    pub fn name(&self) -> &'static str {
        match self {
            Core::Map => "map",
            Core::Matmul { .. } => "matmul",
            Core::PackedMatmul { .. } => "packed-matmul",
            Core::NormMatmul { .. } => "norm-matmul",
            Core::Conv { .. } => "conv",
            Core::Norm { .. } => "norm",
            Core::Softmax { .. } => "softmax",
            Core::Pool { .. } => "pool",
            Core::Arg { .. } => "arg",
            Core::Top { .. } => "top",
            Core::Scan { .. } => "scan",
            Core::Pick { .. } => "pick",
            Core::Scatter { .. } => "scatter",
            Core::Reduce { .. } => "reduce",
            Core::Gather { .. } => "gather",
            Core::Attention { .. } => "attention",
        }
    }
}

/// How a reduction joins elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Greatest.
    Max,
    /// Least.
    Min,
    /// Product.
    Product,
}

/// How a window's elements are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The greatest.
    Max,
    /// The place of the greatest in the whole image.
    Place {
        /// Whether places are counted by columns first.
        columns: bool,
    },
    /// The mean; with `ends`, the elements of padding after each axis, padding counts as zeros.
    Mean {
        /// Padding after the last element of each axis.
        ends: Option<Vec<usize>>,
    },
    /// The root of that order of the sum of absolute powers.
    Power(u32),
}

/// Straight-line code in single assignment form; the last instruction is the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expr(pub Vec<Instr>);

/// One instruction of an [`Expr`]; numbers are places of earlier instructions.
#[derive(Clone, Debug, PartialEq)]
pub enum Instr {
    /// The core's result.
    Acc,
    /// An element of the input of that index.
    Load(usize),
    /// A float.
    Float(f32),
    /// An integer or boolean.
    Int(i64),
    /// A function of one float.
    Unary(Unary, usize),
    /// A function of two numbers of one type.
    Binary(Binary, usize, usize),
    /// The second where the first is not zero, else the third.
    Select(usize, usize, usize),
    /// To a float.
    ToFloat(usize),
    /// To an integer, toward zero.
    ToInt(usize),
    /// To 0 or 1.
    ToBool(usize),
}

/// Functions of one number. Those of integers are `Neg`, `Abs`, `Sign`, `Not` and the `Wrap…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Unary {
    Sqrt,
    Exp,
    Log,
    Erf,
    Gelu,
    GeluTanh,
    Tanh,
    Sigmoid,
    Relu,
    Reciprocal,
    Neg,
    Abs,
    Floor,
    Ceil,
    Sin,
    Cos,
    HardSwish,
    Not,
    Round,
    Sign,
    /// Rounded to what a 16-bit IEEE float holds.
    Half,
    /// Rounded to the upper 16 bits of a float.
    Bf16,
    /// The low bits as an integer of a narrower type.
    WrapI8,
    WrapU8,
    WrapI16,
    WrapU16,
}

/// Functions of two numbers. The last five give 0 or 1; `Rem` has the sign of the dividend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
    Rem,
    Equal,
    Less,
    LessOrEqual,
    And,
    Or,
}

impl Binary {
    /// Whether the result is 0 or 1.
    pub fn is_test(self) -> bool {
        matches!(self, Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::And | Binary::Or)
    }
}

impl Expr {
    /// The core's result as it is.
    pub fn acc() -> Expr {
        Expr(vec![Instr::Acc])
    }

    /// The input of that index as it is.
    pub fn load(input: usize) -> Expr {
        Expr(vec![Instr::Load(input)])
    }

    /// Whether the expression only passes on its input or the core's result.
    pub fn is_copy(&self) -> bool {
        matches!(self.0.as_slice(), [Instr::Acc] | [Instr::Load(_)])
    }

    /// Appends `instr` and gives its place.
    pub fn push(&mut self, instr: Instr) -> usize {
        self.0.push(instr);
        self.0.len() - 1
    }

    /// The inputs loaded, in order, without repeats.
    pub fn loads(&self) -> Vec<usize> {
        let mut loads: Vec<usize> =
            self.0.iter().filter_map(|i| if let Instr::Load(n) = i { Some(*n) } else { None }).collect();
        loads.sort_unstable();
        loads.dedup();
        loads
    }

    /// `self` with every leaf `leaf(instr)` replaced by `inner`, whose result takes its place; other
    /// leaves are mapped by `rename`.
    pub fn substitute(
        &self,
        is_hole: impl Fn(&Instr) -> bool,
        inner: &Expr,
        rename: impl Fn(&Instr) -> Instr,
    ) -> Expr {
        let mut out = inner.clone();
        let hole = out.0.len().saturating_sub(1);
        let mut place = Vec::with_capacity(self.0.len());
        for instr in &self.0 {
            let at = |i: &usize| place.get(*i).copied().unwrap_or(0);
            let next = match instr {
                leaf if is_hole(leaf) => {
                    place.push(hole);
                    continue;
                }
                Instr::Unary(f, a) => Instr::Unary(*f, at(a)),
                Instr::Binary(f, a, b) => Instr::Binary(*f, at(a), at(b)),
                Instr::Select(c, a, b) => Instr::Select(at(c), at(a), at(b)),
                Instr::ToFloat(a) => Instr::ToFloat(at(a)),
                Instr::ToInt(a) => Instr::ToInt(at(a)),
                Instr::ToBool(a) => Instr::ToBool(at(a)),
                leaf => rename(leaf),
            };
            let to = out.push(next);
            place.push(to);
        }
        // The result must be last; a hole that is the whole expression already is.
        if let Some(last) = place.last()
            && *last + 1 != out.0.len()
        {
            out.0.truncate(*last + 1);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitution_keeps_the_result_last() {
        // x * (1 + x) with x = acc + load(1)
        let outer = Expr(vec![
            Instr::Load(0),
            Instr::Float(1.0),
            Instr::Binary(Binary::Add, 1, 0),
            Instr::Binary(Binary::Mul, 0, 2),
        ]);
        let inner = Expr(vec![Instr::Acc, Instr::Load(1), Instr::Binary(Binary::Add, 0, 1)]);
        let joined = outer.substitute(|i| *i == Instr::Load(0), &inner, Clone::clone);
        assert_eq!(joined.0.len(), 6);
        assert_eq!(joined.0[5], Instr::Binary(Binary::Mul, 2, 4));
        let copy = Expr::load(0).substitute(|i| *i == Instr::Load(0), &inner, Clone::clone);
        assert_eq!(copy, inner);
    }
}
