//! Options that name a device and say how it is reached; shared by the commands that measure.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use masktas_devices::catalogue::{Because, Choice, Connected, choose};
use masktas_devices::transport::FORMS;
use masktas_devices::{
    Address, Catalogue, Fingerprint, Library, Local, Remote, RemoteOptions, Transport, device,
};
use masktas_search::pipeline::Connection;
use masktas_search::recipe::HOST;

use crate::cli::EngineArgs;
use crate::console::Console;
use crate::exit::Failure;

/// A device and the way to it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct TargetArgs {
    /// The device: a name or family of `masktas devices`; `host`: this machine
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    // Not a comment: its brackets would be links.
    #[arg(long, value_name = "ADDRESS", help = format!("Where the device is: {FORMS}"))]
    pub connect: Option<String>,
    /// The agent for the device's processor; else the one in ~/.cache/masktas/agents/PROCESSOR, or beside this program
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub agent: Option<PathBuf>,
    /// ONNX Runtime's library on the device; else beside the agent there, or in ~/.cache/masktas/ort
    #[arg(long, value_name = "PATH", requires = "connect")]
    pub device_ort_lib: Option<String>,
}

impl TargetArgs {
    /// The first option that was given, for messages.
    pub fn first_given(&self) -> Option<&'static str> {
        self.target.as_ref().map(|_| "--target")
    }

    /// The way to the device; `None` without `--connect`.
    pub fn connection(&self) -> Result<Option<Connection>, Failure> {
        let Some(text) = &self.connect else { return Ok(None) };
        let options = RemoteOptions {
            agent: self.agent.clone(),
            folders: agents().into_iter().collect(),
            ort_lib: self.device_ort_lib.clone(),
        };
        Ok(Some(Connection { address: Address::parse(text)?, options }))
    }

    /// The name of the device that `asked` stands for: the connected board's own where a family was named, else the only
    /// one with a profile; on a terminal a person is asked.
    pub fn device(
        &self,
        asked: &str,
        connected: Option<&Fingerprint>,
        console: &mut Console,
    ) -> Result<String, Failure> {
        let catalogue = Catalogue::open()?;
        if let (None, true, Some(machine)) = (&self.target, asked == HOST && !self.is_local(), connected) {
            let Some(device) = catalogue.recognise_machine(machine) else {
                return Err(Failure::usage(format!(
                    "the connected board does not say which device it is ({}); name it with --target: one of `masktas devices`, \
                     or one that you made with `masktas devices add`",
                    machine.line()
                )));
            };
            console.say(&format!("the connected board is {}", device.name));
            return Ok(device.name.clone());
        }
        let profiles = Library::of_user().map(|library| library.devices()).unwrap_or_default();
        let board = connected.map(Connected::from);
        let name = match choose(&catalogue, asked, board.as_ref(), &profiles)? {
            Choice::Device { name, because } => {
                if because != Because::Named {
                    console.say(&format!("target {asked} is {name}, {because}"));
                }
                name
            }
            choice @ Choice::Ask { .. } => ask(choice)?,
        };
        Ok(name)
    }

    fn is_local(&self) -> bool {
        self.connect.as_deref() == Some("local")
    }

    /// Refuses to keep one machine's times under another one's name.
    pub fn fits(&self, name: &str, machine: Option<&Fingerprint>) -> Result<(), Failure> {
        let Some(machine) = machine else { return Ok(()) };
        let device = device(name)?;
        if device.name == HOST && !self.is_local() {
            return Err(Failure::usage(format!(
                "`{HOST}` is this machine, and --connect reaches {}; name that device with --target, or leave --connect out",
                machine.line()
            )));
        }
        let known = device.architecture != "any" && !machine.arch.is_empty();
        if known && device.architecture != machine.arch {
            return Err(Failure::usage(format!(
                "`{}` is {}, and --connect reaches {} ({}); name the right device with --target, or make one with `masktas \
                 devices add`",
                device.name,
                device.architecture,
                machine.arch,
                machine.line()
            )));
        }
        Ok(())
    }
}

/// Folder of agents for other processors: `$XDG_CACHE_HOME/masktas/agents`, or `~/.cache/masktas/agents`.
fn agents() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("masktas").join("agents"))
}

/// Lets a person choose, where there is one.
fn ask(choice: Choice) -> Result<String, Failure> {
    let Choice::Ask { asked, choices } = &choice else { return Ok(choice.settled()?) };
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(choice.settled()?);
    }
    let mut stderr = std::io::stderr().lock();
    let list = choices.iter().enumerate().map(|(at, name)| format!("  {}  {name}\n", at + 1));
    let text = format!("which {asked} is it?\n{}number: ", list.collect::<String>());
    let mut line = String::new();
    let told = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    let read = told.and_then(|()| std::io::stdin().read_line(&mut line));
    let number = read.ok().and_then(|_| line.trim().parse::<usize>().ok());
    match number.and_then(|number| choices.get(number.checked_sub(1)?)) {
        Some(name) => Ok(name.clone()),
        None => Ok(choice.settled()?),
    }
}

/// The way to a device for a command that measures at once, and what the device says of itself.
pub fn reach(
    connection: Option<&Connection>,
    engines: &EngineArgs,
) -> Result<(Box<dyn Transport>, Fingerprint), Failure> {
    let mut transport: Box<dyn Transport> = match connection {
        Some(Connection { address, options }) => Box::new(Remote::connect(address, options)?),
        None => Box::new(Local::new(&engines.options())),
    };
    let machine = transport.fingerprint(1)?;
    Ok((transport, machine))
}

/// Refuses a device that is not this machine and not connected.
pub fn measurable(name: &str, connection: Option<&Connection>) -> Result<(), Failure> {
    if name == HOST || connection.is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{name} is not connected; add --connect ssh://USER@BOARD, or another address of `masktas profile --help`"
    )))
}
