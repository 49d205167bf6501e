//! What an agent and its client say to each other: one message a line, in JSON.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::{BenchJob, Calibration, Golden, Measurement};
use crate::parity::Parity;
use crate::sustained::{Sustained, Window};
use crate::trace::{Trace, TraceJob};
use crate::wire::{Base64, WireTensor, from_wire, to_wire};

/// Version of these messages. Both sides must speak the same.
pub const PROTOCOL: u32 = 1;

/// Most bytes of a model in one message.
pub const PART: usize = 1 << 20;

/// Seconds after which an agent that is busy says so.
pub const ALIVE_S: u64 = 5;

/// What an agent is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first message: who asks. Answered by [`Reply::Hello`].
    Hello {
        /// [`PROTOCOL`] of the client.
        protocol: u32,
        /// Version of the client.
        version: String,
        /// The secret that a listening agent printed.
        token: Option<String>,
    },
    /// The machine. Answered by [`Reply::Machine`].
    Machine {
        /// Threads to note in the fingerprint.
        threads: usize,
    },
    /// Announces a model. Answered by [`Reply::Send`].
    Model {
        /// SHA-256 of the file, in hexadecimal digits.
        hash: String,
        /// Its length.
        bytes: u64,
    },
    /// The next part of the announced model, [`PART`] bytes at most. The last part is answered by [`Reply::Stored`].
    Part {
        /// The bytes.
        data: Base64,
    },
    /// Loads and calibrates a reference network. Answered by [`Reply::Bench`].
    Bench {
        /// How to measure.
        job: Box<BenchJob>,
        /// Hash of the reference network.
        reference: String,
    },
    /// Measures a batch. Answered by [`Reply::Round`] after every round, then by [`Reply::Measured`].
    Batch {
        /// The models.
        subjects: Vec<WireSubject>,
        /// Seconds after which no round is begun.
        budget_s: Option<f64>,
    },
    /// Ends the batch that is being measured, which is then answered by [`Reply::Stopped`].
    Stop {},
    /// Takes the time of each operation. Answered by [`Reply::Traced`].
    Trace {
        /// Hash of the model.
        model: String,
        /// How.
        job: TraceJob,
    },
    /// Runs a model without a pause. Answered by [`Reply::Window`] after every window, then by [`Reply::Sustained`];
    /// [`Request::Stop`] ends it early.
    Sustain {
        /// The model.
        subject: WireSubject,
        /// How.
        job: Box<BenchJob>,
        /// For how long.
        seconds: f64,
    },
    /// Replays a golden pair. Answered by [`Reply::Parity`].
    Parity {
        /// Hash of the model.
        model: String,
        /// The pair.
        golden: WireGolden,
        /// Engines by name.
        engines: Vec<String>,
    },
}

/// What an agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Who answers.
    Hello {
        /// [`PROTOCOL`] of the agent.
        protocol: u32,
        /// Version of the agent.
        version: String,
    },
    /// The machine and the engines it can use.
    Machine {
        /// The machine.
        fingerprint: Box<Fingerprint>,
        /// Every engine, its version or why it cannot be used.
        engines: Vec<EngineState>,
    },
    /// Whether the announced model is to be sent; `false`: it is there already.
    Send {
        /// Whether to send it.
        wanted: bool,
    },
    /// The model is complete and was admitted.
    Stored {},
    /// The reference network's own time.
    Bench {
        /// It.
        calibration: Calibration,
    },
    /// Rounds done; 0: a model was loaded.
    Round {
        /// Their number.
        rounds: usize,
    },
    /// The batch, model by model.
    Measured {
        /// Measurements, and errors in their own words.
        results: Vec<std::result::Result<Box<Measurement>, String>>,
    },
    /// The batch was stopped as asked.
    Stopped {},
    /// What each operation takes.
    Traced {
        /// It.
        trace: Box<Trace>,
    },
    /// A window of a sustained run.
    Window {
        /// It.
        window: Window,
    },
    /// The sustained run is over.
    Sustained {
        /// All of it.
        sustained: Box<Sustained>,
    },
    /// The engines' answers.
    Parity {
        /// They.
        parity: Parity,
    },
    /// The request failed; the agent goes on.
    Failed {
        /// The error's own words.
        error: String,
        /// As [`Error::given`].
        given: bool,
    },
    /// Still busy.
    Alive {},
}

/// An engine on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineState {
    /// Its name.
    pub name: String,
    /// Its version, when it can be used.
    pub version: Option<String>,
    /// Why it cannot be used.
    pub missing: Option<String>,
}

/// A model of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireSubject {
    /// Its name in errors and rows.
    pub id: String,
    /// Hash of its file.
    pub model: String,
    /// A known answer.
    pub golden: Option<WireGolden>,
}

/// A golden pair on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireGolden {
    inputs: Vec<WireTensor>,
    outputs: Vec<WireTensor>,
}

impl WireGolden {
    /// A pair as text.
    ///
    /// # Errors
    /// As [`to_wire`].
    pub fn new(golden: &Golden) -> Result<Self> {
        Ok(Self { inputs: to_wire(&golden.inputs)?, outputs: to_wire(&golden.outputs)? })
    }

    /// The pair.
    ///
    /// # Errors
    /// As [`from_wire`].
    pub fn golden(&self) -> Result<Golden> {
        Ok(Golden { inputs: from_wire(&self.inputs)?, outputs: from_wire(&self.outputs)? })
    }
}

impl Reply {
    /// The reply that tells of `error`.
    pub fn failed(error: &Error) -> Self {
        Reply::Failed { error: error.to_string(), given: error.given() }
    }
}
