//! What HTTP and DNS share: quotas, what is going on, counters.

use core::time::Duration;
use std::collections::BTreeMap;

use dht_pkarr::{CachedPacket, PublicKey, Timestamp, TtlRange};

use crate::dns::Transport;
use crate::http::ProxyHeader;
use crate::lookups::{Lookups, Remembered};
use crate::points::Points;
use crate::quota::{Limiter, Quota, User};
use crate::stats::Stats;

/// Users that have a bucket of their own in each limiter.
pub const DEFAULT_MAX_USERS: usize = 65_536;

/// How a relay answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Whether packets are served over HTTP: `GET /{key}`, `PUT /{key}` and the page.
    pub relay: bool,
    /// Whether DNS is served over HTTP: `/dns-query`.
    pub doh: bool,
    /// Whether DNS queries for names under no key are forwarded. If not, they are refused.
    pub forward: bool,
    /// The header by whose last address users are told apart, if a reverse proxy writes it. Whoever
    /// reaches the relay past the proxy may claim what he likes.
    pub behind_proxy: Option<ProxyHeader>,
    /// For how long packets are fresh.
    pub ttl: TtlRange,
    /// For how many seconds DNS clients, and we, remember that there is no such name.
    pub negative_ttl: u32,
    /// HTTP requests per user. Default: 20 a second, 100 at once.
    pub http_quota: Option<Quota>,
    /// DNS queries per user, over UDP and as many over TCP. Default: 50 a second, 200 at once.
    pub dns_quota: Option<Quota>,
    /// Lookups in the DHT and publications per user, whatever asks for them; as many again for DNS over
    /// UDP. Default: 2 a second, 10 at once.
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
            behind_proxy: None,
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

/// What a cache has of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers make it")]
pub enum Known {
    /// This packet, expired or not.
    Packet(CachedPacket),
    /// Nothing.
    Nothing,
    /// Nothing at hand, but the disk may have it.
    Unread,
}

impl From<Option<CachedPacket>> for Known {
    fn from(packet: Option<CachedPacket>) -> Self {
        packet.map_or(Self::Nothing, Self::Packet)
    }
}

/// Looks into a cache, without asking anybody or waiting for the disk.
pub type Cached<'a> = &'a dyn Fn(&PublicKey) -> Known;

/// All that answers: takes requests and queries, and says what to reply or what it needs for that.
///
/// It does no I/O. HTTP is in [`Front::handle_http`], DNS in [`Front::handle_dns`], and what both want
/// resolved in [`Front::poll_resolution`].
#[derive(Debug)]
pub struct Front {
    pub(crate) options: Options,
    pub(crate) http: Limiter,
    pub(crate) dns: Apart,
    work: Apart,
    /// Packets being published, by key.
    pub(crate) publishing: BTreeMap<PublicKey, Timestamp>,
    /// Keys that have no packet.
    pub(crate) absent: Remembered,
    pub(crate) lookups: Lookups,
    pub(crate) points: Points,
    pub(crate) stats: Stats,
}

impl Front {
    /// Begins with all buckets full.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            http: Limiter::new(options.http_quota, options.max_users),
            dns: Apart::new(options.dns_quota, options.max_users),
            work: Apart::new(options.work_quota, options.max_users),
            publishing: BTreeMap::new(),
            absent: Remembered::default(),
            lookups: Lookups::default(),
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

    /// Users with a bucket that is not full: of HTTP, of DNS over TCP and over UDP, of work, and of work
    /// for DNS over UDP.
    #[must_use]
    pub fn users(&self) -> [usize; 5] {
        let [dns, dns_udp] = self.dns.users();
        let [work, work_udp] = self.work.users();
        [self.http.users(), dns, dns_udp, work, work_udp]
    }

    /// Takes a token for one lookup or one publication; `Err` says when there is one.
    pub(crate) fn take_work(
        &mut self,
        now: Now,
        user: User,
        transport: Transport,
    ) -> Result<(), Duration> {
        let limiter = self.work.of(transport);
        let wait = limiter.take(now.elapsed, user).and_then(|allowance| allowance.wait);
        self.stats.work_limited += u64::from(wait.is_some());
        wait.map_or(Ok(()), Err)
    }
}

/// A quota's buckets: those of users who cannot be anybody else, and others of the users that datagrams
/// claim to be of. Whoever forges a victim's address empties none that the victim needs over TCP.
#[derive(Debug)]
pub(crate) struct Apart {
    proven: Limiter,
    claimed: Limiter,
}

impl Apart {
    const fn new(quota: Option<Quota>, capacity: usize) -> Self {
        Self { proven: Limiter::new(quota, capacity), claimed: Limiter::new(quota, capacity) }
    }

    pub(crate) const fn of(&mut self, transport: Transport) -> &mut Limiter {
        match transport {
            Transport::Udp => &mut self.claimed,
            Transport::Tcp | Transport::Http => &mut self.proven,
        }
    }

    fn users(&self) -> [usize; 2] {
        [self.proven.users(), self.claimed.users()]
    }
}
