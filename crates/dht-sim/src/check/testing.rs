//! Small parts for the tests of checkers.

use std::sync::Arc;

use dht_proto::config::{Config, Mode};
use dht_proto::id::NodeId;
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body, Message, Method, Query, Reply, Want};
use dht_proto::{Dht, Networks};

/// A node that answers, and has nothing to do at once.
pub(crate) fn server() -> Dht {
    node(Mode::Server)
}

/// A node that has nothing to do at once.
pub(crate) fn node(mode: Mode) -> Dht {
    let mut config = Config::default();
    config.mode = mode;
    let (seed, now) = (Seed::from_bytes([7; 32]), Instant::from_secs(1));
    let mut dht = Dht::new(Arc::new(config), Networks::V4, &seed, now);
    // Nobody is known, so nothing is sent.
    dht.handle_timeout(now);
    while dht.poll_event().is_some() {}
    dht
}

/// A message as bytes.
pub(crate) fn encode(tid: &[u8], body: Body<'_>) -> Vec<u8> {
    let message = Message { tid, version: None, ip: None, read_only: false, unsorted: false, body };
    let mut out = [0; 1_400];
    let len = message.encode(&mut out).unwrap();
    out[..len].to_vec()
}

/// A query of a stranger.
pub(crate) fn query(tid: &[u8], method: Method<'_>) -> Vec<u8> {
    let (id, want) = (NodeId::from_bytes([1; 20]), Want::default());
    encode(tid, Body::Query(Query { id, want, method }))
}

/// The same message of somebody who is read-only.
pub(crate) fn read_only(bytes: &[u8]) -> Vec<u8> {
    let message = Message { read_only: true, ..wire::decode(bytes).unwrap() };
    let mut out = [0; 1_400];
    let len = message.encode(&mut out).unwrap();
    out[..len].to_vec()
}

/// A ping.
pub(crate) fn ping(tid: &[u8]) -> Vec<u8> {
    query(tid, Method::Ping)
}

/// The reply to one.
pub(crate) fn pong(tid: &[u8]) -> Vec<u8> {
    encode(tid, Body::Reply(Reply::new(NodeId::from_bytes([2; 20]))))
}
