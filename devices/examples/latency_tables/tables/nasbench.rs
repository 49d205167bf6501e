//! HELP's measurements of NAS-Bench-201 (Dong and Yang, 2020): cells of four nodes and six edges, five operations each.

use super::{Table, help};
use crate::csv::Csv;

const OPERATIONS: [&str; 5] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];

/// From and to of each edge, in the order of the text.
const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];

/// A disconnected cell takes about 0.01 ms on some phones: the clock, not a network.
const LEAST_MS: f64 = 1.0;

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let mut terms: Vec<(String, &'static str)> =
        OPERATIONS.iter().skip(1).map(|name| (format!("live.{name}"), "1")).collect();
    terms.extend([("live.edges".into(), "1"), ("longest.path".into(), "1"), ("macs".into(), "MAC")]);
    let flops = terms.len() - 1;
    let mut fine = terms.clone();
    for (edge, (from, to)) in EDGES.iter().enumerate() {
        fine.extend(OPERATIONS.iter().map(|name| (format!("edge.{edge}.{from}to{to}.{name}"), "1")));
    }
    help(files, &["arch_idx", "arch"], LEAST_MS, terms, fine, Some(flops), &|csv, row| {
        let text = &row[csv.column("arch")?];
        let operations: Vec<usize> = text
            .split(['|', '+'])
            .filter(|part| !part.is_empty())
            .map(|part| {
                let name = part.split('~').next().unwrap_or(part);
                OPERATIONS.iter().position(|known| *known == name)
            })
            .collect::<Option<Vec<_>>>()
            .filter(|own| own.len() == EDGES.len())
            .ok_or_else(|| {
                format!(
                    "{}: `{text}` is not a cell of NAS-Bench-201 (row `{}`); repair the file",
                    csv.path, row[0]
                )
            })?;
        Ok(values(&operations))
    })
}

fn values(operations: &[usize]) -> (Vec<f64>, Vec<f64>) {
    // An edge is live when input reaches its beginning and its end reaches the output, over edges that are not `none`.
    let edges: Vec<(usize, (usize, usize))> = operations.iter().copied().zip(EDGES).collect();
    let mut reached = [true, false, false, false];
    let mut reaches = [false, false, false, true];
    for node in 1..4 {
        reached[node] = edges.iter().any(|(own, (from, to))| *own != 0 && *to == node && reached[*from]);
    }
    for node in (0..3).rev() {
        reaches[node] = edges.iter().any(|(own, (from, to))| *own != 0 && *from == node && reaches[*to]);
    }
    let mut counts = [0.0; OPERATIONS.len()];
    let mut longest = [0.0f64; 4];
    for (own, (from, to)) in &edges {
        if *own != 0 && reached[*from] && reaches[*to] {
            counts[*own] += 1.0;
            let step = if *own >= 2 { 1.0 } else { 0.0 };
            longest[*to] = longest[*to].max(longest[*from] + step);
        }
    }
    // Five cells in each of three stages; 16 channels of 32 x 32 pixels, doubled and halved.
    let macs = 15.0 * 16.0 * 16.0 * 32.0 * 32.0 * (counts[2] + 9.0 * counts[3]);
    let mut values = counts[1..].to_vec();
    values.extend([counts.iter().sum(), longest[3], macs]);
    let mut fine = values.clone();
    for own in operations {
        fine.extend((0..OPERATIONS.len()).map(|known| if known == *own { 1.0 } else { 0.0 }));
    }
    (values, fine)
}
