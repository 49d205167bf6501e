use std::fs::File;

use super::*;

const OLD: Duration = Duration::from_secs(100_000);

fn file(folder: &Path, name: &str, text: &str, age: Duration) -> Metadata {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    fs::metadata(path).unwrap()
}

#[test]
fn an_unchanged_file_is_remembered_and_a_changed_one_is_not() {
    let (root, cache) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let read = || Memo::read(Some(cache.path()), root.path());
    let old = file(root.path(), "old", "text", OLD);
    let fresh = file(root.path(), "fresh", "text", Duration::ZERO);
    let entry = |name: &str, meta: &Metadata, n| (name.to_owned(), meta.clone(), [n; 32]);
    read().write([entry("old", &old, 1), entry("fresh", &fresh, 2)].into_iter());
    assert_eq!(read().get("old", &old), Some([1; 32]));
    assert_eq!(read().get("fresh", &fresh), None, "too young to be sure");
    assert_eq!(read().get("other", &old), None);
    assert_eq!(read().get("old", &file(root.path(), "old", "longer text", OLD)), None);
    assert_eq!(read().get("old", &file(root.path(), "old", "text", OLD / 2)), None);
    assert_eq!(Memo::read(None, root.path()).get("old", &old), None);
    assert_eq!(Memo::read(Some(cache.path()), cache.path()).get("old", &old), None, "of another folder");
    Memo::forget(Some(cache.path()), root.path());
    assert_eq!(read().get("old", &old), None);
}

#[test]
fn a_damaged_memory_is_no_memory() {
    let (root, cache) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let meta = file(root.path(), "a", "text", OLD);
    let read = || Memo::read(Some(cache.path()), root.path());
    read().write([("a".to_owned(), meta.clone(), [1; 32])].into_iter());
    let path = read().path.unwrap();
    let whole = fs::read(&path).unwrap();
    for at in [0, 64, 70, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_eq!(read().get("a", &meta), None);
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(read().get("a", &meta), None);
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(read().get("a", &meta), Some([1; 32]));
}
