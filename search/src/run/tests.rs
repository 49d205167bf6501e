use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::recipe::Recipe;
use crate::score::Component;
use crate::space::Genes;

fn manifest() -> Manifest {
    let sets = ["budget.latency=5ms".to_owned()];
    let space = crate::space::VitSpace::load("vit-micro").expect("space").definition().clone();
    Manifest::new(Recipe::load(None, None, &sets).expect("recipe"), space, sets.to_vec())
}

fn fresh() -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().expect("folder");
    let run = Run::create(&folder.path().join("run"), manifest()).expect("begins");
    (folder, run)
}

fn trial(index: usize) -> TrialRecord {
    // Values whose decimal forms are long, so that a lost bit would show.
    let value = (index as f64 + 1.0).sqrt() / 3.0;
    TrialRecord {
        index,
        id: format!("d96-l{index}"),
        genes: Genes { values: vec![index as u16, 1], active: vec![true, false] },
        components: vec![
            Component { name: "relation".to_owned(), value, error: value / 7.0, higher_is_better: false },
            Component {
                name: "reconstruction".to_owned(),
                value: -value,
                error: 0.0,
                higher_is_better: true,
            },
        ],
        score: value.fract(),
        cost: value * 1e-7,
    }
}

#[test]
fn everything_is_there_after_closing() {
    let (_folder, mut run) = fresh();
    let path = run.folder().to_owned();
    assert!(run.is_writer() && run.models().is_dir());
    run.mark(Phase::Profile).expect("marks");
    run.mark(Phase::Profile).expect("marks twice");
    for index in 0..3 {
        let TrialRecord { index, id, genes, components, .. } = trial(index);
        run.commit_reference(&ReferenceRecord { index, id, genes, components }).expect("commits");
    }
    for index in 0..5 {
        run.commit_trial(&trial(index), 0.5 + index as f64).expect("commits");
    }
    run.put_row(Table::Profile, "ort/a", &1.5).expect("row");
    run.put_row(Table::Profile, "ort/b", &2.5).expect("row");
    run.put_row(Table::Profile, "ort/a", &3.5).expect("row");
    run.put_row(Table::Finalists, "ort/a", &"pass").expect("row");
    let row = |step: u64, value: f64| CurveRow { step, name: "loss".to_owned(), value };
    run.put_curve("supernet", &[row(1, 0.1), row(2, f64::NAN), row(3, 0.3)]).expect("curve");
    run.put_curve("supernet", &[row(1, 0.2)]).expect("replaces");
    drop(run);

    for run in [Run::open_read_only(&path).expect("reads"), Run::open(&path).expect("opens")] {
        assert_eq!(run.manifest(), &manifest());
        assert!(run.is_done(Phase::Profile).expect("read") && !run.is_done(Phase::Search).expect("read"));
        assert_eq!(run.trials().expect("trials"), (0..5).map(trial).collect::<Vec<_>>());
        assert_eq!(run.trial_seconds().expect("clock"), [0.5, 1.5, 2.5, 3.5, 4.5]);
        let references = run.references().expect("references");
        assert_eq!(references.len(), 3);
        assert_eq!(references[2].components, trial(2).components);
        let rows: Vec<(String, f64)> = run.rows(Table::Profile).expect("rows");
        assert_eq!(rows, [("ort/a".to_owned(), 3.5), ("ort/b".to_owned(), 2.5)]);
        let curve = run.curve("supernet").expect("curve");
        assert_eq!((curve.len(), curve[0].value), (3, 0.2));
        assert!(curve[1].value.is_nan());
        assert_eq!(run.curve_names().expect("names"), ["supernet"]);
    }
}

#[test]
fn documents_come_back_as_they_will_be_read() {
    let (_folder, mut run) = fresh();
    let numbers: Vec<f64> = (1..2000).map(|i| f64::from(i).sqrt() * 1e5).collect();
    let given = run.put_doc("latency-model", &numbers).expect("stores");
    assert_eq!(run.get_doc::<Vec<f64>>("latency-model").expect("reads"), Some(given.clone()));
    let other = run.commit_doc("latency-model", &vec![1.0]).expect("keeps the first");
    assert_eq!(other, given);
    assert_eq!(run.get_doc::<u32>("nothing").expect("reads"), None);
    let error = run.get_doc::<u32>("latency-model").expect_err("another shape").to_string();
    assert!(error.contains("run.db"), "{error}");
}

#[test]
fn a_trial_is_committed_once_and_in_order() {
    let (_folder, mut run) = fresh();
    run.commit_trial(&trial(0), 1.0).expect("commits");
    run.commit_trial(&trial(0), 9.0).expect("the same again");
    assert_eq!(run.trial_count().expect("count"), 1);
    assert_eq!(run.trial_seconds().expect("clock"), [1.0]);
    let changed = TrialRecord { score: 0.9, ..trial(0) };
    assert!(run.commit_trial(&changed, 1.0).expect_err("changed").to_string().contains("trial 0"));
    let error = run.commit_trial(&trial(2), 1.0).expect_err("a gap").to_string();
    assert!(error.contains("number 2 after 1"), "{error}");
    let twice = TrialRecord { index: 1, ..trial(0) };
    assert!(run.commit_trial(&twice, 1.0).is_err(), "one id, two trials");
    for index in 0..2 {
        let TrialRecord { id, genes, components, .. } = trial(0);
        run.commit_reference(&ReferenceRecord { index, id, genes, components }).expect("drawn twice");
    }
    let broken = TrialRecord { score: f64::NAN, ..trial(1) };
    assert!(run.commit_trial(&broken, 1.0).expect_err("NaN").to_string().contains("NaN"));
    assert_eq!(run.trials().expect("trials"), [trial(0)]);
}

#[test]
fn the_log_has_no_clock_and_loses_no_bit() {
    let (_first_folder, mut first) = fresh();
    let (_second_folder, mut second) = fresh();
    for index in 0..20 {
        first.commit_trial(&trial(index), 1.0).expect("commits");
        second.commit_trial(&trial(index), 2.0).expect("commits");
    }
    let log = first.trial_log().expect("log");
    assert_eq!(log, second.trial_log().expect("log"));
    let line = log.lines().nth(2).expect("line");
    let score: f64 = line.split(' ').nth(2).and_then(|text| text.parse().ok()).expect("number");
    assert_eq!(score.to_bits(), trial(1).score.to_bits());
    let mut nudged = trial(20);
    second.commit_trial(&nudged, 1.0).expect("commits");
    nudged.score = f64::from_bits(nudged.score.to_bits() + 1);
    first.commit_trial(&nudged, 1.0).expect("commits");
    assert_ne!(first.trial_log().expect("log"), second.trial_log().expect("log"));
    let path = first.export_trials().expect("exports");
    let text = std::fs::read_to_string(path).expect("reads");
    assert_eq!(text.lines().count(), 21);
    assert!(text.starts_with("{\"index\":0,\"id\":\"d96-l0\""), "{text}");
}

#[test]
fn a_reader_is_welcome_while_the_writer_writes_and_a_second_writer_is_not() {
    let (_folder, mut run) = fresh();
    let path = run.folder().to_owned();
    run.commit_trial(&trial(0), 1.0).expect("commits");
    let reader = Run::open_read_only(&path).expect("reads");
    assert!(!reader.is_writer());
    assert_eq!(reader.trial_count().expect("count"), 1);
    run.commit_trial(&trial(1), 1.0).expect("commits beside a reader");
    assert_eq!(reader.trial_count().expect("count"), 2);
    let error = Run::open(&path).expect_err("busy");
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    let mut reader = reader;
    assert!(reader.mark(Phase::Search).is_err(), "a reader cannot write");
    drop(run);
    Run::open(&path).expect("free again");
}

#[test]
fn folders_that_are_no_run_say_so() {
    let folder = tempfile::tempdir().expect("folder");
    let message = |path: &Path| Run::open(path).expect_err("no run").to_string();
    assert!(message(&folder.path().join("nowhere")).contains("no such folder"));
    assert!(message(folder.path()).contains("no run.toml"));
    std::fs::write(folder.path().join("run.toml"), "format = 2\nfuture = true\n").expect("writes");
    let error = message(folder.path());
    assert!(error.contains("version 2") && error.contains("up to 1"), "{error}");
    std::fs::write(folder.path().join("run.toml"), "format = 1\n").expect("writes");
    assert!(message(folder.path()).contains("missing field"));
    std::fs::write(folder.path().join("run.toml"), "\u{0}").expect("writes");
    assert!(message(folder.path()).contains("not TOML"));

    let (_folder, run) = fresh();
    let path = run.folder().to_owned();
    drop(run);
    let error = Run::create(&path, manifest()).expect_err("there is one").to_string();
    assert!(error.contains("--resume"), "{error}");
    std::fs::write(path.join("run.db"), vec![7; 8192]).expect("writes");
    let error = message(&path);
    assert!(error.contains("run.db") && error.contains("not a database"), "{error}");

    let other = tempfile::tempdir().expect("folder");
    std::fs::write(other.path().join("photo.jpg"), "x").expect("writes");
    let error = Run::create(other.path(), manifest()).expect_err("not empty").to_string();
    assert!(error.contains("photo.jpg"), "{error}");
}

#[test]
fn a_database_of_a_newer_layout_is_refused() {
    let (_folder, run) = fresh();
    let path = run.folder().to_owned();
    drop(run);
    let database = Connection::open(path.join("run.db")).expect("opens");
    database.pragma_update(None, "user_version", FORMAT + 1).expect("writes");
    drop(database);
    for result in [Run::open(&path), Run::open_read_only(&path)] {
        let error = result.expect_err("newer").to_string();
        assert!(error.contains("version 2"), "{error}");
    }
}

#[test]
fn what_is_missing_beside_the_manifest_is_made_again() {
    let (_folder, run) = fresh();
    let path = run.folder().to_owned();
    drop(run);
    std::fs::remove_file(path.join("run.db")).expect("removes");
    std::fs::remove_dir_all(path.join("checkpoints")).expect("removes");
    let error = Run::open_read_only(&path).expect_err("nothing to read").to_string();
    assert!(error.contains("no run.db yet"), "{error}");
    let run = Run::open(&path).expect("opens");
    assert_eq!(run.trial_count().expect("count"), 0);
    assert!(run.checkpoint("supernet").ends_with("checkpoints/supernet.safetensors"));
    assert!(run.checkpoint("supernet").parent().is_some_and(Path::is_dir));
}

#[test]
fn a_changed_machine_is_told() {
    let manifest = manifest();
    assert!(manifest.differences(&machine()).is_empty());
    let mut other = machine();
    other.insert("cores".to_owned(), "999".to_owned());
    let differences = manifest.differences(&other);
    assert_eq!(differences.len(), 1);
    assert_eq!((differences[0].0.as_str(), differences[0].2.as_str()), ("cores", "999"));
}

const CHILD: &str = "MASKTAS_TEST_RUN";

/// Runs in the process that the next test starts and kills; elsewhere there is nothing to do.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let mut run = Run::open(Path::new(&path)).expect("opens");
    for index in run.trial_count().expect("count").. {
        run.commit_trial(&trial(index), 1.0).expect("commits");
        // To a stream the harness does not capture.
        use std::io::Write as _;
        writeln!(std::io::stderr(), "committed {index}").expect("the parent listens");
    }
}

#[test]
fn kill_nine_loses_no_committed_trial_and_leaves_no_lock() {
    let (_folder, run) = fresh();
    let path = run.folder().to_owned();
    drop(run);
    let mut least = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "run::tests::child_that_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        for line in lines.map_while(std::result::Result::ok) {
            if let Some(index) = line.strip_prefix("committed ").and_then(|text| text.parse::<usize>().ok()) {
                least = index + 1;
                if least >= 7 * round {
                    break;
                }
            }
        }
        assert!(matches!(Run::open(&path), Err(Error::Busy { .. })), "the child holds the run");
        child.kill().expect("kills");
        child.wait().expect("ends");
        let run = Run::open(&path).expect("no lock is left");
        let trials = run.trials().expect("trials");
        assert!(trials.len() >= least && least >= 7 * round, "{} of {least}", trials.len());
        assert_eq!(trials, (0..trials.len()).map(trial).collect::<Vec<_>>());
    }
}
