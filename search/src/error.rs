//! What can go wrong in a search.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing, both numbers, and one next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A source of images cannot be used.
    #[error(transparent)]
    Images(#[from] crate::images::ImagesError),
    /// Saved weights do not fit the network.
    #[error("the saved weights do not fit: {0}")]
    Checkpoint(String),
    /// The compute device failed.
    #[error("the compute device failed: {0}")]
    Backend(String),
    /// A teacher that cuts images differently.
    #[error(
        "the teacher sees {}-pixel images in {}-pixel patches, the space {}-pixel images in {}-pixel patches; name a teacher made for this space",
        .teacher.0, .teacher.1, .space.0, .space.1
    )]
    TeacherGrid {
        /// Image and patch side of the teacher.
        teacher: (usize, usize),
        /// Image and patch side of the space.
        space: (usize, usize),
    },
    /// A loss term left the numbers.
    #[error("the loss term {term} became {value}; begin a new run with a lower learning rate, such as --set supernet.learning_rate=3e-4")]
    Diverged {
        /// The term.
        term: &'static str,
        /// Its value.
        value: f64,
    },
    /// Feature distillation without a projector.
    #[error("feature distillation needs a teacher; name one in [teacher] or set objective.feature = 0")]
    NoProjector,
    /// Labels are needed and there are none.
    #[error("no image of the {split} split has a label; put the images into one folder per class")]
    NoLabels {
        /// The split.
        split: &'static str,
    },
    /// Every loss term is switched off.
    #[error("every loss term is off; give one of objective.pixel, .feature, .relation a weight above 0")]
    NoTerms,
    /// Measuring or running a model failed.
    #[error(transparent)]
    Devices(#[from] masktas_devices::Error),
    /// Making a model file failed.
    #[error(transparent)]
    Export(#[from] masktas_export::Error),
    /// A name that is not registered.
    #[error("unknown {what} `{name}`; {hint}")]
    UnknownName {
        /// What was looked for, such as `space`.
        what: &'static str,
        /// The name given.
        name: String,
        /// A suggestion, and the names that are known.
        hint: String,
    },
    /// A configuration file or override that cannot be used.
    #[error("{place}: {problem}; {next}")]
    Config {
        /// File and line, or the override.
        place: String,
        /// What is wrong, with both values.
        problem: String,
        /// What to do.
        next: String,
    },
    /// A value that makes no sense.
    #[error("invalid {thing}: {problem}; {next}")]
    Invalid {
        /// The thing.
        thing: String,
        /// What is wrong, with both numbers.
        problem: String,
        /// What to do.
        next: String,
    },
    /// A meaningful wish that this version cannot fulfil.
    #[error("{thing} is not supported: {reason}; {next}")]
    NotSupported {
        /// The thing.
        thing: String,
        /// Why.
        reason: String,
        /// What to do.
        next: String,
    },
    /// A budget outside what the space can do.
    #[error("no architecture of {space} fits {limit}: they range from {low} to {high}; {next}")]
    Infeasible {
        /// The space.
        space: String,
        /// The budget, as people write it.
        limit: String,
        /// The least that a member costs.
        low: String,
        /// The most that a member costs.
        high: String,
        /// What to do.
        next: String,
    },
    /// The run's database refused.
    #[error("{path}: {source}; see that the disk is healthy and not full, then continue with --resume")]
    Store {
        /// The database.
        path: std::path::PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Another process writes to the run.
    #[error("{path} is being written by another process; wait for it or stop it first")]
    Busy {
        /// The run folder.
        path: std::path::PathBuf,
    },
    /// A folder that is not a run, or not one this version understands.
    #[error("{path} is not a usable run: {problem}; {next}")]
    NotARun {
        /// The folder.
        path: std::path::PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        next: String,
    },
    /// The disk is full.
    #[error("{path}: the disk is full (writing {what}); free some space, then continue with --resume")]
    DiskFull {
        /// The file.
        path: std::path::PathBuf,
        /// What had to be written, with its size where known.
        what: String,
    },
    /// Fine-tuning was stopped on request; it keeps no checkpoint.
    #[error("interrupted after {done} of {total} steps; fine-tuning keeps no checkpoint, run the command again to begin anew")]
    Unfinished {
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// Stopped on request, everything saved.
    #[error("interrupted; everything so far is saved")]
    Interrupted,
}

/// Names the file in an input/output error.
pub trait At<T> {
    /// Names `path` in the error.
    ///
    /// # Errors
    /// The error itself, with the path.
    fn at(self, path: impl Into<std::path::PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl Into<std::path::PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.into(), source })
    }
}
