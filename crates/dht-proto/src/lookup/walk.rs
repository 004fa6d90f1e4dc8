//! One lookup: walk towards the target, collect, and store at the nearest nodes if asked to.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Addr;
use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::footprint;
use crate::id::{NodeId, Target};
use crate::item::Item;
use crate::request::{AnnouncePort, Ended, LookupId, MAX_STORES, NodeInfo, Outcome, Refusal};
use crate::time::Instant;
use crate::wire::{ErrorReply, Method, Put, PutMutable, Reply, code, nodes};

use super::frontier::{Candidate, Frontier, State, Storer};
use super::harvest::Harvest;
use super::{Ctx, Goal};

/// Nodes taken from one reply, if k is not more. Eight are usual and bootstrap routers send sixteen;
/// a whole table (bittorrent-dht) is more than helps.
pub(super) const MAX_NODES_PER_REPLY: usize = 16;
/// Addresses of unknown id that one lookup may start from.
pub(crate) const MAX_SEEDS: usize = 64;
/// How often an address is asked that we have no alternative to.
const MAX_TRIES: u8 = 3;
/// A stalled node is waited for this many stall timeouts more if it would be among the nearest.
const GRACE: u32 = 1;
/// The same, if without it there are fewer than k nodes, and at least for [`PATIENCE_WHEN_FEW`].
const GRACE_WHEN_FEW: u32 = 3;
/// Where nodes are few, a busy machine is a likelier cause of silence than a dead one.
const PATIENCE_WHEN_FEW: Duration = Duration::from_secs(1);

/// A node that gave a token is alive, so its acknowledgement is waited for at least this long.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// How many times k nodes are asked for tokens after those found first did not suffice.
const MAX_WIDENING: usize = 2;

/// An address to ask whose id we do not know.
#[derive(Clone, Copy, Debug)]
struct Seed<A> {
    addr: A,
    /// How often it was asked.
    tries: u8,
}

/// A query of ours that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked<A> {
    addr: A,
    store: bool,
    stalled: bool,
    /// How often the address was asked as a seed, this time included.
    tries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Walking,
    Storing,
    Finished,
}

/// The query that a walk wants to send.
#[derive(Debug)]
pub(crate) struct Ask<'w, A> {
    pub(crate) to: A,
    pub(crate) expected: Option<NodeId>,
    pub(crate) store: bool,
    pub(crate) method: Method<'w>,
}

/// One running lookup.
#[derive(Debug)]
pub(crate) struct Walk<A> {
    pub(crate) goal: Goal,
    /// The user's name for it; maintenance has none.
    pub(crate) tag: Option<LookupId>,
    target: Target,
    started: Instant,
    hard_deadline: Instant,
    /// When stalled nodes are no longer waited for.
    grace: Option<Instant>,
    stage: Stage,
    frontier: Frontier<A>,
    /// Addresses to ask whose ids we do not know, in turn: who was slow comes after all others.
    seeds: VecDeque<Seed<A>>,
    /// Seeds for the case that no contact of ours answers.
    fallback: Vec<A>,
    asked: Vec<Asked<A>>,
    /// How many of them may be answered any moment. They belong to the present stage: none begins before
    /// those of the one before it are over or no longer matter.
    in_flight: usize,
    /// Where to store, farthest first.
    stores: Vec<A>,
    /// Nodes asked to store.
    tried: usize,
    /// Refusals that are decisions, see [`is_decision`].
    decided: u32,
    /// How many more nodes may be asked for tokens since those first found were used up; `None`
    /// while they are not.
    widening: Option<usize>,
    harvest: Harvest<A>,
    outcome: Outcome,
}

impl<A: Addr> Walk<A> {
    /// See `Dht::read_ahead`.
    pub(crate) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        if step == 3 {
            // A field in each line.
            ahead.line(&self.goal);
            ahead.line(&self.grace);
            ahead.line(&self.outcome.scrape);
            ahead.line(&self.outcome.duration);
            ahead.line(&self.outcome.queries);
            ahead.line(&self.seeds);
            ahead.line(&self.asked);
            ahead.line(&self.harvest);
            ahead.line(&self.hard_deadline);
            ahead.line(&self.target);
        } else {
            ahead.lines::<_, 3>(&self.asked);
        }
        self.frontier.read_ahead(step, ahead);
    }

    pub(crate) fn new(goal: Goal, tag: Option<LookupId>, target: Target, ctx: &Ctx<'_>) -> Self {
        Self {
            harvest: Harvest::new(&goal),
            goal,
            tag,
            target,
            started: ctx.now,
            hard_deadline: ctx.now + ctx.config.lookup_timeout,
            grace: None,
            stage: Stage::Walking,
            frontier: Frontier::new(target, ctx.config.k),
            seeds: VecDeque::new(),
            fallback: Vec::new(),
            asked: Vec::new(),
            in_flight: 0,
            stores: Vec::new(),
            tried: 0,
            decided: 0,
            widening: None,
            outcome: Outcome::default(),
        }
    }

    /// Makes room for so many contacts to start from, and for whom they lead to: about seven times as
    /// many, and a list that grows is copied.
    pub(crate) fn reserve(&mut self, contacts: usize, config: &Config) {
        self.frontier.reserve((8 * contacts).min(config.max_frontier));
        self.asked.reserve(2 * config.alpha.min(config.max_frontier));
    }

    /// A contact of our own table to start from.
    pub(crate) fn add_contact(&mut self, id: NodeId, addr: A, config: &Config) {
        self.frontier.add(id, addr, 1, config.max_frontier);
    }

    /// An address to start from whose id is unknown.
    pub(crate) fn add_seed(&mut self, addr: A) {
        if self.seeds.len() < MAX_SEEDS {
            self.seeds.push_back(Seed { addr, tries: 0 });
        }
    }

    /// Addresses to ask if nobody else answers.
    pub(crate) fn set_fallback(&mut self, addrs: impl Iterator<Item = A>) {
        self.fallback = addrs.take(MAX_SEEDS).collect();
    }

    /// The next query, if there is one and a free place for it.
    pub(crate) fn next_ask(&mut self, config: &Config) -> Option<Ask<'_, A>> {
        if !self.has_place(config) {
            return None;
        }
        let (to, expected, tries) = self.take_next()?;
        let store = self.stage == Stage::Storing;
        self.asked.push(Asked { addr: to, store, stalled: false, tries: tries + 1 });
        self.in_flight += 1;
        self.outcome.queries += 1;
        let method = if store {
            let candidate = self.frontier.at(to);
            let token = self.frontier.token(to);
            let has_item = candidate.is_some_and(|candidate| candidate.has_item);
            store_method(&self.goal, self.target, token.unwrap_or_default(), has_item, config)
        } else {
            walk_method(&self.goal, self.target)
        };
        Some(Ask { to, expected, store, method })
    }

    /// Whether [`next_ask`](Self::next_ask) would return a query.
    pub(crate) fn can_ask(&mut self, config: &Config) -> bool {
        self.has_place(config)
            && match self.stage {
                Stage::Walking => {
                    self.widening != Some(0) && (!self.seeds.is_empty() || self.frontier.has_next())
                }
                Stage::Storing => !self.stores.is_empty(),
                Stage::Finished => false,
            }
    }

    pub(crate) fn on_reply(
        &mut self,
        from: NodeInfo,
        addr: A,
        store: bool,
        reply: &Reply<'_>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(asked) = self.take_asked(addr, store) else { return };
        self.outcome.replies += 1;
        if asked.store {
            self.outcome.stored += 1;
            // It may have been given up as too slow.
            self.frontier.set_storer(addr, Storer::Asked);
            return;
        }
        let config = ctx.config;
        let place = self.frontier.introduce(from.id, addr, config.max_frontier);
        let has_item = Harvest::<A>::has_item(reply);
        let token = reply.token.filter(|_| self.goal.stores());
        let replied = |at| self.frontier.replied(at, token, has_item);
        let depth = place.and_then(replied).unwrap_or(1);
        if !self.goal.is_direct() {
            self.learn_nodes(addr, depth, reply, ctx);
        }
        let lookup = self.tag.unwrap_or(LookupId { index: 0, generation: 0 });
        let (goal, target) = (&self.goal, self.target);
        if let Some(event) = self.harvest.take(goal, target, lookup, (from, addr), reply, config) {
            let elapsed = ctx.now.since(self.started);
            self.outcome.first_value.get_or_insert(elapsed);
            ctx.outbox.push_event(event);
        }
    }

    pub(crate) fn on_error(
        &mut self,
        from: NodeInfo,
        addr: A,
        store: bool,
        error: &ErrorReply<'_>,
        k: usize,
    ) {
        let Some(asked) = self.take_asked(addr, store) else { return };
        self.outcome.errors += 1;
        if asked.store {
            self.frontier.set_storer(addr, Storer::Unwilling);
            self.decided += u32::from(is_decision(error.code));
        } else {
            self.frontier.mark(addr, State::Failed);
        }
        if (asked.store || self.goal.is_direct()) && self.outcome.refusals.len() < MAX_STORES * k {
            self.outcome.refusals.push(Refusal { node: from, code: error.code });
        }
    }

    /// The query got slow: its place is free for another one.
    pub(crate) fn on_stalled(&mut self, addr: A, store: bool) {
        // An address may be asked twice: as a seed, and under the id that somebody told us.
        let stalls = |a: &&mut Asked<A>| a.addr == addr && a.store == store && !a.stalled;
        let Some(asked) = self.asked.iter_mut().find(stalls) else { return };
        asked.stalled = true;
        self.in_flight -= 1;
        let tries = asked.tries;
        if store {
            self.frontier.set_storer(addr, Storer::Unwilling);
            return;
        }
        if !self.frontier.mark(addr, State::Stalled) && self.outcome.replies == 0 {
            // Nothing else leads into the network, so a lost datagram must not end the lookup.
            if tries < MAX_TRIES && self.seeds.len() < MAX_SEEDS {
                self.seeds.push_back(Seed { addr, tries });
            }
        }
    }

    /// The query failed: no answer at all, or one that cannot be right.
    pub(crate) fn on_failed(&mut self, addr: A, store: bool, timeout: bool) {
        if self.take_asked(addr, store).is_none() {
            return;
        }
        self.outcome.timeouts += u32::from(timeout);
        if store {
            self.frontier.set_storer(addr, Storer::Unwilling);
        } else {
            self.frontier.mark(addr, State::Failed);
        }
    }

    /// Moves on as far as what is known allows. Returns whether the lookup is over.
    pub(crate) fn advance(&mut self, now: Instant, stall: Duration, config: &Config) -> bool {
        if now >= self.hard_deadline {
            self.stage = Stage::Finished;
            self.outcome.ended = Ended::TimedOut;
        }
        if self.stage == Stage::Walking && self.has_converged(now, stall, config) {
            self.on_converged(now, config);
        }
        if self.stage == Stage::Storing && self.has_stored(now, stall, config) {
            self.stage = Stage::Finished;
        }
        self.stage == Stage::Finished
    }

    /// The time is up now.
    pub(crate) const fn expire(&mut self, now: Instant) {
        self.hard_deadline = now;
    }

    /// When [`advance`](Self::advance) must be called though nothing happened.
    pub(crate) fn deadline(&self) -> Instant {
        self.grace.map_or(self.hard_deadline, |grace| grace.min(self.hard_deadline))
    }

    /// What was asked so far, and how that ended: an outcome with nothing else.
    pub(crate) fn into_cost(self) -> Outcome {
        self.outcome
    }

    /// The result, once the lookup is over.
    pub(crate) fn finish(mut self, now: Instant, k: usize) -> Outcome {
        let mut outcome = self.outcome;
        let closest = self.frontier.closest();
        outcome.depth = closest.first().map_or(0, |candidate| candidate.depth);
        let node = |candidate: &&Candidate<A>| NodeInfo {
            id: candidate.id,
            addr: candidate.addr.socket_addr(),
        };
        outcome.closest = closest.iter().take(k).map(node).collect();
        outcome.duration = now.since(self.started);
        if outcome.ended == Ended::Completed {
            outcome.ended = match (outcome.queries, outcome.replies, outcome.errors) {
                (0, _, _) => Ended::NoContacts,
                (_, 0, 0) => Ended::NoAnswer,
                (_, 0, _) => Ended::OnlyErrors,
                _ => Ended::Completed,
            };
        }
        self.harvest.finish(&mut outcome);
        outcome
    }

    /// The bytes that the lookup takes up now, itself included.
    pub(crate) fn memory(&self) -> usize {
        let item = match &self.goal {
            Goal::PutItem { item, .. } => item.memory(),
            Goal::GetItem { salt, .. } => salt.capacity(),
            Goal::Ping
            | Goal::FindNode
            | Goal::GetPeers { .. }
            | Goal::Announce { .. }
            | Goal::Sample
            | Goal::Maintenance(_) => 0,
        };
        size_of::<Self>()
            + item
            + self.frontier.heap_bytes()
            + self.harvest.heap_bytes()
            + self.outcome.heap_bytes()
            + footprint::room::<Seed<A>>(self.seeds.capacity())
            + footprint::room::<A>(self.fallback.capacity() + self.stores.capacity())
            + footprint::room::<Asked<A>>(self.asked.capacity())
    }

    /// The most bytes that one lookup can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        footprint::sum(&[
            size_of::<Self>(),
            Frontier::<A>::memory_ceiling(config.max_frontier),
            Harvest::<A>::MEMORY_CEILING,
            // What is to be put, and the result.
            Item::MEMORY_CEILING,
            Outcome::memory_ceiling(config),
            Self::lists_ceiling(config),
        ])
    }

    /// The most heap bytes of what the walk itself remembers.
    const fn lists_ceiling(config: &Config) -> usize {
        footprint::sum(&[
            footprint::list::<Seed<A>>(MAX_SEEDS),
            footprint::list::<A>(MAX_SEEDS),
            footprint::list::<Asked<A>>(max_asked(config)),
            footprint::list::<A>(2 * config.k),
        ])
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        self.frontier.check_invariants(config.max_frontier);
        // The width of a store shrinks with each node that decides, also with those that had stalled.
        let most = if self.stage == Stage::Storing { config.k } else { config.alpha };
        assert!(self.in_flight <= most, "too many in flight");
        let store = self.stage == Stage::Storing;
        let in_flight = self.asked.iter().filter(|asked| asked.store == store && !asked.stalled);
        assert_eq!(self.in_flight, in_flight.count(), "a place that is never free again");
        assert!(self.stores.len() <= 2 * config.k, "too many nodes to store at");
        let addrs = self.fallback.capacity() + self.stores.capacity();
        let heap = self.seeds.capacity() * size_of::<Seed<A>>()
            + addrs * size_of::<A>()
            + self.asked.capacity() * size_of::<Asked<A>>();
        footprint::check("walk's own lists", heap, Self::lists_ceiling(config));
        let ceiling = Frontier::<A>::memory_ceiling(config.max_frontier);
        footprint::check("frontier", self.frontier.heap_bytes(), ceiling);
        footprint::check("harvest", self.harvest.heap_bytes(), Harvest::<A>::MEMORY_CEILING);
        footprint::check("walk", self.memory(), Self::memory_ceiling(config));
    }

    fn width(&self, config: &Config) -> usize {
        match self.stage {
            Stage::Walking => config.alpha,
            Stage::Storing => config.k.saturating_sub(self.settled()),
            Stage::Finished => 0,
        }
    }

    /// Whether one more query may leave.
    fn has_place(&self, config: &Config) -> bool {
        self.in_flight < self.width(config) && self.asked.len() < max_asked(config)
    }

    /// Nodes that have decided about the store: done, or refused for what the item is.
    fn settled(&self) -> usize {
        (self.outcome.stored + self.decided) as usize
    }

    /// Whom to ask next, under which id, and how often he was asked before.
    fn take_next(&mut self) -> Option<(A, Option<NodeId>, u8)> {
        match self.stage {
            Stage::Walking => {
                if let Some(left) = &mut self.widening {
                    *left = left.checked_sub(1)?;
                }
                if let Some((id, addr)) = self.frontier.ask_next() {
                    return Some((addr, Some(id), 0));
                }
                self.seeds.pop_front().map(|seed| (seed.addr, None, seed.tries))
            }
            Stage::Storing => {
                let addr = self.stores.pop()?;
                self.tried += 1;
                self.frontier.set_storer(addr, Storer::Asked);
                let candidate = self.frontier.at(addr);
                Some((addr, candidate.map(|candidate| candidate.id), 0))
            }
            Stage::Finished => None,
        }
    }

    /// Takes the query to this address off the list; `None` if there is none.
    fn take_asked(&mut self, addr: A, store: bool) -> Option<Asked<A>> {
        let at = self.asked.iter().position(|asked| asked.addr == addr && asked.store == store)?;
        let asked = self.asked.swap_remove(at);
        self.in_flight -= usize::from(!asked.stalled);
        Some(asked)
    }

    fn learn_nodes(&mut self, from: A, depth: u8, reply: &Reply<'_>, ctx: &Ctx<'_>) {
        let bytes = match A::FAMILY {
            crate::addr::Family::V4 => reply.nodes,
            crate::addr::Family::V6 => reply.nodes6,
        };
        // All replies name the same nearest nodes first: with fewer than k of them the last of the k
        // would never be heard of.
        let limit = MAX_NODES_PER_REPLY.max(ctx.config.k);
        let teller = from.scope();
        for (id, addr) in nodes::<A>(bytes.unwrap_or_default()).take(limit) {
            // Most are known.
            if !self.frontier.knows(addr) && id != ctx.own_id && addr.is_credible_in(teller) {
                self.frontier.add(id, addr, depth.saturating_add(1), ctx.config.max_frontier);
            }
        }
    }

    fn has_converged(&mut self, now: Instant, stall: Duration, config: &Config) -> bool {
        if self.goal.is_direct() && self.outcome.replies + self.outcome.errors > 0 {
            return true;
        }
        if let Goal::GetItem { .. } = self.goal
            && self.harvest.item().is_some_and(|item| item.signed().is_none())
        {
            // An immutable value is its own proof, so nobody can have a better one.
            return true;
        }
        if self.widening == Some(0) {
            return self.in_flight == 0;
        }
        let progress = self.frontier.progress();
        if progress.open {
            self.grace = None;
            return false;
        }
        if progress.eligible >= config.k {
            return !self.frontier.awaits_stalled() || self.grace_over(now, stall * GRACE);
        }
        if !self.seeds.is_empty() || self.in_flight > 0 {
            self.grace = None;
            return false;
        }
        if self.outcome.replies == 0 && !self.fallback.is_empty() {
            for addr in core::mem::take(&mut self.fallback) {
                self.add_seed(addr);
            }
            return false;
        }
        !self.asked.iter().any(|asked| !asked.store)
            || (self.outcome.replies > 0
                && self.grace_over(now, PATIENCE_WHEN_FEW.max(stall * GRACE_WHEN_FEW)))
    }

    fn grace_over(&mut self, now: Instant, grace: Duration) -> bool {
        now >= *self.grace.get_or_insert(now + grace)
    }

    fn on_converged(&mut self, now: Instant, config: &Config) {
        self.outcome.converged.get_or_insert_with(|| now.since(self.started));
        self.grace = None;
        self.stage = if self.goal.stores() { Stage::Storing } else { Stage::Finished };
        if self.stage == Stage::Storing {
            let room = (MAX_STORES * config.k).saturating_sub(self.tried).min(2 * config.k);
            self.stores = self.frontier.storers().take(room).collect();
            self.stores.reverse();
            // Answers to the walk no longer matter, and their addresses may be asked again.
            self.asked.retain(|asked| asked.store);
            self.in_flight = self.asked.iter().filter(|asked| !asked.stalled).count();
        }
    }

    fn has_stored(&mut self, now: Instant, stall: Duration, config: &Config) -> bool {
        if self.can_ask(config) || self.in_flight > 0 {
            return false;
        }
        let patience = STORE_PATIENCE.max(stall * GRACE_WHEN_FEW);
        if !self.asked.is_empty() && !self.grace_over(now, patience) {
            return false;
        }
        !self.widen(config)
    }

    /// Too few nodes took it: walks on, for the tokens of nodes farther away. Whoever took it, and
    /// nobody who did not, counts among the k nearest now. Every round asks at least one node more
    /// for a token or to store. Returns whether there is one.
    fn widen(&mut self, config: &Config) -> bool {
        if self.settled() >= config.k || self.tried >= MAX_STORES * config.k {
            return false;
        }
        self.frontier.forget_tokenless();
        let left = self.widening.unwrap_or(MAX_WIDENING * config.k);
        let askable = left > 0 && self.frontier.has_next();
        if !askable && self.frontier.storers().next().is_none() {
            return false;
        }
        self.widening = Some(left);
        self.grace = None;
        self.stage = Stage::Walking;
        true
    }
}

/// Whether a refusal decides about the store: it is for what the item is. A refusal of the token, or
/// by a busy node, is no decision, and another node takes its place.
const fn is_decision(error: i64) -> bool {
    !matches!(error, code::GENERIC..=code::METHOD_UNKNOWN | 0)
}

/// Queries of one walk that may be unanswered, the stalled included: everybody in the frontier, each
/// seed as often as it may be asked, and whoever is to store.
const fn max_asked(config: &Config) -> usize {
    config.max_frontier + MAX_TRIES as usize * MAX_SEEDS + 2 * config.k
}

fn walk_method(goal: &Goal, target: Target) -> Method<'_> {
    match goal {
        Goal::Ping => Method::Ping,
        Goal::FindNode => Method::FindNode { target },
        Goal::GetPeers { scrape, noseed } => {
            Method::GetPeers { info_hash: target.info_hash(), noseed: *noseed, scrape: *scrape }
        }
        // Walking with get_peers reaches nodes that answer find_node wrongly (anacrolix/dht looks
        // at `info_hash` there), and gives the tokens for an announce.
        Goal::Announce { .. } | Goal::Maintenance(_) => {
            Method::GetPeers { info_hash: target.info_hash(), noseed: false, scrape: false }
        }
        Goal::GetItem { newer_than, .. } => {
            Method::Get { target: target.item_id(), seq: *newer_than }
        }
        Goal::PutItem { .. } => Method::Get { target: target.item_id(), seq: None },
        Goal::Sample => Method::SampleInfohashes { target },
    }
}

fn store_method<'w>(
    goal: &'w Goal,
    target: Target,
    token: &'w [u8],
    has_item: bool,
    config: &Config,
) -> Method<'w> {
    match goal {
        Goal::Announce { port, seed } => Method::AnnouncePeer {
            info_hash: target.info_hash(),
            // A real port goes along with `implied_port`: some nodes look at nothing else.
            port: match port {
                AnnouncePort::Explicit(port) => *port,
                AnnouncePort::Implied => config.port,
            },
            implied_port: *port == AnnouncePort::Implied,
            seed: *seed,
            token,
        },
        Goal::PutItem { item, cas } => Method::Put(Put {
            token,
            v: item.value(),
            mutable: item.signed().map(|signed| PutMutable {
                public_key: &signed.public_key,
                salt: &signed.salt,
                seq: signed.seq,
                signature: &signed.signature,
                // BEP 44: nodes without the item have nothing to compare with.
                cas: cas.filter(|_| has_item),
            }),
        }),
        Goal::Ping
        | Goal::FindNode
        | Goal::GetPeers { .. }
        | Goal::GetItem { .. }
        | Goal::Sample
        | Goal::Maintenance(_) => unreachable!("only goals that store reach the storing stage"),
    }
}
