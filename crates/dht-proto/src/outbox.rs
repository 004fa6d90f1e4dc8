//! Work that is decided but not sent, and events that are not read: the only place where output
//! waits. It holds work, never bytes: datagrams are built when the caller asks for one.

use alloc::collections::VecDeque;

use crate::config::Config;
use crate::footprint;
use crate::request::{Event, Outcome};

/// Room that an empty queue keeps, so that an idle node is small and a busy one does not allocate
/// for each query.
const KEPT: usize = 4;

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
        // Beside the events that stop the lookups, each query in flight may bring one, and each
        // lookup its end.
        let finds = config.max_events + config.max_transactions;
        let ends = config.max_lookups;
        footprint::sum(&[
            footprint::list::<u32>(config.max_lookups),
            footprint::list::<Event>(finds + ends),
            finds.saturating_mul(MAX_EVENT_HEAP),
            ends.saturating_mul(Outcome::memory_ceiling(config)),
        ])
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        assert!(self.ready.len() <= config.max_lookups, "a lookup is in the ring twice");
        let max = config.max_events + config.max_transactions + config.max_lookups;
        assert!(self.events.len() <= max, "more events than were counted");
    }
}
