//! Exit codes, and which error ends in which.
//!
//! The rule, for every error of every crate:
//!
//! - **2**, when something *given* has to change: an option, a value of the configuration, a name, or a path that does
//!   not exist. The same command would fail on every healthy machine. A wish that makes sense and that this
//!   version cannot fulfil is among them.
//! - **1**, when the *world* is to blame: a disk, a device, a library that is not installed, a damaged file or run,
//!   images that cannot be read, numbers that went wrong. The command may succeed later, or elsewhere.
//! - **3**, when everything worked and a check says no.
//! - **130**, when somebody asked to stop.
//!
//! An error that could be either is two variants.

use std::error::Error as StdError;
use std::process::ExitCode;

use masktas_search::images::ImagesError;

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

    /// Reading `path` failed, which the command line names: wrong there when nothing is at it.
    pub fn given(path: &std::path::Path, error: std::io::Error) -> Failure {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let failure = Failure::io(path, error);
        Failure { exit: if missing { Exit::Usage } else { Exit::Failure }, ..failure }
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

/// By the rule above.
fn of_search(error: &masktas_search::Error) -> Exit {
    use masktas_search::Error as E;
    match error {
        E::Images(error) => of_images(error),
        E::Devices(error) => of_devices(error),
        E::Export(error) => of_export(error),
        E::Interrupted => Exit::Interrupted,
        E::UnknownName { .. }
        | E::Config { .. }
        | E::Invalid { .. }
        | E::NotSupported { .. }
        | E::Infeasible { .. }
        | E::Together { .. }
        | E::NotProfiled { .. }
        | E::OtherProfile { .. }
        | E::NoRun { .. }
        | E::Taken { .. }
        | E::TeacherGrid { .. }
        | E::NoProjector
        | E::NoTerms => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// By the rule above.
fn of_images(error: &ImagesError) -> Exit {
    use ImagesError as E;
    match error {
        E::Missing { .. } | E::NotAFolder { .. } | E::Option { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// By the rule above.
fn of_devices(error: &masktas_devices::Error) -> Exit {
    use masktas_devices::Error as E;
    match error {
        E::Runtime(error) => of_runtime(error),
        E::Interrupted { .. } => Exit::Interrupted,
        error if error.given() => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// By the rule above.
fn of_export(error: &masktas_export::Error) -> Exit {
    use masktas_export::Error as E;
    match error {
        E::Runtime(error) => of_runtime(error),
        E::InvalidArch { .. } | E::UnsupportedOption { .. } | E::InvalidPage { .. } | E::NotAPage { .. } => {
            Exit::Usage
        }
        _ => Exit::Failure,
    }
}

/// By the rule above.
fn of_runtime(error: &masktas_runtime::Error) -> Exit {
    match error {
        masktas_runtime::Error::UnknownAdapter { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}

impl From<masktas_search::Error> for Failure {
    fn from(error: masktas_search::Error) -> Failure {
        Failure { exit: of_search(&error), error: error.into() }
    }
}

impl From<masktas_devices::Error> for Failure {
    fn from(error: masktas_devices::Error) -> Failure {
        Failure { exit: of_devices(&error), error: error.into() }
    }
}

impl From<masktas_export::Error> for Failure {
    fn from(error: masktas_export::Error) -> Failure {
        Failure { exit: of_export(&error), error: error.into() }
    }
}

impl From<masktas_runtime::Error> for Failure {
    fn from(error: masktas_runtime::Error) -> Failure {
        Failure { exit: of_runtime(&error), error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use masktas_search::Error as E;

    use super::*;

    fn exit(error: E) -> Exit {
        Failure::from(error).exit
    }

    #[test]
    fn what_was_given_ends_with_2() {
        let (text, path) = (String::new, std::path::PathBuf::new);
        let device = masktas_devices::device("pi55").expect_err("there is no such device");
        let given = [
            E::UnknownName { what: "space", name: "x".into(), hint: "y".into() },
            E::Config { place: text(), problem: text(), next: text() },
            E::Invalid { thing: text(), problem: text(), next: text() },
            E::NotSupported { thing: text(), reason: text(), next: text() },
            E::NoRun { path: path(), problem: text(), next: text() },
            E::Taken { path: path(), problem: text(), next: text() },
            E::NoTerms,
            E::Devices(device),
            E::Export(masktas_export::Error::UnsupportedOption { what: "operator set", got: 18, want: "20" }),
            E::Images(ImagesError::Missing { path: path() }),
        ];
        for error in given {
            let said = error.to_string();
            assert_eq!(exit(error), Exit::Usage, "{said}");
        }
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(Failure::given(&path(), missing).exit, Exit::Usage);
    }

    #[test]
    fn the_world_ends_with_1_and_a_stop_with_130() {
        let (text, path) = (String::new, std::path::PathBuf::new);
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let world = [
            E::Io { path: path(), source: missing() },
            E::Backend(text()),
            E::Checkpoint(text()),
            E::Unusable { thing: text(), problem: text(), next: text() },
            E::NotARun { path: path(), problem: text(), next: text() },
            E::Busy { path: path() },
            E::DiskFull { path: path(), what: text() },
            E::Devices(masktas_devices::Error::OrtMissing { searched: text() }),
            E::Images(ImagesError::NoCacheFolder),
        ];
        for error in world {
            let said = error.to_string();
            assert_eq!(exit(error), Exit::Failure, "{said}");
        }
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(Failure::given(&path(), denied).exit, Exit::Failure);
        assert_eq!(exit(E::Interrupted), Exit::Interrupted);
    }

    #[test]
    fn a_cause_that_is_quoted_is_not_repeated() {
        let path = std::path::PathBuf::from("x");
        let source = std::io::Error::other("no luck");
        let failure = Failure::from(E::Io { path, source });
        assert_eq!(failure.chain(), ["x: no luck; check the path and its permissions"]);
    }
}
