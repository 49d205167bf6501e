//! Operators that compute each element on its own.

use super::Lowering;
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
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        "Equal" => Binary::Equal,
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
        self.check_type(node, dtype(usize::from(node.op == "Where")))?;
        if let Some(f) = unary(node)? {
            if dtype(0) != Dtype::F32 && !matches!(f, Unary::Neg | Unary::Abs) {
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
                    match to {
                        Dtype::F32 if from == Dtype::F32 => {}
                        Dtype::F32 => drop(expr.push(Instr::ToFloat(x))),
                        Dtype::Bool => drop(expr.push(Instr::ToBool(x))),
                        Dtype::I32 | Dtype::I64 => drop(expr.push(Instr::ToInt(x))),
                        Dtype::U8 | Dtype::I8 => {
                            return Err(node.unsupported(format!("attribute 'to' asks for {to:?}")));
                        }
                    }
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
                "LeakyRelu" => {
                    let x = at(0)?;
                    let slope = expr.push(Instr::Float(node.float("alpha").unwrap_or(0.01)));
                    let zero = expr.push(Instr::Float(0.0));
                    let up = expr.push(Instr::Binary(Binary::Max, x, zero));
                    let down = expr.push(Instr::Binary(Binary::Min, x, zero));
                    let down = expr.push(Instr::Binary(Binary::Mul, down, slope));
                    expr.push(Instr::Binary(Binary::Add, up, down));
                }
                "HardSigmoid" => {
                    let x = at(0)?;
                    let slope = expr.push(Instr::Float(node.float("alpha").unwrap_or(0.2)));
                    let shift = expr.push(Instr::Float(node.float("beta").unwrap_or(0.5)));
                    let zero = expr.push(Instr::Float(0.0));
                    let one = expr.push(Instr::Float(1.0));
                    let line = expr.push(Instr::Binary(Binary::Mul, x, slope));
                    let line = expr.push(Instr::Binary(Binary::Add, line, shift));
                    let line = expr.push(Instr::Binary(Binary::Max, line, zero));
                    expr.push(Instr::Binary(Binary::Min, line, one));
                }
                _ => {
                    return Err(crate::error::Error::UnsupportedOp {
                        node: node.name.clone(),
                        op: node.op.clone(),
                    });
                }
            }
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
        if matches!(node.op.as_str(), "Max" | "Min" | "Sum") {
            for next in given {
                result = expr.push(Instr::Binary(f, result, next));
            }
            return Ok(());
        }
        let second = given.next().ok_or_else(missing)?;
        if operands.iter().flatten().any(|o| o.dtype != Dtype::F32) && f == Binary::Pow {
            return Err(node.unsupported("a power of or by integers"));
        }
        match (node.op.as_str(), expr.0.get(second)) {
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

    /// Refuses arithmetic that the adapter's 32-bit integers would get wrong.
    fn check_type(&self, node: &Node, dtype: Dtype) -> Result<()> {
        let moves = matches!(
            node.op.as_str(),
            "Cast" | "Where" | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual"
        );
        match dtype {
            Dtype::F32 | Dtype::I32 => Ok(()),
            _ if moves => Ok(()),
            other => {
                Err(node
                    .unsupported(format!("it computes with elements of the type {other:?} on the adapter")))
            }
        }
    }
}
