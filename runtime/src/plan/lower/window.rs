//! Convolutions and pooling.

use super::Lowering;
use crate::error::Result;
use crate::graph::Node;
use crate::kernels::{Binary, Core, Expr, Fold, Instr, Operand, Pool, View};

/// How a window slides, each list by axis of the image.
#[derive(Clone, Debug)]
pub(super) struct Slide {
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub before: Vec<usize>,
    pub after: Vec<usize>,
}

impl Slide {
    /// The attributes of `node`, whose window of `kernel` makes `out` steps over `space`.
    fn of(node: &Node, space: &[usize], kernel: &[usize], out: &[usize]) -> Result<Slide> {
        let rank = space.len();
        let read = |name: &str, count: usize, default: i64| -> Result<Vec<usize>> {
            let values = node.ints(name).map_or_else(|| vec![default; count], <[i64]>::to_vec);
            let values: Option<Vec<usize>> = values.iter().map(|v| usize::try_from(*v).ok()).collect();
            values.filter(|v| v.len() == count).ok_or_else(|| {
                node.invalid(format!("attribute '{name}' needs {count} numbers of at least zero"))
            })
        };
        let strides = read("strides", rank, 1)?;
        let dilations = read("dilations", rank, 1)?;
        let mode = node.text("auto_pad").unwrap_or("NOTSET");
        let (mut before, mut after) = match mode {
            "NOTSET" => {
                let mut before = read("pads", 2 * rank, 0)?;
                let after = before.split_off(rank);
                (before, after)
            }
            _ => (vec![0; rank], vec![0; rank]),
        };
        if mode.starts_with("SAME") {
            for axis in 0..rank {
                let at = |list: &[usize], default: usize| list.get(axis).copied().unwrap_or(default);
                let reach = at(kernel, 1).saturating_sub(1) * at(&dilations, 1) + 1;
                let need = at(out, 1).saturating_sub(1) * at(&strides, 1) + reach;
                let total = need.saturating_sub(at(space, 1));
                let small = total / 2;
                let (first, last) =
                    if mode == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
                before.iter_mut().skip(axis).take(1).for_each(|pad| *pad = first);
                after.iter_mut().skip(axis).take(1).for_each(|pad| *pad = last);
            }
        }
        Ok(Slide { strides, dilations, before, after })
    }
}

/// A convolution whose windows share no pixel: each is one row of a matrix product.
pub(super) struct Tiles {
    /// The image as `[batch, rows, columns, channels, height, width]`, the last two of a window.
    pub x: Operand,
    /// The weights as `[channels, height, width, out]`.
    pub w: Operand,
    /// The result as `[batch, rows, columns, out]`.
    pub out: View,
}

impl<'g> Lowering<'g> {
    pub(super) fn conv(&mut self, node: &'g Node) -> Result<()> {
        let (x, w) = (self.input(node, 0)?, self.input(node, 1)?);
        self.floats(node, &x)?;
        let bias = self.optional(node, 2)?;
        if let Some(Tiles { x, w, out }) = self.tiles(node, &x, &w)? {
            let mut inputs = vec![x, w];
            let mut expr = Expr::acc();
            if let Some(bias) = bias {
                let instr = self.load(node, &mut inputs, &bias, &out.shape)?;
                let b = expr.push(instr);
                expr.push(Instr::Binary(Binary::Add, 0, b));
            }
            return self.emit(node, Core::Matmul { batch: 0, m: 3, k: 3 }, inputs, expr, Some(out));
        }
        let shape = self.shape(node, 0)?;
        let mut inputs = vec![x.clone(), w.clone()];
        let mut expr = Expr::acc();
        if let Some(bias) = bias {
            let bias = self.along(node, &bias, 1, shape.len())?;
            let instr = self.load(node, &mut inputs, &bias, shape)?;
            let b = expr.push(instr);
            expr.push(Instr::Binary(Binary::Add, 0, b));
        }
        let core = self.convolution(node, &x, &w, shape)?;
        self.emit(node, core, inputs, expr, None)
    }

    /// The core of a direct convolution.
    pub(super) fn convolution(&self, node: &Node, x: &Operand, w: &Operand, out: &[usize]) -> Result<Core> {
        let (Some(space), Some(kernel), Some(steps)) =
            (x.view.shape.get(2..), w.view.shape.get(2..), out.get(2..))
        else {
            return Err(node.invalid("its image has no extents"));
        };
        if space.len() > 3 {
            return Err(node.unsupported(format!("a convolution over {} axes", space.len())));
        }
        let slide = Slide::of(node, space, kernel, steps)?;
        let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(1);
        let Slide { strides, dilations, before: pads, .. } = slide;
        Ok(Core::Conv { strides, pads, dilations, groups })
    }

    /// The convolution as a product where its windows share no pixel.
    pub(super) fn tiles(&self, node: &Node, x: &Operand, w: &Operand) -> Result<Option<Tiles>> {
        let shape = self.shape(node, 0)?;
        let ([_, channels, height, width], [_, _, kh, kw], [batch, _, rows, columns]) =
            (x.view.shape.as_slice(), w.view.shape.as_slice(), shape)
        else {
            return Ok(None);
        };
        let (space, kernel) = ([*height, *width], [*kh, *kw]);
        let slide = Slide::of(node, &space, &kernel, &[*rows, *columns])?;
        let tiles = node.int("group").unwrap_or(1) == 1
            && slide.strides == kernel
            && slide.before.iter().chain(&slide.after).all(|p| *p == 0)
            && (slide.dilations == [1, 1] || (*kh == 1 && *kw == 1))
            && rows * kh <= *height
            && columns * kw <= *width;
        if !tiles {
            return Ok(None);
        }
        let view = x.view.slice(2, 0, 1, rows * kh).and_then(|v| v.slice(3, 0, 1, columns * kw));
        let view = view.and_then(|v| v.reshape(&[*batch, *channels, *rows, *kh, *columns, *kw]));
        let view = view.and_then(|v| v.permute(&[0, 2, 4, 1, 3, 5]));
        let filter = w.view.permute(&[1, 2, 3, 0]);
        let out = View::contiguous(shape).permute(&[0, 2, 3, 1]);
        let (Some(view), Some(filter), Some(out)) = (view, filter, out) else { return Ok(None) };
        let (x, w) = (Operand { view, ..x.clone() }, Operand { view: filter, ..w.clone() });
        Ok(Some(Tiles { x, w, out }))
    }

    /// A vector along `axis` of a value of `rank` axes, ready to broadcast; one element fits everywhere.
    pub(super) fn along(&self, node: &Node, vector: &Operand, axis: usize, rank: usize) -> Result<Operand> {
        let count = vector.view.elements();
        let mut shape = vec![1; rank];
        shape.iter_mut().skip(axis).take(1).for_each(|extent| *extent = count);
        let view = vector.view.reshape(&shape);
        let view = view.ok_or_else(|| node.invalid(format!("{:?} lies along no axis", vector.view.shape)))?;
        Ok(Operand { view, ..vector.clone() })
    }

    pub(super) fn pool(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        let whole = x.dtype.bytes() == 1 && node.op == "MaxPool";
        if !whole {
            self.floats(node, &x)?;
        }
        let shape = self.shape(node, 0)?;
        let (Some(space), Some(steps)) = (x.view.shape.get(2..), shape.get(2..)) else {
            return Err(node.invalid("its image has no extents"));
        };
        if space.len() > 3 {
            return Err(node.unsupported(format!("pooling over {} axes", space.len())));
        }
        let kernel = node.ints("kernel_shape").unwrap_or_default();
        let kernel: Vec<usize> = kernel.iter().filter_map(|k| usize::try_from(*k).ok()).collect();
        let slide = Slide::of(node, space, &kernel, steps)?;
        let include = node.int("count_include_pad").unwrap_or(0) != 0;
        let pool = match node.op.as_str() {
            "MaxPool" => Pool::Max,
            "LpPool" => match u32::try_from(node.int("p").unwrap_or(2)) {
                Ok(power) if power > 0 => Pool::Power(power),
                _ => return Err(node.invalid("attribute 'p' must be positive")),
            },
            _ => Pool::Mean { ends: include.then(|| slide.after.clone()) },
        };
        let Slide { strides, dilations, before: pads, .. } = slide;
        let core = |pool| Core::Pool {
            kernel: kernel.clone(),
            strides: strides.clone(),
            pads: pads.clone(),
            dilations: dilations.clone(),
            pool,
        };
        if node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
            let columns = node.int("storage_order").unwrap_or(0) != 0;
            let output = self.fresh(node, 1)?;
            self.push(node, core(Pool::Place { columns }), vec![x.clone()], Expr::acc(), output.clone());
            self.put(node, 1, output);
        }
        self.emit(node, core(pool), vec![x], Expr::acc(), None)
    }

    pub(super) fn global_pool(&mut self, node: &'g Node) -> Result<()> {
        let x = self.input(node, 0)?;
        self.floats(node, &x)?;
        let axes: Vec<usize> = (2..x.view.rank()).collect();
        let fold = if node.op == "GlobalMaxPool" { Fold::Max } else { Fold::Mean };
        self.fold(node, x, &axes, fold, Expr::acc(), Vec::new())
    }
}
