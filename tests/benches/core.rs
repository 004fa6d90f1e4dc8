//! Instructions of the core alone: a datagram in, the reply encoded.
//!
//! Wall time is noise on shared machines, instruction counts are not. Run without arguments, this
//! program runs itself under callgrind with N and 2N repetitions of each query and prints the
//! difference per repetition: `cargo bench -p dht-tests --bench core`. Needs valgrind.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::process::Command;
use std::sync::Arc;

use dht_proto::MAX_DATAGRAM;
use dht_proto::config::{Config, Mode};
use dht_proto::id::{NodeId, Target};
use dht_proto::wire::{Method, decode};
use dht_tests::populate::{announce_peers, full_table, query_from};
use dht_tests::world::World;

const REPETITIONS: usize = 1_000;

/// Name, most instructions allowed.
const CASES: &[(&str, u64)] = &[
    ("decode_find_node", 900),
    ("ping", 2_500),
    ("find_node", 2_250),
    ("find_node_not_ro", 2_250),
    ("get_peers_50", 6_000),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, case, repetitions] = &args[..]
        && let Ok(repetitions) = repetitions.parse()
    {
        return run(case, repetitions);
    }
    println!("{:<18} {:>12} {:>8}", "query", "instructions", "limit");
    let mut failed = false;
    for (case, limit) in CASES {
        let per = (count(case, 2 * REPETITIONS) - count(case, REPETITIONS)) / REPETITIONS as u64;
        println!("{case:<18} {per:>12} {limit:>8}");
        failed |= per > *limit;
    }
    assert!(!failed, "over the limit");
}

/// Instructions of this program with that many repetitions of a case.
fn count(case: &str, repetitions: usize) -> u64 {
    let this = std::env::current_exe().expect("own path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([case, &repetitions.to_string()])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    collected.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

fn run(case: &str, repetitions: usize) {
    let mut config = Config::default();
    config.mode = Mode::Server;
    config.subnet_bytes_per_sec = u32::MAX / 2;
    config.subnet_burst_bytes = u32::MAX / 2;
    config.total_bytes_per_sec = u32::MAX / 2;
    // Filling the table takes longer than a contact may be silent.
    config.ping_after = std::time::Duration::from_secs(24 * 60 * 60);
    let per_bucket = [128, 64, 32, 16, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8];
    let (mut dht, now) = full_table(&Arc::new(config), &per_bucket);
    assert!(dht.stats().contacts > 300, "{} contacts", dht.stats().contacts);
    let hot = Target::from_bytes([0x5a; 20]);
    announce_peers(&mut dht, now, hot.info_hash(), 60);
    let from = World::v4(20_000);
    let mut reply = [0; MAX_DATAGRAM];
    // Made beforehand, so that making them is not counted.
    let queries: Vec<_> = (0..256).map(|i| datagram(case, i, hot)).collect();
    for datagram in queries.iter().cycle().take(repetitions) {
        if case == "decode_find_node" {
            std::hint::black_box(decode(std::hint::black_box(datagram)).is_ok());
        } else {
            let sent = dht.handle_datagram(now, from, datagram, &mut reply);
            assert!(std::hint::black_box(sent).is_some(), "unanswered");
        }
    }
}

/// The i-th query of a case: targets all over the key space, so that every depth of the table is met.
fn datagram(case: &str, i: u64, hot: Target) -> Vec<u8> {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let target = Target::from_bytes(bytes);
    let info_hash = hot.info_hash();
    let (is_ro, method) = match case {
        "ping" => (true, Method::Ping),
        "find_node" | "decode_find_node" => (true, Method::FindNode { target }),
        "find_node_not_ro" => (false, Method::FindNode { target }),
        "get_peers_50" => (true, Method::GetPeers { info_hash, noseed: false, scrape: false }),
        _ => panic!("no such case: {case}"),
    };
    query_from(NodeId::from_bytes([9; 20]), is_ro, method)
}
