//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::config::Config;
use crate::request::Event;

/// What an event keeps on the heap, at most: the peers of one reply.
const MAX_EVENT_HEAP: usize = 128 * size_of::<core::net::SocketAddr>();

/// The ready ring and the event queue of one node.
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

    pub(crate) fn has_work(&self) -> bool {
        self.queues.as_ref().is_some_and(|queues| !queues.ready.is_empty())
    }

    pub(crate) fn events(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.events.len())
    }

    /// The most heap bytes that waiting work and events can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        let ready = config.max_lookups * size_of::<u32>();
        // Beside the events that stop the lookups, each query in flight may bring one, and each
        // lookup its end. An event's list of peers fits the datagram that it came in.
        let events = config.max_events + config.max_transactions + config.max_lookups;
        size_of::<Queues>() + 2 * ready + events * (2 * size_of::<Event>() + MAX_EVENT_HEAP)
    }

    pub(crate) fn check_invariants(&self, max_lookups: usize) {
        let ready = self.queues.as_ref().map_or(0, |queues| queues.ready.len());
        assert!(ready <= max_lookups, "a lookup is in the ring twice");
    }
}
