//! A model as a folder that any static host serves: a page that runs it on the browser's WebGPU.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `index.html`, `page.js` | the page: a photo in, classes and milliseconds out |
//! | `player.js` | plays a plan; a page of one's own may import it |
//! | `pixels.js` | makes a photo what the model saw in training |
//! | `model.json` | [`PAGE_VERSION`], name, preprocessing, classes, and which file is which |
//! | `plan.json`, `plan-software.json` | a [`Plan`] for graphics processors, and one for browsers that have none |
//! | `weights.bin` | the weights, the same for both plans |
//!
//! Plans are made for the limits that every WebGPU device has, so the folder depends on no machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use masktas_runtime::plan::{AdapterClass, Plan, PlanOptions, Target, plan_with};
use masktas_runtime::{Dim, Dtype, Graph, Interpolation, Preprocess};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomic};
use crate::onnx::PRODUCER;
use crate::package::{Provenance, sha256};

/// Version of `model.json`.
pub const PAGE_VERSION: u32 = 1;

/// The plans' classes of adapter, as `model.json` calls them, and their files.
pub const PLANS: [(AdapterClass, &str, &str); 2] =
    [(AdapterClass::Gpu, "gpu", "plan.json"), (AdapterClass::Software, "software", "plan-software.json")];

/// The weights' file.
pub const WEIGHTS: &str = "weights.bin";

/// What the page reads first.
const MODEL: &str = "model.json";
/// Largest `model.json` that is read, in bytes.
const MODEL_MAX: u64 = 16 << 20;

/// What every page has, whatever its model.
const PAGE: [(&str, &str); 4] = [
    ("index.html", include_str!("../web/index.html")),
    ("page.js", include_str!("../web/page.js")),
    ("pixels.js", include_str!("../web/pixels.js")),
    ("player.js", include_str!("../web/player.js")),
];

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebPage {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of each file, by name.
    pub files: BTreeMap<String, u64>,
}

impl WebPage {
    /// Bytes of all files but the weights: what a page costs beside its model.
    pub fn overhead(&self) -> u64 {
        self.files.iter().filter(|(name, _)| *name != WEIGHTS).map(|(_, bytes)| bytes).sum()
    }
}

/// `model.json`.
#[derive(Serialize)]
struct Described<'a> {
    version: u32,
    name: &'a str,
    producer: String,
    /// Whether labels were seen on the way to the model.
    labels_seen: &'static str,
    preprocess: &'a Preprocess,
    labels: &'a Option<Vec<String>>,
    plans: BTreeMap<&'static str, &'static str>,
    weights: WeightsFile,
}

#[derive(Serialize)]
struct WeightsFile {
    file: &'static str,
    bytes: usize,
    sha256: String,
}

/// Whether a page may be written into `folder`: it is not there, has nothing but hidden files, or is the folder of an earlier page.
///
/// # Errors
/// [`Error::NotAPage`] naming a file that is not ours; [`Error::Io`].
pub fn check_folder(folder: &Path) -> Result<()> {
    let failed = |source| Error::Io { action: "read the folder", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if is_page(folder) {
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // What belongs to the folder and not to a page, such as `.git`.
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    // One that would be replaced is the one to name.
    let ours = |name: &String| PAGE.iter().any(|(own, _)| own == name);
    let first = names.iter().find(|name| ours(name)).or(names.iter().min());
    match first {
        Some(name) => Err(Error::NotAPage { folder: folder.to_owned(), name: name.clone() }),
        None => Ok(()),
    }
}

/// Whether the folder's `model.json` is one that [`write`] made, in whatever version.
fn is_page(folder: &Path) -> bool {
    let text = read_bounded(&folder.join(MODEL), MODEL_MAX).unwrap_or_default();
    let described: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    described["producer"].as_str().is_some_and(|producer| producer.split(' ').next() == Some(PRODUCER))
}

/// Writes the page of `graph` into `folder`, which is made if it is not there; `name` is what the page calls the model. Files of
/// an earlier page there are replaced, and others beside it left alone; a folder with files and no page is refused.
///
/// # Errors
/// [`Error::NotAPage`] and as [`check_folder`]; [`Error::InvalidPage`] when the model is none that takes one photo; as [`Preprocess::read_from`] and [`plan_with`];
/// [`Error::Io`].
pub fn write(folder: &Path, name: &str, graph: &Graph) -> Result<WebPage> {
    let mut preprocess = Preprocess::read_from(&graph.metadata)?;
    if preprocess.interpolation != Interpolation::Lanczos3 {
        let why = format!("wants {} resizing, a page does lanczos3", preprocess.interpolation);
        return Err(invalid("its preprocessing", why));
    }
    let labels_seen = Provenance::read_from(&graph.metadata)?.labels.name();
    // Whatever extent is left open is how many images a run takes: one.
    let one = |dim: &Dim| match dim {
        Dim::Symbol(symbol) => Some((symbol.clone(), 1)),
        Dim::Fixed(_) => None,
    };
    let symbols = graph.inputs.iter().flat_map(|input| input.shape.iter().filter_map(one)).collect();
    let options = PlanOptions { symbols, ..PlanOptions::default() };
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut weights: Option<Vec<u8>> = None;
    for (class, _, file) in PLANS {
        let target = Target { class, ..Target::webgpu_minimum() };
        let mut plan = plan_with(graph, &target, &options)?;
        check(&plan, &preprocess)?;
        // A page explains no plan, and their names are a fifth of it.
        plan.dispatches.iter_mut().for_each(|dispatch| dispatch.nodes.clear());
        let written = plan.write()?;
        files.push((file, written.json));
        match &weights {
            None => weights = Some(written.weights),
            // No pass looks at the class before weights are laid out; one that does must not go unseen.
            Some(first) if *first != written.weights => {
                return Err(invalid("its plans", "want different weights".to_owned()));
            }
            Some(_) => {}
        }
    }
    let weights = weights.unwrap_or_default();
    let labels = preprocess.labels.take();
    let described = Described {
        version: PAGE_VERSION,
        name,
        producer: format!("{PRODUCER} {}", env!("CARGO_PKG_VERSION")),
        labels_seen,
        preprocess: &preprocess,
        labels: &labels,
        plans: PLANS.iter().map(|(_, class, file)| (*class, *file)).collect(),
        weights: WeightsFile { file: WEIGHTS, bytes: weights.len(), sha256: sha256(&weights) },
    };
    let described = serde_json::to_vec(&described).map_err(|e| invalid("model.json", e.to_string()))?;
    files.push((WEIGHTS, weights));
    // First, so that a folder whose writing is cut short is a page's all the same.
    files.insert(0, (MODEL, described));
    files.extend(PAGE.map(|(name, text)| (name, text.as_bytes().to_vec())));

    check_folder(folder)?;
    fs::create_dir_all(folder).map_err(|source| Error::Io {
        action: "make the folder",
        path: folder.to_owned(),
        source,
    })?;
    let mut page = WebPage { folder: folder.to_owned(), files: BTreeMap::new() };
    for (name, bytes) in files {
        write_atomic(&folder.join(name), &bytes)?;
        page.files.insert(name.to_owned(), bytes.len() as u64);
    }
    Ok(page)
}

fn invalid(what: &str, why: String) -> Error {
    Error::InvalidPage { what: what.to_owned(), why }
}

/// Whether the planned model takes one photo, and gives floats for it, one for each class where there are classes.
fn check(plan: &Plan, preprocess: &Preprocess) -> Result<()> {
    let want = [1, 3, preprocess.crop, preprocess.crop];
    match plan.inputs.as_slice() {
        [input] if input.dtype == Dtype::F32 && input.shape == want => {}
        [input] => {
            let why = format!("is {:?} {:?}, but one photo is F32 {want:?}", input.dtype, input.shape);
            return Err(invalid(&format!("its input '{}'", input.name), why));
        }
        inputs => {
            return Err(invalid("the model", format!("has {} inputs, but a photo is one", inputs.len())));
        }
    }
    let Some(output) = plan.outputs.first() else {
        return Err(invalid("the model", "has no output".to_owned()));
    };
    let got: usize = output.shape.iter().product();
    let what = format!("its output '{}'", output.name);
    match &preprocess.labels {
        _ if output.dtype != Dtype::F32 => Err(invalid(&what, format!("is {:?}, not F32", output.dtype))),
        Some(labels) if labels.len() != got => {
            Err(invalid(&what, format!("has {got} numbers for the names of {} classes", labels.len())))
        }
        _ => Ok(()),
    }
}
