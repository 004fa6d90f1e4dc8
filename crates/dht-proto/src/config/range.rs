//! Which values make sense: the ranges that the fields of [`Config`] document.

use core::fmt;
use core::time::Duration;

use super::{Config, MAX_K};

/// A value of a [`Config`] that is outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) field: &'static str,
    pub(super) unit: &'static str,
    pub(super) is: u64,
    pub(super) min: u64,
    pub(super) max: u64,
}

impl ConfigError {
    /// The name of the field.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, unit, is, min, max } = self;
        write!(f, "{field} is {is}{unit}, and must be from {min}{unit} to {max}{unit}")
    }
}

impl core::error::Error for ConfigError {}

/// A number of the configuration, as such: a count, or a period in microseconds.
pub(super) trait Knob {
    fn get(&self) -> u64;
    fn set(&mut self, value: u64);
    fn unit(&self) -> &'static str {
        ""
    }
}

impl Knob for usize {
    fn get(&self) -> u64 {
        *self as u64
    }

    fn set(&mut self, value: u64) {
        *self = Self::try_from(value).unwrap_or(Self::MAX);
    }
}

impl Knob for u8 {
    fn get(&self) -> u64 {
        u64::from(*self)
    }

    fn set(&mut self, value: u64) {
        *self = Self::try_from(value).unwrap_or(Self::MAX);
    }
}

impl Knob for Duration {
    fn get(&self) -> u64 {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX)
    }

    fn set(&mut self, value: u64) {
        *self = Self::from_micros(value);
    }

    fn unit(&self) -> &'static str {
        " µs"
    }
}

const MILLI: u64 = 1_000;
/// The tick of the table: shorter periods are no different from this one.
const TICK: u64 = 100 * MILLI;
const SECOND: u64 = 1_000 * MILLI;
const HOUR: u64 = 3_600 * SECOND;
/// No period is longer: table time ends after thirteen years.
const YEAR: u64 = 365 * 24 * HOUR;

/// Entries of a store.
const MANY: u64 = 1 << 24;
/// Entries of what every input may look at.
const SOME: u64 = 1 << 16;
/// Entries of what is scanned.
const FEW: u64 = 1 << 12;

impl Config {
    /// Shows every number to `judge`, with its name and range. A bound that is itself a field comes
    /// before what it bounds. What is missing here is good for anything.
    pub(super) fn visit(&mut self, judge: &mut impl FnMut(&'static str, &mut dyn Knob, u64, u64)) {
        self.visit_table(judge);
        self.visit_lookups(judge);
        self.visit_stores(judge);
    }

    fn visit_table(&mut self, judge: &mut impl FnMut(&'static str, &mut dyn Knob, u64, u64)) {
        judge("k", &mut self.k, 1, MAX_K as u64);
        judge("max_candidates", &mut self.max_candidates, 0, FEW);
        judge("max_per_subnet_in_bucket", &mut self.max_per_subnet_in_bucket, 1, 64);
        judge("max_per_allocation", &mut self.max_per_allocation, 1, FEW);
        judge("max_fails", &mut self.max_fails, 1, 31);
        judge("ping_after", &mut self.ping_after, TICK, YEAR);
        judge("ping_interval", &mut self.ping_interval, MILLI, YEAR);
        judge("refresh_after", &mut self.refresh_after, TICK, YEAR);
        judge("self_lookup_interval", &mut self.self_lookup_interval, TICK, YEAR);
        judge("verify_delay", &mut self.verify_delay, 0, YEAR);
        judge("bootstrap_backoff_min", &mut self.bootstrap_backoff_min, MILLI, YEAR);
        let min = self.bootstrap_backoff_min.get();
        judge("bootstrap_backoff_max", &mut self.bootstrap_backoff_max, min, YEAR.max(min));
        judge("offline_after", &mut self.offline_after, MILLI, YEAR);
    }

    fn visit_lookups(&mut self, judge: &mut impl FnMut(&'static str, &mut dyn Knob, u64, u64)) {
        judge("alpha", &mut self.alpha, 1, 64);
        let k = self.k.get();
        judge("max_frontier", &mut self.max_frontier, k, FEW.max(k));
        judge("max_lookups", &mut self.max_lookups, 1, SOME);
        judge("max_transactions", &mut self.max_transactions, 1, SOME);
        judge("query_timeout", &mut self.query_timeout, MILLI, YEAR);
        judge("stall_min", &mut self.stall_min, MILLI, YEAR);
        judge("stall_initial", &mut self.stall_initial, MILLI, YEAR);
        judge("lookup_timeout", &mut self.lookup_timeout, MILLI, YEAR);
        judge("max_events", &mut self.max_events, 1, SOME);
    }

    fn visit_stores(&mut self, judge: &mut impl FnMut(&'static str, &mut dyn Knob, u64, u64)) {
        judge("max_torrents", &mut self.max_torrents, 0, MANY);
        judge("max_peers_per_torrent", &mut self.max_peers_per_torrent, 0, SOME);
        judge("max_announces_per_subnet", &mut self.max_announces_per_subnet, 0, MANY);
        judge("peer_lifetime", &mut self.peer_lifetime, SECOND, YEAR);
        judge("max_items", &mut self.max_items, 0, MANY);
        judge("max_items_per_subnet", &mut self.max_items_per_subnet, 0, MANY);
        judge("item_lifetime", &mut self.item_lifetime, SECOND, YEAR);
        judge("max_samples", &mut self.max_samples, 0, 64);
        judge("sample_interval", &mut self.sample_interval, 0, 6 * HOUR);
        judge("token_rotation", &mut self.token_rotation, SECOND, YEAR);
        judge("subnet_query_interval", &mut self.subnet_query_interval, 0, 24 * HOUR);
        judge("throttle_slots", &mut self.throttle_slots, 0, MANY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_ranges() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn what_is_outside_is_named_and_taken_as_the_nearest_inside() {
        let config = Config {
            k: usize::MAX,
            alpha: 0,
            bootstrap_backoff_min: Duration::ZERO,
            bootstrap_backoff_max: Duration::MAX,
            ..Config::default()
        };
        let error = config.check().unwrap_err();
        assert_eq!(error.field(), "k");
        assert_eq!(
            alloc::format!("{error}"),
            alloc::format!("k is {}, and must be from 1 to 64", u64::MAX)
        );
        let sane = config.clamped();
        assert_eq!((sane.k, sane.alpha, sane.max_frontier), (64, 1, 100));
        assert_eq!(sane.bootstrap_backoff_min, Duration::from_millis(1));
        assert_eq!(sane.bootstrap_backoff_max.as_secs(), YEAR / SECOND);
        assert_eq!(sane.check(), Ok(()));
    }

    #[test]
    fn bounds_that_are_fields_hold() {
        let config = Config {
            k: 30,
            max_frontier: 20,
            bootstrap_backoff_max: Duration::from_secs(1),
            ..Config::default()
        };
        let sane = config.clamped();
        assert_eq!(sane.max_frontier, 30);
        assert_eq!(sane.bootstrap_backoff_max, sane.bootstrap_backoff_min);
    }
}
