//! Samplers on a table.

use masktas_search::compare::{Task, samplers};
use masktas_search::progress::Progress as _;
use masktas_search::report::Comparison;
use masktas_search::table::TableSpace;
use serde_json::{Value, json};

use super::{
    Both, Options, STANDING, column_number, command, curves, interval, number, only_drawn, repeats, standing,
};
use crate::console::{Answer, Console, Outcome};

pub fn run(
    options: &Options,
    space: &TableSpace,
    score: String,
    report: String,
    console: &mut Console,
) -> Outcome {
    let entrants = options.entrants()?;
    let limit =
        options.limit.as_deref().map(|text| column_number("--limit", text, "flops_m_c10=100")).transpose()?;
    let kept = options.kept(console)?;
    let task = Task { space, score, report, limit, queries: options.queries, seeds: options.seeds };
    let reporter = &mut console.reporter;
    reporter.begin("compare", (entrants.len() * task.seeds) as u64, "seed");
    let rows = samplers(&task, &entrants, 0, &kept, &mut |done| {
        reporter.advance(done as u64, "");
        reporter.stop()
    })
    .map_err(|error| options.stopped(error))?;
    reporter.end(&format!("{} samplers, {} searches each", rows.len(), task.seeds));
    let first = rows[0].sampler.clone();
    let head = ["sampler", "regret", "sd", "95 % of the mean", &task.report];
    let mut table = Both::new(&[&head[..], &STANDING].concat());
    for row in &rows {
        let cells = [
            row.sampler.clone(),
            number(row.regret.mean),
            number(row.regret.sd),
            interval(&row.regret),
            format!("{} ± {}", number(row.report.mean), number(row.report.sd)),
        ];
        table.rows.push(cells.into_iter().chain(standing(&row.standing)).collect());
    }
    let all = space.members().len();
    let (within, fitting) = match &task.limit {
        Some((column, most)) => {
            let fitting = space.column(column)?.into_iter().filter(|value| value <= most).count();
            (format!(" with {column} at most {most}"), fitting)
        }
        None => (String::new(), all),
    };
    let title = format!(
        "{}: {} after {} of {fitting} architectures{within}, {} seeds",
        space.definition().name,
        task.score,
        task.queries.min(fitting),
        task.seeds
    );
    let mut notes = vec![
        format!(
            "regret: the best {} there is less the best found. {}: mean ± sd of what was found, not searched by.",
            task.score, task.report
        ),
        format!(
            "less the first's: regret less that of {first} on the same seed; wins: share of seeds with less regret than {first}, ties half."
        ),
        "ms: asking and telling, per architecture".to_owned(),
    ];
    notes.extend(only_drawn(&entrants, task.queries.min(fitting)));
    notes.extend(repeats(space, &task.score)?);
    let mut text = format!("{title}\n\n{}\n{}\n", table.text(console), notes.join("\n"));
    let csv = curves("best", rows.iter().map(|row| (row.sampler.as_str(), &row.standing.curves)));
    // The best there is: what every curve's end and its regret add up to.
    let ends = rows[0].standing.curves.iter().filter_map(|curve| curve.last());
    let best = rows[0].regret.mean + ends.sum::<f64>() / rows[0].standing.curves.len().max(1) as f64;
    let page = Comparison {
        title,
        command: command(),
        notes,
        lines: rows
            .iter()
            .map(|row| Comparison::line(&row.sampler, &row.standing.curves, |y| best - y))
            .collect(),
        head: table.head,
        rows: table.rows,
        axes: ["architectures rated".to_owned(), format!("regret of {} (lower is better)", task.score)],
    };
    options.write(&page, &csv, &mut text)?;
    let json = json!({
        "table": options.table, "score": task.score, "report": task.report, "queries": task.queries, "limit": options.limit, "architectures": fitting, "seeds": task.seeds,
        "samplers": serde_json::to_value(&rows).unwrap_or(Value::Null), "csv": options.csv, "page": options.page(),
    });
    Ok(Answer::new(text, json))
}
