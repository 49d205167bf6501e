//! `masktas`: finds the vision transformer that sees your images best within your device's latency.
//!
//! The program says in a terminal what the libraries do: it reads a command line, calls one of them, and
//! prints what comes back. Data goes to standard output, progress and errors to standard error.
//!
//! What it does not do: it holds no method of its own. Whatever it can do, a Rust program can do with
//! `masktas-search`, `masktas-export`, `masktas-devices` and `masktas-runtime`.

mod cli;
mod commands;
mod console;
mod exit;
mod progress;
mod signal;
mod style;
mod table;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use console::Console;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut console = Console::new(&cli.global, cli.command.name());
    let answer = commands::run(cli.command, &mut console);
    console.finish(answer)
}
