//! Matrix products in workgroup memory, read as vectors of four: for graphics processors.

use std::fmt::Write as _;

use crate::kernels::matmul::{Norm, Product, store};
use crate::kernels::op::Op;
use crate::kernels::wgsl::{Walk, Writer, unflatten, widened};
use crate::kernels::{Kernel, Threads};

/// Summed elements that are staged at a time.
pub(super) const STAGE: usize = 16;

/// A workgroup stages square tiles of both operands in its memory; each thread computes 4 x 4.
pub(crate) fn generate(op: &Op, product: &Product, threads: Threads) -> Option<Kernel> {
    let (a, b) = (product.walks.get(0), product.walks.get(1));
    let tile = if product.fills(64) && threads.most >= 256 { 64 } else { 32 };
    let side = tile / 4;
    let size = side * side;
    let (tiles_m, tiles_n, groups) = product.tiles(tile)?;

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
    write_loader(&mut writer, "load_left", &a, product, read_left, a_fours, true);
    write_loader(&mut writer, "load_right", &b, product, read_right, b_fours, false);

    let mut text = skip_padding(threads, groups);
    let _ = write!(
        text,
        "    let tn = (g % {tiles_n}u) * {tile}u;\n    let tm = ((g / {tiles_n}u) % {tiles_m}u) * {tile}u;\n    \
         let tb = g / {}u;\n    let lx = lane % {side}u;\n    let ly = lane / {side}u;\n",
        tiles_n * tiles_m
    );
    text += &unflatten("tb", &product.batch, "");
    let batch = product.batch_arguments();
    for i in 0..4 {
        let _ = writeln!(text, "    var c{i} = {}();", product.quad());
    }
    let put = |slot: &str, quad: &str| format!("left[{slot}] = {quad};");
    let staged = stage_left(product, &mut writer, &mut text, (tile, size), put);
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
    text += &share_sums(product, tile, size);
    for i in 0..4 {
        let _ = writeln!(text, "    {{ let r = tm + ly * 4u + {i}u;\n    if (r < {}u) {{", product.rows);
        text += &unflatten("r", &product.m, "");
        let mut quad = format!("c{i}");
        if let Some(norm) = product.norm {
            text += &moments(product, norm, &format!("ly * 4u + {i}u"));
            quad = norm.result(&quad, "sums(tn + lx * 4u)", "mean", "scale");
        }
        text += &store(product, fours, &quad, "", "tn + lx * 4u");
        text += "    }\n    }\n";
    }
    writer.body = text;
    Kernel::new(op, writer, fours, size as u32, groups as u64, threads)
}

/// What ends workgroups beyond `groups`, where the grid has any.
pub(super) fn skip_padding(threads: Threads, groups: usize) -> String {
    let padded = threads
        .grid(groups as u64)
        .is_some_and(|[x, y, z]| u64::from(x) * u64::from(y) * u64::from(z) > groups as u64);
    if padded { format!("    if (g >= {groups}u) {{ return; }}\n") } else { String::new() }
}

/// Puts the sums of each thread's slots where all threads see them; nothing unless rows are normalised.
pub(super) fn share_sums(product: &Product, tile: usize, size: usize) -> String {
    let mut text = String::new();
    if product.norm.is_some() {
        for j in 0..tile * STAGE / 4 / size {
            let _ = writeln!(text, "    parts[lane + {}u] = vec2<f32>(sum{j}, square{j});", j * size);
        }
        text += "    workgroupBarrier();\n";
    }
    text
}

/// Statements that define `mean` and `scale` of the tile's row `row` from the shared sums.
pub(super) fn moments(product: &Product, norm: Norm, row: &str) -> String {
    let stage = STAGE / 4;
    let part = |s: usize| format!("parts[({row}) * {stage}u + {s}u]");
    let all: Vec<String> = (0..stage).map(part).collect();
    format!("    let all = {};\n{}", all.join(" + "), norm.moments(product.depth, "all.x", "all.y", ""))
}

/// The statements that bring a tile of the left operand to workgroup memory, four summed elements
/// a slot; `put` is the statement that stores one slot. Where rows are normalised, what comes before the loop goes to
/// `text`: each thread keeps the sums of its slots, whose rows stay the same, and shifts them by their row's pivot.
pub(super) fn stage_left(
    product: &Product,
    writer: &mut Writer,
    text: &mut String,
    (tile, size): (usize, usize),
    put: impl Fn(&str, &str) -> String,
) -> String {
    let stage = STAGE / 4;
    let batch = product.batch_arguments();
    let Some(norm) = product.norm else {
        let loaded = format!("load_left(tm + i / {stage}u, k + (i % {stage}u) * 4u{batch})");
        return format!(
            "    for (var i = lane; i < {}u; i += {size}u) {{ {} }}\n",
            tile * stage,
            put("i", &loaded)
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
             sum{j} += dot(p{j}, vec4<f32>(1.0));\n    square{j} += dot(p{j}, p{j});\n    {}\n",
            valid.join(", "),
            put(&slot, &format!("p{j}"))
        );
    }
    staged
}

/// Writes a function that reads four neighbours of an operand, zero beyond its edges: along the
/// summed axes of one row (`depth_last`), or along the columns at one summed place.
pub(super) fn write_loader(
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
