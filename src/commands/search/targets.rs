//! The devices of a search: several of them may be named, and every option that belongs to one of them may say to which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use masktas_devices::Catalogue;
use masktas_devices::transport::FORMS;
use masktas_search::pipeline::Connection;
use masktas_search::recipe::HOST;

use crate::commands::target::TargetArgs;
use crate::exit::Failure;

/// Devices, the ways to them, and their limits. A value may begin with `NAME=`, a name given by `--target`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct TargetsArgs {
    /// A device: a name or family of `masktas devices`; `host`: this machine. May be repeated: every device gets a front of
    /// its own from one supernet. Options that belong to one of several devices then take NAME= before their value, as in
    /// --latency host=2ms, and so does --set
    #[arg(long = "target", value_name = "NAME")]
    pub targets: Vec<String>,
    // Not a comment: its brackets would be links.
    #[arg(long, value_name = "[NAME=]ADDRESS", help = format!("Where the device is: {FORMS}"))]
    pub connect: Vec<String>,
    /// The agent for the device's processor; else the one in ~/.cache/masktas/agents/PROCESSOR, or beside this program
    #[arg(long, value_name = "[NAME=]FILE", requires = "connect")]
    pub agent: Vec<String>,
    /// ONNX Runtime's library on the device; else beside the agent there, or in ~/.cache/masktas/ort
    #[arg(long, value_name = "[NAME=]PATH", requires = "connect")]
    pub device_ort_lib: Vec<String>,
    /// Take over what a finished `masktas profile` measured: its run's folder, or the file it wrote [default for another
    /// device than this machine: the one that is kept of it]
    #[arg(long, value_name = "[NAME=]RUN")]
    pub profile: Vec<String>,
    /// At most this latency, such as 5ms
    #[arg(long, value_name = "[NAME=]TIME", help_heading = "Budget")]
    pub latency: Vec<String>,
}

/// What the options say of one device.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name as given, and the way to it.
    pub args: TargetArgs,
    /// Its own overrides, `key=value`.
    pub overrides: Vec<String>,
    /// The profile that is taken over.
    pub profile: Option<PathBuf>,
}

impl TargetsArgs {
    /// The first option given that decides what is searched.
    pub fn first_given(&self) -> [(bool, &'static str); 3] {
        [
            (!self.targets.is_empty(), "--target"),
            (!self.latency.is_empty(), "--latency"),
            (!self.profile.is_empty(), "--profile"),
        ]
    }

    /// The devices of a new search in their order; one without a name where the recipe says it. `sets` are all values of
    /// `--set`; those of one device are taken out of them.
    pub fn each(&self, sets: &mut Vec<String>) -> Result<Vec<Target>, Failure> {
        for (at, name) in self.targets.iter().enumerate() {
            if self.targets.iter().take(at).any(|earlier| earlier == name) {
                return Err(Failure::usage(format!("--target {name} is given twice; leave one out")));
            }
        }
        let names: Vec<Option<&str>> = match self.targets.as_slice() {
            [] => vec![None],
            all => all.iter().map(|name| Some(name.as_str())).collect(),
        };
        let known = self.targets.clone();
        for (option, values) in
            [("--latency", &self.latency), ("--profile", &self.profile), ("--agent", &self.agent)]
        {
            self.listed(option, values)?;
        }
        let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
        sets.retain(|set| match addressed(set, &known) {
            (Some(name), set) => {
                own.entry(name.to_owned()).or_default().push(set.to_owned());
                false
            }
            (None, _) => true,
        });
        names
            .into_iter()
            .map(|name| {
                let mut overrides = name.and_then(|name| own.remove(name)).unwrap_or_default();
                let latency = for_all(&self.latency, name, &known);
                overrides.extend(latency.map(|time| format!("budget.latency={}", super::quoted(time))));
                let profile = of_one("--profile", &self.profile, name, &known)?;
                Ok(Target {
                    args: self.reached(name, &known)?,
                    overrides,
                    profile: profile.map(PathBuf::from),
                })
            })
            .collect()
    }

    /// Refuses a value for a device that no `--target` names.
    fn listed(&self, option: &str, values: &[String]) -> Result<(), Failure> {
        let catalogue = Catalogue::open()?;
        for (name, _) in values.iter().filter_map(|value| value.split_once('=')) {
            let is_device = catalogue.find(name).is_some() || !catalogue.family(name).is_empty();
            if is_device && !self.targets.iter().any(|target| target == name) {
                return Err(Failure::usage(format!(
                    "{option} {name}=… is for `{name}`, which is not searched for; add --target {name}, or leave it out"
                )));
            }
        }
        Ok(())
    }

    /// The ways to the devices of a run that goes on, by their names.
    pub fn connections(&self, names: &[String]) -> Result<BTreeMap<String, Connection>, Failure> {
        let mut connections = BTreeMap::new();
        for name in names {
            let found = self.reached(Some(name), names)?.connection()?;
            connections.extend(found.map(|connection| (name.clone(), connection)));
        }
        Ok(connections)
    }

    fn reached(&self, name: Option<&str>, known: &[String]) -> Result<TargetArgs, Failure> {
        let text = |option, values| of_one(option, values, name, known).map(|value| value.map(str::to_owned));
        Ok(TargetArgs {
            target: name.map(str::to_owned),
            connect: text("--connect", &self.connect)?,
            agent: of_one("--agent", &self.agent, name, known)?.map(|path| Path::new(path).to_owned()),
            device_ort_lib: text("--device-ort-lib", &self.device_ort_lib)?,
        })
    }
}

/// A value and the device it is meant for, where it says one of `known`.
fn addressed<'a>(value: &'a str, known: &[String]) -> (Option<&'a str>, &'a str) {
    match value.split_once('=') {
        Some((name, rest)) if known.iter().any(|known| known == name) => (Some(name), rest),
        _ => (None, value),
    }
}

/// The last value that is addressed to `name`, or to nobody where that is `None`.
fn last<'a>(values: &'a [String], name: Option<&str>, known: &[String]) -> Option<&'a str> {
    let all = values.iter().map(|value| addressed(value, known));
    all.filter(|(of, _)| *of == name).map(|(_, value)| value).next_back()
}

/// The value for `name` of an option that can serve all devices.
fn for_all<'a>(values: &'a [String], name: Option<&str>, known: &[String]) -> Option<&'a str> {
    let own = name.and_then(|name| last(values, Some(name), known));
    own.or_else(|| last(values, None, known))
}

/// The value for `name` of an option that never serves two devices: addressed to nobody, it belongs to the only device, or
/// to the only one that is not this machine.
fn of_one<'a>(
    option: &str,
    values: &'a [String],
    name: Option<&str>,
    known: &[String],
) -> Result<Option<&'a str>, Failure> {
    let own = name.and_then(|name| last(values, Some(name), known));
    let Some(value) = last(values, None, known).filter(|_| own.is_none()) else { return Ok(own) };
    let boards: Vec<&str> = known.iter().map(String::as_str).filter(|known| *known != HOST).collect();
    match boards.as_slice() {
        _ if known.len() < 2 => Ok(Some(value)),
        [only] => Ok(Some(value).filter(|_| name == Some(only))),
        boards => Err(Failure::usage(format!(
            "{option} {value} does not say which of {} devices it is for; write {option} {}={value}",
            boards.len(),
            boards.first().unwrap_or(&"NAME")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(targets: &[&str], connect: &[&str], latency: &[&str]) -> TargetsArgs {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        TargetsArgs {
            targets: owned(targets),
            connect: owned(connect),
            latency: owned(latency),
            ..TargetsArgs::default()
        }
    }

    /// Name, connection and overrides of each device.
    fn each(args: &TargetsArgs, sets: &[&str]) -> Result<Vec<(String, String, Vec<String>)>, String> {
        let mut sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let found = args.each(&mut sets).map_err(|failure| failure.error.to_string())?;
        let of = |target: Target| {
            (
                target.args.target.unwrap_or_default(),
                target.args.connect.unwrap_or_default(),
                target.overrides,
            )
        };
        Ok(found.into_iter().map(of).collect())
    }

    #[test]
    fn values_go_to_the_devices_they_name_and_others_to_all() {
        let found = each(
            &args(&["host", "pi5"], &["ssh://pi@board"], &["5ms", "pi5=9ms"]),
            &["seed=3", "pi5=latency.engines=[\"tract\"]"],
        );
        let found = found.unwrap();
        assert_eq!(found[0], ("host".into(), String::new(), vec!["budget.latency=\"5ms\"".into()]));
        let own = vec!["latency.engines=[\"tract\"]".into(), "budget.latency=\"9ms\"".into()];
        assert_eq!(found[1], ("pi5".into(), "ssh://pi@board".into(), own));
    }

    #[test]
    fn the_only_device_gets_all_and_needs_no_name() {
        assert_eq!(each(&args(&[], &["local"], &[]), &[]).unwrap()[0].1, "local");
        assert_eq!(each(&args(&["host"], &["local"], &[]), &[]).unwrap()[0].1, "local");
    }

    #[test]
    fn an_address_for_one_of_two_boards_must_say_which() {
        let error = each(&args(&["pi4", "pi5"], &["ssh://a"], &[]), &[]).unwrap_err();
        assert!(error.contains("--connect pi4=ssh://a"), "{error}");
        let found = each(&args(&["pi4", "pi5"], &["pi5=ssh://a"], &[]), &[]).unwrap();
        assert_eq!([found[0].1.as_str(), found[1].1.as_str()], ["", "ssh://a"]);
        let error = each(&args(&["pi4", "pi4"], &[], &[]), &[]).unwrap_err();
        assert!(error.contains("twice"), "{error}");
    }
}
