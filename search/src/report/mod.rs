//! A run as one HTML file: what was searched, what was found, and how far each number can be trusted.
//!
//! ```text
//! Run ─► collect ─► ReportData (plain data) ─► charts (SVG) ─┐
//!                                         └─► template ◄─────┘ ─► report.html
//! ```
//!
//! The file needs nothing else: no network, no script, light and dark, and it prints. It can be made
//! while the search still runs, because a run is opened for reading only.

mod charts;
mod collect;
mod comparison;
mod data;
mod drawing;
mod plot;

use std::path::PathBuf;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

pub use collect::{axis, collect};
pub use comparison::Comparison;
pub use data::{
    ComponentRow, Curve, Fact, FinalistRow, FrontRow, LatencySection, Line, MeasuredRow, Notice, ParityRow,
    ReportData, Step, TrialPoint,
};

use crate::error::{Error, Result};
use crate::run::{Run, write_atomic};
use crate::teacher::TaughtBy;

/// Name of the file in the run's folder.
pub const FILE: &str = "report.html";

const TEMPLATE: &str = include_str!("report.html.jinja");
const STYLE: &str = include_str!("report.css");

/// The report of a run.
///
/// # Errors
/// When the run's records cannot be read.
pub fn html(run: &Run) -> Result<String> {
    render(&collect(run)?)
}

/// Writes the report into the run's folder and says where.
///
/// # Errors
/// As [`html`], and when the file cannot be written.
pub fn write(run: &Run) -> Result<PathBuf> {
    let path = run.folder().join(FILE);
    write_atomic(&path, html(run)?.as_bytes())?;
    Ok(path)
}

/// The page of data that were collected before.
///
/// # Errors
/// [`Error::Unusable`] when the page cannot be made; that is an error of this program.
pub fn render(data: &ReportData) -> Result<String> {
    let invalid = |error: minijinja::Error| Error::Unusable {
        thing: "report".into(),
        problem: format!("{error:#}"),
        next: "please report this with the run's version".into(),
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report", TEMPLATE).map_err(invalid)?;
    let page = environment.get_template("report").map_err(invalid)?;
    let latency: Vec<_> = data
        .latency
        .iter()
        .map(|section| {
            context! {
                section => Serde(section),
                scatter => charts::predicted(section),
                residuals => charts::residuals(section),
            }
        })
        .collect();
    let curves: Vec<_> = data
        .curves
        .iter()
        .map(|curve| context! { name => curve.name.as_str(), chart => charts::curve(curve) })
        .collect();
    let across: Vec<_> = data
        .across
        .iter()
        .map(|section| context! { section => Serde(section), chart => charts::across(section) })
        .collect();
    let drawings: Vec<_> = data
        .finalists
        .iter()
        .map(|finalist| context! { row => Serde(finalist), drawing => drawing::architecture(&finalist.arch) })
        .collect();
    let teacher = data.teacher.as_ref();
    page.render(context! {
        style => STYLE,
        data => Serde(data),
        label_free => teacher.is_some_and(TaughtBy::label_free),
        doubt => teacher.and_then(TaughtBy::doubt).unwrap_or_default(),
        front_chart => charts::front(data),
        component_chart => charts::components(data),
        latency => latency,
        across => across,
        curves => curves,
        finalists => drawings,
    })
    .map_err(invalid)
}

#[cfg(test)]
mod tests;
