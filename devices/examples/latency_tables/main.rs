//! The latency model on published measurements, beside simple predictors, in one run.
//!
//! What a table's architectures cost is counted by hand in `tables`; everything that learns is the library's own
//! [`Adaptive`](masktas_devices::latency::Adaptive).

mod baselines;
mod csv;
mod report;
mod tables;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::csv::{Csv, suggestion};
use crate::tables::{Kind, Table};
use crate::trial::{Choice, Job};

/// Fit the latency model to published measurements and judge it on rows that it has not seen.
///
/// Prints, as means over seeds with their standard deviation: mean absolute error over the measured value (MAPE), shares within 10 %
/// and 5 %, Spearman rank correlation, and coverage and width of the 90 % interval. Simple predictors stand beside it, fitted to
/// the same measurements.
#[derive(Parser)]
#[command(after_help = "Examples:
  latency_tables --table hat --samples 100 --seeds 5
  latency_tables --table hat --train mine.csv --test theirs.csv --samples 2000
  latency_tables --table vit-phones --target 'pixel4|1large|float' --samples 10 --seeds 20
  latency_tables --table fbnet --leave-out-class nvidia --samples 20
  latency_tables --table timm --samples 50")]
struct Args {
    /// Which table.
    #[arg(long, value_enum)]
    table: Kind,
    /// Measurements to choose samples from and to fit source devices to, in the table's own format; without it the table's file below the
    /// folder that MASKTAS_DATA names.
    #[arg(long, value_name = "CSV")]
    train: Option<PathBuf>,
    /// Measurements to judge by, in the same format; without it a third of the rows, drawn anew for each seed. A target that is in
    /// this file alone is judged by a third of its rows here, and has its samples chosen from the others.
    #[arg(long, value_name = "CSV")]
    test: Option<PathBuf>,
    /// Measurements of the target that are fitted to.
    #[arg(long, default_value_t = 100, value_name = "N")]
    samples: usize,
    /// Draws, numbered from 0.
    #[arg(long, default_value_t = 5, value_name = "N")]
    seeds: u64,
    /// Devices to predict, comma-separated; without it the ones that the table is known for.
    #[arg(long, value_delimiter = ',', value_name = "DEVICES")]
    target: Vec<String>,
    /// Devices to learn from, comma-separated, or `none`; without it all devices of other machines (of the same precision).
    #[arg(long, value_delimiter = ',', value_name = "DEVICES")]
    sources: Vec<String>,
    /// Predict every device of this class (nvidia, server, phones, fpga), and learn from other classes only.
    #[arg(long, value_name = "CLASS", conflicts_with_all = ["target", "sources"])]
    leave_out_class: Option<String>,
    /// How samples are chosen: drawn at random, by diversity of what is known before measuring, or both in turn.
    #[arg(long, value_enum, default_value = "both")]
    choose: Choose,
    /// Fit this regime instead of letting the model choose.
    #[arg(long, value_enum)]
    regime: Option<Regime>,
    /// Write the results of every seed to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Say what each fit chose.
    #[arg(long)]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Choose {
    Random,
    Diverse,
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum Regime {
    BestSource,
    Joint,
    Additive,
    Boosted,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if args.samples == 0 || args.seeds == 0 {
        return Err(format!(
            "--samples is {} and --seeds is {}; both must be at least 1",
            args.samples, args.seeds
        ));
    }
    let mut files = vec![Csv::read(&match (&args.train, std::env::var_os("MASKTAS_DATA")) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => Path::new(&folder).join(args.table.file()),
        (None, None) => {
            return Err(format!(
                "there is no table; give --train, or set MASKTAS_DATA to the folder that holds {}",
                args.table.file()
            ));
        }
    })?];
    if let Some(path) = &args.test {
        files.push(Csv::read(path)?);
    }
    let (table, counts) = args.table.read(&files)?;
    let choices: &[Choice] = match args.choose {
        Choose::Random => &[Choice::Random],
        Choose::Diverse => &[Choice::Diverse],
        Choose::Both => &[Choice::Random, Choice::Diverse],
    };
    let mut job = Job::new(&table, counts[0], args.test.is_some());
    let targets = targets(args, &table, &job)?;
    job.samples = args.samples;
    job.only = args.regime.map(|regime| match regime {
        Regime::BestSource => masktas_devices::latency::Regime::BestSource,
        Regime::Joint => masktas_devices::latency::Regime::Joint,
        Regime::Additive => masktas_devices::latency::Regime::Additive,
        Regime::Boosted => masktas_devices::latency::Regime::Boosted,
    });
    let mut results = Vec::new();
    for target in &targets {
        let sources = sources(args, &table, target)?;
        let kept = job.sources(target, &sources)?;
        match (kept.len(), sources.len()) {
            (0, 0) => report::say(&format!("\n{target}, without source devices")),
            (kept, all) if kept == all => report::say(&format!("\n{target}, from {all} source devices")),
            (kept, all) => {
                report::say(&format!(
                    "\n{target}, from {kept} of {all} source devices (the others lack too many rows)"
                ));
            }
        }
        let mut own = Vec::new();
        for choice in choices {
            for seed in 0..args.seeds {
                let trials = job.run(target, &kept, *choice, seed)?;
                if args.verbose {
                    for trial in trials.iter().filter(|trial| !trial.note.is_empty()) {
                        report::say(&format!("  seed {seed}, {}: {}", trial.label(), trial.note));
                    }
                }
                own.extend(trials);
            }
        }
        report::print(&own);
        results.extend(own);
    }
    if targets.len() > 1 {
        report::say(&format!("\nmean over {} targets", targets.len()));
        report::print(&results);
    }
    report::regimes(&results);
    match &args.csv {
        Some(path) => report::write(path, &results),
        None => Ok(()),
    }
}

/// Devices to predict; without --target those that the table is known for and that can be judged.
fn targets(args: &Args, table: &Table, job: &Job<'_>) -> Result<Vec<String>, String> {
    if let Some(class) = &args.leave_out_class {
        let names: Vec<String> = table
            .devices
            .iter()
            .filter(|device| device.class == *class && job.judges(&device.name))
            .map(|device| device.name.clone())
            .collect();
        if names.is_empty() {
            let mut classes: Vec<&str> = table.devices.iter().map(|device| device.class.as_str()).collect();
            classes.sort_unstable();
            classes.dedup();
            return Err(format!("the table has no device of class `{class}`{}", suggestion(class, &classes)));
        }
        return Ok(names);
    }
    if args.target.is_empty() {
        let mut names = args.table.targets(table);
        names.retain(|name| job.judges(name));
        return match names.is_empty() {
            true => {
                Err("none of the devices that the table is known for is in the file; give --target".into())
            }
            false => Ok(names),
        };
    }
    args.target.iter().map(|name| known(name, table)).collect()
}

fn sources(args: &Args, table: &Table, target: &str) -> Result<Vec<String>, String> {
    let own =
        table.devices.iter().find(|device| device.name == *target).ok_or("the target left the table")?;
    if args.sources == ["none"] {
        return Ok(Vec::new());
    }
    if !args.sources.is_empty() {
        let names = args.sources.iter().map(|name| known(name, table)).collect::<Result<Vec<_>, _>>()?;
        return match names.iter().find(|name| *name == target) {
            Some(_) => Err(format!("`{target}` is both target and source; take it out of --sources")),
            None => Ok(names),
        };
    }
    let allowed = |device: &&tables::Device| match (&args.leave_out_class, args.table) {
        (Some(class), _) => device.class != *class,
        // Rows of one device are its own networks.
        (None, Kind::Hat) => false,
        (None, Kind::VitPhones) => device.class == "float" && device.machine != own.machine,
        (None, _) => device.machine != own.machine,
    };
    Ok(table.devices.iter().filter(allowed).map(|device| device.name.clone()).collect())
}

fn known(name: &str, table: &Table) -> Result<String, String> {
    let names: Vec<&str> = table.devices.iter().map(|device| device.name.as_str()).collect();
    match names.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("the table has no device `{name}`{}", suggestion(name, &names))),
    }
}
