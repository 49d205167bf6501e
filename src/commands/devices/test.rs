//! `masktas devices test`.

use clap::Args;
use masktas_devices::agent::EngineState;
use masktas_devices::{Catalogue, Check, Status, machine_checks};
use masktas_search::pipeline::Connection;
use serde_json::{Value, json};

use crate::cli::EngineArgs;
use crate::commands::doctor;
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
    let waiting = console.connecting(connection.as_ref().map(|connection| &connection.address));
    let (mut transport, machine) = reach(connection.as_ref(), &options.engines)?;
    drop(waiting);
    let name = options.target.device(asked, connection.as_ref().map(|_| &machine), console)?;
    let catalogue = Catalogue::open()?;
    let device = catalogue.device(&name)?;
    let states = transport.engines()?;
    let checks = machine_checks(&machine, device);

    let mut text = format!("{name}: {}\n\n", machine.line());
    text.push_str(&engines_table(&states, console.style));
    text.push('\n');
    let bad: Vec<&Check> = checks.iter().filter(|check| check.status != Status::Ok).collect();
    text.push_str(&doctor::lines(bad.iter().copied(), console.style));
    let usable = states.iter().any(|state| state.version.is_some());
    let failed = bad.iter().any(|check| check.status == Status::Fail);
    if bad.is_empty() && usable {
        text.push_str("nothing here makes latencies unsteady\n");
    }
    // With another device's name a profile would be wrong; what mends that is said above.
    if usable && !failed {
        text.push_str(&next(&name, options, connection.as_ref()));
    }
    let json = json!({
        "device": name,
        "machine": serde_json::to_value(&machine).unwrap_or(Value::Null),
        "engines": engines_json(&states),
        "checks": serde_json::to_value(&checks).unwrap_or(Value::Null),
        "remarks": serde_json::to_value(device.remarks(&machine)).unwrap_or(Value::Null),
    });
    let exit = if usable && !failed { Exit::Ok } else { Exit::Check };
    Ok(Answer { exit, ..Answer::new(text, json) })
}

/// The command that measures the device. A secret is never repeated, and half an address would not work.
fn next(name: &str, options: &Options, connection: Option<&Connection>) -> String {
    let TargetArgs { agent, device_ort_lib, .. } = &options.target;
    let way = match connection {
        None => String::new(),
        Some(Connection { address, .. })
            if address.shown_whole() && agent.is_none() && device_ort_lib.is_none() =>
        {
            format!(" --connect {address}")
        }
        Some(_) => ", with the same --connect and what belongs to it".to_owned(),
    };
    format!("next: masktas profile --target {name}{way}\n")
}

/// Engines for programs.
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
