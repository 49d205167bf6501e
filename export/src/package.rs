//! What a user takes away: one ONNX file, and a golden pair beside it to prove on any device that the
//! file still gives the answer it gave where it was made.
//!
//! `NAME.onnx` carries, besides [`Preprocess`], these metadata keys:
//!
//! | key | value |
//! | --- | --- |
//! | `masktas.arch` | the architecture as JSON |
//! | `masktas.labels` | whether labels were seen on the way: `none`, `used` or `unknown` |
//! | `masktas.run`, `masktas.recipe`, `masktas.teacher` | where the model comes from; absent when not known |
//!
//! `NAME.golden.safetensors` holds the tensors `input` and `output`, and one metadata key, `masktas.golden`: a JSON
//! object with `version`, the names of the model's input and output, `tolerance` (`pass`, `warn`),
//! `model_sha256` of the ONNX file, and `producer`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masktas_runtime::{Dim, Dtype, Graph, Preprocess, Tensor, Tolerance};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomic};
use crate::onnx::{self, PRODUCER};
use crate::weights::{read_tensors, tensors_to_bytes};

/// Version of the golden file.
pub const GOLDEN_VERSION: u32 = 1;

/// Largest golden file accepted, in bytes.
const GOLDEN_MAX: u64 = 1 << 30;

const ARCH: &str = "masktas.arch";
const LABELS: &str = "masktas.labels";
const RUN: &str = "masktas.run";
const RECIPE: &str = "masktas.recipe";
const TEACHER: &str = "masktas.teacher";
const GOLDEN: &str = "masktas.golden";

/// Whether any label was seen on the way to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    /// None, by anything.
    None,
    /// By the teacher, or in fine-tuning.
    Used,
    /// Nobody said.
    Unknown,
}

impl Labels {
    /// As written in files.
    pub const fn name(self) -> &'static str {
        match self {
            Labels::None => "none",
            Labels::Used => "used",
            Labels::Unknown => "unknown",
        }
    }
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Whether labels were seen.
    pub labels: Labels,
    /// Identity of the search run.
    pub run: Option<String>,
    /// Name of the recipe.
    pub recipe: Option<String>,
    /// Name or digest of the teacher.
    pub teacher: Option<String>,
}

impl Provenance {
    /// Reads the keys above; a missing `masktas.labels` means unknown.
    ///
    /// # Errors
    /// [`masktas_runtime::Error::Metadata`] for another value of `masktas.labels`.
    pub fn read_from(metadata: &BTreeMap<String, String>) -> Result<Self> {
        let labels = match metadata.get(LABELS).map(String::as_str) {
            Some("none") => Labels::None,
            Some("used") => Labels::Used,
            Some("unknown") | None => Labels::Unknown,
            Some(other) => {
                let why = format!("'{other}' is not none, used or unknown");
                return Err(masktas_runtime::Error::Metadata { key: LABELS.into(), why }.into());
            }
        };
        let get = |key: &str| metadata.get(key).cloned();
        Ok(Self { labels, run: get(RUN), recipe: get(RECIPE), teacher: get(TEACHER) })
    }
}

/// Writes architecture, preprocessing and provenance into the metadata of a lowered graph.
///
/// # Errors
/// As [`Preprocess::write_to`].
pub fn describe(
    graph: &mut Graph,
    arch: &Arch,
    preprocess: &Preprocess,
    provenance: &Provenance,
) -> Result<()> {
    preprocess.write_to(&mut graph.metadata)?;
    let json = serde_json::to_string(arch)
        .map_err(|error| masktas_runtime::Error::Metadata { key: ARCH.into(), why: error.to_string() })?;
    graph.metadata.insert(ARCH.to_owned(), json);
    graph.metadata.insert(LABELS.to_owned(), provenance.labels.name().to_owned());
    let optional = [(RUN, &provenance.run), (RECIPE, &provenance.recipe), (TEACHER, &provenance.teacher)];
    for (key, value) in optional {
        match value {
            Some(value) => drop(graph.metadata.insert(key.to_owned(), value.clone())),
            None => drop(graph.metadata.remove(key)),
        }
    }
    Ok(())
}

/// The architecture a model file says it has, or `None` when it says nothing.
///
/// # Errors
/// [`masktas_runtime::Error::Metadata`] when the entry is malformed, and as [`Arch::check`].
pub fn arch_of(graph: &Graph) -> Result<Option<Arch>> {
    let Some(json) = graph.metadata.get(ARCH) else { return Ok(None) };
    let arch: Arch = serde_json::from_str(json)
        .map_err(|error| masktas_runtime::Error::Metadata { key: ARCH.into(), why: error.to_string() })?;
    arch.check()?;
    Ok(Some(arch))
}

/// An input and the output that the reference gave for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Name of the model's input.
    pub input_name: String,
    /// The input.
    pub input: Tensor,
    /// Name of the model's output.
    pub output_name: String,
    /// The reference output.
    pub output: Tensor,
    /// How far another engine's output may lie from it.
    pub tolerance: Tolerance,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub model_sha256: String,
    /// Program and version that made the pair.
    pub producer: String,
}

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    input: String,
    output: String,
    tolerance: Tolerance,
    model_sha256: String,
    producer: String,
}

impl Golden {
    /// Reads a golden file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidFile`] saying what is missing or of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, GOLDEN_MAX)?;
        Self::from_bytes(&bytes).map_err(|why| Error::InvalidFile { path: path.to_owned(), why })
    }

    /// Reads a golden file's bytes; the error is one line.
    fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut tensors = read_tensors(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let note = header.metadata().as_ref().and_then(|entries| entries.get(GOLDEN));
        let note = note.ok_or_else(|| format!("it has no metadata key '{GOLDEN}'"))?;
        let note: Note =
            serde_json::from_str(note).map_err(|error| format!("metadata key '{GOLDEN}': {error}"))?;
        if note.version != GOLDEN_VERSION {
            return Err(format!("golden version {}, but this program knows {GOLDEN_VERSION}", note.version));
        }
        let mut take = |name: &str| tensors.remove(name).ok_or_else(|| format!("it has no tensor '{name}'"));
        let (input, output) = (take("input")?, take("output")?);
        Ok(Self {
            input_name: note.input,
            input,
            output_name: note.output,
            output,
            tolerance: note.tolerance,
            model_sha256: note.model_sha256,
            producer: note.producer,
        })
    }

    /// Writes the golden file; the old one stays whole until the new one is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let note = Note {
            version: GOLDEN_VERSION,
            input: self.input_name.clone(),
            output: self.output_name.clone(),
            tolerance: self.tolerance,
            model_sha256: self.model_sha256.clone(),
            producer: self.producer.clone(),
        };
        let invalid = |why: String| Error::InvalidFile { path: path.to_owned(), why };
        let note = serde_json::to_string(&note).map_err(|error| invalid(error.to_string()))?;
        let tensors = BTreeMap::from([
            ("input".to_owned(), self.input.clone()),
            ("output".to_owned(), self.output.clone()),
        ]);
        write_atomic(path, &tensors_to_bytes(&tensors, Some((GOLDEN, note)), path)?)
    }

    /// Checks that `model` holds the bytes of the file this pair was made for.
    ///
    /// # Errors
    /// [`Error::OtherModel`] with both digests.
    pub fn check_model(&self, model: &[u8]) -> Result<()> {
        let got = sha256(model);
        if got == self.model_sha256 {
            return Ok(());
        }
        Err(Error::OtherModel { want: self.model_sha256.clone(), got })
    }
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model file and its golden pair on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `NAME.onnx`.
    pub model: PathBuf,
    /// `NAME.golden.safetensors`.
    pub golden: PathBuf,
    /// SHA-256 of the model file.
    pub sha256: String,
    /// Size of the model file in bytes.
    pub bytes: u64,
}

impl Package {
    /// Writes `NAME.onnx` and its golden pair into `folder`. `output` is what the reference (the
    /// training framework) gives for `input`; nothing is computed here.
    ///
    /// The pair goes first: whatever happens between the two renames, a pair that does not belong to
    /// the model beside it is told by its digest.
    ///
    /// # Errors
    /// [`Error::InvalidGolden`] when the tensors are not what the graph takes and gives, or not finite;
    /// as [`onnx::write`] and [`write_atomic`].
    pub fn write(
        folder: &Path,
        name: &str,
        graph: &Graph,
        input: Tensor,
        output: Tensor,
        tolerance: Tolerance,
    ) -> Result<Self> {
        let model = folder.join(format!("{name}.onnx"));
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            let why = format!("'{name}' cannot be part of a file name");
            return Err(Error::InvalidFile { path: model, why });
        }
        let (input_name, output_name) = check_pair(graph, &input, &output)?;
        let bytes = onnx::write(graph)?;
        let pair = Golden {
            input_name,
            input,
            output_name,
            output,
            tolerance,
            model_sha256: sha256(&bytes),
            producer: format!("{PRODUCER} {}", env!("CARGO_PKG_VERSION")),
        };
        let golden = golden_path(&model);
        pair.save(&golden)?;
        write_atomic(&model, &bytes)?;
        Ok(Self { model, golden, sha256: pair.model_sha256, bytes: bytes.len() as u64 })
    }
}

/// Where the golden pair of a model file lies: `NAME.golden.safetensors` beside `NAME.onnx`.
pub fn golden_path(model: &Path) -> PathBuf {
    model.with_extension("golden.safetensors")
}

/// Names of input and output, when the tensors fit the graph.
fn check_pair(graph: &Graph, input: &Tensor, output: &Tensor) -> Result<(String, String)> {
    let invalid = |what: &str, why: String| Error::InvalidGolden { what: what.to_owned(), why };
    let ([own_input], [own_output]) = (graph.inputs.as_slice(), graph.outputs.as_slice()) else {
        let why = format!(
            "the model has {} inputs and {} outputs, not one each",
            graph.inputs.len(),
            graph.outputs.len()
        );
        return Err(invalid("the pair", why));
    };
    for (what, tensor) in [("the input", input), ("the output", output)] {
        let Some(values) = tensor.as_f32() else {
            return Err(invalid(
                what,
                format!("it holds {:?} without elements or not floats", tensor.dtype()),
            ));
        };
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(invalid(what, format!("element {index} of {} is not finite", values.len())));
        }
    }
    // Symbols take the sizes the input has; whether the rest fits, shape inference tells.
    let mut symbols = BTreeMap::new();
    for (dim, extent) in own_input.shape.iter().zip(input.shape()) {
        if let Dim::Symbol(symbol) = dim {
            symbols.insert(symbol.clone(), *extent);
        }
    }
    let shapes = graph.shapes(&symbols)?;
    for (what, info, tensor) in [("the input", own_input, input), ("the output", own_output, output)] {
        let want = shapes.get(&info.name);
        if want != Some(&(Dtype::F32, tensor.shape().to_vec())) {
            let want = want.map_or("nothing".into(), |(dtype, shape)| format!("{dtype:?} {shape:?}"));
            let why = format!("it is F32 {:?}, but the model's '{}' is {want}", tensor.shape(), info.name);
            return Err(invalid(what, why));
        }
    }
    Ok((own_input.name.clone(), own_output.name.clone()))
}
