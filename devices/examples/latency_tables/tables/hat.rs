//! HAT (Wang et al., 2020): translation transformers; tasks are pooled per device.

use std::collections::BTreeMap;

use super::{Row, Table, device};
use crate::csv::Csv;

const COLUMNS: [&str; 10] = [
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
];

/// Terms of the architecture: layers as launches, widths times layers as elements written, products of widths as weights that
/// matrix products read.
const TERMS: [(&str, &str); 16] = [
    ("encoder.layers", "1"),
    ("encoder.width", "element"),
    ("encoder.elements", "element"),
    ("encoder.attention", "weight"),
    ("encoder.feed_forward", "weight"),
    ("encoder.heads", "1"),
    ("decoder.layers", "1"),
    ("decoder.width", "element"),
    ("decoder.elements", "element"),
    ("decoder.attention", "weight"),
    ("decoder.feed_forward", "weight"),
    ("decoder.heads", "1"),
    ("cross.heads", "1"),
    ("cross.attention", "weight"),
    ("cross.layers", "1"),
    ("cross.elements", "element"),
];

/// Terms that another length of sentences, which is what another task means, changes: a constant, and per decoder step the
/// launches and the elements of its layers.
const BY_TASK: [(&str, &str); 3] = [("", "1"), (".decoder.layers", "1"), (".decoder.elements", "element")];

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let mut tasks = std::collections::BTreeSet::new();
    for csv in files {
        let task = csv.column("task")?;
        tasks.extend(csv.rows.iter().map(|row| row[task].clone()));
    }
    let named = |(name, unit): &(&str, &'static str)| ((*name).to_owned(), *unit);
    let mut terms: Vec<(String, &'static str)> = TERMS.iter().map(named).collect();
    for task in &tasks {
        terms.extend(BY_TASK.iter().map(|(name, unit)| (format!("task.{task}{name}"), *unit)));
    }
    let (mut devices, mut rows, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for csv in files {
        let columns = COLUMNS.iter().map(|name| csv.column(name)).collect::<Result<Vec<_>, _>>()?;
        let (task, own, place) = (csv.column("task")?, csv.column("device")?, csv.column("row")?);
        let total = csv.column("total_ms")?;
        for row in &csv.rows {
            let number = |i: usize| csv.need(row, columns[i]);
            let [e, el, ef, eh] = [number(0)?, number(1)?, number(2)?, number(3)?];
            let [d, dl, df, dh, xh, xa] =
                [number(4)?, number(5)?, number(6)?, number(7)?, number(8)?, number(9)?];
            let mut values = vec![
                el,
                e,
                el * e,
                el * e * e,
                el * e * ef,
                el * eh,
                dl,
                d,
                dl * d,
                dl * d * d,
                dl * d * df,
                dl * dh,
                dl * xh,
                dl * d * e,
                dl * xa,
                dl * xa * e,
            ];
            for name in &tasks {
                let on = if row[task] == *name { 1.0 } else { 0.0 };
                values.extend([on, on * dl, on * dl * d]);
            }
            let ms = csv.need(row, total)?;
            if ms <= 0.0 {
                return Err(format!(
                    "{}: total_ms is {ms} in row `{}`; repair the file",
                    csv.path, row[place]
                ));
            }
            device(&mut devices, &row[own], &row[own], &row[own]);
            // Tasks were measured one after the other.
            let task_number = tasks.iter().position(|name| *name == row[task]).unwrap_or(0) as f64;
            rows.push(Row {
                id: format!("{} {} {}", row[own], row[task], row[place]),
                values,
                fine: vec![],
                order: Some(1e5 * task_number + csv.need(row, place)?),
                ms: BTreeMap::from([(row[own].clone(), ms)]),
            });
        }
        counts.push(csv.rows.len());
    }
    Ok((Table { terms, fine: vec![], flops: None, modelled: false, devices, rows }, counts))
}
