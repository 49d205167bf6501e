//! `masktas devices show`.

use clap::Args;
use masktas_devices::catalogue::{PowerMode, Row};
use masktas_devices::{Catalogue, Device, Library};
use serde_json::{Value, json};

use crate::console::{Answer, Console, Outcome};
use crate::style::Style;
use crate::table::{Table, wrap};

/// Letters of a line.
const WIDTH: usize = 100;

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
    let rows = device.rows();
    let mut text = format!("{}{}", head(device), values(device, &rows, console.style));
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

/// What the catalogue knows, the notes, and where it is from.
fn values(device: &Device, rows: &[Row], style: Style) -> String {
    let mut text = String::new();
    let mut table = Table::new(&["value", "", "source"]);
    let mut any = false;
    // Notes are sentences; they follow.
    for row in rows.iter().filter(|row| row.name != "note") {
        any = true;
        table.row(vec![name(row).into(), value(row).into(), row.key.as_str().into()]);
    }
    if any {
        text.push_str(&format!(
            "\n{}\nthese are makers' figures and priors, not measurements\n\n",
            table.show(style)
        ));
    }
    for note in &device.notes {
        text.push_str(&format!("{}\n", wrap(&format!("note ({}): {}", note.source, note.value), WIDTH, 2)));
    }
    let used = device.sources.iter().filter(|(key, _)| rows.iter().any(|row| row.key == **key));
    for (key, source) in used {
        let about = format!("source {key} ({}, {}): {}", source.confidence, source.date, source.text);
        text.push_str(&format!("{}\n", wrap(&about, WIDTH, 2)));
        text.extend(source.url.iter().map(|url| format!("  {url}\n")));
    }
    text
}

/// A value's path; what is said of each system begins with what it is.
fn name(row: &Row) -> String {
    let system = row.name.strip_prefix("runtime.").and_then(|name| name.strip_suffix(".onnxruntime"));
    system.map_or_else(|| row.name.clone(), |system| format!("onnxruntime on {system}"))
}

/// A value with its unit, as people read it.
fn value(row: &Row) -> String {
    match (row.unit.as_str(), row.value.parse::<f64>()) {
        ("bytes", Ok(bytes)) => format!("{} GiB", (bytes / f64::from(1 << 30) * 10.0).round() / 10.0),
        ("", _) => row.value.clone(),
        (unit, _) => format!("{} {unit}", row.value),
    }
}

fn head(device: &Device) -> String {
    let mut text = format!("{}: {}\n", device.name, device.description);
    let line = |name: &str, values: &[String]| {
        if values.is_empty() {
            return String::new();
        }
        format!("{}\n", wrap(&format!("{name}: {}", values.join(", ")), WIDTH, 2))
    };
    text.push_str(&line("also called", &device.aliases));
    text.push_str(&format!("family: {}, {}\n", device.family, device.architecture));
    let mut reached = vec![device.transport.clone()];
    reached.extend(device.also_reached.iter().cloned());
    text.push_str(&line("reached by", &reached));
    text.push_str(&line("engines", &device.engines));
    text.push_str(&line("providers", &device.providers));
    let mode = |mode: &PowerMode| match mode.number {
        Some(number) => format!("{number} {}", mode.name),
        None => mode.name.clone(),
    };
    let modes: Vec<String> = device.power_modes.iter().map(mode).collect();
    let numbered = device.power_modes.iter().any(|mode| mode.number.is_some());
    text.push_str(&line(if numbered { "power modes (nvpmodel -m)" } else { "power modes" }, &modes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_fits_into_the_width() {
        for device in masktas_devices::devices() {
            let rows = device.rows();
            let text = format!("{}{}", head(&device), values(&device, &rows, Style::PLAIN));
            for line in text.lines().filter(|line| !line.trim_start().starts_with("http")) {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", device.name);
            }
            for note in &device.notes {
                let first: String = note.value.split(' ').take(4).collect::<Vec<_>>().join(" ");
                assert_eq!(text.matches(&first).count(), 1, "{}: {first}", device.name);
            }
        }
    }

    #[test]
    fn memory_is_in_gib_and_modes_have_their_numbers() {
        let device = masktas_devices::device("jetson-orin-nano").unwrap();
        let rows = device.rows();
        let memory = rows.iter().find(|row| row.name == "memory.bytes").unwrap();
        assert_eq!(value(memory), "8 GiB");
        assert!(head(&device).contains("power modes (nvpmodel -m): 0 15W, 1 25W, 2 MAXN_SUPER, 3 7W"));
    }
}
