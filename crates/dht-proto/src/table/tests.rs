use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use super::*;
use crate::id::{ID_LEN, bep42};
use crate::seed::{Domain, Seed, Stream};

mod attacks;
mod model;
mod policy;
mod upkeep;

const T0: Instant = Instant::from_secs(1_000);
const RTT: Duration = Duration::from_millis(100);

fn stream(seed: u8) -> Stream {
    Seed::from_bytes([seed; 32]).stream(Domain::RefreshTarget)
}

fn random_id(stream: &mut Stream) -> NodeId {
    let mut bytes = [0; ID_LEN];
    rand_core::Rng::fill_bytes(stream, &mut bytes);
    NodeId::from_bytes(bytes)
}

/// An id that begins with these bytes and is zero otherwise.
fn id(prefix: &[u8]) -> NodeId {
    let mut bytes = [0; ID_LEN];
    bytes[..prefix.len()].copy_from_slice(prefix);
    NodeId::from_bytes(bytes)
}

/// The n-th global address, each in a subnet and an allocation of its own.
trait Nth: Addr {
    fn nth(n: u32) -> Self;
}

impl Nth for SocketAddrV4 {
    fn nth(n: u32) -> Self {
        let [_, a, b, c] = n.to_be_bytes();
        Self::new(Ipv4Addr::new(32 + a, b, c, 1), 6881)
    }
}

impl Nth for SocketAddrV6 {
    fn nth(n: u32) -> Self {
        let [_, a, b, c] = n.to_be_bytes();
        let allocation = [0x2600 + u16::from(a), u16::from_be_bytes([b, c])];
        Self::new(Ipv6Addr::new(allocation[0], allocation[1], 0, 0, 0, 0, 0, 1), 6881, 0, 0)
    }
}

fn v4(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn plain() -> Config {
    Config { extended_buckets: false, ..Config::default() }
}

/// A table whose every contact answered at T0, with random ids.
fn filled<A: Nth>(nodes: u32, config: &Config) -> Table<A> {
    let mut stream = stream(1);
    let mut table = Table::new(random_id(&mut stream));
    for n in 0..nodes {
        let _ = table.replied(T0, random_id(&mut stream), A::nth(n), RTT, config);
    }
    table.check_invariants(config);
    table
}

fn ids<A: Addr>(table: &Table<A>) -> Vec<NodeId> {
    table.contacts().iter().map(Contact::id).collect()
}

fn closest_ids<A: Addr>(table: &Table<A>, target: Target, n: usize) -> Vec<NodeId> {
    let mut found = Vec::new();
    table.closest(target, |contact| {
        found.push(contact.id());
        found.len() < n
    });
    found.truncate(n);
    found
}

/// The same by sorting everything.
fn closest_by_sorting<A: Addr>(table: &Table<A>, target: Target, n: usize) -> Vec<NodeId> {
    let mut all: Vec<_> =
        table.contacts().iter().filter(|c| c.is_good()).map(Contact::id).collect();
    all.sort_by_key(|id| id.distance(target));
    all.truncate(n);
    all
}

/// libtorrent `routing_table_v4`/`_v6`: a waiting candidate takes the place of a failing contact,
/// an endpoint that changes its id goes, ten thousand nodes fill as many buckets as they should,
/// and the closest are those that sorting finds.
fn routing_table<A: Nth>() {
    let config = plain();
    let mut table = Table::<A>::new(id(&[]));
    for n in 0..8 {
        let far = id(&[0x80 + 16 * n]);
        assert_eq!(table.replied(T0, far, A::nth(n.into()), RTT, &config), Verdict::Added);
    }
    let ninth = id(&[0x81]);
    assert_eq!(table.replied(T0, ninth, A::nth(8), RTT, &config), Verdict::Waiting);
    assert_eq!((table.len(), table.candidates_len()), (8, 1));
    assert!(table.get(ninth).is_none());

    let victim = id(&[0xa0]);
    assert!(!table.failed(T0, Some(victim), A::nth(2), false, &config));
    assert_eq!(table.get(victim).unwrap().fails(), 1);
    assert!(table.failed(T0, Some(victim), A::nth(2), false, &config));
    assert!(table.get(victim).is_none() && table.get(ninth).is_some());
    assert_eq!((table.len(), table.candidates_len()), (8, 0));

    let changed = id(&[0xc1]);
    assert_eq!(table.replied(T0, changed, A::nth(4), RTT, &config), Verdict::IdChanged);
    assert!(table.get(id(&[0xc0])).is_none() && table.get(changed).is_none());
    table.check_invariants(&config);

    let table = filled::<A>(10_000, &config);
    let is_full = |i: &usize| table.bucket(*i).len() == 8;
    let full = (0..BUCKETS).filter(is_full).count();
    assert!((9..=12).contains(&full) && table.depth() >= full, "{full} {}", table.depth());
    let mut stream = stream(2);
    for n in [1, 2, 8, 20, 1_000] {
        for _ in 0..200 {
            let target = random_id(&mut stream).target();
            assert_eq!(closest_ids(&table, target, n), closest_by_sorting(&table, target, n));
        }
    }
    for &own in &ids(&table) {
        assert_eq!(closest_ids(&table, own.target(), 1), [own]);
    }
}

#[test]
fn routing_table_v4() {
    routing_table::<SocketAddrV4>();
}

#[test]
fn routing_table_v6() {
    routing_table::<SocketAddrV6>();
}

#[test]
fn routing_table_uniform() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for first in 1..=255 {
        let _ = table.replied(T0, id(&[first]), Nth::nth(first.into()), RTT, &config);
    }
    table.check_invariants(&config);
    let sizes: Vec<_> = (0..9).map(|i| table.bucket(i).len()).collect();
    assert_eq!(sizes, [8, 8, 8, 8, 8, 4, 2, 1, 0]);
    assert_eq!((table.len(), table.depth()), (47, 8));
}

/// libtorrent's table splits buckets and must not split for nodes crowded in one place; with fixed
/// buckets such nodes get the room of one bucket.
#[test]
fn routing_table_balance() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..1_000_u16 {
        let [a, b] = n.to_be_bytes();
        let _ = table.replied(T0, id(&[0xff, 0xff, a, b]), Nth::nth(n.into()), RTT, &config);
    }
    table.check_invariants(&config);
    assert_eq!((table.len(), table.depth()), (8, 1));
}

#[test]
fn routing_table_extended() {
    let config = Config::default();
    let table = filled::<SocketAddrV4>(5_000, &config);
    let sizes: Vec<_> = (0..6).map(|i| table.bucket(i).len()).collect();
    assert_eq!(sizes, [128, 64, 32, 16, 8, 8]);
    let overlay = Config { k: 20, ..Config::default() };
    let capacities: Vec<_> = (0..6).map(|i| bucket::capacity(i, &overlay)).collect();
    assert_eq!(capacities, [128, 64, 32, 20, 20, 20]);
    assert_eq!(Table::<SocketAddrV4>::max_len(&config), 240 + 28 * 8);
    assert_eq!(Table::<SocketAddrV4>::max_len(&plain()), 32 * 8);
}

#[test]
fn routing_table_set_id() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(60, &config);
    let before = table.len();
    let mut known = ids(&table);
    let mut stream = stream(3);
    let own = random_id(&mut stream);
    table.set_own_id(T0, own, &config);
    table.check_invariants(&config);
    assert_eq!(table.own_id(), own);
    known.sort_by_key(|id| id.distance(own.target()));
    assert_eq!(ids(&table), known, "all of {before} fit");

    // A full table loses only what its new buckets have no room for, and keeps that in mind.
    let mut table = filled::<SocketAddrV4>(5_000, &config);
    let old = ids(&table);
    table.set_own_id(T0, own, &config);
    table.check_invariants(&config);
    assert!(ids(&table).iter().all(|id| old.contains(id)));
    for &id in old.iter().filter(|id| table.get(**id).is_none()) {
        let bucket = bucket::index(own, id);
        assert_eq!(table.bucket(bucket).len(), bucket::capacity(bucket, &config));
    }
    assert!(table.candidates_len() > 0);
    assert!(table.refresh_due().is_some());
}

#[test]
fn a_contact_with_our_new_id_goes() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(50, &config);
    let taken = table.contacts()[7].id();
    table.set_own_id(T0, taken, &config);
    table.check_invariants(&config);
    assert_eq!(table.len(), 49);
}

#[test]
fn routing_table_for_each() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..10_u8 {
        let _ = table.replied(T0, id(&[0x80 + n]), Nth::nth(n.into()), RTT, &config);
    }
    let live = table.contacts().iter().map(Contact::addr);
    let mut all: Vec<_> = live.chain(table.unverified().map(|(_, addr)| addr)).collect();
    all.sort();
    let expected: Vec<SocketAddrV4> = (0..10).map(Nth::nth).collect();
    assert_eq!((table.len(), table.candidates_len()), (8, 2));
    assert_eq!(all, expected);
}

#[test]
fn node_id_bucket_distribution() {
    let mut stream = stream(4);
    let own = random_id(&mut stream);
    let mut counts = [0_u32; BUCKETS];
    for _ in 0..16_384 {
        counts[bucket::index(own, random_id(&mut stream))] += 1;
    }
    for (i, count) in (0..6).zip(counts) {
        let expected = 8_192 >> i;
        assert!(count.abs_diff(expected) < expected / 4, "bucket {i}: {count} of {expected}");
    }
}

#[test]
fn distance_exp() {
    for (a, b, expected) in [
        (id(&[0x80]), id(&[]), 0),
        (id(&[0x40]), id(&[]), 1),
        (id(&[0xff, 0xff, 0x01]), id(&[0xff, 0xff, 0x02]), 22),
        (id(&[1, 2, 3, 0x80]), id(&[1, 2, 3]), 24),
        (id(&[1, 2, 3, 1]), id(&[1, 2, 3]), 31),
        // The last bucket holds all that is deeper.
        (id(&[1, 2, 3, 4, 1]), id(&[1, 2, 3, 4]), 31),
        (id(&[7]), id(&[7]), 31),
    ] {
        assert_eq!(bucket::index(a, b), expected, "{a} {b}");
    }
}

#[test]
fn node_id_min_distance_exp() {
    let config = Config::default();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    assert_eq!(table.depth(), 0);
    for (n, (first, depth)) in [(0x80, 1), (0x40, 2), (0x02, 7), (0x20, 7)].into_iter().enumerate()
    {
        let _ = table.replied(T0, id(&[first]), Nth::nth(n as u32), RTT, &config);
        assert_eq!(table.depth(), depth);
    }
}

#[test]
fn compact_nodes_are_the_closest_ones() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(1_000, &config);
    let failing: Vec<_> = table.contacts().iter().step_by(5).map(|c| (c.id(), c.addr())).collect();
    for (id, addr) in failing.into_iter().cycle().take(2 * table.len().div_ceil(5)) {
        let _ = table.failed(T0, Some(id), addr, false, &config);
    }
    assert!(table.contacts().iter().any(|contact| !contact.is_good()));
    let mut out = [0; 1_400];
    let mut told = |target, n, room: usize| {
        let len = table.closest_compact(target, n, &mut out[..room]);
        let records = crate::wire::nodes::<SocketAddrV4>(&out[..len]);
        let mut ids: Vec<_> = records
            .inspect(|(id, addr)| assert_eq!(table.get(*id).unwrap().addr(), *addr))
            .map(|(id, _)| id)
            .collect();
        ids.sort_by_key(|id| id.distance(target));
        ids
    };
    // Targets in all buckets, and our own id, from which all contacts are farther.
    let mut targets = stream(5);
    let own = table.own_id();
    let buckets = (0..BUCKETS).map(|bucket| bucket::random_target(own, bucket, &mut targets));
    for target in buckets.chain([own.target()]) {
        for n in [0, 1, 2, 3, 5, 8, 13, 20, 50] {
            assert_eq!(told(target, n, 1_400), closest_by_sorting(&table, target, n), "{n}");
        }
        assert_eq!(
            told(target, 8, 77),
            closest_by_sorting(&table, target, 2),
            "whole records only"
        );
        assert!(told(target, 8, 25).is_empty());
    }
    assert_eq!(Table::<SocketAddrV4>::new(id(&[])).closest_compact(own.target(), 8, &mut out), 0);
}

#[test]
fn the_estimate_is_near_the_truth() {
    let config = Config::default();
    for nodes in [100_u32, 1_000, 4_000] {
        let mut sum = 0.0;
        for seed in 0..20 {
            let mut stream = stream(seed);
            let mut table = Table::<SocketAddrV4>::new(random_id(&mut stream));
            for n in 0..nodes {
                let _ = table.replied(T0, random_id(&mut stream), Nth::nth(n), RTT, &config);
            }
            sum += table.size_estimate(&config);
        }
        let mean = sum / 20.0;
        assert!((0.75..1.33).contains(&(mean / f64::from(nodes))), "{nodes}: {mean}");
    }
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    assert!(table.size_estimate(&config).abs() < 0.1);
    let _ = table.replied(T0, id(&[1]), Nth::nth(1), RTT, &config);
    assert!((table.size_estimate(&config) - 1.0).abs() < 0.1);
}

#[test]
fn a_table_of_142_contacts_is_small() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(142, &config);
    let mut more = 142;
    while table.len() < 142 {
        let _ = table.replied(T0, random_id(&mut stream(6)), Nth::nth(more), RTT, &config);
        more += 1;
    }
    // Idle: who waited in vain is forgotten.
    let _ = table.next_ping(T0 + Duration::from_secs(3_600), &config);
    assert_eq!(table.candidates_len(), 0);
    assert!(table.memory() <= 142 * 36 + 800, "{}", table.memory());
}
