//! Rules 6 and 12: memory is bounded, and an idle node is small.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::sync::Arc;

use dht_proto::Dht;
use dht_proto::config::{Config, Mode};
use dht_proto::time::Instant;
use dht_tests::populate::{full_table, full_table_after_work};

/// What an idle node may take up, allocator included, so that 10^6 of them fit in 6.5 GB.
const MOST: usize = 6_500;
/// What an allocator adds to an allocation, header and rounding, at most on average.
const PER_ALLOCATION: usize = 16;

/// Makes a node and measures what it takes up then.
fn measured(what: &str, make: impl FnOnce(&Arc<Config>) -> (Dht, Instant)) -> usize {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(make(&config)));
    let (dht, _) = kept.unwrap();
    let contacts = dht.stats().contacts;
    assert_eq!(contacts, 144);
    let heap = usize::try_from(counted.bytes_current).unwrap();
    let allocations = usize::try_from(counted.count_current).unwrap();
    let (own, overhead) = (size_of::<Dht>(), allocations * PER_ALLOCATION);
    println!(
        "{what}, {contacts} contacts: {heap} B in {allocations} allocations + {own} B = {} B, \
         {} B with the allocator's share",
        heap + own,
        heap + own + overhead
    );
    heap + own + overhead
}

#[test]
fn rule_12_an_idle_node_is_small() {
    let total = measured("idle", |config| full_table(config, &[8; 18]));
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn rule_12_a_node_gives_memory_back_after_work() {
    let total = measured("idle again", |config| full_table_after_work(config, &[8; 18]));
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn the_memory_ceiling_covers_what_a_flood_can_fill() {
    let config = Config::default();
    let ceiling = config.memory_ceiling();
    println!("{} MB", ceiling >> 20);
    assert!(ceiling > config.max_torrents * config.max_peers_per_torrent * 6, "stores count");
    assert!(ceiling < 700 << 20, "a default node fits a small machine: {} MB", ceiling >> 20);
}
