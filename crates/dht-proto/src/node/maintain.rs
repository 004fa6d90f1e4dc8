//! What a node does for itself: joining, and refreshing stale buckets.

use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Addr;
use crate::config::Config;
use crate::lookup::{Goal, Maintenance};
use crate::time::Instant;

use super::Node;

/// Bucket refreshes at a time, so that a node that wakes up does not refresh everything at once.
const MAX_REFRESHES: usize = 2;

/// The first pause between lookups for our own id.
const SETTLING_MIN: Duration = Duration::from_secs(15);

/// When the next maintenance lookups are due.
#[derive(Debug)]
pub(super) struct Maintain {
    join_at: Instant,
    joining: bool,
    backoff: Duration,
    /// Pause before the next lookup for our own id. A new node's neighbours are new themselves, or do
    /// not know it yet, so it looks again soon, and then less and less often.
    settling: Duration,
    refreshes: usize,
}

impl Maintain {
    pub(super) const fn new(config: &Config, now: Instant) -> Self {
        Self {
            join_at: now,
            joining: false,
            backoff: config.bootstrap_backoff_min,
            settling: SETTLING_MIN,
            refreshes: 0,
        }
    }

    /// Somebody new to ask: join now, unless that is under way.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.join_at = self.join_at.min(now);
    }

    /// The same, if we know nobody and no attempt has failed: whoever names nodes to us cannot make
    /// us ask without pause.
    pub(super) fn hurry_if_lost(&mut self, now: Instant, contacts: usize, config: &Config) {
        if contacts == 0 && self.backoff <= config.bootstrap_backoff_min {
            self.hurry(now);
        }
    }

    /// The node has long joined; its next lookup for its own id comes at `at`.
    pub(super) fn settled(&mut self, at: Instant, config: &Config) {
        self.join_at = at;
        self.settling = config.self_lookup_interval;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.joining).then_some(self.join_at)
    }
}

impl<A: Addr> Node<A> {
    /// Starts what is due. Called on every timeout and after every answer.
    pub(super) fn maintain(&mut self, now: Instant) {
        while let Some(ended) = self.lookups.pop_ended() {
            match ended.kind {
                Maintenance::Join => self.on_join_ended(now, ended.answered),
                Maintenance::Refresh => {
                    self.maintain.refreshes = self.maintain.refreshes.saturating_sub(1);
                }
            }
        }
        if !self.maintain.joining && self.maintain.join_at <= now {
            self.join(now);
        }
        while self.refresh_due().is_some_and(|due| due <= now) {
            let Some(target) = self.table.stale_bucket(now, &mut self.points, &self.config) else {
                break;
            };
            self.maintain.refreshes += 1;
            let goal = Goal::Maintenance(Maintenance::Refresh);
            self.start_walk(now, goal, None, target, None);
        }
    }

    /// When a bucket wants a refresh and there is room for the lookup.
    pub(super) fn refresh_due(&self) -> Option<Instant> {
        let room = self.maintain.refreshes < MAX_REFRESHES && self.has_room();
        if room { self.table.refresh_due() } else { None }
    }

    /// BEP 5: "Upon inserting the first node into its routing table and when starting up
    /// thereafter, the node should attempt to find the closest nodes in the DHT to itself."
    fn join(&mut self, now: Instant) {
        self.maintain.join_at = Instant::FAR_FUTURE;
        if !self.has_room() {
            self.postpone(now);
            return;
        }
        self.maintain.joining = true;
        let target = self.table.own_id().target();
        self.start_walk(now, Goal::Maintenance(Maintenance::Join), None, target, None);
        // Without anybody to ask the lookup has ended already.
        if let Some(ended) = self.lookups.pop_ended() {
            self.on_join_ended(now, ended.answered);
        }
    }

    fn on_join_ended(&mut self, now: Instant, answered: bool) {
        self.maintain.joining = false;
        self.review_restored(answered);
        if answered {
            self.role.on_joined(now);
            if self.maintain.settling == SETTLING_MIN || self.table.is_hurried(&self.config) {
                self.table.explore(now, &self.config);
            }
        }
        if answered && self.table.len() >= self.config.k {
            self.maintain.backoff = self.config.bootstrap_backoff_min;
            let pause = self.maintain.settling.min(self.config.self_lookup_interval);
            self.maintain.settling = pause * 2;
            let at = now + self.with_jitter(pause);
            self.maintain.join_at = self.maintain.join_at.min(at);
        } else {
            self.postpone(now);
        }
    }

    /// Contacts of an earlier run are asked again after an attempt in vain: we may have started
    /// without a network. Once there are others, they have had their chance.
    fn review_restored(&mut self, answered: bool) {
        if !answered {
            self.restored_asked = 0;
        } else if self.restored_asked >= self.restored.len() && self.table.len() >= self.config.k {
            self.restored = Vec::new();
        }
    }

    /// The next attempt comes after a pause that doubles each time.
    fn postpone(&mut self, now: Instant) {
        let pause = self.maintain.backoff;
        self.maintain.backoff = (pause * 2).min(self.config.bootstrap_backoff_max);
        let at = now + self.with_jitter(pause);
        self.maintain.join_at = self.maintain.join_at.min(at);
    }

    /// Up to a tenth more, so that nodes started together do not stay in step.
    fn with_jitter(&mut self, duration: Duration) -> Duration {
        let tenth = u64::try_from(duration.as_micros() / 10).unwrap_or(u64::MAX);
        duration + Duration::from_micros(self.points.below(tenth))
    }
}
