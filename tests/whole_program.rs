//! The whole program as a user runs it: search, kill, resume, repeat, refuse.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use masktas_search::run::{Run, Table};
use serde_json::Value;
use tempfile::TempDir;

fn masktas(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masktas"));
    command.args(arguments).env("MASKTAS_CACHE", cache).env("NO_COLOR", "1");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn finish(mut command: Command) -> Output {
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(command: Command) -> String {
    let output = finish(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A new search of the built-in photographs under a parameter limit, which needs no timing.
fn search<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["search", "--config", "tests/tiny.toml", "--params", "20k", "--out", out];
    arguments.extend(more);
    arguments
}

fn log(run: &Path) -> String {
    std::fs::read_to_string(run.join("trials.jsonl")).expect("a finished run has a trial log")
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

#[test]
fn one_seed_gives_one_search_and_another_seed_another() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let cache = place.path("cache");
    let [a, b, c] = ["a", "b", "c"].map(|name| place.text(name));
    succeed(masktas(&cache, &search(&a, &[])));
    succeed(masktas(&cache, &search(&b, &[])));
    succeed(masktas(&cache, &search(&c, &["--seed", "6"])));
    let [a, b, c] = [a, b, c].map(|run| log(Path::new(&run)));
    assert_eq!(a.lines().count(), 24);
    assert_eq!(a, b);
    assert_ne!(a, c);
}

/// Results depend on the recipe's `threads`, and on no other pool of threads.
#[test]
fn the_size_of_the_common_thread_pool_does_not_change_the_log() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let [one, four] = [("one", "1"), ("four", "4")].map(|(name, threads)| {
        let run = place.text(name);
        // A cache each: images are read and resized in that pool.
        let cache = place.path(&format!("cache-{name}"));
        let mut command = masktas(&cache, &search(&run, &["--set", "threads=2"]));
        command.env("RAYON_NUM_THREADS", threads);
        succeed(command);
        log(Path::new(&run))
    });
    assert_eq!(one.lines().count(), 24);
    assert_eq!(one, four);
}

#[test]
fn a_killed_search_goes_on_to_the_same_log() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let cache = place.path("cache");
    let (whole, broken) = (place.text("whole"), place.text("broken"));
    let begun = std::time::Instant::now();
    succeed(masktas(&cache, &search(&whole, &[])));
    let needed = begun.elapsed();

    let mut kills = 0;
    // Five moments, the same in every run of this test, early enough that three come before the end on a machine that is quick by then.
    for share in [0.07, 0.17, 0.12, 0.09, 0.22] {
        let arguments = match Path::new(&broken).join("run.toml").exists() {
            true => vec!["search", "--resume", &broken],
            false => search(&broken, &[]),
        };
        let mut child = masktas(&cache, &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(needed.mul_f64(share));
        if child.try_wait().expect("a child process").is_none() {
            child.kill().expect("SIGKILL");
            kills += 1;
        }
        child.wait().expect("a child process");
    }
    assert!(kills >= 3, "the search was over before it could be killed: {kills} of 5");
    let arguments = match Path::new(&broken).join("run.toml").exists() {
        true => vec!["search", "--resume", &broken],
        false => search(&broken, &[]),
    };
    succeed(masktas(&cache, &arguments));
    assert_eq!(log(Path::new(&whole)), log(Path::new(&broken)));
    let front = |run: &str| {
        let shown = succeed(masktas(&cache, &["front", run, "--json"]));
        shown.replace(run, "")
    };
    assert_eq!(front(&whole), front(&broken));
    // Going on with a finished run changes nothing.
    let again = succeed(masktas(&cache, &["search", "--resume", &broken]));
    assert_eq!(again, succeed(masktas(&cache, &["search", "--resume", &broken])));
}

#[test]
fn an_interrupted_search_says_how_to_go_on() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let (cache, run) = (place.path("cache"), place.text("run"));
    let mut child = masktas(&cache, &search(&run, &["--set", "supernet.epochs=500"]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    while !Path::new(&run).join("checkpoints/supernet.safetensors").exists() {
        assert!(child.try_wait().expect("a child process").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
    let output = child.wait_with_output().expect("a child process");
    assert_eq!(output.status.code(), Some(130));
    let said = text(&output.stderr);
    assert!(said.contains("--resume") && said.contains(&run), "{said}");
}

#[test]
fn a_budget_nobody_can_meet_is_refused_with_the_interval() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let (cache, run) = (place.path("cache"), place.text("run"));
    let output =
        finish(masktas(&cache, &["search", "--config", "tests/tiny.toml", "--params", "100", "--out", &run]));
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("100") && said.contains("to"), "{said}");
    assert!(!Path::new(&run).join("checkpoints/teacher.safetensors").exists(), "it trained first");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Whether ONNX Runtime is here. Without it a test is skipped and says so, or fails where
/// `MASKTAS_REQUIRE_ENGINES` is 1, as under `make test`.
fn onnx_runtime(cache: &Path) -> bool {
    let doctor = succeed(masktas(cache, &["doctor", "--json"]));
    let here = doctor.contains(r#""name":"ONNX Runtime","status":"ok""#);
    if !here {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but there is no ONNX Runtime; run `make ort`");
        println!("skipped: there is no ONNX Runtime here; `make ort` fetches it");
    }
    here
}

/// The committed rows of a run's latency profile, in the order they were measured.
fn profiled(run: &Path) -> masktas_search::Result<Vec<(String, Value)>> {
    Run::open_read_only(run)?.rows(Table::Profile)
}

#[test]
fn what_a_killed_profile_measured_is_kept_bit_for_bit() {
    let place = Place::new();
    let (cache, run) = (place.path("cache"), place.text("run"));
    if !onnx_runtime(&cache) {
        return;
    }
    // Eight batches, so that there is time to kill it between the first and the last.
    let arguments = [
        "search",
        "--config",
        "tests/tiny.toml",
        "--set",
        "latency.samples=64",
        "--set",
        "latency.engines=[\"ort\"]",
        "--out",
        &run,
    ];
    let mut child = masktas(&cache, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let run_folder = Path::new(&run);
    // With a write-ahead log there, a reader does not disturb the writer.
    while !run_folder.join("run.db-wal").exists() || profiled(run_folder).unwrap_or_default().is_empty() {
        assert!(child.try_wait().expect("a child process").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a child process");
    let kept = profiled(run_folder).expect("rows outlive a kill");
    assert!((1..64).contains(&kept.len()), "{} of 64 subnets were timed before the kill", kept.len());

    succeed(masktas(&cache, &["search", "--resume", &run]));
    let all = profiled(run_folder).expect("rows of a finished run");
    assert_eq!(all.len(), 64);
    assert_eq!(all[..kept.len()], kept[..]);
}

/// Two searches on one committed latency profile, one of them killed, end with the same log.
#[test]
fn one_profile_gives_one_search_under_latency() {
    let place = Place::new();
    let cache = place.path("cache");
    let (whole, broken) = (place.text("whole"), place.text("broken"));
    if !onnx_runtime(&cache) {
        return;
    }
    let arguments = ["search", "--config", "tests/tiny.toml", "--out", &whole];
    let mut child = masktas(&cache, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    while !Path::new(&whole).join("checkpoints/teacher.safetensors").exists() {
        assert!(child.try_wait().expect("a child process").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a child process");
    copy(Path::new(&whole), Path::new(&broken));

    succeed(masktas(&cache, &["search", "--resume", &whole]));
    let mut kills = 0;
    for pause in [200, 400, 800, 1600] {
        let mut child = masktas(&cache, &["search", "--resume", &broken])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(Duration::from_millis(pause));
        if child.try_wait().expect("a child process").is_none() {
            child.kill().expect("SIGKILL");
            kills += 1;
        }
        child.wait().expect("a child process");
    }
    assert!(kills >= 1, "the search was over before it could be killed");
    succeed(masktas(&cache, &["search", "--resume", &broken]));
    assert_eq!(log(Path::new(&whole)), log(Path::new(&broken)));
}

/// The recipes that guess scores search a supernet, say the same again, and samplers are compared on it.
#[test]
fn predictor_guided_recipes_search_a_supernet_and_samplers_are_compared_on_it() {
    let place = Place::new();
    if !onnx_runtime(&place.path("cache")) {
        return;
    }
    let cache = place.path("cache");
    let runs = ["ssnenas", "seminas", "again", "dna", "csnas"].map(|name| place.text(name));
    for (run, recipe) in runs.iter().zip(["ssnenas", "seminas", "ssnenas"]) {
        // Of the configuration's sampler, only how many random ones come first.
        succeed(masktas(&cache, &search(run, &["--recipe", recipe, "--set", "sampler.batch=8"])));
    }
    // Those whose objective and score are not built use what is there.
    let there = ["--set", "objective.name=masked-distillation", "--set", "score.name=relation-consistency"];
    for (run, recipe) in runs[3..].iter().zip(["dna", "csnas"]) {
        let words = ["--recipe", recipe, "--set", "sampler.population=8", "--set", "sampler.batch=8"];
        succeed(masktas(&cache, &search(run, &[&words[..], &there].concat())));
    }
    let [ssnenas, seminas, again, dna, csnas] = [0, 1, 2, 3, 4].map(|at| log(Path::new(&runs[at])));
    for log in [&ssnenas, &seminas, &dna, &csnas] {
        assert_eq!(log.lines().count(), 24);
    }
    assert_ne!(dna, csnas);
    assert_eq!(ssnenas, again, "from networks made now, and from the same ones on disk");
    assert_ne!(ssnenas, seminas);
    assert_eq!(
        std::fs::read_dir(cache.join("predictors")).expect("pre-trained networks are kept").count(),
        1
    );

    let out = place.text("compared");
    let compare = ["compare", "--run", &runs[0], "--samplers", "random,evolution,npenas/ridge", "--json"];
    let words = [&compare[..], &["--queries", "16", "--seeds", "2", "--out", &out]].concat();
    let answer: Value = serde_json::from_str(&succeed(masktas(&cache, &words))).expect("JSON");
    assert_eq!(answer["limits"][0], "--params 20.0k");
    let rows = answer["samplers"].as_array().expect("rows");
    for row in rows {
        let volume = row["hypervolume"]["mean"].as_f64().expect("a number");
        assert!(volume > 0.0 && volume < 1.0, "{row}");
        let curve = row["curves"][0].as_array().expect("a curve");
        let rising = curve.windows(2).all(|pair| pair[0].as_f64() <= pair[1].as_f64());
        assert!(curve.len() == 16 && rising, "{curve:?}");
    }
    assert!(rows.len() == 3 && rows[0]["difference"].is_null() && rows[1]["wins"].is_number());
    let page = std::fs::read_to_string(Path::new(&out).join("report.html")).expect("a page");
    assert!(page.contains("hypervolume (higher is better)"), "{page}");
}
