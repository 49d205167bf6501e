//! Puts the agent on a device that a shell command reaches, and starts it there.
//!
//! Only a POSIX shell, `mkdir`, `cat`, `chmod`, `mv`, `uname` and `sha256sum` are needed there. Nothing is installed outside
//! one folder of the user's cache, and what is there already is not sent again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::RemoteOptions;
use super::address::Address;
use super::unreachable::unreachable;
use crate::agent::model_hash;
use crate::error::{Error, Result};

/// File name of the agent.
pub(super) const AGENT: &str = "masktas-agent";
/// What the lines that are looked for begin with; others may be a login's greeting.
const MARK: &str = "masktas-probe";

/// Runs shell commands on a device.
pub(super) struct Shell<'a> {
    address: &'a Address,
}

impl<'a> Shell<'a> {
    /// `None` for an address that no shell reaches.
    pub(super) fn new(address: &'a Address) -> Option<Self> {
        matches!(address, Address::Ssh { .. } | Address::Adb { .. } | Address::Docker { .. })
            .then_some(Self { address })
    }

    /// The command that runs `script` there. The script must hold no single quote.
    fn command(&self, script: &str) -> Command {
        let quoted = format!("sh -c '{script}'");
        match self.address {
            Address::Ssh { host, port } => {
                let mut command = Command::new("ssh");
                command.args(["-T", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10"]);
                command.args(["-o", "ServerAliveCountMax=3"]);
                if let Some(port) = port {
                    command.args(["-p", &port.to_string()]);
                }
                command.args(["--", host, &quoted]);
                command
            }
            Address::Adb { serial } => {
                let mut command = Command::new("adb");
                if let Some(serial) = serial {
                    command.args(["-s", serial]);
                }
                command.args(["shell", "-T", &quoted]);
                command
            }
            Address::Docker { container } => {
                let mut command = Command::new("docker");
                command.args(["exec", "-i", container, "sh", "-c", script]);
                command
            }
            Address::Local | Address::Exec { .. } | Address::Tcp { .. } => {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command
            }
        }
    }

    /// Runs a script to its end, with a file as its input.
    fn run(&self, script: &str, input: Option<&Path>) -> Result<String> {
        let fail = |reason: String| unreachable(self.address, reason);
        let mut command = self.command(script);
        let program = command.get_program().to_string_lossy().into_owned();
        let input = match input {
            Some(path) => {
                File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?.into()
            }
            None => Stdio::null(),
        };
        let output = command.stdin(input).output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fail(format!("the program `{program}` is not installed here")),
            _ => fail(error.to_string()),
        })?;
        let Output { status, stdout, stderr } = output;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let words: Vec<String> = String::from_utf8_lossy(&stderr)
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.trim().chars().take(300).collect())
            .collect();
        let last = words.get(words.len().saturating_sub(3)..).unwrap_or_default().join(" / ");
        Err(fail(if last.is_empty() { format!("`{program}` ended with {status}") } else { last }))
    }

    /// Puts the agent for the device's processor there, unless it is, and returns the command that starts it.
    ///
    /// What may have to be sent is compared by its hash; the models that lie there too, gigabytes of them, are not read.
    pub(super) fn deploy(&self, options: &RemoteOptions) -> Result<Command> {
        let probe = format!(
            "for d in \"$HOME/.cache\" /data/local/tmp /tmp; do mkdir -p \"$d/masktas/agent\" 2>/dev/null && \
             [ -w \"$d/masktas/agent\" ] && [ -O \"$d/masktas/agent\" ] && break; done; d=\"$d/masktas/agent\"; \
             [ -O \"$d\" ] || {{ echo \"no folder for the agent that this user owns: $d\" >&2; exit 1; }}; chmod 700 \"$d\"; \
             echo \"{MARK} arch $(uname -m)\"; echo \"{MARK} folder $d\"; \
             for f in \"$d\"/{AGENT} \"$d\"/libonnxruntime*; do [ -f \"$f\" ] && echo \"{MARK} file $(sha256sum \"$f\")\"; done; true"
        );
        let answer = self.run(&probe, None)?;
        let there = There::read(&answer)
            .ok_or_else(|| unreachable(self.address, "its shell does not answer as a POSIX shell does"))?;
        let agent = options.agent_for(&there.arch, &self.address.to_string())?;
        let mut files = vec![agent.clone()];
        // ONNX Runtime for the board, where somebody has put it beside the agent.
        let beside =
            agent.parent().and_then(Path::file_name).is_some_and(|folder| folder == there.arch.as_str());
        if let Some(folder) = agent.parent().filter(|_| beside) {
            files.extend(crate::engine::newest_library_in(folder));
        }
        for file in files {
            let name = if file == agent { AGENT.into() } else { file_name(&file) };
            let bytes = std::fs::read(&file).map_err(|source| Error::Io { path: file.clone(), source })?;
            if there.has(&name, &model_hash(&bytes)) {
                continue;
            }
            let target = format!("{}/{name}", there.folder);
            let store = format!(
                "cat > \"{target}.new\" && chmod 755 \"{target}.new\" && mv \"{target}.new\" \"{target}\" || {{ rm -f \"{target}.new\"; exit 1; }}"
            );
            self.run(&store, Some(&file))?;
        }
        let mut start = format!("exec \"{}/{AGENT}\"", there.folder);
        if let Some(path) = &options.ort_lib {
            // It travels inside single quotes inside a shell's text.
            if path.contains(['\'', '"', '\\', '$', '`']) {
                let reason = format!(
                    "the path `{path}` of ONNX Runtime has a quote, a backslash or a dollar; move the library to a path without them"
                );
                return Err(Error::Refused { device: self.address.to_string(), reason });
            }
            start.push_str(&format!(" --ort-lib \"{path}\""));
        }
        Ok(self.command(&start))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the probe found.
struct There {
    arch: String,
    folder: String,
    /// Hash and name.
    files: Vec<(String, String)>,
}

impl There {
    fn read(text: &str) -> Option<Self> {
        let (mut arch, mut folder, mut files) = (None, None, Vec::new());
        for line in text.lines().filter_map(|line| line.trim().strip_prefix(MARK)) {
            match line.trim_start().split_once(' ') {
                Some(("arch", name)) => arch = Some(name.trim().to_owned()),
                Some(("folder", path)) => folder = Some(path.trim().to_owned()),
                Some(("file", file)) => {
                    if let Some((hash, path)) = file.split_once(char::is_whitespace) {
                        files.push((hash.to_owned(), file_name(Path::new(path.trim()))));
                    }
                }
                _ => {}
            }
        }
        // Quotes would end the texts that the folder is put into.
        let folder = folder.filter(|folder| !folder.contains(['\'', '"', '\\', '$', '`']))?;
        Some(Self { arch: arch?, folder, files })
    }

    fn has(&self, name: &str, hash: &str) -> bool {
        self.files.iter().any(|(own, file)| own == hash && file == name)
    }
}

impl RemoteOptions {
    /// The agent for a processor (as `uname -m` names it).
    ///
    /// # Errors
    /// [`Error::AgentMissing`].
    pub(super) fn agent_for(&self, arch: &str, device: &str) -> Result<PathBuf> {
        if let Some(path) = &self.agent {
            return Ok(path.clone());
        }
        let mut places: Vec<PathBuf> =
            self.folders.iter().map(|folder| folder.join(arch).join(AGENT)).collect();
        if arch == std::env::consts::ARCH
            && let Some(folder) =
                std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned))
        {
            places.push(folder.join(AGENT));
        }
        places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| Error::AgentMissing {
            arch: arch.to_owned(),
            device: device.to_owned(),
            searched: places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_read_through_a_greeting() {
        let text = "Welcome to Ubuntu\nmasktas-probe arch aarch64\nmasktas-probe folder /home/pi/.cache/masktas/agent\n\
                    masktas-probe file abc  /home/pi/.cache/masktas/agent/masktas-agent\r\n";
        let there = There::read(text).unwrap();
        assert_eq!(
            (there.arch.as_str(), there.folder.as_str()),
            ("aarch64", "/home/pi/.cache/masktas/agent")
        );
        assert!(there.has("masktas-agent", "abc") && !there.has("masktas-agent", "abd"));
        assert!(There::read("sh: not found").is_none());
        assert!(There::read("masktas-probe arch x\nmasktas-probe folder /tmp/$(reboot)").is_none());
    }

    #[test]
    fn a_missing_agent_names_the_processor_and_the_places() {
        let folders = vec![PathBuf::from("/nowhere")];
        let options = RemoteOptions { folders, ..RemoteOptions::default() };
        let text = options.agent_for("riscv64", "ssh://board").unwrap_err().to_string();
        assert!(text.contains("riscv64") && text.contains("/nowhere/riscv64/masktas-agent"), "{text}");
        assert!(!text.contains("PROCESSOR=riscv64"), "none can be built so: {text}");
        let other = if std::env::consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
        let text = options.agent_for(other, "ssh://board").unwrap_err().to_string();
        assert!(text.contains(&format!("`make agent PROCESSOR={other}`")), "{text}");
    }

    #[test]
    fn the_agent_that_was_built_comes_before_the_one_beside_this_program() {
        let place = tempfile::tempdir().unwrap();
        let built = place.path().join("aarch64").join(AGENT);
        let options = RemoteOptions { folders: vec![place.path().to_owned()], ..RemoteOptions::default() };
        std::fs::create_dir(place.path().join("aarch64")).unwrap();
        std::fs::write(&built, "agent").unwrap();
        assert_eq!(options.agent_for("aarch64", "local").unwrap(), built);
        let named = RemoteOptions { agent: Some("/bin/ls".into()), ..options };
        assert_eq!(named.agent_for("aarch64", "local").unwrap(), Path::new("/bin/ls"));
    }
}
