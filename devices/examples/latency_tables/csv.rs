//! Reads the tables' files: commas, a header, no quotes.

use std::path::Path;

/// A table as text.
pub struct Csv {
    pub path: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Csv {
    /// Reads a file; every line must have as many fields as the header.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("{shown}: {error}; check the path given to --train, --test or MASKTAS_DATA")
        })?;
        let split =
            |line: &str| line.split(',').map(|field| field.trim().to_owned()).collect::<Vec<String>>();
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let header = match lines.next() {
            Some((line, _)) => split(line.trim_start_matches('\u{feff}')),
            None => return Err(format!("{shown} is empty; give a file in the table's own format")),
        };
        let mut rows = Vec::new();
        for (line, number) in lines {
            let row = split(line);
            if row.len() != header.len() {
                return Err(format!(
                    "{shown}, line {number}: {} fields where the header has {}; give a file in the table's own format",
                    row.len(),
                    header.len()
                ));
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(format!("{shown} has a header and no rows; give a file with measurements"));
        }
        Ok(Self { path: shown, header, rows })
    }

    /// Index of a column that must be there.
    pub fn column(&self, name: &str) -> Result<usize, String> {
        self.header.iter().position(|own| own == name).ok_or_else(|| {
            format!(
                "{} has no column `{name}`{}; is --table right for this file?",
                self.path,
                suggestion(name, &self.header)
            )
        })
    }

    /// A number of a row; `None` for an empty field.
    pub fn number(&self, row: &[String], column: usize) -> Result<Option<f64>, String> {
        match row[column].as_str() {
            "" => Ok(None),
            text => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Some).ok_or_else(|| {
                format!(
                    "{}: `{text}` in column `{}` (row `{}`) is not a number; repair the file",
                    self.path, self.header[column], row[0]
                )
            }),
        }
    }

    /// A number that must be there.
    pub fn need(&self, row: &[String], column: usize) -> Result<f64, String> {
        self.number(row, column)?.ok_or_else(|| {
            format!(
                "{}: column `{}` is empty in row `{}`; repair the file",
                self.path, self.header[column], row[0]
            )
        })
    }
}

/// `, did you mean ...` for the nearest known names, if one is near, and otherwise the list of them.
pub fn suggestion<S: AsRef<str>>(name: &str, known: &[S]) -> String {
    let key = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .iter()
        .map(|own| (distance(&key, &own.as_ref().to_lowercase()), own.as_ref()))
        .filter(|(d, own)| *d <= 2 + key.len() / 5 || own.to_lowercase().contains(&key))
        .collect();
    near.sort();
    let quoted = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|own| format!("`{own}`")).collect::<Vec<_>>().join(", ")
    };
    match near.is_empty() {
        false => format!(" (did you mean {}?)", quoted(&mut near.iter().take(3).map(|(_, own)| *own))),
        true => format!(" (there are {})", quoted(&mut known.iter().take(40).map(AsRef::as_ref))),
    }
}

/// Edits between two words (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut line: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = line[0];
        line[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(line[j] + 1).min(line[j + 1] + 1);
            diagonal = line[j + 1];
            line[j + 1] = next;
        }
    }
    line[b.len()]
}
