//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::collections::VecDeque;

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
        self.pings -= usize::from(matches!(work, Work::Ping(..)));
        Some(work)
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        self.events.pop_front()
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

    pub(crate) fn check_invariants(&self, max_lookups: usize) {
        assert!(self.pings <= MAX_PINGS, "too many pings wait");
        assert!(self.ready.len() <= MAX_PINGS + max_lookups, "a lookup is in the ring twice");
    }
}
