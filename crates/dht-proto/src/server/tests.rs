//! Whole queries against whole replies, through the codec.

mod announces;
mod attacks;
mod puts;
mod replies;
mod sequences;

use alloc::vec::Vec;
use core::net::{SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use super::*;
use crate::MAX_DATAGRAM;
use crate::wire::{self, Body, ErrorReply, write_node};

const OWN_ID: NodeId = NodeId::from_bytes([0x11; 20]);
const TID: &[u8] = b"aa";

/// A server with eight nodes of each family around it.
struct Bench<A: Addr> {
    server: Server<A>,
    seed: Seed,
    config: Config,
    stats: Stats,
    now: Instant,
    tid: Vec<u8>,
    want: Want,
}

impl<A: Addr> Bench<A> {
    fn new(config: Config) -> Self {
        let seed = Seed::from_bytes([7; 32]);
        Self {
            server: Server::new(&seed),
            seed,
            config,
            stats: Stats::default(),
            now: Instant::from_secs(1_000),
            tid: TID.to_vec(),
            want: Want::default(),
        }
    }

    /// The datagram that answers a query, decoded once to be sure that it can be.
    fn ask(&mut self, from: A, method: Method<'_>) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_DATAGRAM];
        let query = Query { id: NodeId::from_bytes([0x22; 20]), want: self.want, method };
        let mut closest = closest;
        let (config, seed) = (&self.config, &self.seed);
        let mut ctx = Context { own_id: OWN_ID, config, seed, closest: &mut closest };
        let len = self.server.answer(
            self.now,
            from,
            &self.tid,
            &query,
            &mut ctx,
            &mut self.stats,
            &mut out,
        )?;
        self.server.check_invariants(&self.config);
        assert!(len <= A::MAX_DATAGRAM);
        if let Body::Reply(Reply { v: None, .. }) = wire::decode(&out[..len]).unwrap().body {
            assert!(len <= 1024 || self.tid.len() > 900, "BEP 32: not over 1024 octets");
        }
        let message = wire::decode(&out[..len]).unwrap();
        assert_eq!(message.tid, self.tid, "the transaction id is echoed");
        assert_eq!(message.ip, Some((from.ip(), Some(from.port()))));
        assert_eq!(message.version, Some(&self.config.version[..]));
        assert!(!message.unsorted && !message.read_only);
        Some(out[..len].to_vec())
    }

    fn token(&mut self, from: A, info_hash: InfoHash) -> Option<Vec<u8>> {
        let datagram = self.ask(from, get_peers(info_hash)).unwrap();
        reply(&datagram).token.map(<[u8]>::to_vec)
    }

    fn announce(&mut self, from: A, info_hash: InfoHash, seed: bool) -> Result<(), i64> {
        let token = self.token(from, info_hash).unwrap();
        let port = from.port();
        let announce =
            Method::AnnouncePeer { info_hash, port, implied_port: false, seed, token: &token };
        result(&self.ask(from, announce).unwrap())
    }

    fn put(&mut self, from: A, item: &Item, cas: Option<i64>) -> Result<(), i64> {
        let get = Method::Get { target: item.id(), seq: None };
        let datagram = self.ask(from, get).unwrap();
        let token = reply(&datagram).token.unwrap();
        let mutable = item.signed().map(|signed| wire::PutMutable {
            public_key: &signed.public_key,
            salt: &signed.salt,
            seq: signed.seq,
            signature: &signed.signature,
            cas,
        });
        let put = Method::Put(Put { token, v: item.value(), mutable });
        result(&self.ask(from, put).unwrap())
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now + by;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= self.now) {
            self.server.handle_timeout(due, &self.config);
            assert!(self.server.poll_timeout().is_none_or(|next| next > due), "progress");
        }
        self.server.check_invariants(&self.config);
    }

    fn gauges(&self) -> Stats {
        let mut stats = self.stats;
        self.server.add_gauges(&mut stats);
        stats
    }
}

fn closest(family: Family, target: Target, out: &mut [u8]) -> usize {
    let mut written = 0;
    for last in 1..=8 {
        // The first byte tells which target was asked for.
        let mut id = [last; 20];
        id[0] = target.as_bytes()[0];
        let id = NodeId::from_bytes(id);
        let room = &mut out[written..];
        let len = match family {
            Family::V4 => write_node(id, SocketAddrV4::new([8, 8, 8, last].into(), 53), room),
            Family::V6 => {
                let ip = [0x2600, 0, 0, 0, 0, 0, 0, u16::from(last)];
                write_node(id, SocketAddrV6::new(ip.into(), 53, 0, 0), room)
            }
        };
        let Some(len) = len else { break };
        written += len;
    }
    written
}

const fn get_peers(info_hash: InfoHash) -> Method<'static> {
    Method::GetPeers { info_hash, noseed: false, scrape: false }
}

fn reply(datagram: &[u8]) -> Reply<'_> {
    let Body::Reply(reply) = wire::decode(datagram).unwrap().body else {
        panic!("not a reply: {datagram:?}");
    };
    assert_eq!(reply.id, OWN_ID);
    reply
}

fn error(datagram: &[u8]) -> ErrorReply<'_> {
    let Body::Error(error) = wire::decode(datagram).unwrap().body else {
        panic!("not an error: {datagram:?}");
    };
    error
}

/// An acknowledgement, or the code of an error.
fn result(datagram: &[u8]) -> Result<(), i64> {
    match wire::decode(datagram).unwrap().body {
        Body::Reply(reply) => {
            assert_eq!(reply, Reply::new(OWN_ID), "an acknowledgement carries only the id");
            Ok(())
        }
        Body::Error(error) => Err(error.code),
        Body::Query(query) => panic!("not an answer: {query:?}"),
    }
}

fn v4(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// Hosts in networks and allocations of their own.
fn host_v4(n: u16) -> SocketAddrV4 {
    let [high, low] = n.to_be_bytes();
    SocketAddrV4::new([20 + high, low, low ^ 7, 1].into(), 1000 + n)
}

fn host_v6(n: u16) -> SocketAddrV6 {
    SocketAddrV6::new([0x2600 + n, 1, 2, 3, 4, 5, 6, 7].into(), 1000 + n, 0, 0)
}

fn info_hash(byte: u8) -> InfoHash {
    InfoHash::from_bytes([byte; 20])
}

#[test]
fn an_idle_server_is_small() {
    assert!(size_of::<Server<SocketAddrV4>>() <= 160, "{}", size_of::<Server<SocketAddrV4>>());
    let bench = Bench::<SocketAddrV4>::new(Config::default());
    assert_eq!(bench.server.poll_timeout(), None);
    assert_eq!(bench.server.items().count(), 0);
}
