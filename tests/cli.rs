//! The program as people meet it: golden cases in `tests/cli/`, and every command of the pages.
//!
//! The cases are Markdown that `trycmd` runs. After a wanted change: `TRYCMD=overwrite cargo test --release --test cli`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder for caches that the tests share, so that the built-in photographs are decoded once.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// A folder for devices and profiles in the place of the person's own.
fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("home")
}

#[test]
fn golden_cases() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("MASKTAS_CACHE", cache().to_string_lossy())
        .env("MASKTAS_ORT_LIB", "/nowhere/libonnxruntime.so")
        .env("XDG_DATA_HOME", home().to_string_lossy())
        .env("XDG_CONFIG_HOME", home().to_string_lossy())
        .case("tests/cli/*.trycmd");
}

fn masktas(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_masktas"))
        .args(words)
        .current_dir(folder)
        .env("MASKTAS_CACHE", cache())
        .env("NO_COLOR", "1")
        .env("XDG_DATA_HOME", home())
        // A device that a test adds is not another test's.
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .output()
        .expect("the program starts")
}

/// The built-in photographs as files, one folder a class: what a user would point at.
fn photos(folder: &Path, most: usize) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("search/assets/clothing/clothing.pack");
    let pack = std::fs::read(pack).expect("the pack is there");
    let end = pack.windows(2).position(|pair| pair == b"\n\n").expect("a head") + 2;
    let head = String::from_utf8_lossy(&pack[..end]).into_owned();
    let mut at = end;
    let lines: Vec<&str> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    // Every so many images, so that all classes are there.
    let step = lines.len().div_ceil(most);
    for (number, line) in lines.iter().enumerate() {
        let (length, path) = line.split_once(' ').expect("length and path");
        let length: usize = length.parse().expect("a length");
        if number % step == 0 {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a class folder")).expect("made");
            std::fs::write(path, &pack[at..at + length]).expect("written");
        }
        at += length;
    }
}

/// The command lines in the shell blocks of a page, comments taken off.
fn commands(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).expect("the page is there");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines.filter(|line| line.starts_with("masktas ")).map(str::to_owned).collect()
}

/// The pages' board, and what stands for it.
const PI: &str = "pi5";
const BOARD: &str = "test-board";

/// The words of a page's command for this machine and for a test's patience: a board is an agent beside the program, a device of
/// this machine's processor, its minutes are seconds, and a person's model is the one that was just exported. `None`: there is no agent.
fn here_and_now(line: &str, folder: &Path) -> Option<Vec<String>> {
    let agent = Path::new(env!("CARGO_BIN_EXE_masktas")).with_file_name("masktas-agent");
    if line.contains("ssh://") && !agent.is_file() {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "{} is missing; test the whole workspace", agent.display());
        return None;
    }
    if line.contains("model.onnx") && !folder.join("model.onnx").exists() {
        let files = std::fs::read_dir(folder.join("knee")).expect("a model was exported").flatten();
        let model =
            files.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "onnx"));
        std::fs::copy(model.expect("an ONNX file"), folder.join("model.onnx")).expect("copied");
    }
    let word = |word: &str| match word {
        "10m" => "2s".to_owned(),
        word if word.starts_with("ssh://") => {
            format!("exec:{} --folder {}", agent.display(), folder.join("agent").display())
        }
        word if word == PI || word.starts_with("pi5=") => word.replacen(PI, BOARD, 1),
        word => word.to_owned(),
    };
    Some(line.split_whitespace().skip(1).map(word).collect())
}

/// A device of another processor than this machine's, "connected" by an agent here.
#[test]
fn a_machine_of_another_processor_fails_the_test_of_a_device() {
    let agent = Path::new(env!("CARGO_BIN_EXE_masktas")).with_file_name("masktas-agent");
    if !agent.is_file() {
        println!("skipped: there is no masktas-agent beside the program; test the whole workspace");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let connect = format!("exec:{} --folder {}", agent.display(), folder.path().display());
    let other = if std::env::consts::ARCH == "aarch64" { "intel-n100" } else { "pi5" };
    let test = |target: &str| {
        let output = masktas(folder.path(), &["devices", "test", "--target", target, "--connect", &connect]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = test(other);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("FAIL  device") && text.contains("name the right device"), "{text}");
    assert!(!text.contains("next:"), "{text}");
    let (code, text) = test("host");
    assert_eq!(code, Some(0), "{text}");
    // Half of a command would not start.
    assert!(text.contains("next: masktas profile --target host, with the same --connect"), "{text}");
}

/// Every `masktas` line of the README and of the usage page, in their order, in one folder. (`make` lines
/// are what `make demo` and continuous integration run.)
///
/// Needs ONNX Runtime, as `make ort` puts it or `MASKTAS_ORT_LIB` names it: the default recipe times with it.
#[test]
fn every_command_of_the_pages_works() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(&folder.path().join("photos"), 200);
    // A search of seconds that still does everything; a program finds `masktas.toml` by itself.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (from, to) in [("tiny.toml", "masktas.toml"), ("tiny-space.toml", "tiny-space.toml")] {
        std::fs::copy(tests.join(from), folder.path().join(to)).expect("copied");
    }
    let probe = masktas(folder.path(), &["devices", "--json"]);
    let probe: serde_json::Value = serde_json::from_slice(&probe.stdout).expect("JSON");
    let missing = |engine: &str| {
        let rows = probe["engines"].as_array().expect("engines");
        rows.iter()
            .find(|row| row["engine"] == engine)
            .and_then(|row| row["missing"].as_str().map(str::to_owned))
    };
    if let Some(why) = missing("ort") {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but ort: {why}; run `make ort`");
        println!("skipped: {why}");
        return;
    }
    let mut done = BTreeSet::new();
    let like_this = [
        "--architecture",
        std::env::consts::ARCH,
        "--transport",
        "local",
        "--engine",
        "ort",
        "--engine",
        "tract",
    ];
    let add = [&["devices", "add", "--description", "an agent beside the program"][..], &like_this, &[BOARD]]
        .concat();
    let output = masktas(folder.path(), &add);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for line in commands("README.md").into_iter().chain(commands("docs/usage.md")) {
        let Some(words) = here_and_now(&line, folder.path()) else {
            println!(
                "skipped: {line}: there is no masktas-agent beside the program; test the whole workspace"
            );
            continue;
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = masktas(folder.path(), &words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{line}\n{out}\n{err}");
        assert!(!out.trim().is_empty(), "{line} printed nothing");
        done.insert(words[0].to_owned());
    }
    let needed = [
        "search", "front", "report", "export", "evaluate", "finetune", "teacher", "profile", "data", "doctor",
    ];
    for command in needed {
        assert!(done.contains(command), "no page shows masktas {command}");
    }

    // What the pages say of several devices: each has measured the finalists of both, its own front's first.
    let both = masktas(folder.path(), &["search", "--resume", "runs/both", "--json"]);
    let both: serde_json::Value = serde_json::from_slice(&both.stdout).expect("JSON");
    let across = both["across"].as_array().expect("what devices measured");
    let names = |of: &serde_json::Value| {
        of["fronts"].as_array().unwrap().iter().map(|f| f["searched_for"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(across.len(), 2, "{across:?}");
    assert_eq!(
        (&across[0]["target"], names(&across[0])),
        (&"host".into(), vec!["host".into(), BOARD.into()])
    );
    assert_eq!((&across[1]["target"], names(&across[1])), (&BOARD.into(), vec![BOARD.into(), "host".into()]));
    assert!(across[1]["fronts"][1]["members"][0]["ms"].as_f64().is_some_and(|ms| ms > 0.0));
    let there = &both["further"][0]["finalists"][0]["there"]["verdict"];
    assert_ne!(*there, serde_json::Value::Null, "the board replays the golden pair");
    let page = std::fs::read_to_string(folder.path().join("runs/both/report.html")).expect("the report");
    assert!(page.contains("One supernet, several devices"));

    // What the pages say of the files.
    let report = std::fs::read_to_string(folder.path().join("runs/mine/report.html")).expect("the report");
    assert!(report.contains("Finalists") && report.contains("<svg"));
    let model = std::fs::read_dir(folder.path().join("knee")).expect("exported").flatten();
    let model = model.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "onnx"));
    let model = model.expect("an ONNX file");
    let photo = find_photo(&folder.path().join("photos")).expect("a photograph");
    let words = ["run", model.to_str().unwrap(), photo.to_str().unwrap(), "--compare", "--time", "--json"];
    let output = masktas(folder.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(object["masktas"], 1);
    assert_eq!(object["command"], "run");
    assert_ne!(object["parity"]["verdict"], "fail");
    assert!(object["results"][0]["result"]["features"].as_array().is_some_and(|values| values.len() >= 16));
    assert!(object["timings"][0]["median_ms"].as_f64().is_some_and(|ms| ms > 0.0));

    // How the wgpu runtime runs it: every kernel with its nodes, and its time where the adapter has a clock.
    let words = ["run", model.to_str().unwrap(), "--explain", "--trace", "--json"];
    let output = masktas(folder.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let dispatches = object["dispatches"].as_array().expect("dispatches");
    assert!(dispatches.iter().any(|dispatch| dispatch["family"] == "attention"));
    assert!(
        dispatches.iter().all(|dispatch| dispatch["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()))
    );
    assert!(dispatches.iter().all(|dispatch| dispatch["microseconds"].as_f64().is_some_and(|us| us >= 0.0)));

    // Of no other engine there is a plan to show, and only that one keeps weights in 16 bits.
    for (words, expected) in [
        (&["--explain", "--engine", "ort"][..], "leave out --engine ort"),
        (&["--tune", "--compare"], "leave out --compare"),
        (&["--tune", "--time"], "leave out --time"),
        (&["--threads", "0", "--engine", "ort", "--time"], "0 threads"),
        (&["--precision", "f16", "--engine", "tract", "--time"], "add --engine wgpu"),
    ] {
        let output = masktas(
            folder.path(),
            &[&["run", model.to_str().unwrap(), photo.to_str().unwrap()], words].concat(),
        );
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(expected), "{words:?}: {error}");
    }

    // A run that is there is not begun anew, and says how to go on.
    let output = masktas(folder.path(), &["search", "--out", "runs/mine"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume"));

    // A teacher's command goes on when it is repeated, and not when it says something else.
    let teacher = |epochs| ["teacher", "--epochs", epochs, "--out", "teacher.safetensors"];
    let output = masktas(folder.path(), &teacher("1"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = masktas(folder.path(), &teacher("2"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--epochs cannot be combined with teacher.run"));

    // A file for another batch has a name of its own.
    let output = masktas(folder.path(), &["export", "runs/mine", "--batch", "2", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let id = object["member"]["id"].as_str().expect("an id");
    let model = object["files"]["model"].as_str().expect("a path");
    assert!(model.ends_with(&format!("{id}-b2.onnx")), "{model}");
}

fn find_photo(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_photo(&path) {
                return Some(found);
            }
        } else {
            return Some(path);
        }
    }
    None
}

/// Every command says what it does, and names its options.
#[test]
fn every_command_has_help() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = masktas(folder.path(), &["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let list = help.split("Commands:\n").nth(1).expect("a list").split("\n\n").next().expect("an end");
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        let output = masktas(folder.path(), &[name, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("--json"), "{name}\n{text}");
    }
}

/// The README's table names every command there is, but for those that only print about the program.
#[test]
fn the_readme_names_every_command() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README");
    let folder = tempfile::tempdir().expect("a folder");
    let help = masktas(folder.path(), &["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let list = help.split("Commands:\n").nth(1).expect("a list").split("\n\n").next().expect("an end");
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(readme.contains(&format!("`masktas {name}")), "README.md does not name masktas {name}");
    }
}
