//! Rules of the house that the compiler does not check: the length of files, and what library code
//! must not contain. `make check` has clippy say the same of single lines, with more understanding;
//! here they hold wherever the tests run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have. Above 400, think of splitting it by what it is about.
const BUDGET: usize = 700;

/// Folders with Rust or WGSL sources.
const SOURCES: &[&str] = &["runtime", "export", "devices", "search", "src", "tests", "benches", "examples"];

/// Library sources. The agent is a program, and may print.
const LIBRARIES: &[&str] = &["runtime/src", "export/src", "devices/src", "search/src"];
const PROGRAMS: &str = "/bin/";

/// What a library must not contain outside its tests, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    (".unwrap()", "return an error"),
    (".expect(", "return an error"),
    ("panic!(", "return an error"),
    ("todo!(", "nothing unfinished is called done"),
    ("unimplemented!(", "refuse with an error that names what is not supported"),
    ("println!(", "a library prints nothing; use tracing"),
    ("eprintln!(", "a library prints nothing; use tracing"),
    ("print!(", "a library prints nothing; use tracing"),
    ("dbg!(", "a library prints nothing; use tracing"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        if path.is_dir() {
            if !path.ends_with("target") {
                files(&path, extensions, found);
            }
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
}

/// Rust text with comments, strings and character literals blanked, line for line.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let starts = |at: usize, what: &str| bytes[at..].starts_with(what.as_bytes());
    while at < bytes.len() {
        let end = if starts(at, "//") {
            text[at..].find('\n').map_or(bytes.len(), |n| at + n)
        } else if starts(at, "/*") {
            block_comment_end(bytes, at)
        } else if let Some(end) = raw_string_end(text, at) {
            end
        } else if bytes[at] == b'"' {
            quoted_end(bytes, at, b'"')
        } else if bytes[at] == b'\'' && is_character(text, at) {
            quoted_end(bytes, at, b'\'')
        } else {
            let length = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + length]);
            at += length;
            continue;
        };
        out.extend(text[at..end].chars().filter(|c| *c == '\n'));
        out.push(' ');
        at = end;
    }
    out
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn raw_string_end(text: &str, at: usize) -> Option<usize> {
    let before = text[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let rest = text[at..].strip_prefix('b').unwrap_or(&text[at..]).strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let start = text.len() - body.len();
    let close = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&close).map_or(text.len(), |n| start + n + close.len()))
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// Whether an apostrophe opens a character and not a lifetime.
fn is_character(text: &str, at: usize) -> bool {
    let mut rest = text[at + 1..].chars();
    rest.next() == Some('\\') || rest.next() == Some('\'')
}

/// How an item begins that only tests see.
const TEST_ITEMS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];

/// Code without the items that only tests see, line for line.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = TEST_ITEMS.iter().filter_map(|start| rest.find(start)).min() {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        // An item ends with its outermost closing brace, or with a semicolon before any brace.
        let (mut depth, mut end) = (0usize, item.len());
        for (n, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth <= 1 => {
                    end = n + 1;
                    break;
                }
                '}' => depth -= 1,
                ';' if depth == 0 => {
                    end = n + 1;
                    break;
                }
                _ => {}
            }
        }
        out.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    out + rest
}

/// Line, what stands there, and what to do.
fn faults(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let code = without_tests(&code_only(text));
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        for (what, advice) in FORBIDDEN {
            let whole_word = |at: usize| {
                what.starts_with('.') || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            };
            if line.match_indices(what).any(|(at, _)| whole_word(at)) {
                found.push((number, *what, *advice));
            }
        }
    }
    found
}

/// Files that a source declares with `#[cfg(test)] mod name;`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = path.with_extension("");
    let beside = path.parent().unwrap_or(path);
    let mut found = Vec::new();
    for declared in code_only(text).split("#[cfg(test)]").skip(1) {
        let words: Vec<&str> =
            declared.split([';', '{']).next().unwrap_or_default().split_whitespace().collect();
        let ends_first = declared.find(';').unwrap_or(usize::MAX) < declared.find('{').unwrap_or(usize::MAX);
        if let [.., "mod", name] = words.as_slice()
            && ends_first
        {
            for base in [beside, &folder] {
                found.extend([base.join(format!("{name}.rs")), base.join(name).join("mod.rs")]);
            }
        }
    }
    found
}

#[test]
fn files_keep_to_their_length() {
    let mut all = Vec::new();
    SOURCES.iter().for_each(|f| files(&root().join(f), &["rs", "wgsl"], &mut all));
    assert!(all.len() > 20, "the sources are found: {}", all.len());
    let long: Vec<String> = all
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path).unwrap().lines().count();
            (lines > BUDGET).then(|| format!("{}: {lines} lines, at most {BUDGET}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split by what they are about:\n{}", long.join("\n"));
}

#[test]
fn libraries_neither_panic_nor_print() {
    let mut all = Vec::new();
    LIBRARIES.iter().for_each(|f| files(&root().join(f), &["rs"], &mut all));
    all.sort();
    let texts: Vec<(PathBuf, String)> =
        all.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    let tests: BTreeSet<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let mut wrong = Vec::new();
    for (path, text) in &texts {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        // What is called `tests` is led to by `#[path]` or by the `tests` module in front of it.
        let called_tests = shown.contains("/tests/") || shown.ends_with("tests.rs");
        if tests.contains(path) || called_tests || shown.contains(PROGRAMS) {
            continue;
        }
        for (line, what, advice) in faults(text) {
            wrong.push(format!("{shown}:{line}: {what} ({advice})"));
        }
    }
    assert!(wrong.is_empty(), "in library code:\n{}", wrong.join("\n"));
}

#[test]
fn the_scanner_finds_what_is_forbidden_and_nothing_else() {
    let good = r##"
//! A crate that never calls .unwrap() and says so in println!("...") comments.
/* panic!( /* nested */ .expect( */
fn good<'a>(text: &'a str) -> char {
    let _ = "a \" string with .unwrap() and // no comment";
    let _ = r#"raw "quoted" panic!("no")"#;
    let _ = text.unwrap_or_default();
    debug_dbg!(1);
    '"'
}
#[cfg(test)]
mod tests {
    fn helper() { Some(1).unwrap(); println!("}}"); }
    #[test]
    fn one() { { panic!("brace: {{") } }
}
#[cfg(test)]
mod elsewhere;
"##;
    assert_eq!(faults(good), []);
    let bad = "fn a() {\n    x.unwrap();\n}\n#[cfg(test)]\nmod t { fn b() { x.unwrap() } }\n\
               fn c<'a>(q: char) { if q == '\\'' { y.expect(\"no\") }\n    eprintln!(\"z\"); }\n";
    let lines: Vec<(usize, &str)> = faults(bad).into_iter().map(|(line, what, _)| (line, what)).collect();
    let declared = "mod a;\n#[cfg(test)]\n#[path = \"x\"]\nmod b;\n#[cfg(test)]\nmod c { mod d; }\n\
                    #[cfg(test)]\npub mod e;";
    let found = test_modules(Path::new("s/lib.rs"), declared);
    assert!(
        found.contains(&"s/b.rs".into()) && found.contains(&"s/e/mod.rs".into()) && found.len() == 8,
        "{found:?}"
    );
    assert_eq!(lines, [(2, ".unwrap()"), (6, ".expect("), (7, "eprintln!(")]);
}
