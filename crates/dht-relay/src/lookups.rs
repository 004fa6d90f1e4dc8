//! Lookups that are going on, and keys of which something is remembered for a while.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, PublicKey};

use crate::backend::{Found, ResolveError};
use crate::dns::Transport;
use crate::front::{Front, Now};
use crate::quota::User;

/// Keys of which one thing is remembered.
const MAX_REMEMBERED: usize = 16_384;
/// Lookups that go on at a time. Whoever performs them has a lower limit of his own.
const MAX_GOING_ON: usize = 8_192;
/// Whoever meets that limit may come again after this.
const BUSY: Duration = Duration::from_secs(1);

/// Names a [`Resolution`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A key to be resolved, for those who wait for it, or for nobody but the cache.
#[derive(Clone, Copy, Debug)]
pub struct Resolution {
    ticket: Ticket,
    key: PublicKey,
    policy: Policy,
    transport: Transport,
}

impl Resolution {
    /// By what those know it who wait for it.
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Whose packet.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Where it may come from.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// How whoever was the first to want it asked.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }
}

/// All that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    last: u64,
    going_on: BTreeSet<Ticket>,
    /// Those that others may wait for, too.
    shared: BTreeMap<PublicKey, Ticket>,
    /// Those that were not handed out yet.
    queue: VecDeque<Resolution>,
    /// Keys that were looked up a short while ago although their packets are fresh.
    refreshed: Remembered,
}

impl Lookups {
    fn begin(&mut self, key: PublicKey, policy: Policy, transport: Transport) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.going_on.insert(ticket);
        if policy == Policy::CacheFirst {
            self.shared.insert(key, ticket);
        }
        self.queue.push_back(Resolution { ticket, key, policy, transport });
        ticket
    }

    fn end(&mut self, resolution: &Resolution) {
        self.going_on.remove(&resolution.ticket);
        if self.shared.get(&resolution.key) == Some(&resolution.ticket) {
            self.shared.remove(&resolution.key);
        }
        debug_assert!(self.shared.len() <= self.going_on.len(), "what is shared goes on");
    }

    fn is_full(&self) -> bool {
        self.going_on.len() >= MAX_GOING_ON
    }
}

impl Front {
    /// What is to be resolved next; give the result to [`Front::handle_resolved`]. Poll until there is
    /// nothing, after whatever was handed in.
    #[must_use]
    pub fn poll_resolution(&mut self) -> Option<Resolution> {
        self.lookups.queue.pop_front()
    }

    /// Takes what became of a key, whoever waits for it. There is [`ResolveError::NoAnswer`] for what
    /// could not be begun.
    pub fn handle_resolved(
        &mut self,
        now: Now,
        resolution: &Resolution,
        result: Result<&Found, ResolveError>,
    ) {
        self.lookups.end(resolution);
        self.stats.lookups_failed += u64::from(result.is_err());
        match result {
            Ok(_) => self.absent.remove(&resolution.key),
            Err(ResolveError::NotFound) => {
                let left = Duration::from_secs(self.options.negative_ttl.into());
                self.absent.insert(now.elapsed + left, resolution.key);
            }
            Err(ResolveError::NotAPacket { .. } | ResolveError::NoAnswer) => {}
        }
    }

    /// Begins to look a key up, or waits for a lookup of it that goes on: only the first pays. Those who
    /// want what the network has now do not wait for what it had a moment ago. `Err` says when to come
    /// again.
    pub(crate) fn look_up(
        &mut self,
        now: Now,
        user: User,
        transport: Transport,
        key: PublicKey,
        policy: Policy,
    ) -> Result<Ticket, Duration> {
        let known = self.lookups.shared.get(&key).filter(|_| policy == Policy::CacheFirst);
        if let Some(ticket) = known {
            self.stats.lookups_shared += 1;
            return Ok(*ticket);
        }
        if self.lookups.is_full() {
            return Err(BUSY);
        }
        self.take_work(now, user, transport)?;
        self.stats.lookups += 1;
        Ok(self.lookups.begin(key, policy, transport))
    }

    /// Begins to look for a newer packet than one that can be used, if it was not seen for a while and
    /// was not looked for lately; nobody waits for that. It is work, too.
    pub(crate) fn refresh(
        &mut self,
        now: Now,
        user: User,
        transport: Transport,
        packet: &CachedPacket,
    ) {
        let key = packet.packet.public_key();
        let due = packet.wants_refresh(now.wall, self.options.ttl)
            && self.lookups.refreshed.left(now.elapsed, &key).is_none()
            && !self.lookups.is_full();
        if due && self.take_work(now, user, transport).is_ok() {
            self.stats.refreshes += 1;
            let pause = Duration::from_secs(self.options.ttl.min().into());
            self.lookups.refreshed.insert(now.elapsed + pause, key);
            self.lookups.begin(key, Policy::NetworkOnly, transport);
        }
    }
}

/// Keys of which something is known for a while; those whose time ends first make room.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    until: BTreeMap<PublicKey, Duration>,
    by_time: BTreeSet<(Duration, PublicKey)>,
}

impl Remembered {
    pub(crate) fn insert(&mut self, until: Duration, key: PublicKey) {
        self.remove(&key);
        if self.until.len() >= MAX_REMEMBERED
            && let Some((_, first)) = self.by_time.pop_first()
        {
            self.until.remove(&first);
        }
        self.until.insert(key, until);
        self.by_time.insert((until, key));
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) {
        if let Some(until) = self.until.remove(key) {
            self.by_time.remove(&(until, *key));
        }
    }

    /// For how many more seconds the key is remembered.
    pub(crate) fn left(&self, now: Duration, key: &PublicKey) -> Option<u32> {
        let left = self.until.get(key)?.checked_sub(now)?;
        u32::try_from(left.as_secs()).ok().filter(|secs| *secs > 0)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        debug_assert!(self.until.len() == self.by_time.len(), "each key has one time");
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_pkarr::Keypair;

    #[test]
    fn keys_are_remembered_for_a_while_and_within_bounds() {
        let key = |number: u16| {
            let mut secret = [0; 32];
            secret[..2].copy_from_slice(&number.to_be_bytes());
            Keypair::from_secret(&secret).public_key()
        };
        let secs = Duration::from_secs;
        let mut known = Remembered::default();
        known.insert(secs(60), key(0));
        assert_eq!(known.left(secs(0), &key(0)), Some(60));
        assert_eq!(known.left(secs(59), &key(0)), Some(1));
        assert_eq!(known.left(secs(60), &key(0)), None);
        assert_eq!(known.left(secs(0), &key(1)), None);
        known.insert(secs(90), key(0));
        assert_eq!((known.left(secs(80), &key(0)), known.len()), (Some(10), 1));
        known.remove(&key(0));
        assert_eq!((known.left(secs(0), &key(0)), known.len()), (None, 0));
        for number in 0..=MAX_REMEMBERED as u16 {
            known.insert(secs(100 + u64::from(number)), key(number));
        }
        assert_eq!(known.len(), MAX_REMEMBERED);
        assert_eq!(known.left(secs(0), &key(0)), None, "the first to end went");
    }
}
