//! What the table wants done: pings and refreshes.

use super::bucket::{self, BUCKETS};
use super::candidates::{Candidates, Standing};
use super::contact::{Contact, NEVER, Ticks, instant, period, same_ip, ticks};
use super::{GROWTH, HURRIED_PING_INTERVAL, Limits, Table, is_local};
use crate::addr::Addr;
use crate::config::Config;
use crate::id::{NodeId, Target};
use crate::seed::Stream;
use crate::time::Instant;

impl<A: Addr> Table<A> {
    /// Whom to ping now, if anybody: whoever is due for longest. Counts as asked from now on.
    ///
    /// At most one per [`Config::ping_interval`], so that the table never sends a burst.
    pub fn next_ping(&mut self, now: Instant, config: &Config) -> Option<(Option<NodeId>, A)> {
        if now < self.ping_at || now < self.ping_allowed {
            return None;
        }
        let tick = ticks(now);
        self.forget_candidates(tick, config);
        let contact = self.contacts.iter().enumerate().map(|(i, c)| (c.due(config), i)).min();
        let candidate = self.candidates.iter().map(|c| (c.due, c.compact)).min();
        let (contact_due, i) = contact.unwrap_or((NEVER, 0));
        let candidate_due = candidate.map_or(NEVER, |(due, _)| due);
        let due = contact_due.min(candidate_due);
        if due > tick || due == NEVER {
            self.ping_at = instant(due);
            return None;
        }
        let hurried = self.is_hurried(config) && candidate_due < contact_due;
        let pause = if hurried { HURRIED_PING_INTERVAL } else { config.ping_interval };
        self.ping_allowed = now + pause.min(config.ping_interval);
        // Exact again after the next call that returns `None`.
        self.ping_at = self.ping_allowed;
        if contact_due <= candidate_due {
            let contact = self.contacts.get_mut(i)?;
            contact.asked(tick);
            return Some((Some(contact.id()), contact.addr()));
        }
        let (_, compact) = candidate?;
        let mut pinged = self.candidates.remove(&compact)?;
        if pinged.pinged(tick) {
            self.candidates.admit(pinged, self.own, config);
        }
        Some((pinged.id, pinged.addr()))
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
    /// Full buckets are kept fresh by pings. Those beyond the deepest with k contacts are the
    /// neighbourhood, which the lookup for our own id covers.
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

    /// When [`Table::stale_bucket`] may have something to do: O(1).
    #[must_use]
    pub fn refresh_due(&self) -> Option<Instant> {
        (self.refresh_at != Instant::FAR_FUTURE).then_some(self.refresh_at)
    }

    /// When each bucket that is worth it should be refreshed.
    fn buckets_to_refresh(&self, config: &Config) -> impl Iterator<Item = (Ticks, usize)> {
        let mut sizes = [0_usize; BUCKETS];
        for contact in &self.contacts {
            if let Some(size) = sizes.get_mut(self.bucket_of(contact)) {
                *size += 1;
            }
        }
        let last = sizes.iter().rposition(|&size| size >= config.k);
        let after = period(config.refresh_after);
        let buckets = sizes.into_iter().zip(self.news).enumerate();
        buckets
            .take(last.map_or(0, |last| last + 1))
            .filter(|&(i, (size, _))| size < bucket::capacity(i, config))
            .map(move |(i, (_, news))| (news.saturating_add(after), i))
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
        let own = self.own.target();
        assert!(self.contacts.is_sorted_by(|a, b| a.id().distance(own) < b.id().distance(own)));
        assert!(self.search(self.own).is_err(), "we are no contact of ours");
        assert!(self.contacts.capacity() <= self.contacts.len() + 2 * GROWTH);
        assert!(self.memory() <= Self::memory_ceiling(config));
        for bucket in 0..BUCKETS {
            assert!(self.bucket(bucket).len() <= bucket::capacity(bucket, config));
        }
        let limits = Limits::of::<A>(config);
        for (i, contact) in self.contacts.iter().enumerate() {
            let rest = || self.contacts.iter().skip(i + 1);
            assert!(contact.fails() < config.max_fails.max(1));
            assert!(self.ping_at <= instant(contact.due(config)).max(self.ping_allowed));
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
            assert!(self.ping_at <= instant(candidate.due).max(self.ping_allowed));
        }
        self.candidates.check_invariants(self.own, config);
    }
}
