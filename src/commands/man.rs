//! `masktas man`: manual pages, one for the program and one for each command.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use crate::cli::Cli;
use crate::console::{Answer, Outcome};
use crate::exit::Failure;

/// Options of `masktas man`.
#[derive(Args)]
pub struct Options {
    /// Folder to write the pages into; without it, the program's own page is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(options: &Options) -> Outcome {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &options.out else {
        let page = page(command, Path::new("masktas.1"))?;
        let text = String::from_utf8_lossy(&page).into_owned();
        return Ok(Answer::new(text.clone(), json!({ "page": text })));
    };
    std::fs::create_dir_all(folder).map_err(|error| Failure::io(folder, error))?;
    let parts: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let mut files = Vec::new();
    for command in std::iter::once(command).chain(parts) {
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, page(command, &path)?).map_err(|error| Failure::io(&path, error))?;
        files.push(path);
    }
    let text = format!("wrote {} pages into {}\n", files.len(), folder.display());
    Ok(Answer::new(text, json!({ "files": files })))
}

fn page(command: clap::Command, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|error| Failure::io(path, error))?;
    Ok(page)
}
