//! `masktas front`: the architectures of a run that nothing beats in both score and cost.

use std::path::PathBuf;

use clap::Args;
use masktas_search::front::{Point, knee};
use masktas_search::pipeline::{Candidate, candidates};
use masktas_search::report::axis;
use masktas_search::run::Run;
use masktas_search::teacher::TaughtBy;
use serde_json::{Value, json};

use super::shown;
use crate::console::{Answer, Console, Outcome};

/// Options of `masktas front`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run
    run: PathBuf,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let run = Run::open_read_only(&options.run)?;
    let front = candidates(&run)?;
    let trials = run.trial_count()?;
    let axis = axis(&run)?;
    let teacher = TaughtBy::of(&run)?;
    let bend = bend(&front);
    let folder = options.run.display();
    let text = if front.is_empty() {
        format!("no architecture is scored yet\nnext: masktas search --resume {folder}\n")
    } else {
        format!(
            "{} of {trials} scored architectures are on the front\n\n{}\n{}next: masktas export {folder} --pick knee\n",
            front.len(),
            shown::front(&front, axis, bend, console.style),
            shown::teacher(teacher.as_ref())
        )
    };
    let json = json!({
        "run": options.run, "trials": trials, "axis": axis.key(),
        "front": serde_json::to_value(&front).unwrap_or(Value::Null),
        "knee": bend.and_then(|at| front.get(at)).map(|member| member.id.as_str()),
        "teacher": serde_json::to_value(&teacher).unwrap_or(Value::Null),
    });
    Ok(Answer::new(text, json))
}

/// Position of the knee of a front.
pub fn bend(front: &[Candidate]) -> Option<usize> {
    let points: Vec<Point> = front.iter().map(Candidate::point).collect();
    knee(&points)
}
