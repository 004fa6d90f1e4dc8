//! Nodes that may become contacts: bounded, never handed out.

use alloc::vec::Vec;

use super::Limits;
use super::bucket::{self, BUCKETS};
use super::contact::{Contact, NEVER, Ticks, same_ip};
use crate::addr::{Addr, Scope};
use crate::config::Config;
use crate::id::NodeId;

/// Verified candidates that wait for a place in one bucket, at most.
const WAITING_PER_BUCKET: usize = 4;
/// Once so many have come to wait for a bucket, nobody else does in the same term. When a contact fails,
/// whoever answers next takes its place, and needs none of them.
const ENOUGH: usize = 2;
/// How long a term is, in ticks: 60 s.
const TERM: Ticks = 600;
/// Capacity is added in steps of this, because a process may hold a million tables.
const GROWTH: usize = 2;
/// A candidate that leaves this many pings without an answer is forgotten.
const MAX_PINGS: u8 = 2;
/// Pause before an unanswered candidate is pinged again, in ticks: 60 s.
const RETRY: Ticks = 600;

/// What is known of a candidate. Later ones take the place of earlier ones when the list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It sent us a query.
    Unsolicited,
    /// The user or another node told us of it.
    Offered,
    /// It answered a query of ours and waits for a place.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<A: Addr> {
    pub(super) id: Option<NodeId>,
    pub(super) compact: A::Compact,
    /// When it was last heard, or heard of.
    pub(super) heard: Ticks,
    /// When it should be pinged; [`NEVER`] while it waits for a place.
    pub(super) due: Ticks,
    pub(super) rtt: u16,
    pub(super) standing: Standing,
    pings: u8,
}

const _: () = assert!(size_of::<Candidate<core::net::SocketAddrV4>>() == 40);

impl<A: Addr> Candidate<A> {
    /// A node that has yet to answer.
    pub(super) fn unverified(
        now: Ticks,
        id: Option<NodeId>,
        addr: A,
        standing: Standing,
        due: Ticks,
    ) -> Self {
        Self { id, compact: addr.compact(), heard: now, due, rtt: 0, standing, pings: 0 }
    }

    /// A node that answered and found no place.
    pub(super) fn waiting(contact: &Contact<A>) -> Self {
        Self {
            id: Some(contact.id()),
            compact: *contact.compact(),
            heard: contact.heard(),
            due: NEVER,
            rtt: contact.rtt_millis(),
            standing: Standing::Waiting,
            pings: 0,
        }
    }

    pub(super) fn addr(&self) -> A {
        A::from_compact(self.compact)
    }

    pub(super) fn bucket(&self, own: NodeId) -> Option<usize> {
        self.id.map(|id| bucket::index(own, id))
    }

    /// The bucket that it waits for, if it does.
    fn waits_for(&self, own: NodeId) -> Option<usize> {
        if self.standing == Standing::Waiting { self.bucket(own) } else { None }
    }

    /// A ping leaves for the candidate. Whether it is worth remembering until the answer.
    pub(super) fn pinged(&mut self, now: Ticks) -> bool {
        self.pings += 1;
        self.due = now.saturating_add(RETRY);
        self.pings < MAX_PINGS
    }

    /// Whoever waited for a place shall be pinged now. Whether the candidate did.
    pub(super) fn wake(&mut self, now: Ticks) -> bool {
        let waited = self.standing == Standing::Waiting;
        if waited {
            self.due = now;
            self.standing = Standing::Offered;
        }
        waited
    }

    /// Whether the two cannot both be listed: one per IP, and per endpoint in local networks.
    fn clashes(&self, other: &Self) -> bool {
        self.compact == other.compact
            || (same_ip::<A>(&self.compact, &other.compact) && self.addr().scope() == Scope::Global)
    }
}

/// The list of candidates: at most `config.max_candidates`, half of them unsolicited.
#[derive(Debug)]
pub(super) struct Candidates<A: Addr> {
    list: Vec<Candidate<A>>,
    unsolicited: usize,
    /// When the present term began.
    term: Ticks,
    /// Bit i: for bucket i enough wait who were heard in this term.
    served: u32,
}

impl<A: Addr> Candidates<A> {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new(), unsolicited: 0, term: 0, served: 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate<A>> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The most heap bytes that candidates can take up.
    pub(super) fn ceiling(config: &Config) -> usize {
        (config.max_candidates + 2 * GROWTH) * size_of::<Candidate<A>>()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Candidate<A>>()
    }

    /// Whether an unsolicited candidate would find no place: O(1), because everybody may ask us.
    pub(super) fn is_full_for_strangers(&self, config: &Config) -> bool {
        self.unsolicited >= config.max_candidates / 2 || self.list.len() >= config.max_candidates
    }

    /// Lists a candidate, if there is a place for it or somebody of lower standing to replace.
    pub(super) fn admit(&mut self, new: Candidate<A>, own: NodeId, config: &Config) -> bool {
        if new.standing == Standing::Unsolicited
            && self.is_full_for_strangers(config)
            && !self.displace_stranger(&new, own)
        {
            return false;
        }
        let rival = match self.rival(&new, own, config) {
            Rival::Nobody => None,
            Rival::At(i) => Some(i),
            Rival::Stays => return false,
        };
        if let Some(rival) = rival {
            self.remove_at(rival, own);
        }
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(GROWTH);
        }
        self.unsolicited += usize::from(new.standing == Standing::Unsolicited);
        self.list.push(new);
        if let Some(bucket) = new.waits_for(own) {
            let (term, list) = (self.term, &self.list);
            let waits = |c: &&Candidate<A>| c.heard >= term && c.waits_for(own) == Some(bucket);
            let served = list.iter().filter(waits).count() >= ENOUGH;
            self.served |= u32::from(served) << bucket;
        }
        true
    }

    /// Whether enough wait for a bucket who were heard lately. Then another is no better than they are,
    /// and is not looked at.
    pub(super) fn has_enough(&mut self, bucket: usize, now: Ticks) -> bool {
        if now.saturating_sub(self.term) >= TERM {
            (self.term, self.served) = (now, 0);
        }
        self.served >> bucket & 1 != 0
    }

    /// Our id is another: nobody waits for the bucket that it waited for.
    pub(super) fn sort_anew(&mut self) {
        self.served = 0;
    }

    /// Makes room for a stranger in place of the one farthest from us, if that is farther. Whether it
    /// did.
    fn displace_stranger(&mut self, new: &Candidate<A>, own: NodeId) -> bool {
        if self.list.iter().any(|old| old.clashes(new)) {
            return false;
        }
        let distance = |candidate: &Candidate<A>| candidate.id.map(|id| id.distance(own.target()));
        let strangers =
            self.list.iter().enumerate().filter(|(_, old)| old.standing == Standing::Unsolicited);
        let farthest = strangers.max_by_key(|(_, old)| distance(old));
        let Some((i, _)) = farthest.filter(|(_, old)| distance(new) < distance(old)) else {
            return false;
        };
        self.remove_at(i, own);
        true
    }

    /// Whether somebody is listed at an address.
    pub(super) fn has(&self, compact: &A::Compact) -> bool {
        self.list.iter().any(|candidate| candidate.compact == *compact)
    }

    /// Forgets the candidate at an address.
    pub(super) fn remove(&mut self, compact: &A::Compact, own: NodeId) -> Option<Candidate<A>> {
        let i = self.list.iter().position(|candidate| candidate.compact == *compact)?;
        Some(self.remove_at(i, own))
    }

    /// Keeps those that `keep` approves of, after it has perhaps changed when they are due.
    pub(super) fn retain(&mut self, keep: impl FnMut(&mut Candidate<A>) -> bool) {
        let waiting = self.count(Standing::Waiting);
        self.list.retain_mut(keep);
        self.unsolicited = self.count(Standing::Unsolicited);
        if self.count(Standing::Waiting) != waiting {
            self.served = 0;
        }
        self.shrink();
    }

    fn count(&self, standing: Standing) -> usize {
        self.list.iter().filter(|candidate| candidate.standing == standing).count()
    }

    /// Who must go so that the newcomer can be listed.
    fn rival(&self, new: &Candidate<A>, own: NodeId, config: &Config) -> Rival {
        if let Some(i) = self.list.iter().position(|old| old.clashes(new)) {
            return self.yields_to(i, new);
        }
        if new.addr().scope() == Scope::Global
            && let Some(i) = self.crowding(new, config)
        {
            return self.yields_to(i, new);
        }
        if new.standing == Standing::Waiting
            && let Some(i) = self.most_patient(new.waits_for(own), own)
        {
            // The one seen last is the likeliest to be alive (Kademlia's replacement cache).
            return Rival::At(i);
        }
        if self.list.len() < config.max_candidates {
            return Rival::Nobody;
        }
        let lower = self.list.iter().enumerate().filter(|(_, old)| old.standing < new.standing);
        let least = lower.min_by_key(|(_, old)| (old.standing, core::cmp::Reverse(old.heard)));
        least.map_or(Rival::Stays, Rival::from)
    }

    /// The one seen longest ago of those that wait for a bucket, if no more may.
    fn most_patient(&self, bucket: Option<usize>, own: NodeId) -> Option<usize> {
        let bucket = bucket?;
        let (mut peers, mut oldest) = (0, None);
        for (i, old) in self.list.iter().enumerate() {
            if old.waits_for(own) == Some(bucket) {
                peers += 1;
                if oldest.is_none_or(|(_, heard)| old.heard < heard) {
                    oldest = Some((i, old.heard));
                }
            }
        }
        oldest.filter(|_| peers >= WAITING_PER_BUCKET).map(|(i, _)| i)
    }

    /// The lowest of those that fill up the newcomer's network, if it is full.
    fn crowding(&self, new: &Candidate<A>, config: &Config) -> Option<usize> {
        let limits = Limits::of::<A>(config);
        let subnet = new.addr().subnet();
        limits.candidate_networks().find_map(|(shift, limit)| {
            let same = self.list.iter().enumerate().filter(|(_, old)| {
                old.addr().subnet() >> shift == subnet >> shift
                    && old.addr().scope() == Scope::Global
            });
            let full = same.clone().count() >= limit;
            same.min_by_key(|(_, old)| old.standing).filter(|_| full).map(|(i, _)| i)
        })
    }

    fn yields_to(&self, i: usize, new: &Candidate<A>) -> Rival {
        match self.list.get(i) {
            Some(old) if old.standing < new.standing => Rival::At(i),
            Some(old) if old.compact == new.compact && new.standing == Standing::Waiting => {
                Rival::At(i)
            }
            _ => Rival::Stays,
        }
    }

    fn remove_at(&mut self, i: usize, own: NodeId) -> Candidate<A> {
        let removed = self.list.remove(i);
        if let Some(bucket) = removed.waits_for(own) {
            self.served &= !(1 << bucket);
        }
        self.unsolicited -= usize::from(removed.standing == Standing::Unsolicited);
        self.shrink();
        removed
    }

    fn shrink(&mut self) {
        if self.list.is_empty() {
            self.list = Vec::new();
        } else if self.list.capacity() - self.list.len() > 2 * GROWTH {
            self.list.shrink_to(self.list.len() + GROWTH);
        }
    }

    /// Panics if the list breaks its bounds.
    pub(super) fn check_invariants(&self, own: NodeId, config: &Config) {
        assert!(self.list.len() <= config.max_candidates);
        assert!(self.list.capacity() <= self.list.len() + 2 * GROWTH);
        assert_eq!(self.unsolicited, self.count(Standing::Unsolicited));
        assert!(self.unsolicited <= config.max_candidates / 2);
        for bucket in (0..BUCKETS).filter(|bucket| self.served >> bucket & 1 != 0) {
            let lately = |c: &&Candidate<A>| c.heard >= self.term;
            let waits = self.list.iter().filter(|c| c.waits_for(own) == Some(bucket));
            assert!(waits.filter(lately).count() >= ENOUGH, "enough wait");
        }
        for (i, candidate) in self.list.iter().enumerate() {
            assert_ne!(candidate.id, Some(own));
            assert!(!self.list.iter().skip(i + 1).any(|other| candidate.clashes(other)));
            let waits = candidate.standing == Standing::Waiting;
            assert_eq!(candidate.due == NEVER, waits);
            assert!(!waits || candidate.id.is_some());
        }
    }
}

/// What stands in the way of a newcomer.
enum Rival {
    Nobody,
    /// This one yields.
    At(usize),
    /// Somebody who does not yield.
    Stays,
}

impl<T> From<(usize, T)> for Rival {
    fn from((i, _): (usize, T)) -> Self {
        Self::At(i)
    }
}
