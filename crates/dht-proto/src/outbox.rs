//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::collections::VecDeque;

use crate::config::Config;
use crate::request::Event;

/// Room that an empty queue keeps, so that an idle node is small and a busy one does not allocate
/// for each query.
const KEPT: usize = 4;

/// What an event keeps on the heap, at most: the peers of one reply.
const MAX_EVENT_HEAP: usize = 128 * size_of::<core::net::SocketAddr>();

/// The ready ring and the event queue of one node.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Slots of lookups that may have a query to send.
    ready: VecDeque<u32>,
    events: VecDeque<Event>,
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { ready: VecDeque::new(), events: VecDeque::new() }
    }

    /// Appends a lookup. Slots keep a flag so that each is in the ring at most once.
    pub(crate) fn push(&mut self, slot: u32) {
        self.ready.push_back(slot);
    }

    pub(crate) fn pop(&mut self) -> Option<u32> {
        let slot = self.ready.pop_front()?;
        if self.ready.is_empty() && self.ready.capacity() > KEPT {
            self.ready = VecDeque::new();
        }
        Some(slot)
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// Removes the events that `keep` refuses (those of a cancelled lookup).
    pub(crate) fn retain_events(&mut self, keep: impl FnMut(&Event) -> bool) {
        self.events.retain(keep);
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    /// The most heap bytes that waiting work and events can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        let ready = config.max_lookups * size_of::<u32>();
        // Beside the events that stop the lookups, each query in flight may bring one, and each
        // lookup its end. An event's list of peers fits the datagram that it came in.
        let events = config.max_events + config.max_transactions + config.max_lookups;
        2 * ready + events * (2 * size_of::<Event>() + MAX_EVENT_HEAP)
    }

    pub(crate) fn check_invariants(&self, max_lookups: usize) {
        assert!(self.ready.len() <= max_lookups, "a lookup is in the ring twice");
    }
}
