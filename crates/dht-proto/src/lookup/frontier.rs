//! The candidates of one lookup, and the rule that ends the walk.
//!
//! The nodes that matter are the *k nearest eligible* ones: not failed, not stalled, and at most
//! one per subnet, so that one operator cannot fill a result. Diversity is judged when choosing and
//! not when adding: a dead node then never hides its live neighbour.
//!
//! This is the hot half of a lookup: each reply names eight nodes, most of them known already or farther
//! than all that matter, and after each event somebody asks how far the walk is. So candidates stand in no
//! order, whoever has an address is found by a hash of it, and the nearest eligible are listed apart
//! (`survey.rs`), for which all others are looked at only when too few of them are left.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::{Addr, Scope};
use crate::ahead::ReadAhead;
use crate::footprint;
use crate::id::{Distance, NodeId, Target};
use crate::seen::endpoint_number;

use super::places::Places;
use super::survey::{Listed, Progress, Survey};

/// Longer tokens are not kept: a put with the largest item and this token just fits a datagram. The
/// longest in use has 32 bytes.
const MAX_TOKEN_LEN: usize = 40;

/// So many of those who came last are read ahead, two to a cache line.
const LATEST: usize = 16;

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
    const fn new(id: NodeId, addr: A, depth: u8) -> Self {
        let (state, storer) = (State::New, Storer::Untried);
        Self { id, addr, state, depth, has_item: false, has_token: false, storer }
    }

    /// By what candidates are ordered, the nearest first.
    fn key(&self, target: Target) -> (Distance, A) {
        (self.id.distance(target), self.addr)
    }

    /// Whether it may be among the k nearest, as far as it alone is concerned.
    fn is_willing(&self) -> bool {
        !matches!(self.state, State::Failed | State::Stalled) && self.storer != Storer::Unwilling
    }

    /// The subnet of which only one node counts; 0, which is none, in local networks.
    fn network(&self) -> u64 {
        if self.addr.scope() == Scope::Global { self.addr.subnet() } else { 0 }
    }
}

/// The candidates of one lookup.
#[derive(Debug)]
pub(crate) struct Frontier<A> {
    target: Target,
    /// As they came: a place belongs to one candidate until another replaces it.
    candidates: Vec<Candidate<A>>,
    /// Their places by address.
    places: Places,
    /// The tokens of those that gave one, in no order: only walks that store have any.
    tokens: Vec<(A, Box<[u8]>)>,
    survey: Survey,
}

impl<A: Addr> Frontier<A> {
    pub(crate) const fn new(target: Target, k: usize) -> Self {
        Self {
            target,
            candidates: Vec::new(),
            places: Places::NONE,
            tokens: Vec::new(),
            survey: Survey::new(k),
        }
    }

    /// See `Dht::read_ahead`: what a walk hears of belongs to the nearest.
    pub(crate) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        if step == 3 {
            ahead.line(&self.candidates);
            ahead.line(&self.target);
            self.survey.read_ahead(step, ahead);
            self.places.read_ahead(step, ahead);
            return;
        }
        // Those who came last are mostly the nearest.
        let latest = self.candidates.len().saturating_sub(LATEST);
        ahead.lines::<_, { LATEST / 2 }>(self.candidates.get(latest..).unwrap_or_default());
        self.survey.read_ahead(step, ahead);
        self.places.read_ahead(step, ahead);
    }

    /// Makes room for the first candidates, and for whom they lead to.
    pub(crate) fn reserve(&mut self, candidates: usize) {
        self.candidates.reserve_exact(candidates);
        self.reserve_places(candidates);
        self.survey.reserve();
    }

    fn reserve_places(&mut self, wanted: usize) {
        let Self { candidates, places, .. } = self;
        places.reserve(wanted, || candidates.iter().map(|c| endpoint_number(c.addr)));
    }

    /// Whether there is a candidate at this address: the first claim to one wins.
    #[inline]
    pub(crate) fn knows(&self, addr: A) -> bool {
        self.find(addr).is_some()
    }

    /// Adds a node that somebody told us about, unless its address is known. Two claims to one id stand
    /// side by side until one of them answers, or a liar could hide a node by naming it elsewhere.
    pub(crate) fn add(&mut self, id: NodeId, addr: A, depth: u8, max: usize) {
        if !self.knows(addr) {
            self.admit(Candidate::new(id, addr, depth), max);
        }
    }

    /// Adds a candidate at an address that is not known. Returns its place, if it gets one.
    fn admit(&mut self, new: Candidate<A>, max: usize) -> Option<usize> {
        let place = self.candidates.len();
        if place >= max {
            let victim = self.victim(&new)?;
            self.replace(victim, new);
            return Some(victim);
        }
        self.reserve_places(place + 1);
        self.candidates.push(new);
        self.enter(place);
        Some(place)
    }

    /// Who makes room for a new one: what has failed comes first, and what has answered never does.
    fn victim(&self, new: &Candidate<A>) -> Option<usize> {
        let high = |candidate: &Candidate<A>| candidate.id.distance(self.target).high();
        let order = |one: &Candidate<A>, other: &Candidate<A>| {
            let by_all = || one.key(self.target).cmp(&other.key(self.target));
            high(one).cmp(&high(other)).then_with(by_all)
        };
        let farthest = |state| {
            let all = self.candidates.iter().enumerate();
            let those = all.filter(|(_, candidate)| candidate.state == state);
            those.max_by(|(_, one), (_, other)| order(one, other))
        };
        let is_farther = |(_, other): &(usize, &Candidate<A>)| order(other, new).is_gt();
        let victim = farthest(State::Failed).or_else(|| farthest(State::New).filter(is_farther));
        victim.map(|(place, _)| place)
    }

    /// Puts another candidate in somebody's place.
    fn replace(&mut self, place: usize, new: Candidate<A>) {
        let Self { candidates, places, .. } = self;
        let Some(entry) = candidates.get_mut(place) else { return };
        let old = core::mem::replace(entry, new);
        let number_of = |at: usize| candidates.get(at).map_or(0, |c| endpoint_number(c.addr));
        places.remove(endpoint_number(old.addr), place, number_of);
        if old.has_token {
            self.forget_token(old.addr);
        }
        self.survey.leave(place);
        self.enter(place);
    }

    /// Has the new candidate at this place found by its address, and asked if it is near enough.
    fn enter(&mut self, place: usize) {
        let Some(candidate) = self.candidates.get(place) else { return };
        self.places.insert(endpoint_number(candidate.addr), place);
        self.offer(place);
    }

    /// Lists the candidate at this place, if it is eligible and near enough.
    fn offer(&mut self, place: usize) {
        let Self { candidates, survey, target, .. } = self;
        let Some(candidate) = candidates.get(place) else { return };
        let high = candidate.id.distance(*target).high();
        if !candidate.is_willing() || survey.is_beyond(high) {
            return;
        }
        let (is_new, replied) = (candidate.state == State::New, candidate.state == State::Replied);
        let (network, crowds) = (candidate.network(), false);
        let is_nearer = |place: usize| {
            let other = candidates.get(place);
            other.is_some_and(|other| other.key(*target) < candidate.key(*target))
        };
        let place = place as u16;
        survey.offer(Listed { high, network, place, is_new, replied, crowds }, is_nearer);
    }

    /// Where a node is whose id we learn from its own answer. It is added if nobody told us of it (a
    /// bootstrap address); whoever told us of another id at this address was wrong. An address is asked
    /// to store once, under whatever id it answers.
    pub(crate) fn introduce(&mut self, id: NodeId, addr: A, max: usize) -> Option<usize> {
        let Some(place) = self.find(addr) else {
            return self.admit(Candidate::new(id, addr, 1), max);
        };
        let old = self.candidates.get(place)?;
        if old.id != id {
            let storer = old.storer;
            self.replace(place, Candidate { storer, ..Candidate::new(id, addr, 1) });
        }
        Some(place)
    }

    /// The candidate at this address.
    pub(crate) fn at(&self, addr: A) -> Option<&Candidate<A>> {
        self.candidates.get(self.find(addr)?)
    }

    /// Sets the state of the candidate at this address, unless it has answered already. Whether there
    /// is one.
    pub(crate) fn mark(&mut self, addr: A, state: State) -> bool {
        let Some(place) = self.find(addr) else { return false };
        let Some(candidate) = self.candidates.get_mut(place) else { return false };
        if candidate.state != State::Replied {
            candidate.state = state;
            self.changed(place);
        }
        true
    }

    /// The candidate at this place counts more or less than before.
    fn changed(&mut self, place: usize) {
        self.survey.leave(place);
        self.offer(place);
    }

    /// Keeps what the answer of the candidate at this place brought; returns its depth.
    pub(crate) fn replied(
        &mut self,
        place: usize,
        token: Option<&[u8]>,
        has_item: bool,
    ) -> Option<u8> {
        let candidate = self.candidates.get_mut(place)?;
        let (addr, depth) = (candidate.addr, candidate.depth);
        let before = core::mem::replace(&mut candidate.state, State::Replied);
        let token = token.filter(|token| token.len() <= MAX_TOKEN_LEN);
        let had_token = core::mem::replace(&mut candidate.has_token, token.is_some());
        candidate.has_item = has_item;
        match before {
            State::Asked => self.survey.answered(place),
            State::Replied => {}
            State::New | State::Stalled | State::Failed => self.changed(place),
        }
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
        self.survey.has_new()
    }

    /// The nearest node worth asking, which counts as asked from now on: a new one among the k nearest
    /// eligible.
    pub(crate) fn ask_next(&mut self) -> Option<(NodeId, A)> {
        self.look();
        let candidate = self.candidates.get_mut(self.survey.take_new()?)?;
        candidate.state = State::Asked;
        Some((candidate.id, candidate.addr))
    }

    /// Whether the k nearest eligible nodes have all answered, and how many they are.
    pub(crate) fn progress(&mut self) -> Progress {
        self.look();
        self.survey.progress()
    }

    /// Whether a stalled node would be among the k nearest if it answered.
    pub(crate) fn awaits_stalled(&mut self) -> bool {
        self.look();
        let farthest = self.survey.farthest();
        let high = |c: &Candidate<A>| c.id.distance(self.target).high();
        let is_nearer = |c: &Candidate<A>| farthest.is_none_or(|farthest| high(c) < farthest);
        self.candidates.iter().any(|c| c.state == State::Stalled && is_nearer(c))
    }

    /// The nearest nodes that answered, one per subnet, nearest first.
    pub(crate) fn closest(&self) -> Vec<&Candidate<A>> {
        self.diverse(|candidate| candidate.state == State::Replied)
    }

    /// Where to store next: the nearest that gave a token and were not asked to store yet.
    pub(crate) fn storers(&self) -> impl Iterator<Item = A> {
        let untried = |c: &&Candidate<A>| {
            c.state == State::Replied && c.has_token && c.storer == Storer::Untried
        };
        self.diverse(Candidate::is_willing).into_iter().filter(untried).map(|c| c.addr)
    }

    /// Notes how far storing at this address is.
    pub(crate) fn set_storer(&mut self, addr: A, storer: Storer) {
        let Some(place) = self.find(addr) else { return };
        if let Some(candidate) = self.candidates.get_mut(place) {
            candidate.storer = storer;
            self.changed(place);
        }
    }

    /// Whoever answered without a token stores nothing, so others take their places.
    pub(crate) fn forget_tokenless(&mut self) {
        for candidate in &mut self.candidates {
            if candidate.state == State::Replied && !candidate.has_token {
                candidate.storer = Storer::Unwilling;
            }
        }
        self.survey_all();
    }

    /// Candidates that pass, nearest first, without those in the subnet of a nearer one that passes.
    fn diverse(&self, pass: impl Fn(&Candidate<A>) -> bool) -> Vec<&Candidate<A>> {
        let pass = self.candidates.iter().filter(|candidate| pass(candidate));
        let mut all = Vec::with_capacity(self.candidates.len());
        all.extend(pass.map(|candidate| (candidate.id.distance(self.target).high(), candidate)));
        all.sort_unstable_by(|(high, one), (other_high, other)| {
            let by_all = || one.key(self.target).cmp(&other.key(self.target));
            high.cmp(other_high).then_with(by_all)
        });
        let mut networks = Vec::with_capacity(all.len());
        let mut diverse = Vec::with_capacity(all.len());
        for (_, candidate) in all {
            let network = candidate.network();
            if network == 0 || !networks.contains(&network) {
                networks.push(network);
                diverse.push(candidate);
            }
        }
        diverse
    }

    /// Sees to it that the k nearest eligible are listed.
    fn look(&mut self) {
        if self.survey.is_due() {
            self.survey_all();
        }
    }

    fn survey_all(&mut self) {
        self.survey.clear();
        // Those who came last are mostly the nearest.
        (0..self.candidates.len()).rev().for_each(|place| self.offer(place));
    }

    /// The place of the candidate at this address.
    #[inline]
    fn find(&self, addr: A) -> Option<usize> {
        let is_it =
            |place: usize| self.candidates.get(place).is_some_and(|other| other.addr == addr);
        self.places.find(endpoint_number(addr), is_it)
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        footprint::room::<Candidate<A>>(self.candidates.capacity())
            + self.places.heap_bytes()
            + self.survey.heap_bytes()
            + footprint::room::<(A, Box<[u8]>)>(self.tokens.capacity())
            + self.tokens.iter().map(|(_, token)| token.len()).sum::<usize>()
    }

    /// The most heap bytes that a frontier can take up.
    pub(crate) const fn memory_ceiling(max: usize) -> usize {
        let tokens = max.saturating_mul(MAX_TOKEN_LEN);
        footprint::sum(&[
            footprint::list::<Candidate<A>>(max),
            Places::memory_ceiling(max),
            tokens,
            footprint::list::<(A, Box<[u8]>)>(max),
            Survey::memory_ceiling(),
        ])
    }

    pub(crate) fn check_invariants(&self, max: usize) {
        assert!(self.candidates.len() <= max, "the frontier outgrew its bound");
        for (place, candidate) in self.candidates.iter().enumerate() {
            assert_eq!(self.find(candidate.addr), Some(place), "an address that nobody finds");
        }
        self.places.check(self.candidates.len());
        let with_token = self.candidates.iter().filter(|candidate| candidate.has_token);
        let has_token = |candidate: &Candidate<A>| self.token(candidate.addr).is_some();
        assert!(with_token.clone().all(has_token), "a token is lost");
        assert_eq!(with_token.count(), self.tokens.len(), "a token without its candidate");
        if !self.survey.is_due() {
            let candidates = self.candidates.clone();
            let mut anew = Self { candidates, ..Self::new(self.target, self.survey.k()) };
            anew.survey_all();
            self.survey.check(&anew.survey);
        }
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
        let at = frontier.find(addr(at)).unwrap();
        frontier.replied(at, None, false);
        frontier.check_invariants(100);
    }

    /// Whom to ask next.
    fn next(frontier: &mut Frontier<SocketAddrV4>) -> Option<(NodeId, SocketAddrV4)> {
        frontier.look();
        let candidate = &frontier.candidates[frontier.survey.next()?];
        Some((candidate.id, candidate.addr))
    }

    fn ids(frontier: &Frontier<SocketAddrV4>) -> Vec<u8> {
        frontier.closest().iter().map(|candidate| candidate.id.as_bytes()[0]).collect()
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
        frontier.mark(addr("1.1.1.1:1"), State::Asked);
        assert_eq!(next(&mut frontier), Some((id(3), addr("1.1.3.1:1"))), "2 waits behind 1");
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
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
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
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
        frontier.survey = Survey::new(2);
        frontier.survey_all();
        frontier.mark(addr("1.1.1.1:1"), State::Stalled);
        assert_eq!(next(&mut frontier), Some((id(2), addr("1.1.2.1:1"))));
        answers(&mut frontier, "1.1.2.1:1");
        answers(&mut frontier, "1.1.3.1:1");
        assert_eq!(frontier.progress(), Progress { eligible: 2, open: false });
        assert!(frontier.awaits_stalled());
        answers(&mut frontier, "1.1.1.1:1");
        frontier.mark(addr("1.1.1.1:1"), State::Failed);
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
                        frontier.mark(addr, states[stream.below(4) as usize]);
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
        let awaits_stalled = frontier.awaits_stalled();
        frontier.check_invariants(20);
        let k = frontier.survey.k();
        let eligible: Vec<_> =
            frontier.diverse(Candidate::is_willing).into_iter().take(k).collect();
        let open = eligible.iter().any(|c| c.state != State::Replied);
        let last = eligible.last().filter(|_| eligible.len() == k).map(|c| c.id.distance(TARGET));
        let stalled = frontier.candidates.iter().any(|c| {
            c.state == State::Stalled && last.is_none_or(|last| c.id.distance(TARGET) < last)
        });
        assert_eq!(progress, Progress { eligible: eligible.len(), open }, "round {round}");
        assert_eq!(awaits_stalled, stalled, "round {round}");
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
