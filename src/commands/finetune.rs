//! `masktas finetune`: a member of a front trained with labels, into a classifier.

use std::path::PathBuf;

use clap::Args;
use masktas_runtime::Verdict;
use masktas_search::front::Pick;
use masktas_search::pipeline::{self, Start};
use masktas_search::run::Run;
use serde_json::json;

use super::shown;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Exit;

/// Options of `masktas finetune`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run; its images must lie in one folder per class
    run: PathBuf,
    /// Which member of the front: knee, best, fastest, or an id
    #[arg(long, value_name = "WHICH", default_value = "knee")]
    pick: String,
    /// Start from fresh weights instead of those of the search
    #[arg(long)]
    scratch: bool,
    /// Epochs [default: the recipe's]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[command(flatten)]
    engines: EngineArgs,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let pick = Pick::parse(&options.pick);
    let start = if options.scratch { Start::Scratch } else { Start::Inherited };
    let mut settings = Run::open_read_only(&options.run)?.manifest().recipe.finetune.clone();
    settings.epochs = options.epochs.unwrap_or(settings.epochs);
    let epochs = settings.epochs;
    let engines = options.engines.options();
    let tuned =
        pipeline::finetune(&options.run, &pick, start, Some(settings), &engines, &mut console.reporter)?;
    let from = if options.scratch { "fresh" } else { "inherited" };
    let mut text = format!("{}\n{epochs} epochs from {from} weights\n", tuned.candidate.id);
    text.push_str(&format!("val accuracy   {:.2} %\n", 100.0 * tuned.result.val_accuracy));
    if let Some(test) = tuned.result.test_accuracy {
        text.push_str(&format!("test accuracy  {:.2} %\n", 100.0 * test));
    }
    text.push_str(&format!("{}\n\n{}", tuned.files.model.display(), shown::parity(&tuned.parity, console.style)));
    let failed = tuned.parity.verdict == Verdict::Fail;
    let next = format!("next: masktas run {} IMAGE\n", tuned.files.model.display());
    text.push_str(&format!("\nparity: {}\n{}", tuned.parity.verdict, if failed { "" } else { &next }));
    let json = json!({
        "member": tuned.candidate, "weights": from, "epochs": epochs,
        "val_accuracy": tuned.result.val_accuracy, "test_accuracy": tuned.result.test_accuracy,
        "losses": tuned.result.losses, "files": tuned.files, "parity": tuned.parity,
    });
    Ok(Answer { exit: if failed { Exit::Check } else { Exit::Ok }, ..Answer::new(text, json) })
}
