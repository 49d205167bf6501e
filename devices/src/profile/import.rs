//! Latencies that another tool measured, from a CSV file.

use std::path::Path;

use masktas_runtime::Features;

use super::{Outcome, Row};
use crate::error::{Error, Result};
use crate::measure::Key;

/// Largest file that is read, in bytes.
const MOST: u64 = 64 << 20;

/// Where the measurements come from, as far as the person knows. It goes into their [`Key`]: they are never mixed with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Device in the catalogue.
    pub device: String,
    /// Engine, or whatever ran the models.
    pub engine: String,
    /// Its version; `unknown` where nobody knows.
    pub engine_version: String,
    /// Threads inside one operation.
    pub threads: usize,
}

impl Imported {
    fn key(&self) -> Key {
        Key {
            engine: self.engine.clone(),
            engine_version: self.engine_version.clone(),
            provider: "unknown".into(),
            threads: self.threads,
            protocol: PROTOCOL.into(),
            reference: "none".into(),
            fingerprint: format!("imported for {}", self.device),
        }
    }
}

/// What stands for the protocol's hash of imported measurements.
pub const PROTOCOL: &str = "imported";

/// Reads a CSV file with the columns `model` and `ms` (milliseconds of one run); others are ignored. `features` says what
/// a model costs that is named as in the file.
///
/// # Errors
/// [`Error::Io`]; [`Error::InvalidCsv`] with the line, for a missing column, a latency that is not a number above 0, a
/// model that comes twice, or one whose cost is not to be had.
pub fn import_csv(
    path: &Path,
    from: &Imported,
    features: &dyn Fn(&str) -> Result<Features>,
) -> Result<Vec<Row>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let fail = |line: u64, reason: String| Error::InvalidCsv { path: path.to_owned(), line, reason };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > MOST {
        return Err(fail(0, format!("the file has {length} bytes and at most {MOST} are read")));
    }
    let text = std::fs::read(path).map_err(io)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let headers = reader.headers().map_err(|error| fail(1, error.to_string()))?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|header| header.eq_ignore_ascii_case(name));
        let given = headers.iter().collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| fail(1, format!("there is no column `{name}` among {given}")))
    };
    let (model, ms) = (column("model")?, column("ms")?);
    let key = from.key();
    let mut rows: Vec<Row> = Vec::new();
    for record in reader.records() {
        let record = record
            .map_err(|error| fail(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let id = record.get(model).unwrap_or_default();
        let text = record.get(ms).unwrap_or_default();
        let ms = match text.parse::<f64>() {
            Ok(ms) if ms > 0.0 && ms.is_finite() => ms,
            _ => return Err(fail(line, format!("`{text}` is not a number of milliseconds above 0"))),
        };
        if rows.iter().any(|row| row.id == id) {
            return Err(fail(line, format!("model `{id}` comes twice")));
        }
        let features = features(id).map_err(|error| fail(line, format!("model `{id}`: {error}")))?;
        rows.push(Row { id: id.to_owned(), features, outcome: Outcome::Imported { ms, key: key.clone() } });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Row>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pi.csv");
        std::fs::write(&path, text).unwrap();
        let from = Imported {
            device: "pi5".into(),
            engine: "litert".into(),
            engine_version: "2.1".into(),
            threads: 4,
        };
        import_csv(&path, &from, &|id| match id {
            "gone" => Err(Error::Caller("it is not there".into())),
            _ => Ok(Features {
                version: 1,
                names: vec!["n".into()],
                units: vec!["1".into()],
                values: vec![1.0],
            }),
        })
    }

    #[test]
    fn measurements_of_another_tool_are_samples_of_their_own_kind() {
        let rows = read("name,MS, model\na,2.5, m1\nb,3,m2\n").unwrap();
        let sample = rows[0].sample().unwrap();
        assert_eq!((rows[0].id.as_str(), sample.ms), ("m1", 2.5));
        assert_eq!((sample.key.engine.as_str(), sample.key.threads), ("litert", 4));
        assert!(sample.key.fingerprint.contains("pi5") && rows[0].measurement().is_none());
        assert!(rows.iter().all(|row| row.sample().unwrap().key == sample.key));
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let wrong = |text: &str| read(text).unwrap_err().to_string();
        assert!(wrong("model,latency\na,1\n").contains("no column `ms` among model, latency"));
        let text = wrong("model,ms\na,1\nb,fast\n");
        assert!(text.contains("pi.csv") && text.contains("line 3") && text.contains("`fast`"), "{text}");
        assert!(wrong("model,ms\na,-1\n").contains("above 0"));
        assert!(wrong("model,ms\na,1\na,2\n").contains("twice"));
        assert!(wrong("model,ms\ngone,1\n").contains("it is not there"));
        assert!(wrong("model,ms\na,1,2\n").contains("line"));
    }
}
