//! `masktas finetune`: a member of a front trained with labels, into a classifier.

use std::path::PathBuf;

use clap::Args;
use masktas_runtime::Verdict;
use masktas_search::front::Pick;
use masktas_search::pipeline::{self, Start, Tuned, Who};
use masktas_search::run::Run;
use serde_json::json;

use super::shown::parity;
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
    /// Train, under the same recipe, the net with all blocks alike and about as many parameters too
    #[arg(long)]
    beside_uniform: bool,
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
    let mut whom = vec![Who::Member(pick.clone())];
    if options.beside_uniform {
        whom.push(Who::UniformLike(pick));
    }
    let mut text = String::new();
    let mut answers = Vec::new();
    let mut failed = false;
    for who in &whom {
        let settings = Some(settings.clone());
        let tuned = pipeline::finetune(&options.run, who, start, settings, &engines, &mut console.reporter)?;
        failed |= tuned.parity.verdict == Verdict::Fail;
        let from = if options.scratch { "fresh" } else { "inherited" };
        text.push_str(&shown(&tuned, who, from, epochs, console));
        answers.push(json!({
            "id": tuned.id, "uniform": matches!(who, Who::UniformLike(_)), "weights": from,
            "parameters": tuned.parameters, "flops": tuned.flops,
            "val_accuracy": tuned.result.val_accuracy, "test_accuracy": tuned.result.test_accuracy,
            "losses": tuned.result.losses, "files": tuned.files, "parity": tuned.parity,
        }));
    }
    let json = json!({ "epochs": settings.epochs, "networks": answers });
    Ok(Answer { exit: if failed { Exit::Check } else { Exit::Ok }, ..Answer::new(text, json) })
}

/// One network's part of the answer.
fn shown(tuned: &Tuned, who: &Who, from: &str, epochs: usize, console: &Console) -> String {
    let kind = if matches!(who, Who::UniformLike(_)) { "uniform net" } else { "searched net" };
    let mut text = format!("{kind} {}\n", tuned.id);
    text.push_str(&format!("parameters     {:.3} M\n", tuned.parameters as f64 / 1e6));
    text.push_str(&format!("training       {epochs} epochs from {from} weights\n"));
    text.push_str(&format!("val accuracy   {:.2} %\n", 100.0 * tuned.result.val_accuracy));
    if let Some(test) = tuned.result.test_accuracy {
        text.push_str(&format!("test accuracy  {:.2} %\n", 100.0 * test));
    }
    text.push_str(&format!("{}\n\n{}", tuned.files.model.display(), parity(&tuned.parity, console.style)));
    text.push_str(&format!("\nparity: {}\n", tuned.parity.verdict));
    if tuned.parity.verdict != Verdict::Fail {
        text.push_str(&format!("next: masktas run {} IMAGE\n", tuned.files.model.display()));
    }
    text.push('\n');
    text
}
