//! The peers that a server holds, as BEP 5, BEP 33 and BEP 51 have it.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dht_proto::addr::{Addr, Scope};
use dht_proto::bloom::Filter;
use dht_proto::config::Config;
use dht_proto::id::{ID_LEN, InfoHash};
use dht_proto::time::Instant;
use dht_proto::wire::Reply;

/// Expiries are whole seconds, rounded up: a peer may live this much longer than it must.
const ROUNDING: Duration = Duration::from_secs(2);

/// What an announce says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    pub(super) peer: SocketAddr,
    pub(super) seed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    announced: Announced,
    /// It is held until here for certain.
    sure: Instant,
}

/// All peers that were stored and nobody has replaced.
#[derive(Debug)]
pub(super) struct Peers {
    held: BTreeMap<InfoHash, Vec<Held>>,
    tight: bool,
    /// The latest sample, and when it was new.
    sample: Option<(Instant, Vec<u8>)>,
}

impl Peers {
    pub(super) const fn new(tight: bool) -> Self {
        Self { held: BTreeMap::new(), tight, sample: None }
    }

    fn of(&self, info_hash: InfoHash) -> &[Held] {
        self.held.get(&info_hash).map_or(&[], Vec::as_slice)
    }

    /// A peer was stored: in place of what its host had announced before.
    pub(super) fn announced(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announced: Announced,
        config: &Config,
    ) {
        let peers = self.held.entry(info_hash).or_default();
        peers.retain(|held| !same_host(held.announced.peer, announced.peer));
        peers.push(Held { announced, sure: now + config.peer_lifetime });
    }

    /// No more than this many are held, the expired included.
    pub(super) fn len_at_most(&self, info_hash: InfoHash) -> usize {
        self.of(info_hash).len()
    }

    /// Whether a new peer may be refused, by all that is known.
    pub(super) fn may_be_full(
        &self,
        info_hash: InfoHash,
        announced: Announced,
        config: &Config,
    ) -> bool {
        let all = || self.held.values().flatten().map(|held| held.announced.peer);
        let near = |shift| {
            let network = |peer| network(peer) >> shift;
            let own = network(announced.peer);
            all().filter(|peer| network(*peer) == own).count()
        };
        let provider = config.max_announces_per_subnet.max(config.max_torrents / 4);
        let wide = if announced.peer.is_ipv4() { 48 } else { 32 };
        let others = self.held.keys().filter(|other| **other != info_hash).count();
        config.max_peers_per_torrent == 0
            || others >= config.max_torrents
            || near(0) >= config.max_announces_per_subnet
            || near(wide) >= provider
    }

    /// The answer to a get_peers.
    pub(super) fn check(
        &self,
        now: Instant,
        info_hash: InfoHash,
        reply: &Reply<'_>,
        (noseed, scrape, most): (bool, bool, usize),
        config: &Config,
    ) {
        let told: Vec<_> = reply.values.iter().flat_map(|values| values.iter()).collect();
        let distinct: BTreeSet<_> = told.iter().collect();
        assert_eq!(told.len(), distinct.len(), "a peer was told twice");
        assert!(told.len() <= most, "more peers than fit");
        let possible = || self.of(info_hash).iter().filter(|held| now < held.sure + ROUNDING);
        let wanted = |held: &&Held| !(noseed && held.announced.seed);
        for peer in &told {
            let mut held = possible().filter(wanted);
            assert!(held.any(|held| held.announced.peer == *peer), "{peer} was never announced");
        }
        if self.tight {
            assert!(told.len() <= config.max_peers_per_torrent, "more peers than are kept");
            return;
        }
        let sure = || self.of(info_hash).iter().filter(|held| now < held.sure);
        assert!(told.len() >= sure().filter(wanted).count().min(most), "a peer is missing");
        let filters = (reply.seeds_filter, reply.peers_filter);
        if !scrape || possible().next().is_none() {
            assert_eq!(filters, (None, None), "filters of nothing, or for nobody");
        } else if sure().count() == possible().count() {
            let (mut seeds, mut others) = (Filter::EMPTY, Filter::EMPTY);
            for Held { announced, .. } in sure() {
                let filter = if announced.seed { &mut seeds } else { &mut others };
                filter.insert(announced.peer.ip());
            }
            assert_eq!(filters, (Some(seeds.as_bytes()), Some(others.as_bytes())));
        }
    }

    /// The answer to a sample_infohashes.
    pub(super) fn check_sample(&mut self, now: Instant, reply: &Reply<'_>, config: &Config) {
        let (Some(samples), Some(num)) = (reply.samples, reply.num) else {
            panic!("BEP 51: samples and num are always there")
        };
        assert_eq!(reply.interval, Some(config.sample_interval.as_secs().cast_signed()));
        let num = usize::try_from(num).unwrap_or(usize::MAX);
        assert!(num <= self.held.len().min(config.max_torrents), "more torrents than there are");
        let is_live = |peers: &&Vec<Held>| peers.iter().any(|held| now < held.sure);
        let live = self.held.values().filter(is_live).count();
        assert!(num >= live || self.tight, "a torrent is missing");
        let told: BTreeSet<_> = samples.chunks(ID_LEN).filter_map(InfoHash::from_slice).collect();
        assert_eq!(told.len() * ID_LEN, samples.len(), "an infohash twice, or half of one");
        assert!(told.iter().all(|info_hash| self.held.contains_key(info_hash)), "made up");
        assert!(told.len() <= config.max_samples, "a large sample");
        let wanted = num.min(config.max_samples);
        assert!(told.len() >= wanted, "a small sample");
        let fresh = |(taken, old): &&(Instant, Vec<u8>)| {
            now.since(*taken) < config.sample_interval && old.len() >= wanted * ID_LEN
        };
        match self.sample.as_ref().filter(fresh) {
            Some((_, old)) => assert_eq!(old, samples, "everybody gets the same for a while"),
            None => self.sample = Some((now, samples.to_vec())),
        }
    }
}

/// BEP 33: a host on the internet is one peer, whatever its port.
fn same_host(a: SocketAddr, b: SocketAddr) -> bool {
    let is_global = match a {
        SocketAddr::V4(a) => a.scope() == Scope::Global,
        SocketAddr::V6(a) => a.scope() == Scope::Global,
    };
    a == b || (is_global && a.ip() == b.ip())
}

fn network(addr: SocketAddr) -> u64 {
    match addr {
        SocketAddr::V4(addr) => addr.subnet(),
        SocketAddr::V6(addr) => addr.subnet(),
    }
}
