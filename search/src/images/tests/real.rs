//! The built-in photographs, and real CIFAR-10 where `MASKTAS_DATA` says where it is.

use std::process::Command;

use super::*;

#[test]
fn the_built_in_photographs_are_whole() {
    let source = open(None).unwrap();
    let cache = TempDir::new().unwrap();
    let options = Options { side: 32, ..options(cache.path()) };
    let (images, summary) = Images::open(source.as_ref(), &options, &Progress::none()).unwrap();
    assert_eq!((summary.kind.as_str(), summary.skipped.len()), ("embedded", 0));
    assert_eq!(images.len() + summary.duplicates.len(), 1413);
    assert!(summary.own_test && summary.test >= 280, "{}", summary.test);
    let labels = Labels::read(source.as_ref(), &images).unwrap();
    let set = labels.default_set().unwrap();
    assert_eq!(set.classes.len(), 10);
    assert!(set.of.iter().filter(|l| l.is_some()).count() + labels.ambiguous == images.len());
    assert!(summary.stats.std.iter().all(|s| (0.1..0.4).contains(s)), "{:?}", summary.stats);
    // The word `embedded` names the same.
    assert_eq!(open(Some(Path::new(EMBEDDED))).unwrap().kind(), "embedded");
}

#[test]
fn a_damaged_pack_is_refused() {
    use crate::images::embedded::Embedded;
    let error = |pack: &'static str| Embedded::from_bytes(pack.as_bytes()).err().unwrap().to_string();
    assert!(error("").contains("first line"));
    assert!(error("masktas image pack 1\nx\n\n").contains("line of the pack"));
    assert!(error("masktas image pack 1\n5 a.jpg\n\nabc").contains("3 bytes, expected 5 bytes"));
    assert!(error("masktas image pack 1\n2 a.jpg\n\nabc").contains("1 bytes after the last image"));
    assert!(Embedded::from_bytes(b"masktas image pack 1\n3 a.jpg\n\nabc").is_ok());
}

#[test]
fn cifar10_divides_into_45k_5k_10k() {
    let Some(data) = std::env::var_os("MASKTAS_DATA").map(PathBuf::from) else {
        eprintln!("skipped: MASKTAS_DATA does not say where CIFAR-10 is");
        return;
    };
    if Command::new("djxl").arg("--version").output().is_err() {
        eprintln!(
            "skipped: CIFAR-10 in MASKTAS_DATA is packed, and djxl (Debian: libjxl-tools) is not installed"
        );
        return;
    }
    let out = TempDir::new().unwrap();
    let unpacked =
        Command::new("python3").arg(data.join("unpack.py")).arg("cifar10").arg(out.path()).output();
    match unpacked {
        Ok(done) if done.status.success() => {}
        Ok(done) => panic!("unpack.py: {}", String::from_utf8_lossy(&done.stderr)),
        Err(e) => panic!("python3: {e}"),
    }
    let source = open(Some(out.path())).unwrap();
    let cache = TempDir::new().unwrap();
    let options = Options { side: 32, ..options(cache.path()) };
    let (images, summary) = Images::open(source.as_ref(), &options, &Progress::none()).unwrap();
    assert_eq!(
        (summary.train, summary.val, summary.test),
        (45_000, 5_000, 10_000),
        "{:?}",
        summary.duplicates
    );
    let published = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
    for c in 0..3 {
        assert!((summary.stats.mean[c] - published.0[c]).abs() < 2e-3, "{:?}", summary.stats);
        assert!((summary.stats.std[c] - published.1[c]).abs() < 2e-3, "{:?}", summary.stats);
    }
    let labels = Labels::read(source.as_ref(), &images).unwrap();
    let set = labels.default_set().unwrap();
    for class in 0..10 {
        assert_eq!(set.of.iter().filter(|l| **l == Some(class)).count(), 6000);
    }
}
