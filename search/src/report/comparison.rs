//! A comparison of samplers or predictors as one HTML file.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use super::STYLE;
use super::plot::{Plot, WIDE, range};
use crate::compare::Summary;
use crate::error::{Error, Result};

const TEMPLATE: &str = include_str!("comparison.html.jinja");

/// What a comparison shows.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What was compared, on what.
    pub title: String,
    /// The command that gives the same.
    pub command: String,
    /// Sentences that say what the numbers are.
    pub notes: Vec<String>,
    /// Names of the columns.
    pub head: Vec<String>,
    /// One row a contestant.
    pub rows: Vec<Vec<String>>,
    /// One line a contestant: its name, and points of x and what lies there.
    pub lines: Vec<(String, Vec<(f64, Summary)>)>,
    /// Names of the axes.
    pub axes: [String; 2],
}

impl Comparison {
    /// A line from curves of several seeds: their mean, query by query. A search that ended early stays where it ended.
    pub fn line(name: &str, curves: &[Vec<f64>], of: impl Fn(f64) -> f64) -> (String, Vec<(f64, Summary)>) {
        let longest = curves.iter().map(Vec::len).max().unwrap_or(0);
        let point = |at: usize| {
            let there = |curve: &Vec<f64>| curve.get(at).or(curve.last()).copied();
            let values: Vec<f64> = curves.iter().filter_map(there).map(&of).collect();
            ((at + 1) as f64, Summary::of(&values))
        };
        (name.to_owned(), (0..longest).map(point).collect())
    }

    /// The page; it needs nothing else.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it cannot be made; that is an error of this program.
    pub fn html(&self) -> Result<String> {
        let invalid = |error: minijinja::Error| Error::Unusable {
            thing: "report of a comparison".into(),
            problem: format!("{error:#}"),
            next: "please report this with the command".into(),
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_template("comparison", TEMPLATE).map_err(invalid)?;
        let names: Vec<String> = self.lines.iter().map(|(name, _)| name.clone()).collect();
        let page = environment.get_template("comparison").map_err(invalid)?;
        page.render(context! {
            style => STYLE, version => env!("CARGO_PKG_VERSION"), title => self.title.as_str(),
            command => self.command.as_str(), notes => Serde(&self.notes), head => Serde(&self.head),
            rows => Serde(&self.rows), names => Serde(names), chart => self.chart(),
        })
        .map_err(invalid)
    }

    fn chart(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let x = range(points().map(|(x, _)| *x));
        let y = range(points().flat_map(|(_, there)| [there.low, there.high]));
        let mut plot = Plot::new(&self.title, WIDE, x, y);
        for (_, points) in &self.lines {
            let low = points.iter().map(|(x, there)| (*x, there.low));
            let high = points.iter().rev().map(|(x, there)| (*x, there.high));
            let around: Vec<(f64, f64)> = low.chain(high).collect();
            if around.iter().all(|(_, y)| y.is_finite()) {
                plot.area(&around, "band");
            }
        }
        for (at, (name, points)) in self.lines.iter().enumerate() {
            let means: Vec<(f64, f64)> = points.iter().map(|(x, there)| (*x, there.mean)).collect();
            let class = format!("term{}", at % 6);
            plot.line(&means, &format!("term {class}"));
            if let Some((x, y)) = means.last() {
                plot.dot(*x, *y, 3.0, &format!("end {class}"), &format!("{name}: {y:.4}"));
            }
        }
        plot.finish(&self.axes[0], &self.axes[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_line_and_a_row_for_each_and_escapes_names() {
        let curves = [vec![1.0, 3.0, 3.0], vec![2.0, 2.0]];
        let page = Comparison {
            title: "a & <b>".to_owned(),
            rows: vec![vec!["<one>".to_owned(), "2.5".to_owned()], vec!["two".to_owned(), "-".to_owned()]],
            head: vec!["name".to_owned(), "value".to_owned()],
            lines: vec![
                Comparison::line("<one>", &curves, |y| 3.0 - y),
                Comparison::line("two", &curves[..1], |y| y),
            ],
            axes: ["queries".to_owned(), "regret".to_owned()],
            ..Comparison::default()
        };
        let means: Vec<f64> = page.lines[0].1.iter().map(|(_, there)| there.mean).collect();
        assert_eq!(means, [1.5, 0.5, 0.5], "the shorter curve stays where it ended");
        let html = page.html().expect("a page");
        assert_eq!(html.matches("<path class=\"term term").count(), 2);
        assert_eq!(html.matches("<polygon class=\"band\"").count(), 2);
        assert!(html.contains("&lt;one&gt;") && !html.contains("<one>") && !html.contains("NaN"), "{html}");
    }
}
