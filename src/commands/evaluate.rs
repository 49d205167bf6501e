//! `masktas evaluate`: how good a run's features are, judged with labels.

use std::path::PathBuf;

use clap::Args;
use masktas_search::front::Pick;
use masktas_search::pipeline;
use serde_json::json;

use crate::console::{Answer, Console, Outcome};
use crate::table::count;

/// Options of `masktas evaluate`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run; its images must lie in one folder per class
    run: PathBuf,
    /// Which member of the front: knee, best, fastest, or an id
    #[arg(long, value_name = "WHICH", default_value = "knee")]
    pick: String,
    /// Judge on the test images, which are for the very end
    #[arg(long)]
    test: bool,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let pick = Pick::parse(&options.pick);
    let (member, found) = pipeline::evaluate(&options.run, &pick, options.test, &mut console.reporter)?;
    let split = if options.test { "test" } else { "val" };
    let text = format!(
        "{}\ninherited weights, {} classes, fitted to {} train images, judged on {} {split} images\n\
         k-NN          {:.2} %\nlinear probe  {:.2} %\n",
        member.id,
        found.classes,
        count(found.train),
        count(found.judged),
        100.0 * found.knn,
        100.0 * found.linear
    );
    let json = json!({ "member": member, "split": split, "weights": "inherited", "evaluation": found });
    Ok(Answer::new(text, json))
}
