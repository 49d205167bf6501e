use super::*;

fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("masktas.toml");
    std::fs::write(&path, text).expect("write");
    (folder, path)
}

fn load(text: &str) -> Result<Recipe> {
    let (_folder, path) = file(text);
    Recipe::load(None, Some(&path), &[])
}

fn set(sets: &[&str]) -> Result<Recipe> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::load(None, None, &sets)
}

fn message(result: Result<Recipe>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn every_recipe_reads_and_says_whether_it_is_whole() {
    for (name, _) in RECIPES {
        let recipe = Recipe::load(Some(name), None, &[]).expect(name);
        assert_eq!(recipe.recipe, name);
        if ["masktas", "ssnenas", "seminas"].contains(&name) {
            recipe.built().expect(name);
        } else {
            let error = recipe.built().expect_err(name).to_string();
            assert!(error.contains("not built yet") && error.contains(name), "{error}");
            // What the error says to do next works.
            let words: Vec<&str> =
                error.split_once("use --recipe ").expect(name).1.split_whitespace().collect();
            let pairs = words.windows(2).filter(|pair| pair[0] == "--set");
            let sets: Vec<String> = pairs.map(|pair| pair[1].to_owned()).collect();
            assert!(!sets.is_empty(), "{error}");
            let recipe = Recipe::load(Some(name), None, &sets).expect(name);
            recipe.built().expect(name);
            assert_eq!(recipe.recipe, name);
        }
    }
}

#[test]
fn layers_override_in_order() {
    let (_folder, path) = file("recipe = \"csnas\"\nseed = 7\n[supernet]\nepochs = 3\nbatch = 8\n");
    let recipe = Recipe::load(None, Some(&path), &["supernet.epochs=4".to_owned()]).expect("loads");
    assert_eq!((recipe.recipe.as_str(), recipe.seed), ("csnas", 7));
    assert_eq!((recipe.supernet.epochs, recipe.supernet.batch), (4, 8));
    assert_eq!(recipe.objective.name, "contrastive");
    assert_eq!(recipe.supernet.learning_rate, set(&[]).expect("default").supernet.learning_rate);
    let other = Recipe::load(Some("masktas"), Some(&path), &[]).expect("loads");
    assert_eq!((other.recipe.as_str(), other.objective.name.as_str()), ("masktas", "masked-distillation"));
    assert_eq!(other.supernet.epochs, 3);
}

#[test]
fn an_unknown_key_names_file_line_and_the_right_word() {
    let error = message(load("seed = 1\n\n[supernet]\nepcohs = 3\n"));
    assert!(error.contains("masktas.toml:4"), "{error}");
    assert!(error.contains("`supernet.epcohs`") && error.contains("did you mean `epochs`"), "{error}");
    let error = message(load("temperature = 3\n"));
    assert!(error.contains("`objective.temperature` or `score.temperature`"), "{error}");
    let error = message(set(&["supernett.epochs=3"]));
    assert!(error.contains("did you mean `supernet`"), "{error}");
    let error = message(Recipe::load(Some("masktaz"), None, &[]));
    assert!(error.contains("did you mean `masktas`"), "{error}");
}

#[test]
fn wrong_types_and_values_name_the_key() {
    let cases = [
        ("[supernet]\nepochs = \"many\"\n", "`supernet.epochs` takes integer, not string"),
        ("[supernet]\nepochs = 0\n", "supernet.epochs"),
        ("[supernet]\nepochs = -1\n", "epochs"),
        ("[supernet]\nsampling = \"sandwitch\"\n", "sandwich"),
        ("[supernet]\nmask_ratio = 1.0\n", "supernet.mask_ratio"),
        ("[supernet]\nmask_ratio = nan\n", "supernet.mask_ratio"),
        ("[data]\nval = 0.6\ntest = 0.5\n", "data.val + data.test"),
        ("[teacher]\nheads = 5\n", "5 heads do not divide a width of 192"),
        ("[teacher]\nname = \"file\"\n", "teacher.path"),
        ("[teacher]\npath = \"a.safetensors\"\n", "add --set teacher.name=file"),
        ("[latency]\nsamples = 9\n", "latency.samples: 9 is not at least 10"),
        ("supernet = 3\n", "`supernet` takes table"),
        ("[supernet\n", "masktas.toml:1"),
        ("[objective]\npixel = 0\nfeature = 0\nrelation = 0\n", "sum of the objective's weights"),
    ];
    for (text, expected) in cases {
        let error = message(load(text));
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn overrides_take_words_numbers_and_lists() {
    let recipe = set(&[
        "data.path=2024",
        "sampler.name=random",
        "budget.latency=5ms",
        "supernet.in_place=0",
        "latency.engines=[\"tract\"]",
    ])
    .expect("loads");
    assert_eq!(recipe.data.path.as_deref(), Some(Path::new("2024")));
    assert_eq!(recipe.sampler.name, "random");
    assert_eq!(recipe.budget.latency.as_deref(), Some("5ms"));
    assert_eq!(recipe.supernet.in_place, 0.0);
    assert_eq!(recipe.latency.engines, ["tract"]);
    assert!(message(set(&["seed"])).contains("write --set"));
    assert!(message(set(&["recipe=dna"])).contains("--recipe dna"));
}

#[test]
fn paths_in_a_file_start_from_its_folder() {
    let (folder, path) = file("[data]\npath = \"photos\"\n[space]\nname = \"mine.toml\"\n");
    let recipe = Recipe::load(None, Some(&path), &[]).expect("loads");
    assert_eq!(recipe.data.path, Some(folder.path().join("photos")));
    assert_eq!(recipe.space.name, folder.path().join("mine.toml").display().to_string());
}

#[test]
fn what_took_effect_is_written_and_read_back() {
    let recipe =
        set(&["budget.latency=5ms", "data.path=photos", "supernet.sampling=uniform"]).expect("loads");
    let text = recipe.to_toml().expect("writes");
    assert_eq!(Recipe::from_toml("run.toml", &text).expect("reads"), recipe);
    let error = message(Recipe::from_toml("run.toml", &text.replace("mask_ratio", "mask_rate")));
    assert!(error.contains("mask_rate"), "{error}");
}

/// The check of keys reads the default file, serde reads the structs: they must agree.
#[test]
fn schema_and_structs_have_the_same_keys() {
    let schema = schema().expect("schema");
    let full: Recipe =
        Value::Table(schema.clone()).try_into().expect("every key of the schema is known to serde");
    let back = Table::try_from(&full).expect("table");
    fn keys(table: &Table, prefix: &str, out: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => keys(inner, &format!("{prefix}{key}."), out),
                _ => out.push(format!("{prefix}{key}")),
            }
        }
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    keys(&schema, "", &mut a);
    keys(&back, "", &mut b);
    assert_eq!(a, b);
}

#[test]
fn overrides_of_a_whole_recipe_change_what_they_name_alone() {
    let recipe = Recipe::load(None, None, &["budget.latency=5ms".to_owned()]).unwrap();
    let other = recipe.with(&["latency.target=pi5".to_owned(), "budget.latency=9ms".to_owned()]).unwrap();
    assert_eq!(other.latency.target, "pi5");
    assert_eq!(other.budget.latency.as_deref(), Some("9ms"));
    assert_eq!(other.other_supernet(&recipe).unwrap(), None, "neither device nor budget trains");
    assert_eq!(recipe.with(&[]).unwrap(), recipe);
    let other = recipe.with(&["supernet.epochs=7".to_owned(), "sampler.evaluations=9".to_owned()]).unwrap();
    let (key, ours, theirs) = other.other_supernet(&recipe).unwrap().unwrap();
    assert_eq!((key.as_str(), ours.as_str()), ("supernet.epochs", "7"));
    assert_ne!(theirs, ours);
    let error = recipe.with(&["supernet.epoch=7".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("did you mean `epochs`"), "{error}");
}
