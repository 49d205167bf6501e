//! The ONNX project's node tests on an adapter, beside what ONNX Runtime and tract make of them.
//!
//! `make conformance` prepares the folder that `MASKTAS_CONFORMANCE` names (`scripts/conformance.py`) and runs this; without the
//! folder it says so and does nothing. `cases.txt` holds the verdict that every case must have, with the reason of each that
//! is not supported; `MASKTAS_CONFORMANCE_WRITE=1` writes it anew. A case passes in both classes of kernels or it fails.
//! A line `differs`, written by hand, is for a test whose own data are wrong: it must go on to differ.
//! It counts as `host`, not as a pass, when no kernel reads some of its inputs: then its answer follows from shapes and constants.

mod verdict;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use masktas_runtime::session::Adapters;
use serde_json::Value;

use verdict::Verdict;

const HEADER: &str = "# What each node test of onnx 1.20 must give on an adapter: `pass`; `host` (its answer follows from shapes and
# constants, so no kernel reads its inputs); `not supported`, and why; or `differs`, and what is wrong with the test. Written by
# MASKTAS_CONFORMANCE_WRITE=1 make conformance, which keeps lines that begin with `differs`; read by main.rs beside it.
";

fn listed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases.txt")
}

#[test]
fn node_tests() {
    let Some(folder) = std::env::var_os("MASKTAS_CONFORMANCE").map(PathBuf::from) else {
        eprintln!("skipped: MASKTAS_CONFORMANCE names no folder of node tests; run `make conformance`");
        return;
    };
    assert!(!Adapters::list().is_empty(), "there is no adapter; `make setup` installs a software driver");
    let engines = std::fs::read_to_string(folder.join("engines.json")).unwrap();
    let engines: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&engines).unwrap();
    let only = std::env::var("MASKTAS_CONFORMANCE_ONLY").unwrap_or_default();
    let mut verdicts: BTreeMap<String, (String, Verdict)> = BTreeMap::new();
    for name in engines.keys().filter(|name| name.contains(&only)) {
        let about = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let about: Value = serde_json::from_str(&about).unwrap();
        let op = about["op"].as_str().unwrap().to_owned();
        let verdict = verdict::judge(&folder.join(format!("{name}.onnx")), &about);
        verdicts.insert(name.clone(), (op, verdict));
    }
    let text = std::fs::read_to_string(listed()).unwrap_or_default();
    let want: BTreeMap<&str, &str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect();
    for (name, (_, verdict)) in &mut verdicts {
        if let Some(why) = want.get(name.as_str()).and_then(|want| want.strip_prefix("differs: ")) {
            *verdict = verdict.differs(why);
        }
    }
    print(&verdicts, &engines);
    let failed: Vec<String> = verdicts
        .iter()
        .filter_map(|(name, (_, verdict))| Some(format!("{name}: {}", verdict.failure()?)))
        .collect();
    if only.is_empty() && std::env::var_os("MASKTAS_CONFORMANCE_WRITE").is_some() {
        let lines: String = verdicts.iter().map(|(name, (_, v))| format!("{name}: {v}\n")).collect();
        std::fs::write(listed(), format!("{HEADER}{lines}")).unwrap();
    }
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), verdicts.len(), failed.join("\n"));
    let text = std::fs::read_to_string(listed()).unwrap();
    let want: BTreeMap<&str, &str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect();
    let mut other = Vec::new();
    for (name, (_, verdict)) in &verdicts {
        let want = want.get(name.as_str()).copied().unwrap_or("not on the list");
        // Reasons may be worded anew; what matters is that there is one.
        let (kind, why) = want.split_once(": ").unwrap_or((want, ""));
        let reasoned = matches!(kind, "pass" | "host") || !why.is_empty();
        let kept = if reasoned { kind } else { "no reason" };
        if kept != verdict.kind() {
            other.push(format!("{name}: {verdict}, but cases.txt says: {want}"));
        }
    }
    if only.is_empty() {
        let gone = want.keys().filter(|name| !verdicts.contains_key(**name));
        other.extend(gone.map(|name| format!("{name}: on the list, but no such case")));
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

/// The table by operator, and the sums.
fn print(
    verdicts: &BTreeMap<String, (String, Verdict)>,
    engines: &BTreeMap<String, BTreeMap<String, String>>,
) {
    let kinds = ["pass", "host", "not supported", "fail", "differs"];
    let mut table: BTreeMap<&str, [[usize; 5]; 3]> = BTreeMap::new();
    let mut total = [[0usize; 5]; 3];
    for (name, (op, verdict)) in verdicts {
        let engine = |engine: &str| engines[name][engine].split(':').next().unwrap_or_default().to_owned();
        let row = table.entry(op).or_default();
        for (column, kind) in [verdict.kind().to_owned(), engine("ort"), engine("tract")].iter().enumerate() {
            let place = kinds.iter().position(|own| own == kind).unwrap();
            row[column][place] += 1;
            total[column][place] += 1;
        }
    }
    let line = |name: &str, row: &[[usize; 5]; 3]| {
        let [own, ort, tract] = row;
        let mut text = format!("{name:<24}");
        let _ = write!(text, "{:>6}{:>6}{:>6}{:>8}{:>6}", own[0], own[1], own[2], own[4], own[3]);
        for engine in [ort, tract] {
            let _ = write!(text, "   |{:>6}{:>6}{:>6}", engine[0], engine[2], engine[3]);
        }
        println!("{text}");
    };
    println!("{:<24}{:<32}   |ort                  |tract", "", "  wgpu");
    println!(
        "operator                  pass  host   not differs  fail   |  pass   not  fail   |  pass   not  fail"
    );
    for (op, row) in &table {
        line(op, row);
    }
    line("all", &total);
}
