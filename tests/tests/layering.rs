//! Who may import what (docs/ARCHITECTURE.md, "Layers").

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace crates that a crate's manifest names, outside dev-dependencies.
fn workspace_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut counts = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            counts = line.contains("dependencies]") && !line.contains("dev-dependencies");
        } else if counts && line.starts_with("dht-") {
            names.insert(line.split(['.', ' ', '=']).next().unwrap().to_owned());
        }
    }
    names
}

#[test]
fn crates_depend_downwards_only() {
    let allowed: &[(&str, &[&str])] = &[
        ("dht-proto", &[]),
        ("dht-driver", &["dht-proto"]),
        ("dht-net", &["dht-proto", "dht-driver"]),
        ("dht-mio", &["dht-proto", "dht-driver", "dht-net"]),
        ("dht-pkarr", &["dht-proto"]),
        ("dht-pkarr-client", &["dht-proto", "dht-pkarr", "dht-mio", "dht-smol"]),
        ("dht-relay", &["dht-proto", "dht-driver", "dht-net", "dht-pkarr", "dht-pkarr-client"]),
        ("dht-sim", &["dht-proto"]),
        ("dht-smol", &["dht-proto", "dht-driver", "dht-net"]),
        ("dht-testnet", &["dht-proto", "dht-driver", "dht-net", "dht-sim"]),
        (
            "dht-cli",
            &[
                "dht-proto",
                "dht-net",
                "dht-mio",
                "dht-smol",
                "dht-pkarr",
                "dht-pkarr-client",
                "dht-relay",
                "dht-testnet",
            ],
        ),
    ];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let Some((_, allowed)) = allowed.iter().find(|(known, _)| *known == name) else {
            panic!("{name} has no row in this test: say what it may import");
        };
        for dependency in workspace_dependencies(&manifest) {
            assert!(allowed.contains(&dependency.as_str()), "{name} imports {dependency}");
        }
    }
}

/// What cargo says that a crate depends on, itself first: one line for each crate and version.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The same from cargo's own view, which also sees renamed and target-specific dependencies.
#[test]
fn cargo_metadata_agrees() {
    for package in ["dht-proto", "dht-pkarr"] {
        let tree = tree(package);
        assert!(tree[0].starts_with(package), "{}", tree[0]);
        for name in ["dht-mio", "dht-driver", "mio ", "getrandom", "nix ", "socket2", "libc "] {
            let found = tree.iter().find(|line| line.starts_with(name));
            assert_eq!(found, None, "of {package}");
        }
    }
}

/// Users of the reference implementation ask for signed records without 170 crates.
#[test]
fn pkarr_alone_is_light() {
    let crates: BTreeSet<_> = tree("dht-pkarr").into_iter().collect();
    assert!(crates.len() <= 35, "{crates:#?}");
}

/// The `crate::` modules that a file of dht-proto imports, tests left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.match_indices("crate::")
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn modules_of_the_core_keep_their_layers() {
    let src = root().join("crates/dht-proto/src");
    let shared = [
        "addr",
        "ahead",
        "bloom",
        "config",
        "footprint",
        "id",
        "item",
        "outbox",
        "request",
        "rtt",
        "seed",
        "seen",
        "stats",
        "time",
        "MAX_DATAGRAM",
    ];
    let rules: &[(&str, &[&str])] = &[
        ("wire", &["addr", "id", "time"]),
        ("table", &[]),
        ("transactions", &[]),
        ("lookup", &["wire"]),
        ("server", &["wire"]),
        ("role", &[]),
        ("voter", &[]),
    ];
    for (module, extra) in rules {
        let mut files = vec![src.join(format!("{module}.rs"))];
        let mut folders = vec![src.join(module)];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
                let inside = path.strip_prefix(&src).unwrap();
                let in_tests = inside.components().any(|part| part.as_os_str() == "tests");
                if path.is_dir() {
                    folders.push(path);
                } else if !is_test && !in_tests {
                    files.push(path);
                }
            }
        }
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text) {
                let own = import == *module;
                let shared = *module != "wire" && shared.contains(&import.as_str());
                assert!(
                    own || shared || extra.contains(&import.as_str()),
                    "{} imports crate::{import}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_core_is_no_std_and_the_clock_belongs_to_the_runtimes() {
    for krate in ["dht-proto", "dht-pkarr"] {
        let src = fs::read_to_string(root().join("crates").join(krate).join("src/lib.rs")).unwrap();
        assert!(src.contains("#![no_std]"), "{krate}");
    }
    for krate in ["dht-proto", "dht-pkarr", "dht-driver"] {
        let mut folders = vec![root().join("crates").join(krate).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                for word in ["UdpSocket", "Instant::now()", "SystemTime", "getrandom"] {
                    let named = code
                        .lines()
                        .any(|line| line.contains(word) && !line.trim_start().starts_with("//"));
                    assert!(!named, "{} names {word}", path.display());
                }
            }
        }
    }
}
