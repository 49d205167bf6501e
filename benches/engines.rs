//! One forward pass of one exported file in wgpu, tract and ONNX Runtime: their times taken in turn, in one process.
//!
//! Not a criterion bench, because criterion finishes one engine before it begins the next, and a machine that slows
//! down in between would change the ratio. Each round runs every engine, in an order drawn anew. The engines'
//! answers are compared before anything is timed.

use std::error::Error;
use std::time::Instant;

use masktas_devices::engine::{EngineOptions, LoadOptions, Tensors, engine, engines};
use masktas_devices::stats::{Rng, mad, median};
use masktas_export::lower::INPUT;
use masktas_export::{Arch, LowerOptions, Weights, lower, onnx};
use masktas_runtime::Tensor;
use masktas_search::space::VitSpace;

const ROUNDS: usize = 60;
const WARM_UPS: usize = 10;
/// What the others' times are divided by.
const REFERENCE: &str = "tract";
/// Largest difference over largest element; exported networks agree to 1e-5.
const AGREES: f32 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    let arch = VitSpace::load("vit-micro")?.largest_arch();
    let (flops, side) = (arch.flops(), arch.image);
    let arch = Arch::Vit(arch);
    let graph = lower(&arch, Some(&Weights::random(&arch, None, 0)?), &LowerOptions::default())?;
    let model = onnx::write(&graph)?;
    let mut rng = Rng::new(1);
    let pixels: Vec<f32> = (0..3 * side * side).map(|_| rng.symmetric()).collect();
    let inputs: Tensors = vec![(INPUT.to_owned(), Tensor::f32([1, 3, side, side], pixels)?)];

    let mut loaded = Vec::new();
    for name in engines() {
        let engine = engine(name, &EngineOptions::default())?;
        let started = engine.check().and_then(|()| engine.load(&model, &LoadOptions::default()));
        match started {
            Ok(model) => {
                let title = format!("{name} {} on {}", engine.version()?, model.provider_used());
                loaded.push((name, title, model, Vec::with_capacity(ROUNDS)));
            }
            Err(error) => println!("left out {name}: {error}"),
        }
    }
    let mut answers: Vec<(&str, Vec<f32>)> = Vec::new();
    for (name, _, model, _) in &mut loaded {
        let mut outputs = model.run(&inputs)?;
        for _ in 0..WARM_UPS {
            outputs = model.run(&inputs)?;
        }
        answers.push((name, outputs[0].1.as_f32().ok_or("an output that is not f32")?.to_vec()));
    }
    let (first, expected) = answers.first().ok_or("no engine can be used here")?;
    for (name, answer) in &answers {
        let scale = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // Element by element, so that a NaN fails too.
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= AGREES * scale;
        if answer.len() != expected.len() || !answer.iter().zip(expected).all(near) {
            return Err(format!(
                "{name} and {first} differ by more than {AGREES} of the largest output {scale}"
            )
            .into());
        }
    }

    let mut order: Vec<usize> = (0..loaded.len()).collect();
    for _ in 0..ROUNDS {
        rng.shuffle(&mut order);
        for &i in &order {
            let (_, _, model, times) = &mut loaded[i];
            let begun = Instant::now();
            model.run(&inputs)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }

    println!("vit-micro, largest, batch 1, {:.1} MFLOP; {ROUNDS} rounds, 1 thread", flops as f64 / 1e6);
    let reference = loaded.iter().find(|(name, ..)| *name == REFERENCE).map(|(.., times)| times.clone());
    for (_, title, _, times) in &loaded {
        let (Some(typical), Some(spread)) = (median(times), mad(times)) else { continue };
        let mut line = format!("{title}: median {typical:.3} ms, MAD {spread:.3} ms");
        if let Some(reference) = &reference {
            // Round by round, so that what slows the machine slows both.
            let ratios: Vec<f64> = times.iter().zip(reference).map(|(own, other)| own / other).collect();
            if let (Some(ratio), Some(spread)) = (median(&ratios), mad(&ratios)) {
                line.push_str(&format!("; time over {REFERENCE}'s {ratio:.2}, MAD {spread:.2}"));
            }
        }
        println!("{line}");
    }
    Ok(())
}
