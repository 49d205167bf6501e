//! Every exported network gives the training framework's answer in ONNX Runtime, tract and our own
//! wgpu runtime: 50 random subnets of each 32-pixel space, 3 of each 224-pixel one.
//!
//! An engine that is not on this machine is named and left out; without any, the test fails, and where
//! `MASKTAS_REQUIRE_ENGINES` is 1, as under `make test`, it fails without any one of them.

use burn::tensor::Device;
use masktas_devices::engine::{self, Engine, EngineOptions};
use masktas_devices::measure::Golden;
use masktas_devices::parity::parity;
use masktas_export::lower::{FEATURES, INPUT, LowerOptions, lower};
use masktas_export::{Arch, Weights, onnx};
use masktas_runtime::{Attribute, Graph, Tensor, Verdict};
use masktas_search::rand::{Draw, stream};
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::Visible;
use masktas_search::supernet::extract::Network;

fn engines() -> Vec<Box<dyn Engine>> {
    let usable = |name: &&str| {
        let engine = engine::engine(name, &EngineOptions::default()).unwrap();
        match engine.check() {
            Ok(()) => Some(engine),
            Err(error) => {
                let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
                assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but {name}: {error}; run `make ort`");
                println!("skipped {name}: {error}");
                None
            }
        }
    };
    let engines: Vec<_> = engine::engines().iter().filter_map(usable).collect();
    assert!(!engines.is_empty());
    engines
}

/// A network with random weights, lowered, and the training framework's answer to a random image.
fn sample(space: &VitSpace, number: u64) -> (String, Graph, Golden) {
    let genes = space.sample(&mut stream(9, space.name(), number));
    let arch = space.vit(&genes);
    let weights = Weights::random(&Arch::Vit(arch.clone()), None, number).unwrap();
    let device = Device::flex();
    let network = Network::from_weights(&arch, None, &weights, 0, &device).unwrap();
    let mut rng = stream(9, "pixels", number);
    let pixels: Vec<f32> = (0..3 * arch.image * arch.image).map(|_| rng.normal() as f32).collect();
    let features = network.features(&network.params.frozen(), &Visible::all(&pixels, &arch, &device));
    let shape = features.dims().to_vec();
    let output = Tensor::f32(shape, features.try_into_vec_as::<f32>().unwrap()).unwrap();
    let input = Tensor::f32([1, 3, arch.image, arch.image], pixels).unwrap();
    let graph = lower(&Arch::Vit(arch), Some(&weights), &LowerOptions::default()).unwrap();
    let golden = Golden { inputs: vec![(INPUT.into(), input)], outputs: vec![(FEATURES.into(), output)] };
    (space.id(&genes), graph, golden)
}

fn check(name: &str, count: u64) {
    let engines = engines();
    let space = VitSpace::load(name).unwrap();
    let mut worst = vec![0.0f64; engines.len()];
    for number in 0..count {
        let (id, graph, golden) = sample(&space, number);
        let report = parity(&onnx::write(&graph).unwrap(), &golden, &engines);
        assert_eq!(report.verdict, Verdict::Pass, "{id}: {:#?}", report.rows);
        for (worst, row) in worst.iter_mut().zip(&report.rows) {
            *worst = worst.max(row.difference.unwrap());
        }
    }
    for (engine, worst) in engines.iter().zip(worst) {
        println!("{name}: {count} subnets, {}: largest relative difference {worst:.1e}", engine.name());
    }
}

#[test]
fn vit_micro() {
    check("vit-micro", 50);
}

#[test]
fn vit_tiny() {
    check("vit-tiny", 50);
}

#[test]
fn autoformer_tiny() {
    check("autoformer-tiny", 3);
}

#[test]
fn autoformer_small() {
    check("autoformer-small", 3);
}

#[test]
fn autoformer_base() {
    check("autoformer-base", 3);
}

/// The bound is tight enough to see the smallest mistakes an exporter makes.
#[test]
fn a_tanh_gelu_or_a_dropped_bias_fails() {
    let engines = engines();
    let space = VitSpace::load("vit-micro").unwrap();
    let (_, graph, golden) = sample(&space, 0);
    let verdict = |graph: &Graph| parity(&onnx::write(graph).unwrap(), &golden, &engines);

    let mut tanh = graph.clone();
    for gelu in tanh.nodes.iter_mut().filter(|node| node.op == "Gelu") {
        gelu.attributes.insert("approximate".into(), Attribute::Text("tanh".into()));
    }
    assert_ne!(tanh, graph);
    for row in verdict(&tanh).rows {
        assert_eq!(row.verdict, Verdict::Fail, "{row:?}");
    }

    let mut dropped = graph.clone();
    let bias =
        dropped.constants.keys().find(|name| name.contains("fc1") && name.ends_with("bias")).unwrap().clone();
    let zero = dropped.constants[&bias].shape().to_vec();
    let elements = zero.iter().product();
    dropped.constants.insert(bias, Tensor::f32(zero, vec![0.0; elements]).unwrap());
    for row in verdict(&dropped).rows {
        assert_eq!(row.verdict, Verdict::Fail, "{row:?}");
    }
}
