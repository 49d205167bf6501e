//! The latency model on published measurements, as the example `latency_tables` judges it; skipped, saying so, without the folder
//! that MASKTAS_DATA names. Bounds lie a little below what docs/latency-models.md reports.

#![allow(dead_code)]

#[path = "../examples/latency_tables/baselines.rs"]
mod baselines;
#[path = "../examples/latency_tables/csv.rs"]
mod csv;
#[path = "../examples/latency_tables/tables/mod.rs"]
mod tables;
#[path = "../examples/latency_tables/trial.rs"]
mod trial;

use masktas_devices::HeldOut;
use masktas_devices::latency::Regime;
use masktas_devices::stats::mean;

use crate::csv::Csv;
use crate::tables::{Device, Kind, Table};
use crate::trial::{Choice, Job, Trial};

fn table(kind: Kind) -> Option<Table> {
    let Some(folder) = std::env::var_os("MASKTAS_DATA") else {
        eprintln!("skipped: set MASKTAS_DATA to the folder that holds {}", kind.file());
        return None;
    };
    let csv = Csv::read(&std::path::Path::new(&folder).join(kind.file())).unwrap();
    Some(kind.read(&[csv]).unwrap().0)
}

/// All draws of some targets, whose sources are the devices that `allowed(source, target)` lets in.
fn draws(
    table: &Table,
    targets: &[String],
    samples: usize,
    seeds: u64,
    choice: Choice,
    allowed: &dyn Fn(&Device, &Device) -> bool,
) -> Vec<Trial> {
    let mut job = Job::new(table, table.rows.len(), false);
    job.samples = samples;
    let mut all = Vec::new();
    for target in targets {
        let own = table.devices.iter().find(|device| device.name == *target).unwrap();
        let names: Vec<String> = table
            .devices
            .iter()
            .filter(|device| device.name != *target && allowed(device, own))
            .map(|device| device.name.clone())
            .collect();
        let sources = job.sources(target, &names).unwrap();
        for seed in 0..seeds {
            all.extend(job.run(target, &sources, choice, seed).unwrap());
        }
    }
    all
}

/// Mean over the draws of one model.
fn average(trials: &[Trial], target: Option<&str>, model: &str, get: fn(&HeldOut) -> f64) -> f64 {
    let own = trials.iter().filter(|t| t.model == model && target.is_none_or(|target| t.target == target));
    mean(&own.map(|t| get(&t.result)).collect::<Vec<_>>()).unwrap()
}

fn show(trials: &[Trial], target: Option<&str>, models: &[&str]) {
    for model in models {
        let get = |get| average(trials, target, model, get);
        eprintln!(
            "{} {model}: MAPE {:.2} %, within 10 % {:.1} %, Spearman {:.3}, covered {:.1} %",
            target.unwrap_or("all"),
            100.0 * get(|h| h.mape),
            100.0 * get(|h| h.within_10),
            get(|h| h.spearman.unwrap_or(f64::NAN)),
            100.0 * get(|h| h.coverage)
        );
    }
}

const OURS: &str = "masktas";

#[test]
fn a_hundred_measured_transformers_predict_the_rest() {
    let Some(table) = table(Kind::Hat) else { return };
    let targets = Kind::Hat.targets(&table);
    let trials = draws(&table, &targets, 100, 20, Choice::Random, &|_, _| false);
    for (device, within) in [("cpu_raspberrypi", 0.96), ("cpu_xeon", 0.90), ("gpu_titanxp", 0.87)] {
        show(&trials, Some(device), &[OURS, "ridge on own terms"]);
        let get = |model, get| average(&trials, Some(device), model, get);
        assert!(get(OURS, |h| h.within_10) > within, "{device}");
        assert!(get(OURS, |h| h.mape) < 1.01 * get("ridge on own terms", |h| h.mape), "{device}");
        assert!((0.88..0.92).contains(&get(OURS, |h| h.coverage)), "{device}");
    }
    assert!(trials.iter().filter(|t| t.model == OURS).all(|t| t.regime == Some(Regime::Additive)));
}

/// With thousands of measurements, trees see when the machine was slow if they are told the order of measuring, and are not taken
/// when they are not.
#[test]
fn two_thousand_measured_transformers_show_when_the_machine_was_slow() {
    let Some(table) = table(Kind::Hat) else { return };
    let trials = draws(&table, &Kind::Hat.targets(&table), 2000, 1, Choice::Random, &|_, _| false);
    let ordered = "masktas, order known";
    for (device, within, known) in
        [("cpu_raspberrypi", 0.96, 0.975), ("cpu_xeon", 0.905, 0.935), ("gpu_titanxp", 0.865, 0.96)]
    {
        show(&trials, Some(device), &[OURS, ordered]);
        assert!(average(&trials, Some(device), OURS, |h| h.within_10) > within, "{device}");
        assert!(average(&trials, Some(device), ordered, |h| h.within_10) > known, "{device}");
    }
    let chosen = |model| trials.iter().filter(move |t| t.model == model).map(|t| t.regime);
    assert!(chosen(OURS).all(|regime| regime == Some(Regime::Additive)));
    assert!(chosen(ordered).all(|regime| regime == Some(Regime::Boosted)));
}

#[test]
fn ten_and_twenty_measured_models_predict_an_unseen_phone() {
    let Some(table) = table(Kind::VitPhones) else { return };
    let targets = Kind::VitPhones.targets(&table);
    let allowed =
        |source: &Device, target: &Device| source.class == "float" && source.machine != target.machine;
    for (samples, most) in [(10, 0.095), (20, 0.067)] {
        let trials = draws(&table, &targets, samples, 20, Choice::Random, &allowed);
        show(&trials, None, &[OURS, "best source", "ridge on ln sources"]);
        let get = |model, get| average(&trials, None, model, get);
        let ours = get(OURS, |h| h.mape);
        assert!(ours < most, "{samples}: {ours}");
        assert!(ours < get("best source", |h| h.mape) && ours < get("ridge on ln sources", |h| h.mape));
        let covered = get(OURS, |h| h.coverage);
        assert!((0.87..0.93).contains(&covered), "{samples}: {covered}");
    }
}

#[test]
fn twenty_measured_networks_predict_an_unseen_class_of_devices() {
    let Some(table) = table(Kind::Fbnet) else { return };
    for (class, rank) in [("nvidia", 0.88), ("server", 0.84), ("phones", 0.75), ("fpga", 0.93)] {
        let targets: Vec<String> =
            table.devices.iter().filter(|d| d.class == class).map(|d| d.name.clone()).collect();
        // One of three of a large class: batch sizes of one chip are much alike.
        let step = if targets.len() > 5 { 3 } else { 1 };
        let targets: Vec<String> = targets.into_iter().step_by(step).collect();
        let trials =
            draws(&table, &targets, 20, 20, Choice::Random, &|source, target| source.class != target.class);
        show(&trials, None, &[OURS, "best source", "ridge on ln sources"]);
        let get = |model, get| average(&trials, None, model, get);
        assert!(get(OURS, |h| h.spearman.unwrap_or(0.0)) > rank, "{class}");
        assert!(get(OURS, |h| h.mape) < get("best source", |h| h.mape), "{class}");
        let covered = get(OURS, |h| h.coverage);
        assert!((0.86..0.93).contains(&covered), "{class}: {covered}");
    }
}
