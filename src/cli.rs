//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use masktas_devices::{EngineOptions, Limits, WorkerCommand, engine, engines, worker};
use masktas_search::front::Pick;

use crate::commands;
use crate::exit::Failure;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER: &str = "\
Exit codes:
  0    done
  1    failure
  2    something given has to change: an option, a value, a budget, a path
  3    a check failed: an exported file does not give the same answer everywhere
  130  interrupted; the message says what is kept and how to go on

First steps:
  masktas doctor                    what works on this machine
  masktas data photos               what would be used of a folder of images
  masktas search --data photos      search; prints the front and where the report is";

/// Finds the vision transformer that sees your unlabelled images best within your device's latency.
#[derive(Parser)]
#[command(name = "masktas", version, styles = STYLES, after_help = AFTER, propagate_version = true)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct Global {
    /// Print one JSON object to standard output: {"masktas":1,"command":…}
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to use colour; the variable NO_COLOR is honoured
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: When,
    /// Log to standard error; twice: in detail
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Where engines find what they need.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Engines")]
pub struct EngineArgs {
    /// ONNX Runtime's shared library; else MASKTAS_ORT_LIB, beside this program, or where `make ort` puts it
    #[arg(long, value_name = "PATH")]
    pub ort_lib: Option<PathBuf>,
    /// The GPU adapter of the engine `wgpu`: a part of its name
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

/// This program as the process of one measured model. `None` where the system does not say what is running: models then share
/// this process.
fn own_worker() -> Option<WorkerCommand> {
    let program = std::env::current_exe().ok()?;
    Some(WorkerCommand { program, args: vec![worker::ARGUMENT.into()], limits: Limits::default() })
}

impl EngineArgs {
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            ort_lib: self.ort_lib.clone(),
            adapter: self.adapter.clone(),
            worker: own_worker(),
            ..EngineOptions::default()
        }
    }

    /// The same, once every engine is known to be usable: one that is missing is better known before hours of work,
    /// and is no difference between engines.
    pub fn ready(&self) -> Result<EngineOptions, Failure> {
        let options = self.options();
        for name in engines() {
            engine(name, &options)?.check()?;
        }
        Ok(options)
    }
}

/// A member of a run's front, for the commands that read labels.
#[derive(Args, Clone, Debug)]
pub struct MemberArgs {
    /// Folder of the run; its images must lie in one folder per class, the first below the root
    pub run: PathBuf,
    /// Which member of the front: knee, best, fastest, or an id
    #[arg(long, value_name = "WHICH", default_value = "knee")]
    pick: String,
}

impl MemberArgs {
    pub fn pick(&self) -> Pick {
        Pick::parse(&self.pick)
    }
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Search: find the best architectures for a folder of images within a budget
    Search(Box<commands::search::Options>),
    /// Compare samplers or predictors on a table of known accuracies or a run's supernet
    Compare(Box<commands::compare::Options>),
    /// Show the front of a run
    Front(commands::front::Options),
    /// Write a run's report: one HTML file that needs nothing else
    Report(commands::report::Options),
    /// Write a member of a run's front as ONNX, checked in every engine, and as a web page
    Export(commands::export::Options),
    /// Run a model on images
    Run(commands::run::Options),
    /// Judge a run's features with labels: nearest neighbours and a linear probe
    Evaluate(commands::evaluate::Options),
    /// Train a member of a run's front with labels, into a classifier
    Finetune(commands::finetune::Options),
    /// Pre-train a teacher on unlabelled images
    Teacher(Box<commands::teacher::Options>),
    /// Show what would be used of a source of images
    Data(commands::data::Options),
    /// Time models, or subnets of a space, on a device; fit its latency model
    Profile(Box<commands::profile::Options>),
    /// List devices, engines and GPU adapters; show, add or test a device
    Devices(Box<commands::devices::Options>),
    /// Say what works on this machine, and how to mend what does not
    Doctor(commands::doctor::Options),
    /// Write a commented masktas.toml
    Init(commands::init::Options),
    /// Print shell completions
    Completions(commands::completions::Options),
    /// Write manual pages
    Man(commands::man::Options),
}

impl Command {
    /// Its word on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Search(_) => "search",
            Command::Compare(_) => "compare",
            Command::Front(_) => "front",
            Command::Report(_) => "report",
            Command::Export(_) => "export",
            Command::Run(_) => "run",
            Command::Evaluate(_) => "evaluate",
            Command::Finetune(_) => "finetune",
            Command::Teacher(_) => "teacher",
            Command::Data(_) => "data",
            Command::Profile(_) => "profile",
            Command::Devices(_) => "devices",
            Command::Doctor(_) => "doctor",
            Command::Init(_) => "init",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
