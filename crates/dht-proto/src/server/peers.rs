//! Announced peers, by infohash (BEP 5, BEP 33).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::pool::{Pool, Sweep, nearness};
use super::quota::{Limits, Quota};
use super::sample::{Dice, spread};
use crate::addr::{Addr, Scope};
use crate::bloom::{Filter, FilterBits};
use crate::config::Config;
use crate::footprint;
use crate::id::{InfoHash, NodeId};
use crate::time::Instant;
use crate::wire::{value_len, write_value};

/// One network may hold this share of a torrent's peers: an eighth.
const SHARES: usize = 8;
/// One network may always hold this many of a torrent's peers.
const MIN_SHARE: usize = 8;

/// The announcer's network has used up its quota, or the store is full of better entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverQuota;

/// An announce that passed the token check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announce<A> {
    pub(super) info_hash: InfoHash,
    /// Source IP of the query, with the port announced.
    pub(super) peer: A,
    /// BEP 33: the peer has everything.
    pub(super) seed: bool,
}

/// Peers of one family.
///
/// Bounds: [`Config::max_torrents`] infohashes of [`Config::max_peers_per_torrent`] peers;
/// [`Config::max_announces_per_subnet`] entries of one network, and as many, or a quarter of
/// `max_torrents` if that is more, of one /16 (v6 /32).
///
/// An IP on the internet is one peer of a torrent, as BEP 33 demands.
///
/// A full torrent replaces its oldest peer; peers of one network first replace each other, so that
/// a network never holds more than an eighth of a torrent. A full store drops the weakest of
/// sixteen random torrents: the one with few peers, far from our id, announced by an allocation
/// that has many entries here. A newcomer that is weaker still is refused.
pub(super) struct PeerStore<A: Addr> {
    torrents: Pool<InfoHash, Torrent<A>>,
    quota: Quota,
    sweep: Sweep,
}

impl<A: Addr> fmt::Debug for PeerStore<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerStore({} torrents, {} peers)", self.torrents.len(), self.len())
    }
}

impl<A: Addr> Default for PeerStore<A> {
    fn default() -> Self {
        Self { torrents: Pool::default(), quota: Quota::default(), sweep: Sweep::default() }
    }
}

impl<A: Addr> PeerStore<A> {
    /// Stores a peer, or renews one.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        announce: Announce<A>,
        own_id: NodeId,
        dice: Dice,
        config: &Config,
    ) -> Result<(), OverQuota> {
        let Announce { info_hash, peer, seed } = announce;
        self.purge(now, info_hash);
        let entry = Peer::new(now, peer, config);
        if let Some(torrent) = self.torrents.get_mut(&info_hash)
            && torrent.remove(peer)
        {
            torrent.insert(entry, seed);
            return Ok(());
        }
        let limits = Limits::new(config.max_announces_per_subnet, config.max_torrents);
        if config.max_peers_per_torrent == 0 || !self.quota.admits(peer, limits) {
            return Err(OverQuota);
        }
        if self.torrents.get(&info_hash).is_none() {
            self.make_room(announce, own_id, dice, config)?;
            self.torrents.insert(info_hash, Torrent::default());
        }
        let Some(torrent) = self.torrents.get_mut(&info_hash) else {
            unreachable!("inserted above");
        };
        if let Some(replaced) = torrent.displaced_by(peer, config.max_peers_per_torrent) {
            torrent.remove(replaced);
            self.quota.give_back(replaced);
        }
        torrent.insert(entry, seed);
        self.quota.take(peer);
        self.sweep.arm(now, config.peer_lifetime);
        Ok(())
    }

    /// The live peers of an infohash; `None` if there is no entry.
    pub(super) fn get(&mut self, now: Instant, info_hash: InfoHash) -> Option<&Torrent<A>> {
        self.purge(now, info_hash);
        self.torrents.get(&info_hash)
    }

    /// Gives back the memory of a bounded number of expired peers.
    pub(super) fn handle_timeout(&mut self, now: Instant, config: &Config) {
        for _ in 0..self.sweep.due(now, self.torrents.len()) {
            let Some(info_hash) = self.sweep.advance(&self.torrents) else { break };
            self.purge(now, info_hash);
        }
        self.sweep.finish(now, config.peer_lifetime, self.torrents.len());
    }

    /// The bytes that the store takes up now, itself included.
    pub(super) fn memory(&self) -> usize {
        let peers = self.torrents.iter().map(|(_, torrent)| {
            footprint::room::<Peer<A>>(torrent.downloaders.capacity() + torrent.seeds.capacity())
        });
        size_of::<Self>()
            + self.torrents.heap_bytes()
            + peers.sum::<usize>()
            + self.quota.heap_bytes()
    }

    /// The most heap bytes that the store can take up.
    pub(super) const fn memory_ceiling(config: &Config) -> usize {
        let (max, each) = (config.max_torrents, config.max_peers_per_torrent);
        // Peers that become seeds leave room behind in the list of the others.
        let lists = footprint::list::<Peer<A>>(each).saturating_mul(2);
        footprint::sum(&[
            size_of::<Self>(),
            Pool::<InfoHash, Torrent<A>>::memory_ceiling(max),
            max.saturating_mul(lists),
            Quota::memory_ceiling(max.saturating_mul(each)),
        ])
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.sweep.next()
    }

    /// All infohashes, in an order that positions refer to.
    pub(super) const fn torrents(&self) -> &Pool<InfoHash, Torrent<A>> {
        &self.torrents
    }

    /// Peers of all torrents together.
    pub(super) fn len(&self) -> usize {
        self.torrents.iter().map(|(_, torrent)| torrent.len()).sum()
    }

    pub(super) fn check_invariants(&self, config: &Config) {
        self.torrents.check_invariants();
        assert!(self.torrents.len() <= config.max_torrents, "torrents are bounded");
        for (_, torrent) in self.torrents.iter() {
            torrent.check_invariants(config);
        }
        assert_eq!(self.quota.total(), self.len(), "every peer is counted for its network");
        assert!(self.sweep.next().is_some() || self.torrents.len() == 0, "what is kept is swept");
    }

    /// Drops the expired peers of a torrent, and the torrent with the last of them.
    fn purge(&mut self, now: Instant, info_hash: InfoHash) {
        let now = whole_secs(now);
        let Some(torrent) = self.torrents.get_mut(&info_hash) else { return };
        if torrent.first_expiry > now {
            return;
        }
        let quota = &mut self.quota;
        torrent.retain(|peer| {
            let live = peer.expires > now;
            if !live {
                quota.give_back(A::from_compact(peer.addr));
            }
            live
        });
        if torrent.len() == 0 {
            self.torrents.remove(&info_hash);
        }
    }

    /// Makes sure that one more torrent may be stored.
    fn make_room(
        &mut self,
        newcomer: Announce<A>,
        own_id: NodeId,
        dice: Dice,
        config: &Config,
    ) -> Result<(), OverQuota> {
        if self.torrents.len() < config.max_torrents {
            return Ok(());
        }
        let quota = &self.quota;
        let score = |info_hash: &InfoHash, torrent: &Torrent<A>| {
            // Doubling the peers is worth as much as being four times as near.
            let popularity = 2 * i64::from(torrent.len().max(1).ilog2());
            let crowding = torrent.ends().map(|peer| quota.crowding(peer)).min().unwrap_or(0);
            popularity + nearness(own_id, info_hash.as_bytes()) - crowding
        };
        let newcomer =
            nearness(own_id, newcomer.info_hash.as_bytes()) - quota.crowding(newcomer.peer);
        let weakest = self.torrents.weakest(dice, newcomer, score).ok_or(OverQuota)?;
        if let Some(torrent) = self.torrents.remove(&weakest) {
            for peer in torrent.peers() {
                self.quota.give_back(A::from_compact(peer.addr));
            }
        }
        Ok(())
    }
}

/// The peers of one infohash.
#[derive(Debug)]
pub(super) struct Torrent<A: Addr> {
    /// Ordered by address, so that a network is one range.
    downloaders: Vec<Peer<A>>,
    /// Ordered by address.
    seeds: Vec<Peer<A>>,
    /// No peer expires before this second.
    first_expiry: u32,
}

/// One announced peer: 16 bytes on v4, 28 on v6.
#[derive(Debug)]
struct Peer<A: Addr> {
    addr: A::Compact,
    /// What the address sets in a filter, so that a scrape hashes nothing.
    bits: FilterBits,
    /// The second from which on the peer is forgotten.
    expires: u32,
}

impl<A: Addr> Peer<A> {
    fn new(now: Instant, peer: A, config: &Config) -> Self {
        // Rounded up: a peer is kept for at least its lifetime.
        let expires = whole_secs(now + config.peer_lifetime).saturating_add(1);
        Self { addr: peer.compact(), bits: FilterBits::of(peer.ip()), expires }
    }
}

impl<A: Addr> Default for Torrent<A> {
    fn default() -> Self {
        Self { downloaders: Vec::new(), seeds: Vec::new(), first_expiry: u32::MAX }
    }
}

impl<A: Addr> Torrent<A> {
    /// Writes a random sample of at most `max` peers, as [`write_value`] does; returns the bytes
    /// written.
    ///
    /// BEP 33: with `noseed`, seeds are left out.
    pub(super) fn sample(&self, dice: Dice, noseed: bool, max: usize, out: &mut [u8]) -> usize {
        let len = if noseed { self.downloaders.len() } else { self.len() };
        let room = out.len();
        let max = max.min(room / value_len::<A>());
        let (downloaders, seeds) = (self.downloaders.as_slice(), self.seeds.as_slice());
        let rest = spread(dice, len, max).try_fold(out, |rest, position| {
            let peer = match position.checked_sub(downloaders.len()) {
                None => downloaders.get(position),
                Some(position) => seeds.get(position),
            };
            let Some(peer) = peer else { unreachable!("positions are below the number of peers") };
            write_value::<A>(&peer.addr, rest)
        });
        let Some(rest) = rest else { unreachable!("`max` values fit") };
        room - rest.len()
    }

    /// The filters of seeds and of downloaders (BEP 33).
    pub(super) fn filters(&self) -> (Filter, Filter) {
        let filter = |peers: &[Peer<A>]| {
            let mut filter = Filter::EMPTY;
            for peer in peers {
                filter.insert_bits(peer.bits);
            }
            filter
        };
        (filter(&self.seeds), filter(&self.downloaders))
    }

    /// Whether a new peer would have to replace one, and `addr` has no entry to renew.
    pub(super) fn is_full_for(&self, addr: A, config: &Config) -> bool {
        self.len() >= config.max_peers_per_torrent
            && [&self.downloaders, &self.seeds]
                .iter()
                .all(|peers| range_of(peers, addr, Addr::ip).is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.downloaders.len() + self.seeds.len()
    }

    /// The peers at both ends of the address range: as far apart as any two of them.
    fn ends(&self) -> impl Iterator<Item = A> {
        let lists = [&self.downloaders, &self.seeds].into_iter();
        lists
            .flat_map(|peers| peers.first().into_iter().chain(peers.last()))
            .map(|peer| A::from_compact(peer.addr))
    }

    fn peers(&self) -> impl Iterator<Item = &Peer<A>> {
        self.downloaders.iter().chain(&self.seeds)
    }

    fn insert(&mut self, peer: Peer<A>, seed: bool) {
        let peers = if seed { &mut self.seeds } else { &mut self.downloaders };
        self.first_expiry = self.first_expiry.min(peer.expires);
        let position = peers.partition_point(|other| other.addr < peer.addr);
        peers.insert(position, peer);
    }

    /// Removes a peer from whichever list it is in; false if it is in none.
    ///
    /// BEP 33: "<Infohash,IP> tuples in the database must be unique while port numbers, seed status
    /// and other values may be updated". In a local network one host may run many peers.
    fn remove(&mut self, peer: A) -> bool {
        for peers in [&mut self.downloaders, &mut self.seeds] {
            let found = if peer.scope() == Scope::Global {
                range_of(peers, peer, Addr::ip)
            } else {
                range_of(peers, peer, Addr::compact)
            };
            if !found.is_empty() {
                peers.drain(found);
                return true;
            }
        }
        false
    }

    fn retain(&mut self, mut keep: impl FnMut(&Peer<A>) -> bool) {
        self.downloaders.retain(&mut keep);
        self.seeds.retain(&mut keep);
        self.first_expiry = self.peers().map(|peer| peer.expires).min().unwrap_or(u32::MAX);
    }

    /// Which peer has to go before `newcomer` comes: the oldest of its network if that has its
    /// share, otherwise the oldest of all if the torrent is full. Local networks have no share.
    fn displaced_by(&self, newcomer: A, max: usize) -> Option<A> {
        let network = |peers| range_of(peers, newcomer, Addr::subnet);
        let neighbours = || {
            let downloaders = self.downloaders.get(network(&self.downloaders));
            let seeds = self.seeds.get(network(&self.seeds));
            downloaders.into_iter().flatten().chain(seeds.into_iter().flatten())
        };
        let share = (max / SHARES).max(MIN_SHARE);
        let oldest = if newcomer.scope() == Scope::Global && neighbours().count() >= share {
            neighbours().min_by_key(|peer| peer.expires)
        } else if self.len() >= max {
            self.peers().min_by_key(|peer| peer.expires)
        } else {
            None
        };
        oldest.map(|peer| A::from_compact(peer.addr))
    }

    fn check_invariants(&self, config: &Config) {
        assert!(self.len() > 0, "no empty torrents");
        assert!(self.len() <= config.max_peers_per_torrent, "peers per torrent are bounded");
        for peers in [&self.downloaders, &self.seeds] {
            assert!(peers.is_sorted_by(|a, b| a.addr < b.addr), "sorted by address, none twice");
        }
        let same_host = |pair: &[Peer<A>]| match pair {
            [a, b] => {
                let (a, b) = (A::from_compact(a.addr), A::from_compact(b.addr));
                a.ip() == b.ip() && a.scope() == Scope::Global
            }
            _ => false,
        };
        assert!(![&self.downloaders, &self.seeds].iter().any(|l| l.windows(2).any(same_host)));
        let both = |peer: &Peer<A>| {
            self.seeds.binary_search_by_key(&peer.addr, |other| other.addr).is_ok()
        };
        assert!(!self.downloaders.iter().any(both), "nobody is seed and downloader");
        assert!(self.peers().all(|peer| peer.expires >= self.first_expiry), "a lower bound");
    }
}

/// Where the peers are that share `key` with `addr`: the key grows with the address.
fn range_of<A: Addr, K: Ord>(peers: &[Peer<A>], addr: A, key: impl Fn(A) -> K) -> Range<usize> {
    let wanted = key(addr);
    let start = peers.partition_point(|peer| key(A::from_compact(peer.addr)) < wanted);
    let end = peers.partition_point(|peer| key(A::from_compact(peer.addr)) <= wanted);
    start..end
}

/// The second that `now` is in, saturating after 136 years.
fn whole_secs(now: Instant) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
