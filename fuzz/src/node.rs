//! The body that drives a whole node.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Event, Lookup, LookupId};
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::decode;
use dht_proto::{Dht, MAX_DATAGRAM, Networks};

/// Steps of one input, at most.
const MAX_STEPS: usize = 200;
/// Queries that may still be answered.
const MAX_QUERIES: usize = 64;

/// Arbitrary datagrams, answers to its own queries, operations and times into one node of both
/// families; what it sends is decoded, and the drain and progress rules and all invariants hold.
///
/// An input is a list of steps: a byte that says which, then its operands.
///
/// # Panics
/// If a rule is broken.
pub fn node(data: &[u8]) {
    let mut fuzzed = Fuzzed::new();
    let mut input = Input(data);
    for _ in 0..MAX_STEPS {
        let Some(step) = input.byte() else { break };
        fuzzed.step(step, &mut input);
        fuzzed.settle();
    }
    fuzzed.dht.check_invariants();
    // However it began, every lookup ends.
    for _ in 0..200 {
        fuzzed.now = fuzzed.now + Duration::from_secs(1);
        fuzzed.settle();
    }
    assert!(fuzzed.running.is_empty(), "{:?} never ended", fuzzed.running);
    fuzzed.dht.check_invariants();
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number, 0 where the input has ended.
    fn number(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    /// Bytes with their length before them, as many as there are.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_be_bytes([self.number(), self.number()]));
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

struct Fuzzed {
    dht: Dht,
    now: Instant,
    queries: VecDeque<(SocketAddr, Vec<u8>)>,
    running: Vec<LookupId>,
}

impl Fuzzed {
    fn new() -> Self {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.bootstrap = vec![addr(0), addr(1)];
        config.max_transactions = 32;
        config.max_lookups = 8;
        config.max_events = 16;
        let now = Instant::from_secs(1);
        let dht = Dht::new(Arc::new(config), Networks::Both, &Seed::from_bytes([1; 32]), now);
        Self { dht, now, queries: VecDeque::new(), running: Vec::new() }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        match step % 8 {
            0 => {
                let from = addr(input.number());
                self.receive(from, input.bytes());
            }
            1 => self.answer(input),
            2 => self.now = self.now + Duration::from_millis(u64::from(input.number()) * 50),
            3 => self.now = self.now + Duration::from_secs(u64::from(input.number()) * 60),
            4 => {
                let lookup = lookup(input.number(), input.number());
                if let Ok(id) = self.dht.start(self.now, &lookup) {
                    self.running.push(id);
                }
            }
            5 => {
                if let Some(id) = self.running.pop() {
                    assert!(self.dht.cancel(id), "it was running");
                }
            }
            6 => {
                let id = NodeId::from_bytes([input.number(); 20]);
                self.dht.add_contact(self.now, addr(input.number()), Some(id));
            }
            _ => {
                if let Some((to, _)) = self.queries.pop_back() {
                    self.dht.handle_unreachable(self.now, to);
                }
            }
        }
    }

    /// Answers the oldest query with arbitrary contents of `r`.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some((to, query)) = self.queries.pop_front() else { return };
        let Ok(message) = decode(&query) else { unreachable!("the node sends valid messages") };
        let mut bytes = b"d1:rd2:id20:".to_vec();
        bytes.extend([input.number(); 20]);
        bytes.extend(input.bytes());
        bytes.extend(b"e1:t4:");
        bytes.extend(message.tid);
        bytes.extend(b"1:y1:re");
        self.receive(to, &bytes);
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut reply = [0; MAX_DATAGRAM];
        if let Some(sent) = self.dht.handle_datagram(self.now, from, datagram, &mut reply) {
            assert_eq!(sent.to, from, "a reply goes to the source");
            let sent = reply.get(..sent.len);
            assert!(sent.is_some_and(|sent| decode(sent).is_ok()), "replies are messages");
        }
    }

    /// What a runtime does after every input.
    fn settle(&mut self) {
        self.dht.handle_timeout(self.now);
        loop {
            let mut buf = [0; MAX_DATAGRAM];
            if let Some(event) = self.dht.poll_event() {
                if let Event::Done { lookup, .. } = event {
                    let before = self.running.len();
                    self.running.retain(|id| *id != lookup);
                    assert_eq!(self.running.len() + 1, before, "one end for each lookup");
                }
            } else if let Some(sent) = self.dht.poll_transmit(self.now, &mut buf) {
                let query = buf.get(..sent.len).unwrap_or_default().to_vec();
                assert!(decode(&query).is_ok(), "queries are messages");
                self.queries.push_back((sent.to, query));
                if self.queries.len() > MAX_QUERIES {
                    self.queries.pop_front();
                }
            } else {
                break;
            }
        }
        assert!(self.dht.poll_timeout().is_none_or(|due| due > self.now), "progress");
    }
}

/// Addresses of both families, global and not, with and without a port.
fn addr(byte: u8) -> SocketAddr {
    let port = if byte == 255 { 0 } else { 6881 };
    match byte % 4 {
        0 => SocketAddr::from(([20, byte, 1, 1], port)),
        1 => SocketAddr::from(([0x2600 + u16::from(byte), 0, 0, 0, 0, 0, 0, 1], port)),
        2 => SocketAddr::from(([127, 0, 0, byte], port)),
        _ => SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x1400 + u16::from(byte), 0x0101], port)),
    }
}

fn lookup(kind: u8, byte: u8) -> Lookup {
    let info_hash = InfoHash::from_bytes([byte; 20]);
    let addr = addr(byte);
    match kind % 8 {
        0 => Lookup::Ping { addr },
        1 => Lookup::FindNode { target: NodeId::from_bytes([byte; 20]) },
        2 => Lookup::GetPeers { info_hash, scrape: true, noseed: false },
        3 => Lookup::Announce { info_hash, port: AnnouncePort::Implied, seed: true },
        4 => Lookup::Sample { addr, target: Target::from_bytes([byte; 20]) },
        5 => Lookup::GetItem {
            target: ItemId::of_immutable(b"i1e"),
            salt: Vec::new(),
            newer_than: None,
        },
        6 => Lookup::GetItem {
            target: ItemId::from_bytes([byte; 20]),
            salt: vec![byte],
            newer_than: Some(1),
        },
        _ => match Item::immutable(b"i1e") {
            Ok(item) => Lookup::PutItem { item: Box::new(item), cas: None },
            Err(error) => unreachable!("i1e is an item: {error:?}"),
        },
    }
}
