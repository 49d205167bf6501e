//! `masktas evaluate`: how good a run's features are, judged with labels.

use clap::Args;
use masktas_search::pipeline;
use serde_json::json;

use crate::cli::MemberArgs;
use crate::console::{Answer, Console, Outcome};
use crate::signal::nothing_kept;
use crate::table::count;

/// Options of `masktas evaluate`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    member: MemberArgs,
    /// Judge on the test split instead of the val split; look at it once, when nothing is left to choose
    #[arg(long)]
    test: bool,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let (folder, pick) = (&options.member.run, options.member.pick());
    let (member, found) =
        pipeline::evaluate(folder, &pick, options.test, &mut console.reporter).map_err(nothing_kept)?;
    let split = if options.test { "test" } else { "val" };
    let mut text = format!(
        "{}\ninherited weights, {} classes, fitted to the train split ({} labelled images), \
         judged on the {split} split ({} labelled images)\n\
         k-NN          {:.2} %\nlinear probe  {:.2} %\n",
        member.id,
        found.classes,
        count(found.train),
        count(found.judged),
        100.0 * found.knn,
        100.0 * found.linear
    );
    if options.test {
        text.push_str("the test split is for one look at the end: whoever chooses by it needs a new one\n");
    }
    let json = json!({ "member": member, "split": split, "weights": "inherited", "evaluation": found });
    Ok(Answer::new(text, json))
}
