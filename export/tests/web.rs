//! The folder of a page: what lies in it, what it costs, and which models have none.

use std::fs;

use masktas_export::package::{describe, sha256};
use masktas_export::{
    Arch, Batch, Error, Head, Labels, LowerOptions, Provenance, VitArch, VitBlock, Weights, lower, web,
};
use masktas_runtime::plan::Plan;
use masktas_runtime::{Graph, Interpolation, Preprocess};
use serde_json::Value;

/// A network for photos of 32 px whose blocks are of these heads and hidden widths in turn.
fn network(embed: usize, head_dim: usize, depth: usize, kinds: &[(usize, usize)]) -> Arch {
    let block = |(heads, hidden): &(usize, usize)| VitBlock { heads: *heads, hidden: *hidden };
    let blocks = kinds.iter().cycle().take(depth).map(block).collect();
    Arch::Vit(VitArch { image: 32, patch: 4, embed, head_dim, blocks, relative: None })
}

fn small() -> Arch {
    let blocks = vec![VitBlock { heads: 1, hidden: 12 }];
    Arch::Vit(VitArch { image: 8, patch: 4, embed: 8, head_dim: 4, blocks, relative: None })
}

fn classifier(arch: &Arch, classes: usize, batch: Batch) -> Graph {
    let weights = Weights::random(arch, Some(classes), 7).unwrap();
    let options = LowerOptions { batch, head: Head::Classifier { classes }, ..Default::default() };
    let mut graph = lower(arch, Some(&weights), &options).unwrap();
    let Arch::Vit(vit) = arch;
    let preprocess = Preprocess {
        resize: vit.image + 5,
        crop: vit.image,
        mean: [0.5, 0.4, 0.3],
        std: [0.25; 3],
        interpolation: Interpolation::Lanczos3,
        labels: Some((0..classes).map(|class| format!("class \"{class}\"")).collect()),
    };
    let provenance = Provenance { labels: Labels::Used, run: None, recipe: None, teacher: None };
    describe(&mut graph, arch, &preprocess, &provenance).unwrap();
    graph
}

#[test]
fn a_page_costs_less_than_100_kb_beside_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    // The largest members of two spaces, and members whose blocks differ as much as they can there.
    let cases = [
        ("vit-micro", network(160, 32, 8, &[(4, 640)])),
        ("vit-tiny", network(192, 64, 12, &[(3, 768)])),
        (
            "vit-micro, mixed",
            network(160, 32, 8, &[(2, 320), (3, 480), (4, 640), (4, 320), (2, 480), (3, 640)]),
        ),
        (
            "vit-tiny, mixed",
            network(192, 64, 12, &[(2, 576), (3, 672), (2, 768), (3, 576), (2, 672), (3, 768)]),
        ),
    ];
    for (name, arch) in cases {
        let page = web::write(folder.path(), name, &classifier(&arch, 10, Batch::Fixed(1))).unwrap();
        // Of the two plans a browser fetches the one that it can use.
        let least = web::PLANS.iter().map(|(.., file)| page.files[*file]).min().unwrap();
        let fetched = page.overhead() - least;
        println!("{name}: at most {fetched} bytes besides {} of weights", page.files[web::WEIGHTS]);
        assert!(fetched < 100_000, "{name}: {fetched} bytes: {:?}", page.files);
    }
}

#[test]
fn the_folder_holds_what_a_page_needs_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep/page");
    let graph = classifier(&small(), 3, Batch::Dynamic);
    let page = web::write(&folder, "small", &graph).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, page.files.keys().cloned().collect::<Vec<_>>());
    for (name, bytes) in &page.files {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().len(), *bytes);
    }

    let model: Value = serde_json::from_slice(&fs::read(folder.join("model.json")).unwrap()).unwrap();
    assert_eq!(model["version"], 1);
    assert_eq!(model["name"], "small");
    assert_eq!(model["labels"][2], "class \"2\"");
    assert_eq!(model["labels_seen"], "used");
    assert_eq!(model["preprocess"]["resize"], 13);
    assert_eq!(model["preprocess"]["interpolation"], "lanczos3");
    let weights = fs::read(folder.join(web::WEIGHTS)).unwrap();
    assert_eq!(model["weights"]["sha256"], sha256(&weights));
    assert_eq!(model["weights"]["bytes"], weights.len());
    for (class, key, file) in web::PLANS {
        assert_eq!(model["plans"][key], file);
        let plan = Plan::read(&fs::read(folder.join(file)).unwrap(), weights.clone()).unwrap();
        assert_eq!(plan.target.class, class);
        assert!(!plan.target.subgroups && !plan.target.f16, "a page is for every WebGPU device");
        assert_eq!(plan.inputs[0].shape, [1, 3, 8, 8]);
        assert_eq!(plan.outputs[0].shape, [1, 3]);
        // Directives would ask for features that the page does not request of the browser.
        assert!(plan.kernels.iter().all(|text| !text.contains("enable ")));
    }

    // Again, for another model: its files take the places of the first one's, others stay.
    fs::write(folder.join("CNAME"), "example.org").unwrap();
    web::write(&folder, "other", &classifier(&small(), 4, Batch::Fixed(1))).unwrap();
    let model: Value = serde_json::from_slice(&fs::read(folder.join("model.json")).unwrap()).unwrap();
    assert_eq!((&model["name"], model["labels"].as_array().unwrap().len()), (&"other".into(), 4));
    assert_eq!(fs::read_to_string(folder.join("CNAME")).unwrap(), "example.org");
}

/// Whatever a page refers to lies beside it.
#[test]
fn a_page_names_only_files_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let page = web::write(folder.path(), "small", &classifier(&small(), 3, Batch::Fixed(1))).unwrap();
    let mut named = 0;
    for (file, quote) in [("index.html", '"'), ("page.js", '\''), ("pixels.js", '\''), ("player.js", '\'')] {
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(!text.contains("http:") || text.contains("http://localhost"), "{file} names another host");
        for word in
            text.split(quote).skip(1).step_by(2).filter(|w| w.ends_with(".js") || w.ends_with(".json"))
        {
            assert!(page.files.contains_key(word.trim_start_matches("./")), "{file} names {word}");
            named += 1;
        }
    }
    assert!(named >= 4, "{named}");
}

#[test]
fn models_that_take_no_photo_are_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |graph: &Graph| web::write(&folder.path().join("page"), "x", graph).unwrap_err();
    let batch = refused(&classifier(&small(), 3, Batch::Fixed(2)));
    assert!(matches!(batch, Error::InvalidPage { .. }));
    let text = batch.to_string();
    assert!(text.contains("[2, 3, 8, 8]") && text.contains("[1, 3, 8, 8]"), "{text}");

    let mut names = classifier(&small(), 3, Batch::Fixed(1));
    names.metadata.insert("masktas.classes".into(), "[\"one\",\"two\"]".into());
    let text = refused(&names).to_string();
    assert!(text.contains("3 numbers") && text.contains("2 classes"), "{text}");

    let mut bilinear = classifier(&small(), 3, Batch::Fixed(1));
    bilinear.metadata.insert("masktas.preprocess.interpolation".into(), "bilinear".into());
    assert!(refused(&bilinear).to_string().contains("bilinear resizing"));

    let mut bare = classifier(&small(), 3, Batch::Fixed(1));
    bare.metadata.clear();
    assert!(refused(&bare).to_string().contains("masktas.preprocess.version"));

    let unset = lower(&small(), None, &LowerOptions::default()).map(|mut graph| {
        graph.metadata = classifier(&small(), 3, Batch::Fixed(1)).metadata;
        graph
    });
    assert!(matches!(refused(&unset.unwrap()), Error::Runtime(masktas_runtime::Error::Unset { .. })));
    assert!(!folder.path().join("page").exists(), "nothing is written of a model that is refused");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    fs::write(&taken, "").unwrap();
    let error = web::write(&taken, "x", &classifier(&small(), 3, Batch::Fixed(1))).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == taken), "{error}");
}

#[test]
fn a_folder_with_files_of_others_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = || web::write(folder, "x", &classifier(&small(), 3, Batch::Fixed(1)));
    let refused = |name: &str| {
        let error = write().unwrap_err();
        assert!(matches!(&error, Error::NotAPage { .. }), "{error}");
        assert!(error.to_string().contains(&format!("has {name}, ")), "{error}");
    };
    fs::write(folder.join("about.txt"), "mine").unwrap();
    refused("about.txt");
    fs::write(folder.join("index.html"), "mine").unwrap();
    refused("index.html");
    // Another program's model.json makes it no page of ours.
    fs::write(folder.join("model.json"), "{\"producer\":\"other 1\"}").unwrap();
    refused("index.html");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 3);
    assert_eq!(fs::read_to_string(folder.join("index.html")).unwrap(), "mine");
    for name in ["about.txt", "index.html", "model.json"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join(".git")).unwrap();
    write().unwrap();
    write().unwrap();
}
