//! `masktas devices test`.

use clap::Args;
use masktas_devices::Catalogue;
use masktas_devices::agent::EngineState;
use serde_json::{Value, json};

use crate::cli::EngineArgs;
use crate::commands::target::{TargetArgs, measurable, reach};
use crate::console::{Answer, Console, Outcome};
use crate::exit::Exit;
use crate::style::{Paint, Style};
use crate::table::{Cell, Table};

/// Options of `masktas devices test`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    engines: EngineArgs,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let asked = options.target.target.as_deref().unwrap_or("host");
    let connection = options.target.connection()?;
    if connection.is_none() {
        // Known before anything is asked, so that a typing error is one.
        let name = options.target.device(asked, None, console)?;
        measurable(&name, None)?;
    }
    let (mut transport, machine) = reach(connection.as_ref(), &options.engines)?;
    let name = options.target.device(asked, connection.as_ref().map(|_| &machine), console)?;
    let catalogue = Catalogue::open()?;
    let device = catalogue.device(&name)?;
    let states = transport.engines()?;
    let remarks = device.remarks(&machine);

    let mut text = format!("{name}: {}\n\n", machine.line());
    text.push_str(&engines_table(&states, console.style));
    text.push('\n');
    for remark in &remarks {
        text.push_str(&format!("{}\n  {}\n", remark.what, remark.next));
    }
    let usable = states.iter().any(|state| state.version.is_some());
    if remarks.is_empty() && usable {
        text.push_str("nothing here makes latencies unsteady\n");
    }
    let address = connection.map(|connection| format!(" --connect {}", connection.address));
    text.push_str(&format!("next: masktas profile --target {name}{}\n", address.unwrap_or_default()));
    let json = json!({
        "device": name,
        "machine": serde_json::to_value(&machine).unwrap_or(Value::Null),
        "engines": engines_json(&states),
        "remarks": serde_json::to_value(&remarks).unwrap_or(Value::Null),
    });
    let exit = if usable { Exit::Ok } else { Exit::Check };
    Ok(Answer { exit, ..Answer::new(text, json) })
}

/// The same for programs.
pub fn engines_json(states: &[EngineState]) -> Value {
    let row = |state: &EngineState| json!({ "engine": state.name, "version": state.version, "missing": state.missing });
    states.iter().map(row).collect()
}

/// Engines and whether they can be used.
pub fn engines_table(states: &[EngineState], style: Style) -> String {
    let mut table = Table::new(&["engine", "version", "usable"]);
    for state in states {
        let usable = match &state.missing {
            None => Cell::painted("yes", Paint::Good),
            Some(why) => Cell::painted(format!("no: {why}"), Paint::Warn),
        };
        table.row(vec![state.name.as_str().into(), state.version.as_deref().unwrap_or("-").into(), usable]);
    }
    table.show(style)
}
