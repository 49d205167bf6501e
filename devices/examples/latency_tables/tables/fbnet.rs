//! HELP's measurements of the FBNet space (Wu et al., 2019): 22 positions, 9 operations each.

use super::{Table, help};
use crate::csv::Csv;

const OPERATIONS: [&str; 9] =
    ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"];

/// Channels and stride of each position; the stem gives 16 channels of 112 x 112 pixels.
const CHANNELS: [f64; 22] = [
    16.0, 24.0, 24.0, 24.0, 24.0, 32.0, 32.0, 32.0, 32.0, 64.0, 64.0, 64.0, 64.0, 112.0, 112.0, 112.0, 112.0,
    184.0, 184.0, 184.0, 184.0, 352.0,
];
const STRIDES: [f64; 22] = [
    1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0,
    1.0,
];

const TERMS: [(&str, &str); 11] = [
    ("blocks", "1"),
    ("grouped_blocks", "1"),
    ("expanded_blocks", "1"),
    ("wide_kernels", "1"),
    ("skips", "1"),
    ("projections", "1"),
    ("pointwise.macs", "MAC"),
    ("depthwise.macs", "MAC"),
    ("activations", "element"),
    ("shuffled", "element"),
    ("weights", "weight"),
];

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let terms: Vec<(String, &'static str)> =
        TERMS.iter().map(|(name, unit)| ((*name).to_owned(), *unit)).collect();
    let mut fine = terms.clone();
    for position in 0..CHANNELS.len() {
        fine.extend(OPERATIONS.iter().map(|operation| (format!("at.{position}.{operation}"), "1")));
    }
    help(files, &["arch_idx", "ops"], 0.0, terms, fine, None, &|csv, row| {
        let text = &row[csv.column("ops")?];
        let operations: Vec<usize> = text
            .split_whitespace()
            .map(|own| OPERATIONS.iter().position(|known| *known == own))
            .collect::<Option<Vec<_>>>()
            .filter(|own| own.len() == CHANNELS.len())
            .ok_or_else(|| {
                format!(
                    "{}: `{text}` is not {} FBNet operations (row `{}`); repair the file",
                    csv.path,
                    CHANNELS.len(),
                    row[0]
                )
            })?;
        let values = terms_of(&operations);
        let mut fine = values.clone();
        for own in &operations {
            fine.extend((0..OPERATIONS.len()).map(|known| if known == *own { 1.0 } else { 0.0 }));
        }
        Ok((values, fine))
    })
}

fn terms_of(operations: &[usize]) -> Vec<f64> {
    let (mut side, mut before) = (112.0, 16.0);
    let mut sum = [0.0; TERMS.len()];
    for (own, (channels, stride)) in operations.iter().zip(CHANNELS.iter().zip(STRIDES)) {
        let name = OPERATIONS[*own];
        let (input, output) = (side * side, side * side / (stride * stride));
        let more = if name == "skip" {
            if stride > 1.0 || before != *channels {
                // A skip that changes shape is a pointwise convolution.
                let weights = before * channels;
                let moved = input * before + output * channels;
                [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, output * weights, 0.0, moved, 0.0, weights]
            } else {
                [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
            }
        } else {
            let number = |at: usize| f64::from(name.as_bytes()[at] - b'0');
            let (kernel, middle) = (number(1), before * number(4));
            let (grouped, groups) = if name.ends_with("g2") { (1.0, 2.0) } else { (0.0, 1.0) };
            let flag = |on: bool| if on { 1.0 } else { 0.0 };
            [
                1.0,
                grouped,
                flag(middle > before),
                flag(kernel > 3.0),
                0.0,
                0.0,
                (input * before * middle + output * middle * channels) / groups,
                output * middle * kernel * kernel,
                input * (before + middle) + output * (2.0 * middle + channels),
                grouped * output * middle,
                (before * middle + middle * channels) / groups + middle * kernel * kernel,
            ]
        };
        for (slot, more) in sum.iter_mut().zip(more) {
            *slot += more;
        }
        (side, before) = (side / stride, *channels);
    }
    sum.to_vec()
}
