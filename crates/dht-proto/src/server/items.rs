//! Stored items, immutable and mutable (BEP 44).

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::pool::{Pool, Sweep, nearness};
use super::quota::{Limits, Quota};
use super::sample::Dice;
use crate::addr::Addr;
use crate::config::Config;
use crate::footprint;
use crate::id::{ItemId, NodeId};
use crate::item::{Item, Signed};
use crate::seed::PrfKey;
use crate::time::Instant;
use crate::wire::{Put, PutMutable, code};

/// Why a put is refused: an error code of BEP 5 or BEP 44, and a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) text: &'static str,
}

impl Refusal {
    pub(super) const fn new(code: i64, text: &'static str) -> Self {
        Self { code, text }
    }
}

/// What storing an item depends on, beside the item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a, A> {
    pub(super) now: Instant,
    pub(super) from: A,
    pub(super) own_id: NodeId,
    pub(super) config: &'a Config,
}

/// What becomes of a put whose signature is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the very item that is stored: that was renewed, and nothing is left to do.
    Renewed,
    /// There is room for it, or it replaces an older version of itself.
    Free,
    /// It takes the place of this item.
    Replacing(ItemId),
}

/// Items put from addresses of one family.
///
/// Bounds: [`Config::max_items`] items; of one network [`Config::max_items_per_subnet`], of one
/// /16 (v6 /32) as many or a quarter of all. A full store drops the weakest of sixteen random
/// items: the one put by few, far from our id, from an allocation that has many items here. A
/// newcomer that is weaker still is refused.
pub(super) struct ItemStore<A: Addr> {
    items: Pool<ItemId, Stored<A>>,
    quota: Quota,
    sweep: Sweep,
    key: PrfKey,
}

/// An item and what decides how long it stays.
struct Stored<A> {
    item: Item,
    expires: Instant,
    announcers: Announcers,
    /// Who counts for it; nobody, if it was restored from a snapshot.
    putter: Option<A>,
}

impl<A: Addr> fmt::Debug for ItemStore<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemStore({} items)", self.items.len())
    }
}

impl<A: Addr> ItemStore<A> {
    /// `key` hashes announcers.
    pub(super) fn new(key: PrfKey) -> Self {
        Self { items: Pool::default(), quota: Quota::default(), sweep: Sweep::default(), key }
    }

    /// The item, unless it has expired.
    pub(super) fn get(&self, now: Instant, id: ItemId) -> Option<&Item> {
        let stored = self.items.get(&id)?;
        (stored.expires > now).then_some(&stored.item)
    }

    /// Checks everything about a put but its form and signature, cheapest first.
    pub(super) fn admit(
        &mut self,
        put: &Put<'_>,
        id: ItemId,
        dice: Dice,
        terms: Terms<'_, A>,
    ) -> Result<Admission, Refusal> {
        let Terms { now, from, own_id, config } = terms;
        self.drop_expired(now, id);
        if let Some(stored) = self.items.get_mut(&id) {
            if !stored.is_same(put)? {
                return Ok(Admission::Free);
            }
            stored.expires = now + config.item_lifetime;
            stored.announcers.insert(self.key, from);
            return Ok(Admission::Renewed);
        }
        let limits = Limits::new(config.max_items_per_subnet, config.max_items);
        if !self.quota.admits(from, limits) {
            return Err(Refusal::new(code::SERVER, "storage quota of your network is used up"));
        }
        if self.items.len() < config.max_items {
            return Ok(Admission::Free);
        }
        // A put by one announcer earns nothing for popularity.
        let newcomer = nearness(own_id, id.as_bytes()) - self.quota.crowding(from);
        let score = |id: &ItemId, stored: &Stored<A>| {
            let crowding = stored.putter.map_or(0, |putter| self.quota.crowding(putter));
            // Popularity against distance as libtorrent weighs them.
            stored.announcers.count() / 5 + nearness(own_id, id.as_bytes()) - crowding
        };
        let weakest = self.items.weakest(dice, newcomer, score);
        weakest.map(Admission::Replacing).ok_or(Refusal::new(code::SERVER, "storage is full"))
    }

    /// Stores an item that was admitted and whose signature is valid.
    pub(super) fn store(&mut self, item: Item, admission: Admission, terms: Terms<'_, A>) {
        let id = item.id();
        let expires = terms.now + terms.config.item_lifetime;
        if let Some(stored) = self.items.get_mut(&id) {
            stored.item = item;
            stored.expires = expires;
            stored.announcers.insert(self.key, terms.from);
            return;
        }
        if let Admission::Replacing(weakest) = admission {
            self.remove(weakest);
        }
        let mut announcers = Announcers::default();
        announcers.insert(self.key, terms.from);
        self.items.insert(id, Stored { item, expires, announcers, putter: Some(terms.from) });
        self.quota.take(terms.from);
        self.sweep.arm(terms.now, terms.config.item_lifetime);
    }

    /// Puts back an item of a snapshot, unless it has expired, a newer one is stored, or there is no
    /// room left.
    pub(super) fn restore(&mut self, now: Instant, item: Item, left: Duration, config: &Config) {
        let id = item.id();
        let newer = |stored: &Stored<A>| seq(&stored.item) >= seq(&item);
        let is_old = left.is_zero() || self.items.get(&id).is_some_and(newer);
        if is_old || self.items.len() >= config.max_items {
            return;
        }
        let expires = now + left.min(config.item_lifetime);
        let putter = self.items.remove(&id).and_then(|stored| stored.putter);
        let announcers = Announcers::default();
        self.items.insert(id, Stored { item, expires, announcers, putter });
        self.sweep.arm(now, config.item_lifetime);
    }

    /// Gives back the memory of a bounded number of expired items.
    pub(super) fn handle_timeout(&mut self, now: Instant, config: &Config) {
        for _ in 0..self.sweep.due(now, self.items.len()) {
            let Some(id) = self.sweep.advance(&self.items) else { break };
            self.drop_expired(now, id);
        }
        self.sweep.finish(now, config.item_lifetime, self.items.len());
    }

    /// The bytes that the store takes up now, itself included.
    pub(super) fn memory(&self) -> usize {
        let items = self.items.iter().map(|(_, stored)| stored.item.memory() - size_of::<Item>());
        size_of::<Self>() + self.items.heap_bytes() + items.sum::<usize>() + self.quota.heap_bytes()
    }

    /// The most heap bytes that the store can take up.
    pub(super) const fn memory_ceiling(config: &Config) -> usize {
        let max = config.max_items;
        footprint::sum(&[
            size_of::<Self>(),
            Pool::<ItemId, Stored<A>>::memory_ceiling(max),
            max.saturating_mul(Item::MEMORY_CEILING - size_of::<Item>()),
            Quota::memory_ceiling(max),
        ])
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.sweep.next()
    }

    /// Every item and when it expires, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Item, Instant)> {
        self.items.iter().map(|(_, stored)| (&stored.item, stored.expires))
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn check_invariants(&self, config: &Config) {
        self.items.check_invariants();
        assert!(self.items.len() <= config.max_items, "items are bounded");
        for (id, stored) in self.items.iter() {
            assert_eq!(*id, stored.item.id(), "items are stored under their own id");
        }
        let counted = self.items.iter().filter(|(_, stored)| stored.putter.is_some()).count();
        assert_eq!(self.quota.total(), counted, "every item put is counted for its network");
        assert!(self.sweep.next().is_some() || self.items.len() == 0, "what is kept is swept");
    }

    fn drop_expired(&mut self, now: Instant, id: ItemId) {
        if self.items.get(&id).is_some_and(|stored| stored.expires <= now) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: ItemId) {
        if let Some(putter) = self.items.remove(&id).and_then(|stored| stored.putter) {
            self.quota.give_back(putter);
        }
    }
}

impl<A: Addr> Stored<A> {
    /// Whether the put is the item already stored; `Ok(false)` if it may replace it.
    fn is_same(&self, put: &Put<'_>) -> Result<bool, Refusal> {
        match (self.item.signed(), &put.mutable) {
            (None, None) => Ok(true),
            (Some(signed), Some(new)) => self.is_same_version(signed, new, put.v),
            // Both kinds share one id only if somebody made a key that reads as bencode.
            (Some(_), None) | (None, Some(_)) => {
                Err(Refusal::new(code::PROTOCOL, "another kind of item has this target"))
            }
        }
    }

    /// BEP 44: `cas` is compared first (301), then the sequence number (302): "if the sequence
    /// number is equal, and the value is also the same, the node SHOULD reset its timeout
    /// counter"; with another value it is refused.
    fn is_same_version(
        &self,
        signed: &Signed,
        new: &PutMutable<'_>,
        v: &[u8],
    ) -> Result<bool, Refusal> {
        if new.cas.is_some_and(|cas| cas != signed.seq) {
            return Err(Refusal::new(code::CAS_MISMATCH, "the cas number does not match"));
        }
        if new.seq < signed.seq {
            return Err(Refusal::new(code::SEQ_TOO_OLD, "a newer sequence number is stored"));
        }
        if new.seq > signed.seq {
            return Ok(false);
        }
        if self.item.value() != v {
            let text = "another value is stored with this sequence number";
            return Err(Refusal::new(code::SEQ_TOO_OLD, text));
        }
        // The same signature needs no second check; another one gets the full check.
        Ok(*new.signature == signed.signature)
    }
}

/// How many networks have put an item, roughly: one bit each out of 128.
///
/// Networks rather than addresses, so that one /24 cannot make its items look popular.
#[derive(Clone, Copy, Debug, Default)]
struct Announcers(u128);

impl Announcers {
    fn insert<A: Addr>(&mut self, key: PrfKey, from: A) {
        self.0 |= 1 << (key.hash(&[&from.subnet().to_le_bytes()]) % 128);
    }

    fn count(self) -> i64 {
        i64::from(self.0.count_ones())
    }
}

fn seq(item: &Item) -> i64 {
    item.signed().map_or(0, |signed| signed.seq)
}

/// The item of a put, with its signature checked.
pub(super) fn checked_item(put: &Put<'_>, config: &Config) -> Result<Item, Refusal> {
    let item = match put.mutable {
        None => Item::immutable(put.v),
        Some(PutMutable { public_key, salt, seq, signature, .. }) => {
            let salt = Vec::from(salt);
            let signed = Signed { public_key: *public_key, salt, seq, signature: *signature };
            Item::verified(put.v, signed, config.verify)
        }
    };
    item.map_err(refusal_of)
}

/// Size and form of a put: 205, 207, 203, in this order.
pub(super) fn check_form(put: &Put<'_>) -> Result<(), Refusal> {
    use crate::item::{ItemError, MAX_SALT_LEN, check_value};
    let form = check_value(put.v);
    let salt = put.mutable.map_or(0, |mutable| mutable.salt.len());
    if form != Err(ItemError::ValueTooLong) && salt > MAX_SALT_LEN {
        return Err(refusal_of(ItemError::SaltTooLong));
    }
    form.map_err(refusal_of)
}

fn refusal_of(error: crate::item::ItemError) -> Refusal {
    use crate::item::ItemError;
    match error {
        ItemError::ValueTooLong => Refusal::new(code::VALUE_TOO_BIG, "v is over 1000 bytes"),
        ItemError::NotCanonical => Refusal::new(code::PROTOCOL, "v is not canonical bencode"),
        ItemError::SaltTooLong => Refusal::new(code::SALT_TOO_BIG, "salt is over 64 bytes"),
        ItemError::BadSignature => Refusal::new(code::BAD_SIGNATURE, "invalid signature"),
    }
}

#[cfg(test)]
mod tests;
