//! Matrix products and convolutions.

use super::Lowering;
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Instr, Operand, View};

impl<'g> Lowering<'g> {
    pub(super) fn matmul(&mut self, node: &'g Node) -> Result<()> {
        let (mut a, mut b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &a)?;
        let misfit = || node.invalid("its operands do not fit together");
        // A vector is one row on the left and one column on the right.
        if a.view.rank() == 1 {
            a.view.shape.insert(0, 1);
            a.view.strides.insert(0, 0);
        }
        if b.view.rank() == 1 {
            b.view.shape.push(1);
            b.view.strides.push(0);
        }
        let (a_shape, b_shape) = (a.view.shape.clone(), b.view.shape.clone());
        let ([a_batch @ .., m, k], [b_batch @ .., _, n]) = (a_shape.as_slice(), b_shape.as_slice()) else {
            return Err(misfit());
        };
        if b_batch.iter().all(|extent| *extent == 1) {
            // One matrix for all rows: the leading axes of `a` are more rows. The output then has the
            // batch axes of `a`, perhaps behind further ones of extent one.
            let view = b.view.reshape(&[*k, *n]).ok_or_else(misfit)?;
            b.view = view;
            let rows = a_batch.len() + 1;
            let mut shape = a_batch.to_vec();
            shape.extend([*m, *n]);
            let core = Core::Matmul { batch: 0, m: rows, k: 1 };
            return self.emit(node, core, vec![a, b], Expr::acc(), Some(View::contiguous(&shape)));
        }
        let batch = crate::graph::shapes::broadcast(a_batch, b_batch).ok_or_else(misfit)?;
        let whole = |rows: usize, columns: usize| [batch.as_slice(), &[rows, columns]].concat();
        a.view = a.view.broadcast(&whole(*m, *k)).ok_or_else(misfit)?;
        b.view = b.view.broadcast(&whole(*k, *n)).ok_or_else(misfit)?;
        let core = Core::Matmul { batch: batch.len(), m: 1, k: 1 };
        self.emit(node, core, vec![a, b], Expr::acc(), Some(View::contiguous(&whole(*m, *n))))
    }

    pub(super) fn gemm(&mut self, node: &'g Node) -> Result<()> {
        let (mut a, mut b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &a)?;
        let turn = |operand: &mut Operand, attribute: &str| -> Result<()> {
            if node.int(attribute).unwrap_or(0) != 0 {
                operand.view = operand
                    .view
                    .permute(&[1, 0])
                    .ok_or_else(|| node.invalid("an operand is not a matrix"))?;
            }
            Ok(())
        };
        turn(&mut a, "transA")?;
        turn(&mut b, "transB")?;
        let mut inputs = vec![a, b];
        let mut expr = Expr::acc();
        let alpha = node.float("alpha").unwrap_or(1.0);
        let mut result = 0;
        if alpha != 1.0 {
            let factor = expr.push(Instr::Float(alpha));
            result = expr.push(Instr::Binary(Binary::Mul, result, factor));
        }
        let beta = node.float("beta").unwrap_or(1.0);
        if let Some(c) = self.optional(node, 2)?.filter(|_| beta != 0.0) {
            let shape = self.shape(node, 0)?;
            let instr = self.load(node, &mut inputs, &c, shape)?;
            let mut c = expr.push(instr);
            if beta != 1.0 {
                let factor = expr.push(Instr::Float(beta));
                c = expr.push(Instr::Binary(Binary::Mul, c, factor));
            }
            expr.push(Instr::Binary(Binary::Add, result, c));
        }
        self.emit(node, Core::Matmul { batch: 0, m: 1, k: 1 }, inputs, expr, None)
    }

    pub(super) fn conv(&mut self, node: &'g Node) -> Result<()> {
        let (x, w) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &x)?;
        let shape = self.shape(node, 0)?;
        let ([_, channels, height, width], [filters, depth, kh, kw], [batch, _, rows, columns]) =
            (x.view.shape.as_slice(), w.view.shape.as_slice(), shape)
        else {
            return Err(node.unsupported(format!(
                "a convolution of an image of shape {:?}, not two-dimensional",
                x.view.shape
            )));
        };
        match node.text("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "VALID" => {}
            other => return Err(node.unsupported(format!("attribute 'auto_pad' is '{other}'"))),
        }
        let read = |name: &str, count: usize, default: i64| -> Result<Vec<usize>> {
            let values = node.ints(name).map_or_else(|| vec![default; count], <[i64]>::to_vec);
            let values: Option<Vec<usize>> = values.iter().map(|v| usize::try_from(*v).ok()).collect();
            values.filter(|v| v.len() == count).ok_or_else(|| {
                node.invalid(format!("attribute '{name}' needs {count} numbers of at least zero"))
            })
        };
        let pair =
            |values: &[usize]| [values.first().copied().unwrap_or(1), values.get(1).copied().unwrap_or(1)];
        let strides = pair(&read("strides", 2, 1)?);
        let dilations = pair(&read("dilations", 2, 1)?);
        let valid = node.text("auto_pad") == Some("VALID");
        let pads = if valid { vec![0; 4] } else { read("pads", 4, 0)? };
        let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(1);
        let mut inputs = vec![x.clone(), w.clone()];
        let mut expr = Expr::acc();
        let bias = self.optional(node, 2)?;

        // Windows that tile the image share no pixel: each is one row of a matrix product.
        let tiles = groups == 1
            && strides == [*kh, *kw]
            && pads.iter().all(|p| *p == 0)
            && (dilations == [1, 1] || (*kh == 1 && *kw == 1))
            && rows * kh <= *height
            && columns * kw <= *width;
        if tiles {
            let view = x.view.slice(2, 0, 1, rows * kh).and_then(|v| v.slice(3, 0, 1, columns * kw));
            let view = view.and_then(|v| v.reshape(&[*batch, *channels, *rows, *kh, *columns, *kw]));
            let view = view.and_then(|v| v.permute(&[0, 2, 4, 1, 3, 5]));
            let filter = w.view.permute(&[1, 2, 3, 0]);
            let out = View::contiguous(shape).permute(&[0, 2, 3, 1]);
            if let (Some(view), Some(filter), Some(out)) = (view, filter, out) {
                let mut inputs = vec![Operand { view, ..x }, Operand { view: filter, ..w }];
                if let Some(bias) = bias {
                    let instr = self.load(node, &mut inputs, &bias, &out.shape)?;
                    let b = expr.push(instr);
                    expr.push(Instr::Binary(Binary::Add, 0, b));
                }
                return self.emit(node, Core::Matmul { batch: 0, m: 3, k: 3 }, inputs, expr, Some(out));
            }
        }
        if let Some(mut bias) = bias {
            bias.view = bias
                .view
                .reshape(&[*filters, 1, 1])
                .ok_or_else(|| node.invalid(format!("its bias has shape {:?}", bias.view.shape)))?;
            let instr = self.load(node, &mut inputs, &bias, shape)?;
            let b = expr.push(instr);
            expr.push(Instr::Binary(Binary::Add, 0, b));
        }
        if depth * groups != *channels {
            return Err(node.invalid(format!("{channels} channels in {groups} groups of {depth}")));
        }
        let pads = pair(&pads);
        self.emit(node, Core::Conv { strides, pads, dilations, groups }, inputs, expr, None)
    }
}
