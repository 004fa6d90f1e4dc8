//! Somebody who meddles: uses tokens that were given to others, answers from where it is not, and
//! answers twice. What comes of it is for the checkers to say; a node must not be harmed.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dht_proto::id::{InfoHash, NodeId};
use dht_proto::wire::{self, Body, Method, Reply};

use crate::adversary::craft::{encode, query};
use crate::choices::About;
use crate::host::{Actor, Stage};

/// Nodes and tokens that it remembers.
const MEMORY: usize = 32;
const PAUSE: Duration = Duration::from_millis(1_500);

/// See the module.
#[derive(Debug)]
pub(super) struct Meddler {
    id: NodeId,
    known: VecDeque<SocketAddr>,
    /// Tokens, who gave them, and for what.
    tokens: VecDeque<(SocketAddr, Vec<u8>, InfoHash)>,
}

impl Meddler {
    pub(super) fn new(known: Vec<SocketAddr>, number: u32) -> Self {
        let mut id = [0xa5; 20];
        id.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, random)| *byte = random);
        let (id, known) = (NodeId::from_bytes(id), known.into());
        Self { id, known, tokens: VecDeque::new() }
    }

    fn remember(&mut self, addr: SocketAddr) {
        if !self.known.contains(&addr) {
            self.known.push_back(addr);
            if self.known.len() > MEMORY {
                self.known.pop_front();
            }
        }
    }

    /// Answers a query, at times from elsewhere first, at times twice.
    fn answer(&self, stage: &mut Stage<'_>, from: SocketAddr, to: SocketAddr, tid: &[u8]) {
        let mut reply = Reply::new(self.id);
        reply.token = Some(b"whatever");
        let bytes = encode(tid, Body::Reply(reply));
        match stage.choices.below(About::Adversary, 4) {
            0 => stage.send(elsewhere(to), from, bytes),
            1 => {
                stage.send(elsewhere(to), from, bytes.clone());
                stage.send(to, from, bytes);
            }
            2 => {
                stage.send(to, from, bytes.clone());
                stage.send(to, from, bytes);
            }
            _ => stage.send(to, from, bytes),
        }
    }

    /// Asks for a token, or uses one: from its own address, from another, or long after.
    fn meddle(&mut self, stage: &mut Stage<'_>) {
        let known = self.known.make_contiguous();
        let Some(&to) = stage.choices.pick(About::Adversary, known) else { return };
        let Some(me) = stage.addrs.like(&to) else { return };
        let info_hash = InfoHash::from_bytes([stage.choices.below(About::Adversary, 3) as u8; 20]);
        if stage.choices.below(About::Adversary, 2) == 0 {
            let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
            let bytes = query(self.id, method);
            stage.send(me, to, bytes);
            return;
        }
        let tokens = self.tokens.make_contiguous();
        let Some((giver, token, info_hash)) = stage.choices.pick(About::Adversary, tokens) else {
            return;
        };
        let (port, implied_port, seed) = (6_666, false, false);
        let method =
            Method::AnnouncePeer { info_hash: *info_hash, port, implied_port, seed, token };
        let bytes = query(self.id, method);
        let Some(me) = stage.addrs.like(giver) else { return };
        let giver = *giver;
        match stage.choices.below(About::Adversary, 3) {
            0 => stage.send(me, giver, bytes),
            1 => stage.send(elsewhere(me), giver, bytes),
            _ => stage.send(me, to, bytes),
        }
    }
}

impl Actor for Meddler {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Ok(message) = wire::decode(bytes) else { return };
        match message.body {
            Body::Query(_) => {
                self.remember(from);
                self.answer(stage, from, to, message.tid);
            }
            Body::Reply(reply) => {
                let Some(token) = reply.token else { return };
                for i in 0..3 {
                    let info_hash = InfoHash::from_bytes([i; 20]);
                    self.tokens.push_back((from, token.to_vec(), info_hash));
                }
                while self.tokens.len() > 3 * MEMORY {
                    self.tokens.pop_front();
                }
            }
            Body::Error(_) => {}
        }
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        self.meddle(stage);
        stage.wake_at(stage.now + PAUSE);
    }
}

/// Another address of another network.
fn elsewhere(addr: SocketAddr) -> SocketAddr {
    let mut other = addr;
    match addr {
        SocketAddr::V4(addr) => {
            other.set_ip(IpAddr::V4((u32::from(*addr.ip()) ^ 0x0001_0100).into()));
        }
        SocketAddr::V6(addr) => {
            other.set_ip(IpAddr::V6((u128::from(*addr.ip()) ^ (1 << 90)).into()));
        }
    }
    other
}
