//! Products of 8-bit integers on words of four of them along the summed axis, with exact sums in 32 bits.
//!
//! Unsigned operands are shifted into the signed range, and zero points come in behind the sums: with `a` and `b` so
//! shifted, `sum((a - y) (b - z)) = sum(a b) - y sum(b) - z sum(a) + n y z`. What comes from a constant is computed here,
//! and where a zero point is zero nothing is left of it.

use super::Lowering;
use super::window::Tiles;
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, Unary, View};
use crate::plan::host;
use crate::tensor::{Data, Dtype, Tensor};

/// Integers in one word.
const LANES: usize = 4;

/// One operand of a product.
#[derive(Clone)]
pub(super) struct Side {
    /// The 8-bit integers.
    pub values: Operand,
    /// What is taken from each of them, of their type.
    pub zero: Option<Operand>,
}

/// A product in words: core, operands, how results are finished so far, and how the result is walked.
pub(super) struct Packed {
    pub core: Core,
    pub inputs: Vec<Operand>,
    pub expr: Expr,
    pub view: View,
}

/// What is taken from an integer of that type so that it is a signed one of 8 bits.
fn shift(dtype: Dtype) -> i64 {
    if dtype == Dtype::U8 { 128 } else { 0 }
}

/// Whether an element fits a quarter of a word.
fn narrow(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::U8 | Dtype::I8)
}

/// The elements of a constant of 8-bit integers where `view` walks, as signed ones; `None` also where the view makes so much
/// out of little that the adapter must.
fn signed(tensor: &Tensor, view: &View) -> Option<Vec<i8>> {
    if !host::folds(view.elements(), tensor.elements()) {
        return None;
    }
    let at = |position: i64| {
        let position = usize::try_from(position).ok()?;
        match tensor.data() {
            // 128 less, modulo 256.
            Data::U8(values) => values.get(position).map(|value| (*value ^ 0x80) as i8),
            Data::I8(values) => values.get(position).copied(),
            _ => None,
        }
    };
    view.positions().map(at).collect()
}

impl<'g> Lowering<'g> {
    /// The product of two stacks of 8-bit matrices, or `None` where that is switched off or they are of other types.
    pub(super) fn packed_product(&mut self, node: &'g Node, a: &Side, b: &Side) -> Result<Option<Packed>> {
        if !self.passes.pack || !narrow(a.values.dtype) || !narrow(b.values.dtype) {
            return Ok(None);
        }
        let (along_a, along_b) = (a.values.view.rank() - 1, b.values.view.rank().saturating_sub(2));
        let (left, right) = (self.words(node, &a.values, along_a)?, self.words(node, &b.values, along_b)?);
        let (core, inputs, view) = self.product(node, left, right)?;
        let Core::Matmul { batch, m, k } = core else { return Ok(None) };
        let mut packed = Packed { core: Core::PackedMatmul { batch, m, k }, inputs, expr: Expr::acc(), view };
        let kept = |operand: &Operand, axis: usize| {
            let mut shape = operand.view.shape.clone();
            shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = 1);
            shape
        };
        let (rows, mut columns) = (kept(&a.values, along_a), kept(&b.values, along_b));
        // One matrix for all rows may come with more axes of one than the result is walked by.
        columns.drain(..columns.len().saturating_sub(packed.view.rank()));
        self.centre(node, &mut packed, (a, &[along_a], &rows), (b, &[along_b], &columns))?;
        Ok(Some(packed))
    }

    /// The convolution of an 8-bit image whose windows share no pixel; `None` as for [`Lowering::packed_product`].
    pub(super) fn packed_tiles(&mut self, node: &'g Node, x: &Side, w: &Side) -> Result<Option<Packed>> {
        if !self.passes.pack || !narrow(x.values.dtype) || !narrow(w.values.dtype) {
            return Ok(None);
        }
        let Some(Tiles { x: image, w: filter, out }) = self.tiles(node, &x.values, &w.values)? else {
            return Ok(None);
        };
        // Along the row of a window, or along the channels where it is narrow.
        let narrow = filter.view.shape.get(2).is_none_or(|width| *width < LANES);
        let along = if narrow { 0 } else { 2 };
        let (left, right) = (self.words(node, &image, 3 + along)?, self.words(node, &filter, along)?);
        let core = Core::PackedMatmul { batch: 0, m: 3, k: 3 };
        let mut packed = Packed { core, inputs: vec![left, right], expr: Expr::acc(), view: out };
        let shape = packed.view.shape.clone();
        let mut rows = shape.clone();
        rows.iter_mut().skip(3).for_each(|extent| *extent = 1);
        let (x, w) = (Side { values: image, ..x.clone() }, Side { values: filter, ..w.clone() });
        self.centre(node, &mut packed, (&x, &[3, 4, 5], &rows), (&w, &[0, 1, 2], &shape[3..]))?;
        Ok(Some(packed))
    }

    /// Brings the zero points in behind the sums. Each side comes with its summed axes and with the shape of what is
    /// left of it, ready to broadcast.
    fn centre(
        &mut self,
        node: &'g Node,
        packed: &mut Packed,
        (a, a_axes, rows): (&Side, &[usize], &[usize]),
        (b, b_axes, columns): (&Side, &[usize], &[usize]),
    ) -> Result<()> {
        let Packed { inputs, expr, view, .. } = packed;
        let rank = view.rank();
        let mut zeros = [None, None];
        for (side, axis, zero) in [(a, rank - 2, 0), (b, rank - 1, 1)] {
            let Some(amount) = self.shifted(side) else { continue };
            zeros[zero] = Some(match &side.zero {
                None => expr.push(Instr::Int(-amount)),
                Some(operand) => {
                    let operand = match operand.view.rank() {
                        0 | 1 => self.along(node, operand, axis, rank)?,
                        _ => lean(operand, rank),
                    };
                    let instr = self.load(node, inputs, &operand, &view.shape)?;
                    let loaded = expr.push(instr);
                    minus(expr, loaded, amount)
                }
            });
        }
        let mut result = 0;
        // Each zero point meets the sums of the other operand, and both meet each other.
        for (zero, other, axes, kept) in [(zeros[0], b, b_axes, columns), (zeros[1], a, a_axes, rows)] {
            let Some(zero) = zero else { continue };
            let sums = self.sums(node, &other.values, axes, kept)?;
            let instr = self.load(node, inputs, &sums, &view.shape)?;
            let sum = expr.push(instr);
            let part = expr.push(Instr::Binary(Binary::Mul, zero, sum));
            result = expr.push(Instr::Binary(Binary::Sub, result, part));
        }
        if let [Some(y), Some(z)] = zeros {
            let depth: usize = a_axes.iter().filter_map(|axis| a.values.view.shape.get(*axis)).product();
            let both = expr.push(Instr::Binary(Binary::Mul, y, z));
            let depth = expr.push(Instr::Int(times(depth, 1)));
            let part = expr.push(Instr::Binary(Binary::Mul, both, depth));
            expr.push(Instr::Binary(Binary::Add, result, part));
        }
        Ok(())
    }

    /// What is taken from a side's zero point; `None` where the point is known to be zero then.
    fn shifted(&self, side: &Side) -> Option<i64> {
        let amount = shift(side.values.dtype);
        let Some(zero) = &side.zero else { return (amount != 0).then_some(amount) };
        let known = self.program.constant(zero.value).and_then(|tensor| signed(tensor, &zero.view));
        (!known.is_some_and(|known| known.iter().all(|value| *value == 0))).then_some(amount)
    }

    /// `operand` with every four neighbours along `axis` as one word, the lowest byte first; the last word of an axis that
    /// four do not divide is filled with zeros. Made once for all who read it.
    pub(super) fn words(&mut self, node: &Node, operand: &Operand, axis: usize) -> Result<Operand> {
        let known = self.packed.iter().find(|(from, along, _)| from == operand && *along == axis);
        if let Some((.., words)) = known {
            return Ok(words.clone());
        }
        let mut shape = operand.view.shape.clone();
        let extent = shape.get(axis).copied().unwrap_or(1);
        shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = extent.div_ceil(LANES));
        let constant = self.program.constant(operand.value).and_then(|tensor| signed(tensor, &operand.view));
        let words = match constant {
            Some(values) => {
                let inner: usize = shape.iter().skip(axis + 1).product();
                let words = packed(&values, extent, inner.max(1));
                let name = format!("{}.words", node.name);
                self.program.add_constant(&name, Tensor::new(shape, Data::I32(words.into()))?)
            }
            None => {
                let made = self.temporary(node, Dtype::I32, &shape);
                let whole = extent / LANES;
                for (first, count, lanes) in [(0, whole, LANES), (whole, 1, extent % LANES)] {
                    if count > 0 && lanes > 0 {
                        self.pack(node, operand, axis, (first, count, lanes), &made)?;
                    }
                }
                made
            }
        };
        self.packed.push((operand.clone(), axis, words.clone()));
        Ok(words)
    }

    /// Writes `count` words of `made` from the one at `first` on, of which each has `lanes` integers.
    fn pack(
        &mut self,
        node: &Node,
        operand: &Operand,
        axis: usize,
        (first, count, lanes): (usize, usize, usize),
        made: &Operand,
    ) -> Result<()> {
        let misfit = || node.invalid("an axis is too long to be packed");
        let mut inputs = Vec::new();
        let mut expr = Expr::default();
        let mut word = None;
        for lane in (0..lanes).rev() {
            let start = (first * LANES + lane) as i64;
            let view = operand.view.slice(axis, start, LANES as i64, count).ok_or_else(misfit)?;
            inputs.push(Operand { view, ..operand.clone() });
            let loaded = expr.push(Instr::Load(inputs.len() - 1));
            let value = minus(&mut expr, loaded, shift(operand.dtype));
            let byte = expr.push(Instr::Unary(Unary::WrapU8, value));
            word = Some(match word {
                None => byte,
                Some(word) => {
                    let base = expr.push(Instr::Int(256));
                    let above = expr.push(Instr::Binary(Binary::Mul, word, base));
                    expr.push(Instr::Binary(Binary::Add, above, byte))
                }
            });
        }
        let view = made.view.slice(axis, first as i64, 1, count).ok_or_else(misfit)?;
        self.push(node, Core::Map, inputs, expr, Operand { view, ..made.clone() });
        Ok(())
    }

    /// The sums of `operand`'s elements, shifted into the signed range, over `axes`; what is left has the shape `kept`.
    fn sums(&mut self, node: &Node, operand: &Operand, axes: &[usize], kept: &[usize]) -> Result<Operand> {
        let mut order: Vec<usize> = (0..operand.view.rank()).filter(|axis| !axes.contains(axis)).collect();
        order.extend(axes);
        let extent: usize = axes.iter().filter_map(|axis| operand.view.shape.get(*axis)).product();
        let constant = self.program.constant(operand.value).zip(operand.view.permute(&order));
        if let Some(values) = constant.and_then(|(tensor, view)| signed(tensor, &view)) {
            let sums: Vec<i32> = values
                .chunks(extent.max(1))
                .map(|row| row.iter().map(|value| i64::from(*value)).sum::<i64>() as i32)
                .collect();
            let name = format!("{}.sums", node.name);
            return Ok(self.program.add_constant(&name, Tensor::new(kept.to_vec(), Data::I32(sums.into()))?));
        }
        let mut expr = Expr::acc();
        minus(&mut expr, 0, times(extent, shift(operand.dtype)));
        let sums = self.folded(node, operand.clone(), axes, Fold::Sum, expr, Vec::new(), Dtype::I32)?;
        Ok(Operand { view: View::contiguous(kept), ..sums })
    }
}

/// `operand` without its leading axes of one beyond `rank`.
pub(super) fn lean(operand: &Operand, rank: usize) -> Operand {
    let View { shape, .. } = &operand.view;
    let more = shape.iter().take(shape.len().saturating_sub(rank)).take_while(|extent| **extent == 1).count();
    let view = shape.get(more..).and_then(|shape| operand.view.reshape(shape));
    view.map_or_else(|| operand.clone(), |view| Operand { view, ..operand.clone() })
}

/// `count` times `each` as the adapter's 32 bits have it: modulo 2^32, as all sums are.
fn times(count: usize, each: i64) -> i64 {
    i64::from((count as i64).wrapping_mul(each) as i32)
}

/// The instruction at `place` less `amount`.
fn minus(expr: &mut Expr, place: usize, amount: i64) -> usize {
    if amount == 0 {
        return place;
    }
    let amount = expr.push(Instr::Int(amount));
    expr.push(Instr::Binary(Binary::Sub, place, amount))
}

/// Words of `values`, whose packed axis of `extent` has `inner` elements behind each place.
fn packed(values: &[i8], extent: usize, inner: usize) -> Vec<i32> {
    let mut words = Vec::with_capacity(values.len().div_ceil(LANES));
    for block in values.chunks((extent * inner).max(1)) {
        for rows in block.chunks(LANES * inner) {
            for at in 0..inner {
                let bytes = rows.iter().skip(at).step_by(inner).map(|value| u32::from(*value as u8));
                let word = bytes.enumerate().fold(0, |word, (lane, byte)| word | byte << (8 * lane));
                words.push(word as i32);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_take_neighbours_of_the_packed_axis() {
        // Five rows of two columns: one whole word and one of a single row, for each column.
        let values = [1, -1, 2, -2, 3, -3, 4, -4, 5, -5];
        let byte = |value: i32, lane: i32| (value & 255) << (8 * lane);
        let word = |sign: i32| byte(sign, 0) | byte(2 * sign, 1) | byte(3 * sign, 2) | byte(4 * sign, 3);
        assert_eq!(packed(&values, 5, 2), [word(1), word(-1), 5, 251]);
        assert_eq!(packed(&values, 10, 1).len(), 3);
    }
}
