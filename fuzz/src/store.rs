//! A server and all that can be read and stored there, against a plain model of what it holds.

mod items;
mod peers;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::{Addr, Family};
use dht_proto::config::{Config, Mode};
use dht_proto::id::{ID_LEN, InfoHash, ItemId, NodeId, Target};
use dht_proto::item::Signable;
use dht_proto::seed::Seed;
use dht_proto::snapshot::Snapshot;
use dht_proto::wire::{self, Body, Message, Method, Put, PutMutable, Query, Reply, Want, code};
use dht_proto::{Acquaintance, Dht, Networks};

use self::items::Items;
use self::peers::{Announced, Peers};
use crate::draw::Draw;
use crate::hand::Hand;
use crate::seal::{seal, verify};

/// Longer inputs only repeat themselves.
const MAX_INPUT: usize = 1_024;
/// Tokens that somebody remembers.
const MAX_TOKENS: usize = 32;

/// Asks a server, and has it store, what the input says. Every answer is compared with the model's.
///
/// # Panics
/// If an answer is wrong.
pub fn store(data: &[u8]) {
    let mut run = Run::new(Draw::new(data.get(..MAX_INPUT).unwrap_or(data)));
    while !run.draw.ended() {
        run.step();
        run.hand.drain();
        run.hand.check();
        run.check_gauges();
    }
}

/// Permission to write, and whom it was given to, when.
#[derive(Clone)]
struct Token {
    bytes: Vec<u8>,
    ip: IpAddr,
    target: Target,
    /// The number of the rotation.
    period: u64,
}

struct Run {
    draw: Draw,
    hand: Hand,
    config: Config,
    v6: bool,
    /// Limits are so low that entries get in each other's way: what is stored may be gone.
    tight: bool,
    tokens: Vec<Token>,
    peers: Peers,
    items: Items,
    seeds: u8,
}

/// What is asked of the server, and what it says: a reply or an error code.
type Answer<'a> = Result<Reply<'a>, i64>;

impl Run {
    fn new(mut draw: Draw) -> Self {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.verify = verify;
        // Budgets have tests of their own; here everything is answered in full.
        config.subnet_bytes_per_sec = u32::MAX;
        config.subnet_burst_bytes = u32::MAX;
        config.total_bytes_per_sec = u32::MAX;
        config.verifications_per_sec = u32::MAX;
        let (v6, tight) = (draw.flag(), draw.flag());
        if tight {
            config.max_torrents = draw.pick(&[2, 0, 1]).unwrap_or(2);
            config.max_peers_per_torrent = draw.pick(&[3, 0, 1, 9]).unwrap_or(3);
            config.max_announces_per_subnet = draw.pick(&[4, 0, 1]).unwrap_or(4);
            config.max_items = draw.pick(&[3, 0, 1, 8]).unwrap_or(3);
            config.max_items_per_subnet = draw.pick(&[2, 0, 1]).unwrap_or(2);
            config.max_samples = draw.pick(&[1, 0, 2]).unwrap_or(1);
        }
        let networks = if v6 { Networks::V6 } else { Networks::V4 };
        let mut hand = Hand::new(config.clone(), networks, 0);
        let contacts: Vec<_> = (0..draw.below(12)).map(|n| contact(n as u16, v6, &hand)).collect();
        let (now, own) = (hand.now, NodeId::from_bytes([0xa5; ID_LEN]));
        hand.dht.settle(now, if v6 { Family::V6 } else { Family::V4 }, own, None, &contacts);
        let (peers, items) = (Peers::new(tight), Items::new(tight));
        Self { draw, hand, config, v6, tight, tokens: Vec::new(), peers, items, seeds: 0 }
    }

    fn step(&mut self) {
        match self.draw.below(16) {
            0 => {
                let pauses = [1, 30, 120, 299, 300, 600, 2_699, 2_701, 6_000, 7_199, 7_201, 21_600];
                let secs = self.draw.pick(&pauses).unwrap_or(1);
                let millis = 1_000 * secs - u64::from(self.draw.below(2));
                self.hand.now = self.hand.now + Duration::from_millis(millis);
            }
            1 | 2 => self.get_peers(),
            3..=6 => self.announce(),
            7 | 8 => self.get(),
            9..=12 => self.put(),
            13 => self.sample(),
            14 => self.ask_anything(),
            _ => {
                if self.draw.seldom(4) {
                    self.restart();
                }
            }
        }
    }

    // Queries.

    fn get_peers(&mut self) {
        let (from, info_hash) = (self.source(), self.info_hash());
        let (noseed, scrape) = (self.draw.flag(), self.draw.seldom(3));
        let answer = self.ask(from, Method::GetPeers { info_hash, noseed, scrape });
        let reply = read(&answer).unwrap_or_else(|code| panic!("get_peers was refused: {code}"));
        let most = match (self.v6, scrape) {
            (false, false) => SocketAddrV4::MAX_VALUES,
            (false, true) => SocketAddrV4::MAX_VALUES_WITH_SCRAPE,
            (true, false) => SocketAddrV6::MAX_VALUES,
            (true, true) => SocketAddrV6::MAX_VALUES_WITH_SCRAPE,
        };
        self.peers.check(self.hand.now, info_hash, &reply, (noseed, scrape, most), &self.config);
        self.check_nodes(info_hash.target(), &reply);
        let full = || self.peers.len_at_most(info_hash) >= self.config.max_peers_per_torrent;
        assert!(reply.token.is_some() || (self.tight && full()), "a token was withheld");
        self.remember(from, info_hash.target(), reply.token);
    }

    fn announce(&mut self) {
        let (from, info_hash) = (self.source(), self.info_hash());
        let (token, granted) = self.token(from, info_hash.target());
        let (implied_port, seed) = (self.draw.flag(), self.draw.flag());
        let port = u16::from(self.draw.byte());
        let method = Method::AnnouncePeer { info_hash, port, implied_port, seed, token: &token };
        let answer = self.ask(from, method);
        let port = if implied_port { from.port() } else { port };
        let answer = read(&answer).map(|_| ());
        if port == 0 || !granted {
            assert_eq!(answer, Err(code::PROTOCOL), "port {port}, permission: {granted}");
            return;
        }
        let announced = Announced { peer: SocketAddr::new(from.ip(), port), seed };
        match answer {
            Ok(()) => self.peers.announced(self.hand.now, info_hash, announced, &self.config),
            Err(code) => {
                assert_eq!(code, code::SERVER, "an announce may be too much and nothing else");
                let full = self.peers.may_be_full(info_hash, announced, &self.config);
                assert!(self.tight && full, "there was room for {}", announced.peer);
            }
        }
    }

    fn get(&mut self) {
        let (from, id) = (self.source(), self.item_id());
        let seq = self.draw.flag().then(|| i64::from(self.draw.below(4)));
        let answer = self.ask(from, Method::Get { target: id, seq });
        let reply = read(&answer).unwrap_or_else(|code| panic!("get was refused: {code}"));
        self.items.check(self.hand.now, id, seq, &reply);
        self.check_nodes(id.target(), &reply);
        assert!(reply.token.is_some(), "a token was withheld");
        self.remember(from, id.target(), reply.token);
    }

    fn put(&mut self) {
        let from = self.source();
        let v = value(self.draw.byte());
        let (key, salt) = (key(self.draw.byte()), salt(self.draw.byte()));
        let seq = i64::from(self.draw.below(4)) - 1;
        let is_mutable = self.draw.flag();
        let text = Signable::new(&salt, seq, &v);
        let mut signature = text.map_or([1; 64], |text| seal(&key, text.as_bytes()));
        if self.draw.seldom(6) {
            signature.reverse();
            signature[0] ^= 1;
        }
        let cas = self.draw.seldom(4).then(|| i64::from(self.draw.below(4)) - 1);
        let mutable = PutMutable { public_key: &key, salt: &salt, seq, signature: &signature, cas };
        let mutable = is_mutable.then_some(mutable);
        let id =
            if is_mutable { ItemId::of_mutable(&key, &salt) } else { ItemId::of_immutable(&v) };
        let (token, granted) = self.token(from, id.target());
        let put = Put { token: &token, v: &v, mutable };
        let answer = self.ask(from, Method::Put(put));
        let answer = read(&answer).map(|_| ());
        self.items.check_put(self.hand.now, (from, id, &put), granted, answer, &self.config);
    }

    fn sample(&mut self) {
        let from = self.source();
        let target = self.info_hash().target();
        let answer = self.ask(from, Method::SampleInfohashes { target });
        let reply = read(&answer).unwrap_or_else(|code| panic!("a sample was refused: {code}"));
        self.peers.check_sample(self.hand.now, &reply, &self.config);
        self.check_nodes(target, &reply);
    }

    /// What stores nothing.
    fn ask_anything(&mut self) {
        let (from, target) = (self.source(), self.info_hash().target());
        let (method, nodes) = match self.draw.below(4) {
            0 => (Method::Ping, Ok(false)),
            1 => (Method::FindNode { target }, Ok(true)),
            2 => (Method::Unknown { name: b"vote", target: Some(target) }, Ok(true)),
            _ => (Method::Unknown { name: b"vote", target: None }, Err(code::METHOD_UNKNOWN)),
        };
        let answer = self.ask(from, method);
        let answer = read(&answer);
        assert_eq!(answer.map(|reply| reply.nodes.or(reply.nodes6).is_some()), nodes);
        if let Ok(reply) = answer {
            assert_eq!((reply.token, reply.v, reply.samples), (None, None, None));
            self.check_nodes(target, &reply);
        }
    }

    /// A new life: what a snapshot holds goes on, the rest is forgotten.
    fn restart(&mut self) {
        let now = self.hand.now;
        self.hand.dht.handle_timeout(now);
        let bytes = self.hand.dht.snapshot().to_bytes();
        let Ok(snapshot) = Snapshot::from_bytes(&bytes, verify) else { panic!("we wrote it") };
        self.seeds = self.seeds.wrapping_add(1);
        let (config, seed) = (Arc::new(self.config.clone()), Seed::from_bytes([self.seeds; 32]));
        let networks = if self.v6 { Networks::V6 } else { Networks::V4 };
        self.hand.dht = Dht::restore(config, networks, &seed, now, &snapshot);
        self.tokens.clear();
        self.peers = Peers::new(self.tight);
        self.items.restarted(now);
    }

    // Tokens.

    fn period(&self) -> u64 {
        self.hand.now.as_micros() / self.config.token_rotation.as_micros() as u64
    }

    fn remember(&mut self, from: SocketAddr, target: Target, token: Option<&[u8]>) {
        let Some(bytes) = token.map(<[u8]>::to_vec) else { return };
        assert!(bytes.len() >= 8, "a token that can be guessed");
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(Token { bytes, ip: from.ip(), target, period: self.period() });
    }

    /// A token to write with, and whether it is good: mostly one that was given for this, sometimes
    /// another or none.
    fn token(&mut self, from: SocketAddr, target: Target) -> (Vec<u8>, bool) {
        let is_for = |token: &Token| token.ip == from.ip() && token.target == target;
        let kind = self.draw.below(8);
        if kind < 4 {
            // Asks for one, as whoever means it does.
            let id = target.item_id();
            let answer = self.ask(from, Method::Get { target: id, seq: Some(i64::MAX) });
            let token = read(&answer).ok().and_then(|reply| reply.token);
            self.remember(from, target, token);
        }
        let fitting = self.tokens.iter().rev().find(|token| is_for(token)).cloned();
        let other = self.draw.pick(&(0..self.tokens.len()).collect::<Vec<_>>());
        let token = match kind {
            0..=5 => fitting,
            6 => other.and_then(|index| self.tokens.get(index)).cloned(),
            _ => None,
        };
        let Some(token) = token else {
            let length = self.draw.index(10);
            return (vec![self.draw.byte(); length], false);
        };
        let age = self.period() - token.period;
        (token.bytes.clone(), is_for(&token) && age <= 1)
    }

    // The wire.

    fn ask(&mut self, from: SocketAddr, method: Method<'_>) -> Vec<u8> {
        // Never our own id: what comes under that is not answered.
        let (id, read_only) = (self.draw.byte() & 0x7f, self.draw.flag());
        let id = NodeId::from_bytes([id; ID_LEN]);
        let body = Body::Query(Query { id, want: Want::default(), method });
        let message =
            Message { tid: b"ask", version: None, ip: None, read_only, unsorted: false, body };
        let mut out = [0; 2_048];
        let Some(len) = message.encode(&mut out) else { unreachable!("there is room") };
        let answer = self.hand.deliver(from, out.get(..len).unwrap_or_default());
        let Some(answer) = answer else { panic!("no answer to {method:?}") };
        let Ok(read) = wire::decode(&answer) else { unreachable!("checked when it was sent") };
        let most = if self.v6 { SocketAddrV6::MAX_DATAGRAM } else { SocketAddrV4::MAX_DATAGRAM };
        assert!(answer.len() <= most, "an answer of {} bytes", answer.len());
        assert_eq!((read.tid, read.ip), (&b"ask"[..], Some((from.ip(), Some(from.port())))));
        if let Body::Reply(reply) = read.body {
            assert_eq!(Some(reply.id), self.own_id());
        }
        answer
    }

    fn family(&self) -> Family {
        if self.v6 { Family::V6 } else { Family::V4 }
    }

    fn own_id(&self) -> Option<NodeId> {
        self.hand.dht.node_id(self.family())
    }

    /// The nodes of a reply are contacts, each once, and at most k; their order is nobody's business.
    fn check_nodes(&self, target: Target, reply: &Reply<'_>) {
        let mut nodes: Vec<_> = if self.v6 {
            let told = wire::nodes::<SocketAddrV6>(reply.nodes6.unwrap_or_default());
            told.map(|(id, addr)| (id, SocketAddr::from(addr))).collect()
        } else {
            let told = wire::nodes::<SocketAddrV4>(reply.nodes.unwrap_or_default());
            told.map(|(id, addr)| (id, SocketAddr::from(addr))).collect()
        };
        let contacts = self.hand.dht.contacts(self.family());
        let known = |(id, addr): &(NodeId, SocketAddr)| {
            contacts.iter().any(|contact| (contact.id, contact.addr) == (*id, *addr))
        };
        assert!(nodes.iter().all(known), "a node that is no contact");
        let distance = |(id, _): &(NodeId, SocketAddr)| id.distance(target);
        nodes.sort_by_key(distance);
        assert!(nodes.is_sorted_by(|a, b| distance(a) < distance(b)), "a node told twice");
        assert!(nodes.len() <= self.config.k, "more than k nodes");
    }

    fn check_gauges(&self) {
        let stats = self.hand.dht.stats();
        let (torrents, each) = (self.config.max_torrents, self.config.max_peers_per_torrent);
        assert!(
            stats.torrents as usize <= torrents && stats.items as usize <= self.config.max_items
        );
        assert!(stats.peers as usize <= torrents * each, "too many peers");
    }

    // Who asks, and for what.

    fn source(&mut self) -> SocketAddr {
        let choice = self.draw.byte();
        let (net, host, port) = (choice & 3, choice >> 2 & 3, 6_881 + u16::from(choice >> 6 & 1));
        let is_local = choice & 0x80 != 0;
        if self.v6 {
            let ip = if is_local {
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into())
            } else {
                Ipv6Addr::new(0x2600, 7, 0, net.into(), 0, 0, 0, host.into())
            };
            return SocketAddrV6::new(ip, port, 0, 0).into();
        }
        let ip =
            if is_local { Ipv4Addr::new(10, 0, 0, host) } else { Ipv4Addr::new(30, 7, net, host) };
        SocketAddrV4::new(ip, port).into()
    }

    fn info_hash(&mut self) -> InfoHash {
        InfoHash::from_bytes([1 + self.draw.below(4) as u8; ID_LEN])
    }

    fn item_id(&mut self) -> ItemId {
        let (a, b) = (self.draw.byte(), self.draw.byte());
        if self.draw.flag() {
            ItemId::of_mutable(&key(a), &salt(b))
        } else {
            ItemId::of_immutable(&value(a))
        }
    }
}

fn contact(n: u16, v6: bool, hand: &Hand) -> Acquaintance {
    let addr: SocketAddr = if v6 {
        SocketAddrV6::new(Ipv6Addr::new(0x2601 + n, 0, 0, 0, 0, 0, 0, 1), 6_881, 0, 0).into()
    } else {
        SocketAddrV4::new(Ipv4Addr::new(40, n as u8, 0, 1), 6_881).into()
    };
    let id = NodeId::from_bytes([(n as u8).wrapping_mul(23); ID_LEN]);
    Acquaintance { id, addr, rtt: Duration::from_millis(50), heard: hand.now }
}

fn read(answer: &[u8]) -> Answer<'_> {
    match wire::decode(answer).map(|message| message.body) {
        Ok(Body::Reply(reply)) => Ok(reply),
        Ok(Body::Error(error)) => Err(error.code),
        Ok(Body::Query(_)) | Err(_) => panic!("no answer: {}", answer.escape_ascii()),
    }
}

fn key(choice: u8) -> [u8; 32] {
    [choice % 2; 32]
}

fn salt(choice: u8) -> Vec<u8> {
    match choice % 8 {
        7 => vec![b's'; 65],
        6 => vec![b's'; 64],
        5 => b"salt".to_vec(),
        _ => Vec::new(),
    }
}

/// Values of all sorts: small, as long as allowed, too long, and not canonical.
fn value(choice: u8) -> Vec<u8> {
    match choice % 16 {
        15 => b"d1:bi1e1:ai2ee".to_vec(),
        14 => string(996),
        13 => string(997),
        12 => b"d1:ai2e1:bi1ee".to_vec(),
        11 => b"lli0eee".to_vec(),
        number => format!("i{}e", number % 4).into_bytes(),
    }
}

fn string(len: usize) -> Vec<u8> {
    let mut v = format!("{len}:").into_bytes();
    v.resize(v.len() + len, b'x');
    v
}
