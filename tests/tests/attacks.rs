//! Attacks on whole nodes (docs/PROTOCOL.md, "Attacks"): what they cost, and that they gain nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::{Ended, Lookup};
use dht_proto::seed::{Domain, Seed, Stream};
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Method, Put, Reply, decode};
use dht_proto::{Dht, Networks};
use dht_tests::hand::{deliver, drain, node};
use dht_tests::populate::full_table;
use dht_tests::script::{Answer, encode, query};
use dht_tests::world::World;

fn dice(seed: u8) -> Stream {
    Seed::from_bytes([seed; 32]).stream(Domain::Jitter)
}

fn random_id(dice: &mut Stream) -> NodeId {
    let mut bytes = [0; 20];
    bytes
        .chunks_mut(4)
        .for_each(|chunk| chunk.copy_from_slice(&(dice.next() as u32).to_be_bytes()));
    NodeId::from_bytes(bytes)
}

/// A server without limits to what it sends, so that an attack meets the other defences.
fn generous() -> Config {
    World::generous_config(&[])
}

fn token(answer: &[u8]) -> Option<Vec<u8>> {
    let Body::Reply(Reply { token, .. }) = decode(answer).unwrap().body else { return None };
    token.map(<[u8]>::to_vec)
}

/// What a node does by itself, as far as it leaves; nobody answers.
fn idle(dht: &mut Dht, now: Instant) -> usize {
    dht.handle_timeout(now);
    drain(dht, now).0.len()
}

/// Table insertion: 10^6 spoofed queries from 10^5 addresses change nobody among the verified
/// contacts and make the node no larger than its ceiling. Some claim the ids of contacts, some come
/// from their addresses.
#[test]
fn a_million_spoofed_queries_change_no_contact() {
    let config = Arc::new(generous());
    let (mut dht, now) = full_table(&config, &[8; 12]);
    let contacts =
        |dht: &Dht| dht.snapshot().v4.unwrap().contacts.into_iter().collect::<BTreeSet<_>>();
    let before = contacts(&dht);
    assert!(before.len() >= 90);
    let known: Vec<_> = before.iter().copied().collect();
    let mut dice = dice(1);
    let counted = allocation_counter::measure(|| {
        for n in 0..1_000_000_u64 {
            let (mut from, mut id) =
                (World::v4(1000 + dice.below(100_000) as usize), random_id(&mut dice));
            let contact = known[dice.below(known.len() as u64) as usize];
            match n % 10 {
                0 => id = contact.0,
                1 => from = contact.1.into(),
                _ => {}
            }
            let info_hash = InfoHash::from_bytes([n as u8; 20]);
            let method = match n % 3 {
                0 => Method::Ping,
                1 => Method::FindNode { target: info_hash.target() },
                _ => Method::GetPeers { info_hash, noseed: false, scrape: false },
            };
            let _ = deliver(&mut dht, now, from, &query(id, b"aa", false, method));
        }
    });
    dht.check_invariants();
    assert_eq!(contacts(&dht), before);
    assert!(dht.stats().candidates <= config.max_candidates as u64);
    assert!((counted.bytes_max as usize) < config.memory_ceiling());
    // Silence of those who were invited costs them their place in the waiting list, and nobody else.
    let mut later = now;
    let mut pings = 0;
    for _ in 0..600 {
        later = later + Duration::from_secs(1);
        pings += idle(&mut dht, later);
    }
    assert!(pings < 400, "{pings} pings: no flood of our own");
}

/// Memory: whatever is announced, put and asked, a node stays within `Config::memory_ceiling`, and
/// keeps to each of its bounds.
#[test]
fn a_flood_of_stores_stays_within_the_memory_ceiling() {
    let mut config = generous();
    config.max_torrents = 60;
    config.max_peers_per_torrent = 40;
    config.max_items = 80;
    config.max_items_per_subnet = 40;
    config.max_lookups = 4;
    config.max_transactions = 16;
    config.max_events = 16;
    config.verifications_per_sec = u32::MAX;
    config.verify = |_, _, _| true;
    let config = Arc::new(config);
    let now = Instant::from_secs(1);
    let mut kept = None;
    let mut dice = dice(2);
    let counted = allocation_counter::measure(|| {
        let mut dht = Dht::new(config.clone(), Networks::V4, &Seed::from_bytes([1; 32]), now);
        for n in 0..60_000_u64 {
            let from = World::v4(dice.below(3000) as usize);
            if n % 2 == 0 {
                announce(&mut dht, now, from, InfoHash::from_bytes([dice.next() as u8; 20]));
            } else {
                put(&mut dht, now, from, n);
            }
            if n % 1000 == 0 {
                dht.check_invariants();
            }
        }
        kept = Some(dht);
    });
    let stats = kept.unwrap().stats();
    assert_eq!((stats.torrents, stats.items), (60, 80), "the flood filled the stores");
    assert!(stats.peers > 60 * 30 && stats.peers <= 60 * 40, "{}", stats.peers);
    let (peak, ceiling) = (counted.bytes_max as usize, config.memory_ceiling());
    assert!(peak <= ceiling, "{peak} > {ceiling}");
}

fn announce(dht: &mut Dht, now: Instant, from: SocketAddr, info_hash: InfoHash) {
    let get_peers = Method::GetPeers { info_hash, noseed: false, scrape: false };
    let id = NodeId::from_bytes([9; 20]);
    let answer = deliver(dht, now, from, &query(id, b"aa", true, get_peers)).unwrap();
    let Some(token) = token(&answer) else { return };
    let (port, implied_port, seed) = (6881, false, false);
    let announce = Method::AnnouncePeer { info_hash, port, implied_port, seed, token: &token };
    deliver(dht, now, from, &query(id, b"aa", true, announce)).unwrap();
}

fn put(dht: &mut Dht, now: Instant, from: SocketAddr, n: u64) {
    let mut bytes = [0; 996];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    let item = Item::immutable(&bencode_bytes(&bytes)).unwrap();
    let id = NodeId::from_bytes([9; 20]);
    let get = Method::Get { target: item.id(), seq: None };
    let answer = deliver(dht, now, from, &query(id, b"aa", true, get)).unwrap();
    let token = token(&answer).unwrap();
    let put = Method::Put(Put { token: &token, v: item.value(), mutable: None });
    deliver(dht, now, from, &query(id, b"aa", true, put)).unwrap();
}

/// Off-path response spoofing: the attacker knows whom a lookup asks and answers first, a hundred
/// thousand times per query, without seeing the transaction ids. Nothing is accepted, and the true
/// answers still count.
#[test]
fn spoofed_replies_do_not_enter_a_lookup() {
    let mut config = generous();
    config.bootstrap = (0..4).map(World::v4).collect();
    let now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    let info_hash = InfoHash::from_bytes([7; 20]);
    let lookup =
        dht.start(now, &Lookup::GetPeers { info_hash, scrape: false, noseed: false }).unwrap();
    let (queries, _) = drain(&mut dht, now);
    assert!(queries.len() >= 4);
    let mut dice = dice(3);
    let mut lie = Answer::new(NodeId::from_bytes([7; 20]));
    lie.values = vec![SocketAddr::from(([66, 6, 6, 6], 666))];
    for (to, _) in &queries {
        for _ in 0..100_000 {
            let tid = (dice.next() as u32).to_be_bytes();
            assert!(deliver(&mut dht, now, *to, &lie.encode(&tid)).is_none());
        }
        // What works against the two-byte or sequential ids of others: all of the former.
        for tid in 0..=u16::MAX {
            assert!(deliver(&mut dht, now, *to, &lie.encode(&tid.to_be_bytes())).is_none());
        }
    }
    assert_eq!((dht.stats().replies_in, dht.stats().contacts), (0, 0));
    while let Some(event) = dht.poll_event() {
        assert_eq!(event.lookup(), None, "{lookup:?} heard {event:?}");
    }
    for (i, (to, bytes)) in queries.iter().enumerate() {
        let tid = decode(bytes).unwrap().tid;
        deliver(&mut dht, now, *to, &Answer::new(World::scripted_id(i)).encode(tid));
    }
    assert_eq!(dht.stats().replies_in, queries.len() as u64);
}

/// libtorrent issue 6236: hosts that send every datagram back, or answer with the id of the asker,
/// get nothing, never enter a table and do not keep a lookup from its end.
#[test]
fn reflectors_never_become_contacts() {
    let mut world = World::new(1);
    let echoing = |i: usize| i % 4 == 1;
    let lying = |i: usize| i % 4 == 3;
    let log = world.scripted(40, move |i, heard, mut answer| {
        if echoing(i) {
            return Some(encode(&heard.message));
        }
        if lying(i) {
            answer.id = heard.query.id;
        }
        Some(answer.encode(heard.message.tid))
    });
    let ours = world.add(&[World::v4(200)], World::server_config(&[World::v4(0), World::v4(1)]));
    let target = NodeId::from_bytes([33; 20]);
    let (_, done) = world.look_up(ours, &Lookup::FindNode { target });
    assert_eq!(done.ended, Ended::Completed);
    assert!(done.closest.len() >= 4 && done.duration < Duration::from_secs(5), "{done:?}");
    world.run_for(Duration::from_secs(3600));
    assert!(log.entries().iter().any(|e| echoing(index(e.to))));
    assert!(log.entries().iter().any(|e| lying(index(e.to))));
    let contacts = world.node(ours).snapshot().v4.unwrap().contacts;
    assert!(contacts.len() >= 10);
    for (_, addr) in contacts {
        let i = index(addr.into());
        assert!(!echoing(i) && !lying(i), "{i}");
    }
    assert!(world.node(ours).stats().id_mismatch > 0);
}

fn index(addr: SocketAddr) -> usize {
    (0..300).find(|i| World::v4(*i) == addr).unwrap()
}

/// Nodes that answer under the id nearest to whatever is asked (jech/dht PR 44), a new one each time:
/// none of them keeps a place in the table, and the honest nodes do.
#[test]
fn nodes_that_change_their_id_are_evicted() {
    let mut world = World::new(1);
    let lying = |i: usize| i % 2 == 1;
    world.scripted(40, move |i, heard, mut answer| {
        if lying(i) {
            let mut near = *heard.query.id.as_bytes();
            near[18] = heard.now.as_secs() as u8;
            near[19] ^= i as u8;
            answer.id = NodeId::from_bytes(near);
            answer.nodes.clear();
        }
        Some(answer.encode(heard.message.tid))
    });
    let mut config = World::server_config(&[World::v4(0)]);
    config.ping_after = Duration::from_secs(60);
    let ours = world.add(&[World::v4(200)], config);
    for byte in 0..20 {
        world.look_up(ours, &Lookup::FindNode { target: NodeId::from_bytes([byte * 12; 20]) });
        world.run_for(Duration::from_secs(180));
    }
    let stats = world.node(ours).stats();
    assert!(stats.id_changes > 10, "{stats:?}");
    let contacts = world.node(ours).snapshot().v4.unwrap().contacts;
    let liars = contacts.iter().filter(|(_, addr)| lying(index((*addr).into()))).count();
    assert!(
        contacts.len() - liars >= 15 && liars * 4 < contacts.len(),
        "{liars} of {}",
        contacts.len()
    );
}

/// Node eclipse: half of the saved contacts belong to an attacker with one network, whose nodes
/// answer and name only each other. Ten minutes after the restart nine tenths of the table are honest.
#[test]
fn a_poisoned_cache_does_not_eclipse_a_restart() {
    let mut world = World::of_servers(1, 60);
    world.run_for(Duration::from_secs(600));
    let bytes = world.node(7).snapshot().to_bytes();
    world.stop(7);
    let mut snapshot = Snapshot::from_bytes(&bytes, |_, _, _| true).unwrap();
    let sybil = |i: usize| SocketAddr::from(([66, 6, 6, (i + 1) as u8], 6881));
    let mut dice = dice(5);
    let sybils: Vec<_> = (0..60).map(|i| (random_id(&mut dice), sybil(i))).collect();
    for (id, addr) in sybils.clone() {
        let sybils = sybils.clone();
        world.script(
            addr,
            Box::new(move |heard| {
                let mut answer = Answer::new(id);
                answer.nodes = sybils.iter().take(8).copied().collect();
                vec![answer.encode(heard.message.tid)]
            }),
        );
    }
    let saved = snapshot.v4.as_mut().unwrap();
    saved.contacts.truncate(60);
    saved.contacts.extend(sybils.iter().map(|(id, addr)| match addr {
        SocketAddr::V4(addr) => (*id, *addr),
        SocketAddr::V6(_) => unreachable!("the attacker is on IPv4"),
    }));
    // The attacker's come last, and last is asked first.
    let config = Arc::new(World::server_config(&[World::v4(0)]));
    let seed = Seed::from_bytes([77; 32]);
    let dht = Dht::restore(config, Networks::V4, &seed, world.now(), &snapshot);
    let again = world.add_dht(&[World::v4(90)], dht);
    world.run_for(Duration::from_secs(600));
    let contacts = world.node(again).snapshot().v4.unwrap().contacts;
    let bad = contacts.iter().filter(|(_, addr)| addr.ip().octets()[0] == 66).count();
    assert!(contacts.len() >= 30 && bad * 10 <= contacts.len(), "{bad} of {}", contacts.len());
}

/// Reflection, the cheap part: a query that stores nothing and is answered without values multiplies
/// its bytes by no more than libtorrent's reply would (literature: 3.1, and 5.5 with both families),
/// and the smallest query that is answered at all by no more than that.
#[test]
fn plain_replies_multiply_bytes_no_more_than_they_must() {
    let config = Arc::new(generous());
    let (mut dht, now) = full_table(&config, &[8; 12]);
    let target = Target::from_bytes([5; 20]);
    let id = NodeId::from_bytes([9; 20]);
    let info_hash = target.info_hash();
    let mut factor = |bytes: &[u8]| {
        let answer = deliver(&mut dht, now, World::v4(5000), bytes).unwrap();
        f64::from(answer.len() as u32) / f64::from(bytes.len() as u32)
    };
    let plain = |method| query(id, b"abcd", false, method);
    assert!(factor(&plain(Method::Ping)) < 1.4);
    for method in [
        Method::FindNode { target },
        Method::GetPeers { info_hash, noseed: false, scrape: true },
        Method::Get { target: target.item_id(), seq: None },
        Method::SampleInfohashes { target },
        Method::Unknown { name: b"vote", target: Some(target) },
    ] {
        let factor = factor(&plain(method));
        assert!(factor < 3.5, "{method:?}: {factor}");
    }
    let smallest = factor(b"d1:a0:1:q0:1:t0:1:y1:qe");
    assert!(smallest < 3.5, "{smallest}");
}

/// Index poisoning through a whole node: tokens of one target, address or hour open no other.
#[test]
fn a_token_opens_one_door_for_ten_minutes() {
    let mut now = Instant::from_secs(1);
    let mut dht = node(generous(), Networks::V4);
    let id = |byte| NodeId::from_bytes([byte; 20]);
    let info_hash = InfoHash::from_bytes([1; 20]);
    let get_peers = Method::GetPeers { info_hash, noseed: false, scrape: false };
    let home = World::v4(1);
    let answer = deliver(&mut dht, now, home, &query(id(9), b"aa", true, get_peers)).unwrap();
    let token = token(&answer).unwrap();
    let mut code = |now, from, id, info_hash| {
        let (port, implied_port, seed) = (5, false, false);
        let method = Method::AnnouncePeer { info_hash, port, implied_port, seed, token: &token };
        let answer = deliver(&mut dht, now, from, &query(id, b"aa", true, method)).unwrap();
        match decode(&answer).unwrap().body {
            Body::Error(error) => error.code,
            _ => 0,
        }
    };
    for n in 2..200 {
        assert_eq!(code(now, World::v4(n), id(9), info_hash), 203, "another address");
        assert_eq!(
            code(now, home, id(9), InfoHash::from_bytes([n as u8; 20])),
            203,
            "another hash"
        );
    }
    // Clients announce under fresh ids, and through NATs that change ports (wire-and-peers 7.2).
    let other_port = SocketAddr::new(home.ip(), 7000);
    assert_eq!(
        (code(now, other_port, id(8), info_hash), code(now, home, id(9), info_hash)),
        (0, 0)
    );
    now = now + Duration::from_secs(600);
    assert_eq!(code(now, home, id(9), info_hash), 203, "ten minutes later");
    assert_eq!(dht.stats().bad_tokens, 2 * 198 + 1);
}

/// What a liar says about our address moves nothing: our id changes only when independent nodes that we
/// asked agree (BEP 42). One /24 has one voice, however many nodes it has.
#[test]
fn one_network_cannot_move_our_id() {
    let mut world = World::new(1);
    let lie = SocketAddr::from(([66, 6, 6, 6], 6));
    let mut nodes = Vec::new();
    for i in 0..40_u8 {
        let addr = SocketAddr::from(([77, 7, 7, i + 1], 6881));
        nodes.push((NodeId::from_bytes([i * 6; 20]), addr));
    }
    for (id, addr) in nodes.clone() {
        let nodes = nodes.clone();
        world.script(
            addr,
            Box::new(move |heard| {
                let mut answer = Answer::new(id);
                answer.nodes = nodes.iter().take(8).copied().collect();
                answer.ip = Some(lie);
                vec![answer.encode(heard.message.tid)]
            }),
        );
    }
    let ours = world.add(&[World::v4(200)], World::server_config(&[nodes[0].1]));
    let before = world.node(ours).node_id(Family::V4);
    for byte in 0..20 {
        world.look_up(ours, &Lookup::FindNode { target: NodeId::from_bytes([byte * 12; 20]) });
        for (_, addr) in &nodes {
            world.look_up(ours, &Lookup::Ping { addr: *addr });
        }
    }
    assert!(world.node(ours).stats().replies_in > 400);
    assert_eq!(world.node(ours).node_id(Family::V4), before);
}
