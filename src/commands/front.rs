//! `masktas front`: the architectures of a run that nothing beats in both score and cost.

use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::Library;
use masktas_search::budget::Kind;
use masktas_search::front::{Point, knee};
use masktas_search::pipeline::{Candidate, Elsewhere, candidates, elsewhere};
use masktas_search::report::axis;
use masktas_search::run::Run;
use masktas_search::space::Space as _;
use masktas_search::teacher::TaughtBy;
use serde_json::{Value, json};

use super::shown;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// Options of `masktas front`.
#[derive(Args)]
pub struct Options {
    /// Folder of the run
    run: PathBuf,
    /// Show the front on another device: one that the run was searched for as well, or one that is profiled on its space
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The profile of that device: a run's folder, or a file [default: the one that is kept of it]
    #[arg(long, value_name = "RUN")]
    profile: Option<PathBuf>,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let run = Run::open_read_only(&options.run)?;
    let own = run.manifest().recipe.latency.target.clone();
    if let Some(profile) = &options.profile {
        return on_another(&run, profile, options.target.as_deref(), console);
    }
    let Some(target) = options.target.as_deref().filter(|target| *target != own) else {
        return of(&run, console);
    };
    if run.manifest().further.iter().any(|one| one.target() == target) {
        return of(&Run::open_read_only(&run.target(target))?, console);
    }
    let device = masktas_devices::device(target)?;
    let space = run.manifest().vit_space()?.hash();
    let kept = Library::of_user().and_then(|library| library.of(&device.name, &space).into_iter().next());
    let Some((profile, _)) = kept else {
        let (target, space) = (&device.name, &run.manifest().recipe.space.name);
        return Err(Failure::usage(format!(
            "{target} has no profile on the space {space}; run `masktas profile --target {target} --space {space} --connect \
             ssh://USER@BOARD` first, or name one with --profile"
        )));
    };
    on_another(&run, &profile, None, console)
}

/// The front that a run was searched for.
fn of(run: &Run, console: &Console) -> Outcome {
    let front = candidates(run)?;
    let trials = run.scored()?.len();
    let axis = axis(run)?;
    let teacher = TaughtBy::of(run)?;
    let prior = run.manifest().recipe.latency.prior;
    let bend = bend(&front);
    let folder = run.folder().display();
    let text = if front.is_empty() {
        format!("no architecture is scored yet\nnext: masktas search --resume {folder}\n")
    } else {
        format!(
            "{} of {trials} scored architectures are on the front\n\n{}\n{}next: masktas export {folder} --pick knee\n",
            front.len(),
            shown::front(&front, axis, prior, bend, console.style),
            shown::teacher(teacher.as_ref())
        )
    };
    let json = json!({
        "run": run.folder(), "trials": trials, "axis": axis.key(), "prior": prior,
        "front": serde_json::to_value(&front).unwrap_or(Value::Null),
        "knee": bend.and_then(|at| front.get(at)).map(|member| member.id.as_str()),
        "teacher": serde_json::to_value(&teacher).unwrap_or(Value::Null),
    });
    Ok(Answer::new(text, json))
}

/// A run's scored architectures under another device's latency model.
fn on_another(run: &Run, profile: &Path, asked: Option<&str>, console: &Console) -> Outcome {
    let Elsewhere { target, engine, held_out, front } = elsewhere(run, profile)?;
    if let Some(asked) = asked.filter(|asked| *asked != target) {
        return Err(Failure::usage(format!(
            "--profile {} is of {target}, and --target says {asked}; leave one of them out",
            profile.display()
        )));
    }
    let (trials, folder, bend) = (run.scored()?.len(), run.folder().display(), bend(&front));
    let knee = bend.and_then(|at| front.get(at)).map(|member| member.id.as_str());
    let text = format!(
        "{} of {trials} scored architectures are on the front of {target} under {engine}, by the profile {}\n(held-out \
         error {:.1} %, n = {}); they were scored for {}, and a search for {target} may find better ones\n\n{}\nnext: masktas \
         export {folder} --pick {}\n",
        front.len(),
        profile.display(),
        100.0 * held_out.mape,
        held_out.n,
        run.manifest().recipe.latency.target,
        shown::front(&front, Kind::Latency, false, bend, console.style),
        knee.unwrap_or("ID")
    );
    let json = json!({
        "run": run.folder(), "trials": trials, "axis": Kind::Latency.key(), "target": target, "engine": engine,
        "profile": profile, "held_out": serde_json::to_value(&held_out).unwrap_or(Value::Null),
        "front": serde_json::to_value(&front).unwrap_or(Value::Null), "knee": knee,
    });
    Ok(Answer::new(text, json))
}

/// Position of the knee of a front.
pub fn bend(front: &[Candidate]) -> Option<usize> {
    let points: Vec<Point> = front.iter().map(Candidate::point).collect();
    knee(&points)
}
