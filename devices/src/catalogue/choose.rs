//! Which device a target stands for.

use serde::{Deserialize, Serialize};

use super::Catalogue;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// What a connected board says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The device tree's model text, or the product name of the firmware tables.
    pub board: String,
    /// The CPU's name.
    pub cpu: String,
}

impl From<&Fingerprint> for Connected {
    fn from(machine: &Fingerprint) -> Self {
        Self { board: machine.board.clone(), cpu: machine.cpu.clone() }
    }
}

/// What a target stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// One device.
    Device {
        /// Its name.
        name: String,
        /// Why this one.
        because: Because,
    },
    /// Several, and a person must say which.
    Ask {
        /// What was asked for.
        asked: String,
        /// Names to choose from, sorted.
        choices: Vec<String>,
    },
}

/// Why a device was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Because {
    /// Its name or an alias was given.
    Named,
    /// The connected board says that it is this one.
    Board,
    /// It is the only one of its family that was profiled.
    Profile,
    /// It is the only one of its family.
    Alone,
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Because::Named => "as named",
            Because::Board => "as the connected board says",
            Because::Profile => "the only one of its family with a profile",
            Because::Alone => "the only one of its family",
        })
    }
}

impl Choice {
    /// The device, where nobody can be asked.
    ///
    /// # Errors
    /// [`Error::WhichDevice`] with the names to choose from.
    pub fn settled(self) -> Result<String> {
        match self {
            Choice::Device { name, .. } => Ok(name),
            Choice::Ask { asked, choices } => Err(Error::WhichDevice { asked, choices }),
        }
    }
}

/// The device that `asked` stands for.
///
/// A device's name or alias is that device. A family is the connected board's own device; without a board, the only
/// one of the family among `profiles` (names of devices that were profiled), or the only one there is; else a person
/// must say. Nothing is read or asked here: the same arguments always give the same answer.
///
/// # Errors
/// [`Error::NoDevice`] for a name that is neither; [`Error::WrongBoard`] when the connected board is known to be another
/// device than the one named, or of another family.
pub fn choose(
    catalogue: &Catalogue,
    asked: &str,
    connected: Option<&Connected>,
    profiles: &[String],
) -> Result<Choice> {
    let board = connected.and_then(|machine| catalogue.recognise(&machine.board, &machine.cpu));
    let wrong = |found: &str| Error::WrongBoard {
        asked: asked.to_owned(),
        board: connected.map(|machine| machine.board.clone()).unwrap_or_default(),
        found: found.to_owned(),
    };
    let settled = |name: &str, because| Ok(Choice::Device { name: name.to_owned(), because });

    if let Some(device) = catalogue.find(asked) {
        // A device that gives no model text cannot be told from others, so its board is believed.
        let tells = !device.models.is_empty() || !device.cpu_models.is_empty();
        return match board {
            Some(found) if tells && found.name != device.name => Err(wrong(&found.name)),
            _ => settled(&device.name, Because::Named),
        };
    }
    let family = catalogue.family(asked);
    let Some(first) = family.first() else { return Err(catalogue.unknown(asked)) };
    let ask = |choices: Vec<String>| Ok(Choice::Ask { asked: asked.to_owned(), choices });
    let names = || family.iter().map(|device| device.name.clone()).collect();
    if let Some(found) = board {
        return if found.family == first.family {
            settled(&found.name, Because::Board)
        } else {
            Err(wrong(&found.name))
        };
    }
    if family.len() == 1 {
        return settled(&first.name, Because::Alone);
    }
    // A board is there and says nothing that is known: a profile of some other board is not its profile.
    if connected.is_some() {
        return ask(names());
    }
    let profiled: Vec<&str> = family
        .iter()
        .filter(|device| profiles.iter().any(|name| device.is_called(name)))
        .map(|device| device.name.as_str())
        .collect();
    match profiled.as_slice() {
        [] => ask(names()),
        [only] => settled(only, Because::Profile),
        several => ask(several.iter().map(|name| (*name).to_owned()).collect()),
    }
}
