//! `masktas report`: a run as one HTML file.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use masktas_search::report;
use masktas_search::run::Run;
use serde_json::json;

use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// Options of `masktas report`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run
    run: PathBuf,
    /// The file [default: report.html in the run]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show it in the browser
    #[arg(long)]
    open: bool,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let run = Run::open_read_only(&options.run)?;
    let path = match &options.out {
        None => report::write(&run)?,
        Some(path) => {
            masktas_search::run::write_atomic(path, report::html(&run)?.as_bytes())?;
            path.clone()
        }
    };
    if options.open {
        open(&path, console)?;
    }
    Ok(Answer::new(format!("{}\n", path.display()), json!({ "report": path })))
}

/// Asks the desktop to show a file.
fn open(path: &PathBuf, console: &mut Console) -> Result<(), Failure> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(opener).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            console.say(&format!("{} is written", path.display()));
            Err(Failure::failed(format!("{opener} cannot be started: {error}; open the file by hand")))
        }
    }
}
