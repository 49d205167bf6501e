//! `masktas devices list`.

use clap::Args;
use masktas_devices::{Catalogue, Fingerprint, Library, Local, Transport as _};
use masktas_runtime::session::Adapters;
use masktas_search::recipe::HOST;
use serde_json::{Value, json};

use super::test::{engines_json, engines_table};
use crate::cli::EngineArgs;
use crate::console::{Answer, Console, Outcome};
use crate::style::Paint;
use crate::table::{Cell, Table};

/// Options of `masktas devices list`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub engines: EngineArgs,
}

pub fn run(engines: &EngineArgs, console: &mut Console) -> Outcome {
    let style = console.style;
    let machine = Fingerprint::read(1);
    let catalogue = Catalogue::open()?;
    let profiled = Library::of_user().map(|library| library.devices()).unwrap_or_default();

    let mut table = Table::new(&["device", "family", "reached by", "profile", "what it is"]);
    for device in catalogue.devices() {
        let about = if device.name == HOST { machine.line() } else { device.description.clone() };
        let here = profiled.iter().any(|name| device.is_called(name));
        table.row(vec![
            device.name.as_str().into(),
            device.family.as_str().into(),
            device.transport.as_str().into(),
            if here { Cell::painted("yes", Paint::Good) } else { "-".into() },
            about.into(),
        ]);
    }
    let mut text = table.show(style);

    let states = Local::new(&engines.options()).engines()?;
    text.push_str(&format!("\n{}", engines_table(&states, style)));

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
    let value = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
    let json = json!({
        "devices": value(serde_json::to_value(catalogue.devices())),
        "profiled": profiled,
        "engines": engines_json(&states),
        "adapters": value(serde_json::to_value(&adapters)),
        "host": value(serde_json::to_value(&machine)),
    });
    Ok(Answer::new(text, json))
}
