//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::collections::VecDeque;

use crate::config::Config;
use crate::id::NodeId;
use crate::request::Event;

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work<A> {
    /// The lookup in this slot may have a query to send.
    Lookup(u32),
    /// Is this node alive, and is it who we think?
    Ping(Option<NodeId>, A),
}

/// Pings that wait at a time, at most; the table offers more when these have left.
const MAX_PINGS: usize = 16;

/// Room that an empty queue keeps, so that an idle node is small and a busy one does not allocate
/// for each query.
const KEPT: usize = 4;

/// What an event keeps on the heap, at most: the peers of one reply.
const MAX_EVENT_HEAP: usize = 128 * size_of::<core::net::SocketAddr>();

/// The ready ring and the event queue of one node.
#[derive(Debug)]
pub(crate) struct Outbox<A> {
    ready: VecDeque<Work<A>>,
    pings: usize,
    events: VecDeque<Event>,
}

impl<A: Copy> Outbox<A> {
    pub(crate) const fn new() -> Self {
        Self { ready: VecDeque::new(), pings: 0, events: VecDeque::new() }
    }

    /// Appends work. Lookups keep a flag so that each is in the ring at most once.
    pub(crate) fn push(&mut self, work: Work<A>) {
        self.pings += usize::from(matches!(work, Work::Ping(..)));
        self.ready.push_back(work);
    }

    pub(crate) fn pop(&mut self) -> Option<Work<A>> {
        let work = self.ready.pop_front()?;
        if self.ready.is_empty() && self.ready.capacity() > KEPT {
            self.ready = VecDeque::new();
        }
        self.pings -= usize::from(matches!(work, Work::Ping(..)));
        Some(work)
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

    pub(crate) fn accepts_pings(&self) -> bool {
        self.pings < MAX_PINGS
    }

    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    /// The most heap bytes that waiting work and events can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        let work = (MAX_PINGS + config.max_lookups) * size_of::<Work<A>>();
        // Beside the events that stop the lookups, each query in flight may bring one, and each
        // lookup its end. An event's list of peers fits the datagram that it came in.
        let events = config.max_events + config.max_transactions + config.max_lookups;
        2 * work + events * (2 * size_of::<Event>() + MAX_EVENT_HEAP)
    }

    pub(crate) fn check_invariants(&self, max_lookups: usize) {
        assert!(self.pings <= MAX_PINGS, "too many pings wait");
        assert!(self.ready.len() <= MAX_PINGS + max_lookups, "a lookup is in the ring twice");
    }
}
