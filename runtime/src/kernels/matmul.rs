//! Matrix products with any number of batch and row axes, finished by an expression (bias,
//! activation, residual).
//!
//! Three variants: tiles in registers without workgroup memory, for drivers that run shaders on the
//! CPU, where barriers cost more than they save; the same with operands shared through subgroups
//! ([`shared`]); and tiles in workgroup memory read as vectors of four, for graphics processors. Rows and columns beyond the edge are computed from clamped indices
//! and not stored, so that no tile needs a special case.

use std::fmt::Write as _;

use crate::kernels::op::{Core, Op};
use crate::kernels::target::AdapterClass;
use crate::kernels::wgsl::{Axis, Walk, Walks, Writer, count, unflatten};
use crate::kernels::{Kernel, Threads, shared};

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
}

impl Product {
    fn of(op: &Op) -> Option<Product> {
        let Core::Matmul { batch, m, k } = op.core else { return None };
        let mut walks = Walks::of(op);
        let batch_axes = walks.join_output(op, "b", (0, batch), &[(0, 0, batch), (1, 0, batch)]);
        let m_axes = walks.join_output(op, "m", (batch, m), &[(0, batch, m)]);
        let mut k_axes = walks.join(op, "k", &[(0, batch + m, k), (1, batch, k)]);
        let mut n_axes = walks.join_output(op, "n", (batch + m, 1), &[(1, batch + k, 1)]);
        if k_axes.is_empty() {
            k_axes.push(Axis { name: "k0".to_owned(), extent: 1 });
        }
        let n = n_axes.pop().unwrap_or(Axis { name: "n0".to_owned(), extent: 1 });
        let (rows, depth) = (count(&m_axes), count(&k_axes));
        Some(Product { walks, batch: batch_axes, m: m_axes, k: k_axes, n, rows, depth })
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
    let left = writer.read(0, a_fours);
    let right_name = writer.read(1, right != Right::Single);
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
    }
    // Column bases: one a quad where columns are read as vectors, else one a column.
    let (bases, step, clamp) =
        if right == Right::Columns { (quads, 4, columns - 4) } else { (tile_n, 1, columns - 1) };
    for j in 0..bases {
        let _ = writeln!(text, "    let n{j}_ = min(tn + {}u, {clamp}u);", j * step);
        let base = b.index(unit(right != Right::Single), |n| product.rename(n, "", &format!("n{j}_")));
        let _ = writeln!(text, "    let w{j} = {base};");
    }
    let (accumulators, kind) = if right == Right::Depth { (tile_n, "f32") } else { (quads, "vec4<f32>") };
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
        let _ = writeln!(text, "    let p{i} = {left}[a{i} + ka];");
    }
    if right == Right::Depth {
        for j in 0..tile_n {
            let _ = writeln!(text, "    let q{j} = {right_name}[w{j} + kb];");
            for i in 0..tile_m {
                let _ = writeln!(text, "    c{i}_{j} += dot(p{i}, q{j});");
            }
        }
    } else {
        for s in 0..step_k as usize {
            let component = if a_fours { format!(".{}", ["x", "y", "z", "w"][s]) } else { String::new() };
            let row = b.stride(&inner) * s as i64 / unit(right != Right::Single);
            let row = if row < 0 { format!("u32({row}i)") } else { format!("{row}u") };
            for j in 0..quads {
                let value = if right == Right::Columns {
                    format!("{right_name}[w{j} + kb + {row}]")
                } else {
                    let one = |c: usize| format!("{right_name}[w{} + kb + {row}]", 4 * j + c);
                    format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3))
                };
                let _ = writeln!(text, "    let q{s}_{j} = {value};");
            }
            for i in 0..tile_m {
                for j in 0..quads {
                    let _ = writeln!(text, "    c{i}_{j} += p{i}{component} * q{s}_{j};");
                }
            }
        }
    }
    text += &"    }\n".repeat(product.k.len());
    for i in 0..tile_m {
        let _ = writeln!(text, "    if (tm + {i}u < {}u) {{", product.rows);
        for j in 0..quads {
            let quad = if right == Right::Depth {
                let c = |s: usize| format!("c{i}_{}", 4 * j + s);
                format!("vec4<f32>({}, {}, {}, {})", c(0), c(1), c(2), c(3))
            } else {
                format!("c{i}_{j}")
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
        "var<workgroup> left: array<vec4<f32>, {}>;\nvar<workgroup> right: array<vec4<f32>, {}>;",
        tile * stage,
        STAGE * side
    );
    // left[row][k / 4] holds four summed elements of a row, right[k][column / 4] four columns.
    write_loader(&mut writer, "load_left", &a, &product, &left, a_fours, true);
    write_loader(&mut writer, "load_right", &b, &product, &right, b_fours, false);

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
        let _ = writeln!(text, "    var c{i} = vec4<f32>();");
    }
    let _ = write!(
        text,
        "    for (var k = 0u; k < {}u; k += {STAGE}u) {{\n    \
         for (var i = lane; i < {}u; i += {size}u) {{ left[i] = load_left(tm + i / {stage}u, k + (i % {stage}u) * 4u{batch}); }}\n    \
         for (var i = lane; i < {}u; i += {size}u) {{ right[i] = load_right(k + i / {side}u, tn + (i % {side}u) * 4u{batch}); }}\n    \
         workgroupBarrier();\n    for (var s = 0u; s < {stage}u; s++) {{\n",
        product.depth,
        tile * stage,
        STAGE * side
    );
    for s in 0..4 {
        let _ = writeln!(text, "    let q{s} = right[(s * 4u + {s}u) * {side}u + lx];");
    }
    for i in 0..4 {
        let _ = writeln!(
            text,
            "    let p{i} = left[(ly * 4u + {i}u) * {stage}u + s];\n    \
             c{i} += p{i}.x * q0 + p{i}.y * q1 + p{i}.z * q2 + p{i}.w * q3;"
        );
    }
    text += "    }\n    workgroupBarrier();\n    }\n";
    for i in 0..4 {
        let _ = writeln!(text, "    {{ let r = tm + ly * 4u + {i}u;\n    if (r < {}u) {{", product.rows);
        text += &unflatten("r", &product.m, "");
        text += &store(&product, fours, &format!("c{i}"), "", "tn + lx * 4u");
        text += "    }\n    }\n";
    }
    writer.body = text;
    Kernel::new(op, writer, fours, size as u32, groups as u64, threads)
}

/// Writes a function that reads four neighbours of an operand, zero beyond its edges: along the
/// summed axes of one row (`depth_last`), or along the columns at one summed place.
fn write_loader(
    writer: &mut Writer,
    name: &str,
    walk: &Walk,
    product: &Product,
    array: &str,
    fours: bool,
    depth_last: bool,
) {
    let batch: String = product.batch.iter().map(|axis| format!(", {}: u32", axis.name)).collect();
    let (first, second) = if depth_last { ("row", "depth") } else { ("depth", "column") };
    let (first_most, second_most) =
        if depth_last { (product.rows, product.depth) } else { (product.depth, product.n.extent) };
    let mut text = format!("fn {name}({first}: u32, {second}: u32{batch}) -> vec4<f32> {{\n");
    let _ = writeln!(
        text,
        "    if ({first} >= {first_most}u || {second} >= {second_most}u) {{ return vec4<f32>(); }}"
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
        let _ = writeln!(text, "    return {array}[{}];\n}}", walk.index(4, rename));
    } else {
        text += "    var value = vec4<f32>();\n";
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
            let _ = writeln!(text, "    value.{component} = {array}[{index}];\n    }}");
        }
        text += "    return value;\n}\n";
    }
    writer.items += &text;
}
