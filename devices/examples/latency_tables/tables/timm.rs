//! timm's inference benchmarks (Wightman), vision transformers only; one bench is one device, library version and precision.

use std::collections::BTreeMap;

use super::phones::{families, family};
use super::{Row, Table, device};
use crate::csv::Csv;

/// What the name of a vision transformer contains.
const TRANSFORMERS: [&str; 28] = [
    "vit",
    "beit",
    "swin",
    "eva",
    "xcit",
    "cait",
    "twins",
    "pit_",
    "coat",
    "pvt",
    "visformer",
    "tnt_",
    "nest_",
    "volo",
    "hiera",
    "focalnet",
    "poolformer",
    "caformer",
    "sequencer",
    "maxxvit",
    "efficientformer",
    "fastvit",
    "repvit",
    "swiftformer",
    "edgenext",
    "metaformer",
    "dinov",
    "naflex",
];

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let mut names = Vec::new();
    for csv in files {
        let model = csv.column("model")?;
        names.extend(csv.rows.iter().map(|row| row[model].clone()));
    }
    let costs = costs(files)?;
    let families = families(&names, 6);
    let mut terms = vec![
        ("gmacs".to_owned(), "GMAC"),
        ("activations".to_owned(), "M element"),
        ("parameters".to_owned(), "M weight"),
        ("pixels".to_owned(), "pixel"),
    ];
    terms.extend(families.iter().map(|family| (format!("family.{family}"), "1")));
    let (mut devices, mut rows, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for csv in files {
        let [bench, model] = [csv.column("bench")?, csv.column("model")?];
        let [rate, image] = [csv.column("infer_samples_per_sec")?, csv.column("infer_img_size")?];
        let mut own: BTreeMap<String, Row> = BTreeMap::new();
        for row in &csv.rows {
            if !TRANSFORMERS.iter().any(|part| row[model].contains(part)) {
                continue;
            }
            let (Some(rate), Some(image)) = (csv.number(row, rate)?, csv.number(row, image)?) else {
                continue;
            };
            let id = format!("{}@{image}", row[model]);
            let Some([gmacs, macts, weights]) = costs.get(&id).copied() else { continue };
            if rate <= 0.0 {
                continue;
            }
            // amp-nchw-pt240-cu124-rtx4090-dynamo: the machine is the part that says neither precision, layout nor library.
            let parts = row[bench].split('-').filter(|part| {
                let library = ["pt", "cu"]
                    .iter()
                    .any(|prefix| part.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok()));
                !library
                    && !["amp", "amp_bf16", "bf16", "fp32", "fp16", "nchw", "nhwc", "dynamo"].contains(part)
            });
            let machine = parts.collect::<Vec<_>>().join("-");
            let class = if machine.contains("cpu") { "cpu" } else { "nvidia" };
            device(&mut devices, &row[bench], class, &machine);
            let kind = family(&row[model]);
            let entry = own.entry(id.clone()).or_insert_with(|| {
                let mut values = vec![gmacs, macts, weights, image * image];
                values.extend(families.iter().map(|family| if *family == kind { 1.0 } else { 0.0 }));
                Row { id, values, fine: vec![], order: None, ms: BTreeMap::new() }
            });
            entry.ms.insert(row[bench].clone(), 1e3 / rate);
        }
        counts.push(own.len());
        rows.extend(own.into_values());
    }
    Ok((Table { terms, fine: vec![], flops: Some(0), modelled: false, devices, rows }, counts))
}

/// GMAC, million activations and million weights of each model at each image size: not every bench states them.
fn costs(files: &[Csv]) -> Result<BTreeMap<String, [f64; 3]>, String> {
    let mut costs = BTreeMap::new();
    for csv in files {
        let [model, image] = [csv.column("model")?, csv.column("infer_img_size")?];
        let columns = [csv.column("infer_gmacs")?, csv.column("infer_macts")?, csv.column("param_count")?];
        for row in &csv.rows {
            let Some(image) = csv.number(row, image)? else { continue };
            let numbers = columns.map(|column| csv.number(row, column));
            let [gmacs, macts, weights] = numbers;
            if let (Some(gmacs), Some(macts), Some(weights)) = (gmacs?, macts?, weights?) {
                costs.entry(format!("{}@{image}", row[model])).or_insert([gmacs, macts, weights]);
            }
        }
    }
    Ok(costs)
}
