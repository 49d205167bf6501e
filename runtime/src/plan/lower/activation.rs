//! Functions of one number that are more than one instruction.

use crate::graph::Node;
use crate::kernels::{Binary, Expr, Instr, Unary};

/// Appends what the operator makes of instruction `x`; `false` for an operator that is not here.
pub(super) fn write(node: &Node, expr: &mut Expr, x: usize) -> bool {
    let attribute = |name: &str, default: f32| node.float(name).unwrap_or(default);
    let mut f = Writer(expr);
    match node.op.as_str() {
        "LeakyRelu" => {
            let slope = f.float(attribute("alpha", 0.01));
            f.slopes(x, slope);
        }
        "HardSigmoid" => {
            let (slope, shift) = (f.float(attribute("alpha", 0.2)), f.float(attribute("beta", 0.5)));
            let (zero, one) = (f.float(0.0), f.float(1.0));
            let line = f.two(Binary::Mul, x, slope);
            let line = f.two(Binary::Add, line, shift);
            let line = f.two(Binary::Max, line, zero);
            f.two(Binary::Min, line, one);
        }
        "Elu" => {
            let alpha = attribute("alpha", 1.0);
            f.exponential(x, alpha, 1.0, 1.0);
        }
        "Celu" => {
            let alpha = attribute("alpha", 1.0);
            f.exponential(x, alpha, alpha, 1.0);
        }
        "Selu" => {
            let (alpha, gamma) = (attribute("alpha", 1.673_263_2), attribute("gamma", 1.050_701));
            f.exponential(x, alpha, 1.0, gamma);
        }
        "Softplus" => drop(f.softplus(x)),
        "Softsign" => {
            let one = f.float(1.0);
            let size = f.one(Unary::Abs, x);
            let size = f.two(Binary::Add, size, one);
            f.two(Binary::Div, x, size);
        }
        "Mish" => {
            let soft = f.softplus(x);
            let soft = f.one(Unary::Tanh, soft);
            f.two(Binary::Mul, x, soft);
        }
        "ThresholdedRelu" => {
            let (least, zero) = (f.float(attribute("alpha", 1.0)), f.float(0.0));
            let above = f.two(Binary::Less, least, x);
            f.0.push(Instr::Select(above, x, zero));
        }
        _ => return false,
    }
    true
}

/// An expression while it is written.
pub(super) struct Writer<'e>(pub &'e mut Expr);

impl Writer<'_> {
    pub fn float(&mut self, value: f32) -> usize {
        self.0.push(Instr::Float(value))
    }

    pub fn int(&mut self, value: i64) -> usize {
        self.0.push(Instr::Int(value))
    }

    pub fn one(&mut self, f: Unary, a: usize) -> usize {
        self.0.push(Instr::Unary(f, a))
    }

    pub fn two(&mut self, f: Binary, a: usize, b: usize) -> usize {
        self.0.push(Instr::Binary(f, a, b))
    }

    pub fn select(&mut self, condition: usize, yes: usize, no: usize) -> usize {
        self.0.push(Instr::Select(condition, yes, no))
    }

    /// `x` above zero and `slope * x` below.
    pub fn slopes(&mut self, x: usize, slope: usize) -> usize {
        let zero = self.float(0.0);
        let up = self.two(Binary::Max, x, zero);
        let down = self.two(Binary::Min, x, zero);
        let down = self.two(Binary::Mul, down, slope);
        self.two(Binary::Add, up, down)
    }

    /// `scale * x` above zero and `scale * alpha * (exp(x / width) - 1)` below.
    fn exponential(&mut self, x: usize, alpha: f32, width: f32, scale: f32) -> usize {
        let (zero, one, wide) = (self.float(0.0), self.float(1.0), self.float(width));
        let (down_scale, up_scale) = (self.float(alpha * scale), self.float(scale));
        let low = self.two(Binary::Min, x, zero);
        let low = self.two(Binary::Div, low, wide);
        let low = self.one(Unary::Exp, low);
        let low = self.two(Binary::Sub, low, one);
        let low = self.two(Binary::Mul, low, down_scale);
        let high = self.two(Binary::Max, x, zero);
        let high = self.two(Binary::Mul, high, up_scale);
        self.two(Binary::Add, low, high)
    }

    /// `log(1 + exp(x))`, written so that no large `x` overflows.
    fn softplus(&mut self, x: usize) -> usize {
        let (zero, one) = (self.float(0.0), self.float(1.0));
        let small = self.one(Unary::Abs, x);
        let small = self.one(Unary::Neg, small);
        let small = self.one(Unary::Exp, small);
        let small = self.two(Binary::Add, small, one);
        let small = self.one(Unary::Log, small);
        let large = self.two(Binary::Max, x, zero);
        self.two(Binary::Add, large, small)
    }

    /// An integer index that counts from the end where it is negative, over `extent` elements.
    pub fn wrapped(&mut self, index: usize, extent: usize) -> usize {
        let (zero, extent) = (self.int(0), self.int(extent as i64));
        let negative = self.two(Binary::Less, index, zero);
        let from_end = self.two(Binary::Add, index, extent);
        self.select(negative, from_end, index)
    }

    /// `x` between `low` and `high`.
    pub fn clamp(&mut self, x: usize, low: f32, high: f32) -> usize {
        let (low, high) = (self.float(low), self.float(high));
        let x = self.two(Binary::Max, x, low);
        self.two(Binary::Min, x, high)
    }
}
