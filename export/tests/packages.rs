//! What lies on the user's disk in the end.

use std::sync::OnceLock;

use masktas_export::package::{arch_of, describe, golden_path, sha256};
use masktas_export::{
    Arch, Batch, Golden, Labels, LowerOptions, Package, Provenance, VitArch, VitBlock, Weights, lower,
};
use masktas_runtime::onnx::read_file;
use masktas_runtime::{Graph, Interpolation, Preprocess, Tensor, Tolerance};
use proptest::prelude::*;

fn arch() -> Arch {
    let blocks = vec![VitBlock { heads: 1, hidden: 3 }];
    Arch::Vit(VitArch { image: 4, patch: 2, embed: 4, head_dim: 2, blocks, relative: None })
}

fn graph(batch: Batch) -> Graph {
    let weights = Weights::random(&arch(), None, 1).unwrap();
    lower(&arch(), Some(&weights), &LowerOptions { batch, ..Default::default() }).unwrap()
}

fn pair(rows: usize) -> (Tensor, Tensor) {
    let input = Tensor::f32([rows, 3, 4, 4], vec![0.25; rows * 48]).unwrap();
    (input, Tensor::f32([rows, 4], vec![1.5; rows * 4]).unwrap())
}

#[test]
fn a_package_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let preprocess = Preprocess {
        resize: 5,
        crop: 4,
        mean: [0.5; 3],
        std: [0.25; 3],
        interpolation: Interpolation::Bilinear,
        labels: Some(vec!["a \"quoted\" shoe".into(), "Hut".into()]),
    };
    let provenance = Provenance {
        labels: Labels::None,
        run: Some("r1".into()),
        recipe: Some("masktas".into()),
        teacher: None,
    };
    let mut graph = graph(Batch::Fixed(1));
    describe(&mut graph, &arch(), &preprocess, &provenance).unwrap();
    let (input, output) = pair(1);
    let write = || {
        Package::write(folder.path(), "net", &graph, input.clone(), output.clone(), Tolerance::F32).unwrap()
    };
    let package = write();
    let first = (std::fs::read(&package.model).unwrap(), std::fs::read(&package.golden).unwrap());
    assert_eq!(package.golden, folder.path().join("net.golden.safetensors"));
    assert_eq!(golden_path(&package.model), package.golden);
    assert_eq!(package.bytes, first.0.len() as u64);

    let read = read_file(&package.model).unwrap();
    assert_eq!(read, graph);
    assert_eq!(Preprocess::read_from(&read.metadata).unwrap(), preprocess);
    assert_eq!(Provenance::read_from(&read.metadata).unwrap(), provenance);
    assert_eq!(arch_of(&read).unwrap(), Some(arch()));

    let golden = Golden::load(&package.golden).unwrap();
    assert_eq!((&golden.input, &golden.output), (&input, &output));
    assert_eq!((golden.input_name.as_str(), golden.output_name.as_str()), ("pixels", "features"));
    assert_eq!(golden.tolerance, Tolerance::F32);
    golden.check_model(&first.0).unwrap();
    let other = golden.check_model(b"other").unwrap_err().to_string();
    assert!(other.contains(&package.sha256) && other.contains(&sha256(b"other")), "{other}");

    write();
    assert_eq!(first, (std::fs::read(&package.model).unwrap(), std::fs::read(&package.golden).unwrap()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_dynamic_batch_takes_the_size_of_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = pair(3);
    Package::write(folder.path(), "net", &graph(Batch::Dynamic), input, output, Tolerance::F32).unwrap();
}

#[test]
fn pairs_that_do_not_fit_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |graph: &Graph, input: Tensor, output: Tensor| {
        Package::write(folder.path(), "net", graph, input, output, Tolerance::F32).unwrap_err().to_string()
    };
    let fixed = graph(Batch::Fixed(1));
    let (input, output) = pair(2);
    let message = write(&fixed, input, output);
    assert!(
        message.contains("the input: it is F32 [2, 3, 4, 4]") && message.contains("[1, 3, 4, 4]"),
        "{message}"
    );
    let message = write(&graph(Batch::Dynamic), pair(2).0, pair(1).1);
    assert!(message.contains("the output: it is F32 [1, 4]") && message.contains("[2, 4]"), "{message}");
    let broken = Tensor::f32([1, 4], vec![0.0, f32::NAN, 0.0, 0.0]).unwrap();
    assert!(write(&fixed, pair(1).0, broken).contains("the output: element 1 of 4 is not finite"));
    let unset = lower(&arch(), None, &LowerOptions::default()).unwrap();
    assert!(write(&unset, pair(1).0, pair(1).1).contains("has no elements"));
    for name in ["", "../net", "a/b", ".hidden"] {
        let (input, output) = pair(1);
        assert!(
            Package::write(folder.path(), name, &fixed, input, output, Tolerance::F32).is_err(),
            "{name}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn broken_golden_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = pair(1);
    let package =
        Package::write(folder.path(), "net", &graph(Batch::Fixed(1)), input, output, Tolerance::F32).unwrap();
    let good = std::fs::read(&package.golden).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&package.golden, bytes).unwrap();
        Golden::load(&package.golden).unwrap_err().to_string()
    };
    for cut in 0..good.len() {
        refused(&good[..cut]);
    }
    let text = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    assert!(refused(&text("masktas.golden", "masktas.silver")).contains("no metadata key 'masktas.golden'"));
    assert!(
        refused(&text("version\\\":1", "version\\\":2"))
            .contains("golden version 2, but this program knows 1")
    );
    assert!(refused(&text("\"output\"", "\"outbut\"")).contains("no tensor 'output'"));
    assert!(refused(b"").contains("net.golden.safetensors"));
}

proptest! {
    /// Whatever the bytes of a golden or weight file: an answer or an error.
    #[test]
    fn changed_files_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = GOOD.get_or_init(|| {
            let (input, output) = pair(1);
            let graph = graph(Batch::Fixed(1));
            let package = Package::write(folder.path(), "net", &graph, input, output, Tolerance::F32).unwrap();
            std::fs::read(package.golden).unwrap()
        }).clone();
        for (at, byte) in edits {
            // Mostly in the header, where a byte means most.
            let at = at.index(bytes.len().min(600));
            bytes[at] = byte;
        }
        let path = folder.path().join("changed");
        std::fs::write(&path, &bytes).unwrap();
        let _ = Golden::load(&path);
        let _ = Weights::load(&path);
    }
}

#[test]
fn metadata_that_lies_is_refused() {
    let mut graph = graph(Batch::Fixed(1));
    assert_eq!(arch_of(&graph).unwrap(), None);
    assert_eq!(Provenance::read_from(&graph.metadata).unwrap().labels, Labels::Unknown);
    graph.metadata.insert("masktas.labels".into(), "some".into());
    assert!(Provenance::read_from(&graph.metadata).unwrap_err().to_string().contains("'some' is not none"));
    graph.metadata.insert("masktas.arch".into(), "{}".into());
    assert!(arch_of(&graph).unwrap_err().to_string().contains("masktas.arch"));
    let json = serde_json::to_string(&arch()).unwrap().replace("\"patch\":2", "\"patch\":0");
    graph.metadata.insert("masktas.arch".into(), json);
    assert!(arch_of(&graph).unwrap_err().to_string().contains("patch side in pixels is 0"));
}
