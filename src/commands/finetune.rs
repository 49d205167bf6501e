//! `masktas finetune`: a member of a front trained with labels, into a classifier.

use clap::Args;
use masktas_runtime::Verdict;
use masktas_search::Error;
use masktas_search::pipeline::{self, Start, Tuned, Who};
use masktas_search::run::Run;
use serde_json::json;

use super::shown::parity;
use crate::cli::{EngineArgs, MemberArgs};
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};

/// Options of `masktas finetune`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    member: MemberArgs,
    /// Start from fresh weights instead of those of the search
    #[arg(long)]
    scratch: bool,
    /// Train, under the same recipe, the net with all blocks alike and about as many parameters too
    #[arg(long)]
    beside_uniform: bool,
    /// Epochs [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    #[command(flatten)]
    engines: EngineArgs,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let (folder, pick) = (&options.member.run, options.member.pick());
    let start = if options.scratch { Start::Scratch } else { Start::Inherited };
    let mut settings = Run::open_read_only(folder)?.manifest().recipe.finetune.clone();
    settings.epochs = options.epochs.map_or(settings.epochs, |epochs| epochs as usize);
    let epochs = settings.epochs;
    let engines = options.engines.ready()?;
    let mut whom = vec![Who::Member(pick.clone())];
    if options.beside_uniform {
        whom.push(Who::UniformLike(pick));
    }
    let mut text = String::new();
    let mut answers = Vec::new();
    let mut failed = false;
    for who in &whom {
        let settings = Some(settings.clone());
        let tuned = match pipeline::finetune(folder, who, start, settings, &engines, &mut console.reporter) {
            Err(Error::Interrupted) => {
                let text = format!(
                    "interrupted; everything so far is saved, go on with the same command: {}",
                    again()
                );
                return Err(Failure { exit: Exit::Interrupted, error: text.into() });
            }
            other => other?,
        };
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

/// The command line, as it was given: with other options the training would begin anew.
fn again() -> String {
    let word = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        if word.contains(char::is_whitespace) { format!("{word:?}") } else { word }
    };
    let words: Vec<String> = std::env::args_os().skip(1).map(word).collect();
    format!("masktas {}", words.join(" "))
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
