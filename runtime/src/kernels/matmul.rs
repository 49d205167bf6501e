//! Matrix products with any number of batch and row axes, finished by an expression (bias,
//! activation, residual).
//!
//! Of 8-bit integers, four to a word, a word takes the place of an element ([`Product::times`]).
//!
//! Three variants: tiles in registers without workgroup memory, for drivers that run shaders on the
//! CPU, where barriers cost more than they save; the same with operands shared through subgroups
//! ([`shared`]); and tiles in workgroup memory read as vectors of four, for graphics processors. Rows and columns beyond the edge are computed from clamped indices
//! and not stored, so that no tile needs a special case.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::target::AdapterClass;
use crate::kernels::wgsl::{Axis, Walk, Walks, Writer, count, unflatten, widened};
use crate::kernels::{Kernel, Threads, shared};

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
    fn dot(&self, p: &str, q: &str) -> String {
        if self.packed { format!("deep({p}, {q})") } else { format!("dot({p}, {q})") }
    }

    /// Writes the functions that [`Product::times`] and [`Product::dot`] call.
    pub fn write_dots(&self, writer: &mut Writer) {
        if self.packed {
            writer.items += DOTS;
        }
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
    match threads.class {
        AdapterClass::Software => {
            let shared = shared::generate(op, &Product::of(op)?, threads);
            shared.or_else(|| registers(op, threads))
        }
        AdapterClass::Gpu => workgroup(op, threads),
    }
}

/// How a thread of the register variant reads the right operand.
#[derive(Clone, Copy, PartialEq)]
enum Right {
    /// Vectors along the columns.
    Columns,
    /// Vectors along the summed axis.
    Depth,
    /// One by one.
    Single,
}

/// Each thread keeps a tile of up to 4 x 8 results in registers.
fn registers(op: &Op, threads: Threads) -> Option<Kernel> {
    let product = Product::of(op)?;
    let (a, b) = (product.walks.get(0), product.walks.get(1));
    let inner = product.inner();
    let columns = product.n.extent;
    let a_fours = a.fours(&inner);
    let right = match (b.fours(&product.n.name), a_fours && b.fours(&inner)) {
        (true, _) => Right::Columns,
        (_, true) => Right::Depth,
        _ => Right::Single,
    };
    let tile_m = product.rows.min(4);
    let tile_n = if columns > 4 { 8 } else { 4 };
    let quads = tile_n / 4;
    let (tiles_m, tiles_n) = (product.rows.div_ceil(tile_m), columns.div_ceil(tile_n));
    let work = tiles_m.checked_mul(tiles_n)?.checked_mul(count(&product.batch))?;

    let fours = Writer::can_finish_fours(op, &product.walks, &product.n.name);
    let mut writer = Writer::default();
    let axis = fours.then_some(product.n.name.as_str());
    let n_axes = [product.n.clone()];
    writer.write_finish(op, &product.walks, &[&product.batch, &product.m, &n_axes], axis);
    product.write_sums(&mut writer);
    product.write_dots(&mut writer);
    let left = writer.read(0, a_fours);
    let right_name = writer.read(1, right != Right::Single);
    let read_right = |at: String| widened(op, 1, right != Right::Single, format!("{right_name}[{at}]"));
    let size = threads.register;
    let mut text = format!(
        "    let t = g * {size}u + lane;\n    if (t >= {work}u) {{ return; }}\n    let tn = (t % {tiles_n}u) * {tile_n}u;\n    \
         let tm = ((t / {tiles_n}u) % {tiles_m}u) * {tile_m}u;\n    let tb = t / {}u;\n",
        tiles_n * tiles_m
    );
    text += &unflatten("tb", &product.batch, "");
    let unit = |vector: bool| if vector { 4 } else { 1 };
    for i in 0..tile_m {
        let _ = writeln!(text, "    let r{i} = min(tm + {i}u, {}u);", product.rows - 1);
        text += &unflatten(&format!("r{i}"), &product.m, &format!("_{i}"));
        let base = a.index(unit(a_fours), |n| product.rename(n, &format!("_{i}"), ""));
        let _ = writeln!(text, "    let a{i} = {base};");
        if let Some(norm) = product.norm {
            if norm.centred {
                let step = if a_fours { 1 } else { a.stride(&inner) };
                let load = |place: usize| match step * place as i64 {
                    back if back < 0 => format!("{left}[a{i} + u32({back}i)]"),
                    on => format!("{left}[a{i} + {on}u]"),
                };
                let pivot = norm.pivot(product.depth, a_fours, load);
                let _ = writeln!(text, "    let pivot{i} = {pivot};\n    var sum{i} = 0.0;");
            }
            let _ = writeln!(text, "    var square{i} = 0.0;");
        }
    }
    // Column bases: one a quad where columns are read as vectors, else one a column.
    let (bases, step, clamp) =
        if right == Right::Columns { (quads, 4, columns - 4) } else { (tile_n, 1, columns - 1) };
    for j in 0..bases {
        let _ = writeln!(text, "    let n{j}_ = min(tn + {}u, {clamp}u);", j * step);
        let base = b.index(unit(right != Right::Single), |n| product.rename(n, "", &format!("n{j}_")));
        let _ = writeln!(text, "    let w{j} = {base};");
    }
    let (accumulators, kind) =
        if right == Right::Depth { (tile_n, product.element()) } else { (quads, product.quad()) };
    for i in 0..tile_m {
        for j in 0..accumulators {
            let _ = writeln!(text, "    var c{i}_{j} = {kind}();");
        }
    }
    let step_k = if a_fours { 4 } else { 1 };
    for axis in &product.k {
        let step = if axis.name == inner { step_k } else { 1 };
        let _ =
            writeln!(text, "    for (var {0} = 0u; {0} < {1}u; {0} += {step}u) {{", axis.name, axis.extent);
    }
    let only_k = |n: &str| n.starts_with('k').then(|| n.to_owned());
    let _ = writeln!(text, "    let ka = {};", a.partial(unit(a_fours), only_k));
    let _ = writeln!(text, "    let kb = {};", b.partial(unit(right != Right::Single), only_k));
    for i in 0..tile_m {
        let centred = product.norm.is_some_and(|norm| norm.centred);
        let shift = if centred { format!(" - pivot{i}") } else { String::new() };
        let _ = writeln!(text, "    let p{i} = {left}[a{i} + ka]{shift};");
        if product.norm.is_some() {
            let (one, two) = if a_fours {
                (format!("dot(p{i}, vec4<f32>(1.0))"), format!("dot(p{i}, p{i})"))
            } else {
                (format!("p{i}"), format!("p{i} * p{i}"))
            };
            if centred {
                let _ = writeln!(text, "    sum{i} += {one};");
            }
            let _ = writeln!(text, "    square{i} += {two};");
        }
    }
    if right == Right::Depth {
        for j in 0..tile_n {
            let _ = writeln!(text, "    let q{j} = {};", read_right(format!("w{j} + kb")));
            for i in 0..tile_m {
                let _ =
                    writeln!(text, "    c{i}_{j} += {};", product.dot(&format!("p{i}"), &format!("q{j}")));
            }
        }
    } else {
        for s in 0..step_k as usize {
            let component = if a_fours { format!(".{}", ["x", "y", "z", "w"][s]) } else { String::new() };
            let row = b.stride(&inner) * s as i64 / unit(right != Right::Single);
            let row = if row < 0 { format!("u32({row}i)") } else { format!("{row}u") };
            for j in 0..quads {
                let value = if right == Right::Columns {
                    read_right(format!("w{j} + kb + {row}"))
                } else {
                    let one = |c: usize| read_right(format!("w{} + kb + {row}", 4 * j + c));
                    format!("{}({}, {}, {}, {})", product.quad(), one(0), one(1), one(2), one(3))
                };
                let _ = writeln!(text, "    let q{s}_{j} = {value};");
            }
            for i in 0..tile_m {
                for j in 0..quads {
                    let sum = product.times(&format!("p{i}{component}"), &format!("q{s}_{j}"));
                    let _ = writeln!(text, "    c{i}_{j} += {sum};");
                }
            }
        }
    }
    text += &"    }\n".repeat(product.k.len());
    for i in 0..tile_m {
        let _ = writeln!(text, "    if (tm + {i}u < {}u) {{", product.rows);
        if let Some(norm) = product.norm {
            text += &norm.moments(product.depth, &format!("sum{i}"), &format!("square{i}"), "");
        }
        for j in 0..quads {
            let quad = if right == Right::Depth {
                let c = |s: usize| format!("c{i}_{}", 4 * j + s);
                format!("{}({}, {}, {}, {})", product.quad(), c(0), c(1), c(2), c(3))
            } else {
                format!("c{i}_{j}")
            };
            let quad = match product.norm {
                Some(norm) => norm.result(&quad, &format!("sums(tn + {}u)", 4 * j), "mean", "scale"),
                None => quad,
            };
            text += &store(&product, fours, &quad, &format!("_{i}"), &format!("tn + {}u", 4 * j));
        }
        text += "    }\n";
    }
    writer.body = text;
    Kernel::new(op, writer, fours, size, (work as u64).div_ceil(u64::from(size)), threads)
}

/// Stores four results of one row from `column` on, those that exist.
fn store(product: &Product, fours: bool, quad: &str, suffix: &str, column: &str) -> String {
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

/// Summed elements that the workgroup variant stages at a time.
const STAGE: usize = 16;

/// A workgroup stages square tiles of both operands in its memory; each thread computes 4 x 4.
fn workgroup(op: &Op, threads: Threads) -> Option<Kernel> {
    let product = Product::of(op)?;
    let (a, b) = (product.walks.get(0), product.walks.get(1));
    let columns = product.n.extent;
    let batches = count(&product.batch);
    let wide = |tile: usize| product.rows.div_ceil(tile) * columns.div_ceil(tile) * batches;
    // The large tile halves the traffic but needs enough of them to fill the processor.
    let tile = if wide(64) >= 256 && threads.most >= 256 { 64 } else { 32 };
    let side = tile / 4;
    let size = side * side;
    let (tiles_m, tiles_n) = (product.rows.div_ceil(tile), columns.div_ceil(tile));
    let groups = tiles_m.checked_mul(tiles_n)?.checked_mul(batches)?;

    let fours = Writer::can_finish_fours(op, &product.walks, &product.n.name);
    let mut writer = Writer::default();
    let axis = fours.then_some(product.n.name.as_str());
    let n_axes = [product.n.clone()];
    writer.write_finish(op, &product.walks, &[&product.batch, &product.m, &n_axes], axis);
    let inner = product.inner();
    let (a_fours, b_fours) = (a.fours(&inner), b.fours(&product.n.name));
    let (left, right) = (writer.read(0, a_fours), writer.read(1, b_fours));
    let stage = STAGE / 4;
    let _ = writeln!(
        writer.items,
        "var<workgroup> left: array<{0}, {1}>;\nvar<workgroup> right: array<{0}, {2}>;",
        product.quad(),
        tile * stage,
        STAGE * side
    );
    product.write_sums(&mut writer);
    product.write_dots(&mut writer);
    // left[row][k / 4] holds four summed elements of a row, right[k][column / 4] four columns.
    let read_left = |at: String| format!("{left}[{at}]");
    let read_right = |at: String| widened(op, 1, b_fours, format!("{right}[{at}]"));
    write_loader(&mut writer, "load_left", &a, &product, read_left, a_fours, true);
    write_loader(&mut writer, "load_right", &b, &product, read_right, b_fours, false);

    let padded = threads
        .grid(groups as u64)
        .is_some_and(|[x, y, z]| u64::from(x) * u64::from(y) * u64::from(z) > groups as u64);
    let mut text = String::new();
    if padded {
        let _ = writeln!(text, "    if (g >= {groups}u) {{ return; }}");
    }
    let _ = write!(
        text,
        "    let tn = (g % {tiles_n}u) * {tile}u;\n    let tm = ((g / {tiles_n}u) % {tiles_m}u) * {tile}u;\n    \
         let tb = g / {}u;\n    let lx = lane % {side}u;\n    let ly = lane / {side}u;\n",
        tiles_n * tiles_m
    );
    text += &unflatten("tb", &product.batch, "");
    let batch: String = product.batch.iter().map(|axis| format!(", {}", axis.name)).collect();
    for i in 0..4 {
        let _ = writeln!(text, "    var c{i} = {}();", product.quad());
    }
    let staged = stage_left(&product, &mut writer, &mut text, tile, size);
    let _ = write!(
        text,
        "    for (var k = 0u; k < {}u; k += {STAGE}u) {{\n{staged}    \
         for (var i = lane; i < {}u; i += {size}u) {{ right[i] = load_right(k + i / {side}u, tn + (i % {side}u) * 4u{batch}); }}\n    \
         workgroupBarrier();\n    for (var s = 0u; s < {stage}u; s++) {{\n",
        product.depth,
        STAGE * side
    );
    for s in 0..4 {
        let _ = writeln!(text, "    let q{s} = right[(s * 4u + {s}u) * {side}u + lx];");
    }
    for i in 0..4 {
        let times =
            |(s, component): (usize, &str)| product.times(&format!("p{i}.{component}"), &format!("q{s}"));
        let sum = ["x", "y", "z", "w"].into_iter().enumerate().map(times).collect::<Vec<_>>().join(" + ");
        let _ = writeln!(text, "    let p{i} = left[(ly * 4u + {i}u) * {stage}u + s];\n    c{i} += {sum};");
    }
    text += "    }\n    workgroupBarrier();\n    }\n";
    if product.norm.is_some() {
        for j in 0..tile * stage / size {
            let _ = writeln!(text, "    parts[lane + {}u] = vec2<f32>(sum{j}, square{j});", j * size);
        }
        text += "    workgroupBarrier();\n";
    }
    for i in 0..4 {
        let _ = writeln!(text, "    {{ let r = tm + ly * 4u + {i}u;\n    if (r < {}u) {{", product.rows);
        text += &unflatten("r", &product.m, "");
        let mut quad = format!("c{i}");
        if let Some(norm) = product.norm {
            let part = |s: usize| format!("parts[(ly * 4u + {i}u) * {stage}u + {s}u]");
            let all: Vec<String> = (0..stage).map(part).collect();
            let _ = writeln!(text, "    let all = {};", all.join(" + "));
            text += &norm.moments(product.depth, "all.x", "all.y", "");
            quad = norm.result(&quad, "sums(tn + lx * 4u)", "mean", "scale");
        }
        text += &store(&product, fours, &quad, "", "tn + lx * 4u");
        text += "    }\n    }\n";
    }
    writer.body = text;
    Kernel::new(op, writer, fours, size as u32, groups as u64, threads)
}

/// The statements that bring a tile of the left operand to workgroup memory, four summed elements
/// a slot. Where rows are normalised, what comes before the loop goes to `text`: each thread keeps the
/// sums of its slots, whose rows stay the same, and shifts them by their row's first element.
fn stage_left(product: &Product, writer: &mut Writer, text: &mut String, tile: usize, size: usize) -> String {
    let stage = STAGE / 4;
    let batch: String = product.batch.iter().map(|axis| format!(", {}", axis.name)).collect();
    let Some(norm) = product.norm else {
        return format!(
            "    for (var i = lane; i < {}u; i += {size}u) {{ \
             left[i] = load_left(tm + i / {stage}u, k + (i % {stage}u) * 4u{batch}); }}\n",
            tile * stage
        );
    };
    let _ = writeln!(writer.items, "var<workgroup> parts: array<vec2<f32>, {}>;", tile * stage);
    let mut staged = String::new();
    for j in 0..tile * stage / size {
        let slot = format!("(lane + {}u)", j * size);
        let fours = product.depth.is_multiple_of(4);
        let load = |place: usize| match fours {
            true => format!("load_left(row{j}, {}u{batch})", place * 4),
            false => format!("load_left(row{j}, {place}u{batch}).x"),
        };
        let pivot = if norm.centred { norm.pivot(product.depth, fours, load) } else { "0.0".to_owned() };
        let _ = write!(
            text,
            "    let row{j} = tm + {slot} / {stage}u;\n    let pivot{j} = {pivot};\n    \
             var sum{j} = 0.0;\n    var square{j} = 0.0;\n"
        );
        // Beyond the row there are zeros, which are no elements of it.
        let (edge, valid) = (product.depth, ["x", "y", "z", "w"].iter().enumerate());
        let valid: Vec<String> = valid.map(|(s, _)| format!("at{j} + {s}u < {edge}u")).collect();
        let _ = write!(
            staged,
            "    let at{j} = k + {slot} % {stage}u * 4u;\n    \
             let p{j} = select(vec4<f32>(), load_left(row{j}, at{j}{batch}) - pivot{j}, vec4<bool>({}));\n    \
             sum{j} += dot(p{j}, vec4<f32>(1.0));\n    square{j} += dot(p{j}, p{j});\n    left[{slot}] = p{j};\n",
            valid.join(", ")
        );
    }
    staged
}

/// Writes a function that reads four neighbours of an operand, zero beyond its edges: along the
/// summed axes of one row (`depth_last`), or along the columns at one summed place.
fn write_loader(
    writer: &mut Writer,
    name: &str,
    walk: &Walk,
    product: &Product,
    read: impl Fn(String) -> String,
    fours: bool,
    depth_last: bool,
) {
    let batch: String = product.batch.iter().map(|axis| format!(", {}: u32", axis.name)).collect();
    let (first, second) = if depth_last { ("row", "depth") } else { ("depth", "column") };
    let (first_most, second_most) =
        if depth_last { (product.rows, product.depth) } else { (product.depth, product.n.extent) };
    let quad = product.quad();
    let mut text = format!("fn {name}({first}: u32, {second}: u32{batch}) -> {quad} {{\n");
    let _ = writeln!(
        text,
        "    if ({first} >= {first_most}u || {second} >= {second_most}u) {{ return {quad}(); }}"
    );
    if depth_last {
        text += &unflatten("row", &product.m, "");
    } else {
        text += &unflatten("depth", &product.k, "");
    }
    let column = if depth_last { "" } else { "column" };
    let rename = |n: &str| {
        let kept = matches!(n.as_bytes().first(), Some(b'k'));
        if kept { Some(n.to_owned()) } else { product.rename(n, "", column) }
    };
    if fours {
        if depth_last {
            text += &unflatten("depth", &product.k, "");
        }
        let _ = writeln!(text, "    return {};\n}}", read(walk.index(4, rename)));
    } else {
        let _ = writeln!(text, "    var value = {quad}();");
        for (s, component) in ["x", "y", "z", "w"].iter().enumerate() {
            let _ = writeln!(text, "    if ({second} + {s}u < {second_most}u) {{");
            let index =
                if depth_last {
                    text += &unflatten(&format!("(depth + {s}u)"), &product.k, "");
                    walk.index(1, rename)
                } else {
                    walk.index(1, |n| {
                        if n.starts_with('n') { Some(format!("(column + {s}u)")) } else { rename(n) }
                    })
                };
            let _ = writeln!(text, "    value.{component} = {};\n    }}", read(index));
        }
        text += "    return value;\n}\n";
    }
    writer.items += &text;
}
