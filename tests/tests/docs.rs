//! What the documentation names exists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The functions of every Rust file below a directory, under the file's stem.
fn collect(directory: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
            let names = names.filter_map(|rest| rest.split('(').next()).map(str::to_owned);
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.entry(stem).or_default().extend(names);
        }
    }
}

/// The code spans of a page.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_file_name(span: &str) -> bool {
    Path::new(span).extension().is_some_and(|extension| extension == "rs")
}

#[test]
fn tests_named_in_the_protocol_page_exist() {
    let mut found = BTreeMap::new();
    for directory in ["crates", "tests/tests", "fuzz/tests"] {
        collect(&root().join(directory), &mut found);
    }
    let page = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let named: Vec<_> = spans(&page).filter_map(|span| span.split_once("::")).collect();
    assert!(named.len() > 250, "{} tests are named", named.len());
    let lost = named.iter().filter(|(file, test)| {
        file.starts_with(char::is_lowercase)
            && !found.get(*file).is_some_and(|names| names.contains(*test))
    });
    let lost: Vec<_> = lost.collect();
    assert!(lost.is_empty(), "no such test: {lost:#?}");
}

#[test]
fn files_named_in_the_pages_exist() {
    let core = root().join("crates/dht-proto/src");
    for page in ["PROTOCOL.md", "ARCHITECTURE.md", "DESIGN.md", "TESTING.md"] {
        let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
        for span in spans(&text).filter(|span| is_file_name(span)) {
            let exists = core.join(span).is_file() || root().join(span).is_file();
            assert!(exists, "{page}: no file {span}");
        }
    }
}
