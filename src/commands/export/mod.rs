//! `masktas export`: a member of a front as an ONNX file that every engine agrees on, and as a web page.

mod web;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use masktas_export::lower::Batch;
use masktas_runtime::Verdict;
use masktas_search::Error;
use masktas_search::front::Pick;
use masktas_search::pipeline::{self, ExportOptions};
use masktas_search::run::Run;
use serde_json::{Value, json};

use super::run::BATCH_MAX;
use super::shown;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::table::bytes;

/// Options of `masktas export`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run; with --web an ONNX file does as well
    run: PathBuf,
    /// Which member of the front: knee, best, fastest, or an id [default: knee]
    #[arg(long, value_name = "WHICH")]
    pick: Option<String>,
    /// What the model puts out [default: features]
    #[arg(long, value_enum)]
    head: Option<Head>,
    #[arg(long, value_name = "N", value_parser = batch)]
    #[arg(help = format!("Images per run: a number from 1 to {BATCH_MAX}, or `dynamic` [default: 1]"))]
    batch: Option<Batch>,
    /// ONNX operator set: 17, 20 or 23; a search's own files have 20 [default: 17]
    #[arg(long, value_name = "N", value_parser = opset)]
    opset: Option<i64>,
    /// Folder of the files [default: models in the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a web page as well, into this folder, which is new, empty or an earlier page's: it runs the model on photos in the
    /// browser, by WebGPU
    #[arg(long, value_name = "DIR")]
    web: Option<PathBuf>,
    #[command(flatten)]
    engines: EngineArgs,
}

/// What a model puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Head {
    /// The mean of the patch tokens
    Features,
    /// Class scores of the member as `masktas finetune` trained it, from inherited weights rather than from scratch
    Classifier,
}

fn batch(text: &str) -> Result<Batch, String> {
    match text.parse::<usize>() {
        _ if text == "dynamic" => Ok(Batch::Dynamic),
        // More is more than `masktas run` gives a model, and memory of the check here grows with it.
        Ok(count) if (1..=BATCH_MAX).contains(&count) => Ok(Batch::Fixed(count)),
        _ => Err(format!("write a number from 1 to {BATCH_MAX}, or `dynamic`")),
    }
}

fn opset(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(known @ (17 | 20 | 23)) => Ok(known),
        _ => Err("write 17, 20 or 23".to_owned()),
    }
}

impl Options {
    /// An option that only a run's member can have.
    fn of_a_run(&self) -> Option<&'static str> {
        [
            ("--pick", self.pick.is_some()),
            ("--head", self.head.is_some()),
            ("--batch", self.batch.is_some()),
            ("--opset", self.opset.is_some()),
            ("--out", self.out.is_some()),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    if options.run.is_file() {
        return file(&options.run, options, console);
    }
    if let (Some(_), Some(Batch::Fixed(count @ 2..))) = (&options.web, options.batch) {
        let text = format!("--web shows one photo at a time and --batch is {count}; leave one of them out");
        return Err(Failure::usage(text));
    }
    if let Some(folder) = &options.web {
        let absolute = |folder: &PathBuf| std::path::absolute(folder).ok();
        if options.out.as_ref().is_some_and(|out| absolute(out) == absolute(folder)) {
            let text =
                format!("--web and --out both name {}; give the page a folder of its own", folder.display());
            return Err(Failure::usage(text));
        }
        // Before an export that may take minutes.
        masktas_export::web::check_folder(folder)?;
    }
    let opset = options.opset.unwrap_or(17);
    let how = ExportOptions {
        classifier: options.head == Some(Head::Classifier),
        batch: options.batch.unwrap_or(Batch::Fixed(1)),
        opset,
        out: options.out.clone(),
    };
    // First, whether there is a run at all.
    Run::open_read_only(&options.run)?;
    let pick = Pick::parse(options.pick.as_deref().unwrap_or("knee"));
    let engines = options.engines.ready()?;
    let exported = pipeline::export(&options.run, &pick, &how, &engines, &mut console.reporter);
    let (member, files, parity) = match exported {
        Err(Error::Interrupted) => {
            let text = "interrupted; a file may be written but was not checked, give the command again";
            return Err(Failure { exit: Exit::Interrupted, error: text.into() });
        }
        other => other?,
    };
    let mut text = format!(
        "{}\n{}  {}\n{}\n\n",
        member.id,
        files.model.display(),
        bytes(files.bytes),
        files.golden.display()
    );
    text.push_str(&shown::parity(&parity, console.style));
    let failed = parity.verdict == Verdict::Fail;
    text.push_str(&if failed {
        "\nparity: fail. Do not use this file in the engines that differ; see `masktas doctor`\n".to_owned()
    } else {
        format!("\nparity: {}\nnext: masktas run {} IMAGE\n", parity.verdict, files.model.display())
    });
    let mut exit = if failed { Exit::Check } else { Exit::Ok };
    let mut json = json!({ "member": member, "files": files, "parity": parity, "opset": opset });
    if let Some(folder) = &options.web {
        let (page, page_json, page_exit) = page(&files.model, folder, options, console)?;
        text.push_str(&format!("\n{page}"));
        json["web"] = page_json;
        exit = if exit == Exit::Ok { page_exit } else { exit };
    }
    Ok(Answer { exit, ..Answer::new(text, json) })
}

/// An ONNX file, which only has a page made of it.
fn file(model: &Path, options: &Options, console: &mut Console) -> Outcome {
    let Some(folder) = &options.web else {
        let text = format!(
            "{0} is a file, not a run; a page is made of it by: masktas export {0} --web DIR",
            model.display()
        );
        return Err(Failure::usage(text));
    };
    if let Some(option) = options.of_a_run() {
        let text = format!("{option} is for a run, and {} is a file; leave it out", model.display());
        return Err(Failure::usage(text));
    }
    let (text, json, exit) = page(model, folder, options, console)?;
    Ok(Answer { exit, ..Answer::new(text, json!({ "web": json })) })
}

/// Writes a page and says what is in it and how to see it.
fn page(
    model: &Path,
    folder: &Path,
    options: &Options,
    console: &Console,
) -> Result<(String, Value, Exit), Failure> {
    let web::Written { page, replayed } = web::write(model, folder, options.engines.adapter.as_deref())?;
    let whole: u64 = page.files.values().sum();
    let mut text = format!(
        "{}  {}, of them {} besides weights\n",
        folder.display(),
        bytes(whole),
        bytes(page.overhead())
    );
    let mut exit = Exit::Ok;
    match &replayed {
        Ok(parity) => {
            text.push_str(&format!("\n{}\npage: {}\n", shown::parity(parity, console.style), parity.verdict));
            if parity.verdict == Verdict::Fail {
                exit = Exit::Check;
            }
        }
        Err(why) => text.push_str(&format!("page: not checked, {why}\n")),
    }
    text.push_str(&format!(
        "next: python3 -m http.server --directory {} 8000\nthen open http://localhost:8000\n",
        folder.display()
    ));
    let json = json!({ "folder": page.folder, "files": page.files, "parity": replayed.ok() });
    Ok((text, json, exit))
}
