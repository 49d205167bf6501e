//! The parameters of a network, by their timm/MAE names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use masktas_runtime::{Data, Dtype, Tensor};
use safetensors::tensor::{SafeTensors, TensorView};

use crate::arch::{Arch, VitArch};
use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomic};
use crate::onnx::raw;
use crate::package::sha256;

/// Largest weight file accepted, in bytes.
const WEIGHTS_MAX: u64 = 1 << 32;

/// Named parameters in PyTorch layout (`[out, in]`), in timm/MAE naming: `patch_embed.proj.weight`,
/// `cls_token`, `pos_embed`, `blocks.0.attn.qkv.weight` (rows: all of q, then k, then v), `norm.weight`,
/// `head.weight`. [`names_and_shapes`] lists them all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Name and shape of every parameter, first layer to last: the one source for checking, drawing,
/// extracting and counting them. With `classes`, `head.weight` and `head.bias` are the last two.
///
/// With `d` the embedding width, `q = heads * head_dim` and `m` the hidden width of a block, and
/// `N` patches of side `p`: `patch_embed.proj.weight [d, 3, p, p]`, `cls_token [1, 1, d]`,
/// `pos_embed [1, N + 1, d]`, `blocks.I.attn.qkv.weight [3q, d]`, `blocks.I.attn.proj.weight [d, q]`,
/// `blocks.I.mlp.fc1.weight [m, d]`, `blocks.I.mlp.fc2.weight [d, m]`, `head.weight [classes, d]`, their
/// biases `[out]`, norms `[d]`, and with relative positions four tables
/// `blocks.I.attn.rel_pos_embed_{k,v}.embeddings_table_{v,h} [2 clip + 2, head_dim]`.
pub fn names_and_shapes(arch: &VitArch, classes: Option<usize>) -> Vec<(String, Vec<usize>)> {
    let (d, p) = (arch.embed, arch.patch);
    let mut list: Vec<(String, Vec<usize>)> = Vec::with_capacity(8 + 16 * arch.blocks.len());
    let mut push = |name: String, shape: Vec<usize>| list.push((name, shape));
    push("patch_embed.proj.weight".into(), vec![d, 3, p, p]);
    push("patch_embed.proj.bias".into(), vec![d]);
    push("cls_token".into(), vec![1, 1, d]);
    push("pos_embed".into(), vec![1, arch.tokens(), d]);
    for (i, block) in arch.blocks.iter().enumerate() {
        let (q, m) = (block.heads * arch.head_dim, block.hidden);
        push(format!("blocks.{i}.norm1.weight"), vec![d]);
        push(format!("blocks.{i}.norm1.bias"), vec![d]);
        push(format!("blocks.{i}.attn.qkv.weight"), vec![3 * q, d]);
        push(format!("blocks.{i}.attn.qkv.bias"), vec![3 * q]);
        if let Some(clip) = arch.relative {
            for side in ["k", "v"] {
                for axis in ["v", "h"] {
                    let name = format!("blocks.{i}.attn.rel_pos_embed_{side}.embeddings_table_{axis}");
                    push(name, vec![VitArch::relative_rows(clip), arch.head_dim]);
                }
            }
        }
        push(format!("blocks.{i}.attn.proj.weight"), vec![d, q]);
        push(format!("blocks.{i}.attn.proj.bias"), vec![d]);
        push(format!("blocks.{i}.norm2.weight"), vec![d]);
        push(format!("blocks.{i}.norm2.bias"), vec![d]);
        push(format!("blocks.{i}.mlp.fc1.weight"), vec![m, d]);
        push(format!("blocks.{i}.mlp.fc1.bias"), vec![m]);
        push(format!("blocks.{i}.mlp.fc2.weight"), vec![d, m]);
        push(format!("blocks.{i}.mlp.fc2.bias"), vec![d]);
    }
    push("norm.weight".into(), vec![d]);
    push("norm.bias".into(), vec![d]);
    if let Some(classes) = classes {
        push("head.weight".into(), vec![classes, d]);
        push("head.bias".into(), vec![classes]);
    }
    list
}

fn expected(arch: &Arch, classes: Option<usize>) -> Vec<(String, Vec<usize>)> {
    match arch {
        Arch::Vit(vit) => names_and_shapes(vit, classes),
    }
}

impl Weights {
    /// Random parameters, the same on every machine for one seed. Matrices have the standard deviation
    /// `1 / sqrt(fan in)`; biases, norms, positions and tables are random too, so that an engine
    /// that drops one of them gives another answer. Values are bounded by 3.5 standard deviations.
    ///
    /// Each tensor has a stream of its own, drawn from its name, so that one tensor's values do not
    /// depend on which others there are.
    ///
    /// # Errors
    /// As [`Arch::check`].
    pub fn random(arch: &Arch, classes: Option<usize>, seed: u64) -> Result<Self> {
        arch.check()?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in expected(arch, classes) {
            let (mean, deviation) = spread(&name, &shape);
            let mut stream = Stream::new(seed, &name);
            let count = shape.iter().product();
            let values: Arc<[f32]> = (0..count).map(|_| mean + deviation * stream.normal()).collect();
            tensors.insert(name, Tensor::f32(shape, values)?);
        }
        Ok(Self { tensors })
    }

    /// Number of parameters held.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.elements() as u64).sum()
    }

    /// Checks that there is exactly what `arch` (with a classifier of `classes`) needs.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongTensor`] or [`Error::ExtraTensor`], naming the tensor
    /// and the shapes; and as [`Arch::check`].
    pub fn check(&self, arch: &Arch, classes: Option<usize>) -> Result<()> {
        arch.check()?;
        let expected = expected(arch, classes);
        for (name, want) in &expected {
            self.tensor(name, want)?;
        }
        // Everything expected is there, so another count means that something else is there too.
        if expected.len() < self.tensors.len() {
            let known: std::collections::BTreeSet<&str> =
                expected.iter().map(|(name, _)| name.as_str()).collect();
            if let Some((name, tensor)) = self.tensors.iter().find(|(name, _)| !known.contains(name.as_str()))
            {
                return Err(Error::ExtraTensor { name: name.clone(), got: tensor.shape().to_vec() });
            }
        }
        Ok(())
    }

    /// The float tensor `name` of shape `want`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::WrongTensor`].
    pub fn tensor(&self, name: &str, want: &[usize]) -> Result<&Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::MissingTensor { name: name.to_owned(), want: want.to_vec() });
        };
        if tensor.shape() != want || tensor.as_f32().is_none() {
            let got = match tensor.data() {
                Data::Unset(dtype) => format!("{dtype:?} {:?} without elements", tensor.shape()),
                data => format!("{:?} {:?}", data.dtype(), tensor.shape()),
            };
            return Err(Error::WrongTensor { name: name.to_owned(), want: want.to_vec(), got });
        }
        Ok(tensor)
    }

    /// Reads a safetensors file. Only 32-bit floats are accepted.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::InvalidFile`] naming the tensor.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&read_bounded(path, WEIGHTS_MAX)?, path)
    }

    /// The parameters in the bytes of the safetensors file at `path`, as [`Weights::load`].
    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let invalid = |why: String| Error::InvalidFile { path: path.to_owned(), why };
        let tensors = read_tensors(bytes).map_err(&invalid)?;
        match tensors.iter().find(|(_, tensor)| tensor.dtype() != Dtype::F32) {
            Some((name, tensor)) => {
                Err(invalid(format!("tensor '{name}' holds {:?}, not F32", tensor.dtype())))
            }
            None => Ok(Self { tensors }),
        }
    }

    /// Writes a safetensors file; the old file stays whole until the new one is.
    ///
    /// # Errors
    /// [`Error::Io`]; [`masktas_runtime::Error::Unset`] when a tensor has no elements.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, &tensors_to_bytes(&self.tensors, None, path)?)
    }

    /// As [`Weights::save`], with one entry `key` = `value` in the file's metadata.
    ///
    /// # Errors
    /// As [`Weights::save`].
    pub fn save_with(&self, path: &Path, key: &str, value: String) -> Result<()> {
        write_atomic(path, &tensors_to_bytes(&self.tensors, Some((key, value)), path)?)
    }
}

/// A safetensors file of weights as it was read, with what it says of itself.
#[derive(Clone, Debug)]
pub struct WeightsFile {
    /// The parameters.
    pub weights: Weights,
    /// Its metadata; empty when it has none.
    pub metadata: BTreeMap<String, String>,
    /// SHA-256 of all its bytes, in hexadecimal.
    pub sha256: String,
}

impl WeightsFile {
    /// Reads a safetensors file once, so that weights, metadata and digest belong to the same bytes.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, WEIGHTS_MAX)?;
        let weights = Weights::from_bytes(&bytes, path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::InvalidFile { path: path.to_owned(), why: error.to_string() })?;
        let entries = header.metadata().as_ref().into_iter().flatten();
        let metadata = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { weights, metadata, sha256: sha256(&bytes) })
    }
}

/// Mean and standard deviation of the values drawn for a tensor.
fn spread(name: &str, shape: &[usize]) -> (f32, f32) {
    let norm = name.contains("norm");
    if norm && name.ends_with("weight") {
        (1.0, 0.1)
    } else if name.ends_with("bias") {
        (0.0, 0.1)
    } else if name.ends_with("weight") {
        let fan_in: usize = shape.iter().skip(1).product();
        (0.0, 1.0 / (fan_in.max(1) as f32).sqrt())
    } else {
        // Class token, positions and relative tables.
        (0.0, 0.2)
    }
}

/// A stream of numbers fixed by seed and name: splitmix64 (Steele, Lea and Flood, 2014).
struct Stream(u64);

impl Stream {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Close to a normal deviate of unit variance, within ±3.5: the sum of four uniform ones. Sums
    /// and products only, so that every machine draws the same bits.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        // Four uniform numbers on 0..65536 have the mean 131070 and the standard deviation 37837.2.
        (sum as f32 - 131_070.0) / 37_837.2
    }
}

/// Tensors of a safetensors file; the error says what is wrong, without the path.
pub(crate) fn read_tensors(bytes: &[u8]) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("not a safetensors file: {error}"))?;
    let mut names = file.names();
    names.sort_unstable();
    let mut tensors = BTreeMap::new();
    for name in names {
        let view = file.tensor(name).map_err(|error| error.to_string())?;
        let data = elements(view.dtype(), view.data())
            .ok_or_else(|| format!("tensor '{name}' holds {:?}, which is not supported", view.dtype()))?;
        let tensor =
            Tensor::new(view.shape().to_vec(), data).map_err(|error| format!("tensor '{name}': {error}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn elements(dtype: safetensors::Dtype, bytes: &[u8]) -> Option<Data> {
    use safetensors::Dtype as Stored;
    Some(match dtype {
        Stored::F32 => Data::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Stored::I64 => Data::I64(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        Stored::I32 => Data::I32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        Stored::U8 => Data::U8(bytes.into()),
        Stored::I8 => Data::I8(bytes.iter().map(|b| i8::from_le_bytes([*b])).collect()),
        Stored::BOOL => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
        _ => return None,
    })
}

/// Bytes of a safetensors file. `note` is one entry of its metadata: with one the bytes are the same
/// each time, with several the library writes them in no fixed order.
pub(crate) fn tensors_to_bytes(
    tensors: &BTreeMap<String, Tensor>,
    note: Option<(&str, String)>,
    path: &Path,
) -> Result<Vec<u8>> {
    use safetensors::Dtype as Stored;
    let invalid = |error: safetensors::SafeTensorError| Error::InvalidFile {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut blobs = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype() {
            Dtype::F32 => Stored::F32,
            Dtype::I64 => Stored::I64,
            Dtype::I32 => Stored::I32,
            Dtype::U8 => Stored::U8,
            Dtype::I8 => Stored::I8,
            Dtype::Bool => Stored::BOOL,
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::BF16,
            Dtype::F64 => Stored::F64,
            Dtype::I16 => Stored::I16,
            Dtype::U16 => Stored::U16,
            Dtype::U32 => Stored::U32,
            Dtype::U64 => Stored::U64,
        };
        blobs.push((name, dtype, tensor.shape().to_vec(), raw(name, tensor)?));
    }
    let mut views = Vec::with_capacity(blobs.len());
    for (name, dtype, shape, bytes) in &blobs {
        views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(invalid)?));
    }
    let metadata = note.map(|(key, value)| std::collections::HashMap::from([(key.to_owned(), value)]));
    safetensors::serialize(views, metadata).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_weights_keeps_its_metadata_and_has_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = Tensor::f32([2], vec![1.0f32, 2.0]).unwrap();
        let weights = Weights { tensors: BTreeMap::from([("a".to_owned(), tensor)]) };
        weights.save_with(&path, "key", "\"value\"".to_owned()).unwrap();
        let file = WeightsFile::load(&path).unwrap();
        assert_eq!((&file.weights, file.metadata.len()), (&weights, 1));
        assert_eq!(file.metadata.get("key").map(String::as_str), Some("\"value\""));
        assert_eq!(file.sha256, sha256(&std::fs::read(&path).unwrap()));
        // Without metadata other bytes, and the same weights.
        weights.save(&path).unwrap();
        let plain = WeightsFile::load(&path).unwrap();
        assert!(plain.metadata.is_empty() && plain.sha256 != file.sha256);
        assert_eq!(plain.weights, Weights::load(&path).unwrap());
    }
}
