//! Real vision transformers on phones (USC, 2024), by phone, cores and precision.

use std::collections::{BTreeMap, BTreeSet};

use super::{Row, Table, device};
use crate::csv::Csv;

/// Endings of a column's name: what it holds of a phone's setting.
const MEAN: &str = "|mean_ms";

pub fn read(files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
    let mut names = Vec::new();
    for csv in files {
        let model = csv.column("model")?;
        names.extend(csv.rows.iter().map(|row| row[model].clone()));
    }
    let families = families(&names, 3);
    let mut terms = vec![("flops".to_owned(), "FLOP"), ("size".to_owned(), "byte")];
    terms.extend(families.iter().map(|family| (format!("family.{family}"), "1")));
    let (mut devices, mut rows, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for csv in files {
        let (model, flops, size) = (csv.column("model")?, csv.column("flops")?, csv.column("size")?);
        let columns: Vec<(usize, &str)> = csv
            .header
            .iter()
            .enumerate()
            .filter_map(|(column, name)| Some((column, name.strip_suffix(MEAN)?)))
            .collect();
        if columns.is_empty() {
            return Err(format!(
                "{} has no column that ends in `{MEAN}`; is --table right for this file?",
                csv.path
            ));
        }
        for (_, name) in &columns {
            let phone = name.split('|').next().unwrap_or(name);
            let precision = name.rsplit('|').next().unwrap_or("");
            device(&mut devices, name, precision, phone);
        }
        for row in &csv.rows {
            let mut values = vec![csv.need(row, flops)?, csv.need(row, size)?];
            let own = family(&row[model]);
            values.extend(families.iter().map(|family| if *family == own { 1.0 } else { 0.0 }));
            let mut ms = BTreeMap::new();
            for (column, name) in &columns {
                if let Some(value) = csv.number(row, *column)?.filter(|value| *value > 0.0) {
                    ms.insert((*name).to_owned(), value);
                }
            }
            rows.push(Row { id: row[model].clone(), values, fine: vec![], order: None, ms });
        }
        counts.push(csv.rows.len());
    }
    Ok((Table { terms, fine: vec![], flops: Some(0), modelled: false, devices, rows }, counts))
}

/// Families of at least `least` different models, in order of name.
pub fn families(names: &[String], least: usize) -> Vec<String> {
    let mut members: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        members.entry(family(name)).or_default().insert(name);
    }
    members.into_iter().filter(|(_, own)| own.len() >= least).map(|(family, _)| family).collect()
}

/// Family of a named model: the name up to the first character that is no letter; `swinv2` and `mobilevitv2` are families of
/// their own.
pub fn family(name: &str) -> String {
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    match name.chars().nth(letters.len()) {
        Some(version @ '2'..='4') if letters.ends_with('v') => format!("{letters}{version}"),
        _ => letters,
    }
    .to_lowercase()
}
