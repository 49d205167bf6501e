//! What a search or profile that was stopped or refused leaves behind, and the command that goes on from there.

use std::collections::BTreeMap;
use std::path::Path;

use masktas_devices::Address;
use masktas_search::Error;
use masktas_search::pipeline::{Connection, Left, Setup};
use masktas_search::run::Run;

use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Ends `masktas COMMAND` by this error. A run that it began and that holds nothing yet is taken away again: its folder would
/// stand in the way of the next try. Of any other run it is said how to go on.
pub fn behind(error: Error, command: &str, setup: &Setup, console: &mut Console) -> Failure {
    let (began, folder) = (setup.recipe.is_some(), setup.out.as_path());
    let again = format!("masktas {command} --resume {}{}", folder.display(), connect(&setup.connections));
    if matches!(error, Error::Interrupted) {
        let text = format!("interrupted; what was done is kept, go on with: {again}");
        return Failure { exit: Exit::Interrupted, error: text.into() };
    }
    // Another's folder is not this command's to speak of.
    if matches!(error, Error::Taken { .. } | Error::Busy { .. } | Error::NoRun { .. }) {
        return error.into();
    }
    let Some(left) = Run::open_read_only(folder).and_then(|run| Left::of(&run)).ok() else {
        return error.into();
    };
    let refused = matches!(error, Error::Infeasible { .. } | Error::Together { .. });
    match left {
        Left::Nothing if began => take_away(folder, console),
        Left::Nothing => {}
        Left::Profile if refused && command == "search" => console
            .say(&format!("what was measured is kept: search again with --profile {}", folder.display())),
        Left::Profile | Left::Work => {
            console.say(&format!("what was done is kept; go on with: {again}"));
        }
    }
    error.into()
}

fn take_away(folder: &Path, console: &mut Console) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        console.say(&format!("{} holds nothing and could not be removed: {error}", folder.display()));
    }
}

/// The options that reach the devices again; an address that may hold a secret is not repeated.
fn connect(connections: &BTreeMap<String, Connection>) -> String {
    let options = connections.iter().map(|(name, connection)| {
        let named = if connections.len() > 1 { format!("{name}=") } else { String::new() };
        let address = match &connection.address {
            Address::Tcp { .. } | Address::Exec { .. } => "ADDRESS".to_owned(),
            other => other.to_string(),
        };
        format!(" --connect {named}{address}")
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use masktas_devices::RemoteOptions;

    use super::*;

    #[test]
    fn devices_are_reached_again_without_telling_secrets() {
        let to = |name: &str, text: &str| {
            let address = Address::parse(text).expect("an address");
            (name.to_owned(), Connection { address, options: RemoteOptions::default() })
        };
        let one = BTreeMap::from([to("pi5", "ssh://pi@board")]);
        assert_eq!(connect(&one), " --connect ssh://pi@board");
        let secret = format!("tcp://s3cret@board:7070#{}", "ab".repeat(32));
        let two = BTreeMap::from([to("pi4", &secret), to("pi5", "ssh://pi@board")]);
        assert_eq!(connect(&two), " --connect pi4=ADDRESS --connect pi5=ssh://pi@board");
        assert_eq!(connect(&BTreeMap::new()), "");
    }
}
