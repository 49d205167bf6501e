//! The ladder of matrix products: what each step towards the kernels in use gains, on this machine's adapter.
//!
//! Every rung is checked against a product in f64 before it is timed, also on shapes that fill no tile. Times are the
//! adapter's own where it has timestamps, the least of a few runs; the processor's rung is one thread of plain loops. The
//! second line of each shape is the same product of 8-bit integers, exact, by one result a thread and by words of four in
//! the three kernels, the time to pack the left operand included.

use std::error::Error;
use std::time::Instant;

use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{AdapterClass, Passes, Plan, PlanOptions, Target, plan, plan_with};
use masktas_runtime::session::{Gpu, Session};
use masktas_runtime::{Data, Dim, Dtype, Tensor};

/// Rows, summed elements, columns: three that fill no tile, then the four products of a ViT-tiny block at batch 1.
const SHAPES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [65, 96, 100],
    [197, 192, 192],
    [65, 192, 576],
    [65, 192, 192],
    [65, 192, 768],
    [65, 768, 192],
];
const RUNS: usize = 20;
/// Largest difference over the largest element.
const AGREES: f64 = 4e-6;

/// Uniform numbers in -1..1 by a linear congruential generator.
fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Plain loops, with the columns innermost.
fn product<T>(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], zero: T, step: impl Fn(T, f32, f32) -> T) -> Vec<T>
where
    T: Copy,
{
    let mut y = vec![zero; m * n];
    for (row, y) in a.chunks_exact(k).zip(y.chunks_exact_mut(n)) {
        for (a, b) in row.iter().zip(b.chunks_exact(n)) {
            for (y, b) in y.iter_mut().zip(b) {
                *y = step(*y, *a, *b);
            }
        }
    }
    y
}

/// One result a thread.
fn naive([m, k, n]: [usize; 3]) -> (String, [u32; 3]) {
    let text = format!(
        "{HEAD}@compute @workgroup_size(64)\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n\
         if (id.x >= {}u) {{ return; }}\nlet row = id.x / {n}u;\nlet column = id.x % {n}u;\nvar sum = 0.0;\n\
         for (var k = 0u; k < {k}u; k++) {{ sum += a[row * {k}u + k] * b[k * {n}u + column]; }}\n\
         y[id.x] = sum;\n}}\n",
        m * n
    );
    (text, [(m * n).div_ceil(64) as u32, 1, 1])
}

/// The tile of 16 x 16 in workgroup memory that tutorials teach.
fn tiled([m, k, n]: [usize; 3]) -> (String, [u32; 3]) {
    let text = format!(
        "{HEAD}var<workgroup> left: array<f32, 256>;\nvar<workgroup> right: array<f32, 256>;\n\
         @compute @workgroup_size(16, 16)\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) at: vec3<u32>) {{\n\
         let place = at.y * 16u + at.x;\nvar sum = 0.0;\n\
         for (var k = 0u; k < {k}u; k += 16u) {{\n\
         left[place] = 0.0;\nright[place] = 0.0;\n\
         if (id.y < {m}u && k + at.x < {k}u) {{ left[place] = a[id.y * {k}u + k + at.x]; }}\n\
         if (id.x < {n}u && k + at.y < {k}u) {{ right[place] = b[(k + at.y) * {n}u + id.x]; }}\n\
         workgroupBarrier();\n\
         for (var i = 0u; i < 16u; i++) {{ sum += left[at.y * 16u + i] * right[i * 16u + at.x]; }}\n\
         workgroupBarrier();\n}}\n\
         if (id.y < {m}u && id.x < {n}u) {{ y[id.y * {n}u + id.x] = sum; }}\n}}\n"
    );
    (text, [n.div_ceil(16) as u32, m.div_ceil(16) as u32, 1])
}

const HEAD: &str = "@group(0) @binding(0) var<storage, read> a: array<f32>;\n\
                    @group(0) @binding(1) var<storage, read> b: array<f32>;\n\
                    @group(0) @binding(2) var<storage, read_write> y: array<f32>;\n";

/// The plan of a product by the planner's kernel for `target`.
fn planned([m, k, n]: [usize; 3], b: &[f32], target: &Target) -> Result<Plan, Box<dyn Error>> {
    let mut builder = GraphBuilder::new("product", 20);
    let a = builder.input("a", Dtype::F32, [m, k].map(Dim::Fixed));
    let b = builder.constant("b", Tensor::f32([k, n], b.to_vec())?);
    let y = builder.node("MatMul", "y", &[&a, &b], []);
    builder.output(&y, Dtype::F32, [m, n].map(Dim::Fixed));
    Ok(plan(&builder.finish()?, target)?)
}

/// The plan of a product of 8-bit integers for `target`; with `pack` of words of four.
fn planned_bytes(
    [m, k, n]: [usize; 3],
    b: &Tensor,
    target: &Target,
    pack: bool,
) -> Result<Plan, Box<dyn Error>> {
    let mut builder = GraphBuilder::new("product of bytes", 20);
    let a = builder.input("a", Dtype::I8, [m, k].map(Dim::Fixed));
    let b = builder.constant("b", b.clone());
    let y = builder.node("MatMulInteger", "y", &[&a, &b], []);
    builder.output(&y, Dtype::I32, [m, n].map(Dim::Fixed));
    let options = PlanOptions { passes: Passes { pack, ..Passes::ALL }, ..PlanOptions::default() };
    Ok(plan_with(&builder.finish()?, target, &options)?)
}

/// Numbers of -1..1 as 8-bit integers.
fn quantised(values: &[f32]) -> Vec<i8> {
    values.iter().map(|value| (value * 127.0).round() as i8).collect()
}

/// Whether every element is near that of a product in f64.
fn near(got: &Tensor, want: &[f64]) -> Result<(), Box<dyn Error>> {
    let got = got.as_f32().ok_or("no floats")?;
    let scale = want.iter().fold(0.0f64, |most, y| most.max(y.abs()));
    // Element by element, so that a NaN fails too.
    let near = |(y, want): (&f32, &f64)| (f64::from(*y) - want).abs() <= AGREES * scale;
    if got.len() != want.len() || !got.iter().zip(want).all(near) {
        return Err(format!("an answer differs by more than {AGREES} of the largest element {scale}").into());
    }
    Ok(())
}

/// Seconds of the least of [`RUNS`] runs, after `check` has seen the answer.
fn time(
    gpu: &Gpu,
    plan: Plan,
    a: &Tensor,
    check: impl Fn(&Tensor) -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let session = Session::from_plan_on(gpu, plan)?;
    let inputs = [("a", a.clone())];
    let outputs = session.run(&inputs)?;
    check(&outputs.first().ok_or("no answer")?.1)?;
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let seconds = if gpu.has_timestamps() {
            session.trace(&inputs)?.iter().map(|timed| timed.nanoseconds * 1e-9).sum()
        } else {
            let start = Instant::now();
            session.run(&inputs)?;
            start.elapsed().as_secs_f64()
        };
        least = least.min(seconds);
    }
    Ok(least)
}

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::open(None, true)?;
    println!("{}; GFLOP/s of the least of {RUNS} runs", gpu.adapter());
    let own = &gpu.adapter().target;
    let plain = Target { subgroups: false, ..own.clone() };
    println!(
        "{:>16} {:>10} {:>8} {:>8} {:>10} {:>12} {:>10}",
        "rows x k x cols", "processor", "naive", "tiled", "workgroup", "registers", "subgroups"
    );
    for shape @ [m, k, n] in SHAPES {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let want = product(&a, &b, shape, 0f64, |y, a, b| y + f64::from(a) * f64::from(b));
        let flops = 2.0 * (m * k * n) as f64;
        let start = Instant::now();
        let plain_loops = product(&a, &b, shape, 0f32, |y, a, b| y + a * b);
        let processor = start.elapsed().as_secs_f64();
        std::hint::black_box(plain_loops);
        let (a_bytes, b_bytes) = (quantised(&a), quantised(&b));
        let a = Tensor::f32([m, k], a)?;
        let agrees = |got: &Tensor| near(got, &want);

        let mut row = vec![flops / processor / 1e9];
        for (text, workgroups) in [naive(shape), tiled(shape)] {
            let mut plan = planned(shape, &b, &Target { class: AdapterClass::Gpu, ..plain.clone() })?;
            let (Some(kernel), Some(dispatch)) = (plan.kernels.first_mut(), plan.dispatches.first_mut())
            else {
                return Err("a product without a kernel".into());
            };
            *kernel = text;
            dispatch.workgroups = workgroups;
            row.push(flops / time(&gpu, plan, &a, agrees)? / 1e9);
        }
        let targets = [
            Target { class: AdapterClass::Gpu, ..plain.clone() },
            Target { class: AdapterClass::Software, ..plain.clone() },
            Target { class: AdapterClass::Software, ..own.clone() },
        ];
        for target in &targets {
            row.push(flops / time(&gpu, planned(shape, &b, target)?, &a, agrees)? / 1e9);
        }
        let title = format!("{m} x {k} x {n}");
        println!(
            "{title:>16} {:>10.2} {:>8.2} {:>8.2} {:>10.2} {:>12.2} {:>10.2}",
            row[0], row[1], row[2], row[3], row[4], row[5]
        );

        let float = |bytes: &[i8]| bytes.iter().map(|v| f32::from(*v)).collect::<Vec<f32>>();
        let step = |y: i32, a: f32, b: f32| y + a as i32 * b as i32;
        let want = Data::I32(product(&float(&a_bytes), &float(&b_bytes), shape, 0, step).into());
        let exact = |got: &Tensor| match *got.data() == want {
            true => Ok(()),
            false => Err("an answer in integers differs".into()),
        };
        let a = Tensor::new(vec![m, k], Data::I8(a_bytes.into()))?;
        let b = Tensor::new(vec![k, n], Data::I8(b_bytes.into()))?;
        let naive = time(&gpu, planned_bytes(shape, &b, &plain, false)?, &a, exact)?;
        let mut row = vec![flops / naive / 1e9];
        for target in &targets {
            row.push(flops / time(&gpu, planned_bytes(shape, &b, target, true)?, &a, exact)? / 1e9);
        }
        println!(
            "{:>16} {:>10} {:>8.2} {:>8} {:>10.2} {:>12.2} {:>10.2}",
            "int8", "", row[0], "", row[1], row[2], row[3]
        );
    }
    Ok(())
}
