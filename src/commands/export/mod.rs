//! `masktas export`: a member of a front as an ONNX file that every engine agrees on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use masktas_export::lower::Batch;
use masktas_runtime::Verdict;
use masktas_search::Error;
use masktas_search::front::Pick;
use masktas_search::pipeline::{self, ExportOptions};
use masktas_search::run::Run;
use serde_json::json;

use super::shown;
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::{Exit, Failure};
use crate::table::bytes;

/// Options of `masktas export`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run
    run: PathBuf,
    /// Which member of the front: knee, best, fastest, or an id
    #[arg(long, value_name = "WHICH", default_value = "knee")]
    pick: String,
    /// What the model puts out
    #[arg(long, value_enum, default_value = "features")]
    head: Head,
    /// Images per run: a number, or `dynamic`
    #[arg(long, value_name = "N", default_value = "1", value_parser = batch)]
    batch: Batch,
    /// ONNX operator set
    #[arg(long, value_name = "N", default_value = "17", value_parser = opset)]
    opset: i64,
    /// Folder of the files [default: models in the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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
        Ok(count) if count > 0 => Ok(Batch::Fixed(count)),
        _ => Err("write a number of at least 1, or `dynamic`".to_owned()),
    }
}

fn opset(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(known @ (17 | 20 | 23)) => Ok(known),
        _ => Err("write 17, 20 or 23".to_owned()),
    }
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let how = ExportOptions {
        classifier: options.head == Head::Classifier,
        batch: options.batch,
        opset: options.opset,
        out: options.out.clone(),
    };
    // First, whether there is a run at all.
    Run::open_read_only(&options.run)?;
    let (pick, engines) = (Pick::parse(&options.pick), options.engines.ready()?);
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
    let json = json!({ "member": member, "files": files, "parity": parity, "opset": options.opset });
    Ok(Answer { exit: if failed { Exit::Check } else { Exit::Ok }, ..Answer::new(text, json) })
}
