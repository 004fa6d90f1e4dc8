//! Our external address, as others see it (BEP 42 `ip`): what enough of them agree on.
//!
//! The rules are those that libtorrent's `ip_voter` has proven in the field.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::addr::{Addr, Family, Scope};
use crate::time::Instant;

/// Votes after which a round may end.
const ENOUGH_VOTES: usize = 50;
/// Votes after which a round may end while no address is agreed on.
const ENOUGH_FIRST_VOTES: usize = 25;
/// Votes after which a round without a majority is given up.
const MAX_VOTES: usize = 2 * ENOUGH_VOTES;
/// Age at which a round may end whatever the number of votes.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// Addresses voted for in one round, at most.
const MAX_ADDRESSES: usize = 40;
/// A single vote decides nothing.
const MIN_VOTES: u16 = 2;

/// Counts votes for the address of one family, round by round.
#[derive(Debug)]
pub struct Voter<A: Addr> {
    agreed: Option<IpAddr>,
    /// When the first vote of the round came.
    since: Instant,
    /// Who voted in this round, sorted. Empty between rounds.
    sources: Vec<u64>,
    /// What they voted for, in order of the first vote, and how many did.
    votes: Vec<(A::Compact, u16)>,
}

impl<A: Addr> Default for Voter<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Addr> Voter<A> {
    /// Nothing is agreed on.
    #[must_use]
    pub const fn new() -> Self {
        Self { agreed: None, since: Instant::ZERO, sources: Vec::new(), votes: Vec::new() }
    }

    /// The address that was last agreed on.
    #[must_use]
    pub const fn agreed(&self) -> Option<IpAddr> {
        self.agreed
    }

    /// The most bytes that a voter can take up, itself included.
    #[must_use]
    pub const fn memory_ceiling() -> usize {
        // A growing vector may be up to twice as large as its contents.
        size_of::<Self>()
            + 2 * MAX_VOTES * size_of::<u64>()
            + 2 * MAX_ADDRESSES * size_of::<(A::Compact, u16)>()
    }

    /// The node at `voter` says that it sees us at `seen`. Returns the agreed address if this vote
    /// changed it.
    ///
    /// Only votes that came with an answer to a query of ours may be passed here.
    pub fn vote(&mut self, now: Instant, voter: A, seen: IpAddr) -> Option<IpAddr> {
        let seen = A::from_socket_addr(SocketAddr::new(seen, 1))?;
        if voter.scope() == Scope::Invalid || !seen.is_credible_from(voter) {
            return None;
        }
        if self.sources.is_empty() {
            self.since = now;
        }
        let source = source(voter);
        if let Err(place) = self.sources.binary_search(&source) {
            self.sources.insert(place, source);
            self.count(seen.compact());
        }
        self.end_round(now)
    }

    fn count(&mut self, seen: A::Compact) {
        if let Some((_, count)) = self.votes.iter_mut().find(|(addr, _)| *addr == seen) {
            *count += 1;
            return;
        }
        if self.votes.len() >= MAX_ADDRESSES {
            // Liars who each name another address must not keep ours out.
            let Some(single) = self.votes.iter().position(|&(_, count)| count < MIN_VOTES) else {
                return;
            };
            self.votes.remove(single);
        }
        self.votes.push((seen, 1));
    }

    /// Ends the round if it is time and there is a winner.
    fn end_round(&mut self, now: Instant) -> Option<IpAddr> {
        let enough = if self.agreed.is_none() { ENOUGH_FIRST_VOTES } else { ENOUGH_VOTES };
        if self.sources.len() < enough && now.since(self.since) < ROUND {
            return None;
        }
        let winner = self.winner();
        if winner.is_none() && self.sources.len() < MAX_VOTES {
            // No majority yet; more votes may bring one.
            return None;
        }
        self.sources = Vec::new();
        self.votes = Vec::new();
        let winner = winner?;
        if self.agreed == Some(winner) {
            return None;
        }
        self.agreed = Some(winner);
        Some(winner)
    }

    /// The address with a clear majority: the second has less than two thirds of its votes.
    fn winner(&self) -> Option<IpAddr> {
        let (mut first, mut second) = (None, 0);
        for &(addr, count) in &self.votes {
            match first {
                Some((_, most)) if count <= most => second = second.max(count),
                Some((_, most)) => (first, second) = (Some((addr, count)), most),
                None => first = Some((addr, count)),
            }
        }
        let (addr, count) = first?;
        let clear = count >= MIN_VOTES && u32::from(second) * 3 < u32::from(count) * 2;
        clear.then(|| A::from_compact(addr).ip())
    }

    /// Panics if a bound or an ordering is broken.
    pub fn check_invariants(&self) {
        assert!(self.sources.len() < MAX_VOTES && self.votes.len() <= MAX_ADDRESSES);
        assert!(self.sources.is_sorted_by(|a, b| a < b));
        assert!(self.votes.iter().all(|&(_, count)| count > 0));
        let counted: usize = self.votes.iter().map(|&(_, count)| usize::from(count)).sum();
        assert!(counted <= self.sources.len());
    }
}

/// What has one vote: an IPv4 address, or a /64, of which one host may use every address.
fn source<A: Addr>(voter: A) -> u64 {
    match (A::FAMILY, voter.ip()) {
        (Family::V4, IpAddr::V4(ip)) => u64::from(u32::from(ip)),
        _ if voter.scope() == Scope::Global => voter.subnet(),
        // Hosts of a local network share their /64.
        (_, IpAddr::V6(ip)) => u128::from(ip) as u64,
        (_, IpAddr::V4(_)) => voter.subnet(),
    }
}
