//! One file a sub-command: its options, and what it prints.

pub mod compare;
pub mod completions;
pub mod data;
pub mod devices;
pub mod doctor;
pub mod evaluate;
pub mod export;
pub mod finetune;
pub mod front;
pub mod init;
pub mod man;
pub mod profile;
pub mod recipe;
pub mod report;
pub mod run;
pub mod search;
pub mod teacher;

mod left;
mod plan;
mod shown;
mod target;

use crate::cli::Command;
use crate::console::{Console, Outcome};

/// Does what the command line says.
pub fn run(command: Command, console: &mut Console) -> Outcome {
    match command {
        Command::Search(options) => search::run(*options, console),
        Command::Compare(options) => compare::run(&options, console),
        Command::Front(options) => front::run(&options, console),
        Command::Report(options) => report::run(&options, console),
        Command::Export(options) => export::run(&options, console),
        Command::Run(options) => run::run(&options, console),
        Command::Evaluate(options) => evaluate::run(&options, console),
        Command::Finetune(options) => finetune::run(&options, console),
        Command::Teacher(options) => teacher::run(*options, console),
        Command::Data(options) => data::run(&options, console),
        Command::Profile(options) => profile::run(*options, console),
        Command::Devices(options) => devices::run(*options, console),
        Command::Doctor(options) => doctor::run(&options, console),
        Command::Init(options) => init::run(&options),
        Command::Completions(options) => completions::run(&options),
        Command::Man(options) => man::run(&options),
    }
}
