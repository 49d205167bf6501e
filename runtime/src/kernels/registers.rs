//! Matrix products in registers alone: for drivers that run shaders on the CPU and have no subgroups.

use std::fmt::Write as _;

use crate::kernels::matmul::{Product, store};
use crate::kernels::op::Op;
use crate::kernels::wgsl::{Walk, Writer, count, unflatten, widened};
use crate::kernels::{Kernel, Threads};

/// How a thread reads the right operand.
#[derive(Clone, Copy, PartialEq)]
enum Right {
    /// Vectors along the columns.
    Columns,
    /// Vectors along the summed axis.
    Depth,
    /// One by one.
    Single,
}

/// The tile of one thread and how it reads the operands. Its methods give the steps of the kernel in order.
struct Tile<'a> {
    op: &'a Op,
    product: &'a Product,
    a: Walk,
    b: Walk,
    /// The innermost summed axis.
    inner: String,
    /// Whether the left operand is read by fours.
    a_fours: bool,
    right: Right,
    rows: usize,
    columns: usize,
    /// The variables through which the operands are read.
    names: [String; 2],
}

/// Elements that one read gives.
fn unit(vector: bool) -> i64 {
    if vector { 4 } else { 1 }
}

/// Each thread keeps a tile of up to 4 x 8 results in registers.
pub(crate) fn generate(op: &Op, product: &Product, threads: Threads) -> Option<Kernel> {
    let fours = Writer::can_finish_fours(op, &product.walks, &product.n.name);
    let mut writer = Writer::default();
    let axis = fours.then_some(product.n.name.as_str());
    let n_axes = [product.n.clone()];
    writer.write_finish(op, &product.walks, &[&product.batch, &product.m, &n_axes], axis);
    product.write_sums(&mut writer);
    product.write_dots(&mut writer);
    let tile = Tile::new(op, product, &mut writer);

    let (tiles_m, tiles_n) = (product.rows.div_ceil(tile.rows), product.n.extent.div_ceil(tile.columns));
    let work = tiles_m.checked_mul(tiles_n)?.checked_mul(count(&product.batch))?;
    let size = threads.register;
    let mut text = format!(
        "    let t = g * {size}u + lane;\n    if (t >= {work}u) {{ return; }}\n    \
         let tn = (t % {tiles_n}u) * {}u;\n    \
         let tm = ((t / {tiles_n}u) % {tiles_m}u) * {}u;\n    let tb = t / {}u;\n",
        tile.columns,
        tile.rows,
        tiles_n * tiles_m
    );
    text += &unflatten("tb", &product.batch, "");
    text += &tile.row_bases();
    text += &tile.column_bases();
    text += &tile.accumulators();
    text += &tile.loops();
    text += &tile.read_rows();
    text += &if tile.right == Right::Depth { tile.multiply_depth() } else { tile.multiply_columns() };
    text += &"    }\n".repeat(product.k.len());
    text += &tile.results(fours);
    writer.body = text;
    Kernel::new(op, writer, fours, size, (work as u64).div_ceil(u64::from(size)), threads)
}

impl<'a> Tile<'a> {
    fn new(op: &'a Op, product: &'a Product, writer: &mut Writer) -> Tile<'a> {
        let (a, b) = (product.walks.get(0), product.walks.get(1));
        let inner = product.inner();
        let a_fours = a.fours(&inner);
        let right = match (b.fours(&product.n.name), a_fours && b.fours(&inner)) {
            (true, _) => Right::Columns,
            (_, true) => Right::Depth,
            _ => Right::Single,
        };
        let names = [writer.read(0, a_fours), writer.read(1, right != Right::Single)];
        let rows = product.rows.min(4);
        let columns = if product.n.extent > 4 { 8 } else { 4 };
        Tile { op, product, a, b, inner, a_fours, right, rows, columns, names }
    }

    /// Vectors of four columns.
    fn quads(&self) -> usize {
        self.columns / 4
    }

    /// Elements of the right operand that one read gives.
    fn right_unit(&self) -> i64 {
        unit(self.right != Right::Single)
    }

    /// Elements of the innermost summed axis that one step takes.
    fn step(&self) -> usize {
        if self.a_fours { 4 } else { 1 }
    }

    /// The right operand at an index, as 32-bit numbers.
    fn read_right(&self, at: String) -> String {
        widened(self.op, 1, self.right != Right::Single, format!("{}[{at}]", self.names[1]))
    }

    /// Where each row of the left operand begins; beyond the edge, the last row. Normalised rows also get what they
    /// are shifted by and their sums.
    fn row_bases(&self) -> String {
        let (product, left) = (self.product, &self.names[0]);
        let mut text = String::new();
        for i in 0..self.rows {
            let _ = writeln!(text, "    let r{i} = min(tm + {i}u, {}u);", product.rows - 1);
            text += &unflatten(&format!("r{i}"), &product.m, &format!("_{i}"));
            let base = self.a.index(unit(self.a_fours), |n| product.rename(n, &format!("_{i}"), ""));
            let _ = writeln!(text, "    let a{i} = {base};");
            let Some(norm) = product.norm else { continue };
            if norm.centred {
                let step = if self.a_fours { 1 } else { self.a.stride(&self.inner) };
                let load = |place: usize| match step * place as i64 {
                    back if back < 0 => format!("{left}[a{i} + u32({back}i)]"),
                    on => format!("{left}[a{i} + {on}u]"),
                };
                let pivot = norm.pivot(product.depth, self.a_fours, load);
                let _ = writeln!(text, "    let pivot{i} = {pivot};\n    var sum{i} = 0.0;");
            }
            let _ = writeln!(text, "    var square{i} = 0.0;");
        }
        text
    }

    /// Where columns of the right operand begin: one base a quad where columns are read as vectors, else one a column.
    fn column_bases(&self) -> String {
        let extent = self.product.n.extent;
        let (bases, step, clamp) = match self.right {
            Right::Columns => (self.quads(), 4, extent - 4),
            _ => (self.columns, 1, extent - 1),
        };
        let mut text = String::new();
        for j in 0..bases {
            let _ = writeln!(text, "    let n{j}_ = min(tn + {}u, {clamp}u);", j * step);
            let base = self.b.index(self.right_unit(), |n| self.product.rename(n, "", &format!("n{j}_")));
            let _ = writeln!(text, "    let w{j} = {base};");
        }
        text
    }

    fn accumulators(&self) -> String {
        let (each, kind) = match self.right {
            Right::Depth => (self.columns, self.product.element()),
            _ => (self.quads(), self.product.quad()),
        };
        let mut text = String::new();
        for i in 0..self.rows {
            for j in 0..each {
                let _ = writeln!(text, "    var c{i}_{j} = {kind}();");
            }
        }
        text
    }

    /// The heads of the loops over the summed axes, and what these add to the bases.
    fn loops(&self) -> String {
        let mut text = String::new();
        for axis in &self.product.k {
            let step = if axis.name == self.inner { self.step() } else { 1 };
            let _ = writeln!(
                text,
                "    for (var {0} = 0u; {0} < {1}u; {0} += {step}u) {{",
                axis.name, axis.extent
            );
        }
        let only_k = |n: &str| n.starts_with('k').then(|| n.to_owned());
        let _ = writeln!(text, "    let ka = {};", self.a.partial(unit(self.a_fours), only_k));
        let _ = writeln!(text, "    let kb = {};", self.b.partial(self.right_unit(), only_k));
        text
    }

    /// The elements of the rows, shifted and summed where rows are normalised.
    fn read_rows(&self) -> String {
        let (norm, left) = (self.product.norm, &self.names[0]);
        let centred = norm.is_some_and(|norm| norm.centred);
        let mut text = String::new();
        for i in 0..self.rows {
            let shift = if centred { format!(" - pivot{i}") } else { String::new() };
            let _ = writeln!(text, "    let p{i} = {left}[a{i} + ka]{shift};");
            if norm.is_none() {
                continue;
            }
            let (one, two) = if self.a_fours {
                (format!("dot(p{i}, vec4<f32>(1.0))"), format!("dot(p{i}, p{i})"))
            } else {
                (format!("p{i}"), format!("p{i} * p{i}"))
            };
            if centred {
                let _ = writeln!(text, "    sum{i} += {one};");
            }
            let _ = writeln!(text, "    square{i} += {two};");
        }
        text
    }

    /// One result a column, from vectors along the summed axis.
    fn multiply_depth(&self) -> String {
        let mut text = String::new();
        for j in 0..self.columns {
            let _ = writeln!(text, "    let q{j} = {};", self.read_right(format!("w{j} + kb")));
            for i in 0..self.rows {
                let sum = self.product.dot(&format!("p{i}"), &format!("q{j}"));
                let _ = writeln!(text, "    c{i}_{j} += {sum};");
            }
        }
        text
    }

    /// Four columns at a time, for each summed element of the step.
    fn multiply_columns(&self) -> String {
        let mut text = String::new();
        for s in 0..self.step() {
            let component =
                if self.a_fours { format!(".{}", ["x", "y", "z", "w"][s]) } else { String::new() };
            let row = self.b.stride(&self.inner) * s as i64 / self.right_unit();
            let row = if row < 0 { format!("u32({row}i)") } else { format!("{row}u") };
            for j in 0..self.quads() {
                let value = if self.right == Right::Columns {
                    self.read_right(format!("w{j} + kb + {row}"))
                } else {
                    let one = |c: usize| self.read_right(format!("w{} + kb + {row}", 4 * j + c));
                    format!("{}({}, {}, {}, {})", self.product.quad(), one(0), one(1), one(2), one(3))
                };
                let _ = writeln!(text, "    let q{s}_{j} = {value};");
            }
            for i in 0..self.rows {
                for j in 0..self.quads() {
                    let sum = self.product.times(&format!("p{i}{component}"), &format!("q{s}_{j}"));
                    let _ = writeln!(text, "    c{i}_{j} += {sum};");
                }
            }
        }
        text
    }

    /// Finishes and stores the results of rows that exist.
    fn results(&self, fours: bool) -> String {
        let product = self.product;
        let mut text = String::new();
        for i in 0..self.rows {
            let _ = writeln!(text, "    if (tm + {i}u < {}u) {{", product.rows);
            if let Some(norm) = product.norm {
                text += &norm.moments(product.depth, &format!("sum{i}"), &format!("square{i}"), "");
            }
            for j in 0..self.quads() {
                let quad = if self.right == Right::Depth {
                    let c = |s: usize| format!("c{i}_{}", 4 * j + s);
                    format!("{}({}, {}, {}, {})", product.quad(), c(0), c(1), c(2), c(3))
                } else {
                    format!("c{i}_{j}")
                };
                let quad = match product.norm {
                    Some(norm) => norm.result(&quad, &format!("sums(tn + {}u)", 4 * j), "mean", "scale"),
                    None => quad,
                };
                text += &store(product, fours, &quad, &format!("_{i}"), &format!("tn + {}u", 4 * j));
            }
            text += "    }\n";
        }
        text
    }
}
