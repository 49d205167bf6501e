//! No label reaches the search: the same photographs under shuffled class folders and other names, and the same
//! CIFAR-10 pixels behind other label bytes, give the identical search.

use std::path::Path;

use masktas_devices::engine::EngineOptions;
use masktas_search::pipeline::{Setup, search};
use masktas_search::progress::Silent;
use masktas_search::rand::{Draw, stream};
use masktas_search::recipe::Recipe;
use masktas_search::run::Run;

/// Photographs of noise, each under the class folder that `class` gives it.
fn photographs(folder: &Path, class: impl Fn(usize) -> usize) {
    for i in 0..80 {
        let mut rng = stream(3, "photograph", i as u64);
        let picture = image::RgbImage::from_fn(40, 36, |x, y| {
            let noise = rng.below(60) as u32;
            image::Rgb([(x * 5 + noise) as u8, (y * 5 + noise) as u8, (i as u32 * 3) as u8])
        });
        let place = folder.join(format!("class-{}", class(i)));
        std::fs::create_dir_all(&place).unwrap();
        picture.save(place.join(format!("{}-{i}.png", class(i)))).unwrap();
    }
}

/// CIFAR-10's official binary files with 14 records each: a label byte that `class` gives, then three planes of noise.
fn cifar10(folder: &Path, class: impl Fn(usize) -> u8) {
    std::fs::create_dir_all(folder).unwrap();
    let names = (1..=5).map(|n| format!("data_batch_{n}.bin")).chain(["test_batch.bin".to_owned()]);
    for (file, name) in names.enumerate() {
        let mut bytes = Vec::new();
        for i in 14 * file..14 * (file + 1) {
            let mut rng = stream(3, "record", i as u64);
            bytes.push(class(i));
            bytes.extend((0..3 * 32 * 32_usize).map(|at| (at / 16 + rng.below(60)) as u8));
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn trial_log(data: &Path, out: &Path) -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tiny.toml");
    let sets = [format!("data.path={:?}", data.to_str().unwrap()), "budget.params=\"20k\"".to_owned()];
    let recipe = Recipe::load(None, Some(&config), &sets).unwrap();
    let setup = Setup { recipe: Some(recipe), ..Setup::new(out.to_owned(), EngineOptions::default()) };
    search(&setup, &mut Silent).unwrap();
    Run::open_read_only(out).unwrap().trial_log().unwrap()
}

#[test]
fn shuffled_labels_give_the_identical_search() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    photographs(&path("sorted"), |i| i / 20);
    photographs(&path("shuffled"), |i| (i * 7 + 3) % 4);
    let sorted = trial_log(&path("sorted"), &path("a"));
    assert_eq!(sorted, trial_log(&path("shuffled"), &path("b")));
    // A head, and a line for each of the recipe's 24 trials.
    assert_eq!(sorted.lines().count(), 25);
}

#[test]
fn other_label_bytes_give_the_identical_search() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    cifar10(&path("right"), |i| (i % 10) as u8);
    cifar10(&path("wrong"), |i| ((i * 7 + 3) % 10) as u8);
    let right = trial_log(&path("right"), &path("a"));
    assert_eq!(right, trial_log(&path("wrong"), &path("b")));
    assert_eq!(right.lines().count(), 25);
}
