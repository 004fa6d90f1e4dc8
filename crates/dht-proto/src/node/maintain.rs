//! What a node does for itself: joining, and refreshing stale buckets.

use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Addr;
use crate::config::Config;
use crate::lookup::{Goal, Maintenance};
use crate::seed::{Domain, Stream};
use crate::time::Instant;

use super::Node;

/// Bucket refreshes at a time, so that a node that wakes up does not refresh everything at once.
const MAX_REFRESHES: usize = 2;

/// The first pause between lookups for our own id: as long as a network takes in which everybody
/// starts at once to know the first neighbours.
const SETTLING_MIN: Duration = Duration::from_secs(2);
/// The pause is at least this long once a lookup has left our neighbours as they were.
const SETTLED_MIN: Duration = Duration::from_secs(15);

/// When the next maintenance lookups are due.
#[derive(Debug)]
pub(super) struct Maintain {
    join_at: Instant,
    joining: bool,
    /// When the latest join started.
    joined_at: Instant,
    backoff: Duration,
    /// Pause before the next lookup for our own id, which gets longer and longer. See
    /// [`settle`](Self::settle).
    settling: Duration,
    /// A digest of who our neighbours were after the latest such lookup.
    neighbours: u64,
    refreshes: usize,
}

impl Maintain {
    pub(super) const fn new(config: &Config, now: Instant) -> Self {
        Self {
            join_at: now,
            joining: false,
            joined_at: Instant::ZERO,
            backoff: config.bootstrap_backoff_min,
            settling: SETTLING_MIN,
            neighbours: 0,
            refreshes: 0,
        }
    }

    /// Somebody new to ask: join now, unless that is under way.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.join_at = self.join_at.min(now);
    }

    /// Time jumped, so the network may be another one now: join again, but not more often than after
    /// failures, or whoever makes us stop and go makes us ask without pause.
    pub(super) fn rejoin(&mut self, now: Instant) {
        self.join_at = self.join_at.min(now.max(self.joined_at + self.backoff));
    }

    /// We moved to another id, and its neighbours know us as little as those of a new node.
    pub(super) fn settle_anew(&mut self, now: Instant) {
        self.settling = SETTLING_MIN;
        self.hurry(now);
    }

    /// The pause after a lookup for our own id that left us with these neighbours: short while they
    /// are new, because then others are new too and do not know us yet.
    fn settle(&mut self, neighbours: u64) -> Duration {
        let settled = core::mem::replace(&mut self.neighbours, neighbours) == neighbours;
        let pause = if settled { self.settling.max(SETTLED_MIN) } else { self.settling };
        self.settling = pause.saturating_mul(2);
        pause
    }

    /// [`hurry`](Self::hurry), if we know nobody and no attempt has failed: whoever names nodes to us cannot make
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
            let stale = self.seed.draw(Domain::RefreshTarget, &mut self.targets, |targets| {
                self.table.stale_bucket(now, targets, &self.config)
            });
            let Some(target) = stale else { break };
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
        self.maintain.joined_at = now;
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
        if !answered {
            return self.postpone(now);
        }
        self.role.on_joined(now, &self.seed);
        let first = self.maintain.settling == SETTLING_MIN;
        if self.table.len() < self.config.k {
            self.table.explore(now, &self.config);
            return self.postpone(now);
        }
        self.maintain.backoff = self.config.bootstrap_backoff_min;
        if self.maintain.join_at <= now {
            // Our id moved meanwhile: this lookup was for the old one and settled nothing.
            return;
        }
        let neighbours = self.table.neighbourhood(self.config.k);
        let pause = self.maintain.settle(neighbours).min(self.config.self_lookup_interval);
        if first || (pause >= SETTLED_MIN && self.table.is_hurried(&self.config)) {
            self.table.explore(now, &self.config);
        }
        // Give or take a quarter: nodes that began together do not stay in step.
        let at = now + pause / 4 * 3 + self.jitter(pause / 2);
        self.maintain.join_at = self.maintain.join_at.min(at);
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
        let at = now + pause + self.jitter(pause / 10);
        self.maintain.join_at = self.maintain.join_at.min(at);
    }

    /// A time below `bound`.
    pub(super) fn jitter(&mut self, bound: Duration) -> Duration {
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let draw = |jitter: &mut Stream| jitter.below(bound);
        Duration::from_micros(self.seed.draw(Domain::Jitter, &mut self.jitter, draw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_the_clock_start_joins_but_not_faster_than_failures_do() {
        let config = Config::default();
        let start = Instant::from_secs(100);
        let mut maintain = Maintain::new(&config, start);
        maintain.joined_at = start;
        maintain.join_at = Instant::FAR_FUTURE;
        let jump = start + Duration::from_secs(30);
        maintain.rejoin(jump);
        assert_eq!(maintain.join_at, jump);
        maintain.join_at = Instant::FAR_FUTURE;
        maintain.backoff = config.bootstrap_backoff_max;
        maintain.rejoin(jump);
        assert_eq!(maintain.join_at, start + config.bootstrap_backoff_max);
        maintain.rejoin(jump + config.bootstrap_backoff_max);
        assert_eq!(maintain.join_at, start + config.bootstrap_backoff_max, "never later");
    }

    #[test]
    fn new_neighbours_are_looked_at_again_soon_and_old_ones_less_and_less() {
        let mut maintain = Maintain::new(&Config::default(), Instant::ZERO);
        let pauses = [1, 2, 2, 2, 3].map(|neighbours| maintain.settle(neighbours).as_secs());
        assert_eq!(pauses, [2, 4, 15, 30, 60]);
        maintain.settle_anew(Instant::ZERO);
        assert_eq!(maintain.settle(4).as_secs(), 2);
    }
}
