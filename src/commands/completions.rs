//! `masktas completions`: what a shell needs to complete command lines.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use crate::cli::Cli;
use crate::console::{Answer, Outcome};

/// Options of `masktas completions`.
#[derive(Args)]
pub struct Options {
    /// The shell
    shell: Shell,
}

pub fn run(options: &Options) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "masktas", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    let json = json!({ "shell": options.shell.to_string(), "script": text });
    Ok(Answer::new(text, json))
}
