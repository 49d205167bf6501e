//! The arrows between the crates, read from their manifests. See ARCHITECTURE.md for the picture.
//!
//! `runtime <- export`, `runtime <- devices`, `export, devices <- search <- masktas`, and burn is named
//! by `search` alone: a model can be run, checked and timed by programs that are built without it.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// What one crate may and must not name.
struct Rule {
    package: &'static str,
    /// Folder of the manifest, from the root.
    folder: &'static str,
    /// Crates of the house it may depend on.
    house: &'static [&'static str],
    /// Crates of the house its tests may use as well.
    house_in_tests: &'static [&'static str],
    /// Crates of others it must never name, tests included: the name itself and `name-...`.
    never: &'static [&'static str],
}

const RUNTIME: &str = "masktas-runtime";
const EXPORT: &str = "masktas-export";
const DEVICES: &str = "masktas-devices";
const SEARCH: &str = "masktas-search";

const RULES: &[Rule] = &[
    Rule {
        package: RUNTIME,
        folder: "runtime",
        house: &[],
        house_in_tests: &[],
        never: &["burn", "cubecl", "ort", "tract", "tokio"],
    },
    Rule {
        package: EXPORT,
        folder: "export",
        house: &[RUNTIME],
        house_in_tests: &[],
        never: &["burn", "cubecl", "wgpu", "naga"],
    },
    Rule {
        package: DEVICES,
        folder: "devices",
        house: &[RUNTIME],
        // Parity is tested on models that `export` makes.
        house_in_tests: &[EXPORT],
        never: &["burn", "cubecl"],
    },
    Rule {
        package: SEARCH,
        folder: "search",
        house: &[RUNTIME, EXPORT, DEVICES],
        house_in_tests: &[],
        never: &["clap"],
    },
    Rule {
        package: "masktas",
        folder: ".",
        house: &[RUNTIME, EXPORT, DEVICES, SEARCH],
        house_in_tests: &[],
        never: &["burn", "cubecl", "wgpu", "naga"],
    },
];

/// One line of a dependency table.
struct Dependency {
    /// The package, after any renaming.
    package: String,
    /// Only tests, benches and examples see it.
    dev: bool,
    optional: bool,
    default_features: bool,
    features: Vec<String>,
}

fn table(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_table).into_iter().flatten()
}

fn flag(spec: &Value, name: &str) -> Option<bool> {
    spec.get(name).or_else(|| spec.get(name.replace('-', "_"))).and_then(Value::as_bool)
}

/// Every dependency of a manifest: of each kind, for each target, with what it inherits.
fn dependencies(manifest: &Table, shared: &Table) -> Vec<Dependency> {
    let mut places: Vec<&Table> = vec![manifest];
    places.extend(table(manifest.get("target")).filter_map(|(_, target)| target.as_table()));
    let mut found = Vec::new();
    for place in places {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, spec) in table(place.get(kind)) {
                let inherits = flag(spec, "workspace") == Some(true);
                let base = shared.get(name).filter(|_| inherits);
                let text = |spec: &Value| spec.get("package").and_then(Value::as_str).map(str::to_owned);
                let package = text(spec).or_else(|| base.and_then(text)).unwrap_or_else(|| name.clone());
                let features = [Some(spec), base]
                    .into_iter()
                    .flatten()
                    .flat_map(|s| s.get("features").and_then(Value::as_array).into_iter().flatten())
                    .filter_map(|f| f.as_str().map(str::to_owned))
                    .collect();
                found.push(Dependency {
                    package,
                    dev: kind == "dev-dependencies",
                    optional: flag(spec, "optional").unwrap_or(false),
                    // A member cannot take away what the workspace grants, so both have to refuse.
                    default_features: match base {
                        Some(base) => {
                            flag(base, "default-features").unwrap_or(true)
                                || flag(spec, "default-features").unwrap_or(false)
                        }
                        None => flag(spec, "default-features").unwrap_or(true),
                    },
                    features,
                });
            }
        }
    }
    found
}

/// Everything a manifest does against its rule.
fn check(rule: &Rule, manifest: &Table, shared: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let named = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
    if named != Some(rule.package) {
        faults.push(format!("{}: the package is called {named:?}", rule.package));
    }
    for dependency in dependencies(manifest, shared) {
        let Dependency { package, dev, optional, default_features, features } = &dependency;
        let arrow = format!("{} -> {package}{}", rule.package, if *dev { " (tests)" } else { "" });
        let of_house = RULES.iter().any(|r| r.package == package);
        if of_house
            && !(rule.house.contains(&package.as_str())
                || *dev && rule.house_in_tests.contains(&package.as_str()))
        {
            faults.push(arrow.clone());
        }
        let never = |name: &&str| package == name || package.starts_with(&format!("{name}-"));
        if rule.never.iter().any(never) {
            faults.push(arrow.clone());
        }
        // `Graph`, the ONNX reader and the planner must build without wgpu.
        if rule.package == RUNTIME && package == "wgpu" && !dev && !optional {
            faults.push(format!("{arrow}: not optional"));
        }
        if rule.package == EXPORT
            && package == RUNTIME
            && (*default_features || features.iter().any(|f| f == "wgpu"))
        {
            faults.push(format!("{arrow}: with its wgpu feature"));
        }
    }
    faults
}

fn manifest(folder: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shared(root: &Table) -> Table {
    let shared = root.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    shared.cloned().unwrap_or_default()
}

#[test]
fn no_arrow_points_the_wrong_way() {
    let shared = shared(&manifest("."));
    assert!(!shared.is_empty(), "the workspace shares its dependencies");
    let faults: Vec<String> =
        RULES.iter().flat_map(|rule| check(rule, &manifest(rule.folder), &shared)).collect();
    assert!(faults.is_empty(), "forbidden arrows:\n{}", faults.join("\n"));
}

#[test]
fn every_member_has_a_rule() {
    let root = manifest(".");
    let members = root.get("workspace").and_then(|w| w.get("members")).and_then(Value::as_array).unwrap();
    let members: Vec<&str> = members.iter().filter_map(Value::as_str).collect();
    let ruled: Vec<&str> = RULES.iter().map(|r| r.folder).filter(|f| *f != ".").collect();
    assert_eq!(members, ruled, "a new crate needs a rule in tests/arrows.rs");
}

#[test]
fn the_runtime_has_wgpu_behind_a_feature_of_that_name() {
    let runtime = manifest("runtime");
    let feature = runtime.get("features").and_then(|f| f.get("wgpu")).and_then(Value::as_array).unwrap();
    assert!(feature.iter().any(|f| f.as_str() == Some("dep:wgpu")));
}

/// The check must be able to fail: one bad manifest for each thing it forbids.
#[test]
fn each_forbidden_arrow_is_found() {
    let shared: Table = r#"
        masktas-runtime = { path = "runtime", default-features = false }
        masktas-search = { path = "search" }
        brennen = { package = "burn", version = "1" }
    "#
    .parse()
    .unwrap();
    let faults = |package: &str, rest: &str| {
        let rule = RULES.iter().find(|r| r.package == package).unwrap();
        let text = format!("[package]\nname = \"{package}\"\n{rest}");
        check(rule, &text.parse().unwrap(), &shared)
    };
    for (package, rest, expected) in [
        (RUNTIME, "[dependencies]\nburn = '1'", "masktas-runtime -> burn"),
        (RUNTIME, "[dependencies]\ntract-onnx = '1'", "masktas-runtime -> tract-onnx"),
        (RUNTIME, "[dev-dependencies]\nort = '1'", "masktas-runtime -> ort (tests)"),
        (RUNTIME, "[build-dependencies]\ntokio = '1'", "masktas-runtime -> tokio"),
        (RUNTIME, "[dependencies]\nwgpu = '1'", "masktas-runtime -> wgpu: not optional"),
        (
            RUNTIME,
            "[dev-dependencies]\nmasktas-export.path = '../export'",
            "masktas-runtime -> masktas-export (tests)",
        ),
        (EXPORT, "[dependencies]\nwgpu = { version = '1', optional = true }", "masktas-export -> wgpu"),
        (EXPORT, "[dependencies]\nmasktas-search.workspace = true", "masktas-export -> masktas-search"),
        (
            EXPORT,
            "[dependencies]\nmasktas-runtime = { workspace = true, features = ['wgpu'] }",
            "masktas-export -> masktas-runtime: with its wgpu feature",
        ),
        (
            EXPORT,
            "[dependencies]\nmasktas-runtime.path = '../runtime'",
            "masktas-export -> masktas-runtime: with its wgpu feature",
        ),
        (DEVICES, "[target.'cfg(unix)'.dependencies]\nburn-tensor = '1'", "masktas-devices -> burn-tensor"),
        (DEVICES, "[dependencies]\nbrennen.workspace = true", "masktas-devices -> burn"),
        (
            DEVICES,
            "[dependencies]\nx = { package = 'burn-ndarray', version = '1' }",
            "masktas-devices -> burn-ndarray",
        ),
        (DEVICES, "[dependencies]\nmasktas-export.path = '../export'", "masktas-devices -> masktas-export"),
        (SEARCH, "[dependencies]\nclap = '4'", "masktas-search -> clap"),
        (SEARCH, "[dependencies]\nmasktas.path = '..'", "masktas-search -> masktas"),
        ("masktas", "[dependencies]\nwgpu = '1'", "masktas -> wgpu"),
        ("masktas", "[dev-dependencies]\nburn = '1'", "masktas -> burn (tests)"),
    ] {
        assert_eq!(faults(package, rest), [expected], "{rest}");
    }
    for (package, rest) in [
        (RUNTIME, "[dependencies]\nwgpu = { version = '1', optional = true }"),
        (EXPORT, "[dependencies]\nmasktas-runtime.workspace = true"),
        (DEVICES, "[dev-dependencies]\nmasktas-export.path = '../export'"),
        (DEVICES, "[dependencies]\nort = '2'\ntract-onnx = '1'\nmasktas-runtime.workspace = true"),
        (SEARCH, "[dependencies]\nburn = '1'\nburner = '1'"),
    ] {
        assert!(faults(package, rest).is_empty(), "{rest}");
    }
    assert_eq!(faults(EXPORT, "[dependencies]\nnagare = '1'\northo = '1'"), Vec::<String>::new());
}
