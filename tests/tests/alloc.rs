//! Rule 11: the served path (decode, look up, encode the reply) allocates nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::id::{InfoHash, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Lookup};
use dht_proto::time::Instant;
use dht_proto::wire::Method;
use dht_proto::{Dht, MAX_DATAGRAM};
use dht_tests::populate::query;
use dht_tests::world::World;

/// A node with contacts, peers and an item.
fn populated() -> (World, usize, Item) {
    let mut world = World::of_servers(1, 40);
    world.run_for(Duration::from_secs(300));
    let info_hash = InfoHash::from_bytes([1; 20]);
    for i in 1..30 {
        let (port, seed) = (AnnouncePort::Implied, i % 2 == 0);
        world.look_up(i, &Lookup::Announce { info_hash, port, seed });
    }
    let item = Item::immutable(b"12:Hello World!").unwrap();
    world.look_up(3, &Lookup::PutItem { item: Box::new(item.clone()), cas: None });
    let holds = |i: &usize| world.node(*i).stats().peers > 10 && world.node(*i).stats().items > 0;
    let node = (0..40).find(holds).unwrap_or(0);
    (world, node, item)
}

#[test]
fn rule_11_the_served_path_allocates_nothing() {
    let (mut world, node, item) = populated();
    let target = Target::from_bytes([1; 20]);
    let info_hash = target.info_hash();
    let queries = [
        ("ping", query(Method::Ping)),
        ("find_node", query(Method::FindNode { target })),
        ("get_peers", query(Method::GetPeers { info_hash, noseed: false, scrape: false })),
        ("scrape", query(Method::GetPeers { info_hash, noseed: false, scrape: true })),
        ("get", query(Method::Get { target: item.id(), seq: None })),
        ("unknown", query(Method::Unknown { name: b"vote", target: Some(target) })),
        ("bad", b"d1:ade1:q4:ping1:t2:xy1:y1:qe".to_vec()),
        ("garbage", b"d1:ad2:id".to_vec()),
    ];
    let from = SocketAddr::from(([88, 1, 2, 3], 6881));
    let now = world.now();
    let answer = |dht: &mut Dht, now: Instant, bytes: &[u8]| {
        let mut reply = [0; MAX_DATAGRAM];
        dht.handle_datagram(now, from, bytes, &mut reply).map(|sent| sent.len)
    };
    world.with(node, |dht, _| {
        for (name, bytes) in &queries {
            // The first contact of a source may make room for its budget.
            let _ = answer(dht, now, bytes);
            let mut len = None;
            let counted = allocation_counter::measure(|| len = answer(dht, now, bytes));
            assert_eq!(counted.count_total, 0, "{name} allocated");
            assert_eq!(len.is_some(), *name != "garbage", "{name} was answered");
        }
    });
}

/// The counter counts: a test that cannot fail proves nothing.
#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(counted.count_total, 1);
}
