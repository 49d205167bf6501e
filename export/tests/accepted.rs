//! The reference checker and ONNX Runtime accept every file, and it computes what the architecture means.
//!
//! Needs a Python with `onnx`, `onnxruntime` and `numpy`, named by `MASKTAS_PYTHON`; without, it says so and does
//! nothing, or fails where `MASKTAS_REQUIRE_ENGINES` is 1, as under `make test`.

use std::path::Path;
use std::process::Command;

use masktas_export::{Arch, Batch, Head, LowerOptions, VitArch, VitBlock, Weights, lower, onnx};
use masktas_runtime::Tensor;

fn block(heads: usize, hidden: usize) -> VitBlock {
    VitBlock { heads, hidden }
}

fn micro(relative: Option<usize>) -> VitArch {
    let blocks = vec![block(3, 192), block(2, 288), block(4, 384)];
    VitArch { image: 32, patch: 4, embed: 96, head_dim: 32, blocks, relative }
}

fn put(folder: &Path, name: &str, arch: VitArch, options: &LowerOptions) {
    let (rows, side) = (if let Batch::Fixed(rows) = options.batch { rows } else { 3 }, arch.image);
    let arch = Arch::Vit(arch);
    let weights = Weights::random(&arch, options.head.classes(), 11).unwrap();
    let mut graph = lower(&arch, Some(&weights), options).unwrap();
    graph.metadata.insert("masktas.arch".into(), serde_json::to_string(&arch).unwrap());
    std::fs::write(folder.join(format!("{name}.onnx")), onnx::write(&graph).unwrap()).unwrap();
    weights.save(&folder.join(format!("{name}.weights.safetensors"))).unwrap();
    let count = rows * 3 * side * side;
    let pixels: Vec<f32> = (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    let input =
        Weights { tensors: [("input".into(), Tensor::f32([rows, 3, side, side], pixels).unwrap())].into() };
    input.save(&folder.join(format!("{name}.input.safetensors"))).unwrap();
}

#[test]
fn checker_and_onnx_runtime_accept_every_style() {
    let Ok(python) = std::env::var("MASKTAS_PYTHON") else {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, and MASKTAS_PYTHON is not set; run `make test`");
        eprintln!("skipped: MASKTAS_PYTHON names no Python with the ONNX checker; run `make test`");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for opset in [17, 20, 23] {
        for (label, batch) in [("one", Batch::Fixed(1)), ("two", Batch::Fixed(2)), ("any", Batch::Dynamic)] {
            for (kind, relative) in [("plain", None), ("relative", Some(3))] {
                let head = if label == "two" { Head::Classifier { classes: 10 } } else { Head::Features };
                let options = LowerOptions { batch, head, opset };
                put(folder.path(), &format!("{kind}-{opset}-{label}"), micro(relative), &options);
            }
        }
    }
    let wide = VitArch {
        image: 224,
        patch: 16,
        embed: 192,
        head_dim: 64,
        blocks: vec![block(3, 672), block(4, 576)],
        relative: Some(14),
    };
    put(folder.path(), "autoformer", wide, &LowerOptions::default());
    let least =
        VitArch { image: 1, patch: 1, embed: 1, head_dim: 1, blocks: vec![block(1, 1)], relative: Some(1) };
    put(folder.path(), "least", VitArch { embed: 2, ..least.clone() }, &LowerOptions::default());
    put(folder.path(), "no-blocks", VitArch { embed: 5, blocks: vec![], ..least }, &LowerOptions::default());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accepted.py");
    let ran = Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{text}");
    assert!(text.contains("21 models accepted"), "{text}");
    eprintln!("{text}");
}
