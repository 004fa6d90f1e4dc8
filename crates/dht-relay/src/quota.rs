//! How much each user may have of something: token buckets.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// The most that a quota can allow in its period: a token takes a microsecond at least.
const MAX_COUNT: u32 = 1_000_000;

/// So many in so long, and as many at once as `burst` says.
///
/// ```
/// use dht_relay::quota::Quota;
///
/// let quota: Quota = "10r/m".parse()?;
/// assert_eq!(quota.burst(), 10);
/// assert_eq!(quota.with_burst(3).to_string(), "10r/m:3");
/// # Ok::<(), dht_relay::quota::QuotaError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    count: u32,
    unit: Unit,
    burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

impl Unit {
    const ALL: [(Self, &'static str, u64); 4] = [
        (Self::Second, "s", 1),
        (Self::Minute, "m", 60),
        (Self::Hour, "h", 3_600),
        (Self::Day, "d", 86_400),
    ];

    fn row(self) -> (&'static str, u64) {
        let row = Self::ALL.iter().find(|(unit, ..)| *unit == self);
        row.map_or(("s", 1), |(_, letter, secs)| (letter, *secs))
    }
}

impl Quota {
    /// So many a second; at least 1, and at most a million.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        let count = match count {
            0 => 1,
            MAX_COUNT.. => MAX_COUNT,
            count => count,
        };
        Self { count, unit: Unit::Second, burst: count }
    }

    /// With another burst than the number of the period; at least 1.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }

    /// As many at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// How long one token takes to come back, in nanoseconds.
    fn interval(self) -> u64 {
        self.unit.row().1 * 1_000_000_000 / u64::from(self.count)
    }

    /// How long a whole bucket takes.
    fn span(self) -> u64 {
        self.interval().saturating_mul(self.burst.into())
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}r/{}", self.count, self.unit.row().0)?;
        if self.burst == self.count { Ok(()) } else { write!(f, ":{}", self.burst) }
    }
}

/// A text is no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaError;

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a quota is a number from 1 to {MAX_COUNT} and one of r/s, r/m, r/h, r/d, as in 10r/s"
        )
    }
}

impl core::error::Error for QuotaError {}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (count, letter) = rate.split_once("r/").ok_or(QuotaError)?;
        let unit = Unit::ALL.iter().find(|(_, known, _)| *known == letter);
        let (unit, ..) = unit.ok_or(QuotaError)?;
        let number = |text: &str| {
            // `parse` would take a sign.
            let digits = text.bytes().all(|digit| digit.is_ascii_digit());
            let number = digits.then(|| text.parse::<u32>().ok()).flatten();
            number.filter(|number| (1..=MAX_COUNT).contains(number)).ok_or(QuotaError)
        };
        let count = number(count)?;
        let burst = burst.map_or(Ok(count), number)?;
        Ok(Self { count, unit: *unit, burst })
    }
}

/// So many users' shares may all users of one IPv6 site have together: whoever has a /48 has 65,536
/// users.
pub const SITE_SHARES: u32 = 8;

/// Whom a quota is for: an IPv4 address, or a /64 of IPv6, as whoever has one address there has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(Key);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

/// A /48 of IPv6, which has [`SITE_SHARES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site([u16; 3]);

impl User {
    /// The site that a user is of, if there may be others of his there.
    pub(crate) const fn site(self) -> Option<Site> {
        match self.0 {
            Key::V4(_) => None,
            Key::V6([a, b, c, _]) => Some(Site([a, b, c])),
        }
    }
}

impl From<IpAddr> for User {
    fn from(ip: IpAddr) -> Self {
        let v6 = |ip: Ipv6Addr| {
            let [a, b, c, d, ..] = ip.segments();
            Key::V6([a, b, c, d])
        };
        match ip {
            IpAddr::V4(ip) => Self(Key::V4(ip)),
            IpAddr::V6(ip) => Self(ip.to_ipv4_mapped().map_or_else(|| v6(ip), Key::V4)),
        }
    }
}

/// What a limiter says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what the headers of a reply say, and no more")]
pub struct Allowance {
    /// The size of the bucket.
    pub limit: u32,
    /// What is left in it.
    pub remaining: u32,
    /// If there was no token: when there is one.
    pub wait: Option<Duration>,
}

impl Allowance {
    /// Whether there was a token.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        self.wait.is_none()
    }
}

/// Buckets, of which full ones are forgotten, and no others: if there is no room for another, then all
/// who have none share one.
///
/// A bucket is one number: when it will be full again, in nanoseconds of the caller's clock.
#[derive(Clone, Debug)]
struct Buckets<K> {
    full_at: BTreeMap<K, u64>,
    /// The same by time.
    by_time: BTreeSet<(u64, K)>,
    /// The bucket of those for whom there is no room.
    others_full_at: u64,
}

impl<K: Copy + Ord> Buckets<K> {
    const fn new() -> Self {
        Self { full_at: BTreeMap::new(), by_time: BTreeSet::new(), others_full_at: 0 }
    }

    /// Forgets what is full.
    fn tick(&mut self, now: u64) {
        while let Some((full_at, key)) = self.by_time.first().copied()
            && full_at <= now
        {
            self.by_time.pop_first();
            self.full_at.remove(&key);
        }
    }

    /// When a bucket is full; in the past if it is.
    fn get(&self, key: K, capacity: usize) -> u64 {
        let unknown = if self.has_room(key, capacity) { 0 } else { self.others_full_at };
        self.full_at.get(&key).copied().unwrap_or(unknown)
    }

    fn set(&mut self, key: K, full_at: u64, capacity: usize) {
        if !self.has_room(key, capacity) {
            self.others_full_at = full_at;
            return;
        }
        if let Some(known) = self.full_at.insert(key, full_at) {
            self.by_time.remove(&(known, key));
        }
        self.by_time.insert((full_at, key));
        debug_assert!(self.by_time.len() == self.full_at.len(), "each bucket has one time");
    }

    fn has_room(&self, key: K, capacity: usize) -> bool {
        self.full_at.len() < capacity || self.full_at.contains_key(&key)
    }
}

/// Token buckets of many users, and of their sites, which have [`SITE_SHARES`] times as much.
///
/// No number of users has more than `capacity + 1` buckets have, nor any number of users of one site
/// more than its bucket has, as long as there is room for it.
#[derive(Clone, Debug)]
pub struct Limiter {
    quota: Option<Quota>,
    capacity: usize,
    users: Buckets<User>,
    sites: Buckets<Site>,
}

impl Limiter {
    /// Buckets for so many users, and as many sites; without a quota everything is granted.
    #[must_use]
    pub const fn new(quota: Option<Quota>, capacity: usize) -> Self {
        Self { quota, capacity, users: Buckets::new(), sites: Buckets::new() }
    }

    /// Takes a token of the user's bucket, and of the site's; `None` if there is no limit. `now` must not
    /// go back.
    pub fn take(&mut self, now: Duration, user: User) -> Option<Allowance> {
        let quota = self.quota?;
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.users.tick(now);
        self.sites.tick(now);
        let own = Draw::new(now, self.users.get(user, self.capacity), quota, 1);
        let site = user.site().map(|site| {
            let full_at = self.sites.get(site, self.capacity);
            (site, Draw::new(now, full_at, quota, SITE_SHARES))
        });
        let draws = [Some(&own), site.as_ref().map(|(_, draw)| draw)];
        if let Some(wait) = draws.into_iter().flatten().filter_map(|draw| draw.wait).max() {
            return Some(Allowance { limit: quota.burst, remaining: 0, wait: Some(wait) });
        }
        self.users.set(user, own.full_at, self.capacity);
        if let Some((site, draw)) = &site {
            self.sites.set(*site, draw.full_at, self.capacity);
        }
        let left = site.map_or(own.left, |(_, draw)| draw.left.min(own.left));
        let remaining = u32::try_from(left).unwrap_or(u32::MAX);
        Some(Allowance { limit: quota.burst, remaining, wait: None })
    }

    /// Whether a token could be taken; takes it if so.
    pub fn grants(&mut self, now: Duration, user: User) -> bool {
        self.take(now, user).is_none_or(Allowance::is_granted)
    }

    /// How many users have a bucket that is not full.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.full_at.len()
    }
}

/// A token that may be taken of a bucket.
struct Draw {
    /// When the bucket is full again after that.
    full_at: u64,
    /// How many more there are.
    left: u64,
    /// When there is one, if there is none.
    wait: Option<Duration>,
}

impl Draw {
    /// From a bucket of the size of `shares` times the quota.
    fn new(now: u64, full_at: u64, quota: Quota, shares: u32) -> Self {
        // A token takes a microsecond at least, so there is something left of its part.
        let interval = quota.interval() / u64::from(shares);
        let full_at = full_at.max(now).saturating_add(interval);
        let (span, until_full) = (quota.span(), full_at - now);
        let wait = until_full.checked_sub(span).filter(|wait| *wait > 0).map(Duration::from_nanos);
        Self { full_at, left: span.saturating_sub(until_full) / interval, wait }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(number: u8) -> User {
        IpAddr::from([192, 0, 2, number]).into()
    }

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    #[test]
    fn texts_read_back_or_are_refused() {
        for text in ["1r/s", "10r/m", "7r/h", "1000000r/d", "2r/s:10"] {
            assert_eq!(quota(text).to_string(), text);
        }
        for bad in [
            "",
            "r/s",
            "0r/s",
            "-1r/s",
            "+1r/s",
            "1r/w",
            "1/s",
            "1r/",
            "1000001r/s",
            "1 r/s",
            "1r/s:",
            "1r/s:0",
        ] {
            assert_eq!(bad.parse::<Quota>(), Err(QuotaError), "{bad}");
        }
        assert_eq!(quota("2r/s").with_burst(0).burst(), 1);
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let mut limiter = Limiter::new(Some(quota("2r/s").with_burst(3)), 10);
        let at = Duration::from_secs(100);
        for remaining in [2, 1, 0] {
            let allowance = limiter.take(at, user(1)).unwrap();
            assert_eq!(allowance, Allowance { limit: 3, remaining, wait: None });
        }
        let refused = limiter.take(at, user(1)).unwrap();
        assert_eq!(refused.wait, Some(Duration::from_millis(500)));
        // Asking in vain costs nothing, and others are not concerned.
        assert_eq!(limiter.take(at, user(1)).unwrap(), refused);
        assert!(limiter.grants(at, user(2)));
        assert!(limiter.grants(at + Duration::from_millis(500), user(1)));
        assert!(!limiter.grants(at + Duration::from_millis(500), user(1)));
        // Full buckets are forgotten.
        assert!(limiter.grants(at + Duration::from_secs(9), user(3)));
        assert_eq!(limiter.users(), 1);
    }

    #[test]
    fn without_a_quota_there_is_no_limit() {
        let mut limiter = Limiter::new(None, 0);
        assert_eq!(limiter.take(Duration::ZERO, user(1)), None);
        assert!(limiter.grants(Duration::ZERO, user(1)));
    }

    #[test]
    fn users_are_addresses_or_networks() {
        let user = |text: &str| User::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(user("2001:db8::1"), user("2001:db8::ffff:1"));
        assert_ne!(user("2001:db8::1"), user("2001:db8:0:1::1"));
        assert_eq!(user("::ffff:192.0.2.1"), user("192.0.2.1"));
        assert_ne!(user("192.0.2.2"), user("192.0.2.1"));
    }

    #[test]
    fn a_site_has_no_more_than_its_shares_however_many_networks_it_has() {
        let mut limiter = Limiter::new(Some(quota("2r/s").with_burst(3)), 1_000);
        let at = Duration::from_secs(100);
        let network = |site: u16, number: u16| {
            User::from(IpAddr::from([0x2001, 0xdb8, site, number, 0, 0, 0, 1]))
        };
        let granted = |limiter: &mut Limiter, at, site| {
            let granted = |number: &u16| limiter.grants(at, network(site, *number));
            (0..1_000).filter(granted).count()
        };
        assert_eq!(granted(&mut limiter, at, 1), 3 * SITE_SHARES as usize);
        let refused = limiter.take(at, network(1, 2_000)).unwrap();
        assert_eq!(refused.wait, Some(Duration::from_millis(500) / SITE_SHARES));
        // Who is refused for his site has lost no token of his own, and other sites none at all.
        assert_eq!(granted(&mut limiter, at, 2), 3 * SITE_SHARES as usize);
        let later = at + Duration::from_secs(1);
        assert_eq!(granted(&mut limiter, later, 1), 2 * SITE_SHARES as usize);
        // IPv4 has no sites.
        let v4 = (0..100).filter(|number| limiter.grants(at, user(*number))).count();
        assert_eq!(v4, 100);
    }

    proptest! {
        /// Whoever asks how often and when: nobody gets more than the quota, and all together no
        /// more than the buckets that there is room for, and one.
        #[test]
        fn nobody_gets_more_than_the_quota(
            burst in 1_u32..6,
            requests in prop::collection::vec((0_u64..2_000, 0_u8..8), 1..200),
        ) {
            let capacity = 3;
            let mut limiter = Limiter::new(Some(quota("2r/s").with_burst(burst)), capacity);
            let mut now = Duration::from_secs(1);
            let mut granted: Vec<(Duration, u8)> = Vec::new();
            for (pause, number) in requests {
                now += Duration::from_millis(pause);
                if limiter.grants(now, user(number)) {
                    granted.push((now, number));
                }
                prop_assert!(limiter.users() <= capacity);
            }
            for (place, (from, _)) in granted.iter().enumerate() {
                for (to, _) in &granted[place..] {
                    let within = |number: Option<u8>| {
                        granted.iter().filter(|(at, of)| {
                            (from..=to).contains(&at) && number.is_none_or(|number| *of == number)
                        }).count() as u128
                    };
                    let tokens = to.saturating_sub(*from).as_millis() / 500 + u128::from(burst) + 1;
                    let buckets = capacity as u128 + 1;
                    prop_assert!(within(None) <= tokens * buckets);
                    for number in 0..8 {
                        // A user may move from the shared bucket to one of its own.
                        prop_assert!(within(Some(number)) <= 2 * tokens);
                    }
                }
            }
        }
    }
}
