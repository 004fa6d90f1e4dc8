//! The candidates of one lookup, nearest first, and the rule that ends the walk.
//!
//! The nodes that matter are the *k nearest eligible* ones: not failed, not stalled, and at most
//! one per subnet, so that one operator cannot fill a result. Diversity is judged when choosing and
//! not when adding: a dead node then never hides its live neighbour.
//!
//! This is the hot half of a lookup: each reply names eight nodes, most of them known already, and
//! after each event somebody asks how far the walk is. So a name that is known costs one search, one
//! that is not costs no look at all the others, and the walk is surveyed anew only when somebody comes
//! among the k nearest or leaves them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::{Addr, Scope};
use crate::ahead::ReadAhead;
use crate::config::MAX_K;
use crate::footprint;
use crate::id::{Distance, NodeId, Target};
use crate::seen::{Seen, endpoint_number};

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

/// A node that a lookup heard of: half a cache line for IPv4.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<A> {
    pub(crate) id: NodeId,
    pub(crate) addr: A,
    state: State,
    /// Hops from our own table: 1 for our own contacts.
    pub(crate) depth: u8,
    /// It returned a stored value or its version.
    pub(crate) has_item: bool,
    /// It gave permission to store: see [`Frontier::token`].
    has_token: bool,
    storer: Storer,
}

const _: () = assert!(size_of::<Candidate<core::net::SocketAddrV4>>() == 32);

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

impl<A: Addr> Candidate<A> {
    /// Whether it may be among the k nearest, as far as it alone is concerned.
    fn is_willing(&self) -> bool {
        !matches!(self.state, State::Failed | State::Stalled) && self.storer != Storer::Unwilling
    }

    /// The subnet of which only one node counts; 0, which is none, in local networks.
    fn network(&self) -> u64 {
        if self.addr.scope() == Scope::Global { self.addr.subnet() } else { 0 }
    }
}

/// Candidates sorted by distance to the target.
#[derive(Debug)]
pub(crate) struct Frontier<A> {
    target: Target,
    k: usize,
    /// Farthest first: what a walk hears of is nearer and nearer, and has few to push aside.
    candidates: Vec<Candidate<A>>,
    /// The tokens of those that gave one, in no order: only walks that store have any.
    tokens: Vec<(A, Box<[u8]>)>,
    /// The first words of their distances, eight to a cache line: what a search reads.
    highs: Vec<u64>,
    /// The addresses of all candidates, and of some who left.
    addrs: Seen,
    survey: Survey,
}

impl<A: Addr> Frontier<A> {
    pub(crate) const fn new(target: Target, k: usize) -> Self {
        Self {
            target,
            k,
            candidates: Vec::new(),
            tokens: Vec::new(),
            highs: Vec::new(),
            addrs: Seen::NOTHING,
            survey: Survey::new(),
        }
    }

    /// See `Dht::read_ahead`: what a walk hears of belongs to the nearest.
    pub(crate) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        if step == 3 {
            ahead.line(&self.candidates);
            ahead.line(&self.survey);
            ahead.line(&self.target);
            self.addrs.read_ahead(ahead);
            return;
        }
        let nearest = self.candidates.len().saturating_sub(self.k);
        ahead.lines::<_, 4>(self.candidates.get(nearest..).unwrap_or_default());
        let middle = self.highs.len() / 2;
        ahead.lines::<_, 6>(self.highs.get(middle..).unwrap_or_default());
        ahead.line(self.survey.eligible.as_slice().first().unwrap_or(&0));
        ahead.line(self.survey.networks.as_slice().first().unwrap_or(&0));
    }

    /// Makes room for the first candidates, and for whom they lead to.
    pub(crate) fn reserve(&mut self, candidates: usize) {
        self.candidates.reserve_exact(candidates);
        self.highs.reserve_exact(candidates);
        self.survey.eligible.reserve_exact(self.k);
        self.survey.networks.reserve_exact(self.k);
    }

    /// Adds a node that somebody told us about. The first claim to an address wins; two claims to one
    /// id stand side by side until one of them answers, or a liar could hide a node by naming it
    /// elsewhere.
    pub(crate) fn add(&mut self, id: NodeId, addr: A, depth: u8, max: usize) {
        let Err(mut at) = self.search(id, addr) else { return };
        if self.position(addr).is_some() {
            return;
        }
        if self.candidates.len() >= max {
            // What has failed makes room first, and what has answered never does.
            let last = |state| self.candidates.iter().position(|other| other.state == state);
            let victim = last(State::Failed).or_else(|| last(State::New).filter(|last| *last < at));
            let Some(victim) = victim else { return };
            self.remove(victim);
            at -= usize::from(victim < at);
        }
        self.addrs.add(endpoint_number(addr));
        let distance = id.distance(self.target);
        self.survey.added(distance, self.k);
        let (state, storer) = (State::New, Storer::Untried);
        let (has_item, has_token) = (false, false);
        let new = Candidate { id, addr, state, depth, has_item, has_token, storer };
        self.candidates.insert(at, new);
        self.highs.insert(at, distance.high());
    }

    /// Where a node is whose id we learn from its own answer. It is added if nobody told us of it (a
    /// bootstrap address); whoever told us of another id at this address was wrong. An address is asked
    /// to store once, under whatever id it answers.
    pub(crate) fn introduce(&mut self, id: NodeId, addr: A, max: usize) -> Option<usize> {
        if let Ok(at) = self.search(id, addr) {
            return Some(at);
        }
        let storer = self.position(addr).map(|at| self.remove(at).storer);
        self.add(id, addr, 1, max);
        if let Some(storer) = storer {
            self.set_storer(addr, storer);
        }
        self.search(id, addr).ok()
    }

    /// The candidate at this address.
    pub(crate) fn at(&self, addr: A) -> Option<&Candidate<A>> {
        self.candidates.get(self.position(addr)?)
    }

    /// Sets the state of the candidate at this address, unless it has answered already. Whether there
    /// is one; it is found faster if it has this id.
    pub(crate) fn mark(&mut self, id: Option<NodeId>, addr: A, state: State) -> bool {
        let Some(candidate) = self.find(id, addr).and_then(|at| self.candidates.get_mut(at)) else {
            return false;
        };
        if candidate.state != State::Replied {
            candidate.state = state;
            self.survey.is_due = true;
        }
        true
    }

    /// Keeps what the answer of the candidate at this place brought; returns its depth.
    pub(crate) fn replied(
        &mut self,
        at: usize,
        token: Option<&[u8]>,
        has_item: bool,
    ) -> Option<u8> {
        let place = self.candidates.len().checked_sub(at)?;
        let candidate = self.candidates.get_mut(at)?;
        match core::mem::replace(&mut candidate.state, State::Replied) {
            State::Asked => self.survey.answered(place),
            State::Replied => {}
            State::New | State::Stalled | State::Failed => self.survey.is_due = true,
        }
        let (addr, depth) = (candidate.addr, candidate.depth);
        let token = token.filter(|token| token.len() <= MAX_TOKEN_LEN);
        let had_token = core::mem::replace(&mut candidate.has_token, token.is_some());
        candidate.has_item = has_item;
        if had_token {
            self.forget_token(addr);
        }
        if let Some(token) = token {
            self.tokens.push((addr, Box::from(token)));
        }
        Some(depth)
    }

    /// The permission to store that the node at this address gave.
    pub(crate) fn token(&self, addr: A) -> Option<&[u8]> {
        self.tokens.iter().find(|(of, _)| *of == addr).map(|(_, token)| &**token)
    }

    fn forget_token(&mut self, addr: A) {
        if let Some(at) = self.tokens.iter().position(|(of, _)| *of == addr) {
            self.tokens.swap_remove(at);
        }
    }

    /// Whether there is a node worth asking.
    pub(crate) fn has_next(&mut self) -> bool {
        self.look();
        self.survey.new != 0
    }

    /// The nearest node worth asking, which counts as asked from now on: a new one among the k nearest
    /// eligible.
    pub(crate) fn ask_next(&mut self) -> Option<(NodeId, A)> {
        self.look();
        let place = self.survey.take_new()?;
        let at = self.candidates.len().checked_sub(place)?;
        let candidate = self.candidates.get_mut(at)?;
        candidate.state = State::Asked;
        Some((candidate.id, candidate.addr))
    }

    /// Whether the k nearest eligible nodes have all answered, and how many they are.
    pub(crate) fn progress(&mut self) -> Progress {
        self.look();
        let Survey { replied, stalled, .. } = self.survey;
        Progress { replied, open: self.survey.eligible.len() - replied, stalled }
    }

    /// The nearest nodes that answered, one per subnet, nearest first.
    pub(crate) fn closest(&self) -> impl Iterator<Item = &Candidate<A>> {
        self.diverse(|candidate| candidate.state == State::Replied)
    }

    /// Where to store next: the nearest that gave a token and were not asked to store yet.
    pub(crate) fn storers(&self) -> impl Iterator<Item = A> {
        let untried = |c: &&Candidate<A>| {
            c.state == State::Replied && c.has_token && c.storer == Storer::Untried
        };
        self.diverse(Candidate::is_willing).filter(untried).map(|c| c.addr)
    }

    /// Notes how far storing at this address is.
    pub(crate) fn set_storer(&mut self, addr: A, storer: Storer) {
        if let Some(candidate) = self.position(addr).and_then(|at| self.candidates.get_mut(at)) {
            candidate.storer = storer;
            self.survey.is_due = true;
        }
    }

    /// Whoever answered without a token stores nothing, so others take their places.
    pub(crate) fn forget_tokenless(&mut self) {
        self.survey.is_due = true;
        for candidate in &mut self.candidates {
            if candidate.state == State::Replied && !candidate.has_token {
                candidate.storer = Storer::Unwilling;
            }
        }
    }

    /// Candidates that pass, without those in the subnet of a nearer one that passes.
    fn diverse(
        &self,
        pass: impl Fn(&Candidate<A>) -> bool + Copy,
    ) -> impl Iterator<Item = &Candidate<A>> {
        let candidates = self.candidates.iter().rev();
        candidates.clone().enumerate().filter_map(move |(nearer, candidate)| {
            let network = candidate.addr.subnet();
            let crowds = |other: &Candidate<A>| other.addr.subnet() == network && pass(other);
            let is_crowded =
                || candidates.clone().take(nearer).any(crowds) && candidate.network() != 0;
            (pass(candidate) && !is_crowded()).then_some(candidate)
        })
    }

    /// Goes through the k nearest eligible candidates, if that has to be done again.
    fn look(&mut self) {
        let Self { candidates, survey, k, target, .. } = self;
        if !survey.is_due {
            return;
        }
        survey.clear();
        let (mut stalled, mut farthest) = (None, None);
        for (candidate, place) in candidates.iter().rev().zip(1_u16..) {
            if survey.eligible.len() >= *k {
                break;
            }
            if candidate.state == State::Stalled {
                stalled = stalled.or(Some(candidate.id));
            }
            if !candidate.is_willing() {
                continue;
            }
            let network = candidate.network();
            if network != 0 && survey.networks.contains(&network) {
                continue;
            }
            survey.networks.push(network);
            farthest = Some(candidate.id);
            survey.replied += usize::from(candidate.state == State::Replied);
            survey.new |= u64::from(candidate.state == State::New) << survey.eligible.len();
            survey.eligible.push(place);
        }
        let full = survey.eligible.len() >= *k;
        let distance = |id: NodeId| id.distance(*target);
        survey.farthest = farthest.map_or(Distance::ZERO, distance);
        let stalled = stalled.map(distance);
        survey.stalled = stalled.is_some_and(|nearest| !full || nearest < survey.farthest);
    }

    /// Where the candidate with this id and address is, or would be.
    fn search(&self, id: NodeId, addr: A) -> Result<usize, usize> {
        // One word is enough to tell all but forged neighbours apart.
        let high = id.distance(self.target).high();
        let at = self.highs.partition_point(|other| *other > high);
        if self.highs.get(at).is_none_or(|other| *other != high) {
            return Err(at);
        }
        // Whose first word is the same is mostly the one.
        let is_it = |first: &Candidate<A>| first.id == id && first.addr == addr;
        if self.candidates.get(at).is_some_and(is_it) {
            Ok(at)
        } else {
            self.search_from(at, id, addr)
        }
    }

    /// [`search`](Self::search) among those whose first word is the same.
    #[cold]
    fn search_from(&self, start: usize, id: NodeId, addr: A) -> Result<usize, usize> {
        let key = (id.distance(self.target), addr);
        let rest = self.candidates.get(start..).unwrap_or_default();
        let nearer = |other: &&Candidate<A>| (other.id.distance(self.target), other.addr) > key;
        let at = start + rest.iter().take_while(nearer).count();
        let is_it = |found: &Candidate<A>| found.id == id && found.addr == addr;
        if self.candidates.get(at).is_some_and(is_it) { Ok(at) } else { Err(at) }
    }

    /// Where the candidate at this address is.
    fn position(&self, addr: A) -> Option<usize> {
        if !self.addrs.may_have(endpoint_number(addr)) {
            return None;
        }
        self.candidates.iter().position(|other| other.addr == addr)
    }

    /// Where the candidate at this address is; faster if it has this id.
    fn find(&self, id: Option<NodeId>, addr: A) -> Option<usize> {
        let found = id.and_then(|id| self.search(id, addr).ok());
        found.or_else(|| self.position(addr))
    }

    fn remove(&mut self, at: usize) -> Candidate<A> {
        let removed = self.candidates.remove(at);
        if removed.has_token {
            self.forget_token(removed.addr);
        }
        self.highs.remove(at);
        self.survey.is_due = true;
        removed
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        footprint::room::<Candidate<A>>(self.candidates.capacity())
            + footprint::room::<u64>(self.highs.capacity())
            + footprint::room::<u16>(self.survey.eligible.capacity())
            + footprint::room::<u64>(self.survey.networks.capacity())
            + footprint::room::<(A, Box<[u8]>)>(self.tokens.capacity())
            + self.tokens.iter().map(|(_, token)| token.len()).sum::<usize>()
    }

    /// The most heap bytes that a frontier can take up.
    pub(crate) const fn memory_ceiling(max: usize) -> usize {
        let tokens = max.saturating_mul(MAX_TOKEN_LEN);
        footprint::sum(&[
            footprint::list::<Candidate<A>>(max),
            footprint::list::<u64>(max),
            tokens,
            footprint::list::<(A, Box<[u8]>)>(max),
            footprint::list::<u16>(MAX_K),
            footprint::list::<u64>(MAX_K),
        ])
    }

    pub(crate) fn check_invariants(&self, max: usize) {
        assert!(self.candidates.len() <= max, "the frontier outgrew its bound");
        let distance = |candidate: &Candidate<A>| candidate.id.distance(self.target);
        assert!(
            self.candidates.is_sorted_by(|a, b| (distance(a), a.addr) > (distance(b), b.addr)),
            "unsorted frontier"
        );
        let highs = self.candidates.iter().map(|candidate| distance(candidate).high());
        assert!(highs.eq(self.highs.iter().copied()), "a search would read something else");
        let known = |candidate: &Candidate<A>| self.addrs.may_have(endpoint_number(candidate.addr));
        assert!(self.candidates.iter().all(known), "an address that nobody finds");
        let with_token = self.candidates.iter().filter(|candidate| candidate.has_token);
        let has_token = |candidate: &Candidate<A>| self.token(candidate.addr).is_some();
        assert!(with_token.clone().all(has_token), "a token is lost");
        assert_eq!(with_token.count(), self.tokens.len(), "a token without its candidate");
        if !self.survey.is_due {
            let candidates = self.candidates.clone();
            let mut anew = Self { candidates, ..Self::new(self.target, self.k) };
            anew.look();
            assert_eq!(self.survey, anew.survey, "an outdated survey");
        }
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

/// How far a walk is: what a look at the k nearest eligible candidates shows.
#[derive(Debug, PartialEq, Eq)]
struct Survey {
    /// Somebody came or left, so that another look is needed before any other field means anything.
    is_due: bool,
    /// See [`Progress`].
    stalled: bool,
    /// Where they are, counted from the nearest candidate, which is 1.
    eligible: Vec<u16>,
    /// Their networks, of which no two are the same, but for 0.
    networks: Vec<u64>,
    /// Bit i: the i-th of them was not asked yet.
    new: u64,
    replied: usize,
    /// The distance of the last of them.
    farthest: Distance,
}

const _: () = assert!(MAX_K <= u64::BITS as usize);

impl Survey {
    const fn new() -> Self {
        Self {
            is_due: true,
            stalled: false,
            eligible: Vec::new(),
            networks: Vec::new(),
            new: 0,
            replied: 0,
            farthest: Distance::ZERO,
        }
    }

    fn clear(&mut self) {
        self.eligible.clear();
        self.networks.clear();
        (self.is_due, self.new, self.replied, self.farthest) = (false, 0, 0, Distance::ZERO);
    }

    /// A candidate was added at this distance: whoever is farther than k eligible ones is none of them.
    fn added(&mut self, distance: Distance, k: usize) {
        self.is_due |= self.eligible.len() < k || distance <= self.farthest;
    }

    /// The candidate at this place, which had been asked, answered.
    fn answered(&mut self, place: usize) {
        let is_there = |eligible: &u16| usize::from(*eligible) == place;
        self.replied += usize::from(self.eligible.iter().any(is_there));
    }

    /// The place of the nearest that was not asked yet, who is now.
    fn take_new(&mut self) -> Option<usize> {
        let place = self.eligible.get(self.new.trailing_zeros() as usize).copied();
        self.new &= self.new.wrapping_sub(1);
        place.map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddrV4;

    use super::*;
    use crate::seed::{Domain, Seed};

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
        let mut frontier = Frontier::new(TARGET, 8);
        for &(first, at) in nodes {
            frontier.add(id(first), addr(at), 1, 100);
        }
        frontier.check_invariants(100);
        frontier
    }

    /// The answer of whoever is at this address, under whatever id.
    fn answers(frontier: &mut Frontier<SocketAddrV4>, at: &str) {
        let at = frontier.position(addr(at)).unwrap();
        frontier.replied(at, None, false);
        frontier.check_invariants(100);
    }

    /// Whom to ask next.
    fn next(frontier: &mut Frontier<SocketAddrV4>) -> Option<(NodeId, SocketAddrV4)> {
        frontier.look();
        let place = frontier.survey.eligible.get(frontier.survey.new.trailing_zeros() as usize)?;
        let candidate = &frontier.candidates[frontier.candidates.len() - usize::from(*place)];
        Some((candidate.id, candidate.addr))
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
            answers(&mut frontier, at);
        }
        assert_eq!(ids(&frontier), [1, 4, 9, 200]);
    }

    #[test]
    fn one_node_per_subnet_in_a_result_but_a_dead_one_hides_nobody() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (2, "1.1.1.2:1"), (3, "1.1.3.1:1")]);
        assert_eq!(next(&mut frontier), Some((id(1), addr("1.1.1.1:1"))));
        frontier.mark(None, addr("1.1.1.1:1"), State::Asked);
        assert_eq!(next(&mut frontier), Some((id(3), addr("1.1.3.1:1"))), "2 waits behind 1");
        frontier.mark(None, addr("1.1.1.1:1"), State::Failed);
        assert_eq!(next(&mut frontier), Some((id(2), addr("1.1.1.2:1"))));
        answers(&mut frontier, "1.1.1.2:1");
        answers(&mut frontier, "1.1.3.1:1");
        assert_eq!(ids(&frontier), [2, 3]);
    }

    #[test]
    fn local_networks_are_exempt_from_the_subnet_rule() {
        let mut frontier = frontier(&[(1, "127.0.0.1:1"), (2, "127.0.0.1:2")]);
        answers(&mut frontier, "127.0.0.1:1");
        answers(&mut frontier, "127.0.0.1:2");
        assert_eq!(ids(&frontier), [1, 2]);
    }

    #[test]
    fn the_first_claim_to_an_address_wins_and_claims_to_an_id_stand_side_by_side() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (1, "2.2.2.2:2"), (5, "1.1.1.1:1")]);
        assert_eq!(next(&mut frontier), Some((id(1), addr("1.1.1.1:1"))));
        frontier.mark(None, addr("1.1.1.1:1"), State::Failed);
        assert_eq!(next(&mut frontier), Some((id(1), addr("2.2.2.2:2"))), "the lie hides nobody");
        answers(&mut frontier, "2.2.2.2:2");
        assert_eq!(ids(&frontier), [1]);
    }

    #[test]
    fn a_full_frontier_forgets_the_failed_first_and_never_who_answered() {
        let mut frontier = Frontier::new(TARGET, 8);
        for i in 1..=4_u8 {
            frontier.add(id(i), addr(&std::format!("1.1.{i}.1:1")), 1, 4);
        }
        answers(&mut frontier, "1.1.4.1:1");
        frontier.mark(None, addr("1.1.1.1:1"), State::Failed);
        frontier.add(id(9), addr("1.1.9.1:1"), 1, 4);
        frontier.mark(None, addr("1.1.9.1:1"), State::Asked);
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
        assert!(frontier.introduce(id(9), addr("1.1.1.1:1"), 100).is_some());
        answers(&mut frontier, "1.1.1.1:1");
        assert_eq!(ids(&frontier), [9]);
        assert!(frontier.introduce(id(7), addr("1.1.7.1:1"), 100).is_some());
        answers(&mut frontier, "1.1.7.1:1");
        assert_eq!(ids(&frontier), [7, 9]);
        frontier.check_invariants(100);
    }

    #[test]
    fn stalled_nodes_make_room_and_their_late_answer_counts() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1"), (2, "1.1.2.1:1"), (3, "1.1.3.1:1")]);
        frontier.k = 2;
        frontier.mark(None, addr("1.1.1.1:1"), State::Stalled);
        assert_eq!(next(&mut frontier), Some((id(2), addr("1.1.2.1:1"))));
        answers(&mut frontier, "1.1.2.1:1");
        answers(&mut frontier, "1.1.3.1:1");
        assert_eq!(frontier.progress(), Progress { replied: 2, open: 0, stalled: true });
        answers(&mut frontier, "1.1.1.1:1");
        frontier.mark(None, addr("1.1.1.1:1"), State::Failed);
        assert_eq!(ids(&frontier), [1, 2, 3], "an answer is not undone by its own timeout");
    }

    #[test]
    fn the_frontier_is_bounded_and_keeps_the_nearest() {
        let mut frontier = Frontier::new(TARGET, 8);
        for i in (1..=200_u8).rev() {
            frontier.add(id(i), addr(&std::format!("1.1.{i}.1:1")), 1, 100);
            frontier.check_invariants(100);
        }
        assert_eq!(next(&mut frontier).unwrap().0, id(1));
        assert_eq!(frontier.candidates.len(), 100);
    }

    /// Found by the fuzzer: a second answer of an address to start from came late, under another id.
    #[test]
    fn an_address_is_asked_to_store_once_whatever_its_id() {
        let (mut frontier, at) = (frontier(&[]), addr("1.1.1.1:1"));
        for (first, storers) in [(1, 1), (2, 0)] {
            let place = frontier.introduce(id(first), at, 100).unwrap();
            frontier.replied(place, Some(b"token"), false);
            assert_eq!(frontier.storers().count(), storers, "as {first}");
            frontier.set_storer(at, Storer::Asked);
            frontier.check_invariants(100);
        }
    }

    /// The survey is kept up to date from event to event; the rule itself is short.
    #[test]
    fn the_survey_shows_what_the_rule_says_after_whatever_happens() {
        let mut stream = Seed::from_bytes([3; 32]).stream(Domain::Jitter);
        for round in 0..200 {
            let mut frontier = Frontier::new(TARGET, 1 + stream.below(5) as usize);
            for _ in 0..60 {
                let at =
                    [1 + stream.below(2) as u8, 1, stream.below(4) as u8, stream.below(4) as u8];
                let addr = SocketAddrV4::new(at.into(), 1 + stream.below(2) as u16);
                let named = id(stream.below(12) as u8);
                match stream.below(8) {
                    0..=3 => frontier.add(named, addr, 1, 20),
                    4 => {
                        let at = frontier.introduce(named, addr, 20);
                        at.and_then(|at| frontier.replied(at, None, false));
                    }
                    5 => {
                        frontier.ask_next();
                    }
                    6 => {
                        let states = [State::Stalled, State::Failed, State::Failed, State::Asked];
                        frontier.mark(None, addr, states[stream.below(4) as usize]);
                    }
                    _ => frontier.set_storer(addr, Storer::Unwilling),
                }
                frontier.check_invariants(20);
                assert_survey(&mut frontier, round);
            }
        }
    }

    fn assert_survey(frontier: &mut Frontier<SocketAddrV4>, round: u32) {
        let (progress, next) = (frontier.progress(), next(frontier));
        let k = frontier.k;
        let eligible: Vec<_> = frontier.diverse(Candidate::is_willing).take(k).collect();
        let replied = eligible.iter().filter(|c| c.state == State::Replied).count();
        let open = eligible.len() - replied;
        let last = eligible.last().filter(|_| eligible.len() == k).map(|c| c.id.distance(TARGET));
        let stalled = frontier.candidates.iter().any(|c| {
            c.state == State::Stalled && last.is_none_or(|last| c.id.distance(TARGET) < last)
        });
        assert_eq!(progress, Progress { replied, open, stalled }, "round {round}");
        let new = eligible.iter().find(|c| c.state == State::New);
        assert_eq!(next, new.map(|c| (c.id, c.addr)), "round {round}");
    }

    #[test]
    fn oversized_tokens_are_not_kept() {
        let mut frontier = frontier(&[(1, "1.1.1.1:1")]);
        frontier.replied(0, Some(&[0; MAX_TOKEN_LEN + 1]), false);
        assert_eq!(frontier.token(addr("1.1.1.1:1")), None);
        frontier.replied(0, Some(&[0; 8]), false);
        assert_eq!(frontier.token(addr("1.1.1.1:1")), Some(&[0; 8][..]));
        frontier.check_invariants(100);
        frontier.replied(0, None, false);
        assert_eq!(frontier.token(addr("1.1.1.1:1")), None, "the latest answer counts");
    }
}
