//! `masktas compare`: samplers or predictors side by side, on a table of architectures whose accuracy is known.

use std::path::PathBuf;

use clap::Args;
use masktas_search::compare::{Entrant, PredictorRow, Row, Summary, Task, baseline, predictors, samplers};
use masktas_search::progress::Progress as _;
use masktas_search::run::write_atomic;
use masktas_search::table::TableSpace;
use serde_json::{Value, json};

use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;
use crate::table::Table;

const AFTER: &str = "\
Samplers: random, evolution, regularised-evolution, tpe, npenas, seminas; npenas/ridge guesses by another predictor.
Predictors: ridge, mlp, encoder-decoder, encoder-decoder-supervised, gin; gin+ged and gin+ccl are pre-trained on architectures that nobody rated.
Tables read without --read: nasbench201.csv, nasbench101_subset.csv, nasbench_macro.csv, vit_autoformer.csv.";

/// Options of `masktas compare`.
#[derive(Args)]
#[command(after_help = AFTER)]
pub struct Options {
    /// A CSV file: one architecture a row, its first line the names of the columns
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// How the table is read: a name, or a TOML file [default: by the table's name, or a TOML file of its name beside it]
    #[arg(long, value_name = "NAME")]
    read: Option<String>,
    /// The column searched by, or guessed; higher is better [default: the first that the reading names]
    #[arg(long, value_name = "COLUMN")]
    score: Option<String>,
    /// The column shown beside it, which no search sees [default: as the reading says]
    #[arg(long, value_name = "COLUMN")]
    report: Option<String>,
    /// Samplers, by comma; the first is what the others are paired with
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required_unless_present = "predictors")]
    samplers: Vec<String>,
    /// Predictors, by comma; the first is what the others are paired with
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "samplers")]
    predictors: Vec<String>,
    /// Architectures rated in a search
    #[arg(long, value_name = "N", default_value_t = 100)]
    queries: usize,
    /// Searches of each sampler, or splits for each predictor
    #[arg(long, value_name = "N", default_value_t = 50)]
    seeds: usize,
    /// Rated architectures that predictors are fitted to, by comma
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [20, 50, 100, 200])]
    labels: Vec<usize>,
    /// Only architectures whose value in this column is at most so much, such as flops_m_c10=100
    #[arg(long, value_name = "COLUMN=MOST", conflicts_with = "predictors")]
    limit: Option<String>,
    /// A setting of every sampler, such as sampler.gamma=0.2
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "predictors")]
    sets: Vec<String>,
    /// Write the numbers to a CSV file: the best score so far by sampler, seed and query, or tau by predictor and labels
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let space = TableSpace::load(&options.table, options.read.as_deref())?;
    let definition = space.definition();
    let score = options.score.clone().unwrap_or_else(|| definition.scores[0].clone());
    let known = definition.scores.iter().position(|column| *column == score);
    let report = options.report.clone().unwrap_or_else(|| match known {
        Some(at) => definition.reports[at].clone(),
        None => score.clone(),
    });
    if options.predictors.is_empty() {
        of_samplers(options, &space, score, report, console)
    } else {
        of_predictors(options, &space, &score, console)
    }
}

fn of_samplers(
    options: &Options,
    space: &TableSpace,
    score: String,
    report: String,
    console: &mut Console,
) -> Outcome {
    if options.queries == 0 || options.seeds == 0 {
        let (queries, seeds) = (options.queries, options.seeds);
        return Err(Failure::usage(format!("{queries} queries and {seeds} seeds; give at least 1 of each")));
    }
    let limit = options.limit.as_deref().map(limit).transpose()?;
    let entrants = options
        .samplers
        .iter()
        .map(|name| Entrant::parse(name, &options.sets))
        .collect::<Result<Vec<_>, _>>()?;
    let task = Task { space, score, report, limit, queries: options.queries, seeds: options.seeds };
    let reporter = &mut console.reporter;
    reporter.begin("compare", entrants.len() as u64, "sampler");
    let rows = samplers(&task, &entrants, 0, &mut |done| {
        reporter.advance(done as u64, "");
        reporter.stop()
    })?;
    reporter.end(&format!("{} samplers, {} searches each", rows.len(), options.seeds));
    let first = rows[0].sampler.clone();
    let mut table = Table::new(&[
        "sampler",
        "regret",
        "sd",
        "95 % of the mean",
        &task.report,
        "less the first's",
        "95 %",
        "wins",
        "ms",
    ]);
    for row in &rows {
        let paired = row.difference.as_ref();
        table.row(vec![
            row.sampler.as_str().into(),
            number(row.regret.mean).into(),
            number(row.regret.sd).into(),
            interval(&row.regret).into(),
            format!("{} ± {}", number(row.report.mean), number(row.report.sd)).into(),
            paired.map_or("-".to_owned(), |d| format!("{:+.3}", d.mean)).into(),
            paired.map_or("-".to_owned(), interval).into(),
            row.wins.map_or("-".to_owned(), |wins| format!("{:.0} %", 100.0 * wins)).into(),
            format!("{:.2}", row.overhead_ms).into(),
        ]);
    }
    let text = format!(
        "{}: {} after {} of {} architectures, {} seeds\n\n{}\nregret: the best {} there is less the best found. {}: mean ± sd of what \
         was found, not searched by.\nless the first's: regret less that of {first} on the same seed; wins: share of seeds with less \
         regret than {first}, ties half.\nms: asking and telling, per architecture\n",
        space.definition().name,
        task.score,
        task.queries,
        space.members().len(),
        task.seeds,
        table.show(console.style),
        task.score,
        task.report,
    );
    if let Some(path) = &options.csv {
        write_atomic(path, curves(&rows).as_bytes())?;
    }
    let json = json!({
        "table": options.table, "score": task.score, "report": task.report, "queries": task.queries, "seeds": task.seeds,
        "samplers": serde_json::to_value(&rows).unwrap_or(Value::Null), "csv": options.csv,
    });
    Ok(Answer::new(text, json))
}

fn of_predictors(options: &Options, space: &TableSpace, score: &str, console: &mut Console) -> Outcome {
    if options.seeds == 0 {
        return Err(Failure::usage("0 seeds; give at least 1"));
    }
    let reporter = &mut console.reporter;
    reporter.begin("compare", (options.predictors.len() * options.labels.len()) as u64, "predictor");
    let rows = predictors(space, score, &options.predictors, &options.labels, options.seeds, &mut |done| {
        reporter.advance(done as u64, "");
        reporter.stop()
    })?;
    reporter.end(&format!("{} splits each", options.seeds));
    let mut table = Table::new(&[
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
        let paired = row.difference.as_ref();
        table.row(vec![
            row.labels.to_string().into(),
            row.predictor.as_str().into(),
            number(row.tau.mean).into(),
            number(row.tau.sd).into(),
            interval(&row.tau).into(),
            paired.map_or("-".to_owned(), |d| format!("{:+.3}", d.mean)).into(),
            paired.map_or("-".to_owned(), interval).into(),
            format!("{:.0} %", 100.0 * row.covered).into(),
        ]);
    }
    let mut beside = Vec::new();
    let definition = space.definition();
    for (name, column) in [("parameters", &definition.params), ("FLOPs", &definition.flops)] {
        if let Some(column) = column {
            beside.push((name, baseline(space, score, column)?));
        }
    }
    let words: Vec<String> = beside.iter().map(|(name, tau)| format!("{name} {}", number(*tau))).collect();
    let text = format!(
        "{}: {score}, {} splits\n\n{}\ntau: Kendall's tau-b on all architectures that are not fitted to; equal ones are never on both \
         sides.\ncovered: share of them inside the 90 % interval that the predictor states.\n{}",
        definition.name,
        options.seeds,
        table.show(console.style),
        if words.is_empty() { String::new() } else { format!("tau of size alone: {}\n", words.join(", ")) },
    );
    if let Some(path) = &options.csv {
        write_atomic(path, taus(&rows).as_bytes())?;
    }
    let json = json!({
        "table": options.table, "score": score, "splits": options.seeds,
        "predictors": serde_json::to_value(&rows).unwrap_or(Value::Null),
        "size_alone": beside.iter().map(|(name, tau)| json!({ "name": name, "tau": tau })).collect::<Vec<_>>(),
        "csv": options.csv,
    });
    Ok(Answer::new(text, json))
}

/// Reads `column=most`.
fn limit(text: &str) -> Result<(String, f64), Failure> {
    let parts =
        text.split_once('=').and_then(|(column, most)| Some((column.to_owned(), most.parse::<f64>().ok()?)));
    parts.filter(|(_, most)| most.is_finite()).ok_or_else(|| {
        Failure::usage(format!("--limit {text} is not COLUMN=NUMBER; write it like --limit flops_m_c10=100"))
    })
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}

fn interval(summary: &Summary) -> String {
    format!("{:.3} to {:.3}", summary.low, summary.high)
}

fn curves(rows: &[Row]) -> String {
    let mut csv = "sampler,seed,query,best\n".to_owned();
    for row in rows {
        for (seed, curve) in row.curves.iter().enumerate() {
            for (query, best) in curve.iter().enumerate() {
                csv.push_str(&format!("{},{seed},{},{best}\n", row.sampler, query + 1));
            }
        }
    }
    csv
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
