//! The routing table: the verified contacts of one network, and those that may become some.
//!
//! One vector holds all contacts, sorted by distance from our own id, so that each bucket is a
//! range of it. There is nothing to split (Kademlia's buckets are fixed prefixes here, each with
//! room for k contacts, the farthest with more), and the closest contacts to any target are found
//! by walking the vector as a trie.
//!
//! A node enters only by answering a query of ours. Contacts that answer keep their places
//! against all but clearly better newcomers, so an attacker cannot flush them out.

use core::time::Duration;

use crate::addr::{Addr, Family, Scope};
use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::id::{NodeId, Target};
use crate::time::Instant;
use bucket::BUCKETS;
use candidates::Candidates;
use closest::Records;
pub use contact::Contact;
use contact::Ticks;
use contacts::Contacts;

mod bucket;
mod candidates;
mod closest;
mod contact;
mod contacts;
mod entry;
mod settle;
mod upkeep;

/// Pause between pings while the table has room for anybody. A fresh network grows in seconds.
const HURRIED_PING_INTERVAL: Duration = Duration::from_millis(100);
/// The table is in a hurry until it holds this many times k contacts.
const HURRIED_UNTIL: usize = 4;

/// What an answer of a node did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The node is a contact now.
    Added,
    /// The node was a contact before.
    Updated,
    /// Its bucket is full of better contacts; it takes the next place that gets free.
    Waiting,
    /// Its address or network is taken, or cannot be a node's, or enough others wait already.
    Refused,
    /// A contact answered under another id, and is no contact any more.
    IdChanged,
}

/// The routing table of one node. In this order, so that what is read for most datagrams stands together.
#[derive(Debug)]
#[repr(C)]
pub struct Table<A: Addr> {
    /// Nothing is to be pinged before this.
    ping_at: Instant,
    /// No bucket is to be refreshed before this.
    refresh_at: Instant,
    own: NodeId,
    /// Bit i: bucket i is to be refreshed whatever its news.
    unexplored: u32,
    contacts: Contacts<A>,
    candidates: Candidates<A>,
    /// When the latest ping left.
    last_ping: Option<Instant>,
    /// When each bucket last got a contact or was refreshed.
    news: [Ticks; BUCKETS],
}

impl<A: Addr> Table<A> {
    /// An empty table of the node with this id.
    #[must_use]
    pub const fn new(own: NodeId) -> Self {
        Self {
            own,
            contacts: Contacts::new(),
            candidates: Candidates::new(),
            news: [0; BUCKETS],
            unexplored: 0,
            ping_at: Instant::FAR_FUTURE,
            last_ping: None,
            refresh_at: Instant::FAR_FUTURE,
        }
    }

    /// See `Dht::read_ahead`: the table itself.
    pub(crate) fn read_ahead(&self, ahead: &mut impl ReadAhead) {
        ahead.line(&self.ping_at);
        self.contacts.read_ahead(ahead);
    }

    /// The same of the contacts that are in one bucket with this point.
    pub(crate) fn read_around(&self, target: Target, ahead: &mut impl ReadAhead) {
        self.contacts.read_around(bucket::at(&self.own.distance(target)), ahead);
    }

    /// Our own id.
    #[must_use]
    pub const fn own_id(&self) -> NodeId {
        self.own
    }

    /// All contacts, nearest to our own id first.
    #[must_use]
    pub fn contacts(&self) -> &[Contact<A>] {
        &self.contacts
    }

    /// The contact with this id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Contact<A>> {
        self.contacts.get(self.search(id).ok()?)
    }

    /// The contact at an address, which probably has this id.
    pub(crate) fn at(&self, id: NodeId, addr: A) -> Option<&Contact<A>> {
        self.contacts.get(self.position(Some(id), &addr.compact())?)
    }

    /// Whether hardly anybody is known, so that pings may follow each other quickly.
    #[must_use]
    pub fn is_hurried(&self, config: &Config) -> bool {
        self.contacts.len() < HURRIED_UNTIL * config.k
    }

    /// A digest of who our `k` nearest contacts are, in whatever order.
    #[must_use]
    pub(crate) fn neighbourhood(&self, k: usize) -> u64 {
        let nearest = self.contacts.iter().take(k);
        // Neighbours share their first bits, and BEP 42 fixes others; the last eight bytes are free.
        let digest = |contact: &Contact<A>| {
            let id = contact.id();
            id.as_bytes().last_chunk::<8>().map_or(0, |tail| u64::from_be_bytes(*tail))
        };
        nearest.fold(0, |all, contact| all ^ digest(contact))
    }

    /// Number of contacts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Whether there are no contacts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contacts.is_empty()
    }

    /// Number of candidates, at most [`Config::max_candidates`].
    #[must_use]
    pub fn candidates_len(&self) -> usize {
        self.candidates.len()
    }

    /// The candidates, with their ids as far as they are known.
    pub fn unverified(&self) -> impl Iterator<Item = (Option<NodeId>, A)> {
        self.candidates.iter().map(|candidate| (candidate.id, candidate.addr()))
    }

    /// Number of buckets from the farthest to the deepest that holds a contact.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.contacts.first().map_or(0, |contact| self.bucket_of(contact) + 1)
    }

    /// How many contacts each bucket holds, from the farthest to the nearest.
    pub fn bucket_sizes(&self) -> impl Iterator<Item = usize> {
        (0..BUCKETS).map(|bucket| self.bucket(bucket).len())
    }

    /// The most contacts that a table can hold.
    #[must_use]
    pub fn max_len(config: &Config) -> usize {
        (0..BUCKETS).map(|i| bucket::capacity(i, config)).sum()
    }

    /// The most bytes that a table can take up, itself included.
    #[must_use]
    pub fn memory_ceiling(config: &Config) -> usize {
        size_of::<Self>()
            + Contacts::<A>::ceiling(Self::max_len(config))
            + Candidates::<A>::ceiling(config)
    }

    /// The bytes that the table takes up now, itself included.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.contacts.heap_bytes() + self.candidates.heap_bytes()
    }

    /// Estimates the number of nodes in the network.
    ///
    /// Below the nearest full bucket every node is expected to be known. m points of a random
    /// set that come before distance d, the m-th at d, tell a density of (m - 1) / d.
    #[must_use]
    pub fn size_estimate(&self, config: &Config) -> f64 {
        let mut known = 0;
        for group in self.contacts.chunk_by(|a, b| self.bucket_of(a) == self.bucket_of(b)) {
            let full = group.first().is_none_or(|contact| {
                group.len() >= bucket::capacity(self.bucket_of(contact), config)
            });
            if full && known > 1 {
                break;
            }
            known += group.len();
        }
        let known = known.max(config.k).min(self.len());
        let Some(last) = known.checked_sub(1).and_then(|i| self.contacts.get(i)) else {
            return 0.0;
        };
        let share = last.id().distance(self.own.target()).fraction();
        #[expect(clippy::cast_precision_loss, reason = "an estimate of at most 500 contacts")]
        let (before, all) = (known.saturating_sub(1) as f64, self.len() as f64);
        // The table itself is a lower bound, and keeps a distance of zero out of the result.
        if share > 0.0 { (before / share).max(all) } else { all }
    }

    /// Calls `visit` with the contacts in order of distance from `target`, nearest first, until it
    /// returns false. Contacts that failed twice in a row are left out.
    pub fn closest(&self, target: Target, mut visit: impl FnMut(&Contact<A>) -> bool) {
        let place = self.contacts.place_of(&self.own.distance(target), self.own);
        closest::walk(&self.contacts, place, target, &mut |contact| {
            !contact.is_good() || visit(contact)
        });
    }

    /// Writes the `n` contacts closest to `target` as compact nodes (BEP 5 "Contact Encoding"),
    /// as many as `out` has room for, in no order. Returns the number of bytes.
    ///
    /// Contacts in one bucket with the target are nearer to it than those in deeper ones, which share
    /// all bits before the bucket's own with it, and those are nearer than the farther buckets, each
    /// of which shares one bit less. Only of the last of these that is needed some have to be chosen.
    pub fn closest_compact(&self, target: Target, n: usize, out: &mut [u8]) -> usize {
        let bucket = bucket::at(&self.own.distance(target));
        let mut records = Records::new::<A>(n, out);
        let room = records.left();
        let _ = records.write_block(self.bucket(bucket), target)
            && records.write_block(self.contacts.deeper(bucket), target)
            && (0..bucket).rev().all(|farther| records.write_block(self.bucket(farther), target));
        (room - records.left()) * A::NODE_LEN
    }

    fn bucket_of(&self, contact: &Contact<A>) -> usize {
        bucket::index(self.own, contact.id())
    }

    /// Whether a bucket has no place left.
    fn is_full(&self, bucket: usize, config: &Config) -> bool {
        self.bucket(bucket).len() >= bucket::capacity(bucket, config)
    }

    fn bucket(&self, bucket: usize) -> &[Contact<A>] {
        self.contacts.of_bucket(bucket)
    }

    /// Where a contact with this id is, or would be.
    fn search(&self, id: NodeId) -> Result<usize, usize> {
        self.contacts.search(id, self.own)
    }

    /// The contact at an address: fast if it has this id or nobody is there, a scan otherwise.
    fn position(&self, id: Option<NodeId>, compact: &A::Compact) -> Option<usize> {
        if !self.contacts.may_have(A::from_compact(*compact)) {
            return None;
        }
        let fits = |i: &usize| self.contacts.get(*i).is_some_and(|c| c.compact() == compact);
        id.and_then(|id| self.search(id).ok()).filter(fits).or_else(|| self.contacts.at(compact))
    }
}

/// How many contacts a bucket may hold; bucket i is for nodes that share i leading bits with us.
#[must_use]
pub fn bucket_capacity(bucket: usize, config: &Config) -> usize {
    bucket::capacity(bucket.min(BUCKETS - 1), config)
}

/// How many nodes one network may bring in.
struct Limits {
    per_subnet: usize,
    per_48: usize,
    per_32: usize,
    is_v6: bool,
}

impl Limits {
    fn of<A: Addr>(config: &Config) -> Self {
        Self {
            per_subnet: config.max_per_subnet_in_bucket.max(1),
            per_48: (config.max_per_allocation / 4).max(1),
            per_32: config.max_per_allocation.max(1),
            is_v6: A::FAMILY == Family::V6,
        }
    }

    /// Networks that are limited over the whole table: bits cut off a subnet, and the limit.
    ///
    /// One /44 holds an address for every id that BEP 42 allows, and a /32 is the smallest
    /// allocation that a provider gets, so subnets alone limit nobody on IPv6.
    fn allocations(&self) -> impl Iterator<Item = (u32, usize)> {
        [(16, self.per_48), (32, self.per_32)].into_iter().filter(|_| self.is_v6)
    }

    /// The same for the candidates, of which there are fewer.
    fn candidate_networks(&self) -> impl Iterator<Item = (u32, usize)> {
        let quarter = |(shift, limit): (u32, usize)| (shift, (limit / 4).max(1));
        [(0, self.per_subnet)].into_iter().chain(self.allocations().map(quarter))
    }
}

/// Whether one network may bring in any number of nodes: only our own may.
fn is_local<A: Addr>(addr: A) -> bool {
    addr.scope() < Scope::Global
}

#[cfg(test)]
mod tests;
