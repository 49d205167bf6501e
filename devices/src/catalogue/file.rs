//! Reading and writing device files.

use super::device::Device;
use crate::engine::engines;
use crate::error::{Error, Result};
use crate::suggest::closest;

/// Ways to reach a device that a file may name.
pub(super) const TRANSPORTS: [&str; 6] = ["local", "ssh", "adb", "tcp", "docker", "none"];

/// Longest name of a device.
const NAME_LIMIT: usize = 64;

/// Largest device file in bytes.
pub(super) const FILE_LIMIT: u64 = 1 << 20;

/// Reads the text of a device file and checks every value. `place` is what errors call it.
///
/// # Errors
/// [`Error::InvalidDevice`] for text that is not TOML, an unknown key, a value of the wrong unit or size, or a source
/// that is not there.
pub(super) fn parse(text: &str, place: &str) -> Result<Device> {
    let invalid = |reason: String| Error::InvalidDevice { place: place.to_owned(), reason };
    let mut device: Device = toml::from_str(text).map_err(|error| {
        // The parser quotes the line; one line of it is enough beside the place.
        let line = error.span().map(|span| text.get(..span.start).map_or(0, |t| t.matches('\n').count()) + 1);
        let message = error.message().trim().replace('\n', ", ");
        invalid(line.map_or(message.clone(), |line| format!("line {line}: {message}")))
    })?;
    check(&device).map_err(invalid)?;
    if device.name == "host" {
        // This machine has whatever this build has.
        device.engines = engines().into_iter().map(str::to_owned).collect();
    }
    Ok(device)
}

/// The TOML text of a device.
///
/// # Errors
/// [`Error::InvalidDevice`] for values that TOML cannot hold.
pub(super) fn text(device: &Device, place: &str) -> Result<String> {
    toml::to_string_pretty(device)
        .map_err(|error| Error::InvalidDevice { place: place.to_owned(), reason: error.to_string() })
}

/// What is wrong with a device, if anything is.
fn check(device: &Device) -> std::result::Result<(), String> {
    for name in device.names().chain([device.family.as_str()]) {
        check_name(name)?;
    }
    for transport in std::iter::once(&device.transport).chain(&device.also_reached) {
        if !TRANSPORTS.contains(&transport.as_str()) {
            return Err(unknown("transport", transport, &TRANSPORTS));
        }
    }
    let known = engines();
    for engine in &device.engines {
        if !known.contains(&engine.as_str()) {
            return Err(unknown("engine", engine, &known));
        }
    }
    for (field, text) in [("description", &device.description), ("architecture", &device.architecture)] {
        if text.trim().is_empty() {
            return Err(format!("`{field}` is empty"));
        }
    }
    if let Some(part) = device.models.iter().chain(&device.cpu_models).find(|part| part.trim().len() < 3) {
        return Err(format!("the model text `{part}` has fewer than 3 letters and would match too much"));
    }
    for (key, source) in &device.sources {
        if !is_month(&source.date) {
            return Err(format!("source `{key}` has the date `{}`, and YYYY-MM is expected", source.date));
        }
        if source.text.trim().is_empty() {
            return Err(format!("source `{key}` has no text"));
        }
    }
    check_facts(device)?;
    if let Some(mode) = device.power_modes.iter().find(|mode| mode.name.trim().is_empty()) {
        return Err(format!("a power mode has an empty name: {mode:?}"));
    }
    Ok(())
}

fn check_facts(device: &Device) -> std::result::Result<(), String> {
    let mut wrong = None;
    device.each_fact(&mut |name, value, unit, source| {
        if wrong.is_some() {
            return;
        }
        let expected = unit_of(&name);
        if !device.sources.contains_key(source) {
            let keys: Vec<&str> = device.sources.keys().map(String::as_str).collect();
            wrong = Some(format!("`{name}`: {}", unknown("source", source, &keys)));
        } else if unit != expected {
            wrong = Some(format!("`{name}` has the unit `{unit}`, and `{expected}` is expected"));
        } else if is_number(&name) {
            let number: f64 = value.parse().unwrap_or(f64::NAN);
            if !(number.is_finite() && number > 0.0) {
                wrong = Some(format!("`{name}` is {value}, and a number above 0 is expected"));
            }
        } else if value.trim().is_empty() {
            wrong = Some(format!("`{name}` is empty"));
        }
    });
    wrong.map_or(Ok(()), Err)
}

/// The unit that a value must have, by the end of its path.
fn unit_of(path: &str) -> &'static str {
    let cpu = path.starts_with("cpu.");
    match path.rsplit('.').next().unwrap_or_default() {
        "mhz" | "cpu_mhz" | "gpu_mhz" => "MHz",
        "fp32" | "fp16" if cpu => "FLOP/cycle",
        "int8" if cpu => "OP/cycle",
        "fp32" | "fp16" => "TFLOPS",
        "int8" => "TOPS",
        "bytes" => "bytes",
        "bandwidth" | "practical" => "GB/s",
        "watts" => "W",
        _ => "",
    }
}

fn is_number(path: &str) -> bool {
    !unit_of(path).is_empty() || path.ends_with(".cores")
}

/// Whether a device may be called so: small letters, digits and hyphens, because the name becomes a part of paths.
pub(crate) fn check_name(name: &str) -> std::result::Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !name.is_empty() && name.len() <= NAME_LIMIT && name.chars().all(fits);
    if good && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!("the name `{name}` is not made of at most {NAME_LIMIT} small letters, digits and hyphens"))
}

fn is_month(date: &str) -> bool {
    let Some((year, month)) = date.split_once('-') else { return false };
    let digits = |text: &str, length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_digit());
    digits(year, 4) && digits(month, 2) && (1..=12).contains(&month.parse::<u32>().unwrap_or(0))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match closest(name, known.iter().copied()) {
        Some(candidate) => format!("there is no {what} `{name}`, did you mean `{candidate}`? Known: {list}"),
        None => format!("there is no {what} `{name}`; known: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "my-board"
description = "a board"
family = "boards"
architecture = "aarch64"
transport = "ssh"
engines = ["tract"]

[memory]
bytes = { value = 1073741824, unit = "bytes", source = "sheet" }
bandwidth = { value = 12.5, unit = "GB/s", source = "sheet" }

[source.sheet]
text = "the maker's sheet"
date = "2026-11"
confidence = "verified"
"#;

    #[test]
    fn a_good_file_is_read_and_written_back() {
        let device = parse(GOOD, "good.toml").unwrap();
        assert_eq!(device.rows().len(), 2);
        assert_eq!(parse(&text(&device, "good.toml").unwrap(), "again").unwrap(), device);
    }

    #[test]
    fn every_wrong_file_says_where_and_what() {
        let cases = [
            ("family = \"boards\"", "famliy = \"boards\"", "unknown field `famliy`"),
            ("name = \"my-board\"", "name = \"My Board\"", "small letters"),
            ("transport = \"ssh\"", "transport = \"shh\"", "did you mean `ssh`"),
            ("[\"tract\"]", "[\"trac\"]", "did you mean `tract`"),
            ("12.5", "-12.5", "above 0"),
            ("12.5", "nan", "above 0"),
            ("unit = \"GB/s\"", "unit = \"MB/s\"", "`GB/s` is expected"),
            (
                "unit = \"GB/s\", source = \"sheet\"",
                "unit = \"GB/s\", source = \"shet\"",
                "did you mean `sheet`",
            ),
            ("unit = \"GB/s\", source = \"sheet\"", "unit = \"GB/s\"", "missing field `source`"),
            ("2026-11", "2026-13", "YYYY-MM"),
            ("confidence = \"verified\"", "confidence = \"sure\"", "unknown variant `sure`"),
            ("description = \"a board\"", "description = \" \"", "`description` is empty"),
            ("name =", "name", "line 2"),
        ];
        for (from, to, expected) in cases {
            let error = parse(&GOOD.replacen(from, to, 1), "bad.toml").unwrap_err().to_string();
            assert!(error.contains("bad.toml") && error.contains(expected), "{to}: {error}");
        }
    }

    proptest::proptest! {
        /// A damaged file is an error that names it, never a panic; one that is still good reads the same again.
        #[test]
        fn a_damaged_file_is_an_error(at in 0..GOOD.len(), bytes in "[ -~\n]{0,6}", drop in 0usize..8) {
            let end = (at + drop).min(GOOD.len());
            let text = format!("{}{bytes}{}", &GOOD[..at], &GOOD[end..]);
            match parse(&text, "damaged.toml") {
                Ok(device) => {
                    let again = super::text(&device, "again").unwrap();
                    proptest::prop_assert_eq!(parse(&again, "again").unwrap(), device);
                }
                Err(error) => proptest::prop_assert!(error.to_string().contains("damaged.toml"), "{}", error),
            }
        }
    }
}
