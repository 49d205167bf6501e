//! Matrix products with any number of batch and row axes, finished by an expression (bias,
//! activation, residual).
//!
//! Of 8-bit integers, four to a word, a word takes the place of an element ([`Product::times`]).
//!
//! Four variants: tiles in registers without workgroup memory ([`registers`]), for drivers that run shaders on the
//! CPU, where barriers cost more than they save; the same with operands shared through subgroups
//! ([`shared`]); tiles in workgroup memory read as vectors of four ([`workgroup`]), for graphics processors; and tiles there
//! multiplied as cooperative matrices ([`cooperative`]), where a target names some. Rows and columns beyond the edge are
//! computed from clamped indices or from zeros, and not stored, so that no tile needs a special case.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::target::AdapterClass;
use crate::kernels::wgsl::{Axis, Walks, Writer, count};
use crate::kernels::{Kernel, Threads, cooperative, registers, shared, workgroup};

/// Elements, or fours of them, that a row's shift is the mean of.
const PIVOTS: usize = 4;

/// Products of words of four 8-bit integers: one by four, and four by four summed.
const DOTS: &str = "fn dots(p: i32, q: vec4<i32>) -> vec4<i32> {
    let a = bitcast<u32>(p);
    let b = bitcast<vec4<u32>>(q);
    return vec4<i32>(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}
fn deep(p: vec4<i32>, q: vec4<i32>) -> i32 {
    let a = bitcast<vec4<u32>>(p);
    let b = bitcast<vec4<u32>>(q);
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
";

/// How the rows of a product's left operand are normalised.
///
/// The product is begun with each row shifted by the mean of a few of its own elements, and the sums
/// of the shifted elements and of their squares are found on the way. That shift is a few standard
/// deviations away from the mean at most, so little is lost to rounding wherever the row lies.
#[derive(Clone, Copy)]
pub(crate) struct Norm {
    pub epsilon: f32,
    pub centred: bool,
}

impl Norm {
    /// What a row of `depth` is shifted by: the mean of elements `load(place)` spread over the row, of
    /// which each is four neighbours where `fours`.
    pub fn pivot(&self, depth: usize, fours: bool, load: impl Fn(usize) -> String) -> String {
        let places = if fours { depth / 4 } else { depth };
        let taken = places.min(PIVOTS);
        let each = (0..taken).map(|i| load(i * places / taken)).collect::<Vec<_>>().join(" + ");
        match fours {
            true => format!("dot({each}, vec4<f32>({:?}))", 0.25 / taken as f32),
            false => format!("({each}) / {taken}.0"),
        }
    }

    /// Statements that define `mean`, of the shifted row, and `scale` from the row's sums.
    pub fn moments(&self, depth: usize, sum: &str, square: &str, suffix: &str) -> String {
        let epsilon = self.epsilon;
        if !self.centred {
            return format!("    let scale{suffix} = 1.0 / sqrt({square} / {depth}.0 + {epsilon:?}f);\n");
        }
        format!(
            "    let mean{suffix} = {sum} / {depth}.0;\n    let scale{suffix} = \
             1.0 / sqrt(max({square} / {depth}.0 - mean{suffix} * mean{suffix}, 0.0) + {epsilon:?}f);\n"
        )
    }

    /// A result from the product `acc` of a shifted row and the column's sum.
    pub fn result(&self, acc: &str, sums: &str, mean: &str, scale: &str) -> String {
        if self.centred { format!("({acc} - {mean} * {sums}) * {scale}") } else { format!("{acc} * {scale}") }
    }
}

/// The axes of a product and how its operands walk them.
pub(crate) struct Product {
    pub walks: Walks,
    pub batch: Vec<Axis>,
    pub m: Vec<Axis>,
    pub k: Vec<Axis>,
    pub n: Axis,
    /// Product of the extents of `m`.
    pub rows: usize,
    /// Product of the extents of `k`.
    pub depth: usize,
    /// How rows are normalised first.
    pub norm: Option<Norm>,
    /// Whether each element is four 8-bit integers, which are summed.
    pub packed: bool,
}

impl Product {
    fn of(op: &Op) -> Option<Product> {
        let packed = matches!(op.core, Core::PackedMatmul { .. });
        let (batch, m, k, norm) = match op.core {
            Core::Matmul { batch, m, k } | Core::PackedMatmul { batch, m, k } => (batch, m, k, None),
            Core::NormMatmul { m, epsilon, centred } => (0, m, 1, Some(Norm { epsilon, centred })),
            _ => return None,
        };
        let mut walks = Walks::of(op);
        let batch_axes = walks.join_output(op, "b", (0, batch), &[(0, 0, batch), (1, 0, batch)]);
        let m_axes = walks.join_output(op, "m", (batch, m), &[(0, batch, m)]);
        let mut k_axes = walks.join(op, "k", &[(0, batch + m, k), (1, batch, k)]);
        let mut n_operands = vec![(1, batch + k, 1)];
        if norm.is_some() {
            n_operands.push((2, batch + m, 1));
        }
        let mut n_axes = walks.join_output(op, "n", (batch + m, 1), &n_operands);
        if k_axes.is_empty() {
            k_axes.push(Axis { name: "k0".to_owned(), extent: 1 });
        }
        let n = n_axes.pop().unwrap_or(Axis { name: "n0".to_owned(), extent: 1 });
        let (rows, depth) = (count(&m_axes), count(&k_axes));
        Some(Product { walks, batch: batch_axes, m: m_axes, k: k_axes, n, rows, depth, norm, packed })
    }

    /// WGSL type of an element and of a sum.
    pub fn element(&self) -> &'static str {
        if self.packed { "i32" } else { "f32" }
    }

    /// WGSL type of four of them.
    pub fn quad(&self) -> &'static str {
        if self.packed { "vec4<i32>" } else { "vec4<f32>" }
    }

    /// What is added to the sums of four columns for the element `p` of a row and the elements `q` of the columns.
    pub fn times(&self, p: &str, q: &str) -> String {
        if self.packed { format!("dots({p}, {q})") } else { format!("{p} * {q}") }
    }

    /// The sum of the products of four elements of a row and four of a column.
    pub fn dot(&self, p: &str, q: &str) -> String {
        if self.packed { format!("deep({p}, {q})") } else { format!("dot({p}, {q})") }
    }

    /// Writes the functions that [`Product::times`] and [`Product::dot`] call.
    pub fn write_dots(&self, writer: &mut Writer) {
        if self.packed {
            writer.items += DOTS;
        }
    }

    /// Tiles of `side` x `side` results along the rows and along the columns, and of all batches.
    pub fn tiles(&self, side: usize) -> Option<(usize, usize, usize)> {
        let (m, n) = (self.rows.div_ceil(side), self.n.extent.div_ceil(side));
        Some((m, n, m.checked_mul(n)?.checked_mul(count(&self.batch))?))
    }

    /// Whether there are tiles of `side` x `side` enough to fill a processor. A larger tile means less traffic.
    pub fn fills(&self, side: usize) -> bool {
        self.tiles(side).is_some_and(|(.., all)| all >= 256)
    }

    /// `, b0, b1` as further arguments of a function that reads an operand.
    pub fn batch_arguments(&self) -> String {
        self.batch.iter().map(|axis| format!(", {}", axis.name)).collect()
    }

    /// The name of the innermost summed axis.
    pub fn inner(&self) -> String {
        self.k.last().map(|a| a.name.clone()).unwrap_or_default()
    }

    /// `, b0, m0_suffix, column` as the arguments of `finish`.
    pub fn arguments(&self, suffix: &str, column: &str) -> String {
        let mut text: String = self.batch.iter().map(|a| format!(", {}", a.name)).collect();
        text.extend(self.m.iter().map(|a| format!(", {}{suffix}", a.name)));
        let _ = write!(text, ", {column}");
        text
    }

    /// The output's index at row `suffix` and `column`.
    pub fn out(&self, unit: i64, suffix: &str, column: &str) -> String {
        self.walks.output().index(unit, |n| self.rename(n, suffix, column))
    }

    /// Writes the function `sums(column)`, which reads the sums of four columns.
    pub fn write_sums(&self, writer: &mut Writer) {
        if !self.norm.is_some_and(|norm| norm.centred) {
            return;
        }
        let walk = self.walks.get(2);
        let name = self.n.name.as_str();
        let text = if walk.fours(name) {
            let array = writer.read(2, true);
            let index =
                walk.index(4, |n| (n == name).then(|| format!("min(column, {}u)", self.n.extent - 4)));
            format!("    return {array}[{index}];\n")
        } else {
            let array = writer.read(2, false);
            let one = |s: usize| {
                let place = format!("min(column + {s}u, {}u)", self.n.extent - 1);
                format!("{array}[{}]", walk.index(1, |n| (n == name).then(|| place.clone())))
            };
            format!("    return vec4<f32>({}, {}, {}, {});\n", one(0), one(1), one(2), one(3))
        };
        let _ = write!(writer.items, "fn sums(column: u32) -> vec4<f32> {{\n{text}}}\n");
    }

    /// A loop variable as it is called at row `suffix` and `column`; none for summed axes.
    pub fn rename(&self, name: &str, suffix: &str, column: &str) -> Option<String> {
        Some(match name.as_bytes().first() {
            Some(b'm') => format!("{name}{suffix}"),
            Some(b'n') => column.to_owned(),
            Some(b'k') => return None,
            _ => name.to_owned(),
        })
    }
}

/// The variant for the target's class of adapter.
pub(crate) fn generate(op: &Op, threads: Threads) -> Option<Kernel> {
    let product = Product::of(op)?;
    match threads.class {
        AdapterClass::Software => {
            shared::generate(op, &product, threads).or_else(|| registers::generate(op, &product, threads))
        }
        AdapterClass::Gpu => cooperative::generate(op, &product, threads)
            .or_else(|| workgroup::generate(op, &product, threads)),
    }
}

/// Stores four results of one row from `column` on, those that exist.
pub(super) fn store(product: &Product, fours: bool, quad: &str, suffix: &str, column: &str) -> String {
    let columns = product.n.extent;
    let mut text = format!("    {{ let n = {column}; let q = {quad};\n");
    if fours {
        let arguments = product.arguments(suffix, "n");
        let index = product.out(4, suffix, "n");
        let _ = writeln!(text, "    if (n < {columns}u) {{ y[{index}] = finish(q{arguments}); }}");
    } else {
        for (s, component) in ["x", "y", "z", "w"].iter().enumerate() {
            let column = format!("(n + {s}u)");
            let arguments = product.arguments(suffix, &column);
            let index = product.out(1, suffix, &column);
            let _ = writeln!(
                text,
                "    if (n + {s}u < {columns}u) {{ y[{index}] = finish(q.{component}{arguments}); }}"
            );
        }
    }
    text + "    }\n"
}
