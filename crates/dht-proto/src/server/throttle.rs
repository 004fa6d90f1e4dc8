//! How much is sent to whom: byte budgets per network and in total, and queries per network.
//!
//! Source addresses of queries can be forged, so every reply may be hitting a victim. What one
//! network (/24, v6 /64) is sent is therefore limited in bytes, whoever asked. Near the limit the
//! replies get smaller before they stop. An operator may limit answers by number, too.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::Addr;
use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::seed::{Domain, PrfKey, Seed};
use crate::time::Instant;

/// Slots of the first, smallest table: as few as an idle node can keep. Of networks that are not loud
/// themselves, one in sixteen shares both places with the first that is, until its debt is paid.
const FIRST_SLOTS: usize = 8;

/// How generous a reply may be. Ordered from generous to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Everything.
    Full,
    /// Fewer values and samples, no bloom filters.
    Reduced,
    /// Nodes and token, no values, samples or items.
    NodesOnly,
    /// Nothing at all.
    Silent,
}

/// The keyed hash of a network (/24, v6 /64).
#[derive(Clone, Copy, Debug)]
pub(super) struct Network(u64);

/// What networks may have of something, in constant memory whatever their number.
///
/// Each network has two places in a table of buckets, by a keyed hash, and is charged in both. It
/// is served while either has budget left: a flooder can use up one place of somebody else, but
/// hardly both.
///
/// The table starts small and doubles, up to [`Config::throttle_slots`], when a budget runs low: a
/// node that is hardly queried spends next to no memory on it.
#[derive(Debug, Default)]
struct Table {
    /// A power of two of buckets, or none before the first charge.
    slots: Vec<Bucket>,
    /// When all debts are paid, as a [`Bucket`] counts.
    settled: u64,
}

/// Budgets of networks and of all together.
#[derive(Debug)]
pub(super) struct Throttle {
    key: PrfKey,
    /// Of reply bytes.
    bytes: Table,
    /// Of queries, if they are limited.
    queries: Option<Box<Table>>,
    total: Bucket,
    verifications: Bucket,
}

impl Throttle {
    pub(super) fn new(seed: &Seed) -> Self {
        Self {
            key: seed.key(Domain::Throttle),
            bytes: Table::default(),
            queries: None,
            total: Bucket::FULL,
            verifications: Bucket::FULL,
        }
    }

    /// See `Dht::read_ahead`.
    pub(super) fn read_ahead<A: Addr>(&self, from: A, ahead: &mut impl ReadAhead) {
        let (first, _) = self.bytes.places(self.network(from));
        if let Some(slot) = self.bytes.slots.get(first) {
            ahead.line(slot);
        }
    }

    /// Gives back the memory of tables that grew under load, once nobody is in debt.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.bytes.handle_timeout(now);
        if let Some(queries) = &mut self.queries {
            queries.handle_timeout(now);
        }
    }

    /// When [`Throttle::handle_timeout`] has something to give back.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let queries = self.queries.as_ref().and_then(|queries| queries.poll_timeout());
        self.bytes.poll_timeout().into_iter().chain(queries).min()
    }

    /// The network of `from`, as the tables know it.
    pub(super) fn network<A: Addr>(&self, from: A) -> Network {
        Network(self.key.place(from.subnet()))
    }

    /// What a network may be sent, decided before any work is done for it.
    pub(super) fn level(&mut self, now: Instant, network: Network, config: &Config) -> Level {
        let now = nanos(now);
        let total = Rate { per_sec: config.total_bytes_per_sec, burst: config.total_bytes_per_sec };
        let total = self.total.level(now, total);
        if total == Level::Silent || !self.admits_query(now, network, config) {
            return Level::Silent;
        }
        let rate = Rate { per_sec: config.subnet_bytes_per_sec, burst: config.subnet_burst_bytes };
        let mut level = self.bytes.of(network).level(now, rate);
        while level != Level::Full && self.bytes.grow(config) {
            level = self.bytes.of(network).level(now, rate);
        }
        total.max(level)
    }

    /// Whether a network may have another query answered.
    fn admits_query(&mut self, now: u64, network: Network, config: &Config) -> bool {
        let Some(interval) = query_interval(config) else { return true };
        let Some(before) = config.subnet_query_burst.checked_sub(1) else { return false };
        let allowed = interval.saturating_mul(before.into());
        let queries = self.queries.get_or_insert_with(Box::default);
        loop {
            if queries.of(network).0.saturating_sub(now) <= allowed {
                return true;
            }
            if !queries.grow(config) {
                return false;
            }
        }
    }

    /// Counts a reply of `bytes` to a network, or work that is worth as much.
    pub(super) fn charge(&mut self, now: Instant, network: Network, bytes: u32, config: &Config) {
        let now = nanos(now);
        self.total.charge(now, time_for(bytes, config.total_bytes_per_sec));
        self.bytes.charge(now, network, time_for(bytes, config.subnet_bytes_per_sec), config);
    }

    /// Counts a query of a network that is answered.
    pub(super) fn charge_query(&mut self, now: Instant, network: Network, config: &Config) {
        if let (Some(queries), Some(interval)) = (&mut self.queries, query_interval(config)) {
            queries.charge(nanos(now), network, interval, config);
        }
    }

    /// Takes one signature check out of the budget, if there is one left.
    pub(super) fn take_verification(&mut self, now: Instant, config: &Config) -> bool {
        let now = nanos(now);
        let rate = config.verifications_per_sec;
        if self.verifications.level(now, Rate { per_sec: rate, burst: rate }) == Level::Silent {
            return false;
        }
        self.verifications.charge(now, time_for(1, rate));
        true
    }

    pub(super) fn check_invariants(&self, config: &Config) {
        self.bytes.check_invariants(config);
        if let Some(queries) = &self.queries {
            queries.check_invariants(config);
        }
    }

    /// The bytes of the heap that it takes up now.
    pub(super) fn heap_bytes(&self) -> usize {
        let queries = self.queries.as_ref();
        self.bytes.heap_bytes()
            + queries.map_or(0, |queries| size_of::<Table>() + queries.heap_bytes())
    }

    /// The most heap bytes that the budgets can take up.
    pub(super) const fn memory_ceiling(config: &Config) -> usize {
        let table = config.throttle_slots.saturating_mul(size_of::<Bucket>());
        if query_interval(config).is_none() {
            return table;
        }
        table.saturating_mul(2).saturating_add(size_of::<Table>())
    }
}

impl Table {
    /// The better of a network's two buckets.
    fn of(&self, network: Network) -> Bucket {
        let (first, second) = self.places(network);
        let slot = |place: usize| self.slots.get(place).map_or(0, |slot| slot.0);
        Bucket(slot(first).min(slot(second)))
    }

    /// Takes from a network what it takes `time` to earn.
    fn charge(&mut self, now: u64, network: Network, time: u64, config: &Config) {
        if self.slots.is_empty() && !self.grow(config) {
            return;
        }
        let (first, second) = self.places(network);
        if let Some(slot) = self.slots.get_mut(first) {
            slot.charge(now, time);
            self.settled = self.settled.max(slot.0);
        }
        if let Some(slot) = self.slots.get_mut(second).filter(|_| first != second) {
            slot.charge(now, time);
            self.settled = self.settled.max(slot.0);
        }
    }

    /// The two places of a network.
    fn places(&self, network: Network) -> (usize, usize) {
        let mask = self.slots.len().saturating_sub(1) as u64;
        ((network.0 & mask) as usize, ((network.0 >> 32) & mask) as usize)
    }

    /// Makes the first table, or doubles it. False if it may not grow any further.
    ///
    /// A network's place in the double table is its old place or that plus the old length, so
    /// copying the table once more keeps every debt.
    fn grow(&mut self, config: &Config) -> bool {
        let limit = slot_limit(config);
        if self.slots.is_empty() {
            self.slots = alloc::vec![Bucket::FULL; limit.min(FIRST_SLOTS)];
            return limit > 0;
        }
        let doubled = 2 * self.slots.len();
        if doubled > limit {
            return false;
        }
        self.slots.reserve_exact(self.slots.len());
        self.slots.extend_from_within(..);
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.slots.len() > FIRST_SLOTS && self.settled <= nanos(now) {
            self.slots.truncate(FIRST_SLOTS);
            self.slots.shrink_to_fit();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let settled = || Instant::from_micros(self.settled.div_ceil(1_000));
        (self.slots.len() > FIRST_SLOTS).then(settled)
    }

    fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Bucket>()
    }

    fn check_invariants(&self, config: &Config) {
        assert!(self.slots.len() <= slot_limit(config).max(1), "the table stays within its limit");
        assert!(self.slots.is_empty() || self.slots.len().is_power_of_two(), "masks need this");
    }
}

/// How long a query takes to earn, in nanoseconds; `None` if they are not limited.
const fn query_interval(config: &Config) -> Option<u64> {
    let interval = config.subnet_query_interval;
    // A day at most.
    if interval.is_zero() { None } else { Some(interval.as_nanos() as u64) }
}

/// The greatest power of two within [`Config::throttle_slots`], 0 for none.
fn slot_limit(config: &Config) -> usize {
    config.throttle_slots.checked_ilog2().map_or(0, |log| 1 << log)
}

/// How fast a bucket refills and how much it holds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_sec: u32,
    burst: u32,
}

/// A budget as the moment when all of it will be back, in nanoseconds since the origin of time.
///
/// One number needs no separate time of the last update, and never loses a fraction to rounding.
/// All arithmetic saturates. A rate of zero is no budget at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket(u64);

impl Bucket {
    /// Nothing was taken yet.
    const FULL: Self = Self(0);

    /// Takes what it takes `time` to earn.
    fn charge(&mut self, now: u64, time: u64) {
        self.0 = self.0.max(now).saturating_add(time);
    }

    fn level(self, now: u64, rate: Rate) -> Level {
        let used = self.0.saturating_sub(now);
        let burst = time_for(rate.burst, rate.per_sec);
        if rate.per_sec == 0 || used >= burst {
            Level::Silent
        } else if used < burst / 2 {
            Level::Full
        } else if used < burst / 4 * 3 {
            Level::Reduced
        } else {
            Level::NodesOnly
        }
    }
}

/// How long it takes to earn `amount`, in nanoseconds.
fn time_for(amount: u32, per_sec: u32) -> u64 {
    (u64::from(amount) * 1_000_000_000).checked_div(u64::from(per_sec)).unwrap_or(u64::MAX)
}

fn nanos(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
