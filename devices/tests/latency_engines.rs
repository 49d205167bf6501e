//! The latency model on graphs of a search space that are measured here and now, beside the noise floor of measuring them twice.
//! Takes minutes, so it runs only when asked for:
//! `cargo test --release -p masktas-devices --test latency_engines -- --ignored --nocapture`.

mod common;

use std::ops::ControlFlow;

use common::{file, graph, here, vit};
use masktas_devices::latency::{DEFAULT_MODEL, latency_model};
use masktas_devices::stats::Rng;
use masktas_devices::{
    BenchJob, EngineOptions, HeldOut, Local, NamedModel, Prediction, ProfileJob, Protocol, Row, Sample,
    profile_models,
};
use masktas_export::{Arch, VitArch, VitBlock};

/// A member of a space like `vit-micro`: width, depth, and per block heads and ratio.
fn member(rng: &mut Rng) -> Arch {
    let embed = [96, 128, 160][rng.below(3)];
    let blocks = (0..6 + rng.below(3))
        .map(|_| VitBlock { heads: 2 + rng.below(3), hidden: embed * (2 + rng.below(3)) })
        .collect();
    Arch::Vit(VitArch { image: 32, patch: 4, embed, head_dim: 32, blocks, relative: None })
}

const TRAIN: usize = 100;
const TEST: usize = 200;

fn measure(engine: &str, models: &[NamedModel<'_>]) -> Vec<Sample> {
    let reference = file(&graph(&vit(96, &[2; 6]), 0));
    let protocol = Protocol { min_rounds: 8, max_rounds: 30, spread_s: 0.0, ..Protocol::default() };
    let job = ProfileJob::new(models, &reference, BenchJob::new(engine, &protocol));
    let mut rows = Vec::new();
    profile_models(
        &mut Local::new(&EngineOptions::default()),
        &job,
        &mut |_| ControlFlow::Continue(()),
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
    .unwrap();
    rows.iter().filter_map(Row::sample).collect()
}

fn check(engine: &str) {
    if !here(engine) {
        return;
    }
    let mut rng = Rng::new(11);
    let models: Vec<NamedModel<'static>> = (0..TRAIN + TEST)
        .map(|i| {
            let graph = graph(&member(&mut rng), 1);
            NamedModel::new(&format!("m{i}"), graph.features().unwrap(), file(&graph))
        })
        .collect();
    let samples = measure(engine, &models);
    let again = measure(engine, &models);
    let (train, test) = samples.split_at(TRAIN);
    let mut model = latency_model(DEFAULT_MODEL).unwrap();
    model.fit(train).unwrap();
    let measured: Vec<f64> = test.iter().map(|s| s.ms).collect();
    let predictions: Vec<Prediction> = test.iter().map(|s| model.predict(&s.features).unwrap()).collect();
    let error = HeldOut::of(&predictions, &measured).unwrap();
    let point = |ms: f64| Prediction { ms, low: ms, high: ms, extrapolated: false };
    let repeated: Vec<Prediction> = again[TRAIN..].iter().map(|s| point(s.ms)).collect();
    let floor = HeldOut::of(&repeated, &measured).unwrap();
    eprintln!(
        "{engine}: MAPE {:.2} %, within 10 % {:.1} %, within 5 % {:.1} %, covered {:.1} %, width {:.1} %; measured twice: {:.2} %, {:.1} %, \
         {:.1} %; {}",
        100.0 * error.mape,
        100.0 * error.within_10,
        100.0 * error.within_5,
        100.0 * error.coverage,
        100.0 * error.width,
        100.0 * floor.mape,
        100.0 * floor.within_10,
        100.0 * floor.within_5,
        model.describe().unwrap()
    );
    assert!(error.within_10 >= (0.95 * floor.within_10).min(0.95), "{error:?}");
    assert!(error.within_5 >= (0.95 * floor.within_5).min(0.80), "{error:?}");
}

#[test]
#[ignore = "measures for minutes"]
fn a_hundred_measured_graphs_predict_the_rest_under_ort() {
    check("ort");
}

#[test]
#[ignore = "measures for minutes"]
fn a_hundred_measured_graphs_predict_the_rest_under_tract() {
    check("tract");
}
