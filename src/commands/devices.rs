//! `masktas devices`: devices, engines and GPU adapters.

use clap::Args;
use masktas_devices::{Fingerprint, devices, engine, engines};
use masktas_runtime::session::Adapters;
use serde_json::{Value, json};

use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::style::Paint;
use crate::table::{Cell, Table};

/// Options of `masktas devices`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    engines: EngineArgs,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let style = console.style;
    let how = options.engines.options();
    let machine = Fingerprint::read(1);

    let mut table = Table::new(&["device", "reached by", "engines", "what it is"]);
    for device in devices() {
        let about = if device.name == "host" { machine.line() } else { device.description.clone() };
        table.row(vec![
            device.name.into(),
            device.transport.into(),
            device.engines.join(", ").into(),
            about.into(),
        ]);
    }
    let mut text = table.show(style);

    let mut table = Table::new(&["engine", "version", "usable"]);
    let mut rows = Vec::new();
    for name in engines() {
        let checked = engine(name, &how).and_then(|engine| {
            engine.check()?;
            engine.version()
        });
        let (version, usable) = match &checked {
            Ok(version) => (version.clone(), Cell::painted("yes", Paint::Good)),
            Err(error) => ("-".to_owned(), Cell::painted(format!("no: {error}"), Paint::Warn)),
        };
        let reason = checked.as_ref().err().map(ToString::to_string);
        rows.push(json!({ "engine": name, "version": checked.ok(), "missing": reason }));
        table.row(vec![name.into(), version.into(), usable]);
    }
    text.push_str(&format!("\n{}", table.show(style)));

    let adapters = Adapters::list();
    text.push('\n');
    if adapters.is_empty() {
        text.push_str("no GPU adapter; on Debian: apt-get install mesa-vulkan-drivers\n");
    } else {
        let mut table = Table::new(&["adapter", "kind", "interface", "driver"]);
        for adapter in &adapters {
            let kind = format!("{:?}", adapter.kind).to_lowercase();
            table.row(vec![
                adapter.name.as_str().into(),
                kind.into(),
                adapter.backend.as_str().into(),
                adapter.driver.as_str().into(),
            ]);
        }
        text.push_str(&table.show(style));
    }
    let json = json!({
        "devices": serde_json::to_value(devices()).unwrap_or(Value::Null),
        "engines": rows,
        "adapters": serde_json::to_value(&adapters).unwrap_or(Value::Null),
        "host": serde_json::to_value(&machine).unwrap_or(Value::Null),
    });
    Ok(Answer::new(text, json))
}
