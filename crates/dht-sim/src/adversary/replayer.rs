//! Somebody who uses tokens that are good for something else: from another address, for another
//! target, with another node, or long after they were given.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::id::{InfoHash, NodeId};
use dht_proto::item::bencode_bytes;
use dht_proto::time::Instant;
use dht_proto::wire::{Method, Put};

use super::{Pace, craft};
use crate::choices::About;
use crate::host::{Actor, Stage};

/// Tokens that it keeps, oldest first.
const MEMORY: usize = 512;

#[derive(Clone, Debug)]
struct Token {
    giver: SocketAddr,
    bytes: Vec<u8>,
    at: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Replayer {
    id: NodeId,
    known: Arc<[SocketAddr]>,
    /// What all its tokens are for.
    info_hash: InfoHash,
    /// Tokens older than this are expired.
    late: Duration,
    pace: Pace,
    tokens: VecDeque<Token>,
}

impl Replayer {
    /// One that asks `known` for tokens for `info_hash`, and takes them for expired after `late`.
    #[must_use]
    pub const fn new(
        id: NodeId,
        known: Arc<[SocketAddr]>,
        info_hash: InfoHash,
        late: Duration,
        pace: Pace,
    ) -> Self {
        Self { id, known, info_hash, late, pace, tokens: VecDeque::new() }
    }

    fn announce(&self, info_hash: InfoHash, token: &[u8]) -> Vec<u8> {
        let (port, implied_port, seed) = (6_666, false, false);
        let method = Method::AnnouncePeer { info_hash, port, implied_port, seed, token };
        craft::query(self.id, method)
    }

    fn misuse(&self, stage: &mut Stage<'_>, me: SocketAddr, other: SocketAddr) {
        let pick = stage.choices.below(About::Adversary, self.tokens.len() as u32) as usize;
        let Some(token) = self.tokens.get(pick) else { return };
        match stage.choices.below(About::Adversary, 5) {
            0 => {
                let from = craft::anywhere(&me, stage.choices);
                stage.send(from, token.giver, self.announce(self.info_hash, &token.bytes));
            }
            1 => {
                let info_hash = InfoHash::from_bytes(craft::random(stage.choices));
                stage.send(me, token.giver, self.announce(info_hash, &token.bytes));
            }
            2 => {
                let v = bencode_bytes(&craft::random::<16>(stage.choices));
                let put = Put { token: &token.bytes, v: &v, mutable: None };
                stage.send(me, token.giver, craft::query(self.id, Method::Put(put)));
            }
            3 if other != token.giver => {
                stage.send(me, other, self.announce(self.info_hash, &token.bytes));
            }
            _ => {
                let Some(token) = self.tokens.front() else { return };
                if stage.now.since(token.at) > self.late {
                    stage.send(me, token.giver, self.announce(self.info_hash, &token.bytes));
                }
            }
        }
    }
}

impl Actor for Replayer {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        _: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(token) = craft::reply_in(bytes).and_then(|reply| reply.token) else { return };
        // The first ones are kept: they are the ones to come too late with.
        if self.tokens.len() < MEMORY {
            self.tokens.push_back(Token { giver: from, bytes: token.to_vec(), at: stage.now });
        }
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.pace.turns(stage) {
            let Some(to) = stage.choices.pick(About::Adversary, &self.known).copied() else {
                return;
            };
            let Some(me) = stage.addrs.like(&to) else { return };
            if stage.choices.below(About::Adversary, 4) == 0 {
                let info_hash = self.info_hash;
                let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
                stage.send(me, to, craft::query(self.id, method));
            } else {
                self.misuse(stage, me, to);
            }
        }
    }
}
