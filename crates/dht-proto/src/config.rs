//! Every limit and period of a node, with its unit, default and reason.

mod range;

use core::time::Duration;

use alloc::vec::Vec;
use core::net::SocketAddr;

pub use self::range::ConfigError;

/// The greatest [`Config::k`].
pub(crate) const MAX_K: usize = 64;

/// Whether a node answers queries (BEP 43).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// A client until others are seen to reach us unasked, then a server.
    #[default]
    Adaptive,
    /// Answers queries from the start.
    Server,
    /// Never answers; queries carry `ro` so that others do not list us.
    Client,
}

/// Checks an ed25519 signature: public key, message, signature.
///
/// A function pointer, so that a simulation of a million nodes can replace it.
pub type VerifyFn = fn(&[u8; 32], &[u8], &[u8; 64]) -> bool;

/// Every knob of a node. `Default` is what a node on the internet should use.
///
/// A value outside its range is taken as the nearest one inside. [`Config::check`] tells of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Role of the node. Default: adaptive.
    pub mode: Mode,
    /// Addresses asked when the table is empty. Default: none (runtimes resolve host names). The
    /// first 32 of each network that can be a node's are taken over.
    pub bootstrap: Vec<SocketAddr>,
    /// Our external IP addresses, if known: skips the voting. Default: none.
    pub public_ips: Vec<core::net::IpAddr>,
    /// Our UDP port, which an announce with `implied_port` also names. Default: 6881.
    pub port: u16,
    /// Four bytes of client version sent as `v`: two letters, two bytes. Default: `DR` 0 1.
    pub version: [u8; 4],

    /// Kademlia's k: contacts per bucket, nodes per reply, copies per item. Default: 8 (BEP 5).
    /// Range: 1 to 64.
    pub k: usize,
    /// Whether the four farthest buckets hold 128, 64, 32 and 16 contacts, which saves the first
    /// step of most lookups. Default: true.
    pub extended_buckets: bool,
    /// Contacts waiting for verification or for a place in the table, at most. Default: 64.
    /// Range: 0 to 4096.
    pub max_candidates: usize,
    /// Table contacts per /24 (v6: /64) in one bucket. Default: 1. Local networks are exempt.
    /// Range: 1 to 64.
    pub max_per_subnet_in_bucket: usize,
    /// Table contacts per v6 /32; a /48 may hold a quarter of it. Default: 32. Range: 1 to 4096.
    pub max_per_allocation: usize,
    /// Failures in a row after which a contact leaves the table although nothing replaces it.
    /// Default: 5. Range: 1 to 31.
    pub max_fails: u8,
    /// A contact that was silent this long, give or take a quarter, is pinged. Default: 10 min.
    /// Range: 100 ms to a year.
    pub ping_after: Duration,
    /// The table pings at most one contact per this period. Default: 5 s. Range: 1 ms to a year.
    pub ping_interval: Duration,
    /// A bucket without news for this long, give or take a quarter, is refreshed by a lookup.
    /// Default: 15 min (BEP 5). Range: 100 ms to a year.
    pub refresh_after: Duration,
    /// A lookup for our own id, this often give or take a quarter, keeps the neighbourhood known.
    /// Default: 30 min. Range: 100 ms to a year.
    pub self_lookup_interval: Duration,
    /// A node that queried us is verified no sooner than this, when the hole that its query made
    /// in its own firewall has closed; one that would be among our k nearest at once, and again
    /// after this long. Default: 90 s. Range: 0 to a year.
    pub verify_delay: Duration,
    /// Pause after the first failed bootstrap; doubles each time. Default: 2 s.
    /// Range: 1 ms to a year.
    pub bootstrap_backoff_min: Duration,
    /// Longest pause between bootstrap attempts. Default: 2 min.
    /// Range: `bootstrap_backoff_min` to a year.
    pub bootstrap_backoff_max: Duration,
    /// If no query of ours was answered for this long, counted from the first that left after the
    /// latest answer, we are offline: nobody is evicted for silence. Queries that reach us prove
    /// nothing, because anybody can forge them. Default: 30 s. Range: 1 ms to a year.
    pub offline_after: Duration,

    /// Queries of one lookup in flight that have not stalled. Default: 4. Range: 1 to 64.
    pub alpha: usize,
    /// Candidates that one lookup remembers. Default: 100. Range: `k` to 4096.
    pub max_frontier: usize,
    /// Lookups at a time, maintenance included. Default: 256. Range: 1 to 65536.
    pub max_lookups: usize,
    /// Queries in flight, all purposes together. Default: 2048. Range: 1 to 65536.
    pub max_transactions: usize,
    /// A query without answer for this long has failed. Default: 10 s. Range: 1 ms to a year.
    pub query_timeout: Duration,
    /// The stall timeout never falls below this. Default: 100 ms. Range: 1 ms to a year.
    pub stall_min: Duration,
    /// The stall timeout before any round trip was measured. Default: 1 s.
    /// Range: 1 ms to a year.
    pub stall_initial: Duration,
    /// A lookup ends after this long whatever happens. Default: 2 min. Range: 1 ms to a year.
    pub lookup_timeout: Duration,
    /// Events waiting for `poll_event`; when full, lookups wait. Default: 1024. Range: 1 to 65536.
    pub max_events: usize,

    /// Infohashes with stored peers. Default: 2000. Range: 0 to 2^24.
    pub max_torrents: usize,
    /// Peers per infohash. Default: 500. Range: 0 to 65536.
    pub max_peers_per_torrent: usize,
    /// Peers that one /24 (v6: /64) may have stored at a time, all infohashes together. A /16 (v6:
    /// /32) may have as many, or a quarter of `max_torrents` if that is more. Default: 512.
    /// Range: 0 to 2^24.
    pub max_announces_per_subnet: usize,
    /// A peer is forgotten this long after its announce. Default: 45 min. Range: 1 s to a year.
    pub peer_lifetime: Duration,
    /// Stored items, immutable and mutable together. Default: 2000. Range: 0 to 2^24.
    pub max_items: usize,
    /// Items that one /24 (v6: /64) may have stored at a time. A /16 (v6: /32) may have as many, or
    /// a quarter of `max_items` if that is more. Default: 256. Range: 0 to 2^24.
    pub max_items_per_subnet: usize,
    /// An item is forgotten this long after its last put. Default: 2 h (BEP 44).
    /// Range: 1 s to a year.
    pub item_lifetime: Duration,
    /// Infohashes in one sample. Default: 20 (BEP 51). Range: 0 to 64.
    pub max_samples: usize,
    /// How long a sample stays the same, and the `interval` told. Default: 6 h (BEP 51).
    /// Range: 0 to 6 h.
    pub sample_interval: Duration,
    /// Token secrets change this often and are accepted for twice as long. Default: 5 min (BEP 5).
    /// Range: 1 s to a year.
    pub token_rotation: Duration,

    /// Reply bytes per second that one /24 (v6: /64) can be sent. Default: 32768.
    /// Range: any; 0 is silence.
    pub subnet_bytes_per_sec: u32,
    /// Reply bytes that one /24 (v6: /64) can be sent at once. Default: 131072.
    /// Range: any; 0 is silence.
    pub subnet_burst_bytes: u32,
    /// One /24 (v6: /64) may have a query answered this often, after the burst. Default: 0, which is no
    /// limit but that of bytes. Range: 0 to a day.
    pub subnet_query_interval: Duration,
    /// Queries that one /24 (v6: /64) may have answered at once, if they are limited. Default: 1.
    /// Range: any; 0 is silence.
    pub subnet_query_burst: u32,
    /// Reply bytes per second to everybody. Default: 20000000. Range: any; 0 is silence.
    pub total_bytes_per_sec: u32,
    /// Counters of the per-subnet budget, at most; made as load requires, in powers of two, of 8
    /// bytes each. Collisions share one. 0 leaves only the total budget. Default: 4096.
    /// Range: 0 to 2^24.
    pub throttle_slots: usize,
    /// Signatures checked per second for puts from strangers. Default: 2000. Range: any.
    pub verifications_per_sec: u32,
    /// The signature check. Default: ed25519, strict.
    pub verify: VerifyFn,
}

impl Config {
    /// The most bytes that a [`Dht`](crate::Dht) on both networks can take up under these limits,
    /// whatever arrives: the sum of all bounds, each store full and each list half empty. It
    /// saturates.
    #[must_use]
    pub fn memory_ceiling(&self) -> usize {
        crate::Dht::memory_ceiling(&self.clamped())
    }

    /// Whether every value lies in its range.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut first = Ok(());
        self.clone().visit(&mut |field, knob, min, max| {
            let is = knob.get();
            if first.is_ok() && !(min..=max).contains(&is) {
                first = Err(ConfigError { field, unit: knob.unit(), is, min, max });
            }
        });
        first
    }

    /// The same with every value in its range.
    pub(crate) fn clamped(&self) -> Self {
        let mut config = self.clone();
        config.visit(&mut |_, knob, min, max| {
            let (is, allowed) = (knob.get(), knob.get().clamp(min, max));
            if is != allowed {
                knob.set(allowed);
            }
        });
        config
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Adaptive,
            bootstrap: Vec::new(),
            public_ips: Vec::new(),
            port: 6881,
            version: *b"DR\x00\x01",
            k: 8,
            extended_buckets: true,
            max_candidates: 64,
            max_per_subnet_in_bucket: 1,
            max_per_allocation: 32,
            max_fails: 5,
            ping_after: Duration::from_secs(10 * 60),
            ping_interval: Duration::from_secs(5),
            refresh_after: Duration::from_secs(15 * 60),
            self_lookup_interval: Duration::from_secs(30 * 60),
            verify_delay: Duration::from_secs(90),
            bootstrap_backoff_min: Duration::from_secs(2),
            bootstrap_backoff_max: Duration::from_secs(2 * 60),
            offline_after: Duration::from_secs(30),
            alpha: 4,
            max_frontier: 100,
            max_lookups: 256,
            max_transactions: 2048,
            query_timeout: Duration::from_secs(10),
            stall_min: Duration::from_millis(100),
            stall_initial: Duration::from_secs(1),
            lookup_timeout: Duration::from_secs(120),
            max_events: 1024,
            max_torrents: 2000,
            max_peers_per_torrent: 500,
            max_announces_per_subnet: 512,
            peer_lifetime: Duration::from_secs(45 * 60),
            max_items: 2000,
            max_items_per_subnet: 256,
            item_lifetime: Duration::from_secs(2 * 60 * 60),
            max_samples: 20,
            sample_interval: Duration::from_secs(6 * 60 * 60),
            token_rotation: Duration::from_secs(5 * 60),
            subnet_bytes_per_sec: 32 * 1024,
            subnet_burst_bytes: 128 * 1024,
            subnet_query_interval: Duration::ZERO,
            subnet_query_burst: 1,
            total_bytes_per_sec: 20_000_000,
            throttle_slots: 4096,
            verifications_per_sec: 2000,
            verify: crate::item::verify_strict,
        }
    }
}
