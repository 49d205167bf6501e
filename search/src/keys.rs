//! TOML with a known set of keys: errors that name file, line and the key that was meant.

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::suggest::{closest, hint};

/// Reads TOML. `place` is how errors call the text, `help` their next step.
pub(crate) fn parse(place: &str, text: &str, help: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| Error::Config {
        place: match error.span() {
            Some(span) => format!("{place}:{}", line_at(text, span.start)),
            None => place.to_owned(),
        },
        problem: format!("not TOML: {}", error.message().replace('\n', ", ")),
        next: help.to_owned(),
    })
}

/// Whether `table`, read from `text`, has only keys of `schema`, with values of their types. An
/// integer may stand where the schema has a float.
pub(crate) fn check(place: &str, text: &str, table: &Table, schema: &Table) -> Result<()> {
    check_section(place, text, table, schema, "", schema)
}

fn check_section(
    place: &str,
    text: &str,
    table: &Table,
    schema: &Table,
    prefix: &str,
    root: &Table,
) -> Result<()> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let fail = |problem: String, next: String| {
            let place = match line_of(text, &path) {
                Some(line) => format!("{place}:{line}"),
                None => place.to_owned(),
            };
            Err(Error::Config { place, problem, next })
        };
        match (schema.get(key), value) {
            (None, _) => return fail(format!("unknown key `{path}`"), suggestion(key, schema, root)),
            (Some(Value::Table(inner)), Value::Table(value)) => {
                check_section(place, text, value, inner, &path, root)?;
            }
            (Some(expected), value) => {
                let number = expected.is_float() && value.is_integer();
                if !number && !expected.same_type(value) {
                    let next = match expected {
                        Value::Table(_) => format!("write it as a section, [{path}]"),
                        _ => format!("write it like `{key} = {expected}`"),
                    };
                    let (expected, found) = (expected.type_str(), value.type_str());
                    return fail(format!("`{path}` takes {expected}, not {found} ({value})"), next);
                }
            }
        }
    }
    Ok(())
}

/// A close key of the same section, or the sections where this key exists.
/// The first key, in the order of their names, whose value differs between two tables, with both values as text; a
/// missing one is `none`.
pub(crate) fn first_difference(one: &Table, other: &Table) -> Option<(String, String, String)> {
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), ToString::to_string);
    names.into_iter().find_map(|name| match (one.get(name), other.get(name)) {
        (Some(Value::Table(one)), Some(Value::Table(other))) => {
            first_difference(one, other).map(|(key, one, other)| (format!("{name}.{key}"), one, other))
        }
        (one, other) if one == other => None,
        (one, other) => Some((name.clone(), text(one), text(other))),
    })
}

fn suggestion(key: &str, siblings: &Table, root: &Table) -> String {
    if closest(key, siblings.keys().map(String::as_str)).is_none() {
        let homes: Vec<String> = root
            .iter()
            .filter(|(_, section)| section.get(key).is_some())
            .map(|(section, _)| format!("`{section}.{key}`"))
            .collect();
        if !homes.is_empty() {
            return format!("did you mean {}?", homes.join(" or "));
        }
    }
    hint(key, siblings.keys().map(String::as_str))
}

/// The line where a key stands, from 1.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
        if parts.peek().is_none() {
            return Some(line_at(text, key.span().start));
        }
        table = value.get_ref().as_table()?;
    }
    None
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
