//! Rules of a whole node that were broken once, each with the case that broke it: hangs, lies, floods
//! and restarts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::health::Problem;
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{Event, Lookup};
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Method, decode};
use dht_proto::{Dht, MAX_DATAGRAM, Networks};
use dht_tests::ask::{find_node, get, put};
use dht_tests::hand::{deliver, drain, node, tid};
use dht_tests::script::{Answer, Stored, id, query, refusal, signed};
use dht_tests::world::World;

const NODES: usize = 40;
const OURS: usize = 200;

fn client() -> Config {
    World::client_config(&[World::v4(0)])
}

// Hangs: a node that is lost goes on looking for the network.

#[test]
fn an_unreachable_bootstrap_node_is_asked_again() {
    let mut dht = node(World::server_config(&[World::v4(0)]), Networks::V4);
    let now = Instant::from_secs(1);
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, now);
    assert_eq!(sent.len(), 1);
    let now = now + Duration::from_millis(1);
    dht.handle_unreachable(now, World::v4(0));
    drain(&mut dht, now);
    assert!(dht.poll_timeout().is_some(), "sleeps for ever: the join never runs again");
}

#[test]
fn a_bootstrap_node_that_reflects_is_asked_again() {
    let mut dht = node(World::server_config(&[World::v4(0)]), Networks::V4);
    let now = Instant::from_secs(1);
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, now);
    let own = dht.node_id(Family::V4).unwrap();
    deliver(&mut dht, now, World::v4(0), &Answer::new(own).encode(&tid(&sent[0].1)));
    drain(&mut dht, now);
    assert!(dht.poll_timeout().is_some(), "sleeps for ever");
}

// Lies: one node does not hide what others hold.

/// What a liar says of the holders of an item.
#[derive(Clone, Copy)]
enum Lie {
    WrongAddresses,
    WrongIds,
}

impl Lie {
    fn tell(self, target: Target, holders: &[usize]) -> Vec<(NodeId, SocketAddr)> {
        let claims = holders.iter().zip(0_u8..).map(|(holder, n)| match self {
            Self::WrongAddresses => {
                (World::scripted_id(*holder), SocketAddr::from(([60, n, 1, 1], 1)))
            }
            Self::WrongIds => {
                let mut id = *target.as_bytes();
                id[19] ^= 1 + n;
                (NodeId::from_bytes(id), World::v4(*holder))
            }
        });
        claims.collect()
    }
}

/// Gets an item that the eight nearest nodes hold, starting from these nodes, one of which lies.
fn lied_to(lie: Lie, liar: usize, bootstrap: &[usize]) -> Option<Item> {
    let item = signed(1, b"", 5, b"4:true");
    let target = item.id();
    let holders = World::nearest(NODES, target.target(), 8);
    let mut world = World::new(1);
    world.scripted(NODES, move |i, heard, mut answer| {
        if matches!(heard.query.method, Method::Get { target: asked, .. } if asked == target) {
            if holders.contains(&i) {
                answer.item = Some(Stored::of(&item));
            }
            if i == liar {
                answer.nodes = lie.tell(target.target(), &holders);
            }
        }
        Some(answer.encode(heard.message.tid))
    });
    let bootstrap: Vec<_> = bootstrap.iter().map(|i| World::v4(*i)).collect();
    let ours = world.add(&[World::v4(OURS)], World::client_config(&bootstrap));
    // No time to join: the lookup starts at the liar.
    let (_, done) = world.look_up(ours, &get(target, b""));
    done.item.map(|item| *item)
}

#[test]
fn the_only_bootstrap_node_cannot_hide_holders_under_wrong_ids() {
    assert!(lied_to(Lie::WrongIds, 0, &[0]).is_some());
}

#[test]
fn one_liar_among_three_bootstrap_nodes_hides_nobody() {
    let holders = World::nearest(NODES, signed(1, b"", 5, b"4:true").id().target(), 8);
    for liar in (0..NODES).filter(|i| !holders.contains(i)) {
        let bootstrap = [liar, (liar + 1) % NODES, (liar + 2) % NODES];
        assert!(lied_to(Lie::WrongAddresses, liar, &bootstrap).is_some(), "addresses, {liar}");
        assert!(lied_to(Lie::WrongIds, liar, &bootstrap).is_some(), "ids, {liar}");
    }
}

// Restarts and pauses.

#[test]
fn contacts_survive_a_restart_without_network() {
    let mut world = World::of_servers(1, 30);
    world.run_for(Duration::from_secs(900));
    let snapshot = world.node(5).snapshot();
    let before = snapshot.v4.as_ref().unwrap().contacts.len();
    let config = World::server_config(&[]);
    let mut dht = Dht::restore(
        Arc::new(config),
        Networks::V4,
        &Seed::from_bytes([7; 32]),
        Instant::from_secs(1),
        &snapshot,
    );
    let mut now = Instant::from_secs(1);
    let end = now + Duration::from_secs(300);
    let mut late = 0;
    loop {
        dht.handle_timeout(now);
        let (sent, _) = drain(&mut dht, now);
        if now > Instant::from_secs(60) {
            late += sent.len();
        }
        match dht.poll_timeout() {
            Some(at) if at <= end => now = at,
            _ => break,
        }
    }
    let after = dht.snapshot().v4.unwrap().contacts.len();
    assert!(before > 0 && late > 0, "{before} contacts, {late} queries late");
    assert!(after > 0);
}

#[test]
fn a_jump_is_noticed_when_a_datagram_comes_first() {
    for first_datagram in [false, true] {
        let mut dht = node(World::server_config(&[World::v4(0)]), Networks::V4);
        let now = Instant::from_secs(1);
        dht.handle_timeout(now);
        let (sent, _) = drain(&mut dht, now);
        deliver(
            &mut dht,
            now,
            World::v4(0),
            &Answer::new(World::scripted_id(1)).encode(&tid(&sent[0].1)),
        );
        let lookup = find_node(3);
        dht.start(now, &lookup).unwrap();
        drain(&mut dht, now);
        let later = now + Duration::from_secs(3600);
        if first_datagram {
            deliver(
                &mut dht,
                later,
                World::v4(9),
                &query(NodeId::from_bytes([5; 20]), b"aa", true, Method::Ping),
            );
        }
        dht.handle_timeout(later);
        let health = dht.health(later).v4.unwrap();
        assert!(health.problem.is_some(), "datagram first: {first_datagram}");
        assert_eq!(dht.stats().timeouts, 0, "datagram first: {first_datagram}");
    }
}

// What counts as an answer.

#[test]
fn a_late_get_reply_is_no_acknowledgement() {
    let mut dht = node(client(), Networks::V4);
    let mut now = Instant::from_secs(1);
    let item = signed(1, b"", 1, b"1:x");
    let id = dht.start(now, &put(&item, None)).unwrap();
    let node = World::v4(0);
    let mut gets: Vec<Vec<u8>> = Vec::new();
    let mut puts: Vec<Vec<u8>> = Vec::new();
    let mut answered = false;
    let mut late = false;
    for _ in 0..2000 {
        dht.handle_timeout(now);
        let (sent, events) = drain(&mut dht, now);
        for (to, bytes) in sent {
            assert_eq!(to, node);
            let Body::Query(q) = decode(&bytes).unwrap().body else { panic!() };
            match q.method {
                Method::Get { .. } => gets.push(tid(&bytes)),
                Method::Put(_) => puts.push(tid(&bytes)),
                _ => {}
            }
        }
        // The seed was slow: two tries are under way; the first is answered now.
        if gets.len() == 2 && !answered {
            answered = true;
            let t = gets[0].clone();
            deliver(&mut dht, now, node, &Answer::new(World::scripted_id(1)).encode(&t));
            continue;
        }
        if puts.len() == 1 && !late {
            late = true;
            let t = gets[1].clone();
            deliver(&mut dht, now, node, &Answer::new(World::scripted_id(1)).encode(&t));
            // The put itself is refused.
            let t = puts[0].clone();
            deliver(&mut dht, now, node, &refusal(&t, 302));
            continue;
        }
        for event in events {
            if let Event::Done { lookup, outcome } = event
                && lookup == id
            {
                assert_eq!((outcome.stored, outcome.refusals.len()), (0, 1));
                return;
            }
        }
        now = dht.poll_timeout().map_or(now, |at| at.max(now));
    }
    panic!("never done");
}

#[test]
fn a_known_v4_address_does_not_silence_the_v6_vote() {
    let mut world = World::new(1);
    for i in 0..40 {
        let b = [World::v6(0)];
        world.add(&[World::v6(i)], World::server_config(if i == 0 { &[] } else { &b }));
    }
    let mut config = World::server_config(&[World::v6(0)]);
    config.public_ips = vec![World::v4(99).ip()];
    let dual = world.add(&[World::v4(99), World::v6(99)], config);
    world.run_for(Duration::from_secs(1800));
    let health = world.node(dual).health(world.now()).v6.unwrap();
    assert_eq!(health.external, Some(World::v6(99).ip()));
}

#[test]
fn a_query_timeout_below_the_stall_timeout_does_no_harm() {
    let mut world = World::of_servers(1, 10);
    let mut config = World::server_config(&[World::v4(0)]);
    config.query_timeout = Duration::from_millis(90);
    world.delay(Duration::from_millis(1), Duration::from_millis(2));
    world.add(&[World::v4(99)], config);
    world.run_for(Duration::from_secs(60));
}

#[test]
fn a_tie_between_the_networks_goes_to_the_larger_value() {
    let (small, large) = (signed(1, b"", 5, b"1:a"), signed(1, b"", 5, b"1:b"));
    for v4_large in [false, true] {
        let mut world = World::new(3);
        let b = [World::v4(0), World::v6(0)];
        for i in 0..3 {
            world.add(&[World::v4(i)], World::server_config(if i == 0 { &[] } else { &b[..1] }));
            world.add(&[World::v6(i)], World::server_config(if i == 0 { &[] } else { &b[1..] }));
        }
        world.run_for(Duration::from_secs(60));
        let (on4, on6) = if v4_large { (&large, &small) } else { (&small, &large) };
        assert!(world.look_up(0, &put(on4, None)).1.stored > 0);
        assert!(world.look_up(1, &put(on6, None)).1.stored > 0);
        let dual = world.add(&[World::v4(51), World::v6(51)], World::server_config(&b));
        world.run_for(Duration::from_secs(60));
        let (_, done) = world.look_up(dual, &get(small.id(), b""));
        assert_eq!(done.item.as_deref(), Some(&large), "v4 has the larger: {v4_large}");
    }
}

// Floods.

#[test]
fn contacts_added_one_by_one_start_no_joins() {
    let mut out = Vec::new();
    for add in [false, true] {
        let mut world = World::of_servers(1, 60);
        world.run_for(Duration::from_secs(1800));
        let before = world.node(5).stats().queries_out;
        for n in 0..600_u32 {
            if add {
                world.with(5, |dht, now| {
                    dht.add_contact(now, World::v4(1 + (n as usize % 50)), None);
                });
            }
            world.run_for(Duration::from_secs(1));
        }
        out.push(world.node(5).stats().queries_out - before);
    }
    assert!(out[1] < out[0] + 700);
}

#[test]
fn contacts_that_answer_only_errors_leave() {
    let mut world = World::new(1);
    world.scripted(NODES, |_, heard, answer| {
        if heard.now < Instant::from_secs(300) {
            Some(answer.encode(heard.message.tid))
        } else {
            Some(refusal(heard.message.tid, 202))
        }
    });
    let ours = world.add(&[World::v4(OURS)], World::server_config(&[World::v4(0)]));
    world.run_for(Duration::from_secs(299));
    let before = world.node(ours).stats().contacts;
    world.run_for(Duration::from_secs(48 * 3600));
    let after = world.node(ours).stats().contacts;
    assert!(after < before / 2);
}

#[test]
fn a_refused_sample_tells_the_code() {
    let mut world = World::new(1);
    world.scripted(NODES, |_, heard, answer| {
        if matches!(heard.query.method, Method::SampleInfohashes { .. }) {
            Some(refusal(heard.message.tid, 204))
        } else {
            Some(answer.encode(heard.message.tid))
        }
    });
    let ours = world.add(&[World::v4(OURS)], client());
    let (_, done) = world
        .look_up(ours, &Lookup::Sample { addr: World::v4(3), target: Target::from_bytes([1; 20]) });
    assert_eq!(done.refusals.first().map(|r| r.code), Some(204));
}

#[test]
fn a_lookup_that_could_not_send_ends_as_timed_out() {
    let mut dht = node(World::server_config(&[World::v4(0)]), Networks::V4);
    let mut now = Instant::from_secs(1);
    let id = dht.start(now, &find_node(3)).unwrap();
    now = now + Duration::from_secs(121);
    dht.handle_timeout(now);
    let ends = std::iter::from_fn(|| dht.poll_event()).find_map(|event| match event {
        Event::Done { lookup, outcome } if lookup == id => Some(outcome.ended),
        _ => None,
    });
    assert_eq!(ends, Some(dht_proto::request::Ended::TimedOut));
}

/// The item is found on v4 at once, and v6 is slow.
#[test]
fn an_immutable_put_stores_on_both_networks() {
    let item = Item::immutable(b"5:hello").unwrap();
    let target = item.id();
    let mut world = World::new(3);
    let it = item.clone();
    world.scripted(NODES, move |_, heard, mut answer| {
        if matches!(heard.query.method, Method::Get { target: t, .. } if t == target) {
            answer.item = Some(Stored::of(&it));
        }
        Some(answer.encode(heard.message.tid))
    });
    let puts = Arc::new(AtomicUsize::new(0));
    for i in 0..20 {
        let p = puts.clone();
        world.script(
            World::v6(i),
            Box::new(move |heard| {
                if matches!(heard.query.method, Method::Put(_)) {
                    p.fetch_add(1, Ordering::Relaxed);
                }
                let mut a = Answer::new(World::scripted_id(100 + i));
                // A chain: each knows only the next one, so that the walk takes longer than on v4.
                a.nodes = vec![(World::scripted_id(100 + (i + 1) % 20), World::v6((i + 1) % 20))];
                vec![a.encode(heard.message.tid)]
            }),
        );
    }
    let mut config = client();
    config.bootstrap.push(World::v6(0));
    let ours = world.add(&[World::v4(OURS), World::v6(OURS)], config);
    world.look_up(ours, &put(&item, None));
    world.run_for(Duration::from_secs(60));
    assert!(puts.load(Ordering::Relaxed) >= 8);
}

/// One seed that answers twice, under two ids, the second time after another node has taken that id.
#[test]
fn a_seed_with_two_ids_does_not_hang_the_node() {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(answer_twice()).unwrap());
    let answers = wait.recv_timeout(Duration::from_secs(10));
    assert_eq!(answers, Ok(2), "handle_timeout hangs");
}

/// Returns how often the seed answered.
fn answer_twice() -> usize {
    let (seed, silent) = (World::v4(1), World::v4(2));
    let (near, nearer) = ((id(&[2; 20]), World::v4(3)), (id(&[1; 20]), World::v4(4)));
    let mut config = World::server_config(&[seed, silent]);
    config.k = 2;
    config.alpha = 1;
    let mut dht = node(config, Networks::V4);
    let mut now = Instant::from_secs(1);
    dht.start(now, &find_node(0)).unwrap();
    let mut asked: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    let (mut answers, mut near_answered) = (0, false);
    for _ in 0..600 {
        now = now + Duration::from_millis(10);
        if dht.poll_timeout().is_some_and(|due| due <= now) {
            dht.handle_timeout(now);
        }
        // The socket takes the query a little later.
        let later = now + Duration::from_millis(5);
        asked.extend(drain(&mut dht, later).0.into_iter().filter(|(_, bytes)| {
            let Body::Query(query) = decode(bytes).unwrap().body else { panic!("our own query") };
            matches!(query.method, Method::FindNode { .. })
        }));
        let queries = |to| asked.iter().filter(move |(asked, _)| *asked == to);
        let to_seed: Vec<_> = queries(seed).map(|(_, bytes)| tid(bytes)).collect();
        if to_seed.len() == 2 && answers == 0 {
            answers = 1;
            let mut answer = Answer::new(id(&[9; 20]));
            answer.nodes = vec![near, nearer];
            deliver(&mut dht, later, seed, &answer.encode(&to_seed[0]));
        }
        if let Some((_, bytes)) = queries(near.1).next()
            && !near_answered
        {
            near_answered = true;
            deliver(&mut dht, later, near.1, &Answer::new(near.0).encode(&tid(bytes)));
        }
        if near_answered && answers == 1 && queries(silent).count() == 2 {
            answers = 2;
            deliver(&mut dht, later, seed, &Answer::new(near.0).encode(&to_seed[1]));
        }
    }
    answers
}

/// Puts an item while the `liars` farthest of the eight nearest nodes name 32 near fakes each, who
/// are silent. Returns how many nodes stored it.
fn put_among_liars(liars: usize) -> u32 {
    let item = signed(1, b"", 5, b"4:true");
    let target = item.id();
    let liars = World::nearest(NODES, target.target(), 8).split_off(8 - liars);
    let mut world = World::new(1);
    world.scripted(NODES, move |i, heard, mut answer| {
        let liar = liars.iter().zip(0_u8..).find(|(liar, _)| **liar == i);
        if let Method::Get { target: asked, .. } = heard.query.method
            && let Some((_, liar)) = liar.filter(|_| asked == target)
        {
            let fakes = (0_u8..32).map(|n| {
                let mut id = *target.as_bytes();
                id[18] ^= 1 + liar;
                id[19] ^= n;
                (NodeId::from_bytes(id), SocketAddr::from(([60 + liar, n, 1, 1], 1)))
            });
            answer.nodes = fakes.collect();
        }
        Some(answer.encode(heard.message.tid))
    });
    let ours = world.add(&[World::v4(OURS)], client());
    world.run_for(Duration::from_secs(600));
    world.look_up(ours, &put(&item, None)).1.stored
}

#[test]
fn four_liars_whose_fakes_fill_the_frontier_cannot_deny_a_put() {
    for liars in 0..=4 {
        let stored = put_among_liars(liars);
        assert!(stored >= 4, "{liars} liars, {stored} copies");
    }
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut dht = node(World::server_config(&[World::v4(0)]), Networks::V4);
    let now = Instant::from_secs(100);
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, Instant::from_secs(50));
    assert_eq!(sent.len(), 1);
    // A tenth of a second after it left, by the clock that stands still.
    dht.handle_timeout(now + Duration::from_millis(100));
    assert_eq!(dht.stats().timeouts, 0);
}

#[test]
fn both_networks_take_turns_to_send() {
    let mut config = World::server_config(&[]);
    for i in 0..8 {
        config.bootstrap.push(World::v4(i));
        config.bootstrap.push(World::v6(i));
    }
    let mut dht = node(config, Networks::Both);
    let now = Instant::from_secs(1);
    for n in 0..50 {
        dht.start(
            now,
            &Lookup::GetPeers {
                info_hash: InfoHash::from_bytes([n; 20]),
                scrape: false,
                noseed: false,
            },
        )
        .unwrap();
    }
    let mut buf = [0; MAX_DATAGRAM];
    let first: Vec<_> =
        (0..100).map(|_| dht.poll_transmit(now, &mut buf).unwrap().to.is_ipv6()).collect();
    assert!(first.iter().any(|v6| *v6), "a hundred queries and none on v6");
}
#[test]
fn traffic_on_v4_does_not_hurry_joins_on_a_dead_v6() {
    let run = |v4_traffic: bool| {
        let mut world = World::new(2);
        world.scripted(NODES, move |i, heard, mut answer| {
            if heard.query.want.n6 {
                for j in 0..8 {
                    answer.nodes.push((
                        NodeId::from_bytes([(i * 8 + j) as u8; 20]),
                        World::v6(1000 + i * 8 + j),
                    ));
                }
            }
            Some(answer.encode(heard.message.tid))
        });
        // Joins on v6 walk with get_peers; pings are not counted.
        let joins = Arc::new(AtomicUsize::new(0));
        for n in 999..1320 {
            let c = joins.clone();
            world.script(
                World::v6(n),
                Box::new(move |heard| {
                    if matches!(heard.query.method, Method::GetPeers { .. }) {
                        c.fetch_add(1, Ordering::Relaxed);
                    }
                    Vec::new()
                }),
            );
        }
        let mut config = client();
        config.bootstrap.push(World::v6(999));
        let dual = world.add(&[World::v4(OURS), World::v6(OURS)], config);
        for _ in 0..360 {
            // A lookup that concerns v4 alone.
            if v4_traffic {
                world.start(
                    dual,
                    &Lookup::Sample { addr: World::v4(1), target: Target::from_bytes([1; 20]) },
                );
            }
            world.run_for(Duration::from_secs(10));
        }
        joins.load(Ordering::Relaxed)
    };
    let (quiet, busy) = (run(false), run(true));
    assert!(busy < 2 * quiet);
}

/// Each network reports what it finds; the user never sees an older version after a newer one.
#[test]
fn an_item_of_one_network_is_not_followed_by_an_older_one_of_the_other() {
    let version = |seq| signed(1, b"", seq, b"4:true");
    for (first, second, reported) in [(2, 1, 1), (2, 2, 1), (1, 2, 2)] {
        let config = World::server_config(&[World::v4(0), World::v6(0)]);
        let mut dht = node(config, Networks::Both);
        let now = Instant::from_secs(1);
        let lookup = Lookup::GetItem { target: version(1).id(), salt: vec![], newer_than: None };
        dht.start(now, &lookup).unwrap();
        let (sent, _) = drain(&mut dht, now);
        let mut seqs = Vec::new();
        for (from, seq) in [(World::v4(0), first), (World::v6(0), second)] {
            for (_, bytes) in sent.iter().filter(|(to, _)| *to == from) {
                let Body::Query(query) = decode(bytes).unwrap().body else { continue };
                let Method::Get { .. } = query.method else { continue };
                let mut answer = Answer::new(World::scripted_id(usize::from(from.is_ipv4())));
                answer.item = Some(Stored::of(&version(seq)));
                deliver(&mut dht, now, from, &answer.encode(&tid(bytes)));
            }
            for event in drain(&mut dht, now).1 {
                if let Event::Item { item, .. } = event {
                    seqs.push(item.signed().unwrap().seq);
                }
            }
        }
        assert_eq!(seqs.len(), reported, "{first} then {second}: {seqs:?}");
        assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    }
}

/// Why nobody is known, said as it is.
#[test]
fn a_total_loss_is_told_apart_from_private_addresses_and_from_what_is_no_node() {
    let problem = |world: &World, ours| world.node(ours).health(world.now()).v4.unwrap().problem;
    for kind in 0..3 {
        let mut world = World::new(1);
        world.scripted(NODES, move |_, heard, mut answer| {
            if heard.now > Instant::from_secs(60) {
                return None;
            }
            if kind == 1 {
                let inside = |i: u8| (World::scripted_id(i.into()), ([10, 0, i, 1], 5).into());
                answer.nodes = (1..9).map(inside).collect();
            }
            let tid = heard.message.tid;
            Some(if kind == 2 { refusal(tid, 201) } else { answer.encode(tid) })
        });
        let mut config = client();
        config.offline_after = Duration::from_secs(100_000);
        let ours = world.add(&[World::v4(OURS)], config);
        world.run_for(Duration::from_secs(30));
        assert_eq!(problem(&world, ours).is_none(), kind != 2, "{:?}", problem(&world, ours));
        world.run_for(Duration::from_secs(4 * 60 * 60));
        let expected = [Problem::AllLost, Problem::OnlyPrivate, Problem::NobodyUsable][kind];
        assert_eq!(problem(&world, ours), Some(expected));
        assert_eq!(world.node(ours).stats().bad_nodes > 0, kind == 1);
    }
}

/// "Time jumped; reconnecting": a node that stood still for ten minutes looks for its own id at once.
/// A twin that went on shows that nothing else made it: no such lookup was due in all that time.
#[test]
fn a_jump_of_the_clock_starts_a_join() {
    let joins = |stands_still: bool| {
        let mut world = World::new(1);
        let log = world.scripted(NODES, |_, heard, answer| Some(answer.encode(heard.message.tid)));
        let ours = world.add(&[World::v4(OURS)], client());
        world.run_for(Duration::from_secs(20 * 60));
        let own = world.node(ours).node_id(Family::V4).unwrap().target().info_hash();
        let before = log.entries().len();
        if stands_still {
            world.stop(ours);
        }
        world.run_for(Duration::from_secs(10 * 60));
        if stands_still {
            assert_eq!(log.entries().len(), before, "it stood still");
            world.resume(ours);
        }
        world.run_for(Duration::from_secs(1));
        let is_join = |method: Method<'_>| matches!(method, Method::GetPeers { info_hash, .. } if info_hash == own);
        log.entries()[before..].iter().filter(|entry| is_join(entry.method())).count()
    };
    assert_eq!(joins(false), 0);
    assert!(joins(true) >= 8, "{}", joins(true));
}
