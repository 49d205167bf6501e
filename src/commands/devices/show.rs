//! `masktas devices show`.

use clap::Args;
use masktas_devices::{Catalogue, Device, Library};
use serde_json::{Value, json};

use crate::console::{Answer, Console, Outcome};
use crate::table::Table;

/// Options of `masktas devices show`.
#[derive(Args)]
pub struct Options {
    /// The device
    #[arg(value_name = "NAME")]
    device: String,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let catalogue = Catalogue::open()?;
    let device = catalogue.device(&options.device)?;
    let profiles: Vec<_> = Library::of_user()
        .map(|library| library.profiles().0)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, profile)| device.is_called(&profile.device))
        .collect();
    let mut text = head(device);
    let rows = device.rows();
    if !rows.is_empty() {
        let mut table = Table::new(&["value", "", "unit", "looked up", "sure", "source"]);
        for row in &rows {
            table.row(vec![
                row.name.as_str().into(),
                row.value.as_str().into(),
                row.unit.as_str().into(),
                row.date.as_str().into(),
                format!("{:?}", row.confidence).to_lowercase().into(),
                row.source.as_str().into(),
            ]);
        }
        text.push_str(&format!(
            "\n{}\nthese are makers' figures and priors, not measurements\n",
            table.show(console.style)
        ));
    }
    for note in &device.notes {
        text.push_str(&format!("note: {}\n", note.value));
    }
    for (path, profile) in &profiles {
        let space = profile.space.as_ref().map_or("single models", |space| &space.name);
        text.push_str(&format!("profile of {space}: {}\n", path.display()));
    }
    if profiles.is_empty() {
        text.push_str(&format!("no profile; masktas profile --target {} --connect ADDRESS\n", device.name));
    }
    let paths: Vec<_> = profiles.iter().map(|(path, _)| path).collect();
    let json = json!({
        "device": serde_json::to_value(device).unwrap_or(Value::Null),
        "values": serde_json::to_value(&rows).unwrap_or(Value::Null),
        "profiles": paths,
    });
    Ok(Answer::new(text, json))
}

fn head(device: &Device) -> String {
    let mut text = format!("{}: {}\n", device.name, device.description);
    let line = |name: &str, values: &[String]| {
        if values.is_empty() { String::new() } else { format!("{name}: {}\n", values.join(", ")) }
    };
    text.push_str(&line("also called", &device.aliases));
    text.push_str(&format!("family: {}, {}\n", device.family, device.architecture));
    let mut reached = vec![device.transport.clone()];
    reached.extend(device.also_reached.iter().cloned());
    text.push_str(&line("reached by", &reached));
    text.push_str(&line("engines", &device.engines));
    text.push_str(&line("providers", &device.providers));
    text
}
