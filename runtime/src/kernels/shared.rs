//! Matrix products for drivers that run shaders on the CPU and have subgroups.
//!
//! Such a driver keeps one variable of a whole subgroup in one vector register, so arithmetic is
//! cheap and every load is a loop over the lanes. Here each lane loads its own rows of the left
//! operand and its own four columns of the right one, and the rows reach the other lanes by
//! broadcasts between registers: with eight lanes one load of the left operand serves eight times as
//! many products as in the variant without subgroups.

use std::fmt::Write as _;

use crate::kernels::matmul::Product;
use crate::kernels::op::Op;
use crate::kernels::wgsl::{Writer, count, unflatten, widened};
use crate::kernels::{Kernel, Threads};

/// Most groups of rows, one row a lane each, that a lane's registers hold sums for.
const MOST: usize = 4;

/// Groups of `lanes` rows that one tile takes: as few and as full tiles as possible, where a tile
/// costs about one group more than it has.
fn groups(rows: usize, lanes: usize) -> usize {
    let all = rows.div_ceil(lanes);
    let cost = |groups: &usize| (all.div_ceil(*groups) * (groups + 1), *groups);
    (1..=MOST).min_by_key(cost).unwrap_or(1)
}

/// One subgroup a tile; `None` where the operands cannot be read by fours or rows are too few.
pub(crate) fn generate(op: &Op, product: &Product, threads: Threads) -> Option<Kernel> {
    let lanes = threads.lanes as usize;
    let (a, b) = (product.walks.get(0), product.walks.get(1));
    let inner = product.inner();
    let column = product.n.name.clone();
    let fits = lanes >= 4
        && 2 * product.rows > lanes
        && a.fours(&inner)
        && b.fours(&column)
        && Writer::can_finish_fours(op, &product.walks, &column);
    if !fits {
        return None;
    }
    let groups = groups(product.rows, lanes);
    let (tile_m, tile_n) = (groups * lanes, 4 * lanes);
    let columns = product.n.extent;
    let (tiles_m, tiles_n) = (product.rows.div_ceil(tile_m), columns.div_ceil(tile_n));
    let work = tiles_m.checked_mul(tiles_n)?.checked_mul(count(&product.batch))?;

    let mut writer = Writer::default();
    let n_axes = [product.n.clone()];
    writer.write_finish(op, &product.walks, &[&product.batch, &product.m, &n_axes], Some(&column));
    product.write_sums(&mut writer);
    product.write_dots(&mut writer);
    let (left, right) = (writer.read(0, true), writer.read(1, true));
    let centred = product.norm.is_some_and(|norm| norm.centred);
    let mut text = String::new();
    if threads.grid(work as u64)?.iter().map(|n| u64::from(*n)).product::<u64>() > work as u64 {
        let _ = writeln!(text, "    if (g >= {work}u) {{ return; }}");
    }
    let _ = write!(
        text,
        "    let tm = ((g / {tiles_n}u) % {tiles_m}u) * {tile_m}u;\n    let tb = g / {}u;\n    \
         let n = min((g % {tiles_n}u) * {tile_n}u + lane * 4u, {}u);\n",
        tiles_n * tiles_m,
        columns - 4
    );
    text += &unflatten("tb", &product.batch, "");
    for i in 0..groups {
        // Rows and columns beyond the edge are the last ones once more, so their results are too.
        let _ = writeln!(text, "    let l{i} = min(tm + lane + {}u, {}u);", i * lanes, product.rows - 1);
        text += &unflatten(&format!("l{i}"), &product.m, &format!("_l{i}"));
        let base = a.index(4, |name| product.rename(name, &format!("_l{i}"), ""));
        let _ = writeln!(text, "    let a{i} = {base};");
        if let Some(norm) = product.norm.filter(|norm| norm.centred) {
            let pivot = norm.pivot(product.depth, true, |place| format!("{left}[a{i} + {place}u]"));
            let _ = writeln!(text, "    let pivot{i} = {pivot};");
        }
        if product.norm.is_some() {
            let _ = writeln!(text, "    var total{i} = vec4<f32>();\n    var square{i} = vec4<f32>();");
        }
    }
    let base = b.index(4, |name| product.rename(name, "", "n"));
    let _ = writeln!(text, "    let w = {base};");
    for i in 0..tile_m {
        let _ = writeln!(text, "    var c{i} = {}();", product.quad());
    }
    for axis in &product.k {
        let step = if axis.name == inner { 4 } else { 1 };
        let _ =
            writeln!(text, "    for (var {0} = 0u; {0} < {1}u; {0} += {step}u) {{", axis.name, axis.extent);
    }
    let only_k = |name: &str| name.starts_with('k').then(|| name.to_owned());
    let (ka, kb) = (a.partial(4, only_k), b.partial(4, only_k));
    let _ = writeln!(text, "    let ka = {ka};\n    let kb = {kb};");
    for i in 0..groups {
        let shift = if centred { format!(" - pivot{i}") } else { String::new() };
        let _ = writeln!(text, "    let p{i} = {left}[a{i} + ka]{shift};");
        if product.norm.is_some() {
            let _ = writeln!(text, "    total{i} += p{i};\n    square{i} += p{i} * p{i};");
        }
    }
    let step = b.stride(&inner) / 4;
    for (s, component) in ["x", "y", "z", "w"].iter().enumerate() {
        let row = step * s as i64;
        let row = if row < 0 { format!("u32({row}i)") } else { format!("{row}u") };
        let read = widened(op, 1, true, format!("{right}[w + kb + {row}]"));
        let _ = writeln!(text, "    let q{s} = {read};");
        for i in 0..tile_m {
            let (group, lane) = (i / lanes, i % lanes);
            let lent = format!("subgroupBroadcast(p{group}.{component}, {lane}u)");
            let _ = writeln!(text, "    c{i} += {};", product.times(&lent, &format!("q{s}")));
        }
    }
    text += &"    }\n".repeat(product.k.len());
    if let Some(norm) = product.norm {
        // Each lane knows its own rows' moments, and lends them to the others.
        for i in 0..groups {
            let all = |name: &str| format!("dot({name}{i}, vec4<f32>(1.0))");
            text += &norm.moments(product.depth, &all("total"), &all("square"), &format!("{i}"));
        }
        if centred {
            text += "    let columns = sums(n);\n";
        }
    }
    for i in 0..tile_m {
        if let Some(norm) = product.norm {
            let (group, lane) = (i / lanes, i % lanes);
            let lent = |name: &str| format!("subgroupBroadcast({name}{group}, {lane}u)");
            let result = norm.result(&format!("c{i}"), "columns", &lent("mean"), &lent("scale"));
            let _ = writeln!(text, "    c{i} = {result};");
        }
    }
    // Broadcasts come before the condition: they want every lane.
    let partial = !columns.is_multiple_of(tile_n);
    if partial {
        let _ = writeln!(text, "    if ((g % {tiles_n}u) * {tile_n}u + lane * 4u < {columns}u) {{");
    }
    // One place that loads and stores, run for each row: drivers compile it several times as fast as
    // one for each row.
    let _ = writeln!(text, "    for (var i = 0u; i < {tile_m}u; i++) {{\n{}", pick("q", "c", tile_m));
    let _ = writeln!(text, "    let r = min(tm + i, {}u);", product.rows - 1);
    text += &unflatten("r", &product.m, "_r");
    let index = product.out(4, "_r", "n");
    let _ = writeln!(text, "    y[{index}] = finish(q{});\n    }}", product.arguments("_r", "n"));
    if partial {
        text += "    }\n";
    }
    writer.body = text;
    Kernel::new(op, writer, true, threads.lanes, work as u64, threads)
}

/// Statements that define `name` as the variable `from0`, `from1`, … of number `i`.
pub(super) fn pick(name: &str, from: &str, count: usize) -> String {
    let mut text = format!("    var {name} = {from}0;\n");
    for j in 1..count {
        let _ = writeln!(text, "    {name} = select({name}, {from}{j}, i == {j}u);");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_few_and_full() {
        assert_eq!(groups(65, 8), 3);
        assert_eq!(groups(64, 8), 4);
        assert_eq!(groups(8, 8), 1);
        assert_eq!(groups(2080, 8), 4);
    }
}
