//! What can go wrong in a search.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing, both numbers, and one next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{path}: {source}; check the path and its permissions")]
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
    #[error("the saved weights do not fit: {0}; restore the file from a copy, or begin a new run")]
    Checkpoint(String),
    /// The compute device failed.
    #[error("the compute device failed: {0}; see `masktas doctor`, then go on with --resume")]
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
    #[error(
        "the loss term {term} became {value}; begin a new run with a lower learning rate, such as --set supernet.learning_rate=3e-4"
    )]
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
    #[error(
        "no image of the {split} split has a label; put the images into one folder per class, directly below the root"
    )]
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
    /// A value that somebody gave and that makes no sense.
    #[error("invalid {thing}: {problem}; {next}")]
    Invalid {
        /// The thing.
        thing: String,
        /// What is wrong, with both numbers.
        problem: String,
        /// What to do.
        next: String,
    },
    /// A value that was computed or stored and cannot be used; nobody gave it.
    #[error("invalid {thing}: {problem}; {next}")]
    Unusable {
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
        space: Box<str>,
        /// The budget, as people write it.
        limit: String,
        /// The least that a member costs.
        low: String,
        /// The most that a member costs.
        high: String,
        /// What to do.
        next: String,
    },
    /// Limits that can each be met, and that no member looked at meets together. It was searched for, so that
    /// there is none is not proven.
    #[error(
        "none of the {looked} architectures of {space} that were looked at meets {limits} together; the nearest, \
         {nearest}, has {costs}; {next}"
    )]
    Together {
        /// The space.
        space: Box<str>,
        /// The limits, as people write them.
        limits: Box<str>,
        /// Members that were looked at.
        looked: usize,
        /// Id of the member that exceeds the limits least.
        nearest: String,
        /// What it costs, limit by limit.
        costs: String,
        /// What to do.
        next: String,
    },
    /// The target was never profiled and is not connected.
    #[error(
        "{target} has no profile on the space {space} and is not connected; run `masktas profile --target {target} --space \
         {space} --connect ssh://USER@BOARD` first, add --connect, or search by the catalogue's coarse figures with --prior"
    )]
    NotProfiled {
        /// The target.
        target: String,
        /// The space.
        space: String,
    },
    /// A supernet that was trained otherwise than asked.
    #[error(
        "the supernet of {path} was trained with {key} = {theirs}, and {ours} is asked for; leave {key} out, or train a new \
         one without --supernet"
    )]
    OtherSupernet {
        /// Folder of its run.
        path: std::path::PathBuf,
        /// Key of the recipe.
        key: String,
        /// Its value there.
        theirs: String,
        /// The value asked for.
        ours: String,
    },
    /// A profile that was made for something else.
    #[error(
        "the profile {path} does not fit this search: its {what} is {theirs}, and {ours} is searched with; {next}"
    )]
    OtherProfile {
        /// The profile's run.
        path: std::path::PathBuf,
        /// What differs.
        what: Box<str>,
        /// Its value in the profile.
        theirs: String,
        /// Its value in the search.
        ours: String,
        /// What to do.
        next: Box<str>,
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
    /// A folder that somebody named as a run and that is none.
    #[error("{path} is not a usable run: {problem}; {next}")]
    NoRun {
        /// The folder.
        path: std::path::PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        next: String,
    },
    /// A folder that was named for a new run and holds something.
    #[error("{path} cannot take a new run: {problem}; {next}")]
    Taken {
        /// The folder.
        path: std::path::PathBuf,
        /// What is there.
        problem: String,
        /// What to do.
        next: String,
    },
    /// A run that is damaged, unfinished, or of a version that this one does not understand.
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
