//! Somebody who fills stores: it asks for a token for everything that it stores, and at times stores
//! what must not be: items that nobody signed like that, and values that are none.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::{InfoHash, ItemId, NodeId};
use dht_proto::item::bencode_bytes;
use dht_proto::wire::{Method, Put, PutMutable};
use ed25519_dalek::{Signer, SigningKey};

use super::{Pace, craft};
use crate::check::authentic::signed_text;
use crate::choices::{About, Choices};
use crate::host::{Actor, Stage};

/// See the module.
#[derive(Debug)]
pub struct Flooder {
    id: NodeId,
    known: Arc<[SocketAddr]>,
    /// Bytes of each value.
    value_len: usize,
    /// Announces sent with each token, each for another port.
    ports: u16,
    pace: Pace,
    serial: u32,
    /// What it has asked for last, from whom.
    asked: Vec<(SocketAddr, Want)>,
}

/// Questions that it remembers.
const MEMORY: usize = 256;

#[derive(Clone, Debug)]
enum Want {
    Announce(InfoHash),
    Put(Vec<u8>),
    /// An item that must not be stored.
    Forge(Box<Forgery>),
}

/// The salt of what it forges.
const SALT: &[u8] = b"forged";

/// A mutable item with one thing wrong.
#[derive(Clone, Debug)]
struct Forgery {
    public_key: [u8; 32],
    salt: Vec<u8>,
    seq: i64,
    signature: [u8; 64],
    v: Vec<u8>,
}

impl Forgery {
    /// Signed as it should be, then spoiled in a way by chance.
    fn new(choices: &mut Choices, v: Vec<u8>) -> Self {
        let key = SigningKey::from_bytes(&craft::random(choices));
        let seq = i64::from(choices.below(About::Adversary, 9));
        let mut forgery = Self {
            public_key: key.verifying_key().to_bytes(),
            salt: SALT.to_vec(),
            seq,
            signature: craft::random(choices),
            v,
        };
        let way = choices.below(About::Adversary, 7);
        match way {
            1 => forgery.v = b"i-0e".to_vec(),
            2 => forgery.salt = [SALT; 11].concat(),
            _ => {}
        }
        if way > 0 {
            let text = signed_text(&forgery.salt, forgery.seq, &forgery.v);
            forgery.signature = key.sign(&text).to_bytes();
        }
        match way {
            3 => forgery.v = bencode_bytes(b"another"),
            4 => forgery.seq += 1,
            5 => forgery.salt.clear(),
            6 => forgery.public_key = SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes(),
            _ => {}
        }
        forgery
    }
}

impl Flooder {
    /// One that stores values of `value_len` bytes (at most 990) and `ports` peers for each
    /// infohash with all of `known`.
    #[must_use]
    pub const fn new(
        id: NodeId,
        known: Arc<[SocketAddr]>,
        value_len: usize,
        ports: u16,
        pace: Pace,
    ) -> Self {
        Self { id, known, value_len, ports, pace, serial: 0, asked: Vec::new() }
    }

    fn next_value(&mut self) -> Vec<u8> {
        self.serial = self.serial.wrapping_add(1);
        let mut value = vec![b'x'; self.value_len.clamp(24, 990)];
        let own = self.id.as_bytes().iter().chain(&self.serial.to_be_bytes()).copied().collect();
        let own: Vec<u8> = own;
        value.iter_mut().zip(own).for_each(|(byte, own)| *byte = own);
        bencode_bytes(&value)
    }
}

impl Actor for Flooder {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(token) = craft::reply_in(bytes).and_then(|reply| reply.token) else { return };
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == from) else { return };
        match self.asked.remove(at).1 {
            Want::Announce(info_hash) => {
                for port in 0..self.ports.min(super::MAX_BURST as u16) {
                    let (port, implied_port, seed) = (2_000 + port, false, false);
                    let method =
                        Method::AnnouncePeer { info_hash, port, implied_port, seed, token };
                    stage.send(to, from, craft::query(self.id, method));
                }
            }
            Want::Put(v) => {
                let put = Put { token, v: &v, mutable: None };
                stage.send(to, from, craft::query(self.id, Method::Put(put)));
            }
            Want::Forge(forgery) => {
                let Forgery { public_key, salt, seq, signature, v } = &*forgery;
                let mutable =
                    Some(PutMutable { public_key, salt, seq: *seq, signature, cas: None });
                let put = Put { token, v, mutable };
                stage.send(to, from, craft::query(self.id, Method::Put(put)));
            }
        }
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.pace.turns(stage) {
            let Some(to) = stage.choices.pick(About::Adversary, &self.known).copied() else {
                return;
            };
            let Some(me) = stage.addrs.like(&to) else { return };
            // One question at a time, so that each token is used for what it was given for.
            if self.asked.iter().any(|(asked, _)| *asked == to) {
                self.asked.retain(|(asked, _)| *asked != to);
                continue;
            }
            let want = match stage.choices.below(About::Adversary, 8) {
                0..=3 => Want::Announce(InfoHash::from_bytes(craft::random(stage.choices))),
                4..=6 => Want::Put(self.next_value()),
                _ => {
                    let v = self.next_value();
                    Want::Forge(Box::new(Forgery::new(stage.choices, v)))
                }
            };
            let method = match &want {
                Want::Announce(info_hash) => {
                    Method::GetPeers { info_hash: *info_hash, noseed: false, scrape: false }
                }
                Want::Put(v) => Method::Get { target: ItemId::of_immutable(v), seq: None },
                Want::Forge(forgery) => {
                    let target = ItemId::of_mutable(&forgery.public_key, &forgery.salt);
                    Method::Get { target, seq: None }
                }
            };
            stage.send(me, to, craft::query(self.id, method));
            if self.asked.len() >= MEMORY {
                self.asked.remove(0);
            }
            self.asked.push((to, want));
        }
    }
}
