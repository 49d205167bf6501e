//! Samplers on the supernet of a run.

use masktas_search::compare::{FrontTask, fronts};
use masktas_search::pipeline::Ground;
use masktas_search::progress::Progress as _;
use masktas_search::report::Comparison;
use masktas_search::space::Space as _;
use serde_json::{Value, json};

use super::{Both, Options, STANDING, command, curves, interval, number, only_drawn, standing};
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let Some(folder) = &options.run else {
        return Err(Failure::usage("nothing to compare on; give --table FILE or --run RUN"));
    };
    let entrants = options.entrants()?;
    let kept = options.kept(console)?;
    let mut ground = Ground::open(folder, &mut console.reporter)?;
    let limits: Vec<String> = ground.limits().iter().map(ToString::to_string).collect();
    let space = ground.space().name().to_owned();
    let (queries, seeds) = (options.queries, options.seeds);
    let reporter = &mut console.reporter;
    reporter.begin("compare", (entrants.len() * seeds) as u64, "seed");
    let rows =
        fronts(&mut FrontTask { ground: &mut ground, queries, seeds }, &entrants, 0, &kept, &mut |done| {
            reporter.advance(done as u64, "");
            reporter.stop()
        })
        .map_err(|error| options.stopped(error))?;
    reporter.end(&format!("{} samplers, {seeds} searches each", rows.len()));
    let first = rows[0].sampler.clone();
    let head = ["sampler", "hypervolume", "sd", "95 % of the mean", "best score"];
    let mut table = Both::new(&[&head[..], &STANDING].concat());
    for row in &rows {
        let cells = [
            row.sampler.clone(),
            number(row.hypervolume.mean),
            number(row.hypervolume.sd),
            interval(&row.hypervolume),
            format!("{} ± {}", number(row.best.mean), number(row.best.sd)),
        ];
        table.rows.push(cells.into_iter().chain(standing(&row.standing)).collect());
    }
    let title = format!("{space}, {}: fronts after {queries} architectures, {seeds} seeds", limits.join(" "));
    let mut notes = vec![
        "hypervolume: share that the front covers between the least cost and the limit, and between scores 0 and 1.".to_owned(),
        format!(
            "less the first's: hypervolume less that of {first} with the same seed; wins: share of seeds that cover more than {first}, \
             ties half."
        ),
        "ms: asking and telling, and predicting costs, per architecture".to_owned(),
    ];
    notes.extend(only_drawn(&entrants, queries));
    let mut text = format!("{title}\n\n{}\n{}\n", table.text(console), notes.join("\n"));
    let csv = curves("covered", rows.iter().map(|row| (row.sampler.as_str(), &row.standing.curves)));
    let page = Comparison {
        title,
        command: command(),
        notes,
        lines: rows.iter().map(|row| Comparison::line(&row.sampler, &row.standing.curves, |y| y)).collect(),
        head: table.head,
        rows: table.rows,
        axes: ["architectures rated".to_owned(), "hypervolume (higher is better)".to_owned()],
    };
    options.write(&page, &csv, &mut text)?;
    let json = json!({
        "run": folder, "space": space, "limits": limits, "queries": queries, "seeds": seeds,
        "samplers": serde_json::to_value(&rows).unwrap_or(Value::Null), "csv": options.csv, "page": options.page(),
    });
    Ok(Answer::new(text, json))
}
