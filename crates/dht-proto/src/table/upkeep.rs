//! What the table wants done: pings and refreshes.

use super::bucket::{self, BUCKETS};
use super::candidates::{Candidates, Standing};
use super::contact::{Contact, NEVER, Pauses, Ticks, differing, instant, period, same_ip, ticks};
use super::{HURRIED_PING_INTERVAL, Limits, Table, is_local};
use core::time::Duration;

use crate::addr::Addr;
use crate::config::Config;
use crate::id::{NodeId, Target};
use crate::seed::Stream;
use crate::time::Instant;

impl<A: Addr> Table<A> {
    /// Whom to ping now, if anybody: whoever is due for longest. Counts as asked from now on.
    ///
    /// At most one per [`Config::ping_interval`], so that the table never sends a burst; but
    /// candidates that the table has a burning need for go first, and quickly: anybody while hardly
    /// anybody is known, and whoever would be among our k nearest, because lookups for what we
    /// should store end there.
    pub fn next_ping(&mut self, now: Instant, config: &Config) -> Option<(Option<NodeId>, A)> {
        if now < self.ping_at {
            return None;
        }
        let tick = ticks(now);
        self.forget_candidates(tick, config);
        let urgent = self.urgent_candidate(tick, config);
        let pauses = Pauses::of(config);
        let (contact, contact_due) = self.contacts.next_due(tick, pauses);
        let candidate = self.candidates.iter().map(|c| (c.due, c.compact)).min();
        let urgent_at = self.ping_time(urgent.map(|(due, _)| due), hurried_pause(config));
        let candidate_due = candidate.map_or(NEVER, |(due, _)| due);
        let due = contact_due.min(candidate_due);
        let at = self.ping_time(Some(due), config.ping_interval);
        // At the end of time nothing is due any more.
        let is_due = |at: Instant| at <= now && at != Instant::FAR_FUTURE;
        if is_due(urgent_at) {
            return self.ping_candidate(now, urgent?.1, config);
        }
        if !is_due(at) {
            self.ping_at = at.min(urgent_at);
            return None;
        }
        if candidate_due < contact_due {
            return self.ping_candidate(now, candidate?.1, config);
        }
        self.last_ping = Some(now);
        let contact = contact?;
        let due = self.contacts.asked(&contact, tick, pauses).min(candidate_due);
        let urgent_at = self.ping_time(urgent.map(|(due, _)| due), hurried_pause(config));
        self.ping_at = self.ping_time(Some(due), config.ping_interval).min(urgent_at);
        self.contacts.get(contact.index).map(|contact| (Some(contact.id()), contact.addr()))
    }

    /// When [`Table::next_ping`] may have something to do: O(1).
    #[must_use]
    pub fn ping_due(&self) -> Option<Instant> {
        (self.ping_at != Instant::FAR_FUTURE).then_some(self.ping_at)
    }

    /// A random target in a bucket that had no news for [`Config::refresh_after`] (BEP 5,
    /// "Routing Table": "Buckets that have not been changed in 15 minutes should be refreshed").
    /// Counts as refreshed from now on.
    ///
    /// Full buckets are kept fresh by pings. Those beyond the deepest with k contacts, or, if there is
    /// none, of the k nearest, are the neighbourhood, which the lookup for our own id covers.
    pub fn stale_bucket(
        &mut self,
        now: Instant,
        stream: &mut Stream,
        config: &Config,
    ) -> Option<Target> {
        if now < self.refresh_at {
            return None;
        }
        let tick = ticks(now);
        if self.unexplored != 0 {
            let bucket = self.unexplored.trailing_zeros() as usize;
            self.unexplored &= self.unexplored - 1;
            if let Some(news) = self.news.get_mut(bucket) {
                *news = tick;
            }
            return Some(bucket::random_target(self.own, bucket, stream));
        }
        let stale = self.buckets_to_refresh(config).min();
        match stale {
            Some((due, bucket)) if due <= tick && due != NEVER => {
                if let Some(news) = self.news.get_mut(bucket) {
                    *news = tick;
                }
                let next = self.buckets_to_refresh(config).map(|(due, _)| due).min();
                self.refresh_at = instant(next.unwrap_or(NEVER));
                Some(bucket::random_target(self.own, bucket, stream))
            }
            _ => {
                self.refresh_at = instant(stale.map_or(NEVER, |(due, _)| due));
                None
            }
        }
    }

    /// Has every bucket with room refreshed soon: the second half of joining a network, after the
    /// lookup for our own id has shown how deep the table is.
    pub fn explore(&mut self, now: Instant, config: &Config) {
        let bits = self.buckets_to_refresh(config).map(|(_, bucket)| 1_u32 << bucket);
        self.unexplored = bits.fold(0, |all, bit| all | bit);
        if self.unexplored != 0 {
            self.refresh_at = now;
        }
    }

    /// When [`Table::stale_bucket`] may have something to do: O(1).
    #[must_use]
    pub fn refresh_due(&self) -> Option<Instant> {
        (self.refresh_at != Instant::FAR_FUTURE).then_some(self.refresh_at)
    }

    /// When each bucket that is worth it should be refreshed.
    pub(super) fn buckets_to_refresh(
        &self,
        config: &Config,
    ) -> impl Iterator<Item = (Ticks, usize)> {
        let mut sizes = [0_usize; BUCKETS];
        for contact in self.contacts.iter() {
            if let Some(size) = sizes.get_mut(self.bucket_of(contact)) {
                *size += 1;
            }
        }
        let full = sizes.iter().rposition(|&size| size >= config.k);
        // In a network of a few nodes no bucket ever gets that far. The neighbourhood is the k nearest
        // then, or everybody where there are fewer: how deep they are is up to whoever makes up ids near
        // ours, and each empty bucket before them would cost a lookup.
        let neighbours = config.k.min(self.contacts.len()).max(1);
        let mut nearest = 0;
        let last = full.or_else(|| {
            sizes.iter().rposition(|&size| {
                nearest += size;
                nearest >= neighbours
            })
        });
        let buckets = sizes.into_iter().zip(self.news).enumerate();
        buckets
            .take(last.map_or(0, |last| last + 1))
            .filter(|&(i, (size, _))| size < bucket::capacity(i, config))
            .map(|(i, (_, news))| (self.refresh_of(i, news, config), i))
    }

    /// When a bucket that had its news then is to be refreshed: after [`Config::refresh_after`], give or
    /// take a quarter. How much differs from node to node, bucket to bucket and time to time, or nodes
    /// that began together would go on in step for ever.
    pub(super) fn refresh_of(&self, bucket: usize, news: Ticks, config: &Config) -> Ticks {
        let tail = self.own.as_bytes().last_chunk().map_or(0, |tail| u64::from_be_bytes(*tail));
        let which = (u64::from(news) << 5 | bucket as u64) ^ tail;
        news.saturating_add(differing(period(config.refresh_after), which))
    }

    fn ping_candidate(
        &mut self,
        now: Instant,
        compact: A::Compact,
        config: &Config,
    ) -> Option<(Option<NodeId>, A)> {
        self.pinged(now, config);
        let mut pinged = self.candidates.remove(&compact, self.own)?;
        if pinged.pinged(ticks(now)) {
            self.candidates.admit(pinged, self.own, config);
        }
        Some((pinged.id, pinged.addr()))
    }

    /// A ping leaves now. The next may follow after the shortest pause; whether it does is known
    /// after the next call that returns `None`.
    fn pinged(&mut self, now: Instant, config: &Config) {
        self.last_ping = Some(now);
        self.ping_at = now + hurried_pause(config);
    }

    /// When a ping that is due may leave, at the earliest.
    fn ping_time(&self, due: Option<Ticks>, pause: Duration) -> Instant {
        let due = due.map_or(Instant::FAR_FUTURE, instant);
        self.last_ping.map_or(due, |last| due.max(last + pause))
    }

    /// The candidate that the table needs most, and when it is due: of those due, one that would be
    /// among our k nearest first.
    fn urgent_candidate(&self, now: Ticks, config: &Config) -> Option<(Ticks, A::Compact)> {
        let everybody = self.is_hurried(config);
        let own = self.own.target();
        let reach =
            self.contacts.get(config.k.saturating_sub(1)).map(|contact| contact.id().distance(own));
        let is_near = |id: NodeId| reach.is_none_or(|reach| id.distance(own) < reach);
        let rated = self.candidates.iter().filter_map(|candidate| {
            let near = candidate.id.is_some_and(is_near);
            let rank = (candidate.due > now, !near, candidate.due, candidate.compact);
            (everybody || near).then_some(rank)
        });
        rated.min().map(|(_, _, due, compact)| (due, compact))
    }

    /// Forgets candidates that waited too long or would find no place any more.
    fn forget_candidates(&mut self, now: Ticks, config: &Config) {
        let mut candidates = core::mem::replace(&mut self.candidates, Candidates::new());
        let oldest = now.saturating_sub(period(config.refresh_after));
        candidates.retain(|candidate| match candidate.standing {
            Standing::Waiting => candidate.heard >= oldest,
            Standing::Offered | Standing::Unsolicited => {
                candidate.id.is_none_or(|id| self.has_room(id, config))
            }
        });
        self.candidates = candidates;
    }

    /// Checks bounds and orderings, for tests.
    ///
    /// # Panics
    ///
    /// If one of them is broken.
    pub fn check_invariants(&self, config: &Config) {
        self.contacts.check_invariants(self.own, Pauses::of(config));
        assert!(self.search(self.own).is_err(), "we are no contact of ours");
        assert!(self.memory() <= Self::memory_ceiling(config));
        for bucket in 0..BUCKETS {
            assert!(self.bucket(bucket).len() <= bucket::capacity(bucket, config));
        }
        let limits = Limits::of::<A>(config);
        for (i, contact) in self.contacts.iter().enumerate() {
            let rest = || self.contacts.iter().skip(i + 1);
            assert!(contact.fails() < config.max_fails.max(1));
            assert!(
                self.ping_at <= self.ping_time(Some(contact.due(config)), config.ping_interval)
            );
            assert!(rest().all(|other| other.compact() != contact.compact()));
            if is_local(contact.addr()) {
                continue;
            }
            assert!(rest().all(|c| !same_ip::<A>(c.compact(), contact.compact())));
            let subnet = contact.addr().subnet();
            let near = self.bucket(self.bucket_of(contact)).iter();
            assert!(near.filter(|c| c.addr().subnet() == subnet).count() <= limits.per_subnet);
            for (shift, limit) in limits.allocations() {
                let same = |c: &&Contact<A>| c.addr().subnet() >> shift == subnet >> shift;
                assert!(self.contacts.iter().filter(same).count() <= limit);
            }
        }
        for candidate in self.candidates.iter() {
            let is_contact = |c: &Contact<A>| *c.compact() == candidate.compact;
            assert!(!self.contacts.iter().any(is_contact), "a candidate is no contact");
            assert!(self.ping_at <= self.ping_time(Some(candidate.due), config.ping_interval));
        }
        self.candidates.check_invariants(self.own, config);
    }
}

/// The shortest pause between two pings.
fn hurried_pause(config: &Config) -> Duration {
    HURRIED_PING_INTERVAL.min(config.ping_interval)
}
