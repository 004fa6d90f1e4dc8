//! How far a walk is: the nearest eligible candidates, kept up to date from event to event.

use alloc::vec::Vec;

use crate::ahead::ReadAhead;
use crate::config::MAX_K;
use crate::footprint;

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many are eligible, up to k.
    pub(crate) eligible: usize,
    /// Whether some of them did not answer yet.
    pub(crate) open: bool,
}

/// An eligible candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The first word of its distance, which tells all but forged neighbours apart.
    pub(super) high: u64,
    /// Its network, of which only one counts, or 0.
    pub(super) network: u64,
    /// Where it stands among all candidates.
    pub(super) place: u16,
    /// It was not asked yet.
    pub(super) is_new: bool,
    pub(super) replied: bool,
    /// It keeps somebody off the list who is in its network.
    pub(super) crowds: bool,
}

/// The nearest eligible candidates, k and some more, so that not all candidates have to be looked at when
/// one of the k leaves.
///
/// They are the same in whatever order candidates are offered: whoever has a nearer one in his network, or
/// enough of different networks, does not count again when more come.
#[derive(Debug)]
pub(super) struct Survey {
    k: usize,
    /// Nearest first. Nobody eligible who is not listed is nearer than any of them.
    listed: Vec<Listed>,
    /// A bit for the network of each, and of some who are listed no more: most have one that nobody else has.
    networks: u64,
    /// Somebody eligible may be farther than all that are listed.
    has_more: bool,
    /// Somebody left who kept others off the list: it says nothing now.
    is_void: bool,
}

impl Survey {
    pub(super) const fn new(k: usize) -> Self {
        Self { k, listed: Vec::new(), networks: 0, has_more: false, is_void: false }
    }

    pub(super) fn reserve(&mut self) {
        self.listed.reserve_exact(room(self.k));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        footprint::room::<Listed>(self.listed.capacity())
    }

    /// The most heap bytes that it can take up.
    pub(super) const fn memory_ceiling() -> usize {
        footprint::list::<Listed>(room(MAX_K))
    }

    /// See `Dht::read_ahead`.
    pub(super) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        if step == 3 {
            ahead.line(&self.listed);
            ahead.line(&self.is_void);
        } else {
            ahead.lines::<_, 5>(&self.listed);
        }
    }

    pub(super) const fn k(&self) -> usize {
        self.k
    }

    /// Whether all candidates must be offered again to know the k nearest.
    pub(super) const fn is_due(&self) -> bool {
        self.is_void || (self.has_more && self.listed.len() < self.k)
    }

    /// Forgets all, before they are offered again.
    pub(super) fn clear(&mut self) {
        self.listed.clear();
        (self.networks, self.has_more, self.is_void) = (0, false, false);
    }

    /// Passes over somebody eligible who is farther than all that can be listed, whoever it is.
    #[inline]
    pub(super) fn is_beyond(&mut self, high: u64) -> bool {
        let is_closed = self.has_more || self.listed.len() >= room(self.k);
        let is_beyond = is_closed && self.listed.last().is_none_or(|last| last.high < high);
        self.has_more |= is_beyond;
        is_beyond
    }

    /// An eligible candidate that is not listed takes its turn, if it has one. `is_nearer` says whether the
    /// one at a place is nearer, of two whom first words do not tell apart.
    pub(super) fn offer(&mut self, mut new: Listed, is_nearer: impl Fn(usize) -> bool) {
        let mut turn = self.listed.partition_point(|other| other.high < new.high);
        let is_tied = |other: &Listed| other.high == new.high && is_nearer(other.place.into());
        while self.listed.get(turn).is_some_and(is_tied) {
            turn += 1;
        }
        let crowded = self.turn_of_network(new.network);
        if let Some(nearer) = crowded.filter(|other| *other < turn) {
            self.listed.get_mut(nearer).into_iter().for_each(|nearer| nearer.crowds = true);
            return;
        }
        let len = self.listed.len();
        let is_full = len >= room(self.k);
        if turn >= len && (self.has_more || is_full) {
            self.has_more = true;
            return;
        }
        new.crowds = crowded.is_some();
        self.networks |= network_bit(new.network);
        // One whom it crowds out makes room, or else the last.
        let gap = crowded.unwrap_or(if is_full { len - 1 } else { len });
        if gap == len {
            self.listed.push(new);
        }
        self.has_more |= is_full && crowded.is_none();
        self.listed.copy_within(turn..gap, turn + 1);
        self.listed.get_mut(turn).into_iter().for_each(|listed| *listed = new);
    }

    /// Who is listed for this network.
    fn turn_of_network(&self, network: u64) -> Option<usize> {
        let is_free = network == 0 || self.networks & network_bit(network) == 0;
        if is_free { None } else { self.listed.iter().position(|other| other.network == network) }
    }

    /// The candidate at this place is eligible no more, or not as it was.
    pub(super) fn leave(&mut self, place: usize) {
        if let Some(turn) = self.listed.iter().position(|listed| usize::from(listed.place) == place)
        {
            self.is_void |= self.listed.remove(turn).crowds;
        }
    }

    /// The candidate at this place, which had been asked, answered.
    pub(super) fn answered(&mut self, place: usize) {
        let is_it = |listed: &&mut Listed| usize::from(listed.place) == place;
        self.listed.iter_mut().find(is_it).into_iter().for_each(|listed| listed.replied = true);
    }

    /// The k nearest.
    fn nearest(&self) -> &[Listed] {
        self.listed.get(..self.k).unwrap_or(&self.listed)
    }

    /// Whether one of the k nearest was not asked yet.
    pub(super) fn has_new(&self) -> bool {
        self.nearest().iter().any(|listed| listed.is_new)
    }

    /// The place of the nearest of them, who is asked now.
    pub(super) fn take_new(&mut self) -> Option<usize> {
        let next = self.listed.iter_mut().take(self.k).find(|listed| listed.is_new)?;
        next.is_new = false;
        Some(next.place.into())
    }

    pub(super) fn progress(&self) -> Progress {
        let nearest = self.nearest();
        Progress { eligible: nearest.len(), open: nearest.iter().any(|listed| !listed.replied) }
    }

    /// The first word of the distance of the k-th.
    pub(super) fn farthest(&self) -> Option<u64> {
        self.listed.get(self.k - 1).map(|listed| listed.high)
    }

    /// Whether it says what one made anew does. Who crowds whom farther than all listed does not matter.
    pub(super) fn check(&self, anew: &Self) {
        let with = |listed: &Listed, crowds| Listed { crowds, ..*listed };
        let both = self.listed.iter().zip(&anew.listed);
        let same = both.clone().all(|(listed, other)| *listed == with(other, listed.crowds));
        let all = if self.has_more { both.count() } else { anew.listed.len() };
        assert!(same && all == self.listed.len(), "{self:?} for {anew:?}");
    }

    #[cfg(test)]
    pub(super) fn next(&self) -> Option<usize> {
        self.nearest().iter().find(|listed| listed.is_new).map(|listed| listed.place.into())
    }
}

/// A bit that few networks share.
const fn network_bit(network: u64) -> u64 {
    1 << (network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// How many are listed: a fifth of those who are asked stay silent.
const fn room(k: usize) -> usize {
    k + k / 2
}
