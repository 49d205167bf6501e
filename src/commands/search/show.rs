//! What a search found, for people and programs.

use masktas_runtime::Verdict;
use masktas_search::pipeline::{Across, Outcome as Found};
use masktas_search::report::{self, axis};
use masktas_search::run::Run;
use masktas_search::teacher::TaughtBy;
use serde_json::Value;

use crate::commands::front::bend;
use crate::commands::shown;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Exit;
use crate::style::{Paint, Style};
use crate::table::{Cell, Table};

/// The answer of a finished search. Writes its reports.
pub fn found(found: &Found, console: &Console) -> Outcome {
    let style = console.style;
    let run = Run::open_read_only(&found.run)?;
    let teacher = TaughtBy::of(&run)?;
    let mut text = String::new();
    for one in std::iter::once(found).chain(&found.further) {
        let run = Run::open_read_only(&one.run)?;
        if !found.further.is_empty() {
            text.push_str(&format!("{}for {}\n\n", if text.is_empty() { "" } else { "\n" }, one.target));
        }
        text.push_str(&front(one, &run, teacher.as_ref(), style)?);
    }
    for other in &found.further {
        let common = found.front.iter().filter(|member| other.front.iter().any(|one| one.id == member.id));
        text.push_str(&format!(
            "\n{} of {} members of the front for {} are on the front for {} too\n",
            common.count(),
            found.front.len(),
            found.target,
            other.target
        ));
    }
    for one in &found.across {
        text.push_str(&across(one, style));
    }
    let verdicts =
        std::iter::once(found).chain(&found.further).filter_map(|one| shown::worst(&one.finalists));
    let verdict = verdicts.max();
    let failed = verdict == Some(Verdict::Fail);
    if let Some(verdict) = verdict {
        text.push_str(&format!("\nparity: {verdict}\n"));
    }
    let all = std::iter::once(found).chain(&found.further).flat_map(|one| &one.finalists);
    for one in all {
        for parity in [Some(&one.parity), one.there.as_ref()].into_iter().flatten() {
            if parity.verdict == Verdict::Fail {
                text.push_str(&format!("\n{}\n{}", one.candidate.id, shown::parity(parity, style)));
            }
        }
    }
    for one in std::iter::once(found).chain(&found.further) {
        text.push_str(&format!("models: {}\n", Run::open_read_only(&one.run)?.models().display()));
    }
    for one in &found.further {
        report::write(&Run::open_read_only(&one.run)?)?;
    }
    let page = report::write(&run)?;
    text.push_str(&format!("report: {}\n", page.display()));
    let next = if failed {
        "masktas doctor".to_owned()
    } else {
        format!("masktas export {} --pick knee", found.run.display())
    };
    text.push_str(&format!("next:   {next}\n"));
    let mut json = serde_json::to_value(found).unwrap_or(Value::Null);
    if let Value::Object(keys) = &mut json {
        keys.insert("axis".to_owned(), axis(&run)?.key().into());
        keys.insert("prior".to_owned(), run.manifest().recipe.latency.prior.into());
        keys.insert("teacher".to_owned(), serde_json::to_value(&teacher).unwrap_or(Value::Null));
        keys.insert("report".to_owned(), page.display().to_string().into());
        keys.insert("parity".to_owned(), verdict.map(|verdict| verdict.to_string()).into());
    }
    Ok(Answer { exit: if failed { Exit::Check } else { Exit::Ok }, ..Answer::new(text, json) })
}

/// The front of one device and its finalists.
fn front(
    found: &Found,
    run: &Run,
    teacher: Option<&TaughtBy>,
    style: Style,
) -> Result<String, masktas_search::Error> {
    let (axis, bend) = (axis(run)?, bend(&found.front));
    let mut text = format!("front: {} of {} scored architectures\n\n", found.front.len(), found.trials);
    let prior = run.manifest().recipe.latency.prior;
    text.push_str(&shown::front(&found.front, axis, prior, bend, style));
    text.push_str(&shown::teacher(teacher));
    if !found.finalists.is_empty() {
        // Nothing is timed where latency is not limited.
        let measured = found.finalists.iter().any(|one| !one.measured.is_empty());
        let again = if measured { ", measured again" } else { "" };
        text.push_str(&format!("\nfinalists: exported, replayed in every engine{again}\n\n"));
        text.push_str(&shown::finalists(&found.finalists, prior, style));
    }
    Ok(text)
}

/// What one device measured of the fronts of all.
fn across(across: &Across, style: Style) -> String {
    let mut table = Table::new(&["searched for", "finalists", "beaten", "measured ms"]);
    for (at, front) in across.fronts.iter().enumerate() {
        let ends = front.members.first().zip(front.members.last());
        let times = ends.map_or("-".to_owned(), |(first, last)| format!("{:.3} to {:.3}", first.ms, last.ms));
        let name = front.searched_for.as_str();
        table.row(vec![
            if at == 0 { Cell::painted(name, Paint::Bold) } else { name.into() },
            front.members.len().to_string().into(),
            front.beaten.to_string().into(),
            times.into(),
        ]);
    }
    format!(
        "\nall finalists on {}, {}; beaten: another front has one that scores no lower and is faster\n\n{}",
        across.target,
        across.engine,
        table.show(style)
    )
}
