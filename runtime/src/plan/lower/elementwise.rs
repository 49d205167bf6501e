//! Operators that compute each element on its own.

use super::Lowering;
use super::activation::{self, Writer};
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Instr, Operand, Unary};
use crate::tensor::Dtype;

fn unary(node: &Node) -> Result<Option<Unary>> {
    Ok(Some(match node.op.as_str() {
        "Sqrt" => Unary::Sqrt,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Erf" => Unary::Erf,
        "Tanh" => Unary::Tanh,
        "Sigmoid" => Unary::Sigmoid,
        "Relu" => Unary::Relu,
        "Reciprocal" => Unary::Reciprocal,
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "HardSwish" => Unary::HardSwish,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Sign" => Unary::Sign,
        "Not" => Unary::Not,
        "Gelu" => match node.text("approximate").unwrap_or("none") {
            "none" => Unary::Gelu,
            "tanh" => Unary::GeluTanh,
            other => return Err(node.invalid(format!("attribute 'approximate' is '{other}'"))),
        },
        _ => return Ok(None),
    }))
}

fn binary(op: &str) -> Option<Binary> {
    Some(match op {
        "Add" | "Sum" | "Mean" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        "Mod" => Binary::Rem,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Equal" | "Xor" => Binary::Equal,
        "Less" | "Greater" => Binary::Less,
        "LessOrEqual" | "GreaterOrEqual" => Binary::LessOrEqual,
        _ => return None,
    })
}

impl<'g> Lowering<'g> {
    pub(super) fn elementwise(&mut self, node: &'g Node) -> Result<()> {
        let shape = self.shape(node, 0)?;
        let mut operands = Vec::new();
        for index in 0..node.inputs.len() {
            operands.push(self.optional(node, index)?);
        }
        let mut inputs = Vec::new();
        let mut expr = Expr::default();
        let mut places = Vec::new();
        for operand in &operands {
            places.push(match operand {
                Some(operand) => {
                    let instr = self.load(node, &mut inputs, operand, shape)?;
                    Some(expr.push(instr))
                }
                None => None,
            });
        }
        let at = |index: usize| {
            places
                .get(index)
                .copied()
                .flatten()
                .ok_or_else(|| node.invalid(format!("input {} is missing", index + 1)))
        };
        let dtype =
            |index: usize| operands.get(index).and_then(Option::as_ref).map_or(Dtype::F32, |o| o.dtype);
        if let Some(f) = unary(node)? {
            let whole = matches!(f, Unary::Neg | Unary::Abs | Unary::Sign | Unary::Not);
            if dtype(0) != Dtype::F32 && !whole {
                return Err(node.unsupported(format!("it computes with elements of the type {:?}", dtype(0))));
            }
            let x = at(0)?;
            expr.push(Instr::Unary(f, x));
        } else if let Some(f) = binary(&node.op) {
            self.binary(node, &mut expr, f, &places, &operands)?;
        } else {
            match node.op.as_str() {
                "Where" => {
                    let (c, a, b) = (at(0)?, at(1)?, at(2)?);
                    expr.push(Instr::Select(c, a, b));
                }
                "Cast" => {
                    let x = at(0)?;
                    let (from, to) =
                        (dtype(0), self.value(node.outputs.first().map_or("", String::as_str))?.dtype);
                    cast(&mut expr, x, from, to);
                }
                "Clip" => {
                    let mut x = at(0)?;
                    if let Some(Some(low)) = places.get(1).copied() {
                        x = expr.push(Instr::Binary(Binary::Max, x, low));
                    }
                    if let Some(Some(high)) = places.get(2).copied() {
                        x = expr.push(Instr::Binary(Binary::Min, x, high));
                    }
                    // Without bounds the result is the input, which must be last.
                    if x == 0 {
                        expr.0.truncate(1);
                    }
                }
                "PRelu" => {
                    let (x, slope) = (at(0)?, at(1)?);
                    Writer(&mut expr).slopes(x, slope);
                }
                _ if activation::write(node, &mut expr, at(0)?) => {}
                _ => {
                    return Err(crate::error::Error::UnsupportedOp {
                        node: node.name.clone(),
                        op: node.op.clone(),
                    });
                }
            }
        }
        // Sums and products of narrow integers wrap, as in their own type.
        let result = self.value(node.outputs.first().map_or("", String::as_str))?.dtype;
        let wraps = matches!(node.op.as_str(), "Add" | "Sub" | "Mul" | "Sum" | "Neg" | "Abs" | "Pow");
        if let Some(wrap) = wrap(result).filter(|_| wraps) {
            let last = expr.0.len() - 1;
            expr.push(Instr::Unary(wrap, last));
        }
        self.emit(node, Core::Map, inputs, expr, None)
    }

    fn binary(
        &mut self,
        node: &Node,
        expr: &mut Expr,
        f: Binary,
        places: &[Option<usize>],
        operands: &[Option<Operand>],
    ) -> Result<()> {
        let mut given = places.iter().flatten().copied();
        let missing = || node.invalid(format!("it has {} inputs", places.len()));
        let mut result = given.next().ok_or_else(missing)?;
        if matches!(node.op.as_str(), "Max" | "Min" | "Sum" | "Mean") {
            let count = places.iter().flatten().count();
            for next in given {
                result = expr.push(Instr::Binary(f, result, next));
            }
            if node.op == "Mean" && count > 1 {
                let count = expr.push(Instr::Float(count as f32));
                expr.push(Instr::Binary(Binary::Div, result, count));
            }
            return Ok(());
        }
        let second = given.next().ok_or_else(missing)?;
        let float = |index: usize| {
            operands.get(index).and_then(Option::as_ref).is_some_and(|o| o.dtype == Dtype::F32)
        };
        if f == Binary::Pow && !(float(0) && float(1)) {
            // Through floats: exact up to 24 bits.
            let base = if float(0) { result } else { expr.push(Instr::ToFloat(result)) };
            let exponent = if float(1) { second } else { expr.push(Instr::ToFloat(second)) };
            let power = expr.push(Instr::Binary(f, base, exponent));
            if !float(0) {
                // A power of integers is one but for rounding; by a fraction it is cut to one.
                let power = if float(1) { power } else { expr.push(Instr::Unary(Unary::Round, power)) };
                expr.push(Instr::ToInt(power));
            }
            return Ok(());
        }
        if node.op == "Mod" {
            let rest = expr.push(Instr::Binary(Binary::Rem, result, second));
            if node.int("fmod").unwrap_or(0) == 0 {
                if float(0) {
                    return Err(node.invalid("floats need attribute 'fmod'"));
                }
                // The sign of the divisor: of another sign it is added once more.
                let mut f = Writer(expr);
                let zero = f.int(0);
                let (none, low) = (f.two(Binary::Equal, rest, zero), f.two(Binary::Less, rest, zero));
                let other = f.two(Binary::Less, second, zero);
                let same = f.two(Binary::Equal, low, other);
                let fits = f.two(Binary::Or, none, same);
                let moved = f.two(Binary::Add, rest, second);
                f.select(fits, rest, moved);
            }
            return Ok(());
        }
        match (node.op.as_str(), expr.0.get(second)) {
            ("Xor", _) => {
                let same = expr.push(Instr::Binary(f, result, second));
                expr.push(Instr::Unary(Unary::Not, same))
            }
            ("Greater" | "GreaterOrEqual", _) => expr.push(Instr::Binary(f, second, result)),
            // Powers that need no logarithm are exact.
            ("Pow", Some(Instr::Float(2.0))) => expr.push(Instr::Binary(Binary::Mul, result, result)),
            ("Pow", Some(Instr::Float(3.0))) => {
                let square = expr.push(Instr::Binary(Binary::Mul, result, result));
                expr.push(Instr::Binary(Binary::Mul, square, result))
            }
            ("Pow", Some(Instr::Float(0.5))) => expr.push(Instr::Unary(Unary::Sqrt, result)),
            ("Pow", Some(Instr::Float(-1.0))) => expr.push(Instr::Unary(Unary::Reciprocal, result)),
            _ => expr.push(Instr::Binary(f, result, second)),
        };
        Ok(())
    }
}

/// What keeps the low bits of a result of a narrow integer type.
fn wrap(dtype: Dtype) -> Option<Unary> {
    Some(match dtype {
        Dtype::U8 => Unary::WrapU8,
        Dtype::I8 => Unary::WrapI8,
        Dtype::U16 => Unary::WrapU16,
        Dtype::I16 => Unary::WrapI16,
        _ => return None,
    })
}

/// Appends the conversion of instruction `x`, of the type `from` on the adapter, to `to`.
fn cast(expr: &mut Expr, x: usize, from: Dtype, to: Dtype) {
    let float = from == Dtype::F32;
    if to == Dtype::Bool {
        expr.push(Instr::ToBool(x));
    } else if to.is_float() {
        let x = if float { x } else { expr.push(Instr::ToFloat(x)) };
        match to {
            Dtype::F16 => drop(expr.push(Instr::Unary(Unary::Half, x))),
            Dtype::Bf16 => drop(expr.push(Instr::Unary(Unary::Bf16, x))),
            // The adapter's floats have 32 bits.
            _ => {}
        }
    } else {
        let x = if float { expr.push(Instr::ToInt(x)) } else { x };
        if let Some(wrap) = wrap(to) {
            expr.push(Instr::Unary(wrap, x));
        }
    }
}
