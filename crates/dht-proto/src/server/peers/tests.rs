use alloc::collections::BTreeSet;
use core::net::{SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::seed::{Domain, Seed};

const OWN_ID: NodeId = NodeId::from_bytes([0; 20]);

fn hash(byte: u8) -> InfoHash {
    InfoHash::from_bytes([byte; 20])
}

/// Hosts in allocations of their own.
fn host(n: u16) -> SocketAddrV4 {
    let [high, low] = n.to_be_bytes();
    SocketAddrV4::new([20 + high, low, 1, 1].into(), 6881)
}

fn octets(addr: SocketAddrV4) -> [u8; 4] {
    addr.compact()[..4].try_into().unwrap()
}

fn announce<A: Addr>(
    store: &mut PeerStore<A>,
    secs: u64,
    info_hash: InfoHash,
    peer: A,
    config: &Config,
) -> Result<(), OverQuota> {
    let announce = Announce { info_hash, peer, seed: false };
    let result =
        store.announce(Instant::from_secs(secs), announce, OWN_ID, Dice::new(secs), config);
    store.check_invariants(config);
    result
}

fn peers<A: Addr>(torrent: &Torrent<A>) -> BTreeSet<A> {
    torrent.peers().map(|peer| A::from_compact(peer.addr)).collect()
}

#[test]
fn entries_are_compact() {
    assert_eq!(size_of::<Peer<SocketAddrV4>>(), 16);
    assert_eq!(size_of::<Peer<SocketAddrV6>>(), 28);
}

/// test_dht_storage `peer_limit`: the oldest peer makes place.
#[test]
fn peer_limit() {
    let config = Config { max_peers_per_torrent: 42, ..Config::default() };
    let mut store = PeerStore::default();
    for n in 0..200 {
        announce(&mut store, u64::from(n), hash(1), host(n), &config).unwrap();
        assert_eq!(store.len(), usize::from(n + 1).min(42));
    }
    let kept = peers(store.get(Instant::from_secs(200), hash(1)).unwrap());
    assert_eq!(kept, (158..200).map(host).collect());
}

/// test_dht_storage `torrent_limit`: the farthest torrent with the fewest peers makes place.
#[test]
fn torrent_limit() {
    let config = Config { max_torrents: 42, ..Config::default() };
    let mut store = PeerStore::default();
    // Popular and far, so that only popularity can save it.
    (1000..1064).for_each(|n| announce(&mut store, 1, hash(0xff), host(n), &config).unwrap());
    let stored =
        (0..200).filter(|&n| announce(&mut store, 1, hash(n as u8), host(n), &config).is_ok());
    assert!(stored.count() >= 42);
    assert_eq!(store.torrents().len(), 42);
    assert_eq!(store.get(Instant::from_secs(1), hash(0xff)).unwrap().len(), 64);
    assert!(store.get(Instant::from_secs(1), hash(0)).is_some(), "the nearest stays");
    let none = Config { max_torrents: 0, ..Config::default() };
    assert!(announce(&mut PeerStore::default(), 1, hash(1), host(1), &none).is_err());
    let none = Config { max_peers_per_torrent: 0, ..Config::default() };
    assert!(announce(&mut PeerStore::default(), 1, hash(1), host(1), &none).is_err());
}

/// A newcomer that is weaker than everything stored is refused, not stored in vain.
#[test]
fn a_far_newcomer_does_not_displace_near_torrents() {
    let config = Config { max_torrents: 2, ..Config::default() };
    let mut store = PeerStore::default();
    announce(&mut store, 1, hash(1), host(1), &config).unwrap();
    announce(&mut store, 1, hash(2), host(2), &config).unwrap();
    assert_eq!(announce(&mut store, 1, hash(0x80), host(3), &config), Err(OverQuota));
    assert_eq!(announce(&mut store, 1, hash(0), host(4), &config), Ok(()));
    assert!(store.get(Instant::from_secs(1), hash(2)).is_none());
}

/// test_dht_storage `get_peers_dist`: two samples of 100 out of 1000 share fewer than 20.
#[test]
fn get_peers_dist() {
    let config = Config { max_peers_per_torrent: 1000, ..Config::default() };
    let mut store = PeerStore::default();
    (0..1000).for_each(|n| announce(&mut store, 1, hash(1), host(n), &config).unwrap());
    let torrent = store.get(Instant::from_secs(1), hash(1)).unwrap();
    let mut random = Seed::from_bytes([5; 32]).stream(Domain::Sample);
    let mut sample = || {
        let mut out = [0; 800];
        assert_eq!(torrent.sample(Dice::new(random.next()), false, 100, &mut out), 800);
        let peers: BTreeSet<_> = out.chunks(8).map(<[u8]>::to_vec).collect();
        assert_eq!(peers.len(), 100, "no peer twice in one reply");
        peers
    };
    let mut shared = 0;
    for _ in 0..100 {
        let (first, second) = (sample(), sample());
        shared += first.intersection(&second).count();
    }
    // 10 is what independent samples share on average.
    assert!((800..1200).contains(&shared), "{shared}");
}

/// Whatever the order of the announces, everybody is handed out equally often.
#[test]
fn no_peer_is_preferred() {
    let config = Config::default();
    let mut store = PeerStore::default();
    for n in 0..150 {
        let announce = Announce { info_hash: hash(1), peer: host(n), seed: n % 3 == 0 };
        store.announce(Instant::ZERO, announce, OWN_ID, Dice::new(0), &config).unwrap();
    }
    let torrent = store.get(Instant::ZERO, hash(1)).unwrap();
    let mut hits = alloc::collections::BTreeMap::<Vec<u8>, u32>::new();
    let mut random = Seed::from_bytes([5; 32]).stream(Domain::Sample);
    for _ in 0..3000 {
        let mut out = [0; 400];
        let len = torrent.sample(Dice::new(random.next()), false, 50, &mut out);
        out[..len].chunks(8).for_each(|peer| *hits.entry(peer.to_vec()).or_default() += 1);
    }
    // 1000 each; the standard deviation is 26.
    assert!(hits.len() == 150 && hits.values().all(|hits| (850..1150).contains(hits)), "{hits:?}");
}

/// One network holds an eighth of a torrent at most, unless it is a local one.
#[test]
fn one_network_cannot_fill_a_torrent() {
    let config = Config { max_peers_per_torrent: 160, ..Config::default() };
    for (network, expected) in [([66, 6, 6], 20), ([192, 168, 1], 100), ([127, 0, 0], 100)] {
        let mut store = PeerStore::default();
        let [a, b, c] = network;
        for n in 0..100_u8 {
            let peer = SocketAddrV4::new([a, b, c, n].into(), 1);
            announce(&mut store, u64::from(n), hash(1), peer, &config).unwrap();
        }
        assert_eq!(store.len(), expected, "{network:?}");
        announce(&mut store, 200, hash(1), host(1), &config).unwrap();
        let torrent = store.get(Instant::from_secs(200), hash(1)).unwrap();
        let newest = SocketAddrV4::new([a, b, c, 99].into(), 1);
        assert!(peers(torrent).contains(&newest), "the oldest of the network make place");
    }
}

#[test]
fn extreme_times_do_not_panic() {
    let config = Config { peer_lifetime: Duration::MAX, ..Config::default() };
    let mut store = PeerStore::default();
    for now in [Instant::FAR_FUTURE, Instant::ZERO, Instant::from_secs(1 << 40)] {
        let announce = Announce { info_hash: hash(1), peer: host(1), seed: false };
        store.announce(now, announce, OWN_ID, Dice::new(1), &config).unwrap();
        store.handle_timeout(now, &config);
    }
}

/// The sweep gives back everything within one and a half lifetimes, a bounded part at a time.
#[test]
fn the_sweep_is_bounded_and_complete() {
    let config =
        Config { max_torrents: 10_000, max_announces_per_subnet: 10_000, ..Config::default() };
    let mut store = PeerStore::default();
    for n in 0..1000_u16 {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        announce(&mut store, 0, InfoHash::from_bytes(bytes), host(n), &config).unwrap();
    }
    while let Some(due) = store.poll_timeout() {
        let before = store.torrents().len();
        store.handle_timeout(due, &config);
        assert!(before - store.torrents().len() <= 1000 / 32 + 1, "bounded work");
        assert!(store.poll_timeout().is_none_or(|next| next > due), "progress");
        assert!(due <= Instant::ZERO + config.peer_lifetime * 3 / 2 + Duration::from_secs(60));
        store.check_invariants(&config);
    }
    assert_eq!(store.len(), 0);
}

// The model: a plain list, searched from end to end.

#[derive(Clone, Debug)]
enum Op {
    Announce { hash: u8, host: (u8, u8, u8), port: u16, seed: bool },
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6_u8, (0..4_u8, 0..2_u8, 0..4_u8), 1..4_u16, any::<bool>())
            .prop_map(|(hash, host, port, seed)| Op::Announce { hash, host, port, seed }),
        1 => (0..60_u64).prop_map(Op::Advance),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: InfoHash,
    expires: u64,
    seed: bool,
    peer: SocketAddrV4,
}

#[derive(Default)]
struct Model(Vec<Entry>);

impl Model {
    fn in_torrent(&self, hash: InfoHash) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.hash == hash)
    }

    fn crowding(&self, peer: SocketAddrV4) -> i64 {
        let same = |entry: &&Entry| octets(entry.peer)[..2] == octets(peer)[..2];
        8 * i64::from(self.0.iter().filter(same).count().max(1).ilog2())
    }

    fn score(&self, hash: InfoHash) -> i64 {
        let near = i64::from(hash.as_bytes()[0].leading_zeros());
        let near = if near == 8 { 24 } else { near };
        let (mut seeds, mut others): (Vec<_>, Vec<_>) =
            self.in_torrent(hash).map(|entry| (entry.seed, entry.peer)).partition(|e| e.0);
        seeds.sort_unstable();
        others.sort_unstable();
        let ends = [seeds.first(), seeds.last(), others.first(), others.last()];
        let crowding = ends.into_iter().flatten().map(|e| self.crowding(e.1)).min().unwrap();
        2 * i64::from((seeds.len() + others.len()).ilog2()) + near - crowding
    }

    fn announce(&mut self, new: Entry, config: &Config) -> Result<(), OverQuota> {
        let known = |entry: &Entry| entry.hash == new.hash && entry.peer.ip() == new.peer.ip();
        if let Some(entry) = self.0.iter_mut().find(|entry| known(entry)) {
            *entry = new;
            return Ok(());
        }
        let ip = octets(new.peer);
        let held = |len: usize| {
            let same = |entry: &&Entry| octets(entry.peer)[..len] == ip[..len];
            self.0.iter().filter(same).count()
        };
        let limit = config.max_announces_per_subnet;
        if held(3) >= limit || held(2) >= limit.max(config.max_torrents / 4) {
            return Err(OverQuota);
        }
        let hashes: BTreeSet<_> = self.0.iter().map(|entry| entry.hash).collect();
        if !hashes.contains(&new.hash) && hashes.len() >= config.max_torrents {
            let near = i64::from(new.hash.as_bytes()[0].leading_zeros());
            let newcomer = if near == 8 { 24 } else { near } - self.crowding(new.peer);
            let (lowest, hash) =
                hashes.iter().map(|hash| (self.score(*hash), *hash)).min().unwrap();
            if lowest > newcomer {
                return Err(OverQuota);
            }
            self.0.retain(|entry| entry.hash != hash);
        }
        let near = |entry: &&Entry| octets(entry.peer)[..3] == ip[..3];
        let crowd = self.in_torrent(new.hash).filter(near).count();
        let share = (config.max_peers_per_torrent / 8).max(8);
        let replaced = if crowd >= share {
            self.in_torrent(new.hash).filter(near).min().cloned()
        } else if self.in_torrent(new.hash).count() >= config.max_peers_per_torrent {
            self.in_torrent(new.hash).min().cloned()
        } else {
            None
        };
        self.0.retain(|entry| Some(entry) != replaced.as_ref());
        self.0.push(new);
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_peer_store_is_a_list(ops in prop::collection::vec(op(), 1..200)) {
        let config = Config {
            max_torrents: 4,
            max_peers_per_torrent: 12,
            max_announces_per_subnet: 10,
            peer_lifetime: Duration::from_secs(100),
            ..Config::default()
        };
        let (mut store, mut model, mut now) = (PeerStore::default(), Model::default(), 0);
        for op in ops {
            match op {
                Op::Advance(secs) => {
                    now += secs;
                    model.0.retain(|entry| entry.expires > now);
                    let all: Vec<_> = store.torrents().iter().map(|(hash, _)| *hash).collect();
                    for hash in all {
                        store.purge(Instant::from_secs(now), hash);
                    }
                    store.sweep.finish(Instant::FAR_FUTURE, config.peer_lifetime, store.torrents.len());
                }
                Op::Announce { hash: byte, host: (allocation, network, host), port, seed } => {
                    let ip = [66 + allocation, 1, network, host];
                    let peer = SocketAddrV4::new(ip.into(), port);
                    let info_hash = hash(byte << 4);
                    let expires = now + 101;
                    let entry = Entry { hash: info_hash, expires, seed, peer };
                    let announce = Announce { info_hash, peer, seed };
                    let stored = store.announce(
                        Instant::from_secs(now), announce, OWN_ID, Dice::new(now), &config,
                    );
                    prop_assert_eq!(stored, model.announce(entry, &config));
                }
            }
            store.check_invariants(&config);
            let mut expected = model.0.clone();
            expected.sort_unstable();
            let mut found = Vec::new();
            for (hash, torrent) in store.torrents().iter() {
                for (peers, seed) in [(&torrent.seeds, true), (&torrent.downloaders, false)] {
                    found.extend(peers.iter().map(|peer| Entry {
                        hash: *hash,
                        expires: u64::from(peer.expires),
                        seed,
                        peer: SocketAddrV4::from_compact(peer.addr),
                    }));
                }
            }
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
