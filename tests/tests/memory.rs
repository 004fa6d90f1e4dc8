//! Rules 6 and 12: memory is bounded, and an idle node is small.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::request::Lookup;
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Method, Query, decode};
use dht_proto::{Dht, MAX_DATAGRAM, Networks};
use dht_tests::populate::{announce_peers, full_table, full_table_after_work, put_items};
use dht_tests::script::Answer;
use dht_tests::world::World;

/// What an idle node may take up, allocator included, so that 10^6 of them fit in 6.5 GB.
const MOST: usize = 6_500;
/// What an allocator adds to an allocation, header and rounding, at most on average.
const PER_ALLOCATION: usize = 16;

/// Makes a node and measures what it takes up then.
fn measured(mode: Mode, what: &str, make: impl FnOnce(&Arc<Config>) -> (Dht, Instant)) -> usize {
    let mut config = Config::default();
    config.mode = mode;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(make(&config)));
    let (dht, _) = kept.unwrap();
    let contacts = dht.stats().contacts;
    assert_eq!(contacts, 144);
    let heap = usize::try_from(counted.bytes_current).unwrap();
    let allocations = usize::try_from(counted.count_current).unwrap();
    let (own, overhead) = (size_of::<Dht>(), allocations * PER_ALLOCATION);
    assert_eq!(dht.memory(), heap + own, "what it says itself");
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
    let total = measured(Mode::Server, "idle", |config| full_table(config, &[8; 18]));
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn rule_12_a_node_gives_memory_back_after_work() {
    let work = |config: &_| full_table_after_work(config, &[8; 18]);
    let total = measured(Mode::Server, "idle again", work);
    assert!(total <= MOST, "{total} bytes");
}

/// Whom it sent to is remembered only until strangers have proven that it can be reached.
#[test]
fn rule_12_an_adaptive_node_is_small_once_it_is_proven_reachable() {
    let work = |config: &_| full_table_after_work(config, &[8; 18]);
    let total = measured(Mode::Adaptive, "adaptive, idle again", work);
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn a_default_node_fits_a_small_machine() {
    let config = Config::default();
    let ceiling = config.memory_ceiling();
    println!("{} MB", ceiling >> 20);
    assert!(ceiling > config.max_torrents * config.max_peers_per_torrent * 6, "stores count");
    assert!(ceiling < 700 << 20, "a default node fits a small machine: {} MB", ceiling >> 20);
}

/// Makes up hosts, peers and ids, each other than all before.
struct Liar {
    made: u32,
}

impl Liar {
    fn addr(&mut self, is_v4: bool) -> SocketAddr {
        self.made += 1;
        let [a, b, c, d] = self.made.to_be_bytes();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if is_v4 {
            SocketAddr::from(([32 + b, c, d, 1], 6881))
        } else {
            SocketAddr::from(([0x2a00, high, low, 0, 0, 0, 0, 1], 6881))
        }
    }

    /// Nearer to the target than all before, so that no walk comes to its end.
    fn node(&mut self, target: Target, is_v4: bool) -> (NodeId, SocketAddr) {
        let addr = self.addr(is_v4);
        let mut id = *target.as_bytes();
        let distance = (u32::MAX - self.made).to_be_bytes();
        id.iter_mut().skip(8).zip(distance).for_each(|(byte, distance)| *byte ^= distance);
        (NodeId::from_bytes(id), addr)
    }

    /// As much as an answer can hold.
    fn answer(&mut self, from: (NodeId, SocketAddr), target: Target) -> Answer {
        let is_v4 = from.1.is_ipv4();
        let mut answer = Answer::new(from.0);
        answer.token = Some(vec![7; 40]);
        answer.nodes = (0..16).map(|_| self.node(target, is_v4)).collect();
        answer.values = (0..128).map(|_| self.addr(is_v4)).collect();
        answer
    }
}

/// Answers all queries that leave until `replies` are reached; reads events only if told to.
fn feed(dht: &mut Dht, liar: &mut Liar, now: Instant, replies: usize, read: bool) -> usize {
    let (mut answered, mut ids) = (0, BTreeMap::new());
    let mut buf = [0; MAX_DATAGRAM];
    while answered < replies {
        while read && dht.poll_event().is_some() {}
        let Some(sent) = dht.poll_transmit(now, &mut buf) else { break };
        let message = decode(&buf[..sent.len]).unwrap();
        let Body::Query(Query { method, .. }) = message.body else { panic!("our own query") };
        let Method::GetPeers { info_hash, .. } = method else { continue };
        let target = info_hash.target();
        let id = *ids.entry(sent.to).or_insert_with(|| liar.node(target, true).0);
        let answer = liar.answer((id, sent.to), target);
        for (id, addr) in &answer.nodes {
            ids.insert(*addr, *id);
        }
        let bytes = answer.encode(message.tid);
        let _ = dht.handle_datagram(now, sent.to, &bytes, &mut [0; MAX_DATAGRAM]);
        answered += 1;
    }
    answered
}

/// Stores, lookups, finds, tokens, events and queries in flight, on both networks at once.
#[test]
fn everything_at_its_maximum_stays_below_the_ceiling() {
    let mut config = World::server_config(&[World::v4(0), World::v6(0)]);
    config.total_bytes_per_sec = u32::MAX;
    config.subnet_bytes_per_sec = u32::MAX;
    config.subnet_burst_bytes = u32::MAX;
    config.max_torrents = 60;
    config.max_peers_per_torrent = 60;
    config.max_items = 200;
    config.max_lookups = 9;
    config.max_transactions = 128;
    config.max_events = 64;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let now = Instant::from_secs(1);
        let seed = Seed::from_bytes([1; 32]);
        let mut dht = Dht::new(config.clone(), Networks::Both, &seed, now);
        let mut liar = Liar { made: 0 };
        for byte in 0..60 {
            announce_peers(&mut dht, now, InfoHash::from_bytes([byte; 20]), 60);
        }
        put_items(&mut dht, now, 200);
        for byte in 0..8 {
            let info_hash = InfoHash::from_bytes([byte; 20]);
            let lookup = Lookup::GetPeers { info_hash, scrape: true, noseed: false };
            dht.start(now, &lookup).unwrap();
        }
        let answered = feed(&mut dht, &mut liar, now, 8 * 2 * 60, true);
        println!("{answered} answers read");
        let unread = feed(&mut dht, &mut liar, now, usize::MAX, false);
        println!("{unread} answers unread");
        // Nobody answers the rest.
        dht.check_invariants();
        kept = Some(dht);
    });
    let stats = kept.unwrap().stats();
    assert_eq!((stats.torrents, stats.peers, stats.items), (60, 60 * 60, 200), "{stats:?}");
    let (peak, ceiling) = (counted.bytes_max as usize, config.memory_ceiling());
    println!("{peak} B of {ceiling} B, {} %", peak * 100 / ceiling);
    assert!(peak <= ceiling, "{peak} > {ceiling}");
    assert!(peak > ceiling / 8, "{peak} of {ceiling}: hardly anything was filled");
}
