//! The trials as text: for comparing two runs, and for other programs.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Run, write_atomic};
use crate::error::{Error, Result};

impl Run {
    /// The trial log: one line a trial, without a clock. Two searches are the same exactly when their
    /// logs are. Numbers are written so that no bit is lost.
    ///
    /// # Errors
    /// The disk's.
    pub fn trial_log(&self) -> Result<String> {
        let mut log = String::from("# index id score cost component=value:error...\n");
        for trial in self.trials()? {
            // Writing to a string cannot fail.
            let _ = write!(log, "{} {} {:?} {:?}", trial.index, trial.id, trial.score, trial.cost);
            for component in &trial.components {
                let _ = write!(log, " {}={:?}:{:?}", component.name, component.value, component.error);
            }
            log.push('\n');
        }
        Ok(log)
    }

    /// Writes `trials.jsonl`, one JSON object a trial, and says where.
    ///
    /// # Errors
    /// The disk's.
    pub fn export_trials(&self) -> Result<PathBuf> {
        let path = self.folder().join("trials.jsonl");
        let mut text = String::new();
        for trial in self.trials()? {
            let line = serde_json::to_string(&trial).map_err(|error| Error::Unusable {
                thing: format!("trial {}", trial.index),
                problem: error.to_string(),
                next: "begin a new run".to_owned(),
            })?;
            text.push_str(&line);
            text.push('\n');
        }
        write_atomic(&path, text.as_bytes())?;
        Ok(path)
    }
}
