//! Attention for drivers that run shaders on the CPU and have subgroups.
//!
//! A lane owns a few queries. The lanes load the parts of a few keys and values together, each part
//! once, and reach them by broadcasts between registers; the running maximum and sum are those of
//! the variant without subgroups, joined once for all keys of a step.

use std::fmt::Write as _;

use crate::kernels::attention::Attention;
use crate::kernels::op::Op;
use crate::kernels::shared::pick;
use crate::kernels::wgsl::{Writer, count, unflatten};
use crate::kernels::{Kernel, Threads};

/// Keys joined at a time.
const STEP: usize = 1;
/// Most queries a lane owns.
const MOST: usize = 4;
/// Vectors of queries and results that a lane's registers and the nearest cache hold.
const HELD: usize = 96;

/// Queries a lane owns: as few and as full blocks as possible.
fn owned(queries: usize, lanes: usize, vectors: usize) -> usize {
    let all = queries.div_ceil(lanes);
    let cost = |own: &usize| (all.div_ceil(*own) * (own + 1), *own);
    (1..=MOST).filter(|own| *own == 1 || own * vectors <= HELD).min_by_key(cost).unwrap_or(1)
}

/// How `parts` vectors of each key of a step lie on the lanes.
struct Spread {
    /// Vectors that a lane loads.
    each: usize,
    parts: usize,
}

impl Spread {
    fn of(parts: usize, lanes: usize) -> Spread {
        Spread { each: parts.div_ceil(lanes / STEP), parts }
    }

    /// Statements that load a lane's vectors `name0`, `name1`, … of the key at `base`.
    fn load(&self, name: &str, array: &str, base: &str) -> String {
        let mut text = String::new();
        for i in 0..self.each {
            let part = format!("min(lane / {STEP}u * {}u + {i}u, {}u)", self.each, self.parts - 1);
            let _ = writeln!(text, "    let {name}{i} = {array}[{base} + {part}];");
        }
        text
    }

    /// Vector `part` of key `key` of the step, on every lane.
    fn share(&self, name: &str, part: usize, key: usize) -> String {
        let lane = part / self.each * STEP + key;
        format!("subgroupBroadcast({name}{}, {lane}u)", part % self.each)
    }
}

/// One subgroup a block of queries; `None` where lanes cannot split the work.
pub(crate) fn generate(op: &Op, attention: &Attention, threads: Threads) -> Option<Kernel> {
    let Attention { walks, batch, queries, keys, depth, width, score } = attention;
    let lanes = threads.lanes as usize;
    let rows = count(queries);
    if lanes < 4 || !lanes.is_multiple_of(STEP) || 2 * rows <= lanes {
        return None;
    }
    let (deep, wide) = (depth.extent / 4, width.extent / 4);
    let own = owned(rows, lanes, deep + wide);
    let block = own * lanes;
    let blocks = rows.div_ceil(block);
    let work = blocks.checked_mul(count(batch))?;

    let mut writer = Writer::default();
    let (keys_axis, width_axis) = ([keys.clone()], [width.clone()]);
    writer.write_finish(op, walks, &[batch, queries, &width_axis], Some(&width.name));
    writer.write_function("score", score, op, walks, &[batch, queries, &keys_axis], None);
    let (q, k, v) = (writer.read(0, true), writer.read(1, true), writer.read(2, true));
    let named = |letters: &'static [u8], suffix: String| {
        move |name: &str| {
            let known = name.as_bytes().first().is_some_and(|c| letters.contains(c));
            let suffix = if name.starts_with('m') { suffix.as_str() } else { "" };
            known.then(|| format!("{name}{suffix}"))
        }
    };
    let arguments = |own: usize, more: &str| -> String {
        let mut text: String = batch.iter().map(|axis| format!(", {}", axis.name)).collect();
        text.extend(queries.iter().map(|axis| format!(", {}_{own}", axis.name)));
        text + more
    };
    let mut text = String::new();
    if threads.grid(work as u64)?.iter().map(|n| u64::from(*n)).product::<u64>() > work as u64 {
        let _ = writeln!(text, "    if (g >= {work}u) {{ return; }}");
    }
    let _ = writeln!(text, "    let tb = g / {blocks}u;");
    text += &unflatten("tb", batch, "");
    for r in 0..own {
        // Queries beyond the last are the last one once more, so their results are too.
        let first = r * lanes;
        let _ = writeln!(
            text,
            "    let t{r} = min((g % {blocks}u) * {block}u + lane + {first}u, {}u);",
            rows - 1
        );
        text += &unflatten(&format!("t{r}"), queries, &format!("_{r}"));
        let base = walks.get(0).index(4, named(b"bm", format!("_{r}")));
        let _ = writeln!(text, "    let qa{r} = {base};");
        // One load for all parts of a query, and one store for all of a result: drivers compile that
        // several times as fast as one for each.
        for i in 0..deep {
            let _ = writeln!(text, "    var q{r}_{i} = vec4<f32>();");
        }
        let _ = writeln!(text, "    for (var i = 0u; i < {deep}u; i++) {{\n    let x = {q}[qa{r} + i];");
        for i in 0..deep {
            let _ = writeln!(text, "    q{r}_{i} = select(q{r}_{i}, x, i == {i}u);");
        }
        text += "    }\n";
        for i in 0..wide {
            let _ = writeln!(text, "    var o{r}_{i} = vec4<f32>();");
        }
        let _ = writeln!(text, "    var most{r} = -3.4028234e38f;\n    var sum{r} = 0.0;");
    }
    let base = |operand: usize| walks.get(operand).index(4, named(b"b", String::new()));
    let along = |operand: usize| walks.get(operand).partial(4, named(b"j", String::new()));
    let _ = write!(
        text,
        "    let ka = {};\n    let va = {};\n    for (var j = 0u; j < {}u; j += {STEP}u) {{\n    \
         let j0 = min(j + lane % {STEP}u, {}u);\n    let kb = ka + {};\n    let vb = va + {};\n",
        base(1),
        base(2),
        keys.extent,
        keys.extent - 1,
        along(1),
        along(2)
    );
    let (key_parts, value_parts) = (Spread::of(deep, lanes), Spread::of(wide, lanes));
    text += &key_parts.load("k", &k, "kb");
    text += &value_parts.load("v", &v, "vb");
    for key in 0..STEP {
        for part in 0..deep {
            let _ = writeln!(text, "    let k{key}_{part} = {};", key_parts.share("k", part, key));
        }
        for r in 0..own {
            let mut dots = format!("q{r}_0 * k{key}_0");
            for part in 1..deep {
                let _ = write!(dots, " + q{r}_{part} * k{key}_{part}");
            }
            let _ = writeln!(
                text,
                "    let d{r}_{key} = {dots};\n    let s{r}_{key} = score(dot(d{r}_{key}, vec4<f32>(1.0)){});",
                arguments(r, &format!(", j + {key}u"))
            );
        }
    }
    // The last step may have fewer keys; those that do not exist weigh nothing.
    let exists =
        |key: usize| (!keys.extent.is_multiple_of(STEP)).then(|| format!("j + {key}u < {}u", keys.extent));
    for r in 0..own {
        let mut peak = format!("most{r}");
        for key in 0..STEP {
            let s = match exists(key) {
                Some(exists) => format!("select(most{r}, s{r}_{key}, {exists})"),
                None => format!("s{r}_{key}"),
            };
            peak = format!("max({peak}, {s})");
        }
        let _ = writeln!(text, "    let peak{r} = {peak};\n    let old{r} = exp(most{r} - peak{r});");
        let mut sum = format!("sum{r} * old{r}");
        for key in 0..STEP {
            let part = format!("exp(s{r}_{key} - peak{r})");
            let part = match exists(key) {
                Some(exists) => format!("select(0.0, {part}, {exists})"),
                None => part,
            };
            let _ = writeln!(text, "    let w{r}_{key} = {part};");
            let _ = write!(sum, " + w{r}_{key}");
        }
        let _ = writeln!(text, "    sum{r} = {sum};\n    most{r} = peak{r};");
    }
    for part in 0..wide {
        for key in 0..STEP {
            let _ = writeln!(text, "    let v{key}_{part} = {};", value_parts.share("v", part, key));
        }
        for r in 0..own {
            let mut result = format!("o{r}_{part} * old{r}");
            for key in 0..STEP {
                let _ = write!(result, " + v{key}_{part} * w{r}_{key}");
            }
            let _ = writeln!(text, "    o{r}_{part} = {result};");
        }
    }
    text += "    }\n";
    for r in 0..own {
        let _ = writeln!(
            text,
            "    let scale{r} = 1.0 / sum{r};\n    for (var i = 0u; i < {wide}u; i++) {{\n{}    let e = i * 4u;",
            pick("x", &format!("o{r}_"), wide)
        );
        let index = walks.output().index(4, |name| {
            if name == width.name { Some("e".to_owned()) } else { named(b"bm", format!("_{r}"))(name) }
        });
        let _ = writeln!(text, "    y[{index}] = finish(x * scale{r}{});\n    }}", arguments(r, ", e"));
    }
    writer.body = text;
    Kernel::new(op, writer, true, threads.lanes, work as u64, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_few_and_full_and_fit() {
        assert_eq!(owned(65, 8, 32), 3);
        assert_eq!(owned(65, 8, 96), 1);
        assert_eq!(owned(64, 8, 16), 4);
    }

    /// Every vector of every key is on exactly the lane that it is taken from.
    #[test]
    fn vectors_lie_where_they_are_taken_from() {
        for parts in [1, 2, 3, 8, 16, 32] {
            let spread = Spread::of(parts, 8);
            for part in 0..parts {
                let (section, place) = (part / spread.each, part % spread.each);
                assert!(section < 8 / STEP && place < spread.each);
                assert_eq!(section * spread.each + place, part);
            }
        }
    }
}
