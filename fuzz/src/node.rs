//! A whole node under arbitrary datagrams, times and operations.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, NodeId};
use dht_proto::request::{AnnouncePort, Event, Lookup, LookupId};
use dht_proto::seed::Seed;
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;
use dht_proto::wire;
use dht_proto::{Dht, MAX_DATAGRAM, Networks};

use crate::config::distort;
use crate::draw::Draw;
use crate::hand::Hand;

/// Bytes of an input that say what the configuration is, if it is not a usual one.
const DISTORTED: usize = 36;
/// No period of a configuration is longer.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Datagrams that left and were not answered yet, at most.
const MAX_SENT: usize = 64;

/// The node and what a network would know of it.
struct World {
    hand: Hand,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    running: Vec<LookupId>,
    over: Vec<LookupId>,
}

/// Drives a node by the input, and checks the contract of `dht-proto` after each step: invariants
/// and bounds, drain and progress, at most one reply, `Done` at most once and never after `cancel`.
///
/// # Panics
/// If the contract is broken.
pub fn node(data: &[u8]) {
    let mut choices = Draw::new(data);
    let kind = choices.byte();
    let distorted = kind & 0x40 != 0;
    let settings = choices.bytes(if distorted { DISTORTED } else { 0 });
    let mut world = World::new(kind, &settings);
    while !choices.ended() {
        world.step(&mut choices);
        world.hand.check();
    }
    // Whatever happened, every lookup comes to its end.
    let (steps, pause) = if distorted { (3, LONGEST) } else { (40, Duration::from_secs(5)) };
    for _ in 0..steps {
        world.hand.now = world.hand.now + pause;
        world.drain();
    }
    assert!(world.running.is_empty(), "a lookup never ended");
    let bytes = world.hand.dht.snapshot().to_bytes();
    let again = Snapshot::from_bytes(&bytes, |_, _, _| true);
    assert_eq!(again, Ok(world.hand.dht.snapshot()), "a snapshot reads back as it was");
}

impl World {
    fn new(kind: u8, settings: &[u8]) -> Self {
        let mut config = Config::default();
        config.mode = if kind & 1 == 0 { Mode::Server } else { Mode::Adaptive };
        config.bootstrap = vec![addr(1), addr(129)];
        config.max_lookups = 4;
        config.max_transactions = 12;
        config.max_candidates = 8;
        config.max_events = 6;
        config.max_items = 8;
        config.max_torrents = 4;
        config.max_peers_per_torrent = 4;
        distort(&mut config, settings);
        assert!(config.memory_ceiling() > 0, "it can be told for any configuration");
        let networks = match kind >> 1 & 3 {
            0 => Networks::V4,
            1 => Networks::V6,
            _ => Networks::Both,
        };
        let hand = Hand::new(config, networks, kind);
        Self { hand, sent: Vec::new(), running: Vec::new(), over: Vec::new() }
    }

    fn step(&mut self, choices: &mut Draw) {
        match choices.byte() % 8 {
            0 => {
                let (mantissa, shift) = (u64::from(choices.byte()), choices.byte() % 28);
                self.hand.now = self.hand.now + Duration::from_micros(mantissa << shift);
            }
            1 => {
                let (from, len) = (choices.byte(), choices.byte());
                let datagram = choices.bytes(usize::from(len));
                self.hand.deliver(addr(from), &datagram);
            }
            2 => self.answer(choices),
            3 => self.start(choices),
            4 => {
                let index = usize::from(choices.byte());
                if !self.running.is_empty() {
                    let id = self.running.swap_remove(index % self.running.len());
                    assert!(self.hand.dht.cancel(id), "it was running");
                    self.over.push(id);
                }
            }
            5 => {
                if let Some((to, _)) = self.sent.pop() {
                    self.hand.dht.handle_unreachable(self.hand.now, to);
                }
            }
            6 => self.hand.dht.add_contact(self.hand.now, addr(choices.byte()), None),
            _ => self.drain(),
        }
    }

    fn start(&mut self, choices: &mut Draw) {
        let info_hash = InfoHash::from_bytes([choices.byte(); 20]);
        let target = info_hash.target();
        let salt = Vec::new();
        let lookup = match choices.byte() % 7 {
            0 => Lookup::Ping { addr: addr(choices.byte()) },
            1 => Lookup::FindNode { target: target.node_id() },
            2 => Lookup::GetPeers { info_hash, scrape: true, noseed: false },
            3 => Lookup::Announce { info_hash, port: AnnouncePort::Implied, seed: true },
            4 => Lookup::GetItem { target: target.item_id(), salt, newer_than: Some(0) },
            5 => Lookup::Sample { addr: addr(choices.byte()), target },
            _ => Lookup::Ping { addr: SocketAddr::from(([0, 0, 0, 0], 0)) },
        };
        if let Ok(id) = self.hand.dht.start(self.hand.now, &lookup) {
            assert!(!self.running.contains(&id) && !self.over.contains(&id), "ids are not reused");
            self.running.push(id);
        }
    }

    /// Answers a query that left: with the right transaction id and address, and otherwise whatever
    /// the input says.
    fn answer(&mut self, choices: &mut Draw) {
        let index = usize::from(choices.byte());
        if self.sent.is_empty() {
            return;
        }
        let (to, query) = self.sent.swap_remove(index % self.sent.len());
        let Ok(query) = wire::decode(&query) else { unreachable!("we send only messages") };
        let id = NodeId::from_bytes([choices.byte(); 20]);
        let (nodes, token) = (choices.byte() % 80, choices.byte() % 50);
        let mut reply = wire::Reply::new(id);
        let (nodes, token) = (choices.bytes(nodes.into()), choices.bytes(token.into()));
        reply.nodes = Some(&nodes);
        reply.token = Some(&token);
        let values = choices.bytes(12);
        reply.values = Some(wire::Values::of::<core::net::SocketAddrV4>(&values));
        let ip = (addr(choices.byte()).ip(), None);
        let body = wire::Body::Reply(reply);
        let message = wire::Message { version: None, ip: Some(ip), body, ..query };
        let mut out = [0; MAX_DATAGRAM];
        if let Some(len) = message.encode(&mut out) {
            self.hand.deliver(to, out.get(..len).unwrap_or_default());
        }
    }

    fn drain(&mut self) {
        let (sent, events) = self.hand.drain();
        for event in &events {
            self.on_event(event);
        }
        let room = MAX_SENT - self.sent.len();
        self.sent.extend(sent.into_iter().take(room));
    }

    fn on_event(&mut self, event: &Event) {
        let Some(id) = event.lookup() else { return };
        assert!(!self.over.contains(&id), "nothing comes after the end");
        if let Event::Done { .. } = event {
            self.running.retain(|running| *running != id);
            self.over.push(id);
        }
    }
}

/// Few addresses, so that they meet again: v4 and v6, global and local.
fn addr(choice: u8) -> SocketAddr {
    let (host, port) = (choice & 31, 6881);
    match choice >> 5 {
        0..=2 => SocketAddr::from(([20, 0, host, 1], port)),
        3 => SocketAddr::from(([127, 0, 0, host], port)),
        4..=6 => SocketAddr::from(([0x2600, u16::from(host), 0, 0, 0, 0, 0, 1], port)),
        _ => SocketAddr::from(([0, 0, 0, host], port)),
    }
}

/// Snapshots: arbitrary bytes are refused or read back as they were.
///
/// # Panics
/// If they are not.
pub fn snapshot(data: &[u8]) {
    if let Ok(snapshot) = Snapshot::from_bytes(data, |_, _, _| true) {
        let bytes = snapshot.to_bytes();
        assert_eq!(Snapshot::from_bytes(&bytes, |_, _, _| true), Ok(snapshot));
    }
    // With the checksum made right, the inside is reached.
    let bytes = Snapshot::seal(data);
    if let Ok(snapshot) = Snapshot::from_bytes(&bytes, |_, _, _| true) {
        let config = Arc::new(Config::default());
        let (now, seed) = (Instant::from_secs(1), Seed::from_bytes([1; 32]));
        let dht = Dht::restore(config, Networks::Both, &seed, now, &snapshot);
        dht.check_invariants();
    }
}
