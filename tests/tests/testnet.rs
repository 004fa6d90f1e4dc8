//! Real clients in a simulated network of thousands of nodes, on real sockets.
//!
//! Tests that need Python or Node.js are ignored until `tests/interop/setup.sh` has been run.
//! `TESTNET=127.x.y.z:port` has them use a `dht testnet` that runs already instead of one of their
//! own, for example one of 100,000 nodes; `--nocapture` prints how long everything took.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print their times"
)]

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::time::Instant;

use dht_proto::id::{InfoHash, ItemId};
use dht_proto::item::bencode_bytes;
use dht_testnet::{Spec, Testnet};
use dht_tests::interop::address::{self, Network};
use dht_tests::interop::{Kind, Lab, Mutable, NodeSpec, Peer};
use ed25519_dalek::SigningKey;

/// Nodes of a network of the tests' own.
const NODES: u32 = 3_000;
/// How long a client may take to know anybody, and an announce to arrive everywhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network, and whatever keeps it alive.
struct Net {
    bootstrap: Vec<SocketAddr>,
    _own: Option<Testnet>,
}

impl Net {
    fn start() -> Self {
        if let Ok(given) = std::env::var("TESTNET") {
            let bootstrap = given.split(',').map(|addr| addr.parse().unwrap()).collect();
            return Self { bootstrap, _own: None };
        }
        let mut spec = Spec::new(NODES);
        spec.set_profile("internet").unwrap();
        let own = Testnet::start(&spec).unwrap();
        Self { bootstrap: own.bootstrap().to_vec(), _own: Some(own) }
    }

    /// Starts a client that knows nobody but the nodes to start from, and waits until it has met
    /// others.
    fn join(&self, lab: &Lab, kind: Kind) -> Box<dyn Peer> {
        let spec = NodeSpec {
            addr: address::next(Network::V4).unwrap(),
            bootstrap: self.bootstrap.clone(),
            // See docs/INTEROP.md: a read-only libtorrent waits for itself.
            read_only: kind != Kind::Libtorrent,
        };
        let peer = lab.start(kind, &spec).unwrap();
        let enough = self.bootstrap.len().min(4);
        time(kind, "join", || eventually(|| peer.contacts().unwrap() > enough));
        peer
    }
}

/// What a writer stores, different for every kind and run.
struct Things {
    info_hash: InfoHash,
    value: Vec<u8>,
    item: Mutable,
}

impl Things {
    fn of(kind: Kind) -> Self {
        let value = format!("by {kind}, process {}", std::process::id()).into_bytes();
        let hash = *ItemId::of_immutable(&value).as_bytes();
        let mut seed = [7; 32];
        seed[..hash.len()].copy_from_slice(&hash);
        let key = SigningKey::from_bytes(&seed);
        let item = Mutable { key, salt: vec![], seq: 1, cas: None, value: value.clone() };
        Self { info_hash: InfoHash::from_bytes(hash), value, item }
    }

    fn store(&self, writer: &dyn Peer) -> SocketAddr {
        let kind = writer.kind();
        let port = 7_000 + kind as u16;
        time(kind, "announce", || writer.announce(self.info_hash, port, false).unwrap());
        time(kind, "put immutable", || writer.put_immutable(&self.value).unwrap());
        time(kind, "put mutable", || writer.put_mutable(&self.item).unwrap());
        SocketAddr::new(writer.addr().ip(), port)
    }

    fn find(&self, reader: &dyn Peer, announced: SocketAddr) {
        let kind = reader.kind();
        // Not everybody tells when an announce is through.
        let peers = time(kind, "get_peers", || {
            let mut found = BTreeSet::new();
            eventually(|| {
                found = reader.get_peers(self.info_hash).unwrap();
                !found.is_empty()
            });
            found
        });
        assert_eq!(peers, BTreeSet::from([announced]), "{kind}");
        let id = ItemId::of_immutable(&bencode_bytes(&self.value));
        let found = time(kind, "get immutable", || reader.get_immutable(id).unwrap());
        assert_eq!(found.as_ref(), Some(&self.value), "{kind}");
        let key = self.item.public_key();
        let found = time(kind, "get mutable", || reader.get_mutable(&key, b"").unwrap()).unwrap();
        assert_eq!((found.seq, &found.value), (1, &self.value), "{kind}");
    }
}

fn time<T>(kind: Kind, what: &str, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    println!("{kind:<15}{what:<15}{:>8.2} s", started.elapsed().as_secs_f64());
    result
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everybody stores everything, and everybody finds what everybody else has stored.
fn check(kinds: &[Kind]) {
    let (net, lab) = (Net::start(), Lab::default());
    let peers: Vec<_> = kinds.iter().map(|kind| net.join(&lab, *kind)).collect();
    for writer in &peers {
        let things = Things::of(writer.kind());
        let announced = things.store(&**writer);
        for reader in peers.iter().filter(|reader| reader.kind() != writer.kind()) {
            things.find(&**reader, announced);
        }
    }
}

#[test]
fn mainline_and_we_meet_in_a_simulated_network() {
    check(&[Kind::Mainline, Kind::Ours]);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_simulated_network() {
    check(&[Kind::Libtorrent, Kind::Mainline, Kind::Command, Kind::BittorrentDht]);
}
