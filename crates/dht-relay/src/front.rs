//! What HTTP and DNS share: quotas, what is going on, counters.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use dht_pkarr::{CachedPacket, KeyError, PublicKey, Timestamp, TtlRange, key_bytes};

use crate::quota::{Limiter, Quota, User};
use crate::stats::Stats;

/// Users that have a bucket of their own in each limiter.
pub const DEFAULT_MAX_USERS: usize = 65_536;
/// Keys of which it is remembered that they have no packet.
const MAX_ABSENT: usize = 16_384;
/// Keys of which it is remembered that they are points of the curve.
const MAX_POINTS: usize = 16_384;

/// How a relay answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each switches something of its own")]
pub struct Options {
    /// Whether packets are served over HTTP: `GET /{key}`, `PUT /{key}` and the page.
    pub relay: bool,
    /// Whether DNS is served over HTTP: `/dns-query`.
    pub doh: bool,
    /// Whether DNS queries for names under no key are forwarded. If not, they are refused.
    pub forward: bool,
    /// Whether users are told apart by what a reverse proxy says: the last address of
    /// `X-Forwarded-For`, or of `Forwarded`.
    pub behind_proxy: bool,
    /// For how long packets are fresh.
    pub ttl: TtlRange,
    /// For how many seconds DNS clients, and we, remember that there is no such name.
    pub negative_ttl: u32,
    /// HTTP requests per user. Default: 20 a second, 100 at once.
    pub http_quota: Option<Quota>,
    /// DNS queries per user, over UDP and TCP. Default: 50 a second, 200 at once.
    pub dns_quota: Option<Quota>,
    /// Lookups in the DHT and publications per user, whatever asks for them. Default: 2 a second, 10
    /// at once.
    pub work_quota: Option<Quota>,
    /// Users that have buckets of their own; more share one.
    pub max_users: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            relay: true,
            doh: true,
            forward: false,
            behind_proxy: false,
            ttl: TtlRange::default(),
            negative_ttl: 60,
            http_quota: Some(Quota::per_second(20).with_burst(100)),
            dns_quota: Some(Quota::per_second(50).with_burst(200)),
            work_quota: Some(Quota::per_second(2).with_burst(10)),
            max_users: DEFAULT_MAX_USERS,
        }
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "there are two clocks")]
pub struct Now {
    /// The wall clock's: packets have times of it.
    pub wall: Timestamp,
    /// Since some beginning; it never goes back.
    pub elapsed: Duration,
}

/// Looks into a cache, without asking anybody.
pub type Cached<'a> = &'a dyn Fn(&PublicKey) -> Option<CachedPacket>;

/// All that answers: takes requests and queries, and says what to reply or what it needs for that.
///
/// It does no I/O. HTTP is in [`Front::handle_http`], DNS in [`Front::handle_dns`].
#[derive(Debug)]
pub struct Front {
    pub(crate) options: Options,
    pub(crate) http: Limiter,
    pub(crate) dns: Limiter,
    work: Limiter,
    /// Packets being published, by key.
    pub(crate) publishing: BTreeMap<PublicKey, Timestamp>,
    pub(crate) absent: Absent,
    pub(crate) points: Points,
    pub(crate) stats: Stats,
}

impl Front {
    /// Begins with all buckets full.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let limiter = |quota| Limiter::new(quota, options.max_users);
        Self {
            http: limiter(options.http_quota),
            dns: limiter(options.dns_quota),
            work: limiter(options.work_quota),
            publishing: BTreeMap::new(),
            absent: Absent::default(),
            points: Points::default(),
            stats: Stats::default(),
            options,
        }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How it answers.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Users with a bucket that is not full: of HTTP, of DNS, of work.
    #[must_use]
    pub fn users(&self) -> [usize; 3] {
        [self.http.users(), self.dns.users(), self.work.users()]
    }

    /// Takes a token for one lookup or one publication; `Err` says when there is one.
    pub(crate) fn take_work(&mut self, now: Now, user: User) -> Result<(), Duration> {
        let wait = self.work.take(now.elapsed, user).and_then(|allowance| allowance.wait);
        self.stats.work_limited += u64::from(wait.is_some());
        wait.map_or(Ok(()), Err)
    }

    /// Whether a packet that can be used had better be refreshed in the background, and may be: that
    /// is work too.
    pub(crate) fn refreshes(&mut self, now: Now, user: User, packet: &CachedPacket) -> bool {
        packet.wants_refresh(now.wall, self.options.ttl) && self.take_work(now, user).is_ok()
    }
}

/// Keys that are points of the curve. To find that out takes longer than all the rest of a request that
/// the cache answers.
#[derive(Debug, Default)]
pub(crate) struct Points(BTreeSet<PublicKey>);

impl Points {
    /// The key that a text names.
    pub(crate) fn key(&mut self, text: &str) -> Result<PublicKey, KeyError> {
        let bytes = key_bytes(text)?;
        if let Some(known) = self.0.get(&bytes) {
            return Ok(*known);
        }
        let key = PublicKey::from_bytes(bytes)?;
        if self.0.len() >= MAX_POINTS {
            // Those in use are soon here again.
            self.0.clear();
        }
        self.0.insert(key);
        Ok(key)
    }
}

/// Keys that have no packet, for a while.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    until: BTreeMap<PublicKey, Duration>,
    by_time: BTreeSet<(Duration, PublicKey)>,
}

impl Absent {
    pub(crate) fn insert(&mut self, until: Duration, key: PublicKey) {
        self.remove(&key);
        if self.until.len() >= MAX_ABSENT
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

    /// For how many more seconds the key counts as absent.
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
    fn keys_are_read_alike_whether_they_are_known_or_not() {
        let mut points = Points::default();
        let key = Keypair::from_secret(&[1; 32]).public_key();
        // About half of all bytes are no point.
        let texts = "ybndrfg8ejkmcpqxot1uwisza345h769".chars();
        let texts = texts.map(|first| format!("{first}{}", "y".repeat(51)));
        let other =
            texts.into_iter().find(|it| it.parse::<PublicKey>() == Err(KeyError::NotAPoint));
        let other = other.unwrap();
        for _ in 0..2 {
            for text in [&*key.to_string(), &format!("https://a.{key}/"), "short", &other] {
                assert_eq!(points.key(text), text.parse(), "{text}");
            }
            assert_eq!(points.0.len(), 1);
        }
        for number in 0..=MAX_POINTS as u16 {
            let mut secret = [0; 32];
            secret[..2].copy_from_slice(&number.to_be_bytes());
            let key = Keypair::from_secret(&secret).public_key();
            assert_eq!(points.key(&key.to_string()), Ok(key));
            assert!(points.0.len() <= MAX_POINTS);
        }
    }

    #[test]
    fn absence_is_remembered_for_a_while_and_within_bounds() {
        let key = |number: u16| {
            let mut secret = [0; 32];
            secret[..2].copy_from_slice(&number.to_be_bytes());
            Keypair::from_secret(&secret).public_key()
        };
        let secs = Duration::from_secs;
        let mut absent = Absent::default();
        absent.insert(secs(60), key(0));
        assert_eq!(absent.left(secs(0), &key(0)), Some(60));
        assert_eq!(absent.left(secs(59), &key(0)), Some(1));
        assert_eq!(absent.left(secs(60), &key(0)), None);
        assert_eq!(absent.left(secs(0), &key(1)), None);
        absent.insert(secs(90), key(0));
        assert_eq!((absent.left(secs(80), &key(0)), absent.len()), (Some(10), 1));
        absent.remove(&key(0));
        assert_eq!((absent.left(secs(0), &key(0)), absent.len()), (None, 0));
        for number in 0..=MAX_ABSENT as u16 {
            absent.insert(secs(100 + u64::from(number)), key(number));
        }
        assert_eq!(absent.len(), MAX_ABSENT);
        assert_eq!(absent.left(secs(0), &key(0)), None, "the first to end went");
    }
}
