//! Small files of the system below a root folder.

use std::io::Read;
use std::path::Path;

/// Longest text that is read; system files are far shorter.
const TEXT_LIMIT: u64 = 1 << 20;

/// A small text file without its end; `None` when it is missing, unreadable or empty.
pub(super) fn text(root: &Path, path: &str) -> Option<String> {
    text_at(&root.join(path))
}

/// As [`text`], of a whole path.
pub(super) fn text_at(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(TEXT_LIMIT).read_to_end(&mut bytes).ok()?;
    // Device-tree texts end in a zero byte.
    let text =
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
    (!text.is_empty()).then_some(text)
}

/// A file that holds one whole number.
pub(super) fn number(root: &Path, path: &str) -> Option<u64> {
    text(root, path)?.parse().ok()
}

/// Names in a folder: numbers by value, so that `hwmon10` comes after `hwmon2`, the rest by letters.
pub(super) fn names(root: &Path, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_by_cached_key(|name| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let index: u64 = name.get(stem.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        (stem.to_owned(), index, name.clone())
    });
    names
}

/// The numbers of a list such as `0-3,6`. At most 4,096 of them: a wrong list must not fill memory.
pub(super) fn cpu_list(text: &str) -> Vec<usize> {
    const LIMIT: usize = 4096;
    let mut list: Vec<usize> = text
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
            Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
        })
        .flat_map(|range| range.take(LIMIT))
        .take(LIMIT)
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// The numbers of a sorted list as `0-3,6`.
pub(super) fn cpu_ranges(list: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in list {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let texts = parts.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_and_written() {
        assert_eq!(cpu_list("0-3,6"), [0, 1, 2, 3, 6]);
        assert_eq!(cpu_list("0 1 2").len(), 0);
        assert_eq!(cpu_list(""), Vec::<usize>::new());
        assert_eq!(cpu_list("3-1,x,5"), [5]);
        assert_eq!(cpu_list("0-99999999999").len(), 4096);
        assert_eq!(cpu_ranges(&[0, 1, 2, 3, 6]), "0-3,6");
        assert_eq!(cpu_ranges(&[]), "");
    }

    #[test]
    fn numbered_names_are_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in ["hwmon10", "hwmon2", "name"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        assert_eq!(names(root.path(), "."), ["hwmon2", "hwmon10", "name"]);
        assert!(names(root.path(), "nowhere").is_empty());
    }
}
