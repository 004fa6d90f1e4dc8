//! The items that a server holds, as BEP 44 has it.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use dht_proto::addr::Addr;
use dht_proto::config::Config;
use dht_proto::id::ItemId;
use dht_proto::item::{MAX_SALT_LEN, MAX_VALUE_LEN, Signable};
use dht_proto::time::Instant;
use dht_proto::wire::{Put, PutMutable, Reply, code};

use crate::seal::verify;

/// Key, salt, seq and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    key: [u8; 32],
    salt: Vec<u8>,
    seq: i64,
    signature: [u8; 64],
}

#[derive(Clone, Debug)]
struct Held {
    v: Vec<u8>,
    signed: Option<Signed>,
    /// It is held until here for certain, and from `gone` on it is not.
    sure: Instant,
    gone: Instant,
    /// One of these counts for it: who put it first since it was there last. A restart forgets them.
    putters: Vec<SocketAddr>,
}

/// All items that were stored and have not expired for certain.
#[derive(Debug)]
pub(super) struct Items {
    held: BTreeMap<ItemId, Held>,
    tight: bool,
}

impl Items {
    pub(super) const fn new(tight: bool) -> Self {
        Self { held: BTreeMap::new(), tight }
    }

    /// What may be held under this id now, and whether it is for certain.
    fn held(&self, now: Instant, id: ItemId) -> (Option<&Held>, bool) {
        let held = self.held.get(&id).filter(|held| now < held.gone);
        (held, held.is_some_and(|held| now < held.sure && !self.tight))
    }

    /// The answer to a get.
    pub(super) fn check(&self, now: Instant, id: ItemId, known: Option<i64>, reply: &Reply<'_>) {
        let (held, sure) = self.held(now, id);
        let Some(held) = held else {
            let nothing = (reply.v, reply.seq, reply.public_key, reply.signature);
            assert_eq!(nothing, (None, None, None, None), "an item that nobody stored");
            return;
        };
        let seq = held.signed.as_ref().map(|signed| signed.seq);
        let is_known = seq.zip(known).is_some_and(|(seq, known)| seq <= known);
        let present = if seq.is_some() { reply.seq.is_some() } else { reply.v.is_some() };
        assert!(present || !sure, "an item is lost");
        if !present {
            assert!(reply.v.is_none() && reply.seq.is_none(), "half an item");
            return;
        }
        let signed = held.signed.as_ref().filter(|_| !is_known);
        assert_eq!(reply.seq, seq);
        assert_eq!(reply.v, (!is_known).then_some(&held.v[..]), "BEP 44: only what is newer");
        assert_eq!(reply.public_key, signed.map(|signed| &signed.key));
        assert_eq!(reply.signature, signed.map(|signed| &signed.signature));
    }

    /// The answer to a put, and what it makes of the store.
    pub(super) fn check_put(
        &mut self,
        now: Instant,
        (from, id, put): (SocketAddr, ItemId, &Put<'_>),
        granted: bool,
        answer: Result<(), i64>,
        config: &Config,
    ) {
        let (held, sure) = self.held(now, id);
        let mut allowed = Vec::new();
        if let Some(held) = held {
            allowed.push(expected(put, Some(held), granted));
        }
        if !sure {
            let stored = expected(put, None, granted);
            allowed.push(stored);
            // What is right in form may be too much, before anybody looks at its signature.
            if matches!(stored, Ok(()) | Err(code::BAD_SIGNATURE)) && self.may_be_full(from, config)
            {
                allowed.push(Err(code::SERVER));
            }
        }
        assert!(allowed.contains(&answer), "{answer:?} instead of {allowed:?}");
        if answer.is_err() {
            return;
        }
        let mut putters = held.map_or_else(Vec::new, |held| held.putters.clone());
        putters.push(from);
        let signed = put.mutable.map(|mutable| Signed {
            key: *mutable.public_key,
            salt: mutable.salt.to_vec(),
            seq: mutable.seq,
            signature: *mutable.signature,
        });
        let expiry = now + config.item_lifetime;
        let v = put.v.to_vec();
        self.held.insert(id, Held { v, signed, sure: expiry, gone: expiry, putters });
    }

    /// Whether the store or the network's share of it may be used up, by all that is known. What has
    /// expired may not have been thrown away yet.
    fn may_be_full(&self, from: SocketAddr, config: &Config) -> bool {
        let count = |shift| {
            let near = |putter: &SocketAddr| network(*putter) >> shift == network(from) >> shift;
            self.held.values().filter(|held| held.putters.iter().any(near)).count()
        };
        let provider = config.max_items_per_subnet.max(config.max_items / 4);
        let wide = if from.is_ipv4() { 48 } else { 32 };
        self.tight
            && (self.held.len() >= config.max_items
                || count(0) >= config.max_items_per_subnet
                || count(wide) >= provider)
    }

    /// Snapshots round what is left of a life down to whole seconds.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.held.retain(|_, held| now < held.gone);
        for held in self.held.values_mut() {
            held.sure = held.sure - Duration::from_secs(1);
            held.putters.clear();
        }
    }
}

/// What comes of a put where `held` is held: the checks of BEP 44, cheapest first.
fn expected(put: &Put<'_>, held: Option<&Held>, granted: bool) -> Result<(), i64> {
    if !granted {
        return Err(code::PROTOCOL);
    }
    if put.v.len() > MAX_VALUE_LEN {
        return Err(code::VALUE_TOO_BIG);
    }
    if put.mutable.is_some_and(|mutable| mutable.salt.len() > MAX_SALT_LEN) {
        return Err(code::SALT_TOO_BIG);
    }
    if put.v.starts_with(b"d1:b") {
        // The one value of all that are put here whose keys are out of order.
        return Err(code::PROTOCOL);
    }
    let Some(PutMutable { public_key, salt, seq, signature, cas }) = put.mutable else {
        return Ok(());
    };
    if let Some((held, signed)) = held.and_then(|held| Some((held, held.signed.as_ref()?))) {
        if cas.is_some_and(|cas| cas != signed.seq) {
            return Err(code::CAS_MISMATCH);
        }
        if seq < signed.seq || (seq == signed.seq && held.v != put.v) {
            return Err(code::SEQ_TOO_OLD);
        }
    }
    let text = Signable::new(salt, seq, put.v);
    let is_signed = text.is_ok_and(|text| verify(public_key, text.as_bytes(), signature));
    if is_signed { Ok(()) } else { Err(code::BAD_SIGNATURE) }
}

fn network(addr: SocketAddr) -> u64 {
    match addr {
        SocketAddr::V4(addr) => addr.subnet(),
        SocketAddr::V6(addr) => addr.subnet(),
    }
}
