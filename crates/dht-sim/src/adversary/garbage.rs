//! Somebody who sends what is no message: noise, messages with a few bytes wrong, cut or drawn out,
//! lists within lists. Whoever asks it gets the same.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::{InfoHash, NodeId};
use dht_proto::wire::{Body, Method, Query, Reply, Want};

use super::{Pace, craft};
use crate::choices::About;
use crate::host::{Actor, Stage};

/// The longest that it sends, in bytes.
const MAX_LEN: u32 = 1_400;

/// See the module.
#[derive(Debug)]
pub struct Garbage {
    id: NodeId,
    known: Arc<[SocketAddr]>,
    pace: Pace,
}

impl Garbage {
    /// One that sends to `known`.
    #[must_use]
    pub const fn new(id: NodeId, known: Arc<[SocketAddr]>, pace: Pace) -> Self {
        Self { id, known, pace }
    }

    fn rubbish(&self, stage: &mut Stage<'_>, tid: &[u8]) -> Vec<u8> {
        let mut draw = |n| stage.choices.below(About::Adversary, n);
        match draw(6) {
            0 => {
                let len = draw(MAX_LEN);
                (0..len).map(|_| draw(256) as u8).collect()
            }
            1 => nested(b"l", b"e", draw(MAX_LEN / 2)),
            2 => nested(b"d1:a", b"e", draw(MAX_LEN / 5)),
            3 => {
                // A length that nothing follows.
                let mut bytes = b"d1:t".to_vec();
                bytes.extend(draw(u32::MAX).to_string().bytes());
                bytes.extend(b"99999999:x");
                bytes
            }
            _ => {
                let which = draw(4);
                let mut bytes = self.message(which, tid);
                for _ in 0..=draw(4) {
                    damage(&mut bytes, &mut draw);
                }
                bytes
            }
        }
    }

    /// A proper message, to be spoilt.
    fn message(&self, which: u32, tid: &[u8]) -> Vec<u8> {
        let (id, want) = (self.id, Want { n4: true, n6: true });
        let info_hash = InfoHash::from_bytes([7; 20]);
        let method = match which {
            0 => Method::Ping,
            1 => Method::GetPeers { info_hash, noseed: false, scrape: true },
            2 => {
                let (port, implied_port, seed, token) = (1, true, true, &b"nonsense"[..]);
                Method::AnnouncePeer { info_hash, port, implied_port, seed, token }
            }
            _ => {
                let mut reply = Reply::new(id);
                reply.nodes = Some(&[5; 208]);
                return craft::encode(tid, Body::Reply(reply));
            }
        };
        craft::encode(tid, Body::Query(Query { id, want, method }))
    }
}

fn nested(open: &[u8], close: &[u8], depth: u32) -> Vec<u8> {
    let mut bytes = open.repeat(depth as usize);
    bytes.extend(close.repeat(depth as usize));
    bytes
}

/// Spoils one place.
fn damage(bytes: &mut Vec<u8>, draw: &mut impl FnMut(u32) -> u32) {
    let at = draw(bytes.len() as u32) as usize;
    match draw(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, draw(256) as u8),
        2 if at < bytes.len() => {
            bytes.remove(at);
        }
        _ => {
            let bit = draw(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
}

impl Actor for Garbage {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some((tid, _)) = craft::query_in(bytes) {
            let bytes = self.rubbish(stage, tid);
            stage.send(to, from, bytes);
        }
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.pace.turns(stage) {
            let Some(to) = stage.choices.pick(About::Adversary, &self.known).copied() else {
                return;
            };
            let Some(me) = stage.addrs.like(&to) else { return };
            let bytes = self.rubbish(stage, b"gbge");
            stage.send(me, to, bytes);
        }
    }
}
