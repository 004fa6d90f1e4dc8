//! Lookups among nodes that answer by script: other implementations with their quirks, and liars.

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

use dht_proto::bloom::Filter;
use dht_proto::config::Config;
use dht_proto::id::{ItemId, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Ended, Event, Lookup, Outcome};
use dht_proto::wire::Method;
use dht_tests::ask::{find_node, get, info_hash, peers, put};
use dht_tests::script::{Answer, Heard, Log, Stored, refusal, signed};
use dht_tests::world::World;

/// Nodes of the scripted network.
const NODES: usize = 40;
/// Index of our own node's address, which no scripted node has.
const OURS: usize = 200;

/// A read-only client among scripted nodes that answer honestly but for what `answer` changes.
fn among(
    answer: impl Fn(usize, &Heard<'_>, Answer) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (World, usize, Log) {
    let mut world = World::new(1);
    let log = world.scripted(NODES, answer);
    let ours = world.add(&[World::v4(OURS)], client());
    (world, ours, log)
}

fn client() -> Config {
    World::client_config(&[World::v4(0)])
}

#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "scripts have this signature"
)]
fn honest(_: usize, heard: &Heard<'_>, answer: Answer) -> Option<Vec<u8>> {
    Some(answer.encode(heard.message.tid))
}

fn get_peers(scrape: bool) -> Lookup {
    Lookup::GetPeers { info_hash: info_hash(9), scrape, noseed: false }
}

/// The nodes of the scripted network nearest to a target, nearest first.
fn nearest(target: Target, n: usize) -> Vec<NodeId> {
    World::nearest(NODES, target, n).into_iter().map(World::scripted_id).collect()
}

fn ids(done: &Outcome) -> Vec<NodeId> {
    done.closest.iter().map(|node| node.id).collect()
}

/// An item as some nodes return it, for `get` of the right target.
fn holding(
    target: ItemId,
    stored: impl Fn(usize) -> Option<Stored> + Send + Sync + 'static,
) -> impl Fn(usize, &Heard<'_>, Answer) -> Option<Vec<u8>> + Send + Sync {
    move |i, heard, mut answer| {
        if matches!(heard.query.method, Method::Get { target: asked, .. } if asked == target) {
            answer.item = stored(i);
        }
        Some(answer.encode(heard.message.tid))
    }
}

// Items.

/// BEP 44 rollback, literature 3.5: with 30 % stale replicas the newest version is read whenever one
/// honest holder answers.
#[test]
fn the_newest_seq_wins_among_stale_replicas() {
    let (old, new) = (signed(1, b"", 1, b"3:old"), signed(1, b"", 2, b"3:new"));
    for honest in nearest(old.id().target(), 8) {
        let (old, new) = (old.clone(), new.clone());
        let (target, newest) = (old.id(), new.clone());
        let (mut world, ours, _) = among(holding(target, move |i| {
            let newest = World::scripted_id(i) == honest;
            (newest || i % 3 == 0).then(|| Stored::of(if newest { &new } else { &old }))
        }));
        let (events, done) = world.look_up(ours, &get(target, b""));
        assert_eq!(done.item.as_deref(), Some(&newest));
        let seqs: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Item { item, .. } => item.signed().unwrap().seq,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "each better than the one before: {seqs:?}");
    }
}

/// Two values under one seq: everybody who sees both must choose alike.
#[test]
fn the_larger_value_wins_a_tie() {
    let (small, large) = (signed(1, b"", 5, b"1:a"), signed(1, b"", 5, b"1:b"));
    for odd_is_large in [false, true] {
        let (target, both) = (small.id(), [small.clone(), large.clone()]);
        let (mut world, ours, _) = among(holding(target, move |i| {
            Some(Stored::of(&both[usize::from((i % 2 == 1) == odd_is_large)]))
        }));
        let (_, done) = world.look_up(ours, &get(target, b""));
        assert_eq!(done.item.as_deref(), Some(&large));
    }
}

/// libtorrent `mutable_get`: forged items are ignored, whatever their seq.
#[test]
fn forged_items_are_ignored() {
    let item = signed(1, b"salt", 1, b"4:true");
    let other_key = Stored::of(&signed(2, b"salt", 9, b"5:false"));
    let honest = Stored::of(&item);
    let (key, signature) = honest.signed.unwrap();
    let forge = move |n: usize| match n % 6 {
        0 => Stored { v: b"5:false".to_vec(), seq: Some(9), ..honest.clone() },
        1 => Stored { seq: Some(9), ..honest.clone() },
        2 => Stored { signed: Some((key, [0; 64])), ..honest.clone() },
        3 => other_key.clone(),
        4 => Stored { seq: None, ..honest.clone() },
        _ => Stored { v: b"i01e".to_vec(), signed: Some((key, signature)), seq: Some(9) },
    };
    let (mut world, ours, _) = among(holding(item.id(), move |i| Some(forge(i))));
    let (events, done) = world.look_up(ours, &get(item.id(), b"salt"));
    assert_eq!((events.len(), done.item, done.ended), (0, None, Ended::Completed));
}

/// libtorrent `immutable_get`; and the shadow of wire-and-peers 3e: a libtorrent node that was
/// made to store a value without signature under a mutable target returns it without `k`.
#[test]
fn a_value_that_does_not_hash_to_its_target_is_ignored() {
    let wrong = Stored { v: b"5:wrong".to_vec(), signed: None, seq: None };
    let immutable = Item::immutable(b"5:right").unwrap();
    let mutable = signed(1, b"", 3, b"5:right");
    for item in [immutable, mutable] {
        let (target, true_item) = (item.id(), item.clone());
        let holder = nearest(target.target(), 8)[7];
        let shadow = wrong.clone();
        let (mut world, ours, _) = among(holding(target, move |i| {
            Some(if World::scripted_id(i) == holder {
                Stored::of(&true_item)
            } else {
                shadow.clone()
            })
        }));
        let (events, done) = world.look_up(ours, &get(target, b""));
        assert_eq!(done.item.as_deref(), Some(&item));
        assert_eq!(events.len(), 1, "{events:?}");
    }
}

/// BEP 44: with `seq` a node leaves out what we have; that is an answer and no item.
#[test]
fn a_conditional_get_takes_only_newer_versions() {
    let stored = signed(1, b"", 7, b"1:x");
    let (target, parts) = (stored.id(), Stored::of(&stored));
    // This node ignores `seq` in `get`, as most do.
    let (mut world, ours, log) = among(holding(target, move |_| Some(parts.clone())));
    let newer_than = |seq| Lookup::GetItem { target, salt: Vec::new(), newer_than: Some(seq) };
    assert!(world.look_up(ours, &newer_than(7)).1.item.is_none());
    assert_eq!(world.look_up(ours, &newer_than(6)).1.item.as_deref(), Some(&stored));
    let asked =
        log.entries().iter().any(|e| matches!(e.method(), Method::Get { seq: Some(7), .. }));
    assert!(asked, "`seq` is sent");
}

/// BEP 44: `cas` goes to nodes that returned a value and to nobody else.
#[test]
fn cas_is_not_sent_to_nodes_without_the_item() {
    let (old, new) = (signed(1, b"", 1, b"3:old"), signed(1, b"", 2, b"3:new"));
    let (target, parts) = (old.id(), Stored::of(&old));
    let (mut world, ours, log) =
        among(holding(target, move |i| (i % 2 == 0).then(|| parts.clone())));
    let (_, done) = world.look_up(ours, &put(&new, Some(1)));
    assert_eq!((done.stored, done.item.as_deref()), (8, Some(&old)));
    let (mut with, mut without) = (0, 0);
    for entry in log.entries() {
        let Method::Put(put) = entry.method() else { continue };
        let i = (0..NODES).find(|i| World::v4(*i) == entry.to).unwrap();
        let cas = put.mutable.unwrap().cas;
        assert_eq!(cas, (i % 2 == 0).then_some(1), "node {i}");
        *if cas.is_some() { &mut with } else { &mut without } += 1;
    }
    assert!(with > 0 && without > 0, "{with} {without}");
}

/// libtorrent `immutable_put`, `mutable_put`: zero to eight acknowledgements, and all codes of the
/// refusals. wire-and-peers 3d: some answer 302 to the same version again.
#[test]
fn a_put_counts_acknowledgements_and_refusals_by_code() {
    let item = signed(1, b"", 1, b"1:x");
    for willing in [0, 3, 8] {
        let accept = nearest(item.id().target(), willing);
        let (mut world, ours, _) = among(move |i, heard, answer| {
            if matches!(heard.query.method, Method::Put(_))
                && !accept.contains(&World::scripted_id(i))
            {
                return Some(refusal(heard.message.tid, 302));
            }
            Some(answer.encode(heard.message.tid))
        });
        let (_, done) = world.look_up(ours, &put(&item, None));
        assert_eq!((done.stored, done.refusals.len()), (willing as u32, 8 - willing), "{done:?}");
        assert!(done.refusals.iter().all(|refusal| refusal.code == 302));
        let mut refused: Vec<_> = done.refusals.iter().map(|refusal| refusal.node.id).collect();
        refused.sort_unstable();
        refused.dedup();
        assert_eq!(refused.len(), 8 - willing, "each refusal names its node");
    }
}

/// A node that is full or busy (201 to 204) decides nothing: the next nearest takes its place.
#[test]
fn a_busy_node_is_replaced_by_the_next_nearest() {
    let item = Item::immutable(b"1:x").unwrap();
    let busy = nearest(item.id().target(), 1);
    let (mut world, ours, log) = among(move |i, heard, answer| {
        if matches!(heard.query.method, Method::Put(_)) && busy.contains(&World::scripted_id(i)) {
            return Some(refusal(heard.message.tid, 202));
        }
        Some(answer.encode(heard.message.tid))
    });
    let (_, done) = world.look_up(ours, &put(&item, None));
    assert_eq!((done.stored, done.refusals.len()), (8, 1), "{done:?}");
    let puts = log.entries().iter().filter(|e| matches!(e.method(), Method::Put(_))).count();
    assert_eq!(puts, 9);
}

/// Three of the nearest are busy and nobody farther away was asked yet: the walk goes on for tokens,
/// until eight have it. Silence counts like a refusal, a withheld token too.
#[test]
fn a_put_widens_until_enough_nodes_took_it() {
    for how in 0..3 {
        let item = Item::immutable(b"1:x").unwrap();
        let busy = nearest(item.id().target(), 3);
        let (mut world, ours, log) = among(move |i, heard, mut answer| {
            let put = matches!(heard.query.method, Method::Put(_));
            if !busy.contains(&World::scripted_id(i)) {
                return Some(answer.encode(heard.message.tid));
            }
            match how {
                0 if put => return Some(refusal(heard.message.tid, 202)),
                1 if put => return None,
                2 => answer.token = None,
                _ => {}
            }
            Some(answer.encode(heard.message.tid))
        });
        let (_, done) = world.look_up(ours, &put(&item, None));
        assert_eq!((done.stored, done.ended), (8, Ended::Completed), "{how}: {done:?}");
        let mut asked: Vec<_> = log
            .entries()
            .iter()
            .filter(|entry| matches!(entry.method(), Method::Put(_)))
            .map(|entry| entry.to)
            .collect();
        let puts = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(puts, asked.len(), "nobody is asked twice");
        assert_eq!(puts, if how == 2 { 8 } else { 11 });
    }
}

/// However many refuse, the search for others ends: after 2 k nodes more.
#[test]
fn widening_is_bounded() {
    let item = Item::immutable(b"1:x").unwrap();
    let (mut world, ours, log) = among(|i, heard, mut answer| {
        // There is no end to the nodes that they name.
        let others = (i + 1..=i + 16).map(|j| j % NODES);
        answer.nodes = others.map(|j| (World::scripted_id(j), World::v4(j))).collect();
        let put = matches!(heard.query.method, Method::Put(_));
        Some(if put { refusal(heard.message.tid, 202) } else { answer.encode(heard.message.tid) })
    });
    let (_, done) = world.look_up(ours, &put(&item, None));
    let puts = log.entries().iter().filter(|e| matches!(e.method(), Method::Put(_))).count();
    assert!((24..=32).contains(&puts), "{puts}");
    assert_eq!((done.stored, done.refusals.len(), done.errors), (0, puts, puts as u32));
}

/// Errors are no replies: whoever meets nothing else falls back on the bootstrap addresses, and has
/// not succeeded.
#[test]
fn a_walk_that_meets_only_errors_falls_back_and_does_not_claim_success() {
    let refuse = Arc::new(AtomicUsize::new(0));
    let mode = refuse.clone();
    let (mut world, ours, log) = among(move |i, heard, answer| {
        let mode = mode.load(Ordering::Relaxed);
        let willing = mode == 0 || (mode == 1 && i == 0);
        let tid = heard.message.tid;
        Some(if willing { answer.encode(tid) } else { refusal(tid, 202) })
    });
    world.run_for(Duration::from_secs(60));
    assert!(world.node(ours).stats().contacts >= 3);
    let target = NodeId::from_bytes([!World::scripted_id(0).as_bytes()[0]; 20]);
    for (mode, ended) in [(1, Ended::Completed), (2, Ended::OnlyErrors)] {
        refuse.store(mode, Ordering::Relaxed);
        let before = log.entries().len();
        let (_, done) = world.look_up(ours, &Lookup::FindNode { target });
        assert_eq!(done.ended, ended, "{done:?}");
        assert_eq!(done.replies > 0, mode == 1, "{done:?}");
        assert!(done.errors > 0 && done.queries >= done.replies + done.errors);
        let entries = log.entries();
        let asked = entries[before..].iter().any(|entry| entry.to == World::v4(0));
        assert!(asked, "the bootstrap address is asked in the end");
    }
}

// Samples.

/// BEP 51: the nodes beside the samples lead a crawler on; `interval` is 0 to 21600 s.
#[test]
fn samples_carry_nodes_and_an_interval_within_bounds() {
    for (told, heard) in [(-5, 0), (60, 60), (21_601, 21_600), (i64::MAX, 21_600)] {
        let (mut world, ours, _) = among(move |_, heard, mut answer| {
            answer.nodes.truncate(3);
            answer.nodes.push((NodeId::from_bytes([7; 20]), World::v6(1)));
            answer.nodes.push((NodeId::from_bytes([8; 20]), "10.0.0.1:5".parse().unwrap()));
            answer.extra = format!("7:samples20:{}", "s".repeat(20)).into_bytes();
            let mut out = answer.encode(heard.message.tid);
            // In front of the id, where its place is not, but nobody minds.
            let at = out.windows(3).position(|part| part == b"1:r").unwrap() + 4;
            out.splice(at..at, format!("8:intervali{told}e").into_bytes());
            Some(out)
        });
        let lookup = Lookup::Sample { addr: World::v4(1), target: Target::from_bytes([9; 20]) };
        let (events, done) = world.look_up(ours, &lookup);
        let [Event::Samples { samples, interval, nodes, .. }] = &events[..] else {
            panic!("{events:?} {done:?}");
        };
        assert_eq!((samples.len(), *interval), (1, Some(Duration::from_secs(heard))));
        let v6 = nodes.iter().filter(|node| node.addr.is_ipv6()).count();
        assert_eq!((nodes.len(), v6), (4, 1), "both networks, nothing private: {nodes:?}");
    }
}

// Tokens.

/// wire-and-peers 3c.2: a token goes back to the address that gave it, and only there; mldht binds
/// it to our id and port as well, which do not change meanwhile.
#[test]
fn a_token_goes_back_to_where_it_came_from() {
    let (mut world, ours, log) = among(|i, heard, mut answer| {
        answer.token = Some(vec![i as u8; 1 + i]);
        Some(answer.encode(heard.message.tid))
    });
    let item = Item::immutable(b"1:x").unwrap();
    let announce =
        Lookup::Announce { info_hash: info_hash(9), port: AnnouncePort::Implied, seed: false };
    for lookup in [announce, put(&item, None)] {
        let (_, done) = world.look_up(ours, &lookup);
        assert_eq!(done.stored, 8, "tokens of 1 to 40 bytes serve: {done:?}");
    }
    let mut stores = 0;
    for entry in log.entries() {
        let token = match entry.method() {
            Method::AnnouncePeer { token, port, implied_port, .. } => {
                assert!(implied_port && port == 6881, "3c.4: a real port goes along");
                token.to_vec()
            }
            Method::Put(put) => put.token.to_vec(),
            _ => continue,
        };
        let i = (0..NODES).find(|i| World::v4(*i) == entry.to).unwrap();
        assert_eq!(token, vec![i as u8; 1 + i]);
        assert_eq!(entry.from, World::v4(OURS));
        stores += 1;
    }
    assert_eq!(stores, 16);
}

/// A node that withholds its token is full: the next nearest is announced to.
#[test]
fn nodes_without_token_are_passed_over() {
    let target = info_hash(9).target();
    let full = nearest(target, 5);
    let (mut world, ours, log) = among(move |i, heard, mut answer| {
        if full.contains(&World::scripted_id(i)) {
            answer.token = None;
        }
        Some(answer.encode(heard.message.tid))
    });
    let announce = Lookup::Announce {
        info_hash: info_hash(9),
        port: AnnouncePort::Explicit(4000),
        seed: true,
    };
    let (_, done) = world.look_up(ours, &announce);
    let full = nearest(target, 5);
    assert!(done.stored >= 3, "{done:?}");
    let told =
        log.entries().into_iter().filter(|e| matches!(e.method(), Method::AnnouncePeer { .. }));
    for entry in told {
        let i = (0..NODES).find(|i| World::v4(*i) == entry.to).unwrap();
        assert!(!full.contains(&World::scripted_id(i)));
        let Method::AnnouncePeer { port, implied_port, seed, .. } = entry.method() else {
            continue;
        };
        assert_eq!((port, implied_port, seed), (4000, false, true));
    }
}

// Peers.

/// wire-and-peers 3d.9: nobody listens on port 0, and port 1 is what jech/dht before 0.25 stored
/// for peers that announced with `implied_port`.
#[test]
fn peers_with_port_0_or_1_are_dropped() {
    let (mut world, ours, _) = among(|_, heard, mut answer| {
        let peer = |port| SocketAddr::from(([99, 1, 2, 3], port));
        answer.values = vec![peer(0), peer(1), peer(2), peer(65535)];
        Some(answer.encode(heard.message.tid))
    });
    let (events, done) = world.look_up(ours, &get_peers(false));
    let ports: Vec<_> = peers(&events).iter().map(SocketAddr::port).collect();
    assert_eq!((ports, done.peers), (vec![2, 65535], 2));
}

/// BEP 32: "peers only of the transport family"; mixed lists are read.
#[test]
fn peers_and_nodes_of_the_other_family_are_ignored() {
    let (mut world, ours, _) = among(|_, heard, mut answer| {
        answer.values = vec![World::v6(5), World::v4(5000), World::v6(6), World::v4(5001)];
        answer.nodes.extend((0..8).map(|i| (NodeId::from_bytes([9; 20]), World::v6(i))));
        Some(answer.encode(heard.message.tid))
    });
    let (events, done) = world.look_up(ours, &get_peers(false));
    assert_eq!(peers(&events), [World::v4(5000), World::v4(5001)]);
    assert!(done.closest.iter().all(|node| node.addr.is_ipv4()));
}

/// A node on the internet that names loopback, private or impossible addresses is wrong or lying:
/// nothing is sent there.
#[test]
fn martian_nodes_and_peers_are_ignored() {
    let martians = || {
        [[127, 0, 0, 1], [10, 0, 0, 1], [192, 168, 1, 1], [0, 1, 2, 3], [224, 0, 0, 1], [255; 4]]
            .map(|ip| SocketAddr::from((ip, 6881)))
    };
    let mut world = World::new(1);
    let log = world.scripted(NODES, move |i, heard, mut answer| {
        let target = info_hash(9);
        let near = |n: usize| {
            let mut id = *target.as_bytes();
            id[19] ^= (n + 6 * i) as u8;
            NodeId::from_bytes(id)
        };
        answer.nodes.extend(martians().into_iter().enumerate().map(|(n, addr)| (near(n), addr)));
        answer.nodes.push((near(77), SocketAddr::from(([9, 9, 9, 9], 0))));
        answer.values = martians().to_vec();
        Some(answer.encode(heard.message.tid))
    });
    let there: Vec<Log> = martians().into_iter().map(|addr| world.eavesdrop(addr)).collect();
    let ours = world.add(&[World::v4(OURS)], client());
    let (events, done) = world.look_up(ours, &get_peers(false));
    assert_eq!((events.len(), done.peers, done.ended), (0, 0, Ended::Completed));
    world.run_for(Duration::from_secs(600));
    assert!(there.iter().all(|log| log.entries().is_empty()));
    assert!(!log.entries().is_empty());
}

/// wire-and-peers 3d.15: bittorrent-dht sends its whole table. A reply is read up to 8 KB, but one
/// node does not fill the lookup: 32 nodes and 128 peers of a reply are taken.
#[test]
fn replies_of_several_kilobytes_are_capped() {
    let mut world = World::new(1);
    world.script(
        World::v4(0),
        Box::new(|heard| {
            let mut answer = Answer::new(World::scripted_id(0));
            answer.nodes = (1..200).map(|i| (World::scripted_id(i % 250), World::v4(i))).collect();
            answer.values = (0..250).map(|i| World::v4(10_000 + i)).collect();
            vec![answer.encode(heard.message.tid)]
        }),
    );
    let others: Vec<Log> = (1..200).map(|i| world.eavesdrop(World::v4(i))).collect();
    let mut config = client();
    config.max_candidates = 0;
    let ours = world.add(&[World::v4(OURS)], config);
    let (events, done) = world.look_up(ours, &get_peers(false));
    assert_eq!(peers(&events).len(), 128);
    let hash = info_hash(9);
    let asked = others.iter().filter(|log| {
        log.entries()
            .iter()
            .any(|e| matches!(e.method(), Method::GetPeers { info_hash, .. } if info_hash == hash))
    });
    assert_eq!(asked.count(), 16, "{done:?}");
}

/// BEP 33: filters of all nodes are merged, both names of the seed filter are read, and what only
/// lists values counts as downloaders, unless it is in somebody's seed filter.
#[test]
fn scrapes_merge_filters_and_count_legacy_replies() {
    fn filter(range: std::ops::Range<usize>) -> Vec<u8> {
        let mut filter = Filter::EMPTY;
        range.for_each(|i| filter.insert(World::v4(5000 + i).ip()));
        filter.as_bytes().to_vec()
    }
    let (mut world, ours, log) = among(|i, heard, mut answer| {
        let key = |name: &[u8], bits: Vec<u8>| [b"4:", name, b"256:", &bits[..]].concat();
        match i % 4 {
            // 20 seeds and 30 downloaders, seen by halves, with 10 in both.
            0 => {
                answer.extra = [key(b"BFpe", filter(20..40)), key(b"BFsd", filter(0..15))].concat();
            }
            1 => {
                answer.extra = [key(b"BFpe", filter(30..50)), key(b"BFse", filter(5..20))].concat();
            }
            // Legacy: ten downloaders of its own, and two of the seeds.
            2 => answer.values = (50..60).chain(0..2).map(|i| World::v4(5000 + i)).collect(),
            _ => {}
        }
        Some(answer.encode(heard.message.tid))
    });
    let (_, done) = world.look_up(ours, &get_peers(true));
    let found = done.scrape.unwrap();
    assert!((found.seeds - 20.0).abs() < 1.5, "{found:?}");
    assert!((found.downloaders - 40.0).abs() < 2.5, "{found:?}");
    let scraped =
        log.entries().iter().any(|e| matches!(e.method(), Method::GetPeers { scrape: true, .. }));
    assert!(scraped);
    assert_eq!(world.look_up(ours, &get_peers(false)).1.scrape, None, "only if asked for");
}

// Walking.

/// libtorrent `unsorted_traversal_results`: lists in any order, results sorted.
#[test]
fn unsorted_replies_give_sorted_results() {
    let (mut world, ours, _) = among(|i, heard, mut answer| {
        if i % 2 == 0 {
            answer.nodes.reverse();
        } else {
            let n = answer.nodes.len() / 2;
            answer.nodes.rotate_left(n);
        }
        Some(answer.encode(heard.message.tid))
    });
    let (_, done) = world.look_up(ours, &find_node(21));
    assert_eq!(ids(&done), nearest(Target::from_bytes([21; 20]), 8));
}

/// anacrolix/dht answers find_node with nodes near zero (wire-and-peers 3c.7): the walk does not
/// depend on the nodes being near the target.
#[test]
fn nodes_far_from_the_target_do_no_harm() {
    let (mut world, ours, _) = among(|i, heard, mut answer| {
        if i % 3 == 0 {
            answer.nodes = (0..8).map(|i| (World::scripted_id(i), World::v4(i))).collect();
        }
        Some(answer.encode(heard.message.tid))
    });
    let (_, done) = world.look_up(ours, &find_node(34));
    assert_eq!(ids(&done), nearest(Target::from_bytes([34; 20]), 8));
}

/// A node that knows no method of ours but answers so is alive, and does not block the end.
#[test]
fn nodes_that_answer_errors_do_not_block_the_end() {
    for code in [201, 203, 204] {
        let (mut world, ours, _) = among(move |i, heard, answer| {
            if i % 3 == 1 && !matches!(heard.query.method, Method::Ping) {
                return Some(refusal(heard.message.tid, code));
            }
            Some(answer.encode(heard.message.tid))
        });
        let item = Item::immutable(b"1:x").unwrap();
        let (_, done) = world.look_up(ours, &put(&item, None));
        assert_eq!((done.ended, done.stored, done.timeouts), (Ended::Completed, 8, 0));
        assert!(done.duration < Duration::from_secs(4), "{done:?}");
        let refusing = |id: &NodeId| (0..NODES).any(|i| i % 3 == 1 && World::scripted_id(i) == *id);
        assert!(!ids(&done).iter().any(refusing), "{done:?}");
    }
}

/// wire-and-peers 3c.8: jech/dht, bittorrent-dht and rqbit are silent to methods that they do not
/// know. That is no reason to drop them: they serve get_peers as well as anybody.
#[test]
fn silence_to_get_put_and_sample_infohashes_blames_nobody() {
    let silent = |i: usize| i.is_multiple_of(2);
    let (mut world, ours, log) = among(move |i, heard, answer| match heard.query.method {
        Method::Get { .. } | Method::Put(_) | Method::SampleInfohashes { .. } if silent(i) => None,
        _ => Some(answer.encode(heard.message.tid)),
    });
    for byte in 0..16 {
        world.look_up(ours, &find_node(byte * 16));
    }
    let before = world.node(ours).snapshot().v4.unwrap().contacts;
    assert!(before.len() >= 20, "{}", before.len());
    let item = Item::immutable(b"1:x").unwrap();
    for _ in 0..12 {
        assert_eq!(world.look_up(ours, &get(item.id(), b"")).1.ended, Ended::Completed);
        world.look_up(ours, &put(&item, None));
        let (addr, target) = (World::v4(4), Target::from_bytes([1; 20]));
        world.look_up(ours, &Lookup::Sample { addr, target });
    }
    world.run_for(Duration::from_secs(15));
    assert!(world.node(ours).stats().timeouts > 100, "silence was met");
    let after = world.node(ours).snapshot().v4.unwrap().contacts;
    assert!(before.iter().all(|contact| after.contains(contact)));
    // They are asked first, as contacts, for what they know.
    let asked_so_far = log.entries().len();
    let target = nearest(item.id().target(), 8);
    world.start(ours, &Lookup::FindNode { target: target[0] });
    world.run_for(Duration::from_millis(90));
    let asked: Vec<_> = log.entries().drain(asked_so_far..).map(|e| e.to).collect();
    assert!(
        asked.iter().any(|to| (0..NODES).any(|i| silent(i) && World::v4(i) == *to)),
        "{asked:?}"
    );
}

/// wire-and-peers 3c.7: maintenance walks with get_peers, so that a reader cannot tell it from a
/// lookup and anacrolix/dht answers for the right target. Find_node is for `FindNode` alone.
#[test]
fn maintenance_walks_with_get_peers() {
    let (mut world, _, log) = among(honest);
    world.run_for(Duration::from_secs(3600));
    let (mut get_peers, mut others) = (0, 0);
    for entry in log.entries() {
        match entry.method() {
            Method::GetPeers { scrape, noseed, .. } => {
                assert!(!scrape && !noseed);
                get_peers += 1;
            }
            Method::Ping => {}
            _ => others += 1,
        }
    }
    assert!(get_peers > 10 && others == 0, "{get_peers} {others}");
}

/// wire-and-peers 3c.1 and 3c.11: four bytes of transaction id, never the same or in sequence, and
/// four of version, in every query.
#[test]
fn every_query_has_4_bytes_of_t_and_of_v() {
    let (mut world, ours, log) = among(honest);
    world.look_up(ours, &get_peers(false));
    world.run_for(Duration::from_secs(3600));
    let mut tids: Vec<u32> = Vec::new();
    for entry in log.entries() {
        let message = entry.message();
        tids.push(u32::from_be_bytes(message.tid.try_into().unwrap()));
        assert_eq!(message.version.unwrap().len(), 4);
    }
    let successors = tids.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 16).count();
    assert!(tids.len() > 50 && successors <= 1, "{successors} of {}", tids.len());
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), log.entries().len());
}

// BEP 32.

/// BEP 32: a query asks for both families while the other network is hungry, and for none (which
/// means the family of the transport) once it is not. libtorrent `bootstrap_want`.
#[test]
fn want_names_both_families_while_the_other_one_is_hungry() {
    let mut world = World::new(2);
    let log = world.scripted(NODES, honest);
    let dual = world.add(&[World::v4(OURS), World::v6(OURS)], client());
    let alone = world.add(&[World::v4(OURS + 1)], client());
    world.look_up(dual, &get_peers(false));
    world.look_up(alone, &get_peers(false));
    let wants = |from: SocketAddr| {
        let entries = log.entries().into_iter().filter(move |e| e.from == from);
        entries.filter(|e| !matches!(e.method(), Method::Ping)).map(|e| {
            let dht_proto::wire::Body::Query(query) = e.message().body else { panic!() };
            (query.want.n4, query.want.n6)
        })
    };
    assert!(wants(World::v4(OURS)).count() > 8);
    assert!(wants(World::v4(OURS)).all(|want| want == (true, true)));
    assert!(wants(World::v4(OURS + 1)).all(|want| want == (false, false)));
}

/// The nodes of the other family in a reply fill the other table, if they answer there.
#[test]
fn nodes_of_the_other_family_feed_the_other_table() {
    let mut world = World::new(2);
    let far = world.add(&[World::v6(1)], World::server_config(&[]));
    let far_id = world.node(far).node_id(dht_proto::addr::Family::V6).unwrap();
    world.scripted(NODES, move |_, heard, mut answer| {
        if heard.query.want.n6 {
            answer.nodes.push((far_id, World::v6(1)));
            let loopback = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 6881));
            answer.nodes.push((NodeId::from_bytes([9; 20]), loopback));
        }
        Some(answer.encode(heard.message.tid))
    });
    let martian = world.eavesdrop(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 6881)));
    let dual = world.add(&[World::v4(OURS), World::v6(OURS)], client());
    world.run_for(Duration::from_secs(300));
    let v6 = world.node(dual).snapshot().v6.unwrap().contacts;
    assert_eq!(v6.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [far_id]);
    assert!(martian.entries().is_empty());
}

// BEP 43.

/// libtorrent `read_only_node`, anacrolix/dht `TestMsgReadOnly`: a read-only node says so in every
/// query of every kind.
#[test]
fn a_client_says_ro_in_every_query() {
    let (mut world, ours, log) = among(honest);
    let announce =
        Lookup::Announce { info_hash: info_hash(9), port: AnnouncePort::Implied, seed: false };
    let item = Item::immutable(b"1:x").unwrap();
    let sample = Lookup::Sample { addr: World::v4(1), target: Target::from_bytes([1; 20]) };
    let ping = Lookup::Ping { addr: World::v4(1) };
    for lookup in [find_node(5), get_peers(true), announce, put(&item, None), sample, ping] {
        world.look_up(ours, &lookup);
    }
    world.run_for(Duration::from_secs(3600));
    let entries = log.entries();
    let kinds: std::collections::BTreeSet<_> = entries
        .iter()
        .map(|e| std::mem::discriminant(&e.method()))
        .map(|d| format!("{d:?}"))
        .collect();
    assert_eq!(kinds.len(), 7, "all seven methods were sent");
    assert!(entries.iter().all(|entry| entry.message().read_only));
}
