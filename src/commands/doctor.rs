//! `masktas doctor`: what works on this machine, and how to mend what does not.

use clap::Args;
use masktas_devices::{Check, Status, doctor};
use masktas_search::images;
use serde_json::{Value, json};

use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::exit::Exit;
use crate::style::{Paint, Style};

/// Options of `masktas doctor`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    engines: EngineArgs,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let mut checks = doctor(&options.engines.options());
    checks.push(cache());
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("masktas {version}\n{}", lines(&checks, console.style));
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    let json = json!({
        "version": version,
        "checks": serde_json::to_value(&checks).unwrap_or(Value::Null),
    });
    let exit = if failed { Exit::Check } else { Exit::Ok };
    Ok(Answer { exit, ..Answer::new(text, json) })
}

/// Checks for people, each with what mends it.
pub fn lines<'c>(checks: impl IntoIterator<Item = &'c Check> + Clone, style: Style) -> String {
    let names = checks.clone().into_iter().map(|check| check.name.chars().count());
    let width = names.max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (word, paint) = match check.status {
            Status::Ok => ("ok  ", Paint::Good),
            Status::Warn => ("warn", Paint::Warn),
            Status::Fail => ("FAIL", Paint::Bad),
        };
        text.push_str(&format!("{}  {:width$}  {}\n", style.paint(paint, word), check.name, check.detail));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("      {:width$}  to mend it: {fix}\n", ""));
        }
    }
    text
}

/// Where resized images are kept.
fn cache() -> Check {
    let (name, fix) = ("image cache", "set MASKTAS_CACHE or XDG_CACHE_HOME to a folder that can be written");
    let bad =
        |detail: String| Check { name: name.into(), status: Status::Fail, detail, fix: Some(fix.into()) };
    let folder = match images::cache_folder() {
        Ok(folder) => folder,
        Err(error) => return bad(error.to_string()),
    };
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&probe, b"masktas"));
    let detail = folder.display().to_string();
    match written.and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Check { name: name.into(), status: Status::Ok, detail, fix: None },
        Err(error) => bad(format!("{detail}: {error}")),
    }
}
