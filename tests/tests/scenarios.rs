//! Whole operations on a network of real nodes in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::{Config, Mode};
use dht_proto::health::Problem;
use dht_proto::id::{InfoHash, NodeId, bep42};
use dht_proto::item::{Item, verify_strict};
use dht_proto::request::{AnnouncePort, Ended, Event, Lookup, Outcome};
use dht_proto::seed::Seed;
use dht_proto::snapshot::Snapshot;
use dht_proto::wire::{Method, code};
use dht_proto::{Dht, Networks};
use dht_tests::ask::{get, info_hash, peers, put};
use dht_tests::world::World;
use ed25519_dalek::SigningKey;

fn joined(n: usize) -> World {
    let mut world = World::of_servers(1, n);
    world.run_for(Duration::from_secs(300));
    world
}

fn get_peers(byte: u8) -> Lookup {
    Lookup::GetPeers { info_hash: info_hash(byte), scrape: false, noseed: false }
}

fn announce(byte: u8, port: AnnouncePort, seed: bool) -> Lookup {
    Lookup::Announce { info_hash: info_hash(byte), port, seed }
}

fn signed(seq: i64, value: &[u8]) -> Item {
    Item::sign(&SigningKey::from_bytes(&[7; 32]), b"salt", seq, value).unwrap()
}

#[test]
fn announce_then_get_peers() {
    let mut world = joined(30);
    let (_, done) = world.look_up(3, &announce(1, AnnouncePort::Explicit(4242), false));
    assert_eq!((done.ended, done.stored), (Ended::Completed, 8), "{done:?}");
    let (_, done) = world.look_up(4, &announce(1, AnnouncePort::Implied, true));
    assert_eq!(done.stored, 8, "{done:?}");
    let (events, done) = world.look_up(17, &get_peers(1));
    let explicit = SocketAddr::new(World::v4(3).ip(), 4242);
    assert_eq!(peers(&events), [explicit, World::v4(4)], "each peer once");
    assert_eq!(done.peers, 2);
    assert!(done.first_value.unwrap() <= done.duration && done.depth >= 1, "{done:?}");
    assert!(done.closest.len() == 8 && done.queries >= 8 && done.timeouts == 0);
    let (events, done) = world.look_up(17, &get_peers(2));
    assert_eq!((events.len(), done.peers, done.first_value), (0, 0, None), "nobody announced it");
}

/// BEP 33, over the whole network.
#[test]
fn scrape_counts_seeds_and_downloaders() {
    let mut world = joined(40);
    for i in 1..=20 {
        world.look_up(i, &announce(1, AnnouncePort::Implied, i <= 5));
    }
    let scrape = Lookup::GetPeers { info_hash: info_hash(1), scrape: true, noseed: false };
    let (_, done) = world.look_up(30, &scrape);
    let found = done.scrape.unwrap();
    assert!((found.seeds - 5.0).abs() < 1.0, "{found:?}");
    assert!((found.downloaders - 15.0).abs() < 1.5, "{found:?}");
    let noseed = Lookup::GetPeers { info_hash: info_hash(1), scrape: false, noseed: true };
    let (events, _) = world.look_up(31, &noseed);
    assert_eq!(peers(&events).len(), 15, "seeds are left out");
}

#[test]
fn put_then_get_immutable() {
    let mut world = joined(30);
    let item = Item::immutable(b"12:Hello World!").unwrap();
    let (_, done) = world.look_up(5, &put(&item, None));
    assert_eq!(done.stored, 8, "{done:?}");
    let (events, done) = world.look_up(20, &get(item.id(), b""));
    assert!(matches!(&events[..], [Event::Item { item: found, .. }] if **found == item));
    assert_eq!(done.item.as_deref(), Some(&item));
    let missing = Item::immutable(b"5:other").unwrap();
    let (events, done) = world.look_up(20, &get(missing.id(), b""));
    assert!(events.is_empty() && done.item.is_none() && done.ended == Ended::Completed);
}

/// bittorrent-dht's `transitive mutable update`, `invalid sequence`, `valid sequence`, as one story.
#[test]
fn mutable_items_move_forward_only() {
    let mut world = joined(30);
    let (first, second) = (signed(1, b"5:first"), signed(2, b"6:second"));
    let newest = |world: &mut World, node| {
        let (_, done) = world.look_up(node, &get(first.id(), b"salt"));
        done.item.map(|item| item.value().to_vec())
    };
    assert_eq!(world.look_up(5, &put(&first, None)).1.stored, 8);
    assert_eq!(newest(&mut world, 9).as_deref(), Some(&b"5:first"[..]));
    let (_, done) = world.look_up(6, &put(&second, None));
    assert_eq!(done.stored, 8);
    assert_eq!(done.item.as_deref(), Some(&first), "what was there before");
    assert_eq!(newest(&mut world, 10).as_deref(), Some(&b"6:second"[..]));

    let codes = |done: &Outcome| done.refusals.iter().map(|r| r.code).collect::<Vec<_>>();
    let (_, stale) = world.look_up(7, &put(&first, None));
    // A putter that is itself among the nearest has nothing stored, so one place may be free.
    assert!(stale.stored <= 1, "{stale:?}");
    assert!(codes(&stale).len() >= 7 && codes(&stale).iter().all(|c| *c == code::SEQ_TOO_OLD));
    let (_, same) = world.look_up(8, &put(&second, None));
    assert_eq!(same.stored, 8, "the same version again refreshes");
    let (_, other) = world.look_up(8, &put(&signed(2, b"5:other"), None));
    assert!(other.stored <= 1, "another value needs another version: {other:?}");

    let third = signed(3, b"5:third");
    let (_, mismatch) = world.look_up(9, &put(&third, Some(1)));
    assert!(mismatch.stored <= 1, "only where nothing was stored: {mismatch:?}");
    assert!(codes(&mismatch).iter().all(|c| *c == code::CAS_MISMATCH), "{mismatch:?}");
    assert_eq!(world.look_up(9, &put(&third, Some(2))).1.stored, 8);
    assert_eq!(newest(&mut world, 12).as_deref(), Some(&b"5:third"[..]));
    let (events, done) = world.look_up(
        13,
        &Lookup::GetItem { target: first.id(), salt: b"salt".to_vec(), newer_than: Some(3) },
    );
    assert!(events.is_empty() && done.item.is_none(), "nothing newer than what we have");
    let (_, wrong_salt) = world.look_up(13, &get(first.id(), b"pepper"));
    assert!(wrong_salt.item.is_none(), "key and salt must hash to the target");
}

/// BEP 51.
#[test]
fn samples() {
    let mut world = joined(20);
    for byte in 1..=3 {
        world.look_up(2, &announce(byte, AnnouncePort::Implied, false));
    }
    let mut found: Vec<InfoHash> = Vec::new();
    for i in 0..20 {
        let target = info_hash(1).target();
        let (events, done) = world.look_up(19, &Lookup::Sample { addr: World::v4(i), target });
        if i == 19 {
            assert_eq!(done.ended, Ended::NoAnswer, "we do not answer ourselves");
            continue;
        }
        let [Event::Samples { samples, total, interval, nodes, .. }] = &events[..] else {
            panic!("samples are always present: {done:?}");
        };
        // What a crawler needs to go on: the nodes near the target beside the samples.
        assert!(
            nodes.len() >= 8 && nodes.iter().all(|node| node.addr != World::v4(i)),
            "{nodes:?}"
        );
        assert_eq!(*total, Some(samples.len() as u64));
        assert!(interval.is_some());
        found.extend(samples);
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [info_hash(1), info_hash(2), info_hash(3)]);
}

#[test]
fn ping_tells_id_or_silence() {
    let mut world = joined(5);
    let (_, done) = world.look_up(1, &Lookup::Ping { addr: World::v4(2) });
    assert_eq!(done.closest[0].id, world.node(2).node_id(Family::V4).unwrap());
    world.stop(3);
    let (_, done) = world.look_up(1, &Lookup::Ping { addr: World::v4(3) });
    assert_eq!((done.ended, done.queries), (Ended::NoAnswer, 3), "asked three times");
}

/// Dead contacts cost queries but do not block the end.
#[test]
fn lookups_end_although_a_third_of_the_nodes_is_dead() {
    let mut world = joined(60);
    for i in (10..60).step_by(3) {
        world.stop(i);
    }
    let (_, done) = world.look_up(1, &Lookup::FindNode { target: NodeId::from_bytes([77; 20]) });
    assert_eq!((done.ended, done.closest.len()), (Ended::Completed, 8), "{done:?}");
    assert!(done.duration < Duration::from_secs(4), "{done:?}");
}

#[test]
fn lookups_survive_loss() {
    let mut world = joined(40);
    world.lose(200);
    let (_, done) = world.look_up(3, &announce(1, AnnouncePort::Implied, false));
    assert!(done.stored >= 5, "{done:?}");
    let (events, _) = world.look_up(17, &get_peers(1));
    assert_eq!(peers(&events), [World::v4(3)]);
}

#[test]
fn a_cancelled_lookup_is_silent() {
    let mut world = joined(20);
    let id = world.start(3, &get_peers(1));
    assert!(world.with(3, |dht, _| dht.cancel(id)));
    world.run_for(Duration::from_secs(60));
    assert!(world.take_events(3).iter().all(|event| event.lookup() != Some(id)));
}

/// BEP 32: two networks side by side; libtorrent simulation `dht_dual_stack_*`.
#[test]
fn dual_stack_nodes_serve_both_networks() {
    let mut world = World::new(3);
    let first = [World::v4(0), World::v6(0)];
    for i in 0..24 {
        let bootstrap = if i == 0 { &[][..] } else { &first };
        world.add(&[World::v4(i), World::v6(i)], World::server_config(bootstrap));
    }
    world.run_for(Duration::from_secs(300));
    let (_, done) = world.look_up(3, &announce(1, AnnouncePort::Implied, false));
    assert_eq!(done.stored, 16, "eight on each network: {done:?}");
    let (events, done) = world.look_up(17, &get_peers(1));
    assert_eq!(peers(&events), [World::v4(3), World::v6(3)]);
    assert_eq!(done.closest.len(), 16);
    let item = Item::immutable(b"4:dual").unwrap();
    assert_eq!(world.look_up(4, &put(&item, None)).1.stored, 16);
    let id = world.start(18, &get(item.id(), b""));
    world.run_for(Duration::from_secs(60));
    let events = world.take_events(18);
    let ends = events.iter().filter(|event| matches!(event, Event::Done { .. }));
    assert_eq!(ends.count(), 1, "exactly one end for {id:?}");
}

/// libtorrent simulation `dht_dual_stack_mutable_item`: both networks store it, and the reader hears of
/// each version once.
#[test]
fn dual_stack_mutable_items() {
    let mut world = World::new(8);
    let first = [World::v4(0), World::v6(0)];
    for i in 0..20 {
        let bootstrap = if i == 0 { &[][..] } else { &first };
        world.add(&[World::v4(i), World::v6(i)], World::server_config(bootstrap));
    }
    world.run_for(Duration::from_secs(300));
    for (seq, value) in [(1, &b"3:one"[..]), (2, b"3:two")] {
        let item = signed(seq, value);
        assert_eq!(world.look_up(4, &put(&item, None)).1.stored, 16);
        let (_, done) = world.look_up(11, &get(item.id(), b"salt"));
        assert_eq!(done.item.as_deref(), Some(&item));
    }
}

/// BEP 32 `want`: a node with no IPv6 bootstrap finds the IPv6 network through IPv4 nodes.
#[test]
fn one_network_leads_to_the_other() {
    let mut world = World::new(4);
    let first = [World::v4(0), World::v6(0)];
    for i in 0..20 {
        let bootstrap = if i == 0 { &[][..] } else { &first };
        world.add(&[World::v4(i), World::v6(i)], World::server_config(bootstrap));
    }
    world.run_for(Duration::from_secs(300));
    let newcomer =
        world.add(&[World::v4(30), World::v6(30)], World::server_config(&[World::v4(0)]));
    world.run_for(Duration::from_secs(300));
    let health = world.node(newcomer).health(world.now());
    assert!(health.v6.unwrap().contacts >= 8, "{health:?}", health = world.node(newcomer).stats());
}

/// BEP 42: the id follows the address that others see.
#[test]
fn ids_follow_the_external_address() {
    let mut world = World::new(7);
    for i in 0..20 {
        let bootstrap = [World::v4(0)];
        let bootstrap = if i == 0 { &[][..] } else { &bootstrap };
        world.add(&[World::v4(i)], World::server_config(bootstrap));
    }
    world.run_for(Duration::from_secs(1200));
    let ip = World::v4(5).ip();
    let id = world.node(5).node_id(Family::V4).unwrap();
    assert!(bep42::is_valid(id, ip), "{id} is not valid for {ip}");
    let events = world.take_events(5);
    assert!(events.contains(&Event::ExternalAddress(ip)));
    let health = world.node(5).health(world.now());
    assert_eq!(health.v4.unwrap().external, Some(ip));
}

#[test]
fn adaptive_nodes_become_servers_when_strangers_reach_them() {
    let mut world = joined(30);
    let mut config = Config::default();
    config.mode = Mode::Adaptive;
    config.bootstrap = vec![World::v4(0)];
    let node = world.add(&[World::v4(40)], config);
    assert!(!world.node(node).health(world.now()).v4.unwrap().answers);
    // Others go about their business, and come by.
    for i in 0..60 {
        world.run_for(Duration::from_secs(30));
        let target = NodeId::from_bytes([i * 4; 20]);
        world.look_up(usize::from(i % 30), &Lookup::FindNode { target });
    }
    let health = world.node(node).health(world.now()).v4.unwrap();
    assert!(health.server, "{health}");
    let events = world.take_events(node);
    assert!(events.contains(&Event::Serving { family: Family::V4, serving: true }));
}

/// A restart continues where the last run ended, even if every bootstrap node is gone.
#[test]
fn restart_from_a_snapshot() {
    let mut world = joined(30);
    let item = Item::immutable(b"4:kept").unwrap();
    world.look_up(5, &put(&item, None));
    let holder = (0..30).find(|i| world.node(*i).stats().items > 0).unwrap();
    let bytes = world.node(holder).snapshot().to_bytes();
    let id = world.node(holder).node_id(Family::V4);
    world.stop(holder);
    world.stop(0);

    let snapshot = Snapshot::from_bytes(&bytes, verify_strict).unwrap();
    let config = Arc::new(World::server_config(&[World::v4(0)]));
    let seed = Seed::from_bytes([99; 32]);
    let dht = Dht::restore(config, Networks::V4, &seed, world.now(), &snapshot);
    assert_eq!((dht.node_id(Family::V4), dht.stats().items), (id, 1));
    assert_eq!(dht.stats().contacts, 0, "contacts are asked before they are believed");
    let again = world.add_dht(&[World::v4(50)], dht);
    world.run_for(Duration::from_secs(20));
    assert!(world.node(again).stats().contacts >= 8, "warm in seconds");
    let (_, done) = world.look_up(again, &get(item.id(), b""));
    assert_eq!(done.item.as_deref(), Some(&item));
}

/// mldht's survival mode: silence evicts nobody while we are offline.
#[test]
fn contacts_survive_while_we_are_offline() {
    let mut world = joined(30);
    let before = world.node(7).stats().contacts;
    world.lose(1000);
    world.run_for(Duration::from_secs(2 * 60 * 60));
    let health = world.node(7).health(world.now()).v4.unwrap();
    assert!(matches!(health.problem, Some(Problem::Offline { .. })), "{health}");
    assert_eq!(world.node(7).stats().contacts, before);
    world.lose(0);
    world.run_for(Duration::from_secs(15 * 60));
    let health = world.node(7).health(world.now()).v4.unwrap();
    assert!(health.problem.is_none() && health.contacts as u64 >= before, "{health}");
}

/// A machine that sleeps blames nobody for the silence.
#[test]
fn a_suspended_node_goes_on_where_it_was() {
    let mut world = joined(30);
    let before = world.node(7).stats();
    world.start(7, &get_peers(9));
    world.stop(7);
    world.run_for(Duration::from_secs(60 * 60));
    world.resume(7);
    let after = world.node(7).stats();
    assert_eq!((after.contacts, after.timeouts), (before.contacts, before.timeouts));
    let problem = world.node(7).health(world.now()).v4.unwrap().problem;
    assert!(matches!(problem, Some(Problem::ClockJumped { .. })), "{problem:?}");
    world.run_for(Duration::from_secs(120));
    assert!(world.node(7).health(world.now()).is_connected());
}

#[test]
fn health_says_why_there_are_no_nodes() {
    let mut world = World::new(5);
    let alone = world.add(&[World::v4(0)], World::server_config(&[]));
    let problem = |world: &World, node| world.node(node).health(world.now()).v4.unwrap().problem;
    assert_eq!(problem(&world, alone), Some(Problem::NobodyToAsk));
    let lost = world.add(&[World::v4(1)], World::server_config(&[World::v4(200)]));
    world.run_for(Duration::from_secs(60));
    assert!(matches!(problem(&world, lost), Some(Problem::NothingAnswered { queries: 3.. })));
}

/// Bootstrap retries back off: at most one attempt per two minutes in the long run.
#[test]
fn a_failing_bootstrap_backs_off() {
    let mut world = World::new(6);
    let lost = world.add(&[World::v4(1)], World::server_config(&[World::v4(200)]));
    world.run_for(Duration::from_secs(60 * 60));
    let queries = world.node(lost).stats().queries_out;
    assert!((30..200).contains(&queries), "{queries}");
    world.add(&[World::v4(200)], World::server_config(&[]));
    world.run_for(Duration::from_secs(5 * 60));
    assert_eq!(world.node(lost).stats().contacts, 1, "it never gives up");
}

/// Everybody starts at once and knows three introducers: after three seconds every lookup finds the
/// true nearest. On the internet, and where answers come faster than pings may leave.
#[test]
fn a_network_that_starts_cold_comes_together_in_three_seconds() {
    const NODES: usize = 100;
    let local = |i: usize| SocketAddr::from(([127, 1, 0, i as u8 + 1], 6881));
    for is_local in [false, true] {
        let mut world = World::new(1);
        let addr = |i| if is_local { local(i) } else { World::v4(i) };
        if is_local {
            world.delay(Duration::from_micros(50), Duration::from_micros(200));
        }
        for i in 0..NODES {
            let introducers: Vec<_> = (0..3.min(i)).map(addr).collect();
            let mut config = World::server_config(&introducers);
            config.public_ips = vec![addr(i).ip()];
            world.add(&[addr(i)], config);
            world.run_for(Duration::from_millis(5));
        }
        world.run_for(Duration::from_secs(3));
        let ids: Vec<_> = (0..NODES).map(|i| world.node(i).node_id(Family::V4).unwrap()).collect();
        for (i, id) in ids.iter().enumerate() {
            let asker = (7 * i + 37) % NODES;
            let (_, done) = world.look_up(asker, &Lookup::FindNode { target: *id });
            let mut nearest: Vec<_> = ids.iter().filter(|id| **id != ids[asker]).collect();
            nearest.sort_by_key(|other| other.distance(id.target()));
            let found: Vec<_> = done.closest.iter().map(|node| &node.id).collect();
            assert_eq!(found, nearest[..8], "node {i}, local: {is_local}");
        }
        world.run_for(Duration::from_secs(60));
        let queries: u64 = (0..NODES).map(|i| world.node(i).stats().queries_out).sum();
        assert!(queries / NODES as u64 <= 170, "{queries} queries");
    }
}

/// BEP 42: an id that moves has neighbours that do not know us, so we look again as a new node does.
#[test]
fn settling_starts_over_when_our_id_moves() {
    let mut world = World::new(1);
    let log = world.scripted(40, |_, heard, mut answer| {
        let moved = heard.now.as_micros() > 2 * 60 * 60 * 1_000_000;
        answer.ip = Some(if moved { "99.1.2.3:5".parse().unwrap() } else { World::v4(200) });
        Some(answer.encode(heard.message.tid))
    });
    let ours = world.add(&[World::v4(200)], World::server_config(&[World::v4(0)]));
    world.run_for(Duration::from_secs(2 * 60 * 60));
    let id = |world: &World| world.node(ours).node_id(Family::V4).unwrap();
    let old = id(&world);
    for _ in 0..60 * 60 {
        world.run_for(Duration::from_secs(1));
        if id(&world) != old {
            break;
        }
    }
    let new = id(&world);
    assert_ne!(new, old);
    world.run_for(Duration::from_secs(10));
    let asked = log.entries().into_iter().filter(|entry| {
        matches!(entry.method(), Method::GetPeers { info_hash, .. } if info_hash == new.target().info_hash())
    });
    let times: Vec<_> = asked.map(|entry| entry.now).collect();
    let pauses = times.windows(2).filter(|pair| pair[1].since(pair[0]).as_secs() >= 1).count();
    assert!(pauses >= 1, "a second lookup within seconds: {times:?}");
}
