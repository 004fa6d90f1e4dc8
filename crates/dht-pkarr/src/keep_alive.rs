//! Keeping packets alive: nodes of the DHT forget what they store after two hours, and leave.
//!
//! A schedule for thousands of keys: times and counts go in, what to do goes out.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use dht_proto::seed::{Domain, Seed, Stream};

use crate::key::PublicKey;
use crate::time::Timestamp;

/// How often, how widely and how fast packets are published again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeepAliveConfig {
    /// Time between two publications of a key. Up to an eighth of it is taken off at random, so that
    /// keys that began together drift apart. Default: 1 hour, as nodes forget after 2.
    pub interval: Duration,
    /// Copies that a key should have. Fewer are topped up, among as many nodes as the `Config::k` of ours,
    /// which must not be less. Default: 8, the k of the DHT.
    pub copies: u32,
    /// When after a publication the copies are counted; zero: never. Default: 20 minutes, when
    /// those have left that were about to.
    pub verify_after: Duration,
    /// Pause after the first failure; it doubles with each further one, and is jittered. Default: 30 s.
    pub retry: Duration,
    /// The longest such pause. Default: 20 minutes.
    pub retry_max: Duration,
    /// What may go on at once. Default: 16.
    pub max_in_flight: usize,
    /// Keys that are kept alive, at most. Default: 100,000.
    pub max_keys: usize,
}

impl Default for KeepAliveConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3_600),
            copies: 8,
            verify_after: Duration::from_secs(1_200),
            retry: Duration::from_secs(30),
            retry_max: Duration::from_secs(1_200),
            max_in_flight: 16,
            max_keys: 100_000,
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Publish the packet of this key; then call [`KeepAlive::handle_published`] or
    /// [`KeepAlive::handle_failed`].
    Publish(Handed),
    /// Count the nodes that return the packet of this key; then call [`KeepAlive::handle_verified`] or
    /// [`KeepAlive::handle_failed`].
    Verify(Handed),
}

/// Something that was handed out: a report names it, so that it counts for nothing that was begun later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handed {
    key: PublicKey,
    number: u64,
}

impl Handed {
    /// Whose packet it is about.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
}

/// How a key is doing. What a restart needs, too: keep it, and give it back with the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// When it was last published somewhere.
    pub published: Option<Timestamp>,
    /// How many nodes stored it then.
    pub stored: u32,
    /// How many nodes had it when they were counted, if they were since.
    pub verified: Option<u32>,
    /// Failures, or publications to too few nodes, in a row.
    pub failures: u32,
}

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooManyKeys;

impl core::fmt::Display for TooManyKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no more keys can be kept alive")
    }
}

impl core::error::Error for TooManyKeys {}

/// The schedule of all keys.
///
/// Its clock is the caller's wall clock, because it goes on after a restart. If that jumps back,
/// nothing waits longer than an interval from then on.
///
/// ```
/// use dht_pkarr::keep_alive::{Action, KeepAlive, KeepAliveConfig, Status};
/// use dht_pkarr::{Keypair, Timestamp};
/// use dht_proto::seed::Seed;
///
/// let key = Keypair::from_secret(&[1; 32]).public_key();
/// let mut keep_alive = KeepAlive::new(KeepAliveConfig::default(), &Seed::from_bytes([0; 32]));
/// let now = Timestamp::from_secs(1_700_000_000);
/// keep_alive.insert(now, key, Status::default())?;
/// let Some(Action::Publish(handed)) = keep_alive.poll(now) else { panic!("it is due") };
/// assert_eq!(handed.key(), key);
/// keep_alive.handle_published(now, handed, 8); // eight nodes stored it
/// assert_eq!(keep_alive.poll(now), None);
/// // Copies are counted before it is published again.
/// let next = keep_alive.poll_timeout().unwrap();
/// assert!(matches!(keep_alive.poll(next), Some(Action::Verify(handed)) if handed.key() == key));
/// # Ok::<(), dht_pkarr::keep_alive::TooManyKeys>(())
/// ```
#[derive(Debug)]
pub struct KeepAlive {
    config: KeepAliveConfig,
    jitter: Stream,
    keys: BTreeMap<PublicKey, Entry>,
    /// Who waits, by when it is due.
    waiting: BTreeSet<(Timestamp, PublicKey)>,
    /// What was handed out and has not ended, of whatever key or former packet.
    in_flight: BTreeSet<Handed>,
    /// How much was handed out so far.
    handed_out: u64,
    /// The latest time that was heard of.
    now: Timestamp,
}

#[derive(Debug)]
struct Entry {
    status: Status,
    step: Step,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Since when, or from when on.
    Due(Timestamp),
    /// It is being done.
    Begun(Handed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Publish,
    Verify,
}

impl KeepAlive {
    /// A schedule without keys.
    #[must_use]
    pub fn new(config: KeepAliveConfig, seed: &Seed) -> Self {
        Self {
            config,
            jitter: seed.stream(Domain::Jitter),
            keys: BTreeMap::new(),
            waiting: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            handed_out: 0,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// Keeps a key alive. With the status of an earlier run it is published when that would have done
    /// so, otherwise at once. A key that is known already, perhaps with a new packet, is too; what goes on
    /// for its former packet still takes up its place, and how that ends is nothing to the new one.
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn insert(
        &mut self,
        now: Timestamp,
        key: PublicKey,
        status: Status,
    ) -> Result<(), TooManyKeys> {
        self.tick(now);
        if !self.keys.contains_key(&key) && self.keys.len() >= self.config.max_keys {
            return Err(TooManyKeys);
        }
        self.remove(&key);
        // What was published in the future was published by another clock.
        let published = status.published.filter(|published| *published <= now);
        let due = match published {
            Some(published) if status.failures == 0 => {
                let interval = self.jittered(self.config.interval);
                plus(published, interval).max(now)
            }
            _ => now,
        };
        let status = Status { published, ..status };
        self.keys.insert(key, Entry { status, step: Step::Publish, state: State::Due(due) });
        self.waiting.insert((due, key));
        Ok(())
    }

    /// Lets a key die; for instance because a newer packet of it is out there, made elsewhere.
    pub fn remove(&mut self, key: &PublicKey) -> Option<Status> {
        let entry = self.keys.remove(key)?;
        if let State::Due(due) = entry.state {
            self.waiting.remove(&(due, *key));
        }
        Some(entry.status)
    }

    /// What is due, as long as not too much goes on already.
    #[must_use]
    pub fn poll(&mut self, now: Timestamp) -> Option<Action> {
        self.tick(now);
        let due = self.waiting.first().is_some_and(|(due, _)| *due <= now);
        if !due || self.in_flight() >= self.config.max_in_flight {
            return None;
        }
        let (_, key) = self.waiting.pop_first()?;
        let entry = self.keys.get_mut(&key)?;
        self.handed_out += 1;
        let handed = Handed { key, number: self.handed_out };
        self.in_flight.insert(handed);
        debug_assert!(self.in_flight.len() <= self.config.max_in_flight, "there was room");
        entry.state = State::Begun(handed);
        Some(match entry.step {
            Step::Publish => Action::Publish(handed),
            Step::Verify => Action::Verify(handed),
        })
    }

    /// When to poll again. `None` while there is nothing to do before something is reported.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let room = self.in_flight() < self.config.max_in_flight;
        self.waiting.first().filter(|_| room).map(|(due, _)| *due)
    }

    /// A publication ended: so many nodes stored the packet. Too few are a failure, and tried again.
    pub fn handle_published(&mut self, now: Timestamp, handed: Handed, stored: u32) {
        self.tick(now);
        let copies = self.config.copies;
        let Some(status) = self.ended(handed, Step::Publish) else { return };
        let key = &handed.key;
        status.stored = stored;
        if stored > 0 {
            status.published = Some(now);
            status.verified = None;
        }
        if stored < copies {
            return self.retry(now, key, Step::Publish);
        }
        status.failures = 0;
        if self.config.verify_after.is_zero() || self.config.verify_after >= self.config.interval {
            let interval = self.jittered(self.config.interval);
            self.schedule(key, Step::Publish, plus(now, interval));
        } else {
            let pause = self.jittered(self.config.verify_after);
            self.schedule(key, Step::Verify, plus(now, pause));
        }
    }

    /// So many nodes returned the packet. If they are too few, it is published again at once.
    pub fn handle_verified(&mut self, now: Timestamp, handed: Handed, holders: u32) {
        self.tick(now);
        let enough = holders >= self.config.copies;
        let Some(status) = self.ended(handed, Step::Verify) else { return };
        status.verified = Some(holders);
        // A clock that went back since is no reason to wait longer than from now on.
        let published = status.published.unwrap_or(now).min(now);
        let interval = self.jittered(self.config.interval);
        let due = if enough { plus(published, interval).max(now) } else { now };
        self.schedule(&handed.key, Step::Publish, due);
    }

    /// What was begun for a key came to nothing; it is tried again.
    pub fn handle_failed(&mut self, now: Timestamp, handed: Handed) {
        self.tick(now);
        let step = self.keys.get(&handed.key).map_or(Step::Publish, |entry| entry.step);
        if self.ended(handed, step).is_some() {
            // Who cannot be counted is better published: whatever is wrong, that is what helps.
            self.retry(now, &handed.key, Step::Publish);
        }
    }

    /// How a key is doing.
    #[must_use]
    pub fn status(&self, key: &PublicKey) -> Option<&Status> {
        self.keys.get(key).map(|entry| &entry.status)
    }

    /// How all keys are doing, for a file that a restart reads.
    pub fn statuses(&self) -> impl Iterator<Item = (&PublicKey, &Status)> {
        self.keys.iter().map(|(key, entry)| (key, &entry.status))
    }

    /// What was handed out and has not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether what was handed out is still what its key needs: not if the key was removed since, or has
    /// a new packet.
    #[must_use]
    pub fn is_current(&self, handed: Handed) -> bool {
        self.keys.get(&handed.key).is_some_and(|entry| entry.state == State::Begun(handed))
    }

    /// The status of a key whose `step` has ended; a report of anything else, or a second one, is stale.
    fn ended(&mut self, handed: Handed, step: Step) -> Option<&mut Status> {
        let entry = self.keys.get_mut(&handed.key);
        let entry = entry.filter(|entry| entry.state == State::Begun(handed));
        if entry.as_ref().is_none_or(|entry| entry.step == step) {
            self.in_flight.remove(&handed);
        }
        entry.filter(|entry| entry.step == step).map(|entry| &mut entry.status)
    }

    fn retry(&mut self, now: Timestamp, key: &PublicKey, step: Step) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        let doubled = 1_u32 << entry.status.failures.min(16);
        entry.status.failures = entry.status.failures.saturating_add(1);
        let pause = self.config.retry.saturating_mul(doubled).min(self.config.retry_max);
        let pause = self.jittered(pause);
        self.schedule(key, step, plus(now, pause));
    }

    fn schedule(&mut self, key: &PublicKey, step: Step, due: Timestamp) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        debug_assert!(
            matches!(entry.state, State::Begun(_)),
            "a key waits for one thing at a time"
        );
        entry.step = step;
        entry.state = State::Due(due);
        self.waiting.insert((due, *key));
        debug_assert!(self.waiting.len() <= self.keys.len(), "only keys wait");
    }

    /// A time less up to an eighth of it.
    fn jittered(&mut self, time: Duration) -> Duration {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros - self.jitter.below(micros / 8 + 1))
    }

    /// Notes the time. If it went back, what waits is brought back within an interval.
    fn tick(&mut self, now: Timestamp) {
        let latest = plus(now, self.config.interval);
        if now < self.now {
            while self.waiting.last().is_some_and(|(due, _)| *due > latest) {
                let Some((_, key)) = self.waiting.pop_last() else { return };
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.state = State::Due(latest);
                }
                self.waiting.insert((latest, key));
            }
        }
        self.now = now;
    }
}

fn plus(time: Timestamp, duration: Duration) -> Timestamp {
    time.plus_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
