//! Tables that several commands print.

use masktas_devices::{Measurement, Parity, Steadiness};
use masktas_runtime::{Tolerance, Verdict};
use masktas_search::budget::Kind;
use masktas_search::pipeline::{Candidate, Finalist};
use masktas_search::teacher::TaughtBy;

use crate::style::{Paint, Style};
use crate::table::{Cell, Table};

/// A verdict, coloured.
pub fn verdict(verdict: Verdict) -> Cell {
    let paint = match verdict {
        Verdict::Pass => Paint::Good,
        Verdict::Warn => Paint::Warn,
        Verdict::Fail => Paint::Bad,
    };
    Cell::painted(verdict.to_string(), paint)
}

/// Every engine's answer to a golden pair.
pub fn parity(parity: &Parity, style: Style) -> String {
    let mut table = Table::new(&["engine", "version", "provider", "difference", "verdict"]);
    let mut reasons = String::new();
    for row in &parity.rows {
        let difference = row.difference.map_or("-".to_owned(), |difference| format!("{difference:.1e}"));
        // What is judged by wider bounds says so.
        let engine =
            if row.tolerance == Tolerance::F16 { format!("{}, f16", row.engine) } else { row.engine.clone() };
        table.row(vec![
            engine.into(),
            row.version.as_deref().unwrap_or("-").into(),
            row.provider.as_deref().unwrap_or("-").into(),
            difference.into(),
            verdict(row.verdict),
        ]);
        if let Some(error) = &row.error {
            reasons.push_str(&format!("{}: {error}\n", row.engine));
        }
    }
    format!("{}{reasons}", table.show(style))
}

/// Timings, engine by engine.
pub fn timings(timings: &[&Measurement], style: Style) -> String {
    let mut table = Table::new(&[
        "engine",
        "median ms",
        "p90",
        "p99",
        "MAD",
        "runs",
        "load ms",
        "first ms",
        "steadiness",
    ]);
    let mut notes = String::new();
    for timing in timings {
        let paint = if timing.verdict == Steadiness::Steady { Paint::Good } else { Paint::Warn };
        table.row(vec![
            timing.engine.as_str().into(),
            format!("{:.3}", timing.median_ms).into(),
            format!("{:.3}", timing.p90_ms).into(),
            format!("{:.3}", timing.p99_ms).into(),
            format!("{:.3}", timing.mad_ms).into(),
            timing.n.to_string().into(),
            format!("{:.1}", timing.cold_load_ms).into(),
            format!("{:.2}", timing.first_run_ms).into(),
            Cell::painted(timing.verdict.to_string(), paint),
        ]);
        for note in &timing.notes {
            notes.push_str(&format!("{}: {note}\n", timing.engine));
        }
    }
    format!("{}{notes}", table.show(style))
}

/// Heading of milliseconds that come from the catalogue.
const PRIOR: &str = "ms by prior, not measured";

/// The front of a run, cheapest first. `prior`: its milliseconds are the catalogue's.
pub fn front(front: &[Candidate], axis: Kind, prior: bool, knee: Option<usize>, style: Style) -> String {
    let cost = match axis {
        Kind::Latency if prior => PRIOR,
        Kind::Latency => "predicted ms",
        Kind::Params => "parameters",
        Kind::Flops => "FLOPs",
    };
    let mut table = Table::new(&["", "score", cost, "M params", "M FLOPs", "id"]);
    for (at, member) in front.iter().enumerate() {
        let mark = match at {
            _ if Some(at) == knee => "knee",
            0 => "fastest",
            _ if at + 1 == front.len() => "best",
            _ => "",
        };
        let cost = match axis {
            Kind::Latency => format!("{:.3}", member.cost),
            Kind::Params | Kind::Flops => format!("{:.0}", member.cost),
        };
        table.row(vec![
            Cell::painted(mark, Paint::Good),
            format!("{:.4}", member.score).into(),
            cost.into(),
            format!("{:.3}", member.parameters as f64 / 1e6).into(),
            format!("{:.1}", member.flops as f64 / 1e6).into(),
            member.id.as_str().into(),
        ]);
    }
    table.show(style)
}

/// Who taught, and whether what came of it is label-free: one line; nothing while there is no teacher.
pub fn teacher(teacher: Option<&TaughtBy>) -> String {
    teacher.map_or_else(String::new, |teacher| {
        format!("teacher: {}, {}\n", teacher.name, teacher.doubt().unwrap_or("label-free"))
    })
}

/// Members of the front that were made into files and checked; where latency counts, with prediction and measurement.
/// `prior`: the prediction is the catalogue's.
pub fn finalists(finalists: &[Finalist], prior: bool, style: Style) -> String {
    let engines =
        distinct(finalists.iter().flat_map(|one| one.parity.rows.iter().map(|row| row.engine.as_str())));
    let measured = distinct(finalists.iter().flat_map(|one| one.measured.iter().map(|m| m.engine.as_str())));
    let foretold = finalists.iter().any(|one| one.predicted.is_some());
    let mut head = vec!["score".to_owned()];
    let foretelling = if prior { PRIOR } else { "predicted ms (90 %)" };
    head.extend(foretold.then(|| foretelling.to_owned()));
    head.extend(measured.iter().map(|engine| format!("measured {engine}")));
    head.extend(engines.iter().map(|engine| format!("parity {engine}")));
    let there = finalists.iter().any(|one| one.there.is_some());
    head.extend(there.then(|| "parity there".to_owned()));
    head.push("id".to_owned());
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for one in finalists {
        let predicted = one
            .predicted
            .as_ref()
            .map_or("-".to_owned(), |p| format!("{:.3} ({:.3} to {:.3})", p.ms, p.low, p.high));
        let mut row: Vec<Cell> = vec![format!("{:.4}", one.candidate.score).into()];
        row.extend(foretold.then(|| Cell::from(predicted)));
        row.extend(measured.iter().map(|engine| {
            let found = one.measured.iter().find(|measured| measured.engine == *engine);
            let mark = |m: &Measurement| match m.verdict {
                Steadiness::Steady => String::new(),
                other => format!(" {other}"),
            };
            // The prediction is the first engine's.
            let foretold = one.predicted.as_ref().filter(|_| !prior && measured.first() == Some(engine));
            let missed = |m: &Measurement| foretold.is_some_and(|p| m.ms < p.low || m.ms > p.high);
            match found {
                Some(m) if missed(m) => Cell::painted(format!("{:.3}{} outside", m.ms, mark(m)), Paint::Warn),
                Some(m) => format!("{:.3}{}", m.ms, mark(m)).into(),
                None => "-".into(),
            }
        }));
        row.extend(engines.iter().map(|engine| {
            let found = one.parity.rows.iter().find(|row| row.engine == *engine);
            found.map_or("-".into(), |row| verdict(row.verdict))
        }));
        if there {
            row.push(one.there.as_ref().map_or("-".into(), |parity| verdict(parity.verdict)));
        }
        row.push(one.candidate.id.as_str().into());
        table.row(row);
    }
    table.show(style)
}

/// The names, each once, in the order they come first.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut once = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}

/// The worst verdict of all finalists.
pub fn worst(finalists: &[Finalist]) -> Option<Verdict> {
    finalists.iter().map(Finalist::verdict).max()
}
