//! Running lookups, as iterators.

use core::net::SocketAddr;
use core::time::Duration;
use std::time::Instant;

use dht_driver::{Command, Next, Receiver, Ticket};
use dht_net::{Error, Tally, after};
use dht_proto::request::{Event, Outcome};

use crate::handle::Dht;
use crate::park;

/// The loop may take this long to say what a lookup has come to.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// A running lookup: an iterator over what it finds. Dropping it cancels the lookup.
///
/// The iterator blocks, and ends when the lookup has ended or the time is up; then
/// [`LookupHandle::outcome`] says how it went.
#[derive(Debug)]
pub struct LookupHandle {
    dht: Dht,
    ticket: Ticket,
    receiver: Receiver,
    deadline: Instant,
    /// The time was up, and the loop has been told so.
    is_late: bool,
    end: Option<Result<Outcome, Error>>,
    tally: Tally,
}

impl LookupHandle {
    pub(crate) fn new(dht: Dht, ticket: Ticket, receiver: Receiver, timeout: Duration) -> Self {
        let tally = Tally::new();
        let deadline = after(tally.started(), timeout);
        Self { dht, ticket, receiver, deadline, is_late: false, end: None, tally }
    }

    /// Waits for the end, skipping what has not been read.
    ///
    /// If the time is up first, the lookup is ended, and the outcome holds what it has come to by then,
    /// with [`Ended::TimedOut`](dht_proto::request::Ended::TimedOut): who has stored an item, too. Only if the loop is not run, or
    /// busier than that, there are but the newest item and the number of peers.
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
}

impl Iterator for LookupHandle {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        let end = match park::until(self.deadline, |cx| self.receiver.poll_next(cx)) {
            Some(Next::Event(event)) => {
                self.tally.note(&event);
                return Some(event);
            }
            Some(Next::Finished(Ok(outcome))) => Ok(*outcome),
            Some(Next::Finished(Err(error))) => Err(error.into()),
            Some(Next::Stopped) => Err(Error::stopped()),
            None if !self.is_late => {
                self.is_late = true;
                self.deadline = after(Instant::now(), END_PATIENCE);
                self.dht.post(Command::Finish(self.ticket));
                return self.next();
            }
            None => {
                self.dht.post(Command::Cancel(self.ticket));
                Ok(self.tally.time_up())
            }
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
            if let Some(peer) = self.lookup.tally.fresh_peer() {
                return Some(peer);
            }
            self.lookup.next()?;
        }
    }
}
