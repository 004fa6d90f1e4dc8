//! The candidates of one lookup, nearest first, and the rule that ends the walk.
//!
//! The nodes that matter are the *k nearest eligible* ones: not failed, not stalled, and at most
//! one per subnet, so that one operator cannot fill a result. Diversity is judged when choosing and
//! not when adding: a dead node then never hides its live neighbour.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::{Addr, Scope};
use crate::footprint;
use crate::id::{Distance, NodeId, Target};

/// Longer tokens are not kept: a put with the largest item and this token just fits a datagram. The
/// longest in use has 32 bytes.
const MAX_TOKEN_LEN: usize = 40;

/// How far we are with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not asked yet.
    New,
    /// Asked, no answer yet.
    Asked,
    /// Asked, and slower than most; does not count unless it answers.
    Stalled,
    /// Answered.
    Replied,
    /// Unreachable, silent, lying about its id, or refusing.
    Failed,
}

/// A node that a lookup heard of.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<A> {
    pub(crate) id: NodeId,
    pub(crate) addr: A,
    distance: Distance,
    pub(crate) state: State,
    /// Hops from our own table: 1 for our own contacts.
    pub(crate) depth: u8,
    /// Permission to store, from its reply.
    pub(crate) token: Option<Box<[u8]>>,
    /// It returned a stored value or its version.
    pub(crate) has_item: bool,
    storer: Storer,
}

/// How far storing at a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storer {
    /// Not asked to store.
    Untried,
    /// Asked to store.
    Asked,
    /// Without token, busy, or silent: counts no more, unless as one of the closest nodes.
    Unwilling,
}

/// Candidates sorted by distance to the target.
#[derive(Debug)]
pub(crate) struct Frontier<A> {
    target: Target,
    candidates: Vec<Candidate<A>>,
}

impl<A: Addr> Frontier<A> {
    pub(crate) const fn new(target: Target) -> Self {
        Self { target, candidates: Vec::new() }
    }

    /// Adds a node that somebody told us about. The first claim to an address wins; two claims to one
    /// id stand side by side until one of them answers, or a liar could hide a node by naming it
    /// elsewhere.
    pub(crate) fn add(&mut self, id: NodeId, addr: A, depth: u8, max: usize) {
        let distance = id.distance(self.target);
        let order =
            |other: &Candidate<A>| other.distance.cmp(&distance).then(other.addr.cmp(&addr));
        let Err(mut at) = self.candidates.binary_search_by(order) else { return };
        if self.candidates.iter().any(|other| other.addr == addr) {
            return;
        }
        if self.candidates.len() >= max {
            // What has failed makes room first, and what has answered never does.
            let last = |state| self.candidates.iter().rposition(|other| other.state == state);
            let victim =
                last(State::Failed).or_else(|| last(State::New).filter(|last| *last >= at));
            let Some(victim) = victim else { return };
            self.candidates.remove(victim);
            at -= usize::from(victim < at);
        }
        let state = State::New;
        let (token, has_item, storer) = (None, false, Storer::Untried);
        let new = Candidate { id, addr, distance, state, depth, token, has_item, storer };
        self.candidates.insert(at, new);
    }

    /// Adds a node whose id we learn from its own answer (a bootstrap address). Whoever told us of
    /// another id at this address was wrong.
    pub(crate) fn introduce(&mut self, id: NodeId, addr: A, max: usize) {
        match self.candidates.iter().position(|other| other.addr == addr) {
            Some(at) if self.candidates.get(at).is_some_and(|other| other.id == id) => return,
            Some(at) => drop(self.candidates.remove(at)),
            None => {}
        }
        self.add(id, addr, 1, max);
    }

    /// The candidate at this address.
    pub(crate) fn at(&mut self, addr: A) -> Option<&mut Candidate<A>> {
        self.candidates.iter_mut().find(|candidate| candidate.addr == addr)
    }

    /// Sets the state of the candidate at this address, unless it has answered already.
    pub(crate) fn mark(&mut self, addr: A, state: State) {
        if let Some(candidate) = self.at(addr)
            && candidate.state != State::Replied
        {
            candidate.state = state;
        }
    }

    /// Keeps what an answer brought.
    pub(crate) fn replied(&mut self, addr: A, token: Option<&[u8]>, has_item: bool) -> Option<u8> {
        let candidate = self.at(addr)?;
        candidate.state = State::Replied;
        candidate.token = token.filter(|token| token.len() <= MAX_TOKEN_LEN).map(Box::from);
        candidate.has_item = has_item;
        Some(candidate.depth)
    }

    /// The nearest node worth asking: a new one among the k nearest eligible.
    pub(crate) fn next(&self, k: usize) -> Option<(NodeId, A)> {
        self.eligible(k)
            .find(|candidate| candidate.state == State::New)
            .map(|candidate| (candidate.id, candidate.addr))
    }

    /// Whether the k nearest eligible nodes have all answered, and how many they are.
    pub(crate) fn progress(&self, k: usize) -> Progress {
        let (mut replied, mut open, mut farthest) = (0, 0, Distance::ZERO);
        for candidate in self.eligible(k) {
            farthest = candidate.distance;
            if candidate.state == State::Replied { replied += 1 } else { open += 1 }
        }
        let full = replied + open >= k;
        let stalled = self
            .candidates
            .iter()
            .take_while(|candidate| !full || candidate.distance < farthest)
            .any(|candidate| candidate.state == State::Stalled);
        Progress { replied, open, stalled }
    }

    /// The nearest nodes that answered, one per subnet, nearest first.
    pub(crate) fn closest(&self) -> impl Iterator<Item = &Candidate<A>> {
        self.diverse(|candidate| candidate.state == State::Replied)
    }

    /// Where to store next: the nearest that gave a token and were not asked to store yet.
    pub(crate) fn storers(&self) -> impl Iterator<Item = A> {
        let untried = |c: &&Candidate<A>| c.token.is_some() && c.storer == Storer::Untried;
        self.willing().filter(|c| c.state == State::Replied).filter(untried).map(|c| c.addr)
    }

    /// Notes how far storing at this address is.
    pub(crate) fn set_storer(&mut self, addr: A, storer: Storer) {
        if let Some(candidate) = self.at(addr) {
            candidate.storer = storer;
        }
    }

    /// Whoever answered without a token stores nothing, so others take their places.
    pub(crate) fn forget_tokenless(&mut self) {
        for candidate in &mut self.candidates {
            if candidate.state == State::Replied && candidate.token.is_none() {
                candidate.storer = Storer::Unwilling;
            }
        }
    }

    fn eligible(&self, k: usize) -> impl Iterator<Item = &Candidate<A>> {
        self.willing().take(k)
    }

    fn willing(&self) -> impl Iterator<Item = &Candidate<A>> {
        self.diverse(|candidate| {
            !matches!(candidate.state, State::Failed | State::Stalled)
                && candidate.storer != Storer::Unwilling
        })
    }

    /// Candidates that pass, without those in the subnet of a nearer one that passes.
    fn diverse(
        &self,
        pass: impl Fn(&Candidate<A>) -> bool + Copy,
    ) -> impl Iterator<Item = &Candidate<A>> {
        let candidates = &self.candidates;
        candidates.iter().enumerate().filter_map(move |(index, candidate)| {
            let crowded = candidate.addr.scope() == Scope::Global
                && candidates
                    .iter()
                    .take(index)
                    .any(|nearer| nearer.addr.subnet() == candidate.addr.subnet() && pass(nearer));
            (pass(candidate) && !crowded).then_some(candidate)
        })
    }

    /// The most heap bytes that a frontier can take up.
    pub(crate) const fn memory_ceiling(max: usize) -> usize {
        let tokens = max.saturating_mul(MAX_TOKEN_LEN);
        footprint::list::<Candidate<A>>(max).saturating_add(tokens)
    }

    pub(crate) fn check_invariants(&self, max: usize) {
        assert!(self.candidates.len() <= max, "the frontier outgrew its bound");
        assert!(
            self.candidates.is_sorted_by(|a, b| (&a.distance, a.addr) < (&b.distance, b.addr)),
            "unsorted frontier"
        );
    }
}

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Of the k nearest eligible, those that answered.
    pub(crate) replied: usize,
    /// Of the k nearest eligible, those that did not answer yet.
    pub(crate) open: usize,
    /// Whether a stalled node would be among the k nearest if it answered.
    pub(crate) stalled: bool,
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddrV4;

    use super::*;

    const TARGET: Target = Target::from_bytes([0; 20]);

    fn id(first: u8) -> NodeId {
        let mut bytes = [0; 20];
        bytes[0] = first;
        NodeId::from_bytes(bytes)
    }

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn frontier(nodes: &[(u8, &str)]) -> Frontier<SocketAddrV4> {
        let mut frontier = Frontier::new(TARGET);
        for &(first, at) in nodes {
            frontier.add(id(first), addr(at), 1, 100);
        }
        frontier.check_invariants(100);
        frontier
    }

    fn ids(frontier: &Frontier<SocketAddrV4>) -> Vec<u8> {
        frontier.closest().map(|candidate| candidate.id.as_bytes()[0]).collect()
    }

    /// libtorrent test_dht.cpp 3372 `unsorted_traversal_results`; mldht testOrdering
    #[test]
    fn results_are_sorted_whatever_the_order_of_arrival() {
        let mut frontier =
            frontier(&[(9, "1.1.9.1:1"), (1, "1.1.1.1:1"), (200, "1.1.2.1:1"), (4, "1.1.4.1:1")]);
        for at in ["1.1.2.1:1", "1.1.9.1:1", "1.1.4.1:1", "1.1.1.1:1"] {
            frontier.replied(addr(at), None, false);
        }
        assert_eq!(ids(&frontier), [1, 4, 9, 200]);
    }

    #[test]
    fn one_node_per_subnet_in_a_result_but_a_dead_one_hides_nobody() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (2, "1.1.1.2:1"), (3, "1.1.3.1:1")]);
        assert_eq!(frontier.next(8), Some((id(1), addr("1.1.1.1:1"))));
        frontier.mark(addr("1.1.1.1:1"), State::Asked);
        assert_eq!(frontier.next(8), Some((id(3), addr("1.1.3.1:1"))), "2 waits behind 1");
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
        assert_eq!(frontier.next(8), Some((id(2), addr("1.1.1.2:1"))));
        frontier.replied(addr("1.1.1.2:1"), None, false);
        frontier.replied(addr("1.1.3.1:1"), None, false);
        assert_eq!(ids(&frontier), [2, 3]);
    }

    #[test]
    fn local_networks_are_exempt_from_the_subnet_rule() {
        let mut frontier = frontier(&[(1, "127.0.0.1:1"), (2, "127.0.0.1:2")]);
        frontier.replied(addr("127.0.0.1:1"), None, false);
        frontier.replied(addr("127.0.0.1:2"), None, false);
        assert_eq!(ids(&frontier), [1, 2]);
    }

    #[test]
    fn the_first_claim_to_an_address_wins_and_claims_to_an_id_stand_side_by_side() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (1, "2.2.2.2:2"), (5, "1.1.1.1:1")]);
        assert_eq!(frontier.next(8), Some((id(1), addr("1.1.1.1:1"))));
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
        assert_eq!(frontier.next(8), Some((id(1), addr("2.2.2.2:2"))), "the lie hides nobody");
        frontier.replied(addr("2.2.2.2:2"), None, false);
        assert_eq!(ids(&frontier), [1]);
    }

    #[test]
    fn a_full_frontier_forgets_the_failed_first_and_never_who_answered() {
        let mut frontier = Frontier::new(TARGET);
        for i in 1..=4_u8 {
            frontier.add(id(i), addr(&std::format!("1.1.{i}.1:1")), 1, 4);
        }
        frontier.replied(addr("1.1.4.1:1"), None, false);
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
        frontier.add(id(9), addr("1.1.9.1:1"), 1, 4);
        frontier.mark(addr("1.1.9.1:1"), State::Asked);
        frontier.add(id(8), addr("1.1.8.1:1"), 1, 4);
        assert!(frontier.at(addr("1.1.8.1:1")).is_none(), "farther than every new one");
        frontier.check_invariants(4);
        assert_eq!(ids(&frontier), [4]);
        assert!(
            frontier.at(addr("1.1.1.1:1")).is_none() && frontier.at(addr("1.1.9.1:1")).is_some()
        );
    }

    #[test]
    fn an_answer_corrects_a_false_claim_to_its_address() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (7, "1.1.7.1:1")]);
        frontier.introduce(id(9), addr("1.1.1.1:1"), 100);
        frontier.replied(addr("1.1.1.1:1"), None, false);
        assert_eq!(ids(&frontier), [9]);
        frontier.introduce(id(7), addr("1.1.7.1:1"), 100);
        frontier.replied(addr("1.1.7.1:1"), None, false);
        assert_eq!(ids(&frontier), [7, 9]);
        frontier.check_invariants(100);
    }

    #[test]
    fn stalled_nodes_make_room_and_their_late_answer_counts() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (2, "1.1.2.1:1"), (3, "1.1.3.1:1")]);
        frontier.mark(addr("1.1.1.1:1"), State::Stalled);
        assert_eq!(frontier.next(2), Some((id(2), addr("1.1.2.1:1"))));
        frontier.replied(addr("1.1.2.1:1"), None, false);
        frontier.replied(addr("1.1.3.1:1"), None, false);
        assert_eq!(frontier.progress(2), Progress { replied: 2, open: 0, stalled: true });
        frontier.replied(addr("1.1.1.1:1"), None, false);
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
        assert_eq!(ids(&frontier), [1, 2, 3], "an answer is not undone by its own timeout");
    }

    #[test]
    fn the_frontier_is_bounded_and_keeps_the_nearest() {
        let mut frontier = Frontier::new(TARGET);
        for i in (1..=200_u8).rev() {
            frontier.add(id(i), addr(&std::format!("1.1.{i}.1:1")), 1, 100);
            frontier.check_invariants(100);
        }
        assert_eq!(frontier.next(8).unwrap().0, id(1));
        assert_eq!(frontier.candidates.len(), 100);
    }

    #[test]
    fn oversized_tokens_are_not_kept() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1")]);
        frontier.replied(addr("1.1.1.1:1"), Some(&[0; MAX_TOKEN_LEN + 1]), false);
        assert_eq!(frontier.at(addr("1.1.1.1:1")).unwrap().token, None);
        frontier.replied(addr("1.1.1.1:1"), Some(&[0; 8]), false);
        assert_eq!(frontier.at(addr("1.1.1.1:1")).unwrap().token.as_deref(), Some(&[0; 8][..]));
    }
}
