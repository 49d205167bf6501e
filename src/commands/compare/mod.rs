//! `masktas compare`: samplers or predictors side by side, on a table of architectures whose accuracy is known or on a run's supernet.

mod fronts;
mod predictors;
mod samplers;

use std::path::{Path, PathBuf};

use clap::Args;
use masktas_search::Error;
use masktas_search::compare::{Entrant, Kept, Standing, Summary};
use masktas_search::report::Comparison;
use masktas_search::run::write_atomic;
use masktas_search::table::TableSpace;
use masktas_search::{predictor, sampler};

use crate::console::{Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::signal::nothing_kept;
use crate::table::Table;

/// What stands below the options.
fn after() -> String {
    let predictors: Vec<&str> = predictor::NAMES.iter().copied().filter(|name| *name != "none").collect();
    format!(
        "Samplers: {}; npenas/ridge guesses by another predictor; recipe:ssnenas, or recipe:FILE.toml, is the sampler of a recipe with its \
         settings.\nPredictors: {}; gin+ged and gin+ccl are pre-trained on architectures that nobody rated.\nTables read without --read: \
         nasbench201.csv, nasbench101_subset.csv, nasbench_macro.csv, vit_autoformer.csv.",
        sampler::NAMES.join(", "),
        predictors.join(", ")
    )
}

/// The page in the folder of a comparison.
const PAGE: &str = "report.html";

/// Options of `masktas compare`.
#[derive(Args)]
#[command(after_help = after())]
pub struct Options {
    /// A CSV file: one architecture a row, its first line the names of the columns
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    table: Option<PathBuf>,
    /// Compare samplers on the trained supernet of this run, within its limits (it needs one, such as --latency), by how much their
    /// fronts cover
    #[arg(long, value_name = "RUN", conflicts_with_all = ["table", "read", "score", "report", "limit", "predictors"])]
    run: Option<PathBuf>,
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
    /// Judge each predictor also with a second head, for this column known of so many architectures, such as cifar10_valid_12=200
    #[arg(long, value_name = "COLUMN=N", requires = "predictors")]
    beside: Option<String>,
    /// Only architectures whose value in this column is at most so much, such as flops_m_c10=100
    #[arg(long, value_name = "COLUMN=MOST", conflicts_with = "predictors")]
    limit: Option<String>,
    /// A setting of every sampler, such as sampler.gamma=0.2
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "predictors")]
    sets: Vec<String>,
    /// Keep what is finished in this folder, with a page of curves; the same command goes on where it was stopped
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the numbers to a CSV file: the best score so far (with --run: the share covered) by sampler, seed and query, or tau by
    /// predictor and labels
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    options.writable()?;
    let Some(file) = &options.table else { return fronts::run(options, console) };
    let space = TableSpace::load(file, options.read.as_deref())?;
    let definition = space.definition();
    let score = options.score.clone().unwrap_or_else(|| definition.scores[0].clone());
    if !options.predictors.is_empty() {
        return predictors::run(options, &space, score, console);
    }
    let known = definition.scores.iter().position(|column| *column == score);
    let report = options.report.clone().unwrap_or_else(|| match known {
        Some(at) => definition.reports[at].clone(),
        None => score.clone(),
    });
    samplers::run(options, &space, score, report, console)
}

impl Options {
    /// The samplers with their settings.
    fn entrants(&self) -> Result<Vec<Entrant>, Failure> {
        if self.queries == 0 || self.seeds == 0 {
            let (queries, seeds) = (self.queries, self.seeds);
            return Err(Failure::usage(format!(
                "{queries} queries and {seeds} seeds; give at least 1 of each"
            )));
        }
        Ok(self.samplers.iter().map(|name| Entrant::parse(name, &self.sets)).collect::<Result<_, _>>()?)
    }

    /// What was finished before, where a folder is named.
    fn kept(&self, console: &mut Console) -> Result<Kept, Failure> {
        let Some(folder) = &self.out else { return Ok(Kept::default()) };
        let kept = Kept::open(folder)?;
        if kept.count() > 0 {
            console.say(&format!("{} searches or fits are finished in {}", kept.count(), folder.display()));
        }
        Ok(kept)
    }

    /// Writes the page and the CSV file where they are asked for, and says so in `text`.
    fn write(&self, page: &Comparison, csv: &str, text: &mut String) -> Result<(), Failure> {
        if let Some(path) = &self.csv {
            write_atomic(path, csv.as_bytes())?;
        }
        if let Some(path) = self.page() {
            write_atomic(&path, page.html()?.as_bytes())?;
            text.push_str(&format!("report: {}\n", path.display()));
        }
        Ok(())
    }

    /// A stop, told with what is kept and how to go on; other errors as they are.
    fn stopped(&self, error: Error) -> Failure {
        match (&self.out, error) {
            (Some(folder), Error::Interrupted) => {
                let text = format!(
                    "interrupted; what is finished is kept in {}, go on with the same command: {}",
                    folder.display(),
                    command()
                );
                Failure { exit: Exit::Interrupted, error: text.into() }
            }
            (_, error) => nothing_kept(error),
        }
    }

    /// Refuses at once what could not be written when all is done.
    fn writable(&self) -> Result<(), Failure> {
        let Some(path) = &self.csv else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if folder.is_dir() && !path.is_dir() {
            return Ok(());
        }
        let what = if path.is_dir() { "it is a folder" } else { "its folder is not there" };
        Err(Failure::usage(format!(
            "--csv {}: {what}; name a file in a folder that is there",
            path.display()
        )))
    }

    fn page(&self) -> Option<PathBuf> {
        self.out.as_deref().map(|folder: &Path| folder.join(PAGE))
    }
}

/// A table for people and for the page.
struct Both {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Both {
    fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    fn text(&self, console: &Console) -> String {
        let head: Vec<&str> = self.head.iter().map(String::as_str).collect();
        let mut table = Table::new(&head);
        for row in &self.rows {
            table.row(row.iter().map(|cell| cell.as_str().into()).collect());
        }
        table.show(console.style)
    }
}

/// The command as it was given, for the page.
fn command() -> String {
    let words = std::env::args().skip(1);
    let word = |word: String| if word.contains([' ', '"']) { format!("'{word}'") } else { word };
    format!("masktas {}", words.map(word).collect::<Vec<_>>().join(" "))
}

/// Reads `column=number`, what `flag` takes; `example` is how the error shows it.
fn column_number<T: std::str::FromStr>(
    flag: &str,
    text: &str,
    example: &str,
) -> Result<(String, T), Failure> {
    let parts =
        text.split_once('=').and_then(|(column, number)| Some((column.to_owned(), number.parse().ok()?)));
    parts.ok_or_else(|| {
        Failure::usage(format!("{flag} {text} is not COLUMN=NUMBER; write it like {flag} {example}"))
    })
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}

fn interval(summary: &Summary) -> String {
    if summary.count < 2 {
        return "-".to_owned();
    }
    format!("{:.3} to {:.3}", summary.low, summary.high)
}

fn signed(summary: Option<&Summary>) -> String {
    summary.map_or("-".to_owned(), |one| format!("{:+.3}", one.mean))
}

fn within(summary: Option<&Summary>) -> String {
    summary.map_or("-".to_owned(), interval)
}

/// What is worth saying of rows that are no member of their own.
fn repeats(space: &TableSpace, column: &str) -> Result<Option<String>, Failure> {
    let (rows, others) = space.repeats(column)?;
    let other = match others {
        0 => format!("none with another {column}"),
        _ => format!("{others} of them with another {column}"),
    };
    Ok((rows > 0)
        .then(|| format!("{rows} rows repeat the architecture of a row above and are left out, {other}.")))
}

/// What is worth saying of samplers that do nothing but draw in so short a search.
fn only_drawn(entrants: &[Entrant], queries: usize) -> Option<String> {
    let drawn =
        entrants.iter().filter(|one| one.sampler.name != "random" && one.sampler.population >= queries);
    let drawn: Vec<String> = drawn.map(|one| format!("{} ({})", one.name, one.sampler.population)).collect();
    (!drawn.is_empty()).then(|| {
        format!(
            "all {queries} queries are drawn at random, as the first of every search are (sampler.population): {}.",
            drawn.join(", ")
        )
    })
}

/// The last columns of a table of samplers.
const STANDING: [&str; 4] = ["less the first's", "95 %", "wins", "ms"];

/// Their cells.
fn standing(one: &Standing) -> [String; 4] {
    let difference = one.difference.as_ref();
    [signed(difference), within(difference), percent(one.wins), format!("{:.2}", one.overhead_ms)]
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

/// Curves as CSV; `what` names their values.
fn curves<'a>(what: &str, rows: impl Iterator<Item = (&'a str, &'a Vec<Vec<f64>>)>) -> String {
    let mut csv = format!("sampler,seed,query,{what}\n");
    for (sampler, curves) in rows {
        for (seed, curve) in curves.iter().enumerate() {
            for (query, value) in curve.iter().enumerate() {
                csv.push_str(&format!("{sampler},{seed},{},{value}\n", query + 1));
            }
        }
    }
    csv
}
