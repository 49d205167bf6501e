//! HELP's measurements of the Once-for-All space (Cai et al., 2020): five stages of up to four blocks, and a resolution.

use super::{Table, help};
use crate::csv::Csv;

const CHANNELS: [f64; 5] = [24.0, 40.0, 80.0, 112.0, 160.0];
const STRIDES: [f64; 5] = [2.0, 2.0, 2.0, 1.0, 2.0];
const STEM: f64 = 16.0;
const BLOCKS: usize = 4;

const TERMS: [(&str, &str); 5] = [
    ("blocks", "1"),
    ("pointwise.macs", "MAC"),
    ("depthwise.macs", "MAC"),
    ("activations", "element"),
    ("weights", "weight"),
];

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let named = |prefix: String| TERMS.iter().map(move |(name, unit)| (format!("{prefix}{name}"), *unit));
    let mut terms: Vec<(String, &'static str)> = named(String::new()).collect();
    terms.push(("pixels".into(), "pixel"));
    let mut fine = terms.clone();
    for stage in 0..CHANNELS.len() {
        fine.extend(named(format!("stage.{stage}.")));
    }
    help(files, &["arch_idx", "ks", "e", "d", "r"], 0.0, terms, fine, Some(1), &|csv, row| {
        let list = |name: &str, length: usize| -> Result<Vec<f64>, String> {
            let text = &row[csv.column(name)?];
            let numbers: Option<Vec<f64>> = text.split_whitespace().map(|part| part.parse().ok()).collect();
            numbers.filter(|own| own.len() == length).ok_or_else(|| {
                format!(
                    "{}: `{text}` in column `{name}` is not {length} numbers (row `{}`); repair the file",
                    csv.path, row[0]
                )
            })
        };
        let (kernels, expand, depth) = (list("ks", 20)?, list("e", 20)?, list("d", 5)?);
        let side = csv.need(row, csv.column("r")?)?;
        let mut stages = Vec::new();
        let (mut pixels, mut before) = ((side / 2.0).powi(2), STEM);
        for (stage, (channels, stride)) in CHANNELS.iter().zip(STRIDES).enumerate() {
            let mut sum = [0.0; TERMS.len()];
            for block in 0..BLOCKS.min(depth[stage] as usize) {
                let output = if block == 0 { pixels / (stride * stride) } else { pixels };
                let (kernel, middle) =
                    (kernels[stage * BLOCKS + block], before * expand[stage * BLOCKS + block]);
                let more = [
                    1.0,
                    pixels * before * middle + output * middle * channels,
                    output * middle * kernel * kernel,
                    pixels * (before + middle) + output * (2.0 * middle + channels),
                    before * middle + middle * channels + middle * kernel * kernel,
                ];
                for (slot, more) in sum.iter_mut().zip(more) {
                    *slot += more;
                }
                (pixels, before) = (output, *channels);
            }
            stages.push(sum);
        }
        let mut values: Vec<f64> =
            (0..TERMS.len()).map(|term| stages.iter().map(|stage| stage[term]).sum()).collect();
        values.push(side * side);
        let mut fine = values.clone();
        fine.extend(stages.into_iter().flatten());
        Ok((values, fine))
    })
}
