//! Fine-tuning that was stopped or killed goes on to the losses, accuracies and weights of an
//! undisturbed one; what is finished is not trained again; other settings or labels begin anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use masktas_devices::engine::EngineOptions;
use masktas_search::Error;
use masktas_search::front::Pick;
use masktas_search::pipeline::{ExportOptions, Setup, Start, Tuned, Who, export, finetune, search};
use masktas_search::progress::{Progress, Silent};
use masktas_search::rand::{Draw, stream};
use masktas_search::recipe::{Finetune, Recipe};
use masktas_search::run::Run;

/// Steps of the whole training: 3 epochs of 65 images in batches of 16.
const STEPS: u64 = 12;
/// Steps until it is disturbed: neither at an epoch's end (4) nor at a checkpoint (every 3).
const SOME: u64 = 5;

/// Photographs of noise on a ground that tells the class, one folder a class.
fn photographs(folder: &Path) {
    for i in 0..80u32 {
        let mut rng = stream(4, "photograph", u64::from(i));
        let class = i % 4;
        let picture = image::RgbImage::from_fn(40, 36, |x, y| {
            let noise = rng.below(60) as u32;
            image::Rgb([(x * 4 + noise) as u8, (y * 4 + noise) as u8, (class * 50 + noise) as u8])
        });
        let place = folder.join(format!("class-{class}"));
        std::fs::create_dir_all(&place).unwrap();
        picture.save(place.join(format!("{i}.png"))).unwrap();
    }
}

fn searched(data: &Path, out: &Path) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny.toml");
    let sets = [
        format!("data.path={:?}", data.to_str().unwrap()),
        "budget.params=\"20k\"".to_owned(),
        "finetune.epochs=3".to_owned(),
        "finetune.batch=16".to_owned(),
    ];
    let recipe = Recipe::load(None, Some(&config), &sets).unwrap();
    let engines = EngineOptions::default();
    let setup = Setup { recipe: Some(recipe), ..Setup::new(out.to_owned(), engines) };
    search(&setup, &mut Silent).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// How a training ends early.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Never,
    Stop,
    Crash,
}

/// Counts steps, and ends the training after [`SOME`].
struct Watch {
    end: End,
    steps: u64,
    said: String,
}

impl Watch {
    fn new(end: End) -> Self {
        Self { end, steps: 0, said: String::new() }
    }
}

impl Progress for Watch {
    fn begin(&mut self, _phase: &str, _total: u64, _unit: &str) {}
    fn advance(&mut self, _done: u64, _note: &str) {
        self.steps += 1;
        assert!(self.end != End::Crash || self.steps < SOME, "the crash this test wants");
    }
    fn end(&mut self, _summary: &str) {}
    fn say(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }
    fn stop(&self) -> bool {
        self.end == End::Stop && self.steps >= SOME
    }
}

fn tune(run: &Path, settings: &Finetune, watch: &mut Watch) -> Result<Tuned, Error> {
    let (who, settings) = (Who::Member(Pick::Best), Some(settings.clone()));
    finetune(run, &who, Start::Inherited, settings, &EngineOptions::default(), watch)
}

/// To the end, and how that went.
fn finish(run: &Path, settings: &Finetune) -> (Tuned, Watch) {
    let mut watch = Watch::new(End::Never);
    let tuned = tune(run, settings, &mut watch).unwrap();
    (tuned, watch)
}

fn checkpoint(run: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("finetune-"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn assert_same(a: (&Path, &Tuned), b: (&Path, &Tuned)) {
    assert_eq!(a.1.id, b.1.id);
    assert_eq!(a.1.result, b.1.result);
    assert_eq!(a.1.files.sha256, b.1.files.sha256, "the weights differ");
    let bytes = |run: &Path| std::fs::read(checkpoint(run)).unwrap();
    assert!(bytes(a.0) == bytes(b.0), "the checkpoints differ");
}

#[test]
fn a_disturbed_training_ends_as_an_undisturbed_one() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("photographs");
    photographs(&data);
    // The folders of all copies are called `run`, for that name stands in the files.
    let first = place.path().join("first/run");
    searched(&data, &first);
    let branch = |name: &str| {
        let run = place.path().join(name).join("run");
        copy(&first, &run);
        run
    };
    let settings = Run::open_read_only(&first).unwrap().manifest().recipe.finetune.clone();

    let whole = branch("whole");
    let (undisturbed, watch) = finish(&whole, &settings);
    assert_eq!(watch.steps, STEPS);
    assert_eq!(undisturbed.result.losses.len(), 3);

    // Stopped: nothing is lost.
    let stopped = branch("stopped");
    assert!(matches!(tune(&stopped, &settings, &mut Watch::new(End::Stop)), Err(Error::Interrupted)));
    let (tuned, watch) = finish(&stopped, &settings);
    assert_eq!(watch.steps, STEPS - SOME);
    assert_same((&whole, &undisturbed), (&stopped, &tuned));

    // Killed: what came after the last checkpoint, at the end of the first epoch, is done again.
    let killed = branch("killed");
    let crash =
        catch_unwind(AssertUnwindSafe(|| tune(&killed, &settings, &mut Watch::new(End::Crash)).is_ok()));
    assert!(crash.is_err());
    let (tuned, watch) = finish(&killed, &settings);
    assert_eq!(watch.steps, STEPS - 4);
    assert_same((&whole, &undisturbed), (&killed, &tuned));

    // Finished: the result and the weights are there.
    let (tuned, watch) = finish(&killed, &settings);
    assert_eq!(watch.steps, 0);
    assert!(watch.said.contains("trained already"), "{}", watch.said);
    assert_same((&whole, &undisturbed), (&killed, &tuned));

    // It is there for an export as well, which reads neither images nor labels.
    let how =
        ExportOptions { classifier: true, out: Some(place.path().join("again")), ..ExportOptions::default() };
    let (_, files, _) = export(&killed, &Pick::Best, &how, &EngineOptions::default(), &mut Silent).unwrap();
    assert_eq!(files.sha256, tuned.files.sha256, "the exported classifier is another one");
    assert_ne!(files.model, tuned.files.model);
    let error = export(&first, &Pick::Best, &how, &EngineOptions::default(), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("masktas finetune"), "{error}");

    // Other settings begin anew, whether the old training was finished or not.
    let other = Finetune { learning_rate: 2.0 * settings.learning_rate, ..settings.clone() };
    let untouched = branch("untouched");
    let (expected, _) = finish(&untouched, &other);
    assert_ne!(expected.result.losses, undisturbed.result.losses);
    let half = branch("half");
    assert!(matches!(tune(&half, &settings, &mut Watch::new(End::Stop)), Err(Error::Interrupted)));
    for run in [&half, &killed] {
        let (tuned, watch) = finish(run, &other);
        assert_eq!(watch.steps, STEPS);
        assert!(watch.said.contains("begins anew"), "{}", watch.said);
        assert_same((&untouched, &expected), (run, &tuned));
    }

    // So do other labels of the same photographs.
    std::fs::rename(data.join("class-0/0.png"), data.join("class-1/0.png")).unwrap();
    let (_, watch) = finish(&whole, &settings);
    assert_eq!(watch.steps, STEPS);
    assert!(watch.said.contains("begins anew"), "{}", watch.said);
}
