//! What people do with a finished run: look at the front, take a member, judge it, train it on.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use masktas_devices::engine::EngineOptions;
use masktas_devices::parity::Parity;
use masktas_export::lower::{Batch, Head, LowerOptions, lower};
use masktas_export::package::{Labels as TeacherLabels, Package, Provenance, describe};
use masktas_export::{Arch, VitArch, Weights};
use masktas_runtime::preprocess::{Interpolation, Preprocess};
use masktas_runtime::{Tensor as HostTensor, Tolerance};
use serde::{Deserialize, Serialize};

use super::Workshop;
use super::finish::replay;
use super::networks::supernet_shape;
use crate::device;
use crate::error::{Error, Result};
use crate::evaluate::{self, Evaluation};
use crate::finetune::{self, Finetuned, Tuning};
use crate::front::{Pick, Point, front};
use crate::images::{self, Images, LabelSet, Labels};
use crate::progress::Progress;
use crate::recipe;
use crate::run::{Run, TrialRecord};
use crate::score::Component;
use crate::space::{Genes, Space as _, VitSpace};
use crate::supernet::extract::{Network, extract};
use crate::supernet::params::to_host;
use crate::supernet::{Supernet, Visible};
use crate::teacher::TaughtBy;
use crate::train::checkpoint;

/// A member of a front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id in the space.
    pub id: String,
    /// Its genes.
    pub genes: Genes,
    /// Fused score, higher is better.
    pub score: f64,
    /// What the front's other axis counts (predicted ms, parameters or FLOPs); lower is better.
    pub cost: f64,
    /// The raw score.
    pub components: Vec<Component>,
    /// Encoder parameters.
    pub parameters: u64,
    /// FLOPs of one image, two per multiply-add.
    pub flops: u64,
}

impl Candidate {
    /// Its place in the plane of score and cost.
    pub fn point(&self) -> Point {
        Point { score: self.score, cost: self.cost }
    }
}

/// The front of everything that a run has scored, cheapest first.
///
/// # Errors
/// When the run cannot be read.
pub fn candidates(run: &Run) -> Result<Vec<Candidate>> {
    Ok(front_of(&run.manifest().vit_space()?, &run.scored()?))
}

/// The front of these trials, cheapest first.
pub(super) fn front_of(space: &VitSpace, trials: &[TrialRecord]) -> Vec<Candidate> {
    let points: Vec<Point> = trials.iter().map(|t| Point { score: t.score, cost: t.cost }).collect();
    front(&points).into_iter().map(|i| candidate(space, &trials[i])).collect()
}

fn candidate(space: &VitSpace, trial: &TrialRecord) -> Candidate {
    let arch = space.vit(&trial.genes);
    Candidate {
        id: trial.id.clone(),
        genes: trial.genes.clone(),
        score: trial.score,
        cost: trial.cost,
        components: trial.components.clone(),
        parameters: arch.parameters(None),
        flops: arch.flops(),
    }
}

/// Files of an exported model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// The ONNX file.
    pub model: PathBuf,
    /// The golden input/output pair beside it.
    pub golden: PathBuf,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub sha256: String,
    /// Size of the ONNX file, in bytes.
    pub bytes: u64,
}

/// How a model is exported.
#[derive(Clone, Debug)]
pub struct Options {
    /// For [`export`]: the fine-tuned member with its classifier, instead of the features of the inherited one.
    pub classifier: bool,
    /// Images per run.
    pub batch: Batch,
    /// ONNX operator set.
    pub opset: i64,
    /// Folder; `None`: the run's `models`.
    pub out: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let lower = LowerOptions::default();
        Self { classifier: false, batch: lower.batch, opset: lower.opset, out: None }
    }
}

/// Takes a member of a run's front, writes its files, and replays them in every engine. The files are called after
/// the member's id and, but for one image a run, the batch: `<id>`, `<id>-b8`, `<id>-dynamic`.
///
/// With `options.classifier` it is the member as [`finetune()`] left it in the run, with its class names: of the
/// training from inherited weights or else of the one from scratch, which `progress` is told and the files are
/// called after: `<id>-classifier-inherited`, `<id>-classifier-scratch-b8`.
///
/// # Errors
/// When nothing matches `pick`, or writing or loading fails; [`Error::Invalid`] when a classifier is wanted and none
/// is trained; [`Error::Interrupted`] on request: the files may then be there, but were not replayed. A parity that
/// fails is a result, not an error.
pub fn export(
    folder: &Path,
    pick: &Pick,
    options: &Options,
    engines: &EngineOptions,
    progress: &mut dyn Progress,
) -> Result<(Candidate, Exported, Parity)> {
    let run = Run::open_read_only(folder)?;
    let candidate = picked(&run, pick)?;
    let device = device::by_name("flex")?;
    progress.begin("export", 3, "part");
    let (network, name, classes) = if options.classifier {
        let (network, start, classes) = classifier(&run, &candidate, &device)?;
        progress.say(&format!("{} as fine-tuned from {} weights", candidate.id, start.weights()));
        (network, classifier_name(&candidate.id, start), Some(classes))
    } else {
        (inherited(&run, &candidate.genes, None, &device)?, candidate.id.clone(), None)
    };
    // The plain name is that of the finalists and of fine-tuning, whose files are for one image a run.
    let name = match options.batch {
        Batch::Fixed(1) => name,
        Batch::Fixed(count) => format!("{name}-b{count}"),
        Batch::Dynamic => format!("{name}-dynamic"),
    };
    evaluate::part_done(progress, 1, "weights")?;
    let files = package(&run, &network, &name, classes.as_deref(), options)?;
    evaluate::part_done(progress, 2, "file")?;
    let parity = replay(&files, engines)?;
    progress.advance(3, "engines");
    progress.end(&format!("parity {}", parity.verdict));
    Ok((candidate, files, parity))
}

/// A member as [`finetune()`] left it in the run, where its weights came from, and the names of its classes; the one
/// trained from inherited weights when there are two.
fn classifier(run: &Run, member: &Candidate, device: &Device) -> Result<(Network, Start, Vec<String>)> {
    let arch = run.manifest().vit_space()?.vit(&member.genes);
    for start in [Start::Inherited, Start::Scratch] {
        let kept = training_name(&member.id, start);
        let known: Option<(String, Finetuned)> = run.get_doc(&kept)?;
        let classes: Option<Vec<String>> = run.get_doc(&classes_document(&kept))?;
        let (Some((belongs, result)), Some(classes)) = (known, classes) else { continue };
        let mut network = Network::new(&arch, Some(classes.len()), run.manifest().recipe.seed, device);
        // A training that began anew and is not finished has taken the weights' place already.
        let saved = run.checkpoint(&kept);
        if finetune::restore_finished(&mut network, &saved, &belongs, result.losses.len())? {
            return Ok((network, start, classes));
        }
    }
    Err(Error::Invalid {
        thing: "--head classifier".into(),
        problem: format!("{} knows no classes until it is fine-tuned", member.id),
        next: format!("train it with: masktas finetune {} --pick {}", run.folder().display(), member.id),
    })
}

/// Name of a training's checkpoint in the run, and of the document of its result.
fn training_name(id: &str, start: Start) -> String {
    format!("finetune-{id}-{}", start.name())
}

/// Name of the document that holds the class names of a finished training.
fn classes_document(training: &str) -> String {
    format!("{training}-classes")
}

/// Name of a fine-tuned member's files for one image a run.
fn classifier_name(id: &str, start: Start) -> String {
    format!("{id}-classifier-{}", start.name())
}

/// Judges a member's inherited features with labels, on the val split or `on_test` on the test split.
///
/// # Errors
/// When nothing matches `pick`, the images are gone or changed, or those of the split have no labels;
/// [`Error::Interrupted`] on request, and nothing is kept.
pub fn evaluate(
    folder: &Path,
    pick: &Pick,
    on_test: bool,
    progress: &mut dyn Progress,
) -> Result<(Candidate, Evaluation)> {
    let mut run = Run::open(folder)?;
    let shop = Workshop::open(&mut run, EngineOptions::default(), progress)?;
    let candidate = picked(&run, pick)?;
    let labels = labels(&shop, progress)?;
    let network = inherited(&run, &candidate.genes, None, &shop.device)?;
    let split = shop.images.split();
    let (name, indices) = if on_test { ("test", &split.test) } else { ("val", &split.val) };
    if finetune::labelled(indices, &labels).is_empty() {
        return Err(Error::NoLabels { split: name });
    }
    let evaluation = evaluate::evaluate(&network, &shop.images, indices, &labels, &shop.lanes, progress)?;
    Ok((candidate, evaluation))
}

/// A fine-tuned member of the space and its classifier file.
pub struct Tuned {
    /// Its id in the space.
    pub id: String,
    /// Its encoder parameters.
    pub parameters: u64,
    /// FLOPs of one image, two per multiply-add.
    pub flops: u64,
    /// Accuracies and losses.
    pub result: Finetuned,
    /// The classifier's files.
    pub files: Exported,
    /// Its answers in every engine.
    pub parity: Parity,
}

/// Which member of the space is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// This member of the front.
    Member(Pick),
    /// The member with all blocks alike whose parameters are nearest to this one's: the net a person
    /// would have drawn, and what a search has to beat.
    UniformLike(Pick),
}

/// Whether fine-tuning starts from the supernet's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the weights the member has inside the supernet.
    Inherited,
    /// From fresh weights.
    Scratch,
}

impl Start {
    /// Its word in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Start::Inherited => "inherited",
            Start::Scratch => "scratch",
        }
    }

    /// The weights it means, for people.
    fn weights(self) -> &'static str {
        match self {
            Start::Inherited => "inherited",
            Start::Scratch => "fresh",
        }
    }
}

/// Trains a member with labels and writes a classifier with class names, which [`export`] can write again.
///
/// The same call again goes on from the checkpoint that it keeps in the run, to the same weights; a
/// network that is trained and judged is neither trained nor judged again. Other settings or labels
/// begin anew, in place of what was there for this member and `start`.
///
/// # Errors
/// As [`evaluate()`]; [`Error::Interrupted`] after a saved stop.
pub fn finetune(
    folder: &Path,
    who: &Who,
    start: Start,
    settings: Option<recipe::Finetune>,
    engines: &EngineOptions,
    progress: &mut dyn Progress,
) -> Result<Tuned> {
    let mut run = Run::open(folder)?;
    let shop = Workshop::open(&mut run, engines.clone(), progress)?;
    let genes = match who {
        Who::Member(pick) => picked(&run, pick)?.genes,
        Who::UniformLike(pick) => uniform_like(&shop.space, picked(&run, pick)?.parameters)?,
    };
    let labels = labels(&shop, progress)?;
    let classes = Some(labels.classes.len());
    let arch = shop.space.vit(&genes);
    let mut network = match start {
        Start::Inherited => inherited(&run, &genes, classes, &shop.device)?,
        Start::Scratch => Network::new(&arch, classes, shop.recipe.seed, &shop.device),
    };
    let settings = settings.unwrap_or_else(|| shop.recipe.finetune.clone());
    let tuning = Tuning {
        images: &shop.images,
        labels: &labels,
        settings: &settings,
        augment: shop.augment(),
        seed: shop.recipe.seed,
        start: start.name(),
        checkpoint_steps: shop.recipe.supernet.checkpoint_steps,
        micro_batch: shop.recipe.supernet.micro_batch,
        lanes: &shop.lanes,
        precision: shop.precision()?,
    };
    let id = shop.space.id(&genes);
    let kept = training_name(&id, start);
    let saved = run.checkpoint(&kept);
    let belongs = tuning.belongs();
    let known: Option<(String, Finetuned)> = run.get_doc(&kept)?;
    let result = match known {
        Some((of, result)) if of == belongs && tuning.finished(&mut network, &saved)? => {
            progress.say(&format!("{id} is trained already: {}", saved.display()));
            // Runs of earlier versions lack them.
            run.put_doc(&classes_document(&kept), &labels.classes)?;
            result
        }
        _ => {
            let result = tuning.run(&mut network, &saved, progress)?;
            // Before the result, which thus never stands beside the class names of another training.
            run.put_doc(&classes_document(&kept), &labels.classes)?;
            run.put_doc(&kept, &(belongs, result))?.1
        }
    };
    if progress.stop() {
        return Err(Error::Interrupted);
    }
    progress.begin("classifier", 1, "file");
    let name = classifier_name(&id, start);
    let files = package(&run, &network, &name, Some(&labels.classes), &Options::default())?;
    if progress.stop() {
        return Err(Error::Interrupted);
    }
    let parity = replay(&files, engines)?;
    progress.end(&format!("parity {}", parity.verdict));
    Ok(Tuned { id, parameters: arch.parameters(None), flops: arch.flops(), result, files, parity })
}

/// The uniform member with the nearest number of parameters; the smaller one of two as near.
fn uniform_like(space: &VitSpace, parameters: u64) -> Result<Genes> {
    let count = |genes: &Genes| space.vit(genes).parameters(None);
    let nearest =
        space.uniform().into_iter().min_by_key(|genes| (count(genes).abs_diff(parameters), count(genes)));
    nearest.ok_or_else(|| Error::Invalid {
        thing: format!("space {}", space.definition().name),
        problem: "it has no uniform member".into(),
        next: "choose a member by --pick".into(),
    })
}

/// The member of the front that `pick` means; an id may be that of any scored architecture, which may be on the front of
/// another device.
pub(crate) fn picked(run: &Run, pick: &Pick) -> Result<Candidate> {
    if let Pick::Id(id) = pick
        && let Some(trial) = run.scored()?.iter().find(|trial| trial.id == *id)
    {
        return Ok(candidate(&run.manifest().vit_space()?, trial));
    }
    let front = candidates(run)?;
    let members: Vec<(String, Point)> = front.iter().map(|c| (c.id.clone(), c.point())).collect();
    let index = crate::front::pick(&members, pick)?;
    let count = front.len();
    front.into_iter().nth(index).ok_or_else(|| Error::Unusable {
        thing: format!("front of {}", run.folder().display()),
        problem: format!("number {index} was picked of {count} members"),
        next: "name a member by its id".into(),
    })
}

/// A member with the weights it has inside the run's supernet.
pub(crate) fn inherited(
    run: &Run,
    genes: &Genes,
    classes: Option<usize>,
    device: &Device,
) -> Result<Network> {
    let recipe = &run.manifest().recipe;
    let space = run.manifest().vit_space()?;
    let arch = space.vit(genes);
    let (layers, width) = supernet_shape(run)?;
    let decoder = super::networks::decoder(&recipe.supernet.decoder);
    let mut supernet = Supernet::new(&space.largest_arch(), decoder, &layers, width, 0, device);
    checkpoint::load_values(&mut supernet.params, &run.checkpoint("supernet"))?;
    let weights = extract(&supernet.params, &supernet.encoder, &arch)?;
    Network::from_weights(&arch, classes, &weights, recipe.seed, device)
}

/// The labels of a run's images; `progress` is told which classes there are.
fn labels(shop: &Workshop, progress: &mut dyn Progress) -> Result<LabelSet> {
    let source = images::open(shop.recipe.data.path.as_deref())?;
    let labels = Labels::read(source.as_ref(), &shop.images)?;
    let set = labels.default_set().cloned().ok_or(Error::NoLabels { split: "train" })?;
    progress.say(&counted(&set));
    Ok(set)
}

/// Classes that [`counted`] names; a line of a hundred names is read by nobody.
const NAMED: usize = 10;

/// The classes of a set and how many images each has, for people: whoever laid out the folders sees here whether they
/// were read as they were meant.
fn counted(set: &LabelSet) -> String {
    let mut counts = vec![0_usize; set.classes.len()];
    for label in set.of.iter().flatten() {
        if let Some(count) = counts.get_mut(*label as usize) {
            *count += 1;
        }
    }
    let all = set.classes.iter().zip(counts);
    let named: Vec<String> = all.take(NAMED).map(|(class, count)| format!("{class} ({count})")).collect();
    let classes = if set.classes.len() == 1 { "class" } else { "classes" };
    let more = match set.classes.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("{} {classes}: {}{more}", set.classes.len(), named.join(", "))
}

/// What exported files of a run have in common; written when its images are opened first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deployment {
    /// How images become pixels.
    pub preprocess: Preprocess,
    /// One val image, resized and cropped: the golden input.
    pub sample: Vec<u8>,
}

impl Deployment {
    /// Name of the run's document.
    pub(crate) const DOCUMENT: &'static str = "deployment";

    /// From the images of a run.
    pub(crate) fn of(images: &Images) -> Result<Self> {
        let (geometry, stats) = (images.geometry(), images.stats());
        let preprocess = Preprocess {
            resize: geometry.resize as usize,
            crop: geometry.crop as usize,
            mean: stats.mean,
            std: stats.std,
            interpolation: Interpolation::Lanczos3,
            labels: None,
        };
        let index = images.split().val.first().copied().unwrap_or(0);
        Ok(Self { preprocess, sample: images.bytes(index)? })
    }
}

/// Writes a network's ONNX file and golden pair; the training framework's own answer is the golden one.
pub(crate) fn package(
    run: &Run,
    network: &Network,
    name: &str,
    classes: Option<&[String]>,
    options: &Options,
) -> Result<Exported> {
    let missing = || Error::NotARun {
        path: run.folder().to_path_buf(),
        problem: "its images were never opened".into(),
        next: "go on with it by --resume".into(),
    };
    let mut deployment: Deployment = run.get_doc(Deployment::DOCUMENT)?.ok_or_else(missing)?;
    deployment.preprocess.labels = classes.map(<[String]>::to_vec);
    let one = deployment.preprocess.apply(&deployment.sample).map_err(masktas_export::Error::from)?;
    let pixels = one.as_f32().unwrap_or_default();
    let copies = match options.batch {
        Batch::Fixed(count) => count,
        Batch::Dynamic => 1,
    };
    let arch: VitArch = network.encoder.arch().clone();
    let visible = Visible::all(&pixels.repeat(copies), &arch, network.params.device());
    let output = network.logits(&network.params.frozen(), &visible);
    let shape = output.dims().to_vec();
    let output = HostTensor::f32(shape, to_host(&output)?).map_err(masktas_export::Error::from)?;
    let input = HostTensor::f32([copies, 3, arch.image, arch.image], pixels.repeat(copies));
    let input = input.map_err(masktas_export::Error::from)?;
    let weights: Weights = network.weights()?;
    let head = match &network.head {
        Some((_, classes)) => Head::Classifier { classes: *classes },
        None => Head::Features,
    };
    let arch = Arch::Vit(arch);
    let mut graph =
        lower(&arch, Some(&weights), &LowerOptions { batch: options.batch, head, opset: options.opset })?;
    graph.name = name.to_string();
    describe(&mut graph, &arch, &deployment.preprocess, &provenance(run, classes.is_some())?)?;
    let folder = options.out.clone().unwrap_or_else(|| run.models());
    std::fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
    let files = Package::write(&folder, name, &graph, input, output, Tolerance::F32)?;
    Ok(Exported { model: files.model, golden: files.golden, sha256: files.sha256, bytes: files.bytes })
}

/// A fine-tuned network saw labels itself; another one saw what its teacher saw.
fn provenance(run: &Run, finetuned: bool) -> Result<Provenance> {
    let teacher = TaughtBy::of(run)?;
    let labels = match &teacher {
        _ if finetuned => TeacherLabels::Used,
        Some(teacher) => teacher.labels,
        None => TeacherLabels::Unknown,
    };
    Ok(Provenance {
        labels,
        run: run.folder().file_name().map(|name| name.to_string_lossy().into_owned()),
        recipe: Some(run.manifest().recipe.recipe.clone()),
        teacher: teacher.map(|teacher| teacher.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_counted_and_at_most_ten_are_named() {
        let set = |classes: &[&str], of: &[Option<u32>]| LabelSet {
            name: "folder".into(),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            of: of.to_vec(),
        };
        let two = set(&["hat", "shoe"], &[Some(1), None, Some(0), Some(1)]);
        assert_eq!(counted(&two), "2 classes: hat (1), shoe (2)");
        assert_eq!(counted(&set(&["hat"], &[Some(0)])), "1 class: hat (1)");
        let many = counted(&set(&["x"; 12], &[]));
        assert!(many.starts_with("12 classes: x (0), ") && many.ends_with("x (0) and 2 more"), "{many}");
        assert_eq!(many.matches("x (0)").count(), NAMED);
    }
}
