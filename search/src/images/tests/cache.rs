use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::Error;

fn picture(at: usize) -> std::result::Result<Picture, Reason> {
    if at == 3 {
        return Err(Reason::NotAnImage);
    }
    Ok(Picture { width: 6, height: 6, rgb: vec![at as u8 * 20; 108], format: Format::Png })
}

fn hashes() -> Vec<Hash> {
    (0..6).map(|n| [n as u8; 32]).collect()
}

fn open(folder: &Path) -> (Cache, Origin) {
    Cache::open(folder, 4, &hashes(), &picture, &|_| String::new(), &Progress::none()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut all: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    all.sort();
    all
}

#[test]
fn it_is_built_once_and_then_reused() {
    let folder = tempfile::TempDir::new().unwrap();
    let (built, origin) = open(folder.path());
    assert_eq!((origin, built.entries.len(), built.bad.len()), (Origin::Built, 5, 1));
    assert_eq!(built.pixels(3).unwrap(), [80; 48], "the fourth good one is the fifth candidate");
    assert_eq!(built.pixels(5), None);
    assert_eq!(built.bad[0].hash, [3; 32]);
    let (again, origin) = open(folder.path());
    assert_eq!((origin, &again.entries, &again.bad), (Origin::Reused, &built.entries, &built.bad));
    assert!(files(folder.path()).iter().all(|f| !f.ends_with(".tmp")));
}

#[test]
fn every_kind_of_damage_is_seen_and_mended() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = open(folder.path()).0.path().to_path_buf();
    let whole = fs::read(&path).unwrap();
    let flips = [0, 9, 13, 20, 30, 60, 100, HEADER, HEADER + 100, whole.len() - 70, whole.len() - 1];
    let mut damaged: Vec<Vec<u8>> = flips
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .to_vec();
    damaged.extend([0, 5, HEADER, whole.len() / 2, whole.len() - 1].map(|n| whole[..n].to_vec()));
    damaged.push([whole.as_slice(), b"more"].concat());
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let (_, origin) = open(folder.path());
        assert!(matches!(origin, Origin::Rebuilt(_)), "{origin:?} of {} bytes", bytes.len());
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_header_that_promises_more_than_memory_holds_is_damage() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = open(folder.path()).0.path().to_path_buf();
    for images in [u64::MAX, u64::MAX / 96, 1 << 40] {
        let header = Header { side: 4, images, skipped: 7, key: key(4, &hashes()), digest: [0; 32] };
        let mut bytes = header.bytes();
        bytes.extend([0; 100]);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(open(folder.path()).1, Origin::Rebuilt(_)));
    }
}

/// A disk with room for so many bytes.
struct Disk {
    file: File,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room < bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.room -= bytes.len();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_cache_behind() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |room| {
        Cache::open_through(
            folder.path(),
            4,
            &hashes(),
            &picture,
            &|_| String::new(),
            &Progress::none(),
            |file| Disk { file, room },
        )
    };
    for room in [0, 100, 300] {
        let error = write(room).err().unwrap();
        let Error::Images(ImagesError::CacheWrite { source, needed, .. }) = &error else { panic!("{error}") };
        assert_eq!((source.kind(), *needed), (io::ErrorKind::StorageFull, 6 * (48 + 48) + 128));
        assert!(error.to_string().contains("MASKTAS_CACHE"), "{error}");
        assert_eq!(files(folder.path()).len(), 1, "only the lock: {:?}", files(folder.path()));
    }
    assert_eq!(write(10_000).unwrap().1, Origin::Built);
}

#[test]
fn a_leftover_of_a_killed_build_does_not_matter() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = open(folder.path()).0.path().to_path_buf();
    fs::remove_file(&path).unwrap();
    fs::write(path.with_extension("tmp"), vec![7; 100_000]).unwrap();
    assert_eq!(open(folder.path()).1, Origin::Built);
    assert!(!path.with_extension("tmp").exists());
}

#[test]
fn two_builders_make_one_cache() {
    let folder = tempfile::TempDir::new().unwrap();
    let decoded = AtomicUsize::new(0);
    let load = |at| {
        decoded.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(5));
        picture(at)
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                Cache::open(folder.path(), 4, &hashes(), &load, &|_| String::new(), &Progress::none())
                    .unwrap()
            });
        }
    });
    assert_eq!(decoded.load(Ordering::Relaxed), 6);
}

#[test]
fn a_file_that_vanishes_is_an_error_that_no_cache_remembers() {
    let folder = tempfile::TempDir::new().unwrap();
    let load = |_| Err(Reason::Unreadable("gone".into()));
    let opened = Cache::open(folder.path(), 4, &hashes(), &load, &|_| "a.png".into(), &Progress::none());
    let error = opened.err().unwrap();
    assert!(matches!(&error, Error::Images(ImagesError::Picture { path, .. }) if path == Path::new("a.png")));
    assert_eq!(open(folder.path()).1, Origin::Built);
}

#[test]
fn the_digest_fed_in_parts_equals_the_whole() {
    let body: Vec<u8> = (0..PIECE * 2 + 12345).map(|n| (n * 7 % 253) as u8).collect();
    let count = Progress::none();
    let whole = digest(&body, &count.counter(Stage::Check, 1));
    for part in [1000, PIECE - 1, PIECE, PIECE + 1, body.len()] {
        let mut feed = Feed::default();
        body.chunks(part).for_each(|p| feed.update(p));
        assert_eq!(feed.finish(), whole);
    }
    assert_eq!(Feed::default().finish(), digest(&[], &count.counter(Stage::Check, 1)));
}
