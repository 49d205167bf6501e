//! `masktas devices`: what can be a target, and what this machine has.

mod add;
mod list;
mod show;
mod test;

use clap::{Args, Subcommand};

use crate::cli::EngineArgs;
use crate::console::{Console, Outcome};

/// Options of `masktas devices`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    engines: EngineArgs,
}

/// What to do with devices.
#[derive(Subcommand)]
enum Action {
    /// List devices, and this machine's engines and GPU adapters
    List(list::Options),
    /// Show what the catalogue says of a device, each value with its source
    Show(show::Options),
    /// Add a device of your own
    Add(add::Options),
    /// Reach a device, and say what works there and what would make its latencies unsteady
    Test(test::Options),
}

pub fn run(options: Options, console: &mut Console) -> Outcome {
    match options.action {
        None => list::run(&options.engines, console),
        Some(Action::List(list)) => list::run(&list.engines, console),
        Some(Action::Show(show)) => show::run(&show, console),
        Some(Action::Add(add)) => add::run(&add, console),
        Some(Action::Test(test)) => test::run(&test, console),
    }
}
