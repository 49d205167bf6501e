//! Teachers: networks whose features the supernet learns from, and what is known of the labels they saw.

pub mod ema;
pub mod file;
pub mod frozen;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ops::Precision;
use crate::recipe::Labels;
use crate::run::Run;
use crate::supernet::{Region, Supernet, Visible};

/// Who taught a run, and whether that teacher saw labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaughtBy {
    /// Name the teacher is registered under.
    pub name: String,
    /// What is known about labels.
    pub labels: Labels,
}

impl TaughtBy {
    /// Name of the run's document.
    pub(crate) const DOCUMENT: &'static str = "teacher";

    /// The teacher of a run; `None` while its file has not been read.
    ///
    /// # Errors
    /// When the run's records cannot be read.
    pub fn of(run: &Run) -> Result<Option<Self>> {
        let told: Option<(String, Labels)> = run.get_doc(Self::DOCUMENT)?;
        let name = run.manifest().recipe.teacher.name.as_str();
        // These are trained by the run itself, which reads no label, and are known before they are there.
        let own = matches!(name, "mae" | "ema").then(|| (name.to_owned(), Labels::None));
        Ok(told.or(own).map(|(name, labels)| Self { name, labels }))
    }

    /// Stores it as the teacher of a run.
    ///
    /// # Errors
    /// The disk's.
    pub fn store(&self, run: &mut Run) -> Result<()> {
        run.put_doc(Self::DOCUMENT, &(self.name.clone(), self.labels))?;
        Ok(())
    }

    /// Whether what this teacher taught may be called label-free.
    pub fn label_free(&self) -> bool {
        self.labels == Labels::None
    }

    /// What to say where one would like to say label-free; `None` when one may.
    pub fn doubt(&self) -> Option<&'static str> {
        match self.labels {
            Labels::None => None,
            Labels::Used => Some("teacher saw labels"),
            Labels::Unknown => Some("nobody says whether the teacher saw labels"),
        }
    }
}

/// Registered teachers.
pub const NAMES: &[&str] = &["mae", "file", "ema"];

/// A teacher's features of the seen patches, without class token and without gradient.
#[derive(Clone, Debug)]
pub struct Features {
    /// After its last norm, `[batch, seen, width]`: what relations are computed from.
    pub last: Tensor<3>,
    /// At each depth of the feature loss, `[batch, seen, width]`.
    pub layers: Vec<Tensor<3>>,
}

/// A matrix of a teacher's state: name, rows and columns, elements row by row.
pub type NamedMatrix = (String, Region, Vec<f32>);

/// Gives the features to learn from. Sees exactly the patches the student sees.
pub trait Teacher: Send + Sync {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Width of its features.
    fn width(&self) -> usize;
    /// Whether it ever saw a label; anything but `none` ends every claim of a label-free search.
    fn labels(&self) -> Labels;
    /// Features of the seen patches, computed with products in `precision`: what it is asked for by training is as
    /// exact as training is.
    ///
    /// # Errors
    /// When the device fails.
    fn features(&self, visible: &Visible, precision: Precision) -> Result<Features>;
    /// Called after each optimiser step; only teachers that follow the student do anything.
    fn follow(&mut self, _supernet: &Supernet) {}
    /// State to checkpoint: matrices by name. Empty for frozen teachers.
    ///
    /// # Errors
    /// When the device lost them.
    fn state(&self) -> Result<Vec<NamedMatrix>> {
        Ok(Vec::new())
    }
    /// State from a checkpoint.
    ///
    /// # Errors
    /// When it does not fit.
    fn restore(&mut self, _find: &mut dyn FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        Ok(())
    }
}
