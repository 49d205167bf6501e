//! The records of a run, in SQLite.
//!
//! Every call is one transaction, on the disk when it returns. Numbers that are compared or resumed
//! from stand in columns, which keep all bits; JSON is for what people and reports read.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{FORMAT, Run};
use crate::error::{Error, Result};
use crate::score::Component;
use crate::space::Genes;

const SCHEMA: &str = "
create table if not exists phases (position integer primary key, name text not null unique);
create table if not exists documents (name text primary key, json text not null) without rowid;
create table if not exists items (
    position integer primary key, kind text not null, key text not null, json text not null,
    unique (kind, key));
create table if not exists members (
    kind text not null, position integer not null, id text not null, genes text not null,
    score real, cost real, primary key (kind, position)) without rowid;
create unique index if not exists trials_once on members (id) where kind = 'trial';
create table if not exists components (
    kind text not null, position integer not null, place integer not null, name text not null,
    value real not null, error real not null, higher integer not null,
    primary key (kind, position, place)) without rowid;
create table if not exists curves (
    series text not null, step integer not null, name text not null, value real,
    primary key (series, step, name)) without rowid;
create table if not exists clock (
    kind text not null, position integer not null, seconds real not null,
    primary key (kind, position)) without rowid;
";

/// Milestones of a search, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The latency model is committed.
    Profile,
    /// The teacher is trained or loaded.
    Teacher,
    /// The supernet is trained.
    Supernet,
    /// The reference subnets are scored.
    References,
    /// All trials are scored.
    Search,
    /// The finalists are measured again.
    Finalists,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Teacher => "teacher",
            Self::Supernet => "supernet",
            Self::References => "references",
            Self::Search => "search",
            Self::Finalists => "finalists",
        }
    }
}

/// Lists of JSON rows with a key each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Measured subnets, from which the latency model is fitted.
    Profile,
    /// Members of the front, measured again.
    Finalists,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Finalists => "finalist",
        }
    }
}

/// A reference subnet, scored once before the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// Number, from 0.
    pub index: usize,
    /// Canonical id.
    pub id: String,
    /// The architecture.
    pub genes: Genes,
    /// Its measurements.
    pub components: Vec<Component>,
}

/// One evaluation of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Number, from 0.
    pub index: usize,
    /// Canonical id.
    pub id: String,
    /// The architecture.
    pub genes: Genes,
    /// Its measurements.
    pub components: Vec<Component>,
    /// Fused score; higher is better.
    pub score: f64,
    /// Cost in the budget's unit; lower is better.
    pub cost: f64,
}

/// One value of a training curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// Steps done.
    pub step: u64,
    /// Name, such as `loss`.
    pub name: String,
    /// Value; not a number is read back as such.
    pub value: f64,
}

/// Opens or makes the database for the one writer.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let database = Connection::open(path)?;
        database.busy_timeout(Duration::from_secs(10))?;
        database.query_row("pragma journal_mode = wal", [], |_| Ok(()))?;
        database.execute_batch("pragma synchronous = full; pragma foreign_keys = on;")?;
        Ok(database)
    };
    let mut database = open().map_err(|source| store_error(path, source))?;
    check_version(path, &database)?;
    let make = |database: &mut Connection| -> rusqlite::Result<()> {
        let transaction = database.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()
    };
    make(&mut database).map_err(|source| store_error(path, source))?;
    Ok(database)
}

/// Opens the database for looking; the writer is not disturbed.
pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    if !path.exists() {
        return Err(Error::NotARun {
            path: path.parent().unwrap_or(path).to_owned(),
            problem: "it has no run.db yet".to_owned(),
            next: "begin it with `masktas search --resume`".to_owned(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |database: Connection| -> rusqlite::Result<Connection> {
        database.busy_timeout(Duration::from_secs(10))?;
        database.query_row("select count(*) from sqlite_master", [], |_| Ok(()))?;
        Ok(database)
    };
    let usual = Connection::open_with_flags(path, flags).and_then(open);
    let database = match usual {
        // On a medium that cannot be written there is no writer either, and SQLite need not ask.
        Err(error) if wants_to_write(&error) && !path.with_extension("db-wal").exists() => {
            let uri = format!("file:{}?immutable=1", escaped(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(open)
        }
        other => other,
    };
    let database = database.map_err(|source| store_error(path, source))?;
    check_version(path, &database)?;
    Ok(database)
}

fn wants_to_write(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    matches!(error.sqlite_error_code(), Some(CannotOpen | ReadOnly))
}

/// A path as part of a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn check_version(path: &Path, database: &Connection) -> Result<()> {
    let version: i64 = database
        .query_row("pragma user_version", [], |row| row.get(0))
        .map_err(|source| store_error(path, source))?;
    if version > i64::from(FORMAT) {
        return Err(Error::NotARun {
            path: path.to_owned(),
            problem: format!("its layout is version {version}, this program knows up to {FORMAT}"),
            next: "use the newer program that began it".to_owned(),
        });
    }
    Ok(())
}

fn store_error(path: &Path, source: rusqlite::Error) -> Error {
    if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return Error::DiskFull { path: path.to_owned(), what: "the run's records".to_owned() };
    }
    Error::Store { path: path.to_owned(), source }
}

/// A column of text that was written as JSON.
fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

/// Number of a row, which SQLite keeps signed.
fn number(position: i64) -> usize {
    usize::try_from(position).unwrap_or(0)
}

impl Run {
    fn stored<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|source| store_error(&self.database_path(), source))
    }

    fn json<T: Serialize + ?Sized>(&self, what: &str, value: &T) -> Result<String> {
        serde_json::to_string(value).map_err(|error| self.refuse(what, error.to_string()))
    }

    fn refuse(&self, what: &str, problem: String) -> Error {
        Error::Unusable {
            thing: format!("record {what} of {}", self.folder().display()),
            problem,
            next: "begin a new run".to_owned(),
        }
    }

    /// Marks a milestone. Marking twice is no error.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(&mut self, phase: Phase) -> Result<()> {
        let sql = "insert or ignore into phases (position, name) values (?1, ?2)";
        self.stored(self.database.execute(sql, params![phase as i64, phase.name()]))?;
        Ok(())
    }

    /// Whether a milestone was reached.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_done(&self, phase: Phase) -> Result<bool> {
        let sql = "select count(*) from phases where name = ?1";
        let count: i64 = self.stored(self.database.query_row(sql, [phase.name()], |row| row.get(0)))?;
        Ok(count > 0)
    }

    /// Stores a document under a name, in place of an older one, and gives it back as it will be read.
    ///
    /// A number can lose its last bit on the way through JSON. Go on with what is given back: then a
    /// search that was stopped and one that was not compute with the same numbers.
    ///
    /// # Errors
    /// When it cannot be written as JSON and read again; the disk's.
    pub fn put_doc<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &T) -> Result<T> {
        let json = self.json(name, value)?;
        let back = serde_json::from_str(&json).map_err(|error| self.refuse(name, error.to_string()))?;
        let sql = "insert into documents (name, json) values (?1, ?2)
                   on conflict (name) do update set json = excluded.json";
        self.stored(self.database.execute(sql, params![name, json]))?;
        Ok(back)
    }

    /// Like [`Run::put_doc`] for what is decided once: the first value stays, and is given back.
    ///
    /// # Errors
    /// Those of [`Run::put_doc`].
    pub fn commit_doc<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &T) -> Result<T> {
        match self.get_doc(name)? {
            Some(first) => Ok(first),
            None => self.put_doc(name, value),
        }
    }

    /// The document under a name.
    ///
    /// # Errors
    /// When it has another shape; the disk's.
    pub fn get_doc<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let sql = "select json from documents where name = ?1";
        let found = self.database.query_row(sql, [name], |row| from_json(&row.get::<_, String>(0)?));
        self.stored(found.optional())
    }

    /// Copies a document from another run, where that has it.
    ///
    /// # Errors
    /// The disk's.
    pub fn copy_doc(&mut self, from: &Run, name: &str) -> Result<()> {
        let sql = "select json from documents where name = ?1";
        let json: Option<String> =
            from.stored(from.database.query_row(sql, [name], |row| row.get(0)).optional())?;
        let Some(json) = json else { return Ok(()) };
        let sql = "insert or replace into documents (name, json) values (?1, ?2)";
        self.stored(self.database.execute(sql, params![name, json]))?;
        Ok(())
    }

    /// Adds a row to a list; the same key again replaces the row in its old place.
    ///
    /// # Errors
    /// When it cannot be written as JSON; the disk's.
    pub fn put_row<T: Serialize>(&mut self, table: Table, key: &str, row: &T) -> Result<()> {
        let json = self.json(key, row)?;
        let sql = "insert into items (kind, key, json) values (?1, ?2, ?3)
                   on conflict (kind, key) do update set json = excluded.json";
        self.stored(self.database.execute(sql, params![table.name(), key, json]))?;
        Ok(())
    }

    /// The rows of a list with their keys, in the order they were added.
    ///
    /// # Errors
    /// When a row has another shape; the disk's.
    pub fn rows<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let sql = "select key, json from items where kind = ?1 order by position";
        self.select(sql, &[&table.name()], |row| Ok((row.get(0)?, from_json(&row.get::<_, String>(1)?)?)))
    }

    fn select<T>(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let select = || -> rusqlite::Result<Vec<T>> {
            self.database.prepare_cached(sql)?.query_map(values, read)?.collect()
        };
        self.stored(select())
    }

    /// Commits a reference subnet. The same record again is no error, nor is the same subnet under two
    /// numbers: references are drawn with replacement.
    ///
    /// # Errors
    /// When another record has its number, a number is missing before it, or a value is not finite.
    pub fn commit_reference(&mut self, record: &ReferenceRecord) -> Result<()> {
        self.commit_member("reference", record.index, &record.id, &record.genes, &record.components, None)
    }

    /// Commits an evaluation and how long it took. The same record again is no error.
    ///
    /// # Errors
    /// When another record has its number or id, a number is missing before it, or a value is not finite.
    pub fn commit_trial(&mut self, record: &TrialRecord, seconds: f64) -> Result<()> {
        let judged = Some((record.score, record.cost, seconds));
        self.commit_member("trial", record.index, &record.id, &record.genes, &record.components, judged)
    }

    fn commit_member(
        &mut self,
        kind: &'static str,
        index: usize,
        id: &str,
        genes: &Genes,
        components: &[Component],
        judged: Option<(f64, f64, f64)>,
    ) -> Result<()> {
        let what = format!("{kind} {index}");
        let values = components.iter().flat_map(|component| [component.value, component.error]);
        let judged_values = judged.iter().flat_map(|(score, cost, _)| [*score, *cost]);
        if let Some(value) = values.chain(judged_values).find(|value| !value.is_finite()) {
            return Err(self.refuse(&what, format!("a value is {value}")));
        }
        let count = self.count(kind)?;
        if index < count {
            return self.same_member(kind, index, id, components, judged);
        }
        if index > count {
            return Err(self.refuse(&what, format!("number {index} after {count} records")));
        }
        let genes = self.json(&what, genes)?;
        let commit = |database: &mut Connection| -> rusqlite::Result<()> {
            let transaction = database.transaction()?;
            let (score, cost) = (judged.map(|(score, _, _)| score), judged.map(|(_, cost, _)| cost));
            transaction.execute(
                "insert into members (kind, position, id, genes, score, cost) values (?1, ?2, ?3, ?4, ?5, ?6)",
                params![kind, index as i64, id, genes, score, cost],
            )?;
            for (place, component) in components.iter().enumerate() {
                let Component { name, value, error, higher_is_better } = component;
                transaction.execute(
                    "insert into components (kind, position, place, name, value, error, higher)
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![kind, index as i64, place as i64, name, value, error, higher_is_better],
                )?;
            }
            if let Some((_, _, seconds)) = judged {
                transaction.execute(
                    "insert into clock (kind, position, seconds) values (?1, ?2, ?3)",
                    params![kind, index as i64, if seconds.is_nan() { 0.0 } else { seconds }],
                )?;
            }
            transaction.commit()
        };
        let result = commit(&mut self.database);
        self.stored(result)
    }

    /// Commits an architecture that another device's search scored on the same supernet, with its cost on this one. The same
    /// record again is no error.
    ///
    /// # Errors
    /// As [`Run::commit_trial`].
    pub fn commit_pooled(&mut self, record: &TrialRecord) -> Result<()> {
        let judged = Some((record.score, record.cost, 0.0));
        self.commit_member("pooled", record.index, &record.id, &record.genes, &record.components, judged)
    }

    /// Whether what is committed under a number is what comes again.
    fn same_member(
        &self,
        kind: &str,
        index: usize,
        id: &str,
        components: &[Component],
        judged: Option<(f64, f64, f64)>,
    ) -> Result<()> {
        let sql = "select id, score, cost from members where kind = ?1 and position = ?2";
        let stored: (String, Option<f64>, Option<f64>) =
            self.stored(self.database.query_row(sql, params![kind, index as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            }))?;
        let given = (id.to_owned(), judged.map(|(score, _, _)| score), judged.map(|(_, cost, _)| cost));
        if stored == given && self.components(kind, index)? == components {
            return Ok(());
        }
        let problem =
            format!("it is committed as {}, and comes again as {}, with other values", stored.0, id);
        Err(self.refuse(&format!("{kind} {index}"), problem))
    }

    fn count(&self, kind: &str) -> Result<usize> {
        let sql = "select count(*) from members where kind = ?1";
        let count: i64 = self.stored(self.database.query_row(sql, [kind], |row| row.get(0)))?;
        Ok(number(count))
    }

    fn components(&self, kind: &str, index: usize) -> Result<Vec<Component>> {
        let sql = "select name, value, error, higher from components
                   where kind = ?1 and position = ?2 order by place";
        self.select(sql, &[&kind, &(index as i64)], |row| {
            Ok(Component {
                name: row.get(0)?,
                value: row.get(1)?,
                error: row.get(2)?,
                higher_is_better: row.get(3)?,
            })
        })
    }

    /// The reference subnets, in order.
    ///
    /// # Errors
    /// The disk's.
    pub fn references(&self) -> Result<Vec<ReferenceRecord>> {
        let sql = "select position, id, genes from members where kind = 'reference' order by position";
        let mut records = self.select(sql, &[], |row| {
            Ok(ReferenceRecord {
                index: number(row.get(0)?),
                id: row.get(1)?,
                genes: from_json(&row.get::<_, String>(2)?)?,
                components: Vec::new(),
            })
        })?;
        for record in &mut records {
            record.components = self.components("reference", record.index)?;
        }
        Ok(records)
    }

    /// Evaluations committed so far.
    ///
    /// # Errors
    /// The disk's.
    pub fn trial_count(&self) -> Result<usize> {
        self.count("trial")
    }

    /// The evaluations, in order: what a sampler is told again on resume.
    ///
    /// # Errors
    /// The disk's.
    pub fn trials(&self) -> Result<Vec<TrialRecord>> {
        self.judged("trial")
    }

    /// Every scored architecture: the evaluations, and what other devices' searches scored on the same supernet.
    ///
    /// # Errors
    /// The disk's.
    pub fn scored(&self) -> Result<Vec<TrialRecord>> {
        let mut scored = self.trials()?;
        scored.extend(self.judged("pooled")?);
        Ok(scored)
    }

    fn judged(&self, kind: &str) -> Result<Vec<TrialRecord>> {
        let sql = "select position, id, genes, score, cost from members where kind = ?1 order by position";
        let mut records = self.select(sql, &[&kind], |row| {
            Ok(TrialRecord {
                index: number(row.get(0)?),
                id: row.get(1)?,
                genes: from_json(&row.get::<_, String>(2)?)?,
                components: Vec::new(),
                score: row.get(3)?,
                cost: row.get(4)?,
            })
        })?;
        for record in &mut records {
            record.components = self.components(kind, record.index)?;
        }
        Ok(records)
    }

    /// Seconds each evaluation took, in order. Kept apart from the trials: they differ between runs.
    ///
    /// # Errors
    /// The disk's.
    pub fn trial_seconds(&self) -> Result<Vec<f64>> {
        self.select("select seconds from clock where kind = 'trial' order by position", &[], |row| row.get(0))
    }

    /// Adds values to a training curve, such as `supernet`; a step again replaces its values.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_curve(&mut self, series: &str, rows: &[CurveRow]) -> Result<()> {
        let put = |database: &mut Connection| -> rusqlite::Result<()> {
            let transaction = database.transaction()?;
            {
                let mut insert = transaction.prepare_cached(
                    "insert or replace into curves (series, step, name, value) values (?1, ?2, ?3, ?4)",
                )?;
                for row in rows {
                    insert.execute(params![series, row.step as i64, row.name, row.value])?;
                }
            }
            transaction.commit()
        };
        let result = put(&mut self.database);
        self.stored(result)
    }

    /// A training curve by step, then name.
    ///
    /// # Errors
    /// The disk's.
    pub fn curve(&self, series: &str) -> Result<Vec<CurveRow>> {
        let sql = "select step, name, value from curves where series = ?1 order by step, name";
        self.select(sql, &[&series], |row| {
            Ok(CurveRow {
                step: number(row.get(0)?) as u64,
                name: row.get(1)?,
                value: row.get::<_, Option<f64>>(2)?.unwrap_or(f64::NAN),
            })
        })
    }

    /// Names of the training curves.
    ///
    /// # Errors
    /// The disk's.
    pub fn curve_names(&self) -> Result<Vec<String>> {
        self.select("select distinct series from curves order by series", &[], |row| row.get(0))
    }
}
