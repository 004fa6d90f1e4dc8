//! Real clients in a simulated network of thousands of nodes, on real sockets.
//!
//! Tests that need Python or Node.js are ignored until `tests/interop/setup.sh` has been run, and
//! so are those that make a network namespace, which takes root: `just interop` runs them all.
//! `TESTNET=127.x.y.z:port` has the others use a `dht testnet` that runs already instead of one of
//! their own; `--nocapture` prints how long everything took.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print their times"
)]

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use dht_proto::Networks;
use dht_proto::id::{InfoHash, ItemId};
use dht_proto::item::bencode_bytes;
use dht_testnet::{Cidr, Spec, Testnet, cidr, namespace};
use dht_tests::interop::address::{self, Network};
use dht_tests::interop::{Kind, Lab, Mutable, NodeSpec, Peer};
use ed25519_dalek::SigningKey;

/// Nodes of a network on loopback.
const NODES: u32 = 3_000;
/// Nodes of a network in a namespace.
const MANY: u32 = 100_000;
/// How long a client may take to know anybody, and an announce to arrive everywhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network, and whatever keeps it alive.
struct Net {
    bootstrap: Vec<SocketAddr>,
    /// Where clients with their default settings are seen, in a namespace.
    client: Option<IpAddr>,
    own: Option<Testnet>,
}

impl Net {
    /// On loopback.
    fn start(spec: &Spec) -> Self {
        if let Ok(given) = std::env::var("TESTNET") {
            let bootstrap = given.split(',').map(|addr| addr.parse().unwrap()).collect();
            return Self { bootstrap, client: None, own: None };
        }
        Self::start_own(spec)
    }

    fn start_own(spec: &Spec) -> Self {
        let own = Testnet::start(spec).unwrap();
        Self { bootstrap: own.bootstrap().to_vec(), client: None, own: Some(own) }
    }

    /// In a namespace that this thread moves into, and everything that it starts.
    fn start_inside(mut spec: Spec) -> Self {
        match namespace::enter(&spec.listen()) {
            Ok(None) => panic!("libtorrent does not use lo by itself, and no veth can be made"),
            Ok(nodes) => spec.namespace = nodes,
            Err(error) => panic!("{error}: {}", error.hint()),
        }
        let started = Instant::now();
        let own = Testnet::start(&spec).unwrap();
        println!("{} nodes up in {:.1} s", spec.nodes, started.elapsed().as_secs_f64());
        let client = match spec.networks {
            Networks::V6 => cidr::first_client_v6().into(),
            Networks::V4 | Networks::Both => spec.range.first_client().into(),
        };
        Self { bootstrap: own.bootstrap().to_vec(), client: Some(client), own: Some(own) }
    }

    /// Starts a client that knows nobody but the nodes to start from, and waits until it has met
    /// others.
    fn join(&self, lab: &Lab, kind: Kind) -> Box<dyn Peer> {
        let addr = match self.client {
            Some(ip) => SocketAddr::new(ip, 0),
            None => address::next(Network::V4).unwrap(),
        };
        let spec = NodeSpec {
            addr,
            bootstrap: self.bootstrap.clone(),
            // See docs/INTEROP.md: a read-only libtorrent waits for itself.
            read_only: kind != Kind::Libtorrent,
            defaults: self.client.is_some(),
        };
        let peer = lab.start(kind, &spec).unwrap();
        let enough = self.bootstrap.len().min(4);
        time(kind, "join", || eventually(|| peer.contacts().unwrap() > enough));
        peer
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            println!("{:?}", own.stats());
        }
    }
}

fn internet(nodes: u32) -> Spec {
    let mut spec = Spec::new(nodes);
    spec.set_profile("internet").unwrap();
    spec
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
            found(|| {
                Some(reader.get_peers(self.info_hash).unwrap()).filter(|found| !found.is_empty())
            })
        });
        assert_eq!(peers, BTreeSet::from([announced]), "{kind}");
        let id = ItemId::of_immutable(&bencode_bytes(&self.value));
        let value = time(kind, "get immutable", || found(|| reader.get_immutable(id).unwrap()));
        assert_eq!(value, self.value, "{kind}");
        let key = self.item.public_key();
        let item = time(kind, "get mutable", || found(|| reader.get_mutable(&key, b"").unwrap()));
        assert_eq!((item.seq, &item.value), (1, &self.value), "{kind}");
    }
}

/// Asks again until something is found: datagrams get lost, and machines are busy.
#[track_caller]
fn found<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let mut answer = None;
    eventually(|| {
        answer = ask();
        answer.is_some()
    });
    answer.unwrap()
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
        thread::sleep(Duration::from_millis(100));
    }
}

/// Everybody stores everything, and everybody finds what everybody else has stored. All at once:
/// some take their time.
fn check(net: &Net, kinds: &[Kind]) {
    let lab = Lab::default();
    let join = |kind: &Kind| net.join(&lab, *kind);
    let peers: Vec<_> = thread::scope(|scope| {
        let joins: Vec<_> = kinds.iter().map(|kind| scope.spawn(move || join(kind))).collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    });
    thread::scope(|scope| {
        for writer in &peers {
            let readers = peers.iter().filter(|reader| reader.kind() != writer.kind());
            scope.spawn(move || {
                let things = Things::of(writer.kind());
                let announced = things.store(&**writer);
                thread::scope(|scope| {
                    for reader in readers {
                        let things = &things;
                        scope.spawn(move || things.find(&**reader, announced));
                    }
                });
            });
        }
    });
}

/// Runs a test on a thread of its own: the network that it moves to is nobody else's.
fn apart(test: fn()) {
    thread::spawn(test).join().unwrap();
}

#[test]
fn mainline_and_we_meet_in_a_simulated_network() {
    check(&Net::start(&internet(NODES)), &[Kind::Mainline, Kind::Ours]);
}

#[test]
fn what_is_put_is_found_while_nodes_come_and_go() {
    const NODES: u32 = 300;
    let mut spec = Spec::new(NODES);
    spec.set_profile("lan").unwrap();
    // Half of those who come stay for less than two seconds.
    spec.churn = 6_000.try_into().ok();
    let (net, lab) = (Net::start_own(&spec), Lab::default());
    let left = || net.own.as_ref().unwrap().stats().left;
    let writer = net.join(&lab, Kind::Ours);
    let things = Things::of(Kind::Ours);
    let announced = things.store(&*writer);
    // Who has it from the first time is still enough after a while ...
    eventually(|| left() >= u64::from(NODES / 4));
    things.find(&*net.join(&lab, Kind::Ours), announced);
    // ... and then those have it who were told again, for somebody whom nobody knew before.
    eventually(|| {
        things.store(&*writer);
        left() >= u64::from(NODES)
    });
    things.find(&*net.join(&lab, Kind::Ours), announced);
}

#[test]
#[ignore = "needs tests/interop/setup.sh"]
fn strangers_meet_in_a_simulated_network() {
    let kinds = [Kind::Libtorrent, Kind::Mainline, Kind::Command, Kind::BittorrentDht];
    check(&Net::start(&internet(NODES)), &kinds);
}

#[test]
#[ignore = "needs tests/interop/setup.sh, and root"]
fn strangers_with_their_default_settings_meet_in_a_namespace() {
    apart(|| {
        let mut spec = internet(MANY);
        spec.range = Cidr::BENCHMARK;
        check(&Net::start_inside(spec), &Kind::ALL);
    });
}

#[test]
#[ignore = "needs tests/interop/setup.sh, and root"]
fn strangers_with_their_default_settings_meet_over_ipv6_in_a_namespace() {
    apart(|| {
        let mut spec = internet(NODES);
        (spec.networks, spec.range) = (Networks::V6, Cidr::BENCHMARK);
        check(&Net::start_inside(spec), &Kind::IPV6);
    });
}
