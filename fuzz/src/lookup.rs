//! Lookups in a network that the input plays: it answers what it likes, when it likes, as whoever.

mod model;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use dht_proto::addr::{Addr as _, Family};
use dht_proto::config::{Config, Mode};
use dht_proto::id::{ID_LEN, InfoHash, ItemId, NodeId, Target};
use dht_proto::item::{Item, Signable, Signed};
use dht_proto::request::{AnnouncePort, Lookup};
use dht_proto::wire::{Body, ErrorReply, Message, Reply, Values};
use dht_proto::{Acquaintance, MAX_DATAGRAM, Networks};

use self::model::{Model, Query, Stored, Terms, Told};
use crate::draw::Draw;
use crate::hand::Hand;
use crate::seal::{seal, verify};

/// Longer inputs only repeat themselves.
const MAX_INPUT: usize = 2_048;
/// A query slower than this may count as stalled, and none that is faster.
const STALL: Duration = Duration::from_millis(500);
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Who signs items.
const KEY: [u8; 32] = [9; 32];

/// Runs lookups while the input says what comes back. The model knows all that the network did, and
/// says what may follow from it.
///
/// # Panics
/// If something else does.
pub fn lookup(data: &[u8]) {
    let mut run = Run::new(Draw::new(data.get(..MAX_INPUT).unwrap_or(data)));
    while !run.draw.ended() {
        run.step();
        run.hand.check();
    }
    // Silence from now on: every lookup comes to its end.
    for _ in 0..2 * LOOKUP_TIMEOUT.as_secs() {
        run.wait(Duration::from_secs(1));
    }
    run.model.check_over();
}

struct Run {
    draw: Draw,
    hand: Hand,
    model: Model,
}

impl Run {
    fn new(mut draw: Draw) -> Self {
        let mut config = Config::default();
        config.mode = Mode::Client;
        config.bootstrap = vec![addr(0, false), addr(2, false), addr(0, true), addr(2, true)];
        config.k = draw.pick(&[8, 1, 2, 4]).unwrap_or(8);
        config.alpha = draw.pick(&[4, 1, 2, 8]).unwrap_or(4);
        config.max_frontier = draw.pick(&[100, config.k, 12, 100]).unwrap_or(100);
        config.max_lookups = 6;
        config.max_transactions = draw.pick(&[64, 8]).unwrap_or(64);
        (config.stall_min, config.stall_initial) = (STALL, STALL);
        config.query_timeout = QUERY_TIMEOUT;
        config.lookup_timeout = LOOKUP_TIMEOUT;
        config.verify = verify;
        let networks = draw.pick(&[Networks::V4, Networks::V6, Networks::Both]);
        let networks = networks.unwrap_or(Networks::V4);
        let terms = Terms {
            k: config.k,
            alpha: config.alpha,
            max_frontier: config.max_frontier,
            max_transactions: config.max_transactions,
            stall: STALL,
            query_timeout: QUERY_TIMEOUT,
            lookup_timeout: LOOKUP_TIMEOUT,
            bootstrap: config.bootstrap.clone(),
            both: networks == Networks::Both,
        };
        let hand = Hand::new(config, networks, draw.byte());
        let mut run = Self { draw, hand, model: Model::new(terms) };
        if run.draw.flag() {
            run.settle(Family::V4);
            run.settle(Family::V6);
        }
        run.drain();
        run
    }

    /// Some contacts to start from.
    fn settle(&mut self, family: Family) {
        let contacts: Vec<_> = (0..self.draw.below(12))
            .map(|_| {
                // Each in a subnet of its own, as a table would have them.
                let (choice, heard) = (2 * self.draw.below(24) as u8, self.hand.now);
                let (id, addr) = (honest_id(choice), addr(choice, family == Family::V6));
                Acquaintance { id, addr, rtt: Duration::from_millis(50), heard }
            })
            .collect();
        let own = NodeId::from_bytes([0xa5; ID_LEN]);
        self.hand.dht.settle(self.hand.now, family, own, None, &contacts);
    }

    fn step(&mut self) {
        match self.draw.below(8) {
            0 => {
                let (mantissa, shift) = (u64::from(self.draw.byte()), self.draw.below(18));
                self.wait(Duration::from_micros(mantissa << shift));
            }
            1 => self.start(),
            2 if self.draw.seldom(4) => self.cancel(),
            _ => self.answer(),
        }
        self.drain();
    }

    fn wait(&mut self, pause: Duration) {
        self.hand.now = self.hand.now + pause;
        self.drain();
    }

    fn drain(&mut self) {
        let (sent, events) = self.hand.drain();
        for (to, bytes) in sent {
            self.model.sent(self.hand.now, to, &bytes);
        }
        for event in events {
            self.model.event(&event, |family| self.hand.dht.node_id(family));
        }
        self.model.check_time(self.hand.now);
    }

    fn start(&mut self) {
        let lookup = self.lookup();
        if self.model.is_looked_for(&lookup) {
            return;
        }
        let dht = &mut self.hand.dht;
        let known = [Family::V4, Family::V6].into_iter().flat_map(|family| dht.contacts(family));
        let known: Vec<_> = known.map(|node| node.addr).collect();
        if let Ok(id) = dht.start(self.hand.now, &lookup) {
            self.model.started(self.hand.now, id, lookup, known);
        }
    }

    fn lookup(&mut self) -> Lookup {
        let kind = self.draw.below(8);
        // Never our own id, which the node looks for itself.
        let choice = self.draw.byte() & 0x7f;
        let info_hash = InfoHash::from_bytes([choice; ID_LEN]);
        let number = i64::from(choice % 4);
        match kind {
            0 => Lookup::FindNode { target: info_hash.target().node_id() },
            1 => Lookup::GetPeers { info_hash, scrape: choice % 2 == 1, noseed: false },
            2 => Lookup::Announce { info_hash, port: AnnouncePort::Implied, seed: false },
            3 => {
                let target = ItemId::of_immutable(&value(number));
                Lookup::GetItem { target, salt: Vec::new(), newer_than: None }
            }
            4 => {
                let salt = vec![choice % 4];
                let newer_than = self.draw.flag().then_some(1);
                let target = ItemId::of_mutable(&KEY, &salt);
                Lookup::GetItem { target, salt, newer_than }
            }
            5 => Lookup::PutItem { item: Box::new(signed(&[choice % 4], 2, 7)), cas: None },
            6 => {
                let cas = self.draw.flag().then_some(1);
                Lookup::PutItem { item: Box::new(signed(&[choice % 4], 3, 8)), cas }
            }
            _ => Lookup::Sample { addr: addr(choice % 56, false), target: info_hash.target() },
        }
    }

    fn cancel(&mut self) {
        let running = self.model.running();
        if let Some(id) = self.draw.pick(&running) {
            assert!(self.hand.dht.cancel(id), "it was running");
            assert!(!self.hand.dht.cancel(id), "it runs no more");
            self.model.cancelled(id);
        }
    }

    /// Something comes back, for one of the latest queries: in time or late, once or again.
    fn answer(&mut self) {
        let index = self.draw.index(self.model.queries.len());
        let Some(query) = self.model.queries.iter().rev().nth(index).cloned() else { return };
        let (from, tid) = (self.source(&query), self.tid(&query));
        match self.draw.below(12) {
            0 => {
                self.hand.dht.handle_unreachable(self.hand.now, query.to);
                self.model.unreachable(self.hand.now, query.to);
            }
            1 => {
                let code = self.draw.pick(&[203, 201, 202, 301, 302, 0]).unwrap_or_default();
                let error = ErrorReply { code, message: b"no" };
                self.deliver(from, &tid, Body::Error(error));
                self.model.refused(self.hand.now, from, &tid);
            }
            _ => {
                let told = self.told(&query);
                self.reply(from, &tid, &told);
                let own = self.hand.dht.node_id(Family::of(&from));
                self.model.replied(self.hand.now, (from, &tid), told, own);
            }
        }
    }

    /// Whom the answer comes from; seldom from somebody else.
    fn source(&mut self, query: &Query) -> SocketAddr {
        if !self.draw.seldom(16) {
            return query.to;
        }
        addr(self.draw.byte() % 56, query.to.is_ipv6())
    }

    fn tid(&mut self, query: &Query) -> Vec<u8> {
        let mut tid = query.tid.clone();
        if self.draw.seldom(16) {
            tid.reverse();
        }
        tid
    }

    fn told(&mut self, query: &Query) -> Told {
        let v6 = query.to.is_ipv6();
        let target = query.target.unwrap_or(Target::from_bytes([0; ID_LEN]));
        let mut near = *target.node_id().as_bytes();
        let id = match self.draw.below(8) {
            6 => NodeId::from_bytes([self.draw.byte(); ID_LEN]),
            7 => self.hand.dht.node_id(Family::of(&query.to)).unwrap_or_else(|| honest_id(0)),
            _ => id_at(query.to),
        };
        let nodes = (0..self.draw.below(9)).map(|_| {
            let byte = self.draw.byte();
            let choice = byte & 63;
            if byte & 0x80 == 0 {
                return (honest_id(choice), addr(choice, v6));
            }
            // A lie: somebody right beside the target.
            if let Some(last) = near.last_mut() {
                *last ^= byte;
            }
            (NodeId::from_bytes(near), addr(choice, v6))
        });
        let nodes = nodes.collect();
        let token = match self.draw.below(4) {
            0 => None,
            1 => Some(vec![self.draw.byte(); 41]),
            _ => Some(vec![self.draw.byte(); 4]),
        };
        let values = (0..self.draw.below(3)).map(|_| addr(self.draw.byte() & 63, v6)).collect();
        Told { id, nodes, token, values, item: self.item(query) }
    }

    /// An item, true or not, if one is looked for.
    fn item(&mut self, query: &Query) -> Option<Stored> {
        let salt = query.salt.clone()?;
        let number = i64::from(self.draw.below(4));
        match self.draw.below(6) {
            0 => Some(Stored { v: value(number), signed: None }),
            1 | 2 => {
                let item = signed(&salt, i64::from(self.draw.below(4)), number);
                let signed = item.signed()?;
                let signed = (signed.public_key, signed.seq, signed.signature);
                Some(Stored { v: item.value().to_vec(), signed: Some(signed) })
            }
            3 => Some(Stored { v: value(number), signed: Some((KEY, 9, [0; 64])) }),
            _ => None,
        }
    }

    fn reply(&mut self, from: SocketAddr, tid: &[u8], told: &Told) {
        let mut reply = Reply::new(told.id);
        let record =
            |(id, addr): &(NodeId, SocketAddr)| [&id.as_bytes()[..], &compact(*addr)].concat();
        let nodes: Vec<u8> = told.nodes.iter().flat_map(record).collect();
        let peers: Vec<u8> = told.values.iter().flat_map(|peer| compact(*peer)).collect();
        reply.token = told.token.as_deref();
        let values = if from.is_ipv6() {
            reply.nodes6 = Some(&nodes);
            Values::of::<SocketAddrV6>(&peers)
        } else {
            reply.nodes = Some(&nodes);
            Values::of::<SocketAddrV4>(&peers)
        };
        reply.values = (!peers.is_empty()).then_some(values);
        if let Some(item) = &told.item {
            reply.v = Some(&item.v);
            if let Some((key, seq, signature)) = &item.signed {
                (reply.public_key, reply.signature) = (Some(key), Some(signature));
                reply.seq = Some(*seq);
            }
        }
        self.deliver(from, tid, Body::Reply(reply));
    }

    fn deliver(&mut self, from: SocketAddr, tid: &[u8], body: Body<'_>) {
        let message =
            Message { tid, version: None, ip: None, read_only: false, unsorted: false, body };
        let mut out = [0; MAX_DATAGRAM];
        let Some(len) = message.encode(&mut out) else { unreachable!("it is short") };
        let answer = self.hand.deliver(from, out.get(..len).unwrap_or_default());
        assert!(answer.is_none(), "an answer is not answered");
    }
}

/// The choice-th host of a small network: two to a subnet, then some by themselves, then such as
/// nobody on the internet may tell of.
fn addr(choice: u8, v6: bool) -> SocketAddr {
    let (net, host) = (choice / 2, 1 + choice % 2);
    let port = if choice == 63 { 0 } else { 6_881 };
    if v6 {
        let ip = match choice {
            0..=47 => Ipv6Addr::new(0x2600, net.into(), 0, 0, 0, 0, 0, host.into()),
            48..=55 | 63 => Ipv6Addr::new(0x2601, choice.into(), 0, 0, 0, 0, 0, 1),
            _ => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, choice.into()),
        };
        return SocketAddrV6::new(ip, port, 0, 0).into();
    }
    let ip = match choice {
        0..=47 => Ipv4Addr::new(20, 0, net, host),
        48..=55 | 63 => Ipv4Addr::new(21, choice, 0, 1),
        _ => Ipv4Addr::new(10, 0, 0, choice),
    };
    SocketAddrV4::new(ip, port).into()
}

fn honest_id(choice: u8) -> NodeId {
    NodeId::from_bytes([choice.wrapping_mul(37).wrapping_add(1); ID_LEN])
}

/// The id of whoever is at an address.
fn id_at(at: SocketAddr) -> NodeId {
    let choice = (0..64).find(|choice| addr(*choice, at.is_ipv6()) == at);
    honest_id(choice.unwrap_or_default())
}

fn value(number: i64) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

fn signed(salt: &[u8], seq: i64, number: i64) -> Item {
    let v = value(number);
    let text = Signable::new(salt, seq, &v).map(|text| seal(&KEY, text.as_bytes()));
    let signed = Signed::new(KEY, salt.to_vec(), seq, text.unwrap_or([0; 64]));
    match Item::verified(&v, signed, verify) {
        Ok(item) => item,
        Err(error) => unreachable!("{error}"),
    }
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    match addr {
        SocketAddr::V4(addr) => addr.compact().to_vec(),
        SocketAddr::V6(addr) => addr.compact().to_vec(),
    }
}
