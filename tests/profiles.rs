//! Profiles from command to command: what one prints as the next one runs, and no machine's times come under another's name.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program in `folder`, which holds all that it keeps.
fn masktas(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_masktas"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("MASKTAS_CACHE", folder.join("cache"))
        .output()
        .expect("the program starts")
}

/// What it says where it ends with `code`.
fn said(folder: &Path, line: &str, code: i32) -> String {
    let output = masktas(folder, line);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}\n{text}");
    text
}

/// A folder with the tests' small space, and a configuration that times it in seconds under tract, which is everywhere.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (from, to) in [("tiny.toml", "masktas.toml"), ("tiny-space.toml", "tiny-space.toml")] {
        std::fs::copy(tests.join(from), folder.path().join(to)).expect("copied");
    }
    folder
}

const TRACT: &str = r#"--set latency.engines=["tract"] --samples 12"#;

/// The command after `next: `, with its blanks filled in and nothing done.
fn next(text: &str) -> String {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("next: masktas ")).expect("a next step");
    line.replace("--data FOLDER ", "").replace("TIME", "1s") + " --dry-run"
}

#[test]
fn the_next_step_of_a_profile_runs_as_it_stands() {
    let folder = folder();
    let folder = folder.path();
    let text = said(folder, &format!("profile {TRACT} --export here.json"), 0);
    let text = said(folder, &next(&text), 0);
    assert!(text.contains("profiled under tract"), "the profile's engines are the search's\n{text}");
    // Engines that are named stay.
    let text = said(folder, "search --profile here.json --set latency.engines=[\"ort\"] --dry-run", 2);
    assert!(text.contains("list of engines"), "{text}");

    // Another tool's times of another device.
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("here.json")).unwrap()).unwrap();
    let rows = kept["engines"][0]["rows"].as_array().unwrap().iter().map(|row| {
        format!("{},{}\n", row["id"].as_str().unwrap(), row["outcome"]["measured"]["ms"].as_f64().unwrap())
    });
    std::fs::write(folder.join("times.csv"), format!("model,ms\n{}", rows.collect::<String>())).unwrap();
    let text = said(folder, "profile --target pi5 --import times.csv", 0);
    let text = said(folder, &next(&text), 0);
    assert!(text.contains("another tool's"), "{text}");
    let text = said(folder, "profile --target pi5 --import times.csv --space vit-micro", 2);
    assert!(text.contains("--space"), "{text}");
}

#[test]
fn a_limit_that_nothing_meets_is_refused_before_a_run_begins() {
    let folder = folder();
    let folder = folder.path();
    said(folder, &format!("profile {TRACT} --export here.json"), 0);
    for more in ["", " --dry-run"] {
        let text =
            said(folder, &format!("search --profile here.json --latency 1us --out runs/none{more}"), 2);
        assert!(text.contains("on host") && text.contains("try --latency"), "{text}");
        assert!(!folder.join("runs/none").exists());
    }
    // A run that measured first keeps what it measured, and says how to use it.
    let line =
        r#"search --set latency.engines=["tract"] --set latency.samples=12 --latency 1us --out runs/kept"#;
    let text = said(folder, line, 2);
    assert!(text.contains("--profile runs/kept"), "{text}");
    said(folder, "search --profile runs/kept --latency 1s --dry-run", 0);
    // Nothing is measured, and so nothing is left.
    let text = said(folder, "search --params 1 --out runs/none", 2);
    assert!(text.contains("--params") && !folder.join("runs/none").exists(), "{text}");
}

#[test]
fn a_space_has_no_more_samples_than_members() {
    let folder = folder();
    let text = said(folder.path(), "profile --dry-run --samples 1000000000", 0);
    assert!(text.contains("all are timed"), "{text}");
    said(folder.path(), "profile --dry-run --space nowhere", 2);
}

#[test]
fn priors_of_a_board_stand_beside_a_measured_machine() {
    let folder = folder();
    said(folder.path(), "search --target host --target pi5 --prior --dry-run", 0);
    let text = said(folder.path(), "search --prior --dry-run", 2);
    assert!(text.contains("name the device with --target"), "{text}");
    let text = said(folder.path(), "search --target pi5 --prior --latency 1us --dry-run", 2);
    assert!(text.contains("on pi5"), "{text}");
    let text = said(folder.path(), "search --latency pi4=5ms --target pi5 --prior --dry-run", 2);
    assert!(text.contains("pi4") && text.contains("add --target pi4"), "{text}");
}

/// Needs the agent beside the program, as tests of the whole workspace build it.
#[test]
fn a_machine_is_profiled_under_its_own_name_alone() {
    let folder = folder();
    let agent: PathBuf = Path::new(env!("CARGO_BIN_EXE_masktas")).with_file_name("masktas-agent");
    if !agent.is_file() {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "{} is missing; test the whole workspace", agent.display());
        println!("skipped: there is no masktas-agent beside the program");
        return;
    }
    // An address has blanks, and a line here has none within a word.
    let profile = |more: &[&str]| {
        let address = format!("exec:{} --folder {}", agent.display(), folder.path().join("agent").display());
        let output = Command::new(env!("CARGO_BIN_EXE_masktas"))
            .args(["profile", "--connect", &address])
            .args(more)
            .current_dir(folder.path())
            .env("XDG_DATA_HOME", folder.path().join("data"))
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .output()
            .expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = profile(&[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("name it with --target") || text.contains("the connected board is"), "{text}");
    let (code, text) = profile(&["--target", "host"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("is this machine"), "{text}");
    // Whatever this machine is, one of the two is of another processor.
    for (device, processor) in [("pi5", "aarch64"), ("intel-n100", "x86_64")] {
        if std::env::consts::ARCH != processor {
            let (code, text) = profile(&["--target", device]);
            assert_eq!(code, Some(2), "{text}");
            assert!(text.contains(processor) && text.contains(std::env::consts::ARCH), "{text}");
        }
    }
    assert!(!folder.path().join("data").exists(), "nothing was kept");
}
