//! Which device a target stands for: one golden case for each branch.

use std::path::Path;

use masktas_devices::catalogue::{Catalogue, Choice, Connected, choose};

/// The answer as the golden file has it.
fn shown(asked: &str, board: &str, profiles: &str) -> String {
    let connected = (board != "none").then(|| Connected { board: board.into(), cpu: "unknown".into() });
    let profiles: Vec<String> = match profiles {
        "none" => Vec::new(),
        list => list.split(", ").map(str::to_owned).collect(),
    };
    match choose(&Catalogue::built_in(), asked, connected.as_ref(), &profiles) {
        Ok(Choice::Device { name, because }) => format!("  -> {name} ({because})\n"),
        Ok(ask @ Choice::Ask { .. }) => {
            let Choice::Ask { choices, .. } = &ask else { unreachable!() };
            let list = choices.join(", ");
            format!("  -> ask: {list}\n  -> without a terminal: {}\n", ask.clone().settled().unwrap_err())
        }
        Err(error) => format!("  -> error: {error}\n"),
    }
}

/// With `MASKTAS_BLESS=1` the file is written anew.
#[test]
fn golden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/choose.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut found = String::new();
    for line in golden.lines().filter(|line| line.starts_with("asked: ")) {
        let fields: Vec<&str> = line.split("; ").map(|field| field.split_once(": ").unwrap().1).collect();
        found.push_str(&format!("{line}\n{}", shown(fields[0], fields[1], fields[2])));
    }
    if std::env::var("MASKTAS_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, golden);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let once = shown("jetson", "none", "jetson-nano, jetson-tx2");
    assert!((0..20).all(|_| shown("jetson", "none", "jetson-tx2, jetson-nano") == once));
}
