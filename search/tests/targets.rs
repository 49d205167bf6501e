//! One supernet for several devices: a further device trains nothing, shares the images and the scale of the score, and has
//! a front of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masktas_devices::engine::EngineOptions;
use masktas_search::Error;
use masktas_search::pipeline::{Outcome, Setup, recipe_of_supernet, search};
use masktas_search::progress::Silent;
use masktas_search::recipe::Recipe;
use masktas_search::run::{Further, Run, document};

fn recipe(sets: &[&str]) -> Recipe {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny.toml");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::load(None, Some(&config), &sets).unwrap()
}

/// A search for this machine and for a board, under limits that need no timing.
fn both(out: PathBuf) -> Setup {
    let first = recipe(&["budget.params=20k", "latency.engines=[\"tract\"]"]);
    let own = vec!["latency.target=pi5".to_owned(), "budget.params=12k".to_owned()];
    let further = Further { profile: None, recipe: first.with(&own).unwrap(), overrides: own };
    Setup { recipe: Some(first), further: vec![further], ..Setup::new(out, EngineOptions::default()) }
}

fn costs(outcome: &Outcome) -> Vec<f64> {
    outcome.front.iter().map(|member| member.cost).collect()
}

#[test]
fn a_further_device_trains_nothing_and_has_a_front_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let found = search(&both(out.clone()), &mut Silent).unwrap();
    let [other] = found.further.as_slice() else { panic!("{}", found.further.len()) };
    assert_eq!([found.target.as_str(), other.target.as_str()], ["host", "pi5"]);
    assert_eq!(other.run, out.join("targets/pi5"));
    // Each has its own 24 and what fits of the other's.
    assert!(found.trials > 24 && other.trials >= 24, "{} {}", found.trials, other.trials);
    assert!(costs(other).iter().all(|cost| *cost <= 12_000.0), "{:?}", costs(other));
    assert!(costs(&found).iter().any(|cost| *cost > 12_000.0), "{:?}", costs(&found));
    assert!(found.across.is_empty(), "no latency counts here");

    // Both chose among everything that was scored, so the tighter limit has the cheaper part of the same front.
    let cheaper: Vec<f64> = costs(&found).into_iter().filter(|cost| *cost <= 12_000.0).collect();
    assert_eq!(costs(other), cheaper);

    let [first, second] = [&found.run, &other.run].map(|folder| Run::open_read_only(folder).unwrap());
    let weights = |run: &Run| std::fs::read(run.checkpoint("supernet")).unwrap();
    assert!(weights(&first) == weights(&second), "another supernet");
    assert_eq!(first.references().unwrap(), second.references().unwrap());
    assert_eq!(first.curve("supernet").unwrap(), second.curve("supernet").unwrap());
    let split = |run: &Run| run.get_doc::<serde_json::Value>(document::SPLIT).unwrap();
    assert_eq!(split(&first), split(&second));
    // What both scored has one score.
    let scores = |run: &Run| -> BTreeMap<String, f64> {
        run.trials().unwrap().into_iter().map(|trial| (trial.id, trial.score)).collect()
    };
    let (a, b) = (scores(&first), scores(&second));
    let common: Vec<_> = a.keys().filter(|id| b.contains_key(*id)).collect();
    assert!(!common.is_empty() && common.iter().all(|id| a[*id] == b[*id]));
    drop((first, second));

    // Going on finds everything there.
    let again = search(&Setup::new(out.clone(), EngineOptions::default()), &mut Silent).unwrap();
    assert_eq!(costs(&again), costs(&found));
    assert_eq!(costs(&again.further[0]), costs(other));

    // A run of a further device that was never begun is begun when the search goes on, to the same end.
    std::fs::remove_dir_all(out.join("targets")).unwrap();
    let again = search(&Setup::new(out.clone(), EngineOptions::default()), &mut Silent).unwrap();
    assert_eq!(costs(&again.further[0]), costs(other));

    // The same supernet, for a search of its own.
    let overrides = ["budget.params=12k".to_owned(), "latency.target=host".to_owned()];
    let recipe = recipe_of_supernet(&out, &overrides).unwrap();
    let alone = place.path().join("alone");
    let setup = Setup {
        recipe: Some(recipe),
        supernet: Some(out.clone()),
        ..Setup::new(alone, EngineOptions::default())
    };
    let alone = search(&setup, &mut Silent).unwrap();
    assert_eq!(alone.trials, 24);
    let own = Run::open_read_only(&other.run).unwrap().trials().unwrap();
    assert_eq!(
        Run::open_read_only(&alone.run).unwrap().trials().unwrap(),
        own,
        "as the further device's search"
    );

    let error = recipe_of_supernet(&out, &["supernet.epochs=9".to_owned()]).unwrap_err();
    assert!(matches!(&error, Error::OtherSupernet { key, .. } if key == "supernet.epochs"), "{error}");
    let text = error.to_string();
    assert!(text.contains("supernet.epochs = 3") && text.contains("9 is asked for"), "{text}");
}

#[test]
fn a_supernet_that_is_not_trained_is_not_taken_over() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    // An impossible limit of the further device is found before anything is trained.
    let mut setup = both(out.clone());
    setup.further[0].recipe = setup.further[0].recipe.with(&["budget.params=1".to_owned()]).unwrap();
    let error = search(&setup, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Infeasible { .. }), "{error}");
    let error = recipe_of_supernet(&out, &[]).unwrap_err().to_string();
    assert!(error.contains("its supernet is not trained"), "{error}");
}

#[test]
fn a_board_without_profile_or_connection_is_refused_before_anything_begins() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let mut setup = both(out.clone());
    let recipe = recipe(&["latency.engines=[\"tract\"]"]);
    setup.further[0].recipe = recipe.with(&["latency.target=pi5".to_owned()]).unwrap();
    let error = search(&setup, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NotProfiled { .. }), "{error}");
    assert!(!out.exists());
}
