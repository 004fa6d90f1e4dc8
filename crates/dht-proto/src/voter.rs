//! Our external address, as others see it (BEP 42 `ip`): what enough of them agree on.
//!
//! The rules are those that libtorrent's `ip_voter` has proven in the field.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::addr::{Addr, Scope};
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
///
/// A round begins with the first vote for another address than the one agreed on: as long as all
/// agree there is nothing to count, and nothing to remember.
#[derive(Debug)]
pub struct Voter<A: Addr> {
    agreed: Option<IpAddr>,
    round: Option<Box<Round<A>>>,
}

/// Votes that are being counted.
#[derive(Debug)]
struct Round<A: Addr> {
    /// When the first vote came.
    since: Instant,
    /// Who voted, sorted.
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
        Self { agreed: None, round: None }
    }

    /// The address that was last agreed on.
    #[must_use]
    pub const fn agreed(&self) -> Option<IpAddr> {
        self.agreed
    }

    /// Starts where enough earlier votes would have led.
    pub const fn settle(&mut self, agreed: IpAddr) {
        self.agreed = Some(agreed);
    }

    /// The most bytes that a voter can take up, itself included.
    #[must_use]
    pub const fn memory_ceiling() -> usize {
        // A growing vector may be up to twice as large as its contents.
        size_of::<Self>()
            + size_of::<Round<A>>()
            + 2 * MAX_VOTES * size_of::<u64>()
            + 2 * MAX_ADDRESSES * size_of::<(A::Compact, u16)>()
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let heap = |round: &Round<A>| {
            size_of::<Round<A>>()
                + round.sources.capacity() * size_of::<u64>()
                + round.votes.capacity() * size_of::<(A::Compact, u16)>()
        };
        self.round.as_deref().map_or(0, heap)
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
        if self.round.is_none() && self.agreed == Some(seen.ip()) {
            return None;
        }
        let empty = || Box::new(Round { since: now, sources: Vec::new(), votes: Vec::new() });
        let round = self.round.get_or_insert_with(empty);
        let source = voter.operator();
        if let Err(place) = round.sources.binary_search(&source) {
            round.sources.insert(place, source);
            round.count(seen.compact());
        }
        let enough = if self.agreed.is_none() { ENOUGH_FIRST_VOTES } else { ENOUGH_VOTES };
        if !round.is_over(now, enough) {
            return None;
        }
        let winner = round.winner();
        self.round = None;
        if winner.is_none() || winner == self.agreed {
            return None;
        }
        self.agreed = winner;
        winner
    }

    /// Checks bounds and orderings, for tests.
    ///
    /// # Panics
    ///
    /// If one of them is broken.
    pub fn check_invariants(&self) {
        let Some(round) = &self.round else { return };
        assert!(!round.sources.is_empty() && round.sources.len() < MAX_VOTES);
        assert!(round.votes.len() <= MAX_ADDRESSES);
        assert!(round.sources.is_sorted_by(|a, b| a < b));
        assert!(round.votes.iter().all(|&(_, count)| count > 0));
        let counted: usize = round.votes.iter().map(|&(_, count)| usize::from(count)).sum();
        assert!(counted <= round.sources.len());
    }
}

impl<A: Addr> Round<A> {
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

    /// Whether it is time to decide. Without a majority more votes may bring one.
    fn is_over(&self, now: Instant, enough: usize) -> bool {
        let votes = self.sources.len();
        (votes >= enough || now.since(self.since) >= ROUND)
            && (votes >= MAX_VOTES || self.winner().is_some())
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
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

    use super::*;
    use crate::seed::{Domain, Seed, Stream};

    const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(51, 41, 61, 132));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(53, 33, 82, 194));

    fn stream() -> Stream {
        Seed::from_bytes([3; 32]).stream(Domain::Sample)
    }

    fn random_ip(stream: &mut Stream) -> Ipv4Addr {
        // 32.0.0.0/3 is all global.
        Ipv4Addr::from(0x2000_0000 | (stream.next() as u32 & 0x1fff_ffff))
    }

    fn random_voter(stream: &mut Stream) -> SocketAddrV4 {
        SocketAddrV4::new(random_ip(stream), 6881)
    }

    /// Time passes by a millisecond per vote.
    fn at(vote: u64) -> Instant {
        Instant::from_secs(10) + Duration::from_millis(vote)
    }

    fn agreed_on_ours(stream: &mut Stream) -> Voter<SocketAddrV4> {
        let mut votes = Voter::new();
        let changes: Vec<_> =
            (0..25).filter_map(|n| votes.vote(at(n), random_voter(stream), OURS)).collect();
        assert_eq!(changes, [OURS]);
        assert_eq!(votes.agreed(), Some(OURS));
        votes
    }

    #[test]
    fn test_random() {
        let mut stream = stream();
        let mut votes = Voter::new();
        for n in 0..1_000 {
            let seen = IpAddr::V4(random_ip(&mut stream));
            assert_eq!(votes.vote(at(n), random_voter(&mut stream), seen), None);
            votes.check_invariants();
        }
        assert_eq!(votes.agreed(), None);
    }

    #[test]
    fn two_ips() {
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        for n in 0..1_000 {
            let seen = if n % 2 == 0 { OURS } else { OTHER };
            assert_eq!(votes.vote(at(n), random_voter(&mut stream), seen), None);
            votes.check_invariants();
        }
        assert_eq!(votes.agreed(), Some(OURS));
        // Over any length of time.
        for n in 0..1_000 {
            let seen = if n % 2 == 0 { OURS } else { OTHER };
            let now = at(1_000) + Duration::from_secs(10 * n);
            assert_eq!(votes.vote(now, random_voter(&mut stream), seen), None);
        }
    }

    #[test]
    fn one_ip() {
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        for n in 0..1_000 {
            // Every tenth voter lies.
            let seen = if n % 10 == 0 { IpAddr::V4(random_ip(&mut stream)) } else { OURS };
            assert_eq!(votes.vote(at(n), random_voter(&mut stream), seen), None);
            votes.check_invariants();
        }
        assert_eq!(votes.agreed(), Some(OURS));
    }

    #[test]
    fn ip_voter_1() {
        // We have moved: the new address is agreed on, once.
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        let changes: Vec<_> = (0..200)
            .filter_map(|n| Some((n, votes.vote(at(n), random_voter(&mut stream), OTHER)?)))
            .collect();
        assert_eq!(changes, [(49, OTHER)]);
    }

    #[test]
    fn ip_voter_2() {
        // A source has one vote, however often and for however long it repeats it.
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        let liar = random_voter(&mut stream);
        for n in 0..1_000 {
            let now = at(n) + Duration::from_secs(n);
            assert_eq!(votes.vote(now, liar.with_port(n as u16), OTHER), None);
            votes.check_invariants();
        }
        assert_eq!(votes.agreed(), Some(OURS));
    }

    #[test]
    fn few_voters_agree_after_five_minutes() {
        let mut stream = stream();
        let mut votes = Voter::new();
        let later = |secs: u64| Instant::from_secs(10 + secs);
        assert_eq!(votes.vote(later(0), random_voter(&mut stream), OURS), None);
        assert_eq!(votes.vote(later(299), random_voter(&mut stream), OURS), None);
        assert_eq!(votes.vote(later(300), random_voter(&mut stream), OURS), Some(OURS));
    }

    #[test]
    fn a_minority_of_liars_never_wins() {
        let mut stream = stream();
        let mut votes = Voter::new();
        for n in 0..10_000 {
            // Two fifths lie in concert: no clear majority against them, but none for them.
            let seen = if n % 5 < 2 { OTHER } else { OURS };
            assert_ne!(votes.vote(at(n), random_voter(&mut stream), seen), Some(OTHER));
            votes.check_invariants();
        }
    }

    #[test]
    fn liars_with_many_addresses_do_not_keep_ours_out() {
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        for n in 0..40 {
            let seen = IpAddr::V4(random_ip(&mut stream));
            assert_eq!(votes.vote(at(n), random_voter(&mut stream), seen), None);
        }
        let changes: Vec<_> =
            (0..10).filter_map(|n| votes.vote(at(n), random_voter(&mut stream), OTHER)).collect();
        assert_eq!(changes, [OTHER]);
    }

    #[test]
    fn local_addresses_are_not_believed_from_the_internet() {
        let mut stream = stream();
        let mut votes = Voter::new();
        for (n, ip) in (0..).zip(["10.0.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "2600::1"]) {
            for _ in 0..60 {
                let seen = ip.parse().unwrap();
                assert_eq!(votes.vote(at(n), random_voter(&mut stream), seen), None);
            }
        }
        assert!(votes.round.is_none());
        // In a local network they are what everybody sees.
        let changes: Vec<_> = (1..60)
            .filter_map(|n| {
                let host = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, n), 6881);
                votes.vote(at(0), host, IpAddr::V4(Ipv4Addr::LOCALHOST))
            })
            .collect();
        assert_eq!(changes, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn a_slash_64_has_one_vote() {
        let mut votes = Voter::<SocketAddrV6>::new();
        let ours = IpAddr::V6(Ipv6Addr::new(0x2600, 1, 2, 3, 0, 0, 0, 1));
        for n in 0..1_000 {
            let host = Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, n);
            assert_eq!(votes.vote(at(0), SocketAddrV6::new(host, 1, 0, 0), ours), None);
        }
        assert_eq!(votes.round.as_ref().unwrap().sources.len(), 1);
        let mut changes = Vec::new();
        for n in 0..60 {
            let host = Ipv6Addr::new(0x2a00, 1, 2, n, 0, 0, 0, 1);
            changes.extend(votes.vote(at(0), SocketAddrV6::new(host, 1, 0, 0), ours));
        }
        assert_eq!(changes, [ours]);
    }

    #[test]
    fn a_slash_24_has_one_vote() {
        let mut votes = Voter::<SocketAddrV4>::new();
        for n in 0..1_000_u16 {
            let host = SocketAddrV4::new(Ipv4Addr::new(77, 7, 7, n as u8), n);
            let now = Instant::from_secs(60 * u64::from(n));
            assert_eq!(votes.vote(now, host, OTHER), None);
        }
        assert_eq!(votes.round.unwrap().sources.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut stream = stream();
        let mut votes = Voter::new();
        for n in 0..10_000 {
            let seen = IpAddr::V4(random_ip(&mut stream));
            let _ = votes.vote(at(n), random_voter(&mut stream), seen);
            let heap = votes.round.as_deref().map_or(0, |round| {
                size_of_val(round) + round.sources.capacity() * 8 + round.votes.capacity() * 8
            });
            assert!(heap + size_of_val(&votes) <= Voter::<SocketAddrV4>::memory_ceiling());
        }
        assert!(agreed_on_ours(&mut stream).round.is_none());
    }

    #[test]
    fn nothing_is_remembered_while_all_agree() {
        let mut stream = stream();
        let mut votes = agreed_on_ours(&mut stream);
        for n in 0..1_000 {
            assert_eq!(votes.vote(at(n), random_voter(&mut stream), OURS), None);
            assert!(votes.round.is_none());
        }
        assert_eq!(votes.vote(at(1_000), random_voter(&mut stream), OTHER), None);
        assert!(votes.round.is_some());
    }
}
