//! The source text itself: file and function length, and words that must not stay.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files of the workspace, without build output.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = ["crates", "tests", "fuzz"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules", ".venv"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 40, "the walk finds the workspace");
    files.sort();
    files
}

/// `(name, lines)` of every function: from its `fn` line to the closing brace at the same indent.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_fn =
            ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn ", "async fn "]
                .iter()
                .any(|prefix| code.starts_with(prefix))
                || (code.starts_with("pub") && code.contains(" fn "));
        if !is_fn {
            continue;
        }
        let indent = line.len() - code.len();
        let close = format!("{}}}", " ".repeat(indent));
        let rest = lines.get(start..).unwrap_or_default();
        let head = rest.iter().find(|line| line.ends_with('{') || line.ends_with(';'));
        if head.is_some_and(|line| line.ends_with(';')) {
            // A declaration in a trait has no body.
            continue;
        }
        if let Some(len) = rest.iter().position(|line| *line == close) {
            let name = code.split('(').next().unwrap_or_default().to_owned();
            found.push((name, len + 1));
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
        for (name, lines) in functions(&text) {
            if lines > MAX_FUNCTION_LINES {
                long.push(format!("{}: `{name}` has {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn the_function_counter_counts() {
    let text = "impl A {\n    pub fn long(\n        &self,\n    ) {\n        x();\n    }\n}\nfn f() {\n}\n";
    assert_eq!(functions(text), [("pub fn long".to_owned(), 5), ("fn f".to_owned(), 2)]);
    assert!(functions("trait A {\n    fn f(\n        &self,\n    );\n    x\n    }\n").is_empty());
}

#[test]
fn every_crate_forbids_unsafe_code_and_inherits_the_lints() {
    for folder in ["crates", "."].map(|name| root().join(name)) {
        for entry in fs::read_dir(folder).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&manifest) else { continue };
            if text.contains("[package]") {
                assert!(text.contains("[lints]\nworkspace = true"), "{}", manifest.display());
            }
        }
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
}

/// A mutant that no longer fits the core proves nothing, and the run that would tell takes long.
#[test]
fn every_mutant_fits_the_core() {
    let mut fit = 0;
    for entry in fs::read_dir(root().join("tests/mutants")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let mut git = Command::new("git");
        let tried = git.args(["apply", "--check"]).arg(&path).current_dir(root()).output().unwrap();
        assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
        fit += 1;
    }
    assert!(fit >= 20, "{fit} mutants");
}

#[test]
fn no_loose_ends() {
    // Spelled in pieces, so that this file passes its own test.
    let words = [["to", "do!"], ["TO", "DO"], ["FIX", "ME"], ["unimpl", "emented!"], ["db", "g!("]];
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for word in words.map(|parts| parts.concat()) {
            assert!(!text.contains(&word), "{} contains {word}", path.display());
        }
    }
}
