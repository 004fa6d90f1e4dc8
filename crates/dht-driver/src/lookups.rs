//! Which running lookup belongs to whom.

use std::collections::BTreeMap;

use dht_proto::request::{Event, LookupId, Outcome};

use crate::command::{Delivery, Subscriber, Ticket};

/// Running lookups and their subscribers. As many as the state machine lets run.
#[derive(Debug)]
pub(crate) struct Lookups<S> {
    by_id: BTreeMap<LookupId, (Ticket, S)>,
    by_ticket: BTreeMap<Ticket, LookupId>,
}

impl<S: Subscriber> Lookups<S> {
    pub(crate) const fn new() -> Self {
        Self { by_id: BTreeMap::new(), by_ticket: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, id: LookupId, ticket: Ticket, subscriber: S) {
        self.by_id.insert(id, (ticket, subscriber));
        self.by_ticket.insert(ticket, id);
        self.check_invariants();
    }

    /// The lookup of a ticket; `None` if it has ended.
    pub(crate) fn id(&self, ticket: Ticket) -> Option<LookupId> {
        self.by_ticket.get(&ticket).copied()
    }

    /// Forgets a lookup by its ticket; `None` if it has ended.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<LookupId> {
        let id = self.by_ticket.remove(&ticket)?;
        self.by_id.remove(&id);
        Some(id)
    }

    /// Hands an event to the subscriber, if there still is one.
    pub(crate) fn deliver(&mut self, id: LookupId, event: Event) -> Option<Delivery> {
        let (_, subscriber) = self.by_id.get_mut(&id)?;
        Some(subscriber.deliver(event))
    }

    /// Ends a lookup: its subscriber hears the outcome.
    pub(crate) fn finish(&mut self, id: LookupId, outcome: Box<Outcome>) {
        if let Some((ticket, subscriber)) = self.by_id.remove(&id) {
            self.by_ticket.remove(&ticket);
            subscriber.finish(Ok(outcome));
        }
        self.check_invariants();
    }

    /// Forgets a lookup that nobody listens to.
    pub(crate) fn abandon(&mut self, id: LookupId) {
        if let Some((ticket, _)) = self.by_id.remove(&id) {
            self.by_ticket.remove(&ticket);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
        self.by_ticket.clear();
    }

    pub(crate) fn check_invariants(&self) {
        debug_assert_eq!(self.by_id.len(), self.by_ticket.len(), "one ticket per lookup");
    }
}
