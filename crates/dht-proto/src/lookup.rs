//! Running lookups: who they are, when they may send, and when they end.
//!
//! A lookup that has something to ask and a free place for it stands in the ready ring of the
//! [`Outbox`], once; nothing here ever walks over all lookups.

mod frontier;
mod harvest;
mod places;
mod survey;
mod walk;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Addr;
use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::footprint;
use crate::id::NodeId;
use crate::item::Item;
use crate::outbox::Outbox;
use crate::request::{AnnouncePort, Event, NodeInfo, Outcome};
use crate::time::Instant;
use crate::wire::{ErrorReply, Reply};

pub(crate) use self::walk::{Ask, MAX_SEEDS, Walk};

/// What a lookup is for.
#[derive(Debug)]
pub(crate) enum Goal {
    Ping,
    FindNode,
    GetPeers { scrape: bool, noseed: bool },
    Announce { port: AnnouncePort, seed: bool },
    GetItem { salt: Vec<u8>, newer_than: Option<i64> },
    PutItem { item: Box<Item>, cas: Option<i64> },
    Sample,
    Maintenance(Maintenance),
}

/// Lookups that the node makes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maintenance {
    /// Towards our own id, to join and to know the neighbourhood.
    Join,
    /// Towards a random id in a stale bucket.
    Refresh,
}

impl Goal {
    /// One node is asked, not a walk made.
    pub(crate) const fn is_direct(&self) -> bool {
        matches!(self, Self::Ping | Self::Sample)
    }

    /// Something is stored at the end of the walk.
    pub(crate) const fn stores(&self) -> bool {
        matches!(self, Self::Announce { .. } | Self::PutItem { .. })
    }
}

/// What the lookups need from the node around them.
#[derive(Debug)]
pub(crate) struct Ctx<'c> {
    pub(crate) now: Instant,
    pub(crate) own_id: NodeId,
    pub(crate) config: &'c Config,
    pub(crate) stall: Duration,
    pub(crate) outbox: &'c mut Outbox,
}

/// Names a query's lookup; outlives the lookup without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkRef {
    slot: u32,
    generation: u32,
    pub(crate) store: bool,
}

/// A maintenance lookup that ended, and whether anybody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) kind: Maintenance,
    pub(crate) answered: bool,
}

#[derive(Debug)]
struct Slot<A> {
    generation: u32,
    walk: Option<Box<Walk<A>>>,
    /// Whether the slot stands in the ready ring. It outlives the lookup: a new one in the same slot
    /// inherits the place.
    queued: bool,
    /// The deadline under which the lookup stands in `deadlines`.
    deadline: Instant,
}

impl<A: Addr> Slot<A> {
    /// Puts the lookup into the ready ring if it has something to ask.
    fn enqueue(&mut self, slot: u32, ctx: &mut Ctx<'_>) {
        let Some(walk) = &mut self.walk else { return };
        if !self.queued && walk.can_ask(ctx.config) {
            self.queued = true;
            ctx.outbox.push(slot);
        }
    }
}

/// All lookups of one node.
#[derive(Debug)]
pub(crate) struct Lookups<A> {
    /// What a node needs while lookups run; an idle one has nothing.
    running: Option<Box<Running<A>>>,
    /// That of the latest lookup, whatever its slot.
    generation: u32,
}

#[derive(Debug)]
struct Running<A> {
    slots: Vec<Slot<A>>,
    free: Vec<u32>,
    deadlines: BTreeSet<(Instant, u32)>,
    ended: VecDeque<Ended>,
}

impl<A> Default for Running<A> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }
}

impl<A> Running<A> {
    fn remove(&mut self, slot: u32) -> Option<Box<Walk<A>>> {
        let entry = self.slots.get_mut(slot as usize)?;
        let walk = entry.walk.take()?;
        self.deadlines.remove(&(entry.deadline, slot));
        self.free.push(slot);
        Some(walk)
    }
}

impl<A: Addr> Lookups<A> {
    pub(crate) const fn new() -> Self {
        Self { running: None, generation: 0 }
    }

    /// Starts a lookup. The caller has made sure that there is room.
    pub(crate) fn start(&mut self, walk: Walk<A>, ctx: &mut Ctx<'_>) -> WalkRef {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let running = self.running.get_or_insert_with(Box::default);
        let slot = running.free.pop().unwrap_or_else(|| {
            running.slots.push(Slot {
                generation,
                walk: None,
                queued: false,
                deadline: Instant::ZERO,
            });
            (running.slots.len() - 1) as u32
        });
        if let Some(entry) = running.slots.get_mut(slot as usize) {
            entry.generation = generation;
            entry.deadline = walk.deadline();
            running.deadlines.insert((entry.deadline, slot));
            entry.walk = Some(Box::new(walk));
        }
        self.settle(slot, ctx);
        WalkRef { slot, generation, store: false }
    }

    /// Ends a lookup without a word.
    pub(crate) fn cancel(&mut self, walk: WalkRef) -> bool {
        self.stop(walk).is_some()
    }

    /// The same. Returns what it has cost so far.
    pub(crate) fn stop(&mut self, walk: WalkRef) -> Option<Outcome> {
        self.state(walk)?;
        Some(self.running.as_mut()?.remove(walk.slot)?.into_cost())
    }

    /// Ends a lookup as if its time were up: what it has come to is an event.
    pub(crate) fn expire(&mut self, walk: WalkRef, ctx: &mut Ctx<'_>) {
        if let Some(state) = self.state(walk) {
            state.expire(ctx.now);
            self.settle(walk.slot, ctx);
        }
    }

    /// The next query of the lookup in `slot`, which was taken from the ready ring.
    pub(crate) fn next_ask(&mut self, slot: u32, config: &Config) -> Option<(Ask<'_, A>, WalkRef)> {
        let entry = self.running.as_mut()?.slots.get_mut(slot as usize)?;
        entry.queued = false;
        let walk = entry.walk.as_mut()?;
        let ask = walk.next_ask(config)?;
        let reference = WalkRef { slot, generation: entry.generation, store: ask.store };
        Some((ask, reference))
    }

    /// Puts the lookup back into the ring if it has more to ask.
    ///
    /// It cannot be over: it awaits the answer to what it just asked, and if its time is up, a timeout
    /// says so.
    pub(crate) fn after_ask(&mut self, walk: WalkRef, ctx: &mut Ctx<'_>) {
        let slots = self.running.as_mut().map(|running| &mut running.slots);
        if let Some(entry) = slots.and_then(|slots| slots.get_mut(walk.slot as usize)) {
            entry.enqueue(walk.slot, ctx);
        }
    }

    pub(crate) fn on_reply(
        &mut self,
        walk: WalkRef,
        from: NodeInfo,
        addr: A,
        reply: &Reply<'_>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Some(state) = self.state(walk) {
            state.on_reply(from, addr, walk.store, reply, ctx);
            self.settle(walk.slot, ctx);
        }
    }

    pub(crate) fn on_error(
        &mut self,
        walk: WalkRef,
        from: NodeInfo,
        addr: A,
        error: &ErrorReply<'_>,
        ctx: &mut Ctx<'_>,
    ) {
        if let Some(state) = self.state(walk) {
            state.on_error(from, addr, walk.store, error, ctx.config.k);
            self.settle(walk.slot, ctx);
        }
    }

    pub(crate) fn on_stalled(&mut self, walk: WalkRef, addr: A, ctx: &mut Ctx<'_>) {
        if let Some(state) = self.state(walk) {
            state.on_stalled(addr, walk.store);
            self.settle(walk.slot, ctx);
        }
    }

    /// The query brought nothing: silence (`timeout`), an unreachable address, or a wrong id.
    pub(crate) fn on_failed(&mut self, walk: WalkRef, addr: A, timeout: bool, ctx: &mut Ctx<'_>) {
        if let Some(state) = self.state(walk) {
            state.on_failed(addr, walk.store, timeout);
            self.settle(walk.slot, ctx);
        }
    }

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Ctx<'_>) {
        // Every round ends a lookup or moves its deadline past `now`.
        while let Some((deadline, slot)) = self.first_deadline() {
            if deadline > ctx.now {
                break;
            }
            self.settle(slot, ctx);
        }
        // The ready ring may still name slots of lookups that ended.
        if self.len() == 0 && !self.has_ended() && !ctx.outbox.has_work() {
            self.running = None;
            ctx.outbox.shrink();
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.first_deadline().map(|(deadline, _)| deadline)
    }

    /// The next maintenance lookup that ended.
    pub(crate) fn pop_ended(&mut self) -> Option<Ended> {
        self.running.as_mut()?.ended.pop_front()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.ended.is_empty())
    }

    /// Whether the last lookup has ended, and its memory can be given back.
    pub(crate) fn are_over(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.deadlines.is_empty())
    }

    /// See `Dht::read_ahead`: of the first lookup that runs.
    pub(crate) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        let Some(running) = self.running.as_deref().filter(|_| step > 0) else { return };
        let first = running.slots.first();
        match step {
            1 => {
                ahead.line(&running.slots);
                ahead.line(&running.ended);
            }
            2 => first.into_iter().for_each(|slot| ahead.line(slot)),
            _ => {
                if let Some(walk) = first.and_then(|slot| slot.walk.as_deref()) {
                    walk.read_ahead(step, ahead);
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.deadlines.len())
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Some(running) = &self.running else { return 0 };
        let walks = running.slots.iter().filter_map(|slot| slot.walk.as_ref());
        size_of::<Running<A>>()
            + footprint::room::<Slot<A>>(running.slots.capacity())
            + footprint::room::<u32>(running.free.capacity())
            + footprint::tree::<(Instant, u32), ()>(running.deadlines.len())
            + footprint::room::<Ended>(running.ended.capacity())
            + walks.map(|walk| walk.memory()).sum::<usize>()
    }

    /// The most heap bytes that lookups can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        let max = config.max_lookups;
        footprint::sum(&[
            size_of::<Running<A>>(),
            footprint::list::<Slot<A>>(max),
            footprint::list::<u32>(max),
            footprint::btree::<(Instant, u32), ()>(max),
            footprint::list::<Ended>(max),
            max.saturating_mul(Walk::<A>::memory_ceiling(config)),
        ])
    }

    /// Whether the query was one of the node's own lookups.
    pub(crate) fn is_maintenance(&self, walk: WalkRef) -> bool {
        let slot = self.running.as_ref().and_then(|all| all.slots.get(walk.slot as usize));
        let slot = slot.filter(|slot| slot.generation == walk.generation);
        slot.and_then(|slot| slot.walk.as_ref())
            .is_some_and(|walk| matches!(walk.goal, Goal::Maintenance(_)))
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        assert!(self.len() <= config.max_lookups, "more lookups than allowed");
        let slots = self.running.iter().flat_map(|running| &running.slots);
        let running = slots.filter_map(|slot| slot.walk.as_ref());
        assert_eq!(running.clone().count(), self.len(), "a lookup without deadline");
        running.for_each(|walk| walk.check_invariants(config));
    }

    fn state(&mut self, walk: WalkRef) -> Option<&mut Walk<A>> {
        let slot = self.running.as_mut()?.slots.get_mut(walk.slot as usize)?;
        if slot.generation == walk.generation { slot.walk.as_deref_mut() } else { None }
    }

    /// Lets a lookup move on, end, or ask for a place in the ready ring.
    fn settle(&mut self, slot: u32, ctx: &mut Ctx<'_>) {
        let Some(running) = &mut self.running else { return };
        let Some(entry) = running.slots.get_mut(slot as usize) else { return };
        let Some(walk) = &mut entry.walk else { return };
        if walk.advance(ctx.now, ctx.stall, ctx.config) {
            self.finish(slot, ctx);
            return;
        }
        let deadline = walk.deadline();
        entry.enqueue(slot, ctx);
        if deadline != entry.deadline {
            running.deadlines.remove(&(entry.deadline, slot));
            running.deadlines.insert((deadline, slot));
            entry.deadline = deadline;
        }
    }

    fn finish(&mut self, slot: u32, ctx: &mut Ctx<'_>) {
        let Some(running) = &mut self.running else { return };
        let Some(walk) = running.remove(slot) else { return };
        let (tag, goal) = (walk.tag, maintenance(&walk.goal));
        let outcome: Outcome = walk.finish(ctx.now, ctx.config.k);
        if let Some(kind) = goal {
            running.ended.push_back(Ended { kind, answered: outcome.replies > 0 });
        }
        if let Some(lookup) = tag {
            ctx.outbox.push_event(Event::Done { lookup, outcome: Box::new(outcome) });
        }
    }

    fn first_deadline(&self) -> Option<(Instant, u32)> {
        self.running.as_ref()?.deadlines.first().copied()
    }
}

const fn maintenance(goal: &Goal) -> Option<Maintenance> {
    match goal {
        Goal::Maintenance(kind) => Some(*kind),
        Goal::Ping
        | Goal::FindNode
        | Goal::GetPeers { .. }
        | Goal::Announce { .. }
        | Goal::GetItem { .. }
        | Goal::PutItem { .. }
        | Goal::Sample => None,
    }
}
