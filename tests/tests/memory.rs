//! Rules 6 and 12: memory is bounded, and an idle node is small.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::sync::Arc;

use dht_proto::Dht;
use dht_proto::config::{Config, Mode};
use dht_tests::populate::full_table;

#[test]
fn an_idle_node_with_142_contacts_takes_at_most_8_kb() {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(full_table(&config, &[8; 18])));
    let (dht, _) = kept.unwrap();
    let contacts = dht.stats().contacts;
    assert!(contacts >= 142, "{contacts} contacts");
    let heap = usize::try_from(counted.bytes_current).unwrap();
    let total = heap + size_of::<Dht>();
    println!("{contacts} contacts: {heap} B heap + {} B = {total} B", size_of::<Dht>());
    assert!(total <= 8_192, "{total} bytes");
}

#[test]
fn the_memory_ceiling_covers_what_a_flood_can_fill() {
    let config = Config::default();
    let ceiling = config.memory_ceiling();
    println!("{} MB", ceiling >> 20);
    assert!(ceiling > config.max_torrents * config.max_peers_per_torrent * 6, "stores count");
    assert!(ceiling < 700 << 20, "a default node fits a small machine: {} MB", ceiling >> 20);
}
