//! What may follow from what a network did: queries, answers, and what each lookup was told.

#![expect(clippy::wildcard_enum_match_arm, reason = "the model knows some lookups and methods")]

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dht_proto::addr::{Addr, Family, Scope};
use dht_proto::id::{ItemId, NodeId, Target};
use dht_proto::item::{Item, Signed};
use dht_proto::request::{Ended, Event, Lookup, LookupId, NodeInfo, Outcome};
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body, Method};

use crate::seal::verify;

/// Queries remembered: the oldest can be answered no more.
const MAX_QUERIES: usize = 256;
/// How often an address that the lookup has no alternative to is asked.
const MAX_TRIES: u32 = 3;
/// Longer tokens are not kept.
const MAX_TOKEN_LEN: usize = 40;

/// What the node runs with.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) k: usize,
    pub(super) alpha: usize,
    pub(super) max_frontier: usize,
    pub(super) max_transactions: usize,
    pub(super) stall: Duration,
    pub(super) query_timeout: Duration,
    pub(super) lookup_timeout: Duration,
    pub(super) bootstrap: Vec<SocketAddr>,
    /// Lookups walk two networks at a time.
    pub(super) both: bool,
}

/// A query that left.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) to: SocketAddr,
    pub(super) tid: Vec<u8>,
    /// What it looks for, unless it is a ping.
    pub(super) target: Option<Target>,
    /// The salt of the item that its lookup is about, if it is about one.
    pub(super) salt: Option<Vec<u8>>,
    at: Instant,
    /// Its lookup, by its place in the list, if it is not one of the node's own.
    trial: Option<usize>,
    store: bool,
    /// Not answered, nor known to be in vain.
    open: bool,
}

/// What a reply says.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: NodeId,
    pub(super) nodes: Vec<(NodeId, SocketAddr)>,
    pub(super) token: Option<Vec<u8>>,
    pub(super) values: Vec<SocketAddr>,
    pub(super) item: Option<Stored>,
}

/// The parts of an item in a reply, true or forged.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) v: Vec<u8>,
    /// Key, seq and signature.
    pub(super) signed: Option<([u8; 32], i64, [u8; 64])>,
}

/// A lookup, and all that happened to it.
#[derive(Debug)]
struct Trial {
    id: LookupId,
    lookup: Lookup,
    target: Target,
    started: Instant,
    over: bool,
    queries: u32,
    asked: BTreeMap<SocketAddr, u32>,
    asked_to_store: BTreeSet<SocketAddr>,
    /// Whoever answered, under which id last.
    answered: Vec<NodeInfo>,
    tokens: BTreeSet<(SocketAddr, Vec<u8>)>,
    /// Who said that it has a value, or a version.
    with_item: BTreeSet<SocketAddr>,
    replies: u32,
    /// Acknowledgements by those who gave the token, and by such as may have.
    acks: u32,
    odd_acks: u32,
    errors: u32,
    /// Peers that somebody may have told of, and those that the user heard of.
    values: BTreeSet<SocketAddr>,
    peers: BTreeSet<SocketAddr>,
    /// The best item that somebody returned, and the latest that the user heard of.
    best: Option<Item>,
    reported: Option<Item>,
    /// The first claim to each address, unless it was known before.
    claims: BTreeMap<SocketAddr, NodeId>,
    known: BTreeSet<SocketAddr>,
}

/// Everything that happened.
#[derive(Debug)]
pub(super) struct Model {
    terms: Terms,
    pub(super) queries: Vec<Query>,
    trials: Vec<Trial>,
    /// Addresses that somebody told of, whatever was asked: lookups may start from them.
    named: BTreeSet<SocketAddr>,
}

impl Model {
    pub(super) const fn new(terms: Terms) -> Self {
        Self { terms, queries: Vec::new(), trials: Vec::new(), named: BTreeSet::new() }
    }

    pub(super) fn is_looked_for(&self, lookup: &Lookup) -> bool {
        self.trials.iter().any(|trial| !trial.over && trial.target == target_of(lookup))
    }

    pub(super) fn running(&self) -> Vec<LookupId> {
        self.trials.iter().filter(|trial| !trial.over).map(|trial| trial.id).collect()
    }

    pub(super) fn started(
        &mut self,
        now: Instant,
        id: LookupId,
        lookup: Lookup,
        known: Vec<SocketAddr>,
    ) {
        assert!(self.trials.iter().all(|trial| trial.id != id), "names are not used again");
        let target = target_of(&lookup);
        self.trials.push(Trial {
            id,
            lookup,
            target,
            started: now,
            over: false,
            queries: 0,
            asked: BTreeMap::new(),
            asked_to_store: BTreeSet::new(),
            answered: Vec::new(),
            tokens: BTreeSet::new(),
            with_item: BTreeSet::new(),
            replies: 0,
            acks: 0,
            odd_acks: 0,
            errors: 0,
            values: BTreeSet::new(),
            peers: BTreeSet::new(),
            best: None,
            reported: None,
            claims: BTreeMap::new(),
            known: known.into_iter().chain(self.named.iter().copied()).collect(),
        });
    }

    pub(super) fn cancelled(&mut self, id: LookupId) {
        if let Some(trial) = self.trials.iter_mut().find(|trial| trial.id == id) {
            trial.over = true;
        }
    }

    /// The node sent a query.
    pub(super) fn sent(&mut self, now: Instant, to: SocketAddr, bytes: &[u8]) {
        let Ok(wire::Message { tid, body: Body::Query(query), .. }) = wire::decode(bytes) else {
            unreachable!("a node sends queries by itself")
        };
        let (target, store) = target_and_stage(&query.method);
        let is_for = |trial: &Trial| Some(trial.target) == target;
        let trial = self.trials.iter().rposition(is_for);
        let mut salt = None;
        if let Some(trial) = trial.and_then(|index| self.trials.get_mut(index)) {
            trial.on_sent(to, &query.method, &self.terms);
            salt = salt_of(&trial.lookup);
        }
        if self.queries.len() >= MAX_QUERIES {
            self.queries.remove(0);
        }
        let tid = tid.to_vec();
        self.queries.push(Query { to, tid, target, salt, at: now, trial, store, open: true });
        let terms = &self.terms;
        let alike = || self.queries.iter().filter(|query| query.to.is_ipv4() == to.is_ipv4());
        let live = alike().filter(|query| query.is_live(now, terms));
        assert!(live.count() <= terms.max_transactions, "too many queries in flight");
        // A walk that goes on after it has stored owes nothing for what it asked before.
        let trial = trial.and_then(|index| Some((index, self.trials.get(index)?)));
        if let Some((index, trial)) = trial.filter(|(_, trial)| store || !stores(&trial.lookup)) {
            // An address to start from may be asked twice, and which answer comes is all the same.
            let once = |to| trial.asked.get(&to).is_none_or(|asked| *asked == 1);
            let young = alike().filter(|query| {
                let same = (query.trial, query.store) == (Some(index), store) && once(query.to);
                query.open && same && query.at + terms.stall > now
            });
            let most = if store { terms.k } else { terms.alpha };
            assert!(young.count() <= most, "a lookup asks too many at a time");
        }
    }

    /// The query that an answer belongs to, if there is one; it is answered now.
    fn take(&mut self, now: Instant, from: SocketAddr, tid: &[u8]) -> Option<(&mut Trial, Query)> {
        let terms = &self.terms;
        let query = self
            .queries
            .iter_mut()
            .find(|query| query.is_live(now, terms) && query.to == from && query.tid == tid)?;
        query.open = false;
        let trial = self.trials.get_mut(query.trial?).filter(|trial| !trial.over)?;
        Some((trial, query.clone()))
    }

    pub(super) fn unreachable(&mut self, now: Instant, to: SocketAddr) {
        let terms = &self.terms;
        let to_him = |query: &&mut Query| query.is_live(now, terms) && query.to == to;
        // Of several queries to one address the one with the least transaction id is given up.
        let queries = self.queries.iter_mut().filter(to_him);
        if let Some(query) = queries.min_by(|a, b| a.tid.cmp(&b.tid)) {
            query.open = false;
        }
    }

    pub(super) fn refused(&mut self, now: Instant, from: SocketAddr, tid: &[u8]) {
        if let Some((trial, _)) = self.take(now, from, tid) {
            trial.errors += 1;
        }
    }

    /// A reply reached the node, whose id is `own`.
    pub(super) fn replied(
        &mut self,
        now: Instant,
        (from, tid): (SocketAddr, &[u8]),
        told: Told,
        own: Option<NodeId>,
    ) {
        self.named.extend(told.nodes.iter().map(|(_, addr)| *addr));
        let Some((trial, query)) = self.take(now, from, tid) else { return };
        // Our own id comes from a reflector.
        if Some(told.id) != own {
            trial.on_reply(from, query.store, told, own);
        }
    }

    /// The node told its user something.
    pub(super) fn event(&mut self, event: &Event, own: impl Fn(Family) -> Option<NodeId>) {
        let Some(id) = event.lookup() else { return };
        let Some(trial) = self.trials.iter_mut().find(|trial| trial.id == id) else {
            panic!("an event of a lookup that nobody started")
        };
        assert!(!trial.over, "nothing comes after the end");
        match event {
            Event::Peers { peers, .. } => {
                for peer in peers {
                    assert!(trial.values.contains(peer), "nobody told of {peer}");
                    assert!(trial.peers.insert(*peer), "{peer} was told twice");
                }
            }
            Event::Item { item, .. } => trial.on_item(item),
            Event::Done { outcome, .. } => {
                trial.over = true;
                trial.check(outcome, &self.terms, &own);
            }
            _ => {}
        }
    }

    /// Whatever comes, a lookup ends in time.
    pub(super) fn check_time(&self, now: Instant) {
        let late = |trial: &&Trial| !trial.over && trial.started + self.terms.lookup_timeout <= now;
        assert!(!self.trials.iter().any(|trial| late(&trial)), "a lookup outlived its deadline");
    }

    pub(super) fn check_over(&self) {
        assert!(self.trials.iter().all(|trial| trial.over), "a lookup never ended");
    }
}

impl Query {
    /// Whether an answer would count.
    fn is_live(&self, now: Instant, terms: &Terms) -> bool {
        self.open && self.at + terms.query_timeout > now
    }
}

impl Trial {
    fn on_sent(&mut self, to: SocketAddr, method: &Method<'_>, terms: &Terms) {
        assert!(!self.over, "somebody is asked for a lookup that is over");
        self.queries += 1;
        let token = match method {
            Method::AnnouncePeer { token, .. } => token,
            Method::Put(put) => {
                let cas = put.mutable.as_ref().and_then(|mutable| mutable.cas);
                assert!(
                    cas.is_none() || self.with_item.contains(&to),
                    "cas with nothing to compare"
                );
                put.token
            }
            _ => {
                let asked = self.asked.entry(to).or_default();
                *asked += 1;
                let seed = is_direct(&self.lookup) || terms.bootstrap.contains(&to);
                let most = if seed { MAX_TRIES + 1 } else { 1 };
                let forgets = terms.max_frontier < 100;
                assert!(*asked <= most || forgets, "{to} is asked again");
                return;
            }
        };
        assert!(self.tokens.contains(&(to, token.to_vec())), "{to} did not give this token");
        let again = !self.asked_to_store.insert(to);
        assert!(!again || terms.max_frontier < 100, "{to} is asked to store again");
    }

    fn on_reply(&mut self, from: SocketAddr, store: bool, told: Told, own: Option<NodeId>) {
        let node = NodeInfo { id: told.id, addr: from };
        if store {
            // The one that gave the token, not whoever has its address now. If an address answered
            // under two names, who knows which came in time.
            let mut here = self.answered.iter().filter(|node| node.addr == from);
            if here.clone().all(|named| *named == node) {
                self.acks += 1;
            } else if here.any(|named| *named == node) {
                self.odd_acks += 1;
            }
            return;
        }
        self.replies += 1;
        self.answered.push(node);
        let tokens = told.token.into_iter().filter(|token| token.len() <= MAX_TOKEN_LEN);
        self.tokens.extend(tokens.map(|token| (from, token)));
        let credible = |peer: &SocketAddr| is_credible(*peer, from);
        if matches!(self.lookup, Lookup::GetPeers { .. } | Lookup::Announce { .. }) {
            self.values.extend(told.values.into_iter().filter(credible));
        }
        for (id, addr) in told.nodes {
            if Some(id) != own && is_credible(addr, from) && !is_direct(&self.lookup) {
                self.claims.entry(addr).or_insert(id);
            }
        }
        if let Some(item) = told.item {
            self.with_item.insert(from);
            self.found(&item);
        }
    }

    /// Somebody returned an item: the best true one counts.
    fn found(&mut self, stored: &Stored) {
        let (salt, newer_than) = match &self.lookup {
            Lookup::GetItem { salt, newer_than, .. } => (salt.clone(), *newer_than),
            Lookup::PutItem { item, .. } => {
                (item.signed().map(|signed| signed.salt.clone()).unwrap_or_default(), None)
            }
            _ => return,
        };
        let item = match stored.signed {
            None => Item::immutable(&stored.v),
            Some((key, seq, signature)) => {
                Item::verified(&stored.v, Signed::new(key, salt, seq, signature), verify)
            }
        };
        let Ok(item) = item else { return };
        let is_old = item.signed().is_some_and(|signed| newer_than >= Some(signed.seq));
        let better = self.best.as_ref().is_none_or(|best| item.supersedes(best));
        if item.id().target() == self.target && !is_old && better {
            self.best = Some(item);
        }
    }

    fn on_item(&mut self, item: &Item) {
        assert_eq!(item.id().target(), self.target, "an item that nobody asked for");
        let news = self.reported.as_ref().is_none_or(|reported| item.supersedes(reported));
        assert!(news, "an older item after a newer one");
        assert_eq!(self.best.as_ref(), Some(item), "not the best item that was found");
        self.reported = Some(item.clone());
    }

    fn check(&self, outcome: &Outcome, terms: &Terms, own: &impl Fn(Family) -> Option<NodeId>) {
        assert!(outcome.queries <= self.queries, "more queries than left");
        assert!(
            outcome.replies <= self.replies + self.acks + self.odd_acks,
            "more replies than came"
        );
        assert!(outcome.errors <= self.errors, "more errors than came");
        let ends = outcome.replies + outcome.errors + outcome.timeouts;
        assert!(ends <= outcome.queries, "more ends than queries");
        assert!(outcome.refusals.len() <= self.errors as usize, "nobody refused");
        assert_eq!(outcome.peers as usize, self.peers.len(), "peers are counted as they are told");
        assert!(outcome.stored <= self.acks + self.odd_acks, "more stored than acknowledged");
        if !terms.both {
            // A proven item ends the other network's part without a word; here nothing is left out.
            assert_eq!(outcome.queries, self.queries, "queries are counted as they leave");
            assert!(outcome.stored >= self.acks, "an acknowledgement was not counted");
            if let Lookup::GetPeers { .. } = self.lookup {
                assert_eq!(self.peers, self.values, "a peer was not told");
            }
            if let Lookup::GetItem { .. } = self.lookup {
                assert_eq!(outcome.item.as_deref(), self.best.as_ref(), "not the best item");
                assert_eq!(
                    outcome.item.as_deref(),
                    self.reported.as_ref(),
                    "the user knows better"
                );
            }
        }
        for family in [Family::V4, Family::V6] {
            self.check_closest(outcome, family, own(family), terms);
        }
    }

    /// The closest nodes of one network: they answered, are in order, at most k, and of different
    /// operators. If the lookup was not cut short nobody closer was passed over.
    fn check_closest(&self, outcome: &Outcome, family: Family, own: Option<NodeId>, terms: &Terms) {
        let of = |addr: &SocketAddr| Family::of(addr) == family;
        let closest: Vec<_> = outcome.closest.iter().filter(|node| of(&node.addr)).collect();
        assert!(closest.len() <= terms.k, "more than k closest nodes");
        let distance = |id: NodeId| id.distance(self.target);
        assert!(closest.is_sorted_by_key(|node| distance(node.id)), "the closest are out of order");
        for (i, node) in closest.iter().enumerate() {
            assert!(self.answered.contains(node), "{} never answered", node.id);
            assert_ne!(Some(node.id), own, "we are not close to anything");
            let mut nearer = closest.iter().take(i);
            assert!(
                !nearer.any(|nearer| shares_subnet(nearer.addr, node.addr)),
                "one operator twice"
            );
        }
        let walked = match self.lookup {
            Lookup::FindNode { .. } | Lookup::GetPeers { .. } => true,
            // An immutable item ends its lookup at once, and one network's that of the other.
            Lookup::GetItem { .. } => self.best.as_ref().is_none_or(|best| best.signed().is_some()),
            _ => false,
        };
        if !walked || outcome.ended != Ended::Completed || terms.both || terms.max_frontier < 100 {
            return;
        }
        let reach = closest.last().filter(|_| closest.len() == terms.k).map(|n| distance(n.id));
        for (addr, id) in self.claims.iter().filter(|(addr, _)| of(addr)) {
            let near = reach.is_none_or(|reach| distance(*id) < reach);
            if !near || self.asked.contains_key(addr) || self.known.contains(addr) {
                continue;
            }
            let others = self.claims.keys().chain(&self.known).chain(self.asked.keys());
            let hidden = others.filter(|other| *other != addr);
            assert!(
                hidden.into_iter().any(|other| shares_subnet(*other, *addr)),
                "{addr} was passed over"
            );
        }
    }
}

fn target_of(lookup: &Lookup) -> Target {
    match lookup {
        Lookup::FindNode { target } => target.target(),
        Lookup::GetPeers { info_hash, .. } | Lookup::Announce { info_hash, .. } => {
            info_hash.target()
        }
        Lookup::GetItem { target, .. } => target.target(),
        Lookup::PutItem { item, .. } => item.id().target(),
        Lookup::Sample { target, .. } => *target,
        _ => unreachable!("pings have no target"),
    }
}

fn salt_of(lookup: &Lookup) -> Option<Vec<u8>> {
    match lookup {
        Lookup::GetItem { salt, .. } => Some(salt.clone()),
        Lookup::PutItem { item, .. } => item.signed().map(|signed| signed.salt.clone()),
        _ => None,
    }
}

fn stores(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Announce { .. } | Lookup::PutItem { .. })
}

fn is_direct(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Sample { .. })
}

/// What a query looks for, and whether it asks to store.
fn target_and_stage(method: &Method<'_>) -> (Option<Target>, bool) {
    match method {
        Method::FindNode { target } | Method::SampleInfohashes { target } => (Some(*target), false),
        Method::GetPeers { info_hash, .. } => (Some(info_hash.target()), false),
        Method::Get { target, .. } => (Some(target.target()), false),
        Method::AnnouncePeer { info_hash, .. } => (Some(info_hash.target()), true),
        Method::Put(put) => {
            let id = match &put.mutable {
                None => ItemId::of_immutable(put.v),
                Some(mutable) => ItemId::of_mutable(mutable.public_key, mutable.salt),
            };
            (Some(id.target()), true)
        }
        _ => (None, false),
    }
}

fn is_credible(addr: SocketAddr, from: SocketAddr) -> bool {
    match (addr, from) {
        (SocketAddr::V4(addr), SocketAddr::V4(from)) => addr.is_credible_from(from),
        (SocketAddr::V6(addr), SocketAddr::V6(from)) => addr.is_credible_from(from),
        _ => false,
    }
}

/// Whether two hosts of the internet are in one /24 or /64.
fn shares_subnet(a: SocketAddr, b: SocketAddr) -> bool {
    match (a, b) {
        (SocketAddr::V4(a), SocketAddr::V4(b)) => {
            a.scope() == Scope::Global && a.subnet() == b.subnet()
        }
        (SocketAddr::V6(a), SocketAddr::V6(b)) => {
            a.scope() == Scope::Global && a.subnet() == b.subnet()
        }
        _ => false,
    }
}
