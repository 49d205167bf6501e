//! Sources, splits and labels, on small folders made for each test.

mod cifar;
mod hostile;
mod real;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::error::Error;

/// A picture that no other number gives: stripes and a gradient.
pub fn picture(number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = (x * (number + 3) + y * 7) % 251;
        image::Rgb([wave as u8, (x * 255 / width) as u8, (number * 37 % 256) as u8])
    })
}

pub fn encode(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

pub fn png(number: u32) -> Vec<u8> {
    encode(&picture(number, 24, 20), ImageFormat::Png)
}

pub fn put(folder: &TempDir, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A folder of `count` PNGs, spread over two classes.
pub fn photos(count: u32) -> TempDir {
    let folder = TempDir::new().unwrap();
    for n in 0..count {
        put(&folder, &format!("{}/{n}.png", ["shoe", "hat", "hat"][n as usize % 3]), png(n));
    }
    folder
}

pub fn options(cache: &Path) -> Options {
    Options { cache: Some(cache.into()), ..Options::new(8, 1) }
}

pub fn read(folder: &Path) -> crate::error::Result<(Images, Summary)> {
    let cache = TempDir::new().unwrap();
    read_with(folder, &options(cache.path()))
}

pub fn read_with(folder: &Path, options: &Options) -> crate::error::Result<(Images, Summary)> {
    Images::open(open(Some(folder))?.as_ref(), options, &Progress::none())
}

/// Everything a search can see of some images.
pub fn visible(images: &Images) -> (Vec<Hash>, Vec<u8>, Split, Stats, Hash) {
    let pixels = (0..images.len() as u32).flat_map(|i| images.square(i).unwrap().to_vec()).collect();
    (images.hashes().to_vec(), pixels, images.split().clone(), *images.stats(), images.source_sha())
}

#[test]
fn a_tree_of_any_depth_and_three_formats_is_found() {
    let folder = TempDir::new().unwrap();
    put(&folder, "one.PNG", png(1));
    put(&folder, "a/b/c/d/e/two.jpg", encode(&picture(2, 40, 30), ImageFormat::Jpeg));
    put(&folder, "a/three.webp", encode(&picture(3, 16, 50), ImageFormat::WebP));
    put(&folder, "a/notes.txt", "no image");
    put(&folder, "a/.hidden.png", png(4));
    put(&folder, ".git/objects.png", png(5));
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!((summary.kind.as_str(), summary.images), ("folder", 3));
    assert_eq!(summary.ignored, BTreeMap::from([("hidden".into(), 2), ("other type".into(), 1)]));
    let one_each = [("jpeg", 1), ("png", 1), ("webp", 1)].map(|(f, n)| (f.to_owned(), n));
    assert_eq!(summary.formats, BTreeMap::from(one_each));
    let sizes = summary.sizes.unwrap();
    assert_eq!((sizes.smallest, sizes.median, sizes.largest), ([24, 20], [16, 50], [40, 30]));
    assert!(summary.skipped.is_empty() && summary.duplicates.is_empty());
    assert_eq!((summary.train, summary.val, summary.test), (1, 1, 1));
}

#[test]
fn renaming_and_moving_every_file_changes_nothing_a_search_sees() {
    let (first, second) = (photos(30), TempDir::new().unwrap());
    for n in 0..30 {
        // Other names, other classes, other folders, and names of another format.
        put(&second, &format!("x{}/y/{}.jpeg", n % 4, 1000 - n), png(n));
    }
    let caches = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (a, in_a) = read_with(first.path(), &options(caches[0].path())).unwrap();
    let (b, in_b) = read_with(second.path(), &options(caches[1].path())).unwrap();
    assert!(visible(&a) == visible(&b));
    assert_eq!(fs::read(in_a.cache).unwrap(), fs::read(in_b.cache).unwrap());
}

#[test]
fn other_content_or_another_seed_changes_the_split() {
    let folder = photos(40);
    let cache = TempDir::new().unwrap();
    let (a, _) = read_with(folder.path(), &options(cache.path())).unwrap();
    let (b, _) = read_with(folder.path(), &Options { seed: 2, ..options(cache.path()) }).unwrap();
    assert_ne!(a.split().val, b.split().val);
    assert_eq!(a.source_sha(), b.source_sha());
    put(&folder, "new.png", png(99));
    let (c, _) = read_with(folder.path(), &options(cache.path())).unwrap();
    assert_ne!(a.source_sha(), c.source_sha());
    // Most images stay where they were: the part is drawn from each image's own content.
    let train = |i: &Images| i.split().train.iter().map(|&n| i.hashes()[n as usize]).collect::<Vec<_>>();
    let (before, after) = (train(&a), train(&c));
    assert!(before.iter().filter(|h| after.contains(h)).count() + 3 >= before.len());
}

#[test]
fn own_test_and_val_folders_are_kept() {
    let folder = TempDir::new().unwrap();
    for n in 0..20 {
        put(&folder, &format!("train/cat/{n}.png"), png(n));
    }
    for n in 20..25 {
        put(&folder, &format!("Test/cat/{n}.png"), png(n));
    }
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!((summary.train, summary.val, summary.test), (18, 2, 5));
    assert!(summary.own_test && !summary.own_val);
    let own: Vec<Hash> = (20..25)
        .map(|n| {
            use sha2::Digest as _;
            sha2::Sha256::digest(png(n)).into()
        })
        .collect();
    assert!(images.split().test.iter().all(|&i| own.contains(&images.hashes()[i as usize])));

    for n in 30..37 {
        put(&folder, &format!("validation/cat/{n}.png"), png(n));
    }
    let (_, summary) = read(folder.path()).unwrap();
    assert_eq!((summary.train, summary.val, summary.test), (20, 7, 5));
    assert!(summary.own_val);
}

#[test]
fn the_parts_are_disjoint_and_cover_everything() {
    let (images, _) = read(photos(50).path()).unwrap();
    let split = images.split();
    let mut all = [split.train.clone(), split.val.clone(), split.test.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..50).collect::<Vec<u32>>());
    assert_eq!((split.train.len(), split.val.len(), split.test.len()), (40, 5, 5));
}

#[test]
fn shares_set_the_sizes_of_the_parts_and_leave_each_at_least_one_image() {
    let folder = photos(20);
    let cache = TempDir::new().unwrap();
    let sizes = |folder: &Path, val, test| {
        let shares = Shares { val, test };
        let summary = read_with(folder, &Options { shares, ..options(cache.path()) })?.1;
        Ok::<_, Error>((summary.train, summary.val, summary.test))
    };
    assert_eq!(sizes(folder.path(), 0.25, 0.2).unwrap(), (12, 4, 4));
    assert_eq!(sizes(folder.path(), 0.25, 0.0).unwrap(), (15, 5, 0));
    assert_eq!(sizes(photos(3).path(), 0.99, 0.99).unwrap(), (1, 1, 1));
    assert_eq!(sizes(photos(2).path(), 0.01, 0.0).unwrap(), (1, 1, 0));
    for (val, test) in [(0.0, 0.1), (1.0, 0.1), (f64::NAN, 0.1), (0.1, 1.0), (0.1, -0.1)] {
        let error = sizes(folder.path(), val, test).unwrap_err();
        assert!(matches!(error, Error::Images(ImagesError::Option { .. })), "{error}");
    }
}

#[test]
fn equal_content_counts_once_and_test_goes_first() {
    let folder = photos(20);
    put(&folder, "hat/copy.png", png(4));
    put(&folder, "test/hat/leak.png", png(7));
    put(&folder, "test/hat/only.png", png(30));
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!((images.len(), summary.duplicates.len(), summary.test), (21, 2, 2));
    let copy = summary.duplicates.iter().find(|d| d.dropped.ends_with("copy.png")).unwrap();
    assert_eq!(copy.kept, "hat/4.png");
    let leaked: Vec<Hash> = images.split().train.iter().map(|&i| images.hashes()[i as usize]).collect();
    use sha2::Digest as _;
    let hash: Hash = sha2::Sha256::digest(png(7)).into();
    assert!(!leaked.contains(&hash) && images.hashes().contains(&hash));
}

#[test]
fn labels_come_from_class_folders_and_only_through_labels() {
    let folder = photos(9);
    put(&folder, "top.png", png(50));
    put(&folder, "train/loose.png", png(51));
    put(&folder, "train/scarf/deep/1.png", png(52));
    put(&folder, "hat/deep/er/1.png", png(53));
    put(&folder, "hat/ambiguous.png", png(3));
    let source = open(Some(folder.path())).unwrap();
    let cache = TempDir::new().unwrap();
    let (images, _) = Images::open(source.as_ref(), &options(cache.path()), &Progress::none()).unwrap();
    let labels = Labels::read(source.as_ref(), &images).unwrap();
    let set = labels.default_set().unwrap();
    assert_eq!((set.classes.join(" ").as_str(), set.of.len(), labels.ambiguous), ("hat scarf shoe", 13, 1));
    let of = |n: u32| {
        use sha2::Digest as _;
        let hash: Hash = sha2::Sha256::digest(png(n)).into();
        let at = images.hashes().iter().position(|h| *h == hash).unwrap();
        set.of[at].map(|label| set.classes[label as usize].as_str())
    };
    assert_eq!((of(0), of(1), of(52)), (Some("shoe"), Some("hat"), Some("scarf")));
    assert_eq!(of(53), Some("hat"), "the first folder, not the last");
    assert_eq!((of(50), of(51), of(3)), (None, None, None), "top level, part folder, two classes");

    let flat = TempDir::new().unwrap();
    (0..5).for_each(|n| drop(put(&flat, &format!("{n}.png"), png(n))));
    let source = open(Some(flat.path())).unwrap();
    let (images, _) = Images::open(source.as_ref(), &options(cache.path()), &Progress::none()).unwrap();
    let error = Labels::read(source.as_ref(), &images).unwrap_err();
    assert!(matches!(error, Error::Images(ImagesError::NoLabels { .. })));
}

#[test]
fn labels_of_another_source_are_refused() {
    let (first, second) = (photos(9), TempDir::new().unwrap());
    (20..30).for_each(|n| drop(put(&second, &format!("hat/{n}.png"), png(n))));
    let (images, _) = read(first.path()).unwrap();
    let error = Labels::read(open(Some(second.path())).unwrap().as_ref(), &images).unwrap_err();
    assert!(matches!(error, Error::Images(ImagesError::SourceChanged { .. })), "{error}");
}

#[test]
fn a_given_split_is_kept_and_a_foreign_one_refused() {
    let folder = photos(30);
    let (images, _) = read(folder.path()).unwrap();
    let cache = TempDir::new().unwrap();
    let text = serde_json::to_string(images.split()).unwrap();
    let split: Split = serde_json::from_str(&text).unwrap();
    let again = Options { seed: 77, split: Some(split.clone()), ..options(cache.path()) };
    assert_eq!(read_with(folder.path(), &again).unwrap().0.split(), images.split());

    let foreign = read_with(photos(31).path(), &again).err().unwrap();
    assert!(matches!(foreign, Error::Images(ImagesError::SourceChanged { .. })), "{foreign}");
    let twice = Split { val: split.train.clone(), ..split.clone() };
    let error = read_with(folder.path(), &Options { split: Some(twice), ..again.clone() }).err().unwrap();
    assert!(matches!(error, Error::Images(ImagesError::OutOfRange { .. })), "{error}");
    let outside = Split { test: vec![30], ..split };
    let error = read_with(folder.path(), &Options { split: Some(outside), ..again }).err().unwrap();
    assert!(matches!(error, Error::Images(ImagesError::OutOfRange { index: 30, count: 30 })), "{error}");
}

#[test]
fn sources_without_a_use_say_so_and_what_to_do() {
    let empty = TempDir::new().unwrap();
    let error = |path: &Path| read(path).err().unwrap();
    assert!(matches!(error(empty.path()), Error::Images(ImagesError::Empty { seen: 0, .. })));
    put(&empty, "a.txt", "text");
    assert!(matches!(error(empty.path()), Error::Images(ImagesError::Empty { seen: 1, .. })));
    put(&empty, "a.jpg", "text");
    put(&empty, "b.jpg", "");
    let all = error(empty.path());
    assert!(matches!(all, Error::Images(ImagesError::AllUnreadable { candidates: 2, .. })), "{all}");
    assert!(all.to_string().contains("a.jpg is not a JPEG, PNG or WebP image"), "{all}");

    let two = photos(2);
    let few = error(two.path());
    assert!(matches!(few, Error::Images(ImagesError::TooFew { found: 2, needed: 3, .. })), "{few}");
    assert!(matches!(error(Path::new("no/such/folder")), Error::Images(ImagesError::Missing { .. })));
    let file = put(&two, "hat/1.png", png(1));
    assert!(matches!(error(&file), Error::Images(ImagesError::NotAFolder { .. })));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let folder = photos(40);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let cache = TempDir::new().unwrap();
            let (images, summary) = read_with(folder.path(), &options(cache.path())).unwrap();
            let indices: Vec<u32> = (0..40).collect();
            let mut batch = vec![0.0; 40 * images.numbers()];
            images.augmented(&indices, &Augment::default(), 5, 3, &mut batch).unwrap();
            (visible(&images), fs::read(summary.cache).unwrap(), batch)
        })
    };
    assert!(run(1) == run(4));
}

#[test]
fn one_file_decoded_alone_equals_the_cached_image() {
    let folder = TempDir::new().unwrap();
    let sizes = [(24, 20), (8, 100), (300, 9), (10, 10), (9, 31)];
    let files: Vec<PathBuf> = (0u32..)
        .zip(sizes)
        .map(|(n, (w, h))| put(&folder, &format!("{n}.png"), encode(&picture(n, w, h), ImageFormat::Png)))
        .collect();
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!(images.geometry(), Geometry { resize: 10, crop: 8 });
    for file in files {
        use sha2::Digest as _;
        let hash: Hash = sha2::Sha256::digest(fs::read(&file).unwrap()).into();
        let at = images.hashes().iter().position(|h| *h == hash).unwrap() as u32;
        let alone = decode_for(&file, summary.geometry).unwrap();
        assert_eq!(alone, images.bytes(at).unwrap());
        // And the normalised batch is those bytes.
        let mut batch = vec![0.0; images.numbers()];
        images.plain(&[at], &mut batch).unwrap();
        let stats = images.stats();
        for (n, value) in batch.iter().enumerate() {
            let (c, pixel) = (n / 64, n % 64);
            let expected = (f32::from(alone[pixel * 3 + c]) / 255.0 - stats.mean[c]) / stats.std[c];
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_end() {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (photos(5), photos(8));
    symlink(folder.path(), folder.path().join("hat/loop")).unwrap();
    symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
    symlink("nowhere", folder.path().join("broken.png")).unwrap();
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!(images.len(), 8, "five of them equal those of the linked folder");
    assert_eq!(summary.ignored.get("already visited"), Some(&1));
    assert_eq!(summary.skipped.len(), 1);
    assert_eq!(summary.skipped[0].path, "broken.png");
}

/// Sets a file's time of change, so that it counts as settled, or as untouched.
fn set_age(path: &Path, seconds: u64) {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[test]
fn a_second_reading_sees_what_changed_and_what_did_not() {
    let folder = photos(12);
    let cache = TempDir::new().unwrap();
    let each = |n: u32| folder.path().join(format!("{}/{n}.png", ["shoe", "hat", "hat"][n as usize % 3]));
    (0..12).for_each(|n| set_age(&each(n), 0));
    let (first, _) = read_with(folder.path(), &options(cache.path())).unwrap();
    let memos = || {
        fs::read_dir(cache.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "memo"))
            .count()
    };
    assert_eq!(memos(), 1);
    let (same, summary) = read_with(folder.path(), &options(cache.path())).unwrap();
    assert!(visible(&first) == visible(&same) && summary.cache_origin == cache::Origin::Reused);
    // Other content at another time is seen.
    fs::write(each(5), png(80)).unwrap();
    set_age(&each(5), 1);
    let (other, _) = read_with(folder.path(), &options(cache.path())).unwrap();
    assert_ne!(first.source_sha(), other.source_sha());
    // Other content that looks untouched is believed while the cache is there, but never decoded
    // under the wrong name; then the memory is dropped and the next reading is right.
    let length = fs::metadata(each(6)).unwrap().len() as usize;
    fs::write(each(6), vec![7; length]).unwrap();
    set_age(&each(6), 0);
    fs::remove_file(&summary.cache).unwrap();
    let bigger = Options { side: 16, ..options(cache.path()) };
    let error = read_with(folder.path(), &bigger).err().unwrap();
    assert!(error.to_string().contains("has changed since"), "{error}");
    assert_eq!(memos(), 0);
    let (_, summary) = read_with(folder.path(), &bigger).unwrap();
    assert_eq!((summary.images, summary.skipped.len()), (11, 1));
}

#[test]
fn wrong_buffers_and_indices_are_errors() {
    let (images, _) = read(photos(5).path()).unwrap();
    let mut out = vec![0.0; images.numbers()];
    let error = images.plain(&[0, 1], &mut out).unwrap_err();
    assert!(matches!(error, Error::Images(ImagesError::Buffer { images: 2, side: 8, .. })), "{error}");
    let error = images.plain(&[5], &mut out).unwrap_err();
    assert!(matches!(error, Error::Images(ImagesError::OutOfRange { index: 5, count: 5 })), "{error}");
    let wrong = Augment { scale: [0.0, 1.0], ..Augment::default() };
    assert!(images.augmented(&[0], &wrong, 0, 0, &mut out).is_err());
    for side in [0, 5000] {
        let cache = TempDir::new().unwrap();
        let options = Options { side, ..options(cache.path()) };
        assert!(matches!(
            read_with(photos(5).path(), &options).err().unwrap(),
            Error::Images(ImagesError::Option { .. })
        ));
    }
}
