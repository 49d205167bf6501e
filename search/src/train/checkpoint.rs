//! Training state on disk: one safetensors file, written atomically, from which training goes on
//! exactly as if it had never stopped. The supernet, the teacher and fine-tuning keep theirs alike.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::adamw::AdamW;
use super::gradients::Gradients;
use super::trainer::Trainer;
use crate::error::{At, Error, Result};
use crate::run::write_atomic;
use crate::supernet::params::to_host;
use crate::supernet::{Params, Region};

/// Key of the header in the file's metadata.
const HEADER: &str = "masktas.training";
/// Version of this layout.
const VERSION: u32 = 1;

/// What a file says of its training beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    /// Steps done.
    pub(crate) step: u64,
    /// Name of the objective that was trained with.
    pub(crate) objective: String,
    /// The objective's own state.
    pub(crate) state: serde_json::Value,
}

impl Header {
    /// Of a training with `objective` that has done `step` steps.
    pub(crate) fn new(step: u64, objective: &str, state: serde_json::Value) -> Self {
        Self { version: VERSION, step, objective: objective.to_owned(), state }
    }
}

/// A checkpoint as it was read.
pub(crate) struct Saved {
    /// What it says of itself.
    pub(crate) header: Header,
    path: PathBuf,
    tensors: BTreeMap<String, Vec<f32>>,
}

/// Saves weights (`value/…`), the optimiser's moments (`first/…`, `second/…`), and `more` tensors.
///
/// # Errors
/// When the device lost the weights, when one is no number ([`Error::Diverged`]), or when the file cannot be written; the
/// previous checkpoint then still stands.
pub(crate) fn write(
    path: &Path,
    header: &Header,
    params: &Params,
    optimizer: &AdamW,
    more: Vec<(String, Region, Vec<f32>)>,
) -> Result<()> {
    let mut tensors: Vec<(String, Region, Vec<u8>)> = Vec::new();
    for slot in params.slots() {
        let (name, shape) = (params.name(slot), params.shape(slot));
        let [first, second] = optimizer.moments(slot)?;
        let value = to_host(params.value(slot))?;
        for (kind, values) in [("value", value), ("first", first), ("second", second)] {
            if let Some(odd) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::Diverged { term: "a weight", value: f64::from(*odd) });
            }
            tensors.push((format!("{kind}/{name}"), shape, bytes(&values)));
        }
    }
    tensors.extend(more.into_iter().map(|(name, shape, values)| (name, shape, bytes(&values))));
    let header = serde_json::to_string(header).map_err(|error| Error::Checkpoint(error.to_string()))?;
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = HashMap::from([(HEADER.to_string(), header)]);
    let file = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|error| Error::Checkpoint(error.to_string()))?;
    write_atomic(path, &file)
}

/// Reads a checkpoint; `None` when there is no file.
///
/// # Errors
/// [`Error::Unusable`] when the file is damaged or of another layout.
pub(crate) fn read(path: &Path) -> Result<Option<Saved>> {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(path),
    };
    let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|error| damaged(path, error))?;
    let header = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let header = header.ok_or_else(|| damaged(path, "not a training checkpoint of masktas"))?;
    let header: Header = serde_json::from_str(header).map_err(|error| damaged(path, error))?;
    if header.version != VERSION {
        let problem = format!("layout version {}, this program reads {VERSION}", header.version);
        return Err(damaged(path, problem));
    }
    let tensors = SafeTensors::deserialize(&file).map_err(|error| damaged(path, error))?;
    let tensors = tensors.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect();
    Ok(Some(Saved { header, path: path.to_owned(), tensors }))
}

impl Saved {
    /// A tensor's elements, row-major, by its full name such as `value/norm.weight`.
    pub(crate) fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        self.tensors.get(name).cloned()
    }

    /// Puts the saved weights into `params`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when one is missing or has another number of elements.
    pub(crate) fn restore_values(&self, params: &mut Params) -> Result<()> {
        params.load_host(|name| self.tensor(&format!("value/{name}")))
    }

    /// Puts weights, moments and the number of steps back.
    ///
    /// # Errors
    /// As [`Saved::restore_values`]; [`Error::Unusable`] when a moment is missing or does not fit.
    pub(crate) fn restore(&self, params: &mut Params, optimizer: &mut AdamW) -> Result<()> {
        self.restore_values(params)?;
        for slot in params.slots() {
            let (name, shape) = (params.name(slot), params.shape(slot));
            let moments = [self.tensor(&format!("first/{name}")), self.tensor(&format!("second/{name}"))];
            let [Some(first), Some(second)] = moments else {
                return Err(self.damaged(format!("the moments of {name} are missing")));
            };
            let needed = shape[0] * shape[1];
            if let Some(found) = [first.len(), second.len()].into_iter().find(|found| *found != needed) {
                let problem = format!("a moment of {name} has {found} elements, the network's has {needed}");
                return Err(self.damaged(problem));
            }
            optimizer.restore(slot, [first, second], shape, params.device());
        }
        optimizer.set_steps(self.header.step);
        Ok(())
    }

    /// The error that this file cannot be gone on from.
    pub(crate) fn damaged(&self, problem: impl std::fmt::Display) -> Error {
        damaged(&self.path, problem)
    }
}

/// Saves everything that training changes. `step` is the number of steps done.
///
/// # Errors
/// When the device lost the weights or the file cannot be written; the previous checkpoint then
/// still stands.
pub fn save(trainer: &Trainer, step: u64, path: &Path) -> Result<()> {
    let state = match &trainer.teacher {
        Some(teacher) => teacher.state()?,
        None => Vec::new(),
    };
    let state = state.into_iter().map(|(name, shape, values)| (format!("teacher/{name}"), shape, values));
    let more = state.chain(Gradients::scale_to_host(trainer.gradients())?).collect();
    let header = Header::new(step, trainer.objective.name(), trainer.objective.state());
    write(path, &header, &trainer.supernet.params, &trainer.optimizer, more)
}

/// Puts a saved state back and returns the number of steps done; `None` when there is no file.
///
/// # Errors
/// [`Error::Unusable`] when the file is damaged, [`Error::Checkpoint`] when it belongs to another network.
pub fn load(trainer: &mut Trainer, path: &Path) -> Result<Option<u64>> {
    let Some(saved) = read(path)? else { return Ok(None) };
    let (was, is) = (&saved.header.objective, trainer.objective.name());
    if was != is {
        return Err(saved.damaged(format!("trained with objective {was}, the recipe says {is}")));
    }
    saved.restore(&mut trainer.supernet.params, &mut trainer.optimizer)?;
    let device = trainer.supernet.params.device().clone();
    Gradients::restore_scale(trainer.gradients_mut(), &saved, &device)?;
    trainer.objective.restore(&saved.header.state)?;
    if let Some(teacher) = &mut trainer.teacher {
        teacher.restore(&mut |name| saved.tensor(&format!("teacher/{name}")))?;
    }
    Ok(Some(saved.header.step))
}

/// Puts the saved weights, and nothing else, into `params`. The moments, twice as large, are not copied.
///
/// # Errors
/// As [`load`]; a missing file is an error.
pub fn load_values(params: &mut Params, path: &Path) -> Result<()> {
    let file = std::fs::read(path).at(path)?;
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|error| Error::Checkpoint(format!("{}: {error}", path.display())))?;
    params.load_host(|name| tensors.tensor(&format!("value/{name}")).ok().map(|view| floats(view.data())))
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Unusable {
        thing: format!("checkpoint {}", path.display()),
        problem: problem.to_string(),
        next: "remove the file, and this training begins anew".to_owned(),
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
