//! Other implementations of the Mainline DHT, and ours, against each other on loopback.
//!
//! Tests that need Python or Node.js are ignored until `tests/interop/setup.sh` has been run; then
//! `cargo test -p dht-tests --test interop -- --include-ignored` runs everything.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print their table"
)]

use std::fs;
use std::path::Path;

use dht_tests::interop::address::Network;
use dht_tests::interop::krpc::Probe;
use dht_tests::interop::limits::REASONS;
use dht_tests::interop::report::Report;
use dht_tests::interop::scenario::{self, Outcome, Swarm};
use dht_tests::interop::{Kind, Lab, Mutable};
use ed25519_dalek::SigningKey;

/// Runs every pair of `strangers` through a swarm, prints the table, and compares each cell with
/// the known limits and the table with the one in the documentation.
fn check(network: Network, swarm: Kind, strangers: &[Kind]) {
    let cells = scenario::run(&Lab::default(), network, swarm, strangers).unwrap();
    let report = Report::new(&cells);
    println!("through a swarm of {swarm}:\n{report}");
    for cell in &cells {
        if let Outcome::Failed(why) | Outcome::Unsupported(why) = &cell.outcome {
            let operation = cell.operation.name();
            println!("{} -> {}, {operation}: {why}", cell.writer, cell.reader);
        }
    }
    let surprises: Vec<_> = report.surprises().collect();
    assert!(surprises.is_empty(), "otherwise than docs/INTEROP.md says: {surprises:#?}");
    if strangers == Kind::ALL || strangers == Kind::IPV6 {
        let table = report.to_string();
        assert!(documentation().contains(&table), "not the table of docs/INTEROP.md:\n{table}");
    }
}

fn documentation() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/INTEROP.md");
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_limit_is_explained_in_the_documentation() {
    let text = documentation();
    for reason in REASONS {
        assert!(text.contains(reason), "docs/INTEROP.md does not say that {reason}");
    }
}

/// Servers by themselves, asked without any client in between.
fn check_refusals(kind: Kind) {
    let lab = Lab::default();
    let swarm = Swarm::start(&lab, Network::V4, kind).unwrap();
    let probe = Probe::new(Network::V4).unwrap();
    let item = |seq, cas| Mutable {
        key: SigningKey::from_bytes(&[9; 32]),
        salt: b"probe".to_vec(),
        seq,
        cas,
        value: format!("version {seq}").into_bytes(),
    };
    for server in swarm.addrs() {
        let put = |item: &Mutable| probe.put(server, item).unwrap().map_err(|(code, _)| code);
        assert_eq!(put(&item(5, None)), Ok(()), "{kind}: the first version");
        assert_eq!(put(&item(6, Some(5))), Ok(()), "{kind}: a newer one");
        assert_eq!(put(&item(7, Some(5))), Err(301), "{kind}: not the version it names");
        assert_eq!(put(&item(4, None)), Err(302), "{kind}: an older one");
        let kept = probe.get(server, item(0, None).id()).unwrap().unwrap();
        assert_eq!((kept.seq, kept.value), (6, b"version 6".to_vec()), "{kind}");
    }
}

#[test]
fn mainline_servers_refuse_by_code() {
    check_refusals(Kind::Mainline);
}

#[test]
fn our_servers_refuse_by_code() {
    check_refusals(Kind::Ours);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn libtorrent_servers_refuse_by_code() {
    check_refusals(Kind::Libtorrent);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn bittorrent_dht_servers_refuse_by_code() {
    check_refusals(Kind::BittorrentDht);
}

#[test]
fn mainline_and_we_meet_in_a_mainline_swarm() {
    check(Network::V4, Kind::Mainline, &[Kind::Mainline, Kind::Ours]);
}

#[test]
fn mainline_and_we_meet_in_our_swarm() {
    check(Network::V4, Kind::Ours, &[Kind::Mainline, Kind::Ours]);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_libtorrent_swarm() {
    check(Network::V4, Kind::Libtorrent, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_bittorrent_dht_swarm() {
    check(Network::V4, Kind::BittorrentDht, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_mainline_swarm() {
    check(Network::V4, Kind::Mainline, &Kind::ALL);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_our_swarm() {
    check(Network::V4, Kind::Ours, &Kind::ALL);
}

#[test]
fn mainline_and_we_meet_in_a_swarm_of_daemons() {
    check(Network::V4, Kind::Command, &[Kind::Mainline, Kind::Ours, Kind::Command]);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_swarm_of_daemons() {
    check(Network::V4, Kind::Command, &Kind::ALL);
}

#[test]
fn our_daemons_refuse_by_code() {
    check_refusals(Kind::Command);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_over_ipv6_in_our_swarm() {
    check(Network::V6, Kind::Ours, &Kind::IPV6);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_over_ipv6_in_a_libtorrent_swarm() {
    check(Network::V6, Kind::Libtorrent, &Kind::IPV6);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_over_ipv6_in_a_swarm_of_daemons() {
    check(Network::V6, Kind::Command, &Kind::IPV6);
}
