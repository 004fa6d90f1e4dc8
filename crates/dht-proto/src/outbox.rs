//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::footprint;
use crate::request::{Event, Outcome};

/// What an event other than `Done` keeps on the heap, at most: the peers of one reply, which are more
/// than an item or the samples that fit a datagram.
const MAX_EVENT_HEAP: usize = footprint::list::<core::net::SocketAddr>(MAX_PEERS_PER_REPLY);

/// Peers taken from one reply: libtorrent, the most generous, sends a hundred.
pub(crate) const MAX_PEERS_PER_REPLY: usize = 128;

/// The ready ring and the event queue of one node.
///
/// Only what a lookup brings is queued. Our role and our address are states, of which the latest is
/// told by the node when it is asked for an event.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// An idle node has none.
    queues: Option<Box<Queues>>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Slots of lookups that may have a query to send.
    ready: VecDeque<u32>,
    events: VecDeque<Event>,
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { queues: None }
    }

    /// Appends a lookup. Slots keep a flag so that each is in the ring at most once.
    pub(crate) fn push(&mut self, slot: u32) {
        self.queues.get_or_insert_with(Box::default).ready.push_back(slot);
    }

    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.queues.as_mut()?.ready.pop_front()
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.queues.get_or_insert_with(Box::default).events.push_back(event);
    }

    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        self.queues.as_mut()?.events.pop_front()
    }

    /// Removes the events that `keep` refuses (those of a cancelled lookup).
    pub(crate) fn retain_events(&mut self, keep: impl FnMut(&Event) -> bool) {
        if let Some(queues) = &mut self.queues {
            queues.events.retain(keep);
        }
    }

    /// Gives the memory of empty queues back. Not done whenever one gets empty: a busy node would
    /// allocate for each query.
    pub(crate) fn shrink(&mut self) {
        if !self.has_work() && self.events() == 0 {
            self.queues = None;
        }
    }

    /// See `Dht::read_ahead`.
    pub(crate) fn read_ahead(&self, ahead: &mut impl ReadAhead) {
        if let Some(queues) = self.queues.as_deref() {
            ahead.line(&queues.ready);
            ahead.line(&queues.events);
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.queues.as_ref().is_some_and(|queues| !queues.ready.is_empty())
    }

    pub(crate) fn events(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.events.len())
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Some(queues) = &self.queues else { return 0 };
        size_of::<Queues>()
            + footprint::room::<u32>(queues.ready.capacity())
            + footprint::room::<Event>(queues.events.capacity())
            + queues.events.iter().map(Event::heap_bytes).sum::<usize>()
    }

    /// The most heap bytes that waiting work and events can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        // Beside the events that stop the lookups, each query in flight may bring one, and each
        // lookup its end.
        let finds = config.max_events + config.max_transactions;
        let ends = config.max_lookups;
        footprint::sum(&[
            size_of::<Queues>(),
            footprint::list::<u32>(config.max_lookups),
            footprint::list::<Event>(finds + ends),
            finds.saturating_mul(MAX_EVENT_HEAP),
            ends.saturating_mul(Outcome::memory_ceiling(config)),
        ])
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        let Some(queues) = &self.queues else { return };
        assert!(queues.ready.len() <= config.max_lookups, "a lookup is in the ring twice");
        let max = config.max_events + config.max_transactions + config.max_lookups;
        assert!(queues.events.len() <= max, "more events than were counted");
    }
}
