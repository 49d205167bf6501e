//! Lowering against closed formulas: shapes, parameters, FLOPs, names, determinism.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use masktas_export::weights::names_and_shapes;
use masktas_export::{Arch, Batch, Head, LowerOptions, VitArch, VitBlock, Weights, lower, onnx};
use masktas_runtime::{Data, Dtype};
use proptest::prelude::*;

fn micro() -> VitArch {
    let blocks = vec![VitBlock { heads: 2, hidden: 192 }, VitBlock { heads: 4, hidden: 480 }];
    VitArch { image: 32, patch: 4, embed: 96, head_dim: 32, blocks, relative: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every shape follows, with and without weights, and the two graphs differ in elements only.
    #[test]
    fn every_network_has_shapes(arch in common::arch(), options in common::options(), batch in 1usize..4) {
        let classes = options.head.classes();
        let model = Arch::Vit(arch.clone());
        let weights = Weights::random(&model, classes, 7).unwrap();
        let empty = lower(&model, None, &options).unwrap();
        let full = lower(&model, Some(&weights), &options).unwrap();
        full.check_weights().unwrap();
        prop_assert_eq!(&empty.nodes, &full.nodes);
        let kinds = |g: &masktas_runtime::Graph| -> Vec<_> {
            g.constants.iter().map(|(n, t)| (n.clone(), t.dtype(), t.shape().to_vec())).collect()
        };
        prop_assert_eq!(kinds(&empty), kinds(&full));
        let symbols = BTreeMap::from([("N".to_owned(), batch)]);
        let shapes = empty.shapes(&symbols).unwrap();
        let rows = if let Batch::Fixed(fixed) = options.batch { fixed } else { batch };
        let output = &empty.outputs[0].name;
        prop_assert_eq!(&shapes[output], &(Dtype::F32, vec![rows, classes.unwrap_or(arch.embed)]));
    }

    #[test]
    fn parameters_agree_with_the_closed_formula(arch in common::arch(), classes in prop::option::of(1usize..9)) {
        let listed: u64 = names_and_shapes(&arch, classes).iter().map(|(_, s)| s.iter().product::<usize>() as u64).sum();
        prop_assert_eq!(listed, arch.parameters(classes));
        let model = Arch::Vit(arch);
        let weights = Weights::random(&model, classes, 3).unwrap();
        prop_assert_eq!(weights.parameters(), listed);
        weights.check(&model, classes).unwrap();
    }

    #[test]
    fn flops_agree_with_the_features(arch in common::arch(), classes in prop::option::of(1usize..9)) {
        let head = classes.map_or(Head::Features, |classes| Head::Classifier { classes });
        let graph = lower(&Arch::Vit(arch.clone()), None, &LowerOptions { head, ..Default::default() }).unwrap();
        let counted = graph.features().unwrap().get("total.flops").unwrap();
        let classifier = classes.map_or(0, |c| 2 * arch.embed * c) as u64;
        prop_assert_eq!(counted, (arch.flops() + classifier) as f64);
    }
}

/// AutoFormer-T as published: 1.3 G multiply-adds.
#[test]
fn flops_of_a_published_net() {
    let ratios = [3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5];
    let heads = [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3];
    let blocks =
        ratios.iter().zip(heads).map(|(r, heads)| VitBlock { heads, hidden: (192.0 * r) as usize }).collect();
    let arch = VitArch { image: 224, patch: 16, embed: 192, head_dim: 64, blocks, relative: None };
    let giga = arch.flops() as f64 / 2e9;
    assert!((1.25..1.35).contains(&giga), "{giga}");
}

/// The largest space of the house, lowered without weights, takes no memory for its constants.
#[test]
fn lowering_without_weights_allocates_no_constants() {
    let blocks = vec![VitBlock { heads: 10, hidden: 2560 }; 16];
    let arch = VitArch { image: 224, patch: 16, embed: 640, head_dim: 64, blocks, relative: Some(14) };
    let graph = lower(&Arch::Vit(arch), None, &LowerOptions::default()).unwrap();
    assert_eq!(graph.constants["relative.two_hot"].shape(), [197, 197, 60]);
    let held: usize = graph.constants.values().filter_map(|t| t.data().len()).sum();
    assert!(held < 100, "{held} elements");
}

#[test]
fn operators_are_those_of_the_operator_set() {
    let operators = |opset| -> BTreeSet<String> {
        let options = LowerOptions { opset, ..Default::default() };
        let graph = lower(&Arch::Vit(micro()), None, &options).unwrap();
        graph.nodes.iter().map(|node| node.op.clone()).collect()
    };
    assert!(operators(20).contains("Gelu") && !operators(20).contains("Erf"));
    assert!(operators(17).contains("Erf") && !operators(17).contains("Gelu"));
    assert!(!operators(20).contains("Shape"), "a fixed batch needs no shape arithmetic");
    let refused = lower(&Arch::Vit(micro()), None, &LowerOptions { opset: 19, ..Default::default() });
    assert_eq!(refused.unwrap_err().to_string(), "operator set 19 is not supported; use 17, 20 or 23");
}

#[test]
fn qkv_is_cut_into_rows_of_q_then_k_then_v() {
    let arch = VitArch {
        image: 2,
        patch: 1,
        embed: 3,
        head_dim: 2,
        blocks: vec![VitBlock { heads: 2, hidden: 1 }],
        relative: None,
    };
    let model = Arch::Vit(arch);
    let weights = Weights::random(&model, None, 1).unwrap();
    let graph = lower(&model, Some(&weights), &LowerOptions::default()).unwrap();
    let fused = weights.tensors["blocks.0.attn.qkv.weight"].as_f32().unwrap();
    let bias = weights.tensors["blocks.0.attn.qkv.bias"].as_f32().unwrap();
    for (place, letter) in ["q", "k", "v"].iter().enumerate() {
        let own = graph.constants[&format!("blocks.0.attn.{letter}.weight")].as_f32().unwrap();
        for out in 0..4 {
            for inner in 0..3 {
                assert_eq!(own[inner * 4 + out], fused[(place * 4 + out) * 3 + inner]);
            }
        }
        assert_eq!(
            graph.constants[&format!("blocks.0.attn.{letter}.bias")].as_f32().unwrap(),
            &bias[place * 4..][..4]
        );
    }
}

#[test]
fn impossible_networks_are_refused_with_both_numbers() {
    let refused = |change: fn(&mut VitArch)| {
        let mut arch = micro();
        change(&mut arch);
        lower(&Arch::Vit(arch), None, &LowerOptions::default()).unwrap_err().to_string()
    };
    let message = refused(|a| a.patch = 5);
    assert!(
        message.contains("patch side in pixels is 5, but must be a divisor of the image side 32"),
        "{message}"
    );
    assert!(refused(|a| a.patch = 0).contains("is 0"));
    assert!(refused(|a| a.embed = 0).contains("embedding width is 0"));
    assert!(refused(|a| a.blocks[1].heads = 0).contains("heads of block 1 is 0"));
    assert!(refused(|a| a.blocks[0].hidden = usize::MAX).contains("hidden width of block 0"));
    assert!(refused(|a| a.relative = Some(0)).contains("clip"));
    assert!(refused(|a| (a.image, a.patch) = (16384, 1)).contains("number of tokens is 268435457"));
    let options = LowerOptions { batch: Batch::Fixed(0), ..Default::default() };
    assert!(lower(&Arch::Vit(micro()), None, &options).unwrap_err().to_string().contains("the batch is 0"));
}

#[test]
fn wrong_weights_are_named() {
    let model = Arch::Vit(micro());
    let good = Weights::random(&model, Some(10), 1).unwrap();
    good.check(&model, Some(10)).unwrap();
    let lowered = |weights: &Weights| lower(&model, Some(weights), &LowerOptions::default()).map(drop);
    // An unused classifier is no reason to refuse.
    lowered(&good).unwrap();

    let mut missing = good.clone();
    missing.tensors.remove("blocks.1.norm2.bias");
    let message = lowered(&missing).unwrap_err().to_string();
    assert!(message.contains("no tensor 'blocks.1.norm2.bias' of shape [96]"), "{message}");

    let mut extra = good.clone();
    let stray = extra.tensors["norm.bias"].clone();
    extra.tensors.insert("decoder.bias".into(), stray);
    assert!(lowered(&extra).unwrap_err().to_string().contains("'decoder.bias' of shape [96] has no place"));

    let mut wrong = good;
    let stray = wrong.tensors["norm.bias"].clone();
    wrong.tensors.insert("pos_embed".into(), stray);
    let message = lowered(&wrong).unwrap_err().to_string();
    assert!(
        message.contains("'pos_embed' is F32 [96], but the architecture needs F32 [1, 65, 96]"),
        "{message}"
    );
}

#[test]
fn random_weights_are_deterministic_and_lively() {
    let model = Arch::Vit(VitArch { relative: Some(3), ..micro() });
    let weights = Weights::random(&model, Some(10), 5).unwrap();
    assert_eq!(weights, Weights::random(&model, Some(10), 5).unwrap());
    assert_ne!(weights, Weights::random(&model, Some(10), 6).unwrap());
    for (name, tensor) in &weights.tensors {
        let values = tensor.as_f32().unwrap();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(spread > 1e-4, "{name} is nearly constant");
    }
    let all = weights.tensors["blocks.1.mlp.fc1.weight"].as_f32().unwrap();
    let variance = all.iter().map(|v| v * v).sum::<f32>() / all.len() as f32;
    assert!((variance * 96.0 - 1.0).abs() < 0.03, "{}", variance * 96.0);
}

#[test]
fn weights_survive_a_file_and_broken_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let weights = Weights::random(&Arch::Vit(micro()), None, 2).unwrap();
    weights.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(Weights::load(&path).unwrap(), weights);
    weights.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same weights give the same bytes");
    for cut in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let message = Weights::load(&path).unwrap_err().to_string();
        assert!(message.contains("w.safetensors: not a safetensors file"), "{message}");
    }
    assert!(Weights::load(&folder.path().join("none")).unwrap_err().to_string().contains("cannot read"));
}

/// Node names are readable and unique, and the bytes of a file do not change from run to run.
#[test]
fn names_and_bytes_are_stable() {
    let model = Arch::Vit(VitArch { relative: Some(3), ..micro() });
    let weights = Weights::random(&model, None, 1).unwrap();
    let graph = lower(&model, Some(&weights), &LowerOptions::default()).unwrap();
    for name in
        ["patch_embed", "blocks.1.attn.q", "blocks.1.attn.softmax", "blocks.0.mlp.gelu", "norm", "features"]
    {
        assert!(graph.nodes.iter().any(|node| node.name == name), "{name}");
    }
    let again = lower(&model, Some(&weights), &LowerOptions::default()).unwrap();
    assert_eq!(onnx::write(&graph).unwrap(), onnx::write(&again).unwrap());
    let unset = lower(&model, None, &LowerOptions::default()).unwrap();
    assert!(onnx::write(&unset).unwrap_err().to_string().contains("has no elements"));
    assert!(unset.constants.values().any(|t| matches!(t.data(), Data::Unset(_))));
}
