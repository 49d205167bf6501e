//! Why a device was not reached, and what a person can do about it.

use std::path::Path;

use super::address::Address;
use crate::error::Error;

/// The error of a device that was not reached, with the next step that fits the address and what was seen.
pub(super) fn unreachable(address: &Address, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    let next = next(address, &reason);
    Error::Unreachable { device: address.to_string(), reason, next }
}

/// The same for a line that was made and broke before the agent said hello. `agent` is the file that was named as the agent.
pub(super) fn before_hello(address: &Address, agent: Option<&Path>, error: Error) -> Error {
    let agent = agent.filter(|_| !matches!(address, Address::Tcp { .. } | Address::Exec { .. }));
    match error {
        Error::Lost { device, reason } => match agent {
            Some(agent) => {
                let next =
                    format!("see that {} is a masktas-agent for the device's processor", agent.display());
                Error::Unreachable { device, reason, next }
            }
            None => unreachable(address, reason),
        },
        // It was carried there by `ssh` or the like, which is not to blame.
        Error::NoAgent { device, said, program } => {
            let program = agent.map_or(program, |agent| agent.display().to_string());
            Error::NoAgent { device, said, program }
        }
        other => other,
    }
}

fn next(address: &Address, reason: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["is not installed here"]) {
        return "install it, or reach the device another way: see `masktas profile --help`".into();
    }
    match address {
        Address::Ssh { host, port } => {
            let port = port.map(|port| format!("-p {port} ")).unwrap_or_default();
            let ssh = format!("`ssh {port}{host}`");
            if has(&["Host key verification failed"]) {
                format!("run {ssh} once, and accept the board's key if it is the board's")
            } else if has(&["Permission denied", "Too many authentication failures"]) {
                format!("let {ssh} in without a password, as by `ssh-copy-id {port}{host}`")
            } else if has(&["Could not resolve", "Name or service not known"]) {
                "check the name, or give the board's number".into()
            } else {
                format!("see that {ssh} works")
            }
        }
        Address::Adb { .. } => "see that `adb devices` lists it".into(),
        Address::Docker { container } => format!("see that `docker exec {container} sh` works"),
        Address::Tcp { .. } => "check host and port, and that `masktas-agent --listen` runs there".into(),
        Address::Local => "build the agent anew with `make agent`".into(),
        Address::Exec { .. } => "check the command after `exec:`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_fits_what_was_seen() {
        let cases = [
            ("ssh://pi@board:22", "Host key verification failed.", "run `ssh -p 22 pi@board` once"),
            ("ssh://board", "board: Permission denied (publickey).", "`ssh-copy-id board`"),
            ("ssh://bord", "ssh: Could not resolve hostname bord", "check the name"),
            ("ssh://board", "Connection timed out", "see that `ssh board` works"),
            ("adb://", "no devices/emulators found", "`adb devices`"),
            ("docker://box", "the program `docker` is not installed here", "install it"),
            ("docker://box", "No such container: box", "`docker exec box sh`"),
            ("exec:/nowhere/agent", "No such file", "after `exec:`"),
        ];
        for (address, reason, next) in cases {
            let address = Address::parse(address).unwrap();
            let text = unreachable(&address, reason).to_string();
            assert!(text.starts_with(&format!("cannot connect to {address}: {reason}; ")), "{text}");
            assert!(text.contains(next), "{text}");
            assert!(!text.contains("run the command again to go on"), "{text}");
        }
    }
}
