//! Matrix products through cooperative matrices: small squares that a subgroup holds together and multiplies at once, where a
//! graphics processor has units for that.
//!
//! As in the workgroup variant both operands are staged in workgroup memory, with zeros beyond their edges, so that no matrix
//! needs a special case. A workgroup's tile of results is cut into [`PARTS`] quarters, and each subgroup keeps one of them as
//! matrices. Where a workgroup has fewer subgroups it takes several rounds; where it has more, those left over compute the
//! last quarter once more and store nothing. Results go through workgroup memory too, because what finishes them wants to know
//! which element it has, and the layout of a cooperative matrix is the driver's secret.
//!
//! naga spells the operations: `coopLoadT` and `coopStoreT` are those of row-major memory. Sums start from zeros that are
//! loaded: what an empty matrix holds is not the same in every language that naga writes.
//!
//! **By the letter these kernels are not sound on Vulkan yet.** For cooperative matrices naga 30 declares Vulkan's memory model, but
//! it goes on writing accesses to workgroup memory that are private and barriers that make nothing visible
//! (<https://github.com/gfx-rs/wgpu/issues/8805>; `back/spv/writer.rs`, `write_control_barrier`; `back/spv/instructions.rs`,
//! `coop_load`). A driver that took this at its word could lose what is staged. So nothing but a tune, which compares the answers of
//! several runs, or a program by name chooses them.

use std::fmt::Write as _;

use crate::kernels::matmul::{Product, store};
use crate::kernels::op::Op;
use crate::kernels::wgsl::{Writer, unflatten, widened};
use crate::kernels::workgroup::{STAGE, moments, share_sums, skip_padding, stage_left, write_loader};
use crate::kernels::{CooperativeSizes, ENABLE_COOPERATIVE, Kernel, Threads};
use crate::tensor::Dtype;

/// Quarters of a tile, one a subgroup: two along the rows and two along the columns.
const PARTS: usize = 4;
/// Threads of a workgroup where the width of a subgroup is not known: four of the width that most have.
const SIZE: usize = 128;

/// The matrices of one kernel and what they make up.
struct Plan {
    /// Rows and columns of a matrix.
    side: usize,
    /// WGSL type of an operand's elements; sums are `f32`.
    element: &'static str,
    /// Rows and columns of a workgroup's tile of results.
    tile: usize,
    /// Threads of a workgroup.
    size: usize,
}

impl Plan {
    /// The matrices for `op`, or `None` where there are none or they would hold hardly anything but zeros.
    ///
    /// Matrices of 32-bit floats come first, because they compute what was asked. Those of 16 bits round the rows, and are for
    /// weights that the caller wanted in 16 bits alone.
    fn of(op: &Op, product: &Product, threads: Threads) -> Option<Plan> {
        let [left, right, ..] = op.inputs.as_slice() else { return None };
        let CooperativeSizes { f32, f16 } = threads.cooperative;
        let (side, element) = match (left.dtype, right.dtype) {
            (Dtype::F32, Dtype::F32 | Dtype::F16) if f32 > 0 => (f32, "f32"),
            (Dtype::F32, Dtype::F16) => (f16, "f16"),
            _ => return None,
        };
        let side = side as usize;
        let size = if threads.lanes > 0 { PARTS * threads.lanes as usize } else { SIZE };
        // A thread stages at least one four of the left tile, so many threads want the large one.
        let tile = if product.fills(64) || size > 32 * STAGE / 4 { 64 } else { 32 };
        let fits = matches!(side, 8 | 16)
            && size <= threads.most as usize
            && (tile * STAGE / 4).is_multiple_of(size)
            && 2 * product.rows >= side
            && 2 * product.n.extent >= side;
        fits.then_some(Plan { side, element, tile, size })
    }

    /// Rows and columns of a quarter.
    fn quarter(&self) -> usize {
        self.tile / 2
    }

    /// Matrices along one side of a quarter.
    fn matrices(&self) -> usize {
        self.quarter() / self.side
    }

    /// Elements of one row of matrices of a quarter.
    fn strip(&self) -> usize {
        self.side * self.quarter()
    }

    /// The type of a matrix in its role: `A` and `B` are multiplied, `C` are sums.
    fn matrix(&self, role: char) -> String {
        let element = if role == 'C' { "f32" } else { self.element };
        format!("coop_mat{0}x{0}<{element},{role}>", self.side)
    }

    /// A matrix from row-major workgroup memory.
    fn load(&self, role: char, array: &str, at: &str, stride: usize) -> String {
        format!("coopLoadT<{}>(&{array}[{at}], {stride}u)", self.matrix(role))
    }

    /// The staged tiles, the sums' zeros, the results, and how fours get into a tile.
    fn write_memory(&self, writer: &mut Writer) {
        let Plan { element, tile, side, .. } = self;
        for name in ["left", "right"] {
            let _ = writeln!(writer.items, "var<workgroup> {name}: array<{element}, {}>;", tile * STAGE);
            let _ = writeln!(writer.items, "fn put_{name}(slot: u32, value: vec4<f32>) {{");
            for (s, component) in ["x", "y", "z", "w"].iter().enumerate() {
                let _ =
                    writeln!(writer.items, "    {name}[slot * 4u + {s}u] = {element}(value.{component});");
            }
            writer.items += "}\n";
        }
        let _ = writeln!(
            writer.items,
            "var<workgroup> zeros: array<f32, {}>;\nvar<workgroup> results: array<f32, {}>;",
            side * side,
            PARTS * self.strip()
        );
    }

    /// The products of one stage, from the tiles in workgroup memory.
    fn multiply(&self) -> String {
        let (side, count) = (self.side, self.matrices());
        let mut text = String::new();
        for s in 0..STAGE / side {
            for i in 0..count {
                let at = format!("(row + {}u) * {STAGE}u + {}u", i * side, s * side);
                let _ = writeln!(text, "    let a{s}_{i} = {};", self.load('A', "left", &at, STAGE));
            }
            for j in 0..count {
                let at = format!("{}u + column", s * side * self.tile + j * side);
                let _ = writeln!(text, "    let b{s}_{j} = {};", self.load('B', "right", &at, self.tile));
            }
            for i in 0..count {
                for j in 0..count {
                    let _ = writeln!(text, "    c{i}_{j} = coopMultiplyAdd(a{s}_{i}, b{s}_{j}, c{i}_{j});");
                }
            }
        }
        text
    }

    /// Finishes row `i` of every quarter's matrices: the subgroups lay it in workgroup memory, and all threads store it by fours.
    fn results(&self, product: &Product, fours: bool, i: usize) -> String {
        let Plan { side, size, .. } = self;
        let (quarter, strip) = (self.quarter(), self.strip());
        let mut text = format!("    if (part < {PARTS}u) {{\n");
        for j in 0..self.matrices() {
            let at = format!("own * {strip}u + {}u", j * side);
            let _ = writeln!(text, "    coopStoreT(c{i}_{j}, &results[{at}], {quarter}u);");
        }
        let _ = write!(
            text,
            "    }}\n    workgroupBarrier();\n    \
             for (var slot = lane; slot < {0}u; slot += {size}u) {{\n    let whose = slot / {1}u;\n    \
             let r = (whose / 2u) * {quarter}u + {2}u + (slot % {1}u) / {3}u;\n    \
             if (whose >= first && whose < first + subgroups && tm + r < {4}u) {{\n",
            PARTS * strip / 4,
            strip / 4,
            i * side,
            quarter / 4,
            product.rows
        );
        text += &unflatten("(tm + r)", &product.m, "");
        let at = |s: usize| format!("results[slot * 4u + {s}u]");
        let _ = writeln!(
            text,
            "    let sum = vec4<f32>({}, {}, {}, {});\n    let place = tn + (whose % 2u) * {quarter}u + (slot % {}u) * 4u;",
            at(0),
            at(1),
            at(2),
            at(3),
            quarter / 4
        );
        let mut quad = "sum".to_owned();
        if let Some(norm) = product.norm {
            text += &moments(product, norm, "r");
            quad = norm.result(&quad, "sums(place)", "mean", "scale");
        }
        text += &store(product, fours, &quad, "", "place");
        text + "    }\n    }\n    workgroupBarrier();\n"
    }
}

/// Whether the kernel of that text rounds rows to 16 bits.
pub(crate) fn rounds_rows(text: &str) -> bool {
    text.contains(ENABLE_COOPERATIVE) && text.contains("<f16,A>")
}

/// One tile of results a workgroup; `None` where cooperative matrices do not fit the product.
pub(crate) fn generate(op: &Op, product: &Product, threads: Threads) -> Option<Kernel> {
    let plan = Plan::of(op, product, threads)?;
    let Plan { tile, size, .. } = plan;
    let (tiles_m, tiles_n, groups) = product.tiles(tile)?;
    let fours = Writer::can_finish_fours(op, &product.walks, &product.n.name);
    let mut writer = Writer::default();
    writer.cooperative = true;
    let axis = fours.then_some(product.n.name.as_str());
    let n_axes = [product.n.clone()];
    writer.write_finish(op, &product.walks, &[&product.batch, &product.m, &n_axes], axis);
    let (a, b) = (product.walks.get(0), product.walks.get(1));
    let (a_fours, b_fours) = (a.fours(&product.inner()), b.fours(&product.n.name));
    let (left, right) = (writer.read(0, a_fours), writer.read(1, b_fours));
    plan.write_memory(&mut writer);
    product.write_sums(&mut writer);
    let read_left = |at: String| format!("{left}[{at}]");
    let read_right = |at: String| widened(op, 1, b_fours, format!("{right}[{at}]"));
    write_loader(&mut writer, "load_left", &a, product, read_left, a_fours, true);
    write_loader(&mut writer, "load_right", &b, product, read_right, b_fours, false);

    let mut text = skip_padding(threads, groups);
    let _ = write!(
        text,
        "    let tn = (g % {tiles_n}u) * {tile}u;\n    let tm = ((g / {tiles_n}u) % {tiles_m}u) * {tile}u;\n    \
         let tb = g / {0}u;\n{1}    for (var first = 0u; first < {PARTS}u; first += subgroups) {{\n    \
         let part = first + subgroup;\n    let own = min(part, {2}u);\n    let row = (own / 2u) * {3}u;\n    \
         let column = (own % 2u) * {3}u;\n",
        tiles_n * tiles_m,
        unflatten("tb", &product.batch, ""),
        PARTS - 1,
        plan.quarter(),
    );
    for i in 0..plan.matrices() {
        for j in 0..plan.matrices() {
            let _ = writeln!(text, "    var c{i}_{j} = {};", plan.load('C', "zeros", "0u", plan.side));
        }
    }
    let put = |slot: &str, quad: &str| format!("put_left({slot}, {quad});");
    let staged = stage_left(product, &mut writer, &mut text, (tile, size), put);
    let _ = write!(
        text,
        "    for (var k = 0u; k < {0}u; k += {STAGE}u) {{\n{staged}    \
         for (var i = lane; i < {1}u; i += {size}u) {{ \
         put_right(i, load_right(k + i / {2}u, tn + (i % {2}u) * 4u{3})); }}\n    \
         workgroupBarrier();\n{4}    workgroupBarrier();\n    }}\n",
        product.depth,
        tile * STAGE / 4,
        tile / 4,
        product.batch_arguments(),
        plan.multiply()
    );
    text += &share_sums(product, tile, size);
    for i in 0..plan.matrices() {
        text += &plan.results(product, fours, i);
    }
    writer.body = text + "    }\n";
    Kernel::new(op, writer, fours, size as u32, groups as u64, threads)
}
