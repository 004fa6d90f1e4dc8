//! Bodies of the fuzz targets, as ordinary functions.
//!
//! `cargo +nightly fuzz run <target>` fuzzes. On stable, `tests/replay.rs` feeds every body its
//! corpus, and `cargo run -p dht-fuzz --bin <target> -- <files>` reproduces single inputs.
//!
//! A new target is a body here, a line in [`TARGETS`], a `[[bin]]`, a file of five lines in
//! `fuzz_targets/`, and some seeds in `corpus/<target>/`.

mod config;
mod draw;
mod hand;
mod lookup;
mod node;
mod oracle;
mod pkarr;
mod relay;
mod seal;
mod store;
mod table;
mod wire;
mod world;

use std::path::PathBuf;
use std::{env, fs, io};

pub use self::config::distort;
pub use self::lookup::lookup;
pub use self::node::{node, snapshot};
pub use self::pkarr::{name as pkarr_name, packet as pkarr_packet};
pub use self::relay::{dns as relay_dns, http as relay_http};
pub use self::store::store;
pub use self::table::table;
pub use self::wire::{decode, differential, round_trip};
pub use self::world::world;

/// The body of a fuzz target. It panics if the input shows a fault.
pub type Body = fn(&[u8]);

/// Every target: its name, which is also the name of its corpus, and its body.
pub const TARGETS: &[(&str, Body)] = &[
    ("decode", decode),
    ("differential", differential),
    ("lookup", lookup),
    ("node", node),
    ("pkarr_name", pkarr_name),
    ("pkarr_packet", pkarr_packet),
    ("relay_dns", relay_dns),
    ("relay_http", relay_http),
    ("round_trip", round_trip),
    ("snapshot", snapshot),
    ("store", store),
    ("table", table),
    ("world", world),
];

/// Runs a body on the files named on the command line.
///
/// # Errors
/// If a file cannot be read.
pub fn reproduce(body: Body) -> io::Result<()> {
    env::args_os().skip(1).try_for_each(|path| fs::read(path).map(|data| body(&data)))
}

/// The inputs kept for a target, with the path of each.
///
/// # Errors
/// If the corpus cannot be read.
pub fn corpus(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let data = fs::read(&path)?;
        inputs.push((path, data));
    }
    // Directories list their files in no order; failures should come in one.
    inputs.sort();
    Ok(inputs)
}
