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
use masktas_devices::{wire, worker};

use cli::Cli;
use console::Console;

fn main() -> ExitCode {
    silence_drivers();
    // The process that runs one measured model: not for people, so clap does not know it.
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        return serve_one_model();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return console::unread(&error),
    };
    let mut console = Console::new(&cli.global, cli.command.name());
    let answer = commands::run(cli.command, &mut console);
    console.finish(answer)
}

fn serve_one_model() -> ExitCode {
    let served = wire::own_stdout().map(|mut answers| worker::serve(std::io::stdin(), &mut answers));
    if matches!(served, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Without a desktop session, a layer of Mesa's Vulkan drivers prints an error of its own whenever adapters are
/// listed. It only reorders adapters, and masktas orders them itself.
fn silence_drivers() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
