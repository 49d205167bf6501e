//! CIFAR's binary files, made up.

use super::*;

/// `count` records of `labels` label bytes each; the label comes from `label(n)`.
fn records(first: u32, count: u32, labels: &[&dyn Fn(u32) -> u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in first..first + count {
        bytes.extend(labels.iter().map(|label| label(n)));
        let image = picture(n, 32, 32);
        for channel in 0..3 {
            bytes.extend(image.pixels().map(|p| p.0[channel]));
        }
    }
    bytes
}

fn ten(label: &dyn Fn(u32) -> u8) -> TempDir {
    let folder = TempDir::new().unwrap();
    put(&folder, "cifar-10-batches-bin/data_batch_1.bin", records(0, 30, &[label]));
    put(&folder, "cifar-10-batches-bin/data_batch_2.bin", records(30, 30, &[label]));
    put(&folder, "cifar-10-batches-bin/test_batch.bin", records(60, 12, &[label]));
    folder
}

#[test]
fn ten_is_recognised_and_its_test_batch_is_the_test_part() {
    let folder = ten(&|n| (n % 10) as u8);
    let source = open(Some(folder.path())).unwrap();
    let cache = TempDir::new().unwrap();
    let options = Options { side: 32, ..options(cache.path()) };
    let (images, summary) = Images::open(source.as_ref(), &options, &Progress::none()).unwrap();
    assert_eq!((summary.kind.as_str(), summary.train, summary.val, summary.test), ("cifar10", 54, 6, 12));
    assert_eq!(images.geometry(), Geometry { resize: 32, crop: 32 });
    // Pixels come through untouched, interleaved.
    let labels = Labels::read(source.as_ref(), &images).unwrap();
    let set = labels.default_set().unwrap();
    assert_eq!(set.classes, CLASSES10);
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..images.len() as u32 {
        let bytes = images.bytes(index).unwrap();
        let n = (0..72).find(|&n| picture(n, 32, 32).as_raw() == &bytes).unwrap();
        assert_eq!(set.of[index as usize], Some(n % 10));
        assert_eq!(images.split().test.contains(&index), n >= 60);
        seen.insert(n);
    }
    assert_eq!(seen.len(), 72);
    // The folder with the files in it works as well.
    let inside = read_with(&folder.path().join("cifar-10-batches-bin"), &options).unwrap();
    assert!(visible(&inside.0) == visible(&images));
}

#[test]
fn shuffled_labels_change_nothing_a_search_sees() {
    let (a, b) = (ten(&|n| (n % 10) as u8), ten(&|n| ((n * 7 + 3) % 10) as u8));
    let cache = TempDir::new().unwrap();
    let (in_a, _) = read_with(a.path(), &options(cache.path())).unwrap();
    let (in_b, summary) = read_with(b.path(), &options(cache.path())).unwrap();
    assert!(visible(&in_a) == visible(&in_b));
    assert_eq!(summary.cache_origin, cache::Origin::Reused, "even the cache is the same");
    let labels =
        |folder: &TempDir, images| Labels::read(open(Some(folder.path())).unwrap().as_ref(), images).unwrap();
    assert_ne!(labels(&a, &in_a), labels(&b, &in_b), "the labels did differ");
}

#[test]
fn hundred_has_fine_and_coarse_labels() {
    let folder = TempDir::new().unwrap();
    let (coarse, fine) = (|n: u32| (n % 20) as u8, |n: u32| (n % 100) as u8);
    put(&folder, "train.bin", records(0, 20, &[&coarse, &fine]));
    put(&folder, "test.bin", records(20, 5, &[&coarse, &fine]));
    let source = open(Some(folder.path())).unwrap();
    let cache = TempDir::new().unwrap();
    let (images, summary) = Images::open(source.as_ref(), &options(cache.path()), &Progress::none()).unwrap();
    assert_eq!((summary.kind.as_str(), summary.train, summary.val, summary.test), ("cifar100", 18, 2, 5));
    assert_eq!(images.geometry(), Geometry { resize: 8, crop: 8 });
    let labels = Labels::read(source.as_ref(), &images).unwrap();
    let names: Vec<&str> = labels.sets.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["fine", "coarse"]);
    assert_eq!((labels.sets[0].classes.len(), labels.sets[1].classes.len()), (100, 20));
    for (fine, coarse) in labels.sets[0].of.iter().zip(&labels.sets[1].of) {
        assert_eq!(fine.unwrap() % 20, coarse.unwrap());
    }
}

#[test]
fn a_cut_file_and_a_label_out_of_range_are_errors() {
    let folder = ten(&|_| 10);
    let source = open(Some(folder.path())).unwrap();
    let cache = TempDir::new().unwrap();
    // The search does not look at labels, so it does not mind.
    let (images, _) = Images::open(source.as_ref(), &options(cache.path()), &Progress::none()).unwrap();
    let error = Labels::read(source.as_ref(), &images).unwrap_err();
    assert!(matches!(error, Error::Images(ImagesError::Invalid { what: "label byte", .. })), "{error}");

    let mut short = records(0, 3, &[&|_| 0]);
    short.pop();
    put(&folder, "cifar-10-batches-bin/data_batch_1.bin", &short);
    let error = read(folder.path()).err().unwrap();
    assert!(error.to_string().contains("9218 bytes, expected a multiple of 3073"), "{error}");
}
