//! Tables of architectures whose accuracy is known, as a [`Space`](crate::space::Space) and a
//! [`Score`]: samplers and predictors are judged on them in seconds.

mod budget;
mod definition;
mod encoding;
mod space;

pub use budget::TableBudget;
pub use definition::{Definition, Kind};
pub use space::TableSpace;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::score::{Component, Score};
use crate::space::Genes;

/// Rows of a table, at most: they are held in memory.
const MOST_ROWS: usize = 1_000_000;

/// The cells of a CSV file.
#[derive(Clone, Debug)]
pub struct Rows {
    path: String,
    columns: BTreeMap<String, usize>,
    rows: Vec<csv::StringRecord>,
}

impl Rows {
    /// Reads a CSV file whose first line names the columns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no CSV, an empty table, or one too long.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let refuse = |problem: String| Error::Invalid {
            thing: format!("table {shown}"),
            problem,
            next: "give a CSV file whose first line names its columns".to_owned(),
        };
        let mut reader = csv::Reader::from_path(path).map_err(|error| refuse(error.to_string()))?;
        let head = reader.headers().map_err(|error| refuse(error.to_string()))?;
        let columns = head.iter().enumerate().map(|(at, name)| (name.to_owned(), at)).collect();
        let mut rows = Vec::new();
        for row in reader.records() {
            rows.push(row.map_err(|error| refuse(error.to_string()))?);
            if rows.len() > MOST_ROWS {
                return Err(refuse(format!("it has more than {MOST_ROWS} rows")));
            }
        }
        if rows.is_empty() {
            return Err(refuse("it has 0 rows".to_owned()));
        }
        Ok(Self { path: shown, columns, rows })
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// A column as text.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with a suggestion.
    pub fn text(&self, column: &str) -> Result<Vec<&str>> {
        let Some(at) = self.columns.get(column) else {
            let hint = crate::suggest::hint(column, self.columns.keys().map(String::as_str));
            return Err(Error::UnknownName { what: "column", name: column.to_owned(), hint });
        };
        Ok(self.rows.iter().map(|row| row.get(*at).unwrap_or("")).collect())
    }

    /// A column as numbers; an empty cell is not a number.
    ///
    /// # Errors
    /// As [`Rows::text`]; [`Error::Invalid`] for a cell that is neither empty nor a number.
    pub fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        let number = |(row, text): (usize, &str)| {
            if text.is_empty() {
                return Ok(f64::NAN);
            }
            text.parse().map_err(|_| self.bad(row, column, &format!("`{text}` is not a number")))
        };
        self.text(column)?.into_iter().enumerate().map(number).collect()
    }

    /// Where the cells of a row stand, which counts from 0: its line in the file, where no cell has several.
    fn line(&self, row: usize) -> String {
        let line = self
            .rows
            .get(row)
            .and_then(|cells| cells.position())
            .map_or(row as u64 + 2, |place| place.line());
        format!("{} line {line}", self.path)
    }

    /// An error about one cell; rows count from 0 below the head.
    fn bad(&self, row: usize, column: &str, problem: &str) -> Error {
        Error::Invalid {
            thing: format!("{}, column {column}", self.line(row)),
            problem: problem.to_owned(),
            next: "mend the cell, leave the row out, or read the table in another way (--read)".to_owned(),
        }
    }
}

/// The component of a table's score.
const MEASURED: &str = "measured";

/// A column of a table as the score of its members.
#[derive(Clone, Debug)]
pub struct TableScore<'a> {
    space: &'a TableSpace,
    column: String,
    values: Vec<f64>,
}

impl<'a> TableScore<'a> {
    /// The score in this column. Members without one are refused when they are rated.
    ///
    /// # Errors
    /// As [`TableSpace::column`].
    pub fn new(space: &'a TableSpace, column: &str) -> Result<Self> {
        Ok(Self { space, column: column.to_owned(), values: space.column(column)? })
    }
}

impl Score for TableScore<'_> {
    fn components(&self) -> Vec<&'static str> {
        vec![MEASURED]
    }

    fn rate(&mut self, batch: &[Genes]) -> Result<Vec<Vec<Component>>> {
        let rate = |genes: &Genes| {
            let member = self.space.member_at(genes);
            let value = member.and_then(|at| self.values.get(at)).copied();
            match value.filter(|value| value.is_finite()) {
                Some(value) => Ok(vec![Component {
                    name: MEASURED.to_owned(),
                    value,
                    error: 0.0,
                    higher_is_better: true,
                }]),
                None => Err(Error::Invalid {
                    thing: member
                        .map_or_else(|| format!("architecture {:?}", genes.values), |at| self.space.line(at)),
                    problem: format!("it has no number in column {}", self.column),
                    next: "leave the row out, or name a score that every row has".to_owned(),
                }),
            }
        };
        batch.iter().map(rate).collect()
    }
}
