//! What can go wrong when a model is run, checked or timed.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the thing and, where there are two numbers, both, and ends with one next step.
///
/// "Invalid" means that what was given is wrong; "not supported" means that it is right and that
/// this crate lacks the case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine has this name.
    #[error("there is no engine `{name}`; choose one of {known}")]
    UnknownEngine {
        /// Name asked for.
        name: String,
        /// Names that exist, comma-separated.
        known: String,
    },
    /// No device has this name, or it cannot be measured yet.
    #[error(
        "target `{name}` cannot be measured: remote devices come next, and only {known} can be measured now; \
         use `--target host`"
    )]
    UnknownDevice {
        /// Name asked for.
        name: String,
        /// Names that exist, comma-separated.
        known: String,
    },
    /// The catalogue has no device of this name.
    #[error(
        "there is no device `{name}`{}; `masktas devices list` shows those there are, `masktas devices add` adds one",
        suggestion.as_ref().map(|closest| format!(", did you mean `{closest}`?")).unwrap_or_default()
    )]
    NoDevice {
        /// Name asked for.
        name: String,
        /// The closest name there is, if one is close.
        suggestion: Option<String>,
    },
    /// A device file is not of the form that is described.
    #[error("invalid device in {place}: {reason}; change it to the form that docs/devices.md describes")]
    InvalidDevice {
        /// File or name.
        place: String,
        /// What is wrong, with both values.
        reason: String,
    },
    /// A person's device would be overwritten.
    #[error("the device `{name}` exists already ({}); choose another name, or ask to replace it", path.display())]
    DeviceExists {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// A target stands for several devices and nobody was asked.
    #[error("`{asked}` stands for several devices ({}); name one of them", choices.join(", "))]
    WhichDevice {
        /// What was asked for.
        asked: String,
        /// Names it may stand for.
        choices: Vec<String>,
    },
    /// The connected board is another one.
    #[error(
        "`{asked}` was asked for, and the connected board says that it is `{board}`, which is `{found}`; use \
         --target {found}, or connect to the other board"
    )]
    WrongBoard {
        /// What was asked for.
        asked: String,
        /// What the board says.
        board: String,
        /// The device it is.
        found: String,
    },
    /// The catalogue lacks what an estimate needs.
    #[error(
        "the catalogue has no {what} for `{device}`, so there is no prior for it; measure it with `masktas profile`"
    )]
    NoPrior {
        /// Device.
        device: String,
        /// What is missing.
        what: String,
    },
    /// No ONNX Runtime library was found.
    #[error(
        "ONNX Runtime's shared library was not found (looked at {searched}); run `make ort`, or give its path \
         with --ort-lib or MASKTAS_ORT_LIB"
    )]
    OrtMissing {
        /// Places looked at, in order.
        searched: String,
    },
    /// A file was named as ONNX Runtime's library and cannot be loaded as one.
    #[error("{} is not a usable ONNX Runtime library: {reason}; run `make ort`, or give another path with --ort-lib or MASKTAS_ORT_LIB", path.display())]
    OrtUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library is older than the floor.
    #[error(
        "ONNX Runtime at {} is version {found}, and 1.{floor} or newer 1.x is needed; run `make ort`, or use --engine tract",
        path.display()
    )]
    OrtVersion {
        /// The file.
        path: PathBuf,
        /// Version it states.
        found: String,
        /// Oldest minor version that is accepted.
        floor: u32,
    },
    /// A process loads one ONNX Runtime library only.
    #[error(
        "ONNX Runtime was already loaded from {} and cannot be loaded from {} in the same process; start \
         another process for the second library", loaded.display(), asked.display()
    )]
    OrtLoadedTwice {
        /// Library in use.
        loaded: PathBuf,
        /// Library asked for.
        asked: PathBuf,
    },
    /// The engine has no such provider here.
    #[error(
        "engine {engine} cannot use provider `{asked}` here (available: {available}); ask for one of these"
    )]
    Provider {
        /// Engine.
        engine: String,
        /// Provider asked for.
        asked: String,
        /// What there is, comma-separated.
        available: String,
    },
    /// A provider was asked for and a part of the model ran elsewhere.
    #[error(
        "{elsewhere} of {nodes} nodes did not run on provider `{provider}` ({examples}), so its time would be of two \
         providers; ask for another one, or export the model without these operators"
    )]
    Placement {
        /// Provider asked for.
        provider: String,
        /// Nodes that ran elsewhere.
        elsewhere: usize,
        /// Nodes in all.
        nodes: usize,
        /// Some of those.
        examples: String,
    },
    /// The engine has no such case.
    #[error("engine {engine} does not support {what}; {next}")]
    NotSupported {
        /// Engine.
        engine: String,
        /// The case.
        what: String,
        /// One next step.
        next: String,
    },
    /// The engine refused to load the model, or failed or panicked while doing it.
    #[error("engine {engine} cannot load the model: {reason}; try another engine, or export the file again")]
    Load {
        /// Engine.
        engine: String,
        /// Its own words.
        reason: String,
    },
    /// The engine failed while running the model.
    #[error(
        "engine {engine} failed while running the model: {reason}; check names, types and shapes of the inputs"
    )]
    Run {
        /// Engine.
        engine: String,
        /// Its own words.
        reason: String,
    },
    /// The outputs of a model are not those that were expected.
    #[error(
        "engine {engine}: output `{output}` is missing, and the model gives {given}; export the file again"
    )]
    MissingOutput {
        /// Engine.
        engine: String,
        /// Name expected.
        output: String,
        /// Names given.
        given: String,
    },
    /// An input extent is symbolic and no value was given for it.
    #[error(
        "input `{input}` has the symbolic extent `{symbol}`; give the shape it is to be run at, or export with a \
         static batch"
    )]
    SymbolicInput {
        /// Input.
        input: String,
        /// Symbol.
        symbol: String,
    },
    /// The numeric gate before timing failed.
    #[error(
        "model `{id}` under {engine} differs from {reference} by {difference:.3e} (at most {bound:.1e} is allowed), so \
         its time means nothing; look at `masktas export` parity for this model"
    )]
    Gate {
        /// Model.
        id: String,
        /// Engine under test.
        engine: String,
        /// What it was compared with.
        reference: String,
        /// Relative difference.
        difference: f64,
        /// Bound.
        bound: f64,
    },
    /// A protocol's numbers contradict each other.
    #[error("invalid measuring protocol: {reason}; change it, in a recipe under [latency]")]
    InvalidProtocol {
        /// What is wrong, with both numbers.
        reason: String,
    },
    /// Two measurements were made in different ways and are not comparable.
    #[error(
        "measurements of different {what} cannot be compared or mixed: {left} and {right}; measure both in one way"
    )]
    Incomparable {
        /// What differs.
        what: String,
        /// First value.
        left: String,
        /// Second value.
        right: String,
    },
    /// A feature vector is not of the kind the model was fitted on.
    #[error("invalid features: {reason}; profile the device again")]
    InvalidFeatures {
        /// What is wrong, with both numbers or names.
        reason: String,
    },
    /// Too few measurements for a fit.
    #[error("{got} measurements were given, and a latency model needs at least {need}; profile more models")]
    TooFewSamples {
        /// Given.
        got: usize,
        /// Needed.
        need: usize,
    },
    /// A latency model was asked before it was fitted.
    #[error("the latency model `{name}` was not fitted yet; run `masktas profile` first")]
    NotFitted {
        /// Its name.
        name: String,
    },
    /// No latency model has this name, or a stored one cannot be read.
    #[error("invalid latency model: {reason}; run `masktas profile` to make a new one")]
    InvalidLatencyModel {
        /// What is wrong.
        reason: String,
    },
    /// The caller asked to stop.
    #[error(
        "interrupted after {done} of {total} models; what was measured is kept, run the command again to go on"
    )]
    Interrupted {
        /// Models done.
        done: usize,
        /// Models in all.
        total: usize,
    },
    /// Runs too short for the clock.
    #[error(
        "runs of the model or of the reference network take {ms} ms on the protocol's clock, which is too short to \
         measure; choose the wall clock or a larger reference network"
    )]
    Unmeasurable {
        /// Median of the model's runs.
        ms: f64,
    },
    /// A clock this system does not have.
    #[error("this system has no {clock} clock; choose the wall clock")]
    NoClock {
        /// Clock asked for.
        clock: &'static str,
    },
    /// The process for a model cannot be started.
    #[error("the process that runs a model cannot be started ({}): {source}; install masktas again", program.display())]
    WorkerStart {
        /// The program.
        program: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The process that ran a model died, hung or took too much.
    #[error("the process that ran model `{id}` {reason}; try another engine, or a smaller model")]
    Worker {
        /// The model.
        id: String,
        /// How it ended.
        reason: String,
    },
    /// The other side of a pipe or a socket said something that is no message.
    #[error("a message cannot be understood: {reason}; run the same version of masktas on both sides")]
    Garbled {
        /// What is wrong.
        reason: String,
    },
    /// A model is larger than an agent takes.
    #[error(
        "the model has {bytes} bytes and the agent takes at most {most}; start the agent with a larger --model-max, or \
         export a smaller model"
    )]
    ModelTooLarge {
        /// Its bytes.
        bytes: u64,
        /// The cap.
        most: u64,
    },
    /// A file is not one that an agent gives to an engine.
    #[error(
        "the agent takes ONNX files without loops and other files: {reason}; send one that `masktas export` wrote"
    )]
    NotAdmitted {
        /// What is wrong with it.
        reason: masktas_runtime::Error,
    },
    /// A model that an agent keeps is not what its name says.
    #[error("{} was damaged on the device and is removed there; run the command again, and it is sent anew", path.display())]
    Damaged {
        /// The file on the device.
        path: PathBuf,
    },
    /// There is no agent program for a device's processor.
    #[error(
        "there is no agent for {arch} to put on {device} (looked at {searched}); {}, or name its file with --agent",
        how_to_build(arch)
    )]
    AgentMissing {
        /// The device's processor, as its system names it.
        arch: String,
        /// The device, as it was asked for.
        device: String,
        /// Places looked at.
        searched: String,
    },
    /// A profile cannot be used.
    #[error("the profile {} cannot be used: {reason}; profile the device again", path.display())]
    InvalidProfile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file was given as a profile and is another one.
    #[error("{} is not a profile file: {reason}; give one that `masktas profile --export` wrote", path.display())]
    NotAProfile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A CSV file of latencies is wrong.
    #[error("{}, line {line}: {reason}; give a file with the columns model and ms, one model a line", path.display())]
    InvalidCsv {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// An address is none.
    #[error("`{text}` is no address of a device: {reason}; write {forms}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong.
        reason: String,
        /// The forms there are.
        forms: &'static str,
    },
    /// A listening agent's certificate, key or token is unusable.
    #[error("the agent's secrets in {} are unusable: {reason}; remove the folder, and start the agent again", folder.display())]
    Secrets {
        /// Where they are.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An agent cannot listen at an address.
    #[error("the agent cannot listen at {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The agent speaks another version, or wants a token.
    #[error("{device} refused the connection: {reason}")]
    Refused {
        /// The device, as it was asked for.
        device: String,
        /// Its words, with one next step.
        reason: String,
    },
    /// A device was never reached.
    #[error("cannot connect to {device}: {reason}; {next}")]
    Unreachable {
        /// The device, as it was asked for.
        device: String,
        /// What was seen.
        reason: String,
        /// One next step.
        next: String,
    },
    /// What was reached is another program.
    #[error(
        "cannot connect to {device}: {program} is no masktas-agent ({said}); give one that `make agent` built, or leave \
         --agent out"
    )]
    NoAgent {
        /// The device, as it was asked for.
        device: String,
        /// The program.
        program: String,
        /// What it said.
        said: String,
    },
    /// The connection to a device is gone.
    #[error(
        "the connection to {device} is lost: {reason}; check the device, and run the command again to go on"
    )]
    Lost {
        /// The device, as it was asked for.
        device: String,
        /// What was seen.
        reason: String,
    },
    /// An error from another process, in its own words.
    #[error("{text}")]
    Told {
        /// Its words.
        text: String,
        /// Whether something that was given has to change, as [`Error::given`].
        given: bool,
    },
    /// Something the caller's own function reported.
    #[error("{0}")]
    Caller(String),
    /// A tensor, a graph or our own runtime.
    #[error(transparent)]
    Runtime(#[from] masktas_runtime::Error),
    /// The file system.
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether something that was given has to change: a name, an option, a protocol. The same request would fail on every
    /// healthy machine.
    pub fn given(&self) -> bool {
        match self {
            Error::Told { given, .. } => *given,
            Error::UnknownDevice { .. }
            | Error::UnknownEngine { .. }
            | Error::Provider { .. }
            | Error::NotSupported { .. }
            | Error::Placement { .. }
            | Error::InvalidProtocol { .. }
            | Error::Address { .. }
            | Error::DeviceExists { .. }
            | Error::InvalidCsv { .. }
            | Error::NoAgent { .. }
            | Error::NotAProfile { .. }
            | Error::InvalidDevice { .. }
            | Error::NoDevice { .. }
            | Error::NoPrior { .. }
            | Error::WhichDevice { .. }
            | Error::WrongBoard { .. }
            | Error::AgentMissing { .. }
            | Error::Refused { .. } => true,
            // One that is there and does not work may work elsewhere.
            Error::OrtUnusable { path, .. } => !path.exists(),
            _ => false,
        }
    }
}

/// How to come by an agent for a processor.
fn how_to_build(arch: &str) -> String {
    if matches!(arch, "x86_64" | "aarch64") {
        format!("build one with `make agent PROCESSOR={arch}`")
    } else {
        format!("`make agent` builds for x86_64 and aarch64 alone: build masktas-agent for {arch} with cargo")
    }
}
