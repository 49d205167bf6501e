//! Priors against published latencies of real vision transformers.

use masktas_devices::Error;
use masktas_devices::catalogue::{Catalogue, Precision, Prior, PriorOptions, Processor, prior};
use masktas_export::{Arch, LowerOptions, VitArch, VitBlock, lower};
use masktas_runtime::Features;

/// A plain vision transformer of 12 blocks on 224 pixels in patches of 16, as DeiT and ViT are.
fn vit(embed: usize) -> Features {
    let block = VitBlock { heads: embed / 64, hidden: embed * 4 };
    let arch =
        VitArch { image: 224, patch: 16, embed, head_dim: 64, blocks: vec![block; 12], relative: None };
    lower(&Arch::Vit(arch), None, &LowerOptions::default()).unwrap().features().unwrap()
}

fn how(processor: Processor, precision: Precision, threads: usize) -> PriorOptions {
    PriorOptions { processor, precision, threads, power_mode: None }
}

fn of(device: &str, embed: usize, options: &PriorOptions) -> Prior {
    prior(Catalogue::built_in().device(device).unwrap(), &vit(embed), options).unwrap()
}

/// How far the middle is from a published latency, at least 1; the range must hold it.
fn off(device: &str, embed: usize, options: &PriorOptions, published: f64) -> f64 {
    let prior = of(device, embed, options);
    eprintln!("{device}, width {embed}, published {published} ms: {prior}; {}", prior.assumes);
    assert!(prior.low < published && published < prior.high, "{device} {embed} {published}: {prior}");
    (published / prior.ms).max(prior.ms / published)
}

/// ViT-tiny under TensorRT in float16 (NetsPresso's table, JetPack 6.0, so before the Super clocks).
#[test]
fn an_orin_nano() {
    let options = PriorOptions { power_mode: Some("15W".into()), ..how(Processor::Gpu, Precision::Fp16, 0) };
    assert!(off("jetson-orin-nano", 192, &options, 3.12) < 2.0);
}

/// DeiT in three sizes on one large core of a Pixel 4 in float32 (qed-usc/mobile-ml-benchmark).
#[test]
fn one_large_core_of_a_phone() {
    for (embed, published) in [(192, 105.7), (384, 322.0), (768, 1162.1)] {
        assert!(off("snapdragon-855", embed, &how(Processor::Cpu, Precision::Fp32, 1), published) < 2.0);
    }
}

/// ViT-tiny under LiteRT (NetsPresso's table). Its float16 files are computed in float32, and its threads are not stated:
/// the middle is far off, and the range says so.
#[test]
fn raspberry_pis() {
    for (device, precision, published) in [
        ("pi5", Precision::Fp32, 305.55),
        ("pi5", Precision::Int8, 49.81),
        ("pi4", Precision::Fp32, 286.02),
        ("pi4", Precision::Int8, 197.06),
    ] {
        assert!(off(device, 192, &how(Processor::Cpu, precision, 4), published) < 8.0);
    }
}

/// The same against the data themselves, where they are: every setting of the two tables that is a ViT which can be
/// built here, on a device of the catalogue.
#[test]
fn the_published_tables() {
    let Some(data) = std::env::var_os("MASKTAS_DATA") else {
        eprintln!("skipped: MASKTAS_DATA is not set to the folder of published data");
        return;
    };
    let read = |name: &str| {
        let path = std::path::Path::new(&data).join("latency").join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let mut seen = 0;
    for row in read("vit_edge_anchors.csv").iter().filter(|row| row[0] == "ViT-tiny") {
        let (device, processor, mode) = match row[2].as_str() {
            "jetson-orin-nano (JP6.0)" => ("jetson-orin-nano", Processor::Gpu, Some("15W".to_owned())),
            "raspberry-pi-5" => ("pi5", Processor::Cpu, None),
            "raspberry-pi-4b" => ("pi4", Processor::Cpu, None),
            _ => continue,
        };
        let precision = match (processor, row[4].as_str()) {
            (_, "int8") => Precision::Int8,
            (Processor::Gpu, _) => Precision::Fp16,
            // LiteRT computes float16 files in float32 there.
            _ => Precision::Fp32,
        };
        let options = PriorOptions { power_mode: mode, ..how(processor, precision, 4) };
        off(device, 192, &options, row[6].parse().unwrap());
        seen += 1;
    }
    let phones = read("mobile_ml_benchmark/torch_vit_real.csv");
    let column = phones[0].iter().position(|name| name == "pixel4|1large|float|mean_ms").unwrap();
    for (model, embed) in [("tiny", 192), ("small", 384), ("base", 768)] {
        let name = format!("deit-{model}-distilled-patch16-224");
        let row = phones.iter().find(|row| row[0] == name).unwrap();
        let features = vit(embed);
        // Both count two for a multiply-add; the published nets have one more token.
        let published: f64 = row[1].parse().unwrap();
        assert!((features.get("total.flops").unwrap() / published - 1.0).abs() < 0.02, "{name}");
        let options = how(Processor::Cpu, Precision::Fp32, 1);
        off("snapdragon-855", embed, &options, row[column].parse().unwrap());
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn a_slower_setting_is_never_estimated_as_faster() {
    let gpu = |mode: Option<&str>| {
        let options = how(Processor::Gpu, Precision::Fp16, 0);
        of("jetson-orin-nano", 192, &PriorOptions { power_mode: mode.map(str::to_owned), ..options }).ms
    };
    assert!(gpu(None) <= gpu(Some("maxn_super")) && gpu(Some("MAXN_SUPER")) < gpu(Some("25W")));
    assert!(gpu(Some("25W")) < gpu(Some("15W")) && gpu(Some("15W")) < gpu(Some("7W")));
    let cpu = |precision, threads| of("snapdragon-8-gen-3", 192, &how(Processor::Cpu, precision, threads)).ms;
    let threads: Vec<f64> = (1..=9).map(|threads| cpu(Precision::Fp32, threads)).collect();
    assert!(threads.windows(2).all(|pair| pair[1] <= pair[0]), "{threads:?}");
    assert_eq!(threads[0], cpu(Precision::Fp32, 0), "the fastest cluster has one core");
    assert!(
        cpu(Precision::Int8, 1) < cpu(Precision::Fp16, 1)
            && cpu(Precision::Fp16, 1) < cpu(Precision::Fp32, 1)
    );
    for (small, large) in [(192, 384), (384, 768)] {
        let options = how(Processor::Gpu, Precision::Fp16, 0);
        let (a, b) = (of("jetson-agx-orin", small, &options), of("jetson-agx-orin", large, &options));
        assert!(a.ms < b.ms && a.low < b.low && a.high < b.high);
    }
}

#[test]
fn every_estimate_has_its_range_around_it_and_says_that_it_was_not_measured() {
    let catalogue = Catalogue::built_in();
    let features = vit(192);
    let mut made = 0;
    for device in catalogue.devices() {
        for processor in [Processor::Cpu, Processor::Gpu, Processor::Npu] {
            for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
                match prior(device, &features, &how(processor, precision, 0)) {
                    Ok(prior) => {
                        made += 1;
                        let sound = 0.0 < prior.low && prior.low <= prior.ms && prior.ms < prior.high;
                        assert!(sound && prior.high.is_finite(), "{} {prior}", device.name);
                        assert!(prior.to_string().contains("prior, not measured"));
                    }
                    Err(Error::NoPrior { device: name, what }) => {
                        assert_eq!(name, device.name);
                        assert!(
                            what.contains(&processor.to_string()) || what == "memory bandwidth",
                            "{what}"
                        );
                    }
                    Err(other) => panic!("{}: {other}", device.name),
                }
            }
        }
    }
    assert!(made > 80, "{made}");
}

#[test]
fn engines_and_providers_compute_where_they_say() {
    let of = |engine, provider| Processor::of(engine, provider);
    assert_eq!(of("tract", "cpu"), Some(Processor::Cpu));
    assert_eq!(of("wgpu", "Vulkan"), Some(Processor::Gpu));
    assert_eq!(of("ort", "CPUExecutionProvider"), Some(Processor::Cpu));
    assert_eq!(of("ort", "TensorrtExecutionProvider"), Some(Processor::Gpu));
    assert_eq!(of("ort", "QNNExecutionProvider"), Some(Processor::Npu));
    assert_eq!(of("ort", "CoreMLExecutionProvider"), None);
}

#[test]
fn what_is_not_known_is_refused() {
    let catalogue = Catalogue::built_in();
    let features = vit(192);
    let refused = |device: &str, options: &PriorOptions| {
        prior(catalogue.device(device).unwrap(), &features, options).unwrap_err().to_string()
    };
    let error = refused("pi4", &how(Processor::Cpu, Precision::Fp16, 4));
    assert!(error.contains("no CPU peak in fp16 for `pi4`") && error.contains("measure it"), "{error}");
    let error = refused("host", &how(Processor::Cpu, Precision::Fp32, 1));
    assert!(error.contains("`host`"), "{error}");
    let mode = PriorOptions { power_mode: Some("99W".into()), ..PriorOptions::default() };
    let error = refused("pi5", &mode);
    assert!(error.contains("power mode `99W`"), "{error}");
    let old = Features { version: 0, ..features.clone() };
    let error =
        prior(catalogue.device("pi5").unwrap(), &old, &PriorOptions::default()).unwrap_err().to_string();
    assert!(error.contains("version 0") && error.contains("is expected"), "{error}");
}
