//! Where a device is, as people write it.

use std::path::PathBuf;

use crate::agent::Pin;
use crate::error::{Error, Result};

/// The forms of an address, for `--help`.
pub const FORMS: &str = "local, ssh://[USER@]HOST[:PORT], adb://[SERIAL], docker://CONTAINER, tcp://TOKEN@HOST:PORT#PIN or exec:COMMAND";

/// Where an agent is or can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A process on this machine.
    Local,
    /// A machine that the system's `ssh` reaches.
    Ssh {
        /// `USER@HOST` or `HOST`; may be a name of the user's ssh configuration.
        host: String,
        /// Port, where it is not the usual one.
        port: Option<u16>,
    },
    /// An Android device that `adb` reaches.
    Adb {
        /// Which one, where there are several.
        serial: Option<String>,
    },
    /// A running container that `docker` reaches.
    Docker {
        /// Its name.
        container: String,
    },
    /// An agent that listens.
    Tcp {
        /// `HOST:PORT`.
        at: String,
        /// Its secret.
        token: String,
        /// Its certificate.
        pin: Pin,
    },
    /// A program that speaks the agent's language on its standard input and output.
    Exec {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn parse(text: &str) -> Result<Self> {
        let fail =
            |reason: &str| Error::Address { text: text.to_owned(), reason: reason.to_owned(), forms: FORMS };
        // An option in a host's place would be one for ssh, adb or docker.
        let name = |part: &str, what: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:%[]".contains(c);
            if part.is_empty() || part.starts_with('-') || !part.chars().all(plain) {
                Err(fail(&format!("`{part}` is no {what}")))
            } else {
                Ok(part.to_owned())
            }
        };
        if text == "local" {
            return Ok(Self::Local);
        }
        if let Some(command) = text.strip_prefix("exec:") {
            let mut words = command.split_whitespace().map(str::to_owned);
            let program = words.next().ok_or_else(|| fail("it names no program"))?;
            return Ok(Self::Exec { program: program.into(), args: words.collect() });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(fail("it has no `://`"));
        };
        let rest = rest.trim_end_matches('/');
        match scheme {
            "ssh" => {
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => {
                        let number = port.parse().map_err(|_| fail(&format!("`{port}` is no port")))?;
                        (host, Some(number))
                    }
                    _ => (rest, None),
                };
                Ok(Self::Ssh { host: name(host, "host")?, port })
            }
            "adb" if rest.is_empty() => Ok(Self::Adb { serial: None }),
            "adb" => Ok(Self::Adb { serial: Some(name(rest, "serial number")?) }),
            "docker" => Ok(Self::Docker { container: name(rest, "container")? }),
            "tcp" => {
                let (token, rest) =
                    rest.split_once('@').ok_or_else(|| fail("it has no token before an `@`"))?;
                let (at, pin) = rest.split_once('#').ok_or_else(|| fail("it has no pin after a `#`"))?;
                let pin = Pin::parse(pin).ok_or_else(|| fail("its pin is not 64 hexadecimal digits"))?;
                if at.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                    return Err(fail("it has no port"));
                }
                Ok(Self::Tcp { at: name(at, "host and port")?, token: token.to_owned(), pin })
            }
            _ => Err(fail(&format!("`{scheme}` is no way to reach a device"))),
        }
    }
}

impl Address {
    /// Whether what is shown of it is all there is, so that it can be copied: no secret, no argument is left out.
    pub fn shown_whole(&self) -> bool {
        !matches!(self, Self::Tcp { .. } | Self::Exec { .. })
    }
}

impl std::fmt::Display for Address {
    /// As it was written, without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Ssh { host, port: None } => write!(f, "ssh://{host}"),
            Self::Ssh { host, port: Some(port) } => write!(f, "ssh://{host}:{port}"),
            Self::Adb { serial } => write!(f, "adb://{}", serial.as_deref().unwrap_or("")),
            Self::Docker { container } => write!(f, "docker://{container}"),
            Self::Tcp { at, .. } => write!(f, "tcp://{at}"),
            Self::Exec { program, .. } => write!(f, "exec:{}", program.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_without_secrets() {
        let pin = "ab".repeat(32);
        let tcp = format!("tcp://s3cret@[::1]:7070#{pin}");
        for (text, shown) in [
            ("local", "local"),
            ("ssh://pi@board", "ssh://pi@board"),
            ("ssh://board:2222/", "ssh://board:2222"),
            ("adb://", "adb://"),
            ("adb://emulator-5554", "adb://emulator-5554"),
            ("docker://jetson", "docker://jetson"),
            (tcp.as_str(), "tcp://[::1]:7070"),
            ("exec:qemu-aarch64 -L /usr/aarch64-linux-gnu agent", "exec:qemu-aarch64"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            if address.shown_whole() {
                assert_eq!(Address::parse(shown).unwrap(), address, "{text}");
            }
        }
        let Address::Exec { args, .. } = Address::parse("exec:a b  c").unwrap() else { panic!() };
        assert_eq!(args, ["b", "c"]);
    }

    #[test]
    fn what_is_no_address_is_named_with_the_forms() {
        for (text, reason) in [
            ("board", "no `://`"),
            ("ftp://board", "`ftp`"),
            ("ssh://", "no host"),
            ("ssh://-oProxyCommand=evil", "no host"),
            ("ssh://a b", "no host"),
            ("ssh://board:port", "no port"),
            ("tcp://board:1", "no token"),
            ("tcp://t@board:1", "no pin"),
            ("tcp://t@board:1#abc", "64"),
            ("exec:", "no program"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("docker://CONTAINER"), "{text}: {error}");
        }
    }
}
