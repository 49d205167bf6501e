//! The charts of a report.

use super::data::{Curve, LatencySection, ReportData};
use super::plot::{HALF, Plot, WIDE, range};
use crate::pipeline::Across;

/// Score against cost: every trial, the front as a line, the picks by name.
pub fn front(data: &ReportData) -> String {
    let limit = data.limit.into_iter();
    let highest = range(data.trials.iter().map(|trial| trial.cost));
    // A limit far outside what was found would squeeze everything else.
    let near = limit.filter(|limit| *limit <= highest[1] + (highest[1] - highest[0]).max(0.1 * highest[1]));
    let limit = near.clone().next();
    let x = range(data.trials.iter().map(|trial| trial.cost).chain(near));
    let [low, high] = range(data.trials.iter().map(|trial| trial.score));
    // Room for a word below the lowest member.
    let y = [low - 0.06 * (high - low), high];
    let mut plot = Plot::new("Score against cost of every scored architecture", WIDE, x, y);
    if let Some(limit) = limit {
        plot.line(&[(limit, y[0]), (limit, y[1])], "limit");
        plot.word(limit, y[1], false, "budget");
    }
    for trial in data.trials.iter().filter(|trial| !trial.on_front) {
        let text = format!("{}\nscore {:.4}, cost {:.4}", trial.id, trial.score, trial.cost);
        plot.dot(trial.cost, trial.score, 2.6, "trial", &text);
    }
    // Between two members the front is a step: what costs a little less is the cheaper member.
    let mut steps = Vec::new();
    for member in &data.front {
        if let Some((_, score)) = steps.last().copied() {
            steps.push((member.cost, score));
        }
        steps.push((member.cost, member.score));
    }
    plot.line(&steps, "front");
    for member in &data.front {
        let text = format!("{}\nscore {:.4}, cost {:.4}", member.id, member.score, member.cost);
        let radius = if member.mark.is_empty() { 4.0 } else { 6.0 };
        plot.dot(member.cost, member.score, radius, "member", &text);
    }
    for member in data.front.iter().filter(|member| !member.mark.is_empty()) {
        // The front climbs from its first member, so there is room below that one.
        plot.word(member.cost, member.score, member.mark == "fastest", &member.mark);
    }
    plot.finish(&data.cost_name, "score (higher is better)")
}

/// The first two components of the score against each other, references beside trials.
pub fn components(data: &ReportData) -> Option<String> {
    let names: Vec<&str> = data.front.first()?.components.iter().map(|c| c.name.as_str()).collect();
    let (&first, &second) = (names.first()?, names.get(1)?);
    let pair = |values: &[f64]| Some((*values.first()?, *values.get(1)?));
    let references: Vec<(f64, f64)> = data.references.iter().filter_map(|values| pair(values)).collect();
    let trials: Vec<(f64, f64)> = data.trials.iter().filter_map(|trial| pair(&trial.components)).collect();
    let all = || references.iter().chain(&trials);
    let mut plot = Plot::new(
        "Components of the score",
        WIDE,
        range(all().map(|point| point.0)),
        range(all().map(|point| point.1)),
    );
    for (x, y) in &references {
        plot.dot(*x, *y, 3.0, "reference", "reference subnet");
    }
    for trial in data.trials.iter().filter(|trial| !trial.on_front) {
        if let Some((x, y)) = pair(&trial.components) {
            plot.dot(x, y, 2.6, "trial", &trial.id);
        }
    }
    for trial in data.trials.iter().filter(|trial| trial.on_front) {
        if let Some((x, y)) = pair(&trial.components) {
            plot.dot(x, y, 4.0, "member", &trial.id);
        }
    }
    Some(plot.finish(first, second))
}

/// Score against what one device measured, a line a front.
pub fn across(section: &Across) -> String {
    let all = || section.fronts.iter().flat_map(|front| &front.members);
    let x = range(all().map(|member| member.ms));
    let y = range(all().map(|member| member.score));
    let mut plot = Plot::new(&format!("Finalists of every front on {}", section.target), HALF, x, y);
    for (at, front) in section.fronts.iter().enumerate() {
        let points: Vec<(f64, f64)> = front.members.iter().map(|member| (member.ms, member.score)).collect();
        plot.line(&points, &format!("term term{}", at % 6));
        for member in &front.members {
            let text = format!(
                "{}\nsearched for {}, score {:.4}, {:.3} ms",
                member.id, front.searched_for, member.score, member.ms
            );
            plot.dot(member.ms, member.score, 4.0, &format!("end term{}", at % 6), &text);
        }
    }
    plot.finish(&format!("ms measured on {}", section.target), "score (higher is better)")
}

/// Predicted against measured milliseconds, with the band of 10 %.
pub fn predicted(section: &LatencySection) -> String {
    let all = || section.fitted.iter().chain(&section.fresh);
    let span = range(all().flat_map(|(_, measured, predicted)| [*measured, *predicted]));
    let mut plot = Plot::new("Predicted against measured latency", HALF, span, span);
    let [low, high] = plot.span();
    // The band's outline, cut off at the frame.
    let band = [
        (low, low),
        (low / 0.9, low),
        (high, high * 0.9),
        (high, high),
        (high / 1.1, high),
        (low, low * 1.1),
    ];
    let inside = |(x, y): (f64, f64)| (x.clamp(low, high), y.clamp(low, high));
    plot.area(&band.map(inside), "band");
    plot.line(&[(low, low), (high, high)], "ideal");
    for (id, measured, predicted) in &section.fitted {
        plot.dot(*measured, *predicted, 3.2, "trial", &words(id, *measured, *predicted));
    }
    for (id, measured, predicted) in &section.fresh {
        plot.dot(*measured, *predicted, 5.5, "member", &words(id, *measured, *predicted));
    }
    plot.finish("measured ms", "predicted ms")
}

/// Percentage errors against measured milliseconds.
pub fn residuals(section: &LatencySection) -> String {
    let percent = |measured: f64, predicted: f64| 100.0 * (predicted - measured) / measured;
    let all = || section.fitted.iter().chain(&section.fresh);
    let x = range(all().map(|(_, measured, _)| *measured));
    let y = range(all().map(|(_, measured, predicted)| percent(*measured, *predicted)).chain([-12.0, 12.0]));
    let mut plot = Plot::new("Errors of the predicted latency in percent", HALF, x, y);
    let [left, right] = plot.span();
    plot.area(&[(left, -10.0), (right, -10.0), (right, 10.0), (left, 10.0)], "band");
    plot.line(&[(left, 0.0), (right, 0.0)], "ideal");
    for (id, measured, predicted) in &section.fitted {
        let text = words(id, *measured, *predicted);
        plot.dot(*measured, percent(*measured, *predicted), 3.2, "trial", &text);
    }
    for (id, measured, predicted) in &section.fresh {
        let text = words(id, *measured, *predicted);
        plot.dot(*measured, percent(*measured, *predicted), 5.5, "member", &text);
    }
    plot.finish("measured ms", "error %")
}

fn words(id: &str, measured: f64, predicted: f64) -> String {
    let error = 100.0 * (predicted - measured) / measured;
    format!("{id}\nmeasured {measured:.3} ms, predicted {predicted:.3} ms ({error:+.1} %)")
}

/// A training curve, one line a term.
pub fn curve(curve: &Curve) -> String {
    let points = || curve.lines.iter().flat_map(|line| line.points.iter());
    let x = range(points().map(|point| point.0));
    let y = range(points().map(|point| point.1));
    let mut plot = Plot::new(&format!("Training of the {}", curve.name), HALF, x, y);
    for (at, line) in curve.lines.iter().enumerate() {
        plot.line(&line.points, &format!("term term{}", at % 6));
        if let Some((step, value)) = line.points.last() {
            plot.dot(
                *step,
                *value,
                3.0,
                &format!("end term{}", at % 6),
                &format!("{}: {value:.4}", line.name),
            );
        }
    }
    plot.finish("step", "loss term")
}
