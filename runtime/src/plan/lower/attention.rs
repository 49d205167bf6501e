//! Attention and rotary positions, out of products, softmax and views. A later pass makes the plain case one kernel.

use super::Lowering;
use super::activation::Writer;
use crate::error::Result;
use crate::graph::Node;
use crate::graph::shapes::attention::{Heads, heads, rotary_heads};
use crate::kernels::{Binary, Core, Expr, Instr, Operand, Unary, View};
use crate::tensor::{Dtype, Tensor};

impl<'g> Lowering<'g> {
    pub(super) fn attention(&mut self, node: &'g Node) -> Result<()> {
        let (q, k, v) = (self.input(node, 0)?, self.input(node, 1)?, self.input(node, 2)?);
        self.floats(node, &q)?;
        let past = self.optional(node, 4)?;
        let sizes = heads(
            node,
            &q.view.shape,
            &k.view.shape,
            &v.view.shape,
            past.as_ref().map(|past| past.view.shape.as_slice()),
        )?;
        let Heads { batch, queries, keys, rows, given, past: before, depth, width } = sizes;
        let total = given + before;
        let q = self.split_heads(node, q, [batch, queries, rows, depth])?;
        let k = self.split_heads(node, k, [batch, keys, given, depth])?;
        let v = self.split_heads(node, v, [batch, keys, given, width])?;
        let k = self.present(node, 1, k, past)?;
        let past_value = self.optional(node, 5)?;
        let v = self.present(node, 2, v, past_value)?;

        // Heads of the query that share one of the key lie side by side.
        let (shared, group) = (queries / keys, [batch, keys, queries / keys]);
        let misfit = || node.invalid("its heads cannot be grouped");
        let grouped = |operand: Operand, rows: usize, columns: usize| -> Option<Operand> {
            let view = operand.view.reshape(&[batch, keys, 1, rows, columns])?;
            Some(Operand { view: view.broadcast(&[batch, keys, shared, rows, columns])?, ..operand })
        };
        let (q, k, v, leading) = if shared == 1 {
            (q, k, v, vec![batch, queries])
        } else {
            let q = self.reshaped(node, q, &[&group[..], &[rows, depth]].concat())?;
            let k = grouped(k, total, depth).ok_or_else(misfit)?;
            let v = grouped(v, total, width).ok_or_else(misfit)?;
            (q, k, v, group.to_vec())
        };
        let axes = leading.len();
        let mut turned: Vec<usize> = (0..axes).collect();
        turned.extend([axes + 1, axes]);
        let k = Operand { view: k.view.permute(&turned).ok_or_else(misfit)?, ..k };
        let score_shape = [leading.as_slice(), &[rows, total]].concat();

        let mut inputs = vec![q, k];
        let mut expr = Expr::acc();
        let scale = node.float("scale").unwrap_or(1.0 / (depth as f32).sqrt());
        let factor = expr.push(Instr::Float(scale));
        let mut score = expr.push(Instr::Binary(Binary::Mul, 0, factor));
        let mode = node.int("qk_matmul_output_mode").unwrap_or(0);
        let softcap = node.float("softcap").unwrap_or(0.0);
        let shown = node.outputs.get(3).is_some_and(|name| !name.is_empty());
        let core = Core::Matmul { batch: axes, m: 1, k: 1 };
        if shown && (mode == 0 || mode == 2 && softcap == 0.0) {
            self.show_scores(node, core.clone(), inputs.clone(), expr.clone())?;
        }
        score = self.masks(node, &mut inputs, &mut expr, score, &sizes, &score_shape)?;
        if shown && mode == 1 {
            self.show_scores(node, core.clone(), inputs.clone(), expr.clone())?;
        }
        if softcap > 0.0 {
            let mut f = Writer(&mut expr);
            let cap = f.float(softcap);
            score = f.two(Binary::Div, score, cap);
            score = f.one(Unary::Tanh, score);
            f.two(Binary::Mul, score, cap);
            if shown && mode == 2 {
                self.show_scores(node, core.clone(), inputs.clone(), expr.clone())?;
            }
        }
        let scores = self.temporary(node, Dtype::F32, &score_shape);
        self.push(node, core.clone(), inputs, expr, scores.clone());
        let shares = self.temporary(node, Dtype::F32, &score_shape);
        self.push(node, Core::Softmax { log: false }, vec![scores], Expr::acc(), shares.clone());
        if shown && mode == 3 {
            let shape = self.shape(node, 3)?.to_vec();
            let shares = self.reshaped(node, shares.clone(), &shape)?;
            self.put(node, 3, shares);
        }
        let out = if self.shape(node, 0)?.len() == 3 {
            let view = View::contiguous(&[batch, rows, queries, width]);
            view.permute(&[0, 2, 1, 3]).ok_or_else(misfit)?
        } else {
            View::contiguous(&[batch, queries, rows, width])
        };
        let out = out.reshape(&[leading.as_slice(), &[rows, width]].concat()).ok_or_else(misfit)?;
        self.emit(node, core, vec![shares, v], Expr::acc(), Some(out))
    }

    /// `operand` as `[batch, heads, rows, width]`; of rank 3 the heads lie within the last axis.
    fn split_heads(
        &mut self,
        node: &Node,
        operand: Operand,
        [batch, heads, rows, width]: [usize; 4],
    ) -> Result<Operand> {
        if operand.view.rank() == 4 {
            return Ok(operand);
        }
        let split = self.reshaped(node, operand, &[batch, rows, heads, width])?;
        let view = split.view.permute(&[0, 2, 1, 3]).ok_or_else(|| node.invalid("it has no heads"))?;
        Ok(Operand { view, ..split })
    }

    /// Keys or values behind those of the past, which are output `index` too.
    fn present(
        &mut self,
        node: &'g Node,
        index: usize,
        now: Operand,
        past: Option<Operand>,
    ) -> Result<Operand> {
        let asked = node.outputs.get(index).is_some_and(|name| !name.is_empty());
        if !asked && past.is_none() {
            return Ok(now);
        }
        let before = past.as_ref().map_or(0, |past| past.view.shape.get(2).copied().unwrap_or(0));
        let mut shape = now.view.shape.clone();
        shape.iter_mut().skip(2).take(1).for_each(|extent| *extent += before);
        let whole = if asked { self.fresh(node, index)? } else { self.temporary(node, Dtype::F32, &shape) };
        let mut first = 0;
        for part in past.into_iter().chain([now]) {
            let count = part.view.shape.get(2).copied().unwrap_or(0);
            let view = View::contiguous(&shape).slice(2, first, 1, count);
            let view = view.ok_or_else(|| node.invalid("its past has no rows"))?;
            first += count as i64;
            self.push(node, Core::Map, vec![part], Expr::load(0), Operand { view, ..whole.clone() });
        }
        self.put(node, index, whole.clone());
        Ok(Operand { view: View::contiguous(&shape), ..whole })
    }

    /// The scores as they are so far, as output 3.
    fn show_scores(&mut self, node: &'g Node, core: Core, inputs: Vec<Operand>, expr: Expr) -> Result<()> {
        let place = self.fresh(node, 3)?;
        let (a, b) = (inputs.first(), inputs.get(1));
        let (Some((_, rows)), Some((columns, _))) =
            (a.and_then(|a| a.view.shape.split_last()), b.and_then(|b| b.view.shape.split_last()))
        else {
            return Err(node.invalid("it has no scores"));
        };
        let view = View::contiguous(&[rows, &[*columns]].concat());
        self.push(node, core, inputs, expr, Operand { view, ..place.clone() });
        self.put(node, 3, place);
        Ok(())
    }

    /// Adds the mask, and what lies in the future, to instruction `score`.
    fn masks(
        &mut self,
        node: &'g Node,
        inputs: &mut Vec<Operand>,
        expr: &mut Expr,
        mut score: usize,
        sizes: &Heads,
        shape: &[usize],
    ) -> Result<usize> {
        let total = sizes.given + sizes.past;
        let never = f32::NEG_INFINITY;
        if let Some(mask) = self.optional(node, 3)? {
            let truth = mask.dtype == Dtype::Bool;
            let rank = mask.view.rank();
            let given = mask.view.shape.last().copied().unwrap_or(total);
            let mut mask = mask;
            if given < total && rank > 0 {
                // Keys beyond the mask are never looked at.
                let fill = if truth {
                    None
                } else {
                    Some(
                        self.program
                            .add_constant(&format!("{}.never", node.name), Tensor::f32([], vec![never])?),
                    )
                };
                let more = (0, (total - given) as i64);
                mask = self.padded(node, mask, rank - 1, more, "constant", fill.as_ref())?;
            }
            if shape.len() == 5 {
                mask = self.grouped_mask(node, mask, sizes)?;
            }
            let instr = self.load(node, inputs, &mask, shape)?;
            let mask = expr.push(instr);
            score = if truth {
                let never = expr.push(Instr::Float(never));
                expr.push(Instr::Select(mask, score, never))
            } else {
                expr.push(Instr::Binary(Binary::Add, score, mask))
            };
        }
        if node.int("is_causal").unwrap_or(0) != 0 {
            let rank = shape.len();
            let (row, key) = (self.counting(node, rank - 2, shape)?, self.counting(node, rank - 1, shape)?);
            let row = self.load(node, inputs, &row, shape)?;
            let row = expr.push(row);
            let key = self.load(node, inputs, &key, shape)?;
            let key = expr.push(key);
            let past = expr.push(Instr::Int(sizes.past as i64));
            let now = expr.push(Instr::Binary(Binary::Add, row, past));
            let seen = expr.push(Instr::Binary(Binary::LessOrEqual, key, now));
            let never = expr.push(Instr::Float(never));
            score = expr.push(Instr::Select(seen, score, never));
        }
        Ok(score)
    }

    /// A mask whose axis of heads is split like the query's.
    fn grouped_mask(&mut self, node: &Node, mask: Operand, sizes: &Heads) -> Result<Operand> {
        let mut shape = mask.view.shape.clone();
        if shape.len() < 3 {
            return Ok(mask);
        }
        let heads = shape.len() - 3;
        let split = match shape.get(heads) {
            Some(1) => [1, 1],
            Some(count) if *count == sizes.queries => [sizes.keys, sizes.queries / sizes.keys],
            _ => return Err(node.invalid(format!("its mask of shape {shape:?} has other heads"))),
        };
        shape.splice(heads..=heads, split);
        self.reshaped(node, mask, &shape)
    }

    pub(super) fn rotary(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let [heads, rows, width, turned] = rotary_heads(node, &x.view.shape)?;
        let batch = x.view.shape.first().copied().unwrap_or(1);
        let flat = x.view.rank() == 3;
        let x = self.split_heads(node, x, [batch, heads, rows, width])?;
        let half = turned / 2;
        let mut tables = Vec::new();
        for index in [1, 2] {
            let mut table = self.input(node, index)?;
            if let Some(positions) = self.optional(node, 3)? {
                let made = self.temporary(node, Dtype::F32, &[batch, rows, half]);
                let core = Core::Gather { axis: 0, rank: 2 };
                let fits =
                    positions.view.shape == [batch, rows] && table.view.shape.get(1..) == Some(&[half]);
                if !fits {
                    return Err(node.invalid("its positions or tables do not fit its input"));
                }
                self.push(node, core, vec![table, positions], Expr::acc(), made.clone());
                table = made;
            }
            let view = table.view.reshape(&[batch, 1, rows, half]);
            let view =
                view.ok_or_else(|| node.invalid(format!("table {:?} does not fit", table.view.shape)))?;
            tables.push(Operand { view, ..table });
        }
        let place = self.fresh(node, 0)?;
        let out = if flat {
            View::contiguous(&[batch, rows, heads, width]).permute(&[0, 2, 1, 3])
        } else {
            Some(View::contiguous(&[batch, heads, rows, width]))
        };
        let misfit = || node.invalid("its heads cannot be split");
        let out = out.ok_or_else(misfit)?;
        let (step, second) =
            if node.int("interleaved").unwrap_or(0) != 0 { (2, 1) } else { (1, half as i64) };
        let part = |view: &View, first: i64| view.slice(3, first, step, half).ok_or_else(misfit);
        let shape = [batch, heads, rows, half];
        // Each pair is turned: real part cos a - sin b, imaginary part sin a + cos b.
        for (first, order, join) in [(0, [0, 1], Binary::Sub), (second, [1, 0], Binary::Add)] {
            let mut inputs = Vec::new();
            let mut expr = Expr::default();
            let mut products = Vec::new();
            for (start, table) in [0, second].into_iter().zip(order) {
                let own = Operand { view: part(&x.view, start)?, ..x.clone() };
                let own = self.load(node, &mut inputs, &own, &shape)?;
                let own = expr.push(own);
                let table = tables.get(table).ok_or_else(misfit)?;
                let instr = self.load(node, &mut inputs, table, &shape)?;
                let table = expr.push(instr);
                products.push(expr.push(Instr::Binary(Binary::Mul, own, table)));
            }
            if let [a, b] = *products.as_slice() {
                expr.push(Instr::Binary(join, a, b));
            }
            let output = Operand { view: part(&out, first)?, ..place.clone() };
            self.push(node, Core::Map, inputs, expr, output);
        }
        if turned < width {
            let rest = |view: &View| view.slice(3, turned as i64, 1, width - turned).ok_or_else(misfit);
            let input = Operand { view: rest(&x.view)?, ..x.clone() };
            let output = Operand { view: rest(&out)?, ..place.clone() };
            self.push(node, Core::Map, vec![input], Expr::load(0), output);
        }
        self.put(node, 0, place);
        Ok(())
    }
}
