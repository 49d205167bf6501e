//! Exit codes, and which error ends in which.

use std::error::Error as StdError;
use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failure.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A check failed.
    Check = 3,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error and how it ends the program.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: Box<dyn StdError + Send + Sync>,
}

impl Failure {
    /// The command line is wrong.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, error: text.into().into() }
    }

    /// Something failed.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failure, error: text.into().into() }
    }

    /// Reading or writing `path` failed.
    pub fn io(path: &std::path::Path, error: std::io::Error) -> Failure {
        Failure::failed(format!("{}: {error}; check the path and its permissions", path.display()))
    }

    /// The message and those of its causes, outermost first, without repetitions.
    pub fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.error.to_string()];
        let mut next = self.error.source();
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors already quote their cause.
            if chain.last().is_none_or(|last| !last.contains(&text)) {
                chain.push(text);
            }
            next = error.source();
        }
        chain
    }
}

impl From<masktas_search::Error> for Failure {
    fn from(error: masktas_search::Error) -> Failure {
        use masktas_search::Error as E;
        match error {
            E::Devices(error) => error.into(),
            E::Interrupted | E::Unfinished { .. } => Failure { exit: Exit::Interrupted, error: error.into() },
            E::UnknownName { .. } | E::Config { .. } => Failure { exit: Exit::Usage, error: error.into() },
            _ => Failure { exit: Exit::Failure, error: error.into() },
        }
    }
}

impl From<masktas_devices::Error> for Failure {
    fn from(error: masktas_devices::Error) -> Failure {
        use masktas_devices::Error as E;
        let exit = match &error {
            E::Interrupted { .. } => Exit::Interrupted,
            E::UnknownDevice { .. } | E::UnknownEngine { .. } => Exit::Usage,
            _ => Exit::Failure,
        };
        Failure { exit, error: error.into() }
    }
}

impl From<masktas_export::Error> for Failure {
    fn from(error: masktas_export::Error) -> Failure {
        Failure { exit: Exit::Failure, error: error.into() }
    }
}

impl From<masktas_runtime::Error> for Failure {
    fn from(error: masktas_runtime::Error) -> Failure {
        Failure { exit: Exit::Failure, error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_end_as_documented() {
        let exit = |error: masktas_search::Error| Failure::from(error).exit;
        assert_eq!(exit(masktas_search::Error::Interrupted), Exit::Interrupted);
        let unknown =
            masktas_search::Error::UnknownName { what: "space", name: "x".into(), hint: "y".into() };
        assert_eq!(exit(unknown), Exit::Usage);
        let device = masktas_devices::device("pi5").expect_err("only the host is there");
        assert_eq!(exit(masktas_search::Error::Devices(device)), Exit::Usage);
        assert_eq!(exit(masktas_search::Error::NoTerms), Exit::Failure);
    }

    #[test]
    fn a_cause_that_is_quoted_is_not_repeated() {
        let path = std::path::PathBuf::from("x");
        let source = std::io::Error::other("no luck");
        let failure = Failure::from(masktas_search::Error::Io { path, source });
        assert_eq!(failure.chain(), ["x: no luck"]);
    }
}
