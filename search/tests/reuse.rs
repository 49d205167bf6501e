//! A profile is measured once and serves many searches: one that fits is taken over as it is, of any other nothing.

use std::path::{Path, PathBuf};

use masktas_devices::engine::{EngineOptions, engine};
use masktas_devices::latency::latency_model;
use masktas_devices::measure::{Calibration, Gate, Measurement, Steadiness};
use masktas_devices::profile::{Outcome, Row};
use masktas_devices::{Fingerprint, State};
use masktas_export::Arch;
use masktas_export::lower::{LowerOptions, lower};
use masktas_search::Error;
use masktas_search::pipeline::{LatencyReport, Setup, latency_document, latency_protocol, search};
use masktas_search::progress::Progress;
use masktas_search::recipe::Recipe;
use masktas_search::run::{Manifest, Phase, Run, Table};
use masktas_search::space::{Genes, Space as _, VitSpace};

/// The engine that the profiles are of: one that is everywhere, because its version is asked. Nothing is timed here.
const ENGINE: &str = "tract";

/// Name of the run's document with the folder of the profile.
const FROM: &str = "profile-from";

/// Stops at the first occasion.
struct Stop;

impl Progress for Stop {
    fn begin(&mut self, _phase: &str, _total: u64, _unit: &str) {}
    fn advance(&mut self, _done: u64, _note: &str) {}
    fn end(&mut self, _summary: &str) {}
    fn say(&mut self, _line: &str) {}
    fn stop(&self) -> bool {
        true
    }
}

fn recipe(sets: &[&str]) -> Recipe {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny.toml");
    let engine = format!("latency.engines=[\"{ENGINE}\"]");
    let sets: Vec<String> = std::iter::once(engine).chain(sets.iter().map(|set| (*set).to_owned())).collect();
    Recipe::load(None, Some(&config), &sets).unwrap()
}

/// As the command line asks.
fn check_profile(recipe: &Recipe, from: &Path) -> Result<(), Error> {
    masktas_search::pipeline::check_profile(recipe, from, &EngineOptions::default(), None)
}

/// Made-up numbers, with no more digits than any JSON reader keeps, measured as the recipe asks.
fn measurement(ms: f64) -> Measurement {
    let settings = recipe(&[]).latency;
    let version = engine(ENGINE, &EngineOptions::default()).unwrap().version().unwrap();
    Measurement {
        ms,
        ratio: 1.5,
        half_width: 0.25,
        verdict: Steadiness::Steady,
        notes: Vec::new(),
        median_ms: ms,
        p90_ms: ms,
        p95_ms: ms,
        p99_ms: ms,
        min_ms: ms,
        mad_ms: 0.5,
        n: 40,
        warm_ups: 3,
        cold_load_ms: 1.5,
        first_run_ms: 2.5,
        peak_bytes: None,
        energy: None,
        gate: Gate { reference: "by hand".to_owned(), difference: 0.0 },
        calibration: Calibration { reference: "by hand".to_owned(), ms: 1.5, half_width: 0.25 },
        protocol: latency_protocol(&settings, &EngineOptions::default()).hash(),
        engine: ENGINE.to_owned(),
        engine_version: version,
        provider: "none".to_owned(),
        threads: settings.threads,
        fingerprint: Fingerprint { state: State::default(), ..Fingerprint::read(settings.threads) },
        after: State::default(),
        rounds: Vec::new(),
    }
}

fn row(space: &VitSpace, genes: &Genes) -> Row {
    let graph = lower(&Arch::Vit(space.vit(genes)), None, &LowerOptions::default()).unwrap();
    let ms = 1.0 + space.vit(genes).flops().div_ceil(10_000) as f64 / 64.0;
    let outcome = Outcome::Measured(Box::new(measurement(ms)));
    Row { id: space.id(genes), features: graph.features().unwrap(), outcome }
}

/// A profile of the recipe's space, as if it had been measured; without `finished` the model is missing.
fn profile(folder: &Path, change: impl FnOnce(&mut Manifest), finished: bool) {
    profile_of(folder, change, |_| {}, finished);
}

/// The same with another change to each of its measurements.
fn profile_of(
    folder: &Path,
    change: impl FnOnce(&mut Manifest),
    measured: impl Fn(&mut Measurement),
    finished: bool,
) {
    let recipe = recipe(&[]);
    let space = VitSpace::load(&recipe.space.name).unwrap();
    let mut manifest = Manifest::new(recipe, space.definition().clone(), Vec::new());
    change(&mut manifest);
    let mut run = Run::create(folder, manifest).unwrap();
    let mut rows: Vec<Row> = space.corners().iter().map(|genes| row(&space, genes)).collect();
    for row in &mut rows {
        if let Outcome::Measured(measurement) = &mut row.outcome {
            measured(measurement);
        }
    }
    for row in &rows {
        run.put_row(Table::Profile, &format!("{ENGINE}/{}", row.id), row).unwrap();
    }
    if !finished {
        return;
    }
    let samples: Vec<_> = rows.iter().filter_map(Row::sample).collect();
    let mut model = latency_model("ridge").unwrap();
    model.fit(&samples).unwrap();
    let report = LatencyReport {
        engine: ENGINE.to_owned(),
        model: model.to_json().unwrap(),
        held_out: model.held_out().unwrap().clone(),
        rows: Vec::new(),
        how: None,
    };
    run.put_doc(&latency_document(ENGINE), &report).unwrap();
}

fn rows(run: &Run) -> Vec<(String, Row)> {
    run.rows(Table::Profile).unwrap()
}

fn model(run: &Run) -> Option<String> {
    run.get_doc::<LatencyReport>(&latency_document(ENGINE)).unwrap().map(|report| report.model)
}

fn setup(out: PathBuf, recipe: Recipe, profile: &Path) -> Setup {
    Setup {
        recipe: Some(recipe),
        profile: Some(profile.to_owned()),
        ..Setup::new(out, EngineOptions::default())
    }
}

/// Pictures in a new folder, and the recipe's override that names it.
fn photos(folder: &Path) -> String {
    std::fs::create_dir(folder).unwrap();
    for i in 0..80u8 {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 7) as u8, 3 * i]);
        let picture = image::RgbImage::from_fn(36, 36, pixel);
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
    format!("data.path={:?}", folder.to_str().unwrap())
}

/// The run in `out` has all that the profile in `timed` has.
fn taken_over(timed: &Path, out: &Path) {
    let (timed, run) = (Run::open_read_only(timed).unwrap(), Run::open_read_only(out).unwrap());
    assert!(run.is_done(Phase::Profile).unwrap());
    assert_eq!(rows(&run).len(), 16);
    assert_eq!(rows(&run), rows(&timed));
    assert!(model(&run).is_some());
    assert_eq!(model(&run), model(&timed));
    assert!(run.get_doc::<PathBuf>(FROM).unwrap().unwrap().is_absolute());
}

#[test]
fn a_profile_that_fits_is_taken_over_and_nothing_is_timed() {
    let place = tempfile::tempdir().unwrap();
    let [timed, out] = ["timed", "out"].map(|name| place.path().join(name));
    profile(&timed, |_| {}, true);
    let data = photos(&place.path().join("photos"));
    // Another seed and other images: a latency depends on neither.
    let result = search(&setup(out.clone(), recipe(&[data.as_str(), "seed=9"]), &timed), &mut Stop);
    assert!(matches!(result, Err(Error::Interrupted)), "{:?}", result.err());
    taken_over(&timed, &out);
}

/// A run that was killed before it had copied all of a profile copies the rest, and times nothing.
#[test]
fn a_run_that_was_stopped_while_it_took_a_profile_over_goes_on_with_it() {
    let place = tempfile::tempdir().unwrap();
    let [timed, out] = ["timed", "out"].map(|name| place.path().join(name));
    profile(&timed, |_| {}, true);
    let recipe = recipe(&[photos(&place.path().join("photos")).as_str()]);
    let space = VitSpace::load(&recipe.space.name).unwrap();
    let mut run = Run::create(&out, Manifest::new(recipe, space.definition().clone(), Vec::new())).unwrap();
    run.put_doc(FROM, &timed).unwrap();
    let (key, first) = rows(&Run::open_read_only(&timed).unwrap()).remove(0);
    run.put_row(Table::Profile, &key, &first).unwrap();
    drop(run);
    let going_on = Setup::new(out.clone(), EngineOptions::default());
    let result = search(&going_on, &mut Stop);
    assert!(matches!(result, Err(Error::Interrupted)), "{:?}", result.err());
    taken_over(&timed, &out);
    // What is there is not asked for again.
    std::fs::remove_dir_all(&timed).unwrap();
    assert!(matches!(search(&going_on, &mut Stop), Err(Error::Interrupted)));
}

#[test]
fn a_profile_of_another_space_is_refused_and_nothing_is_copied() {
    let place = tempfile::tempdir().unwrap();
    let (timed, out) = (place.path().join("timed"), place.path().join("out"));
    profile(&timed, |_| {}, true);
    let other = recipe(&["space.name=vit-micro"]);
    assert!(matches!(check_profile(&other, &timed), Err(Error::OtherProfile { .. })));
    let error = search(&setup(out.clone(), other, &timed), &mut Stop).unwrap_err();
    assert!(matches!(&error, Error::OtherProfile { what, .. } if &**what == "space"), "{error}");
    let text = error.to_string();
    assert!(text.contains("tiny-space.toml") && text.contains("vit-micro"), "{text}");
    let run = Run::open_read_only(&out).unwrap();
    assert_eq!((rows(&run).len(), model(&run)), (0, None));
}

#[test]
fn whatever_a_latency_depends_on_must_agree() {
    let place = tempfile::tempdir().unwrap();
    let timed = place.path().join("timed");
    profile(&timed, |_| {}, true);
    check_profile(&recipe(&["seed=9", "latency.samples=99", "latency.finalists=1"]), &timed).unwrap();
    for (set, what, ours) in [
        ("latency.rounds=5", "latency.rounds", "5"),
        ("latency.runs=77", "latency.runs", "77"),
        ("latency.warmups=78", "latency.warmups", "78"),
        ("latency.threads=79", "latency.threads", "79"),
        ("latency.target=pi5", "target", "pi5"),
        ("latency.engines=[\"ort\"]", "list of engines", "ort"),
    ] {
        let error = check_profile(&recipe(&[set]), &timed).unwrap_err().to_string();
        for part in [format!("its {what} is "), format!("and {ours} is")] {
            assert!(error.contains(&part), "{part}: {error}");
        }
    }

    let refused = |name: &str| check_profile(&recipe(&[]), &place.path().join(name)).unwrap_err().to_string();
    let elsewhere = |manifest: &mut Manifest| {
        manifest.machine.insert("processor".to_owned(), "another one".to_owned());
    };
    profile(&place.path().join("elsewhere"), elsewhere, true);
    let text = refused("elsewhere");
    assert!(text.contains("machine's processor is `another one`"), "{text}");
    let measured = |name: &str, change: fn(&mut Measurement)| {
        profile_of(&place.path().join(name), |_| {}, change, true);
        refused(name)
    };
    let text = measured("otherwise", |measurement| measurement.protocol = "by hand".to_owned());
    let protocol = latency_protocol(&recipe(&[]).latency, &EngineOptions::default()).hash();
    assert!(text.contains(&format!("its measuring protocol is by hand, and {protocol} is")), "{text}");
    let text = measured("upgraded", |measurement| measurement.fingerprint.os.push_str(" of old"));
    assert!(text.contains("its machine is ") && text.contains(" of old"), "{text}");
    let text = measured("older", |measurement| measurement.engine_version.push_str("-old"));
    assert!(text.contains(&format!("its version of {ENGINE} is ")) && text.contains("-old, and "), "{text}");
    profile(&place.path().join("before"), |manifest| manifest.version.push_str("-old"), true);
    let text = refused("before");
    assert!(text.contains("-old"), "{text}");
    profile(&place.path().join("unfinished"), |_| {}, false);
    let text = refused("unfinished");
    assert!(text.contains("masktas profile --resume"), "{text}");
    let nowhere = check_profile(&recipe(&[]), &place.path().join("nowhere"));
    assert!(matches!(nowhere, Err(Error::NoRun { .. })));
}
