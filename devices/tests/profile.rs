//! Profiles real models on this machine: rows are kept, a second start goes on, a bad model is a row.

mod common;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Duration;

use common::{engine_here, file, graph, model, quick, vit};
use masktas_devices::{
    BenchJob, EngineOptions, Error, Key, Local, NamedModel, Outcome, ProfileJob, Protocol, Row, Steadiness,
    profile_models,
};
use masktas_runtime::Graph;

fn local() -> Local {
    Local::new(&EngineOptions::default())
}

fn run(
    models: &[NamedModel<'_>],
    rows: &mut Vec<Row>,
    stop_at: usize,
) -> masktas_devices::Result<masktas_devices::Summary> {
    let reference = file(&graph(&vit(64, &[1]), 0));
    let bench = BenchJob { gate: Some(engine_here().into()), ..BenchJob::new(engine_here(), &quick()) };
    let job = ProfileJob { retries: 0, ..ProfileJob::new(models, &reference, bench) }.resume(rows);
    profile_models(
        &mut local(),
        &job,
        &mut |progress| {
            if progress.done >= stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
}

#[test]
fn a_profile_goes_on_where_it_was_stopped() {
    let graphs: Vec<Graph> = (1..=7).map(|n| graph(&vit(64, &vec![2; n]), 1)).collect();
    let models: Vec<_> = graphs.iter().enumerate().map(|(i, g)| model(&format!("m{i}"), g)).collect();
    let mut rows = Vec::new();
    let stopped = run(&models, &mut rows, 3).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted { done: 3, total: 7 }), "{stopped}");
    assert_eq!(rows.len(), 3, "the finished batch is kept");
    // Rows survive storage exactly.
    let text = serde_json::to_string(&rows).unwrap();
    let mut rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&rows).unwrap(), text);

    let summary = run(&models, &mut rows, usize::MAX).unwrap();
    assert_eq!((summary.measured, summary.failed, summary.skipped), (4, 0, 3));
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    let keys: Vec<Key> = rows.iter().map(|row| row.measurement().unwrap().key()).collect();
    assert!(keys.iter().all(|key| key.matches(&keys[0]).is_ok()));
    let calibrations: Vec<f64> = rows.iter().map(|row| row.measurement().unwrap().calibration.ms).collect();
    assert!(calibrations.iter().all(|ms| *ms == calibrations[0]), "old and new rows are in one unit");
    // Seven times the blocks cost clearly more, however noisy the machine.
    let ms: Vec<f64> = rows.iter().map(|row| row.measurement().unwrap().ms).collect();
    assert!(ms[6] > 2.0 * ms[0], "{ms:?}");

    let again = run(&models, &mut rows, usize::MAX).unwrap();
    assert_eq!((again.measured, again.skipped), (0, 7), "nothing is measured twice");
}

#[test]
fn a_measurement_is_complete() {
    let graph = graph(&vit(64, &[2, 2]), 1);
    let mut rows = Vec::new();
    run(&[model("m", &graph)], &mut rows, usize::MAX).unwrap();
    let m = rows[0].measurement().unwrap();
    assert_eq!((m.engine.as_str(), m.threads), (engine_here(), 1));
    assert_eq!(m.protocol, quick().hash());
    assert_eq!(m.n, m.rounds.len() * 2);
    assert!(m.rounds.len() >= 3 && m.warm_ups >= 3);
    assert!(
        m.min_ms <= m.median_ms && m.median_ms <= m.p90_ms && m.p90_ms <= m.p95_ms && m.p95_ms <= m.p99_ms
    );
    assert!(m.cold_load_ms > 0.0 && m.first_run_ms > 0.0 && m.half_width >= 0.0);
    assert!((m.ms - m.ratio * m.calibration.ms).abs() < 1e-12);
    assert!(m.gate.reference.contains("not optimised") && m.gate.difference < 1e-4, "{:?}", m.gate);
    assert_eq!(m.verdict == Steadiness::Steady, m.half_width <= 0.02);
    assert_eq!(m.verdict == Steadiness::Steady, !m.notes.iter().any(|note| note.contains("half-width")));
    assert!(!m.engine_version.is_empty() && !m.provider.is_empty() && m.fingerprint.cores >= 1);
    assert_eq!(rows[0].sample().unwrap().ms, m.ms);
}

#[test]
fn a_bad_model_is_a_row_and_the_run_goes_on() {
    let good = graph(&vit(64, &[2]), 1);
    let mut wrong_answer = model("wrong-answer", &good);
    let mut golden = common::golden(engine_here(), &good);
    for (_, tensor) in &mut golden.outputs {
        let doubled: Vec<f32> = tensor.as_f32().unwrap().iter().map(|v| v * 1.01).collect();
        *tensor = masktas_runtime::Tensor::f32(tensor.shape().to_vec(), doubled).unwrap();
    }
    wrong_answer.golden = Some(golden);
    let features = || good.features().unwrap();
    let models = [
        NamedModel::new("garbage", features(), b"garbage".to_vec()),
        model("good", &good),
        wrong_answer,
        NamedModel::lazy("unmade", features(), || Err(Error::Caller("the disk is full".into()))),
        model("also-good", &good),
    ];
    let mut rows = Vec::new();
    let summary = run(&models, &mut rows, usize::MAX).unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 3));
    let failure = |id: &str| match &rows.iter().find(|row| row.id == id).unwrap().outcome {
        Outcome::Failed(text) => text.clone(),
        _ => panic!("{id} was measured"),
    };
    assert!(failure("garbage").contains("cannot load"));
    assert!(failure("wrong-answer").contains("golden") && failure("wrong-answer").contains("1.0e-4"));
    assert!(failure("unmade").contains("disk is full"));
    assert!(rows.iter().filter(|row| row.id.contains("good")).all(|row| row.measurement().is_some()));
}

#[test]
fn a_sink_that_fails_ends_the_profile() {
    let graph = graph(&vit(64, &[2]), 1);
    let models = [model("m", &graph)];
    let reference = file(&graph);
    let bench = BenchJob { gate: None, ..BenchJob::new("tract", &quick()) };
    let job = ProfileJob::new(&models, &reference, bench);
    let gates = RefCell::new(Vec::new());
    let error = profile_models(&mut local(), &job, &mut |_| ControlFlow::Continue(()), &mut |row| {
        gates.borrow_mut().push(row.measurement().unwrap().gate.reference.clone());
        Err(Error::Caller("no space left".into()))
    });
    assert!(error.unwrap_err().to_string().contains("no space left"));
    assert_eq!(gates.into_inner(), ["nothing (finite only)"], "a row says that there was no gate");
}

#[test]
fn a_budget_ends_rounds_early_but_not_below_the_fewest() {
    let graphs: Vec<Graph> = (1..=4).map(|n| graph(&vit(64, &vec![2; n]), 1)).collect();
    let models: Vec<_> = graphs.iter().enumerate().map(|(i, g)| model(&format!("m{i}"), g)).collect();
    let reference = file(&graphs[0]);
    let protocol = Protocol { max_rounds: 100_000, spread_s: 3600.0 - 1.0, ..quick() };
    let bench = BenchJob { gate: None, ..BenchJob::new(engine_here(), &protocol) };
    let mut job = ProfileJob { retries: 0, ..ProfileJob::new(&models, &reference, bench) };
    job.budget = Some(Duration::from_secs(2));
    let mut rounds = Vec::new();
    let summary = profile_models(&mut local(), &job, &mut |_| ControlFlow::Continue(()), &mut |row| {
        rounds.push(row.measurement().unwrap().rounds.len());
        Ok(())
    })
    .unwrap();
    assert!(summary.elapsed_s < 20.0, "{}", summary.elapsed_s);
    assert!(rounds.iter().all(|n| *n >= 3) && rounds[0] > 4, "{rounds:?}");
}

#[test]
fn another_reference_network_is_refused() {
    let graphs = [graph(&vit(64, &[2]), 1), graph(&vit(64, &[2]), 2)];
    let models = [model("a", &graphs[0])];
    let mut rows = Vec::new();
    run(&models, &mut rows, usize::MAX).unwrap();
    let other = file(&graphs[1]);
    let models = [model("b", &graphs[1])];
    let bench = BenchJob { gate: None, ..BenchJob::new(engine_here(), &quick()) };
    let job = ProfileJob::new(&models, &other, bench).resume(&rows);
    let error =
        profile_models(&mut local(), &job, &mut |_| ControlFlow::Continue(()), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("reference networks"), "{error}");
}
