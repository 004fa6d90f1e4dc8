//! Other implementations of the Mainline DHT, and ours, against each other on loopback.
//!
//! Tests that need Python or Node.js are ignored until `tests/interop/setup.sh` has been run; then
//! `cargo test -p dht-tests --test interop -- --include-ignored` runs everything.

use dht_tests::interop::report::Report;
use dht_tests::interop::scenario::{self, Outcome};
use dht_tests::interop::{Kind, Lab};

/// Runs every pair of `strangers` through a swarm, prints the table, and compares each cell with
/// the known limits.
fn check(swarm: Kind, strangers: &[Kind]) {
    let cells = scenario::run(&Lab::default(), swarm, strangers).unwrap();
    let report = Report::new(&cells);
    println!("{report}");
    for cell in &cells {
        if let Outcome::Failed(why) | Outcome::Unsupported(why) = &cell.outcome {
            let operation = cell.operation.name();
            println!("  {} -> {}, {operation}: {why}", cell.writer, cell.reader);
        }
    }
    let surprises: Vec<_> = report.surprises().collect();
    assert!(surprises.is_empty(), "otherwise than docs/INTEROP.md says: {surprises:#?}");
}

#[test]
fn mainline_and_we_meet_in_a_mainline_swarm() {
    check(Kind::Mainline, &[Kind::Mainline, Kind::Ours]);
}

#[test]
fn mainline_and_we_meet_in_our_swarm() {
    check(Kind::Ours, &[Kind::Mainline, Kind::Ours]);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_libtorrent_swarm() {
    check(Kind::Libtorrent, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_bittorrent_dht_swarm() {
    check(Kind::BittorrentDht, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_mainline_swarm() {
    check(Kind::Mainline, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_our_swarm() {
    check(Kind::Ours, &Kind::ALL);
}
