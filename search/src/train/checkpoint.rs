//! Training state on disk: one safetensors file, written atomically, from which training goes on
//! exactly as if it had never stopped.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::trainer::Trainer;
use crate::error::{At, Error, Result};
use crate::supernet::Params;
use crate::supernet::params::to_host;
use crate::run::write_atomic;

/// Key of the header in the file's metadata.
const HEADER: &str = "masktas.training";
/// Version of this layout.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    step: u64,
    objective: String,
    state: serde_json::Value,
}

/// Saves everything that training changes. `step` is the number of steps done.
///
/// # Errors
/// When the device lost the weights or the file cannot be written; the previous checkpoint then
/// still stands.
pub fn save(trainer: &Trainer, step: u64, path: &Path) -> Result<()> {
    let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = Vec::new();
    let mut push = |name: String, shape: [usize; 2], values: &[f32]| {
        tensors.push((name, shape, bytes(values)));
    };
    let params = &trainer.supernet.params;
    for (slot, (name, shape, values)) in params.slots().zip(params.to_host()?) {
        push(format!("value/{name}"), shape, &values);
        let [first, second] = trainer.optimizer.moments(slot);
        push(format!("first/{name}"), shape, &to_host(first)?);
        push(format!("second/{name}"), shape, &to_host(second)?);
    }
    if let Some(teacher) = &trainer.teacher {
        for (name, shape, values) in teacher.state()? {
            push(format!("teacher/{name}"), shape, &values);
        }
    }
    let header = Header {
        version: VERSION,
        step,
        objective: trainer.objective.name().to_string(),
        state: trainer.objective.state(),
    };
    let header = serde_json::to_string(&header).map_err(|error| Error::Checkpoint(error.to_string()))?;
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

/// Puts a saved state back and returns the number of steps done; `None` when there is no file.
///
/// # Errors
/// [`Error::Checkpoint`] when the file is damaged or belongs to another network.
pub fn load(trainer: &mut Trainer, path: &Path) -> Result<Option<u64>> {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(path),
    };
    let damaged = |error: String| Error::Checkpoint(format!("{}: {error}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|error| damaged(error.to_string()))?;
    let header = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let header = header.ok_or_else(|| damaged("not a training checkpoint of masktas".into()))?;
    let header: Header = serde_json::from_str(header).map_err(|error| damaged(error.to_string()))?;
    if header.version != VERSION {
        return Err(damaged(format!("layout version {}, this program reads {VERSION}", header.version)));
    }
    if header.objective != trainer.objective.name() {
        return Err(damaged(format!(
            "trained with objective {}, the recipe says {}",
            header.objective,
            trainer.objective.name()
        )));
    }
    let tensors = SafeTensors::deserialize(&file).map_err(|error| damaged(error.to_string()))?;
    let tensors: BTreeMap<String, Vec<f32>> =
        tensors.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect();
    let find = |kind: &str, name: &str| tensors.get(&format!("{kind}/{name}")).cloned();
    trainer.supernet.params.load_host(|name| find("value", name))?;
    let params = &trainer.supernet.params;
    for slot in params.slots() {
        let (name, shape) = (params.name(slot), params.shape(slot));
        let moments = [find("first", name), find("second", name)];
        let [Some(first), Some(second)] = moments else {
            return Err(damaged(format!("the moments of {name} are missing")));
        };
        if first.len() != shape[0] * shape[1] || second.len() != first.len() {
            return Err(damaged(format!("the moments of {name} have {} elements", first.len())));
        }
        trainer.optimizer.restore(slot, [first, second], shape, params.device());
    }
    trainer.optimizer.set_steps(header.step);
    trainer.objective.restore(&header.state)?;
    if let Some(teacher) = &mut trainer.teacher {
        teacher.restore(&mut |name| find("teacher", name))?;
    }
    Ok(Some(header.step))
}

/// Puts the saved weights, and nothing else, into `params`.
///
/// # Errors
/// As [`load`]; a missing file is an error.
pub fn load_values(params: &mut Params, path: &Path) -> Result<()> {
    let file = std::fs::read(path).at(path)?;
    let damaged = |error: String| Error::Checkpoint(format!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&file).map_err(|error| damaged(error.to_string()))?;
    params.load_host(|name| tensors.tensor(&format!("value/{name}")).ok().map(|view| floats(view.data())))
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
