//! Fills a node by talking to it: a full table, stored peers, stored items.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::{InfoHash, NodeId};
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::Lookup;
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Message, Method, Put, Query, Reply, Want, decode};
use dht_proto::{Dht, Networks};

use crate::hand::deliver;
use crate::script::{Answer, encode};
use crate::world::World;

/// The number of the node's address.
const OURS: usize = 29_999;

/// An IPv4 node whose table holds `per_bucket[i]` contacts in bucket i, one /24 each, and the time at
/// which everything it did to get there is over.
///
/// # Panics
/// If the node does not take them.
#[must_use]
pub fn full_table(config: &Arc<Config>, per_bucket: &[usize]) -> (Dht, Instant) {
    let (world, ours) = filled(config, per_bucket);
    at_rest(world, ours)
}

/// Like [`full_table`], after a busy phase: many lookups at a time, queries from many networks, one of
/// which asks more than it is given; and then nearly half an hour in which nothing happens. After that
/// an adaptive node would look out for strangers again.
///
/// # Panics
/// If the node does not take part.
#[must_use]
pub fn full_table_after_work(config: &Arc<Config>, per_bucket: &[usize]) -> (Dht, Instant) {
    let (mut world, ours) = filled(config, per_bucket);
    for i in 0..200 {
        let target = NodeId::from_bytes([i; 20]);
        world.start(ours, &Lookup::FindNode { target });
    }
    let ask = query(Method::FindNode { target: NodeId::from_bytes([7; 20]).target() });
    for i in 0..20_000 {
        let asker = World::v4(30_000 + if i % 2 == 0 { i } else { 0 });
        world.send(asker, World::v4(OURS), &ask);
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.node(ours).stats().throttled > 0, "the loud one has used up its budget");
    world.run_for(Duration::from_secs(29 * 60 - 1));
    let stats = world.node(ours).stats();
    assert!(stats.lookups == 200 && stats.lookups_running == 0);
    at_rest(world, ours)
}

/// A node as soon as it waits for no answer: with many contacts it pings one of them every few
/// seconds.
fn at_rest(mut world: World, ours: usize) -> (Dht, Instant) {
    for _ in 0..100 {
        if world.node(ours).stats().in_flight == 0 {
            return world.into_node(ours);
        }
        world.run_for(Duration::from_millis(100));
    }
    panic!("it always waits for somebody");
}

/// A world in which a node has met contacts that know nobody else.
fn filled(config: &Arc<Config>, per_bucket: &[usize]) -> (World, usize) {
    let mut world = World::new(1);
    let dht = Dht::new(config.clone(), Networks::V4, &Seed::from_bytes([1; 32]), world.now());
    let own = dht.node_id(Family::V4).expect("an IPv4 node");
    let ours = world.add_dht(&[World::v4(OURS)], dht);
    let mut hosts = 0..;
    for (bucket, contacts) in per_bucket.iter().enumerate() {
        for (i, number) in (0..*contacts).zip(&mut hosts) {
            let host = World::v4(number.into());
            let id = id_in_bucket(own, bucket, i as u8, number);
            world.script(
                host,
                Box::new(move |heard| vec![Answer::new(id).encode(heard.message.tid)]),
            );
            world.with(ours, |dht, now| dht.add_contact(now, host, Some(id)));
            world.run_for(Duration::from_secs(8));
        }
    }
    world.run_for(Duration::from_secs(200));
    (world, ours)
}

/// An id with exactly `bucket` leading bits in common with `own`, the next bits spread by `i`.
fn id_in_bucket(own: NodeId, bucket: usize, i: u8, tail: u16) -> NodeId {
    let mut id = *own.as_bytes();
    let flip = |id: &mut [u8; 20], bit: usize| id[bit / 8] ^= 0x80 >> (bit % 8);
    flip(&mut id, bucket);
    for bit in 0..7 {
        if i.reverse_bits() >> (7 - bit) & 1 == 1 {
            flip(&mut id, bucket + 1 + bit);
        }
    }
    [id[18], id[19]] = tail.to_be_bytes();
    NodeId::from_bytes(id)
}

/// A query as bytes, from a node that asks not to be contacted.
///
/// # Panics
/// If it does not fit a datagram.
#[must_use]
pub fn query(method: Method<'_>) -> Vec<u8> {
    query_from(NodeId::from_bytes([9; 20]), true, method)
}

/// A query as bytes, from the node with this id, which asks not to be contacted if it is `read_only`.
///
/// # Panics
/// If it does not fit a datagram.
#[must_use]
pub fn query_from(id: NodeId, read_only: bool, method: Method<'_>) -> Vec<u8> {
    let body = Body::Query(Query { id, want: Want::default(), method });
    let (tid, version, ip) = (&b"abcd"[..], Some(&b"LT21"[..]), None);
    encode(&Message { tid, version, ip, read_only, unsorted: false, body })
}

/// Announces `n` peers from as many networks.
///
/// # Panics
/// If the node refuses.
pub fn announce_peers(dht: &mut Dht, now: Instant, info_hash: InfoHash, n: usize) {
    for i in 0..n {
        // No network holds more than its share, whatever else is announced.
        let from = World::v4(10_000 + 256 * i + usize::from(info_hash.as_bytes()[0]));
        announce_peer(dht, now, from, info_hash);
    }
}

/// Announces the peer at `from`.
///
/// # Panics
/// If the node refuses.
pub fn announce_peer(dht: &mut Dht, now: Instant, from: SocketAddr, info_hash: InfoHash) {
    let get_peers = Method::GetPeers { info_hash, noseed: false, scrape: false };
    let token = &token(dht, now, from, get_peers);
    let (port, implied_port, seed) = (6881, false, false);
    let announce = Method::AnnouncePeer { info_hash, port, implied_port, seed, token };
    write(dht, now, from, announce);
}

/// Puts `n` immutable items of the greatest length from as many networks.
///
/// # Panics
/// If the node refuses.
pub fn put_items(dht: &mut Dht, now: Instant, n: usize) {
    for i in 0..n {
        // Each /16 has its quota.
        put_item(dht, now, World::v4(10_000 + 256 * i), i as u64);
    }
}

/// Puts an immutable item of the greatest length, another one for each number.
///
/// # Panics
/// If the node refuses.
pub fn put_item(dht: &mut Dht, now: Instant, from: SocketAddr, number: u64) {
    let mut bytes = [0; 996];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let item = Item::immutable(&bencode_bytes(&bytes)).expect("it is short enough");
    let token = &token(dht, now, from, Method::Get { target: item.id(), seq: None });
    write(dht, now, from, Method::Put(Put { token, v: item.value(), mutable: None }));
}

/// The token in the answer to a read.
fn token(dht: &mut Dht, now: Instant, from: SocketAddr, read: Method<'_>) -> Vec<u8> {
    let answer = deliver(dht, now, from, &query(read)).expect("an answer");
    match decode(&answer).expect("a message").body {
        Body::Reply(Reply { token: Some(token), .. }) => token.to_vec(),
        other => panic!("no token: {other:?}"),
    }
}

/// Sends a write, which must be acknowledged.
fn write(dht: &mut Dht, now: Instant, from: SocketAddr, write: Method<'_>) {
    let answer = deliver(dht, now, from, &query(write)).expect("an answer");
    let body = decode(&answer).expect("a message").body;
    assert!(matches!(body, Body::Reply(_)), "{body:?}");
}
