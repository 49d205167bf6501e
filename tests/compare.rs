//! `masktas compare` on a small table that is made here.

use std::path::Path;
use std::process::{Command, Output};

/// Four layers of three choices: later layers matter more, and two neighbours that are alike help.
fn table(folder: &Path) {
    let mut csv = "arch,accuracy,truth,size\n".to_owned();
    for number in 0..81 {
        let layers: Vec<usize> = (0..4).map(|at| number / 3usize.pow(at) % 3).collect();
        let score: usize = layers.iter().enumerate().map(|(at, layer)| (at + 1) * layer).sum();
        let alike = layers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let size: usize = layers.iter().map(|layer| 10 + 10 * layer).sum();
        let words: Vec<String> = layers.iter().map(ToString::to_string).collect();
        csv.push_str(&format!("{},{},{},{size}\n", words.join("-"), score + alike, 2 * score));
    }
    std::fs::write(folder.join("mine.csv"), csv).expect("written");
    let toml = "name = 'mine'\nkind = 'chain'\nlayers = ['arch']\nscores = ['accuracy']\nreports = ['truth']\nparams = 'size'\n";
    std::fs::write(folder.join("mine.toml"), toml).expect("written");
}

fn compare(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masktas"));
    command.args(["compare", "--table", "mine.csv"]).args(words).current_dir(folder).env("NO_COLOR", "1");
    command.output().expect("the program starts")
}

fn object(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn samplers_are_paired_and_their_curves_written() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    let words = [
        "--samplers",
        "random,tpe,npenas/ridge",
        "--queries",
        "30",
        "--seeds",
        "10",
        "--csv",
        "curves.csv",
        "--json",
    ];
    let answer = object(&compare(folder.path(), &words));
    assert_eq!(answer["report"], "truth");
    let rows = answer["samplers"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    let regret = |at: usize| rows[at]["regret"]["mean"].as_f64().expect("a number");
    assert!(regret(0) > 0.0 && regret(2) < regret(0), "{} {} {}", regret(0), regret(1), regret(2));
    assert!(rows[0]["difference"].is_null() && rows[2]["difference"]["mean"].as_f64().expect("paired") < 0.0);
    let csv = std::fs::read_to_string(folder.path().join("curves.csv")).expect("the curves");
    assert_eq!(csv.lines().count(), 1 + 3 * 10 * 30);
    // The same again, whatever the threads did.
    let again = object(&compare(folder.path(), &words));
    for (one, two) in rows.iter().zip(again["samplers"].as_array().expect("rows")) {
        assert_eq!(one["curves"], two["curves"]);
    }
    // A recipe's sampler with the recipe's settings, whatever it would train.
    let words =
        ["--samplers", "random,recipe:seminas,recipe:dna", "--queries", "24", "--seeds", "1", "--json"];
    let answer = object(&compare(folder.path(), &words));
    assert_eq!(answer["samplers"][2]["sampler"], "recipe:dna");
    assert_eq!(answer["samplers"][1]["curves"][0].as_array().map(Vec::len), Some(24));
    let text = compare(folder.path(), &["--samplers", "random,tpe", "--queries", "5", "--seeds", "2"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("less the first's"), "{text}");
    assert!(text.contains("all 5 queries are drawn at random") && text.contains("tpe (20)"), "{text}");
}

#[test]
fn a_comparison_is_kept_goes_on_and_has_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    let words =
        |samplers| ["--samplers", samplers, "--queries", "12", "--seeds", "4", "--out", "kept", "--json"];
    let first = object(&compare(folder.path(), &words("random,tpe")));
    let finished =
        || std::fs::read_to_string(folder.path().join("kept/finished.jsonl")).expect("kept").lines().count();
    assert_eq!(finished(), 8);
    // What is there is taken as it is; what is new is added.
    let output = compare(folder.path(), &words("random,tpe,evolution"));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("8 searches or fits are finished in kept"),
        "{output:?}"
    );
    let again = object(&output);
    assert_eq!(finished(), 12);
    assert_eq!(again["samplers"][0], first["samplers"][0], "the very same, times too");
    let page = std::fs::read_to_string(folder.path().join("kept/report.html")).expect("the page");
    assert_eq!(page.matches("<path class=\"term term").count(), 3);
    assert!(page.contains("masktas compare --table mine.csv --samplers random,tpe,evolution"), "{page}");
    let words = ["--predictors", "ridge", "--labels", "30", "--seeds", "3", "--out", "kept", "--json"];
    object(&compare(folder.path(), &words));
    assert_eq!(finished(), 15);
}

#[test]
fn a_limit_holds_and_one_that_nothing_meets_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    let words =
        |limit| ["--samplers", "random", "--queries", "200", "--seeds", "1", "--limit", limit, "--json"];
    let answer = object(&compare(folder.path(), &words("size=60")));
    let curve = answer["samplers"][0]["curves"][0].as_array().expect("a curve").len();
    assert!(curve < 81, "{curve} architectures within the limit");
    assert_eq!(answer["architectures"].as_u64(), Some(curve as u64));
    assert_eq!(answer["samplers"][0]["regret"]["mean"].as_f64(), Some(0.0), "all of them were rated");
    let output = compare(folder.path(), &words("size=39"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("range from 40 to 120"), "{error}");
}

#[test]
fn predictors_are_ranked_beside_size() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    let words = ["--predictors", "ridge,gin+ccl", "--labels", "30", "--seeds", "3", "--json"];
    let answer = object(&compare(folder.path(), &words));
    let rows = answer["predictors"].as_array().expect("rows");
    let tau = |at: usize| rows[at]["tau"]["mean"].as_f64().expect("a number");
    assert!(tau(0) > 0.6 && tau(1) > 0.3, "{} {}", tau(0), tau(1));
    assert_eq!(answer["size_alone"][0]["name"], "parameters");

    let words = ["--predictors", "gin", "--labels", "8", "--seeds", "3", "--beside", "truth=60", "--json"];
    let answer = object(&compare(folder.path(), &words));
    let rows = answer["predictors"].as_array().expect("rows");
    assert_eq!(rows[1]["predictor"], "gin beside truth of 60");
    let tau = |at: usize| rows[at]["tau"]["mean"].as_f64().expect("a number");
    // The column beside nearly orders as the one that is guessed does: what more is known of it must help.
    assert!(tau(1) > tau(0) + 0.05, "{} beside 60 values, {} from 8", tau(1), tau(0));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    for (words, expected) in [
        (&["--samplers", "tpee"][..], "did you mean `tpe`"),
        (&["--samplers", "recipe:seminaz"], "did you mean `seminas`"),
        (&["--samplers", "tpe,random/gin"], "random guesses nothing, by gin or otherwise"),
        (&["--samplers", "npenas/foo"], "unknown predictor"),
        (&["--samplers", "tpe", "--set", "sampler.name=random"], "name samplers with --samplers"),
        (&["--samplers", "tpe", "--set", "supernet.epochs=3"], "no sampler reads it"),
        (&["--samplers", "tpe", "--csv", "nowhere/x.csv"], "its folder is not there"),
        (&["--samplers", "npenas/none"], "predictor.name is \"none\""),
        (&["--samplers", "tpe", "--score", "accurracy"], "did you mean `accuracy`"),
        (&["--samplers", "tpe", "--read", "nasbench"], "unknown kind of table"),
        (&["--predictors", "ridge", "--labels", "81"], "81 labels"),
        (&["--predictors", "ridge", "--beside", "size"], "--beside size is not COLUMN=NUMBER"),
        (&["--predictors", "ridge", "--beside", "accurracy=50"], "did you mean `accuracy`"),
        (&["--predictors", "ridge", "--beside", "accuracy=50"], "the column that is guessed"),
        (&["--predictors", "ridge", "--labels", "30", "--beside", "truth=99"], "30 to 81"),
        (&["--samplers", "tpe", "--limit", "size"], "--limit size is not COLUMN=NUMBER"),
        (&["--samplers", "tpe", "--run", "."], "cannot be used with"),
    ] {
        let output = compare(folder.path(), words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}
