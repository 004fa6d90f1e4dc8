//! Running lookups, as iterators.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::time::Instant;

use dht_driver::{Command, Ticket};
use dht_proto::request::{Ended, Event, Outcome};

use crate::channel::{Next, Receiver};
use crate::error::Error;
use crate::handle::Dht;

/// Peers that one lookup remembers in order not to repeat them, at most.
const MAX_REMEMBERED: usize = 100_000;

/// A running lookup: an iterator over what it finds. Dropping it cancels the lookup.
///
/// The iterator blocks, and ends when the lookup has ended or the time is up; then
/// [`LookupHandle::outcome`] says how it went.
#[derive(Debug)]
pub struct LookupHandle {
    dht: Dht,
    ticket: Ticket,
    receiver: Receiver,
    started: Instant,
    deadline: Instant,
    end: Option<Result<Outcome, Error>>,
    /// What is known if the time is up before the lookup has ended.
    partial: Outcome,
    /// Bounded by [`MAX_REMEMBERED`].
    seen: BTreeSet<SocketAddr>,
    /// Those peers of the last event that were new, in reverse order.
    fresh: Vec<SocketAddr>,
}

impl LookupHandle {
    pub(crate) fn new(dht: Dht, ticket: Ticket, receiver: Receiver, timeout: Duration) -> Self {
        let started = Instant::now();
        let deadline = crate::clock::after(started, timeout);
        Self {
            dht,
            ticket,
            receiver,
            started,
            deadline,
            end: None,
            partial: Outcome::default(),
            seen: BTreeSet::new(),
            fresh: Vec::new(),
        }
    }

    /// Waits for the end, skipping what has not been read.
    ///
    /// If the time is up first, the lookup is cancelled and the outcome holds what was known by
    /// then, with [`Ended::TimedOut`]: the newest item and the number of peers, but neither nodes
    /// nor counts of queries.
    ///
    /// # Errors
    /// If the lookup was not started, see [`ErrorKind`](crate::ErrorKind), or the node has stopped.
    pub fn outcome(mut self) -> Result<Outcome, Error> {
        while self.next().is_some() {}
        self.end.take().unwrap_or_else(|| Err(Error::stopped()))
    }

    /// Streams only the peers, each once.
    #[must_use]
    pub fn peers(self) -> Peers {
        Peers { lookup: self }
    }

    /// Stops the lookup. The same as dropping it.
    pub fn cancel(self) {}

    /// Notes what is new, and what the outcome should hold if the time runs out.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Peers { peers, .. } => {
                self.fresh.clear();
                for peer in peers {
                    // Beyond the bound, what was forgotten may repeat.
                    let full = self.seen.len() >= MAX_REMEMBERED;
                    if if full { !self.seen.contains(peer) } else { self.seen.insert(*peer) } {
                        self.fresh.push(*peer);
                    }
                }
                self.fresh.reverse();
                self.partial.peers = self.seen.len() as u32;
            }
            Event::Item { item, .. } => self.partial.item = Some(item.clone()),
            Event::Samples { .. } | _ => {}
        }
        self.partial.first_value.get_or_insert_with(|| self.started.elapsed());
    }

    fn time_up(&mut self) -> Outcome {
        self.dht.post(Command::Cancel(self.ticket));
        let mut outcome = core::mem::take(&mut self.partial);
        outcome.ended = Ended::TimedOut;
        outcome.duration = self.started.elapsed();
        outcome
    }
}

impl Iterator for LookupHandle {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        let end = match self.receiver.next(self.deadline) {
            Next::Event(event) => {
                self.note(&event);
                return Some(event);
            }
            Next::Finished(Ok(outcome)) => Ok(*outcome),
            Next::Finished(Err(error)) => Err(error.into()),
            Next::Stopped => Err(Error::stopped()),
            Next::TimedOut => Ok(self.time_up()),
        };
        self.end = Some(end);
        None
    }
}

impl Drop for LookupHandle {
    fn drop(&mut self) {
        if self.end.is_none() {
            // If the queue is full, the loop notices at the next event that nobody listens.
            self.dht.post(Command::Cancel(self.ticket));
        }
    }
}

/// The peers of a torrent, each once, as they arrive. Dropping it cancels the lookup.
#[derive(Debug)]
pub struct Peers {
    lookup: LookupHandle,
}

impl Peers {
    /// Waits for the end, skipping peers that have not been read; see [`LookupHandle::outcome`].
    ///
    /// # Errors
    /// If the lookup was not started, or the node has stopped.
    pub fn outcome(self) -> Result<Outcome, Error> {
        self.lookup.outcome()
    }
}

impl Iterator for Peers {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        loop {
            if let Some(peer) = self.lookup.fresh.pop() {
                return Some(peer);
            }
            self.lookup.next()?;
        }
    }
}
