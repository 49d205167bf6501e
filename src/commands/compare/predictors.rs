//! Predictors on a table.

use std::collections::BTreeSet;

use masktas_search::compare::{PredictorRow, PredictorTask, baseline, predictors};
use masktas_search::progress::Progress as _;
use masktas_search::report::Comparison;
use masktas_search::table::TableSpace;
use serde_json::{Value, json};

use super::{Both, Options, column_number, command, interval, number, repeats, signed, within};
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

pub fn run(options: &Options, space: &TableSpace, score: String, console: &mut Console) -> Outcome {
    if options.seeds == 0 {
        return Err(Failure::usage("0 seeds; give at least 1"));
    }
    let kept = options.kept(console)?;
    let (names, labels, splits) = (options.predictors.clone(), options.labels.clone(), options.seeds);
    let beside = options
        .beside
        .as_deref()
        .map(|text| column_number("--beside", text, "cifar10_valid_12=200"))
        .transpose()?;
    let task = PredictorTask { space, score, names, labels, splits, beside };
    let reporter = &mut console.reporter;
    let rows = task.names.len() * task.labels.len() * (1 + usize::from(task.beside.is_some()));
    reporter.begin("compare", (rows * splits) as u64, "fit");
    let rows = predictors(&task, &kept, &mut |done| {
        reporter.advance(done as u64, "");
        reporter.stop()
    })
    .map_err(|error| options.stopped(error))?;
    reporter.end(&format!("{splits} splits each"));
    let mut table = Both::new(&[
        "labels",
        "predictor",
        "tau",
        "sd",
        "95 % of the mean",
        "less the first's",
        "95 %",
        "covered",
    ]);
    for row in &rows {
        table.rows.push(vec![
            row.labels.to_string(),
            row.predictor.clone(),
            number(row.tau.mean),
            number(row.tau.sd),
            interval(&row.tau),
            signed(row.difference.as_ref()),
            within(row.difference.as_ref()),
            format!("{:.0} %", 100.0 * row.covered),
        ]);
    }
    let mut sizes = Vec::new();
    let definition = space.definition();
    for (name, column) in [("parameters", &definition.params), ("FLOPs", &definition.flops)] {
        if let Some(column) = column {
            sizes.push((name, baseline(space, &task.score, column)?));
        }
    }
    let title = format!("{}: {}, {splits} splits", definition.name, task.score);
    let mut notes = vec![
        "tau: Kendall's tau-b on all architectures that are not fitted to; equal ones are never on both sides."
            .to_owned(),
        "covered: share of them inside the 90 % interval that the predictor states.".to_owned(),
    ];
    if let Some((column, count)) = &task.beside {
        notes.push(format!(
            "beside: a second head learnt {column} of {count} architectures, those with labels among them."
        ));
    }
    if task.beside.is_some() && task.names.iter().any(|name| name == "ridge") {
        notes.push("ridge: its heads share nothing, so what is known beside changes nothing.".to_owned());
    }
    notes.extend(repeats(space, &task.score)?);
    let words: Vec<String> = sizes.iter().map(|(name, tau)| format!("{name} {}", number(*tau))).collect();
    if !words.is_empty() {
        notes.push(format!("tau of size alone: {}", words.join(", ")));
    }
    let mut text = format!("{title}\n\n{}\n{}\n", table.text(console), notes.join("\n"));
    let line = |name: &String| {
        let of = rows.iter().filter(|row| row.predictor == *name);
        (name.clone(), of.map(|row| (row.labels as f64, row.tau)).collect())
    };
    let names: BTreeSet<String> = rows.iter().map(|row| row.predictor.clone()).collect();
    let page = Comparison {
        title,
        command: command(),
        notes,
        lines: names.iter().map(line).collect(),
        head: table.head,
        rows: table.rows,
        axes: ["architectures fitted to".to_owned(), format!("tau with {}", task.score)],
    };
    options.write(&page, &taus(&rows), &mut text)?;
    let json = json!({
        "table": options.table, "score": task.score, "splits": splits,
        "predictors": serde_json::to_value(&rows).unwrap_or(Value::Null),
        "size_alone": sizes.iter().map(|(name, tau)| json!({ "name": name, "tau": tau })).collect::<Vec<_>>(),
        "csv": options.csv, "page": options.page(),
    });
    Ok(Answer::new(text, json))
}

fn taus(rows: &[PredictorRow]) -> String {
    let mut csv = "predictor,labels,tau,sd,low,high,covered\n".to_owned();
    for row in rows {
        let PredictorRow { predictor, labels, tau, covered, .. } = row;
        csv.push_str(&format!(
            "{predictor},{labels},{},{},{},{},{covered}\n",
            tau.mean, tau.sd, tau.low, tau.high
        ));
    }
    csv
}
