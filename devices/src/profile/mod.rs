//! Profiles: many models measured on one device, the latency models fitted to them, and the file that holds both.

mod file;
mod import;
mod library;
mod run;

use masktas_runtime::Features;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::latency::Sample;
use crate::measure::{Golden, Key, Measurement};

pub use file::{EngineProfile, FORMAT, ProfileFile, SpaceId};
pub use import::{Imported, PROTOCOL as IMPORTED, import_csv};
pub use library::Library;
pub use run::{LostConnection, ProfileJob, Progress, Summary, profile_models};

/// A model to profile.
pub struct NamedModel<'a> {
    /// Its identity: a row with this name is never measured twice.
    pub id: String,
    /// What it costs.
    pub features: Features,
    /// A known answer for the numeric gate.
    pub golden: Option<Golden>,
    make: Box<dyn Fn() -> Result<Vec<u8>> + 'a>,
}

impl<'a> NamedModel<'a> {
    /// A model whose ONNX file is made when its batch is due, so that a thousand files need not fit in memory.
    pub fn lazy(id: &str, features: Features, make: impl Fn() -> Result<Vec<u8>> + 'a) -> Self {
        Self { id: id.to_owned(), features, golden: None, make: Box::new(make) }
    }

    /// A model whose ONNX file is at hand.
    pub fn new(id: &str, features: Features, bytes: Vec<u8>) -> NamedModel<'static> {
        NamedModel::lazy(id, features, move || Ok(bytes.clone()))
    }

    /// The bytes of the ONNX file.
    ///
    /// # Errors
    /// Whatever the maker reports.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        (self.make)()
    }
}

/// What is known about one model after its batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub id: String,
    /// What it costs.
    pub features: Features,
    /// Its latency, or why there is none.
    pub outcome: Outcome,
}

/// A latency, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// Another tool measured it.
    Imported {
        /// Its milliseconds.
        ms: f64,
        /// What is known of where and how.
        key: Key,
    },
    /// It could not be loaded, failed the numeric gate or died; the run went on.
    Failed(String),
}

impl Row {
    /// The measurement, if masktas made one.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.outcome {
            Outcome::Measured(measurement) => Some(measurement),
            Outcome::Imported { .. } | Outcome::Failed(_) => None,
        }
    }

    /// What a latency model learns from.
    pub fn sample(&self) -> Option<Sample> {
        let (ms, key) = match &self.outcome {
            Outcome::Measured(m) => (m.ms, m.key()),
            Outcome::Imported { ms, key } => (*ms, key.clone()),
            Outcome::Failed(_) => return None,
        };
        Some(Sample { features: self.features.clone(), ms, key })
    }
}
