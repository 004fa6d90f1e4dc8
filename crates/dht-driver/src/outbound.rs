//! The send side of one network: a fixed arena of datagrams, and what to do when its socket does not
//! take one. Each network has its own, so that a full socket holds up nobody else.
//!
//! The arena is filled from the front and emptied from the front. What the socket does not take
//! stays in place and goes first next time, because the clock of a query starts when it is built.

use core::net::SocketAddr;
use core::time::Duration;

use dht_proto::MAX_DATAGRAM;
use dht_proto::time::Instant;

use crate::io::{Fault, Io, Outgoing, RECV_BATCH};
use crate::stats::IoStats;

/// Queries and maintenance built per pass and network, at most.
pub const SEND_BUDGET: usize = 64;
/// Slots of the arena: a reply for every datagram of a batch, and a full budget of queries.
pub(crate) const SLOTS: usize = RECV_BATCH + SEND_BUDGET;
/// A full socket is tried again after this long, even if nobody reported it writable.
pub(crate) const BLOCKED_RETRY: Duration = Duration::from_millis(50);
/// Pause after the first "no buffers"; doubles each time.
const NO_BUFFERS_PAUSE: Duration = Duration::from_millis(1);
/// A datagram that met "no buffers" this many times in a row is dropped: some systems report the
/// state of a dead interface this way, and it may be permanent.
const NO_BUFFERS_TRIES: u32 = 6;
/// Calls that were interrupted, or that reported somebody else's error, this often in a row count
/// as blocked.
const REPEATS: u32 = 16;
/// So many datagrams lost in a row, without one that left, are the socket's fault.
const FAILURES: u32 = 8;

/// Datagrams on their way out.
#[derive(Debug)]
pub(crate) struct Outbound {
    buffers: Box<[[u8; MAX_DATAGRAM]]>,
    outgoing: Vec<Outgoing>,
    /// The first slot that is still to be sent; those before it are free only after the last.
    head: usize,
    pause: Pause,
    no_buffers_tries: u32,
    /// Datagrams lost since the last one that left.
    failures: u32,
}

/// Why nothing may be sent just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Nothing is in the way.
    No,
    /// Until the socket is writable, or until then.
    Blocked(Instant),
    /// Until then.
    NoBuffers(Instant),
}

impl Outbound {
    /// Without room if there is no socket of this network.
    pub(crate) fn new(has_socket: bool) -> Self {
        let slots = if has_socket { SLOTS } else { 0 };
        Self {
            buffers: vec![[0; MAX_DATAGRAM]; slots].into_boxed_slice(),
            outgoing: Vec::with_capacity(slots),
            head: 0,
            pause: Pause::No,
            no_buffers_tries: 0,
            failures: 0,
        }
    }

    /// A free buffer, to be claimed with [`Outbound::push`].
    pub(crate) fn slot(&mut self) -> Option<&mut [u8; MAX_DATAGRAM]> {
        self.buffers.get_mut(self.outgoing.len())
    }

    /// Puts the datagram that was written to the free buffer in line.
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        debug_assert!(self.outgoing.len() < SLOTS, "push follows slot");
        self.outgoing.push(outgoing);
    }

    /// The socket reported room.
    pub(crate) fn set_writable(&mut self) {
        if let Pause::Blocked(_) = self.pause {
            self.pause = Pause::No;
        }
    }

    /// Whether new queries may be built.
    pub(crate) fn is_open(&mut self, now: Instant) -> bool {
        match self.pause {
            Pause::Blocked(until) | Pause::NoBuffers(until) if now < until => false,
            Pause::No | Pause::Blocked(_) | Pause::NoBuffers(_) => {
                self.pause = Pause::No;
                true
            }
        }
    }

    /// When sending may be tried again, if something is in the way.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        match self.pause {
            Pause::No => None,
            Pause::Blocked(until) | Pause::NoBuffers(until) => Some(until),
        }
    }

    /// Whether the socket's room is what is waited for.
    pub(crate) fn wants_writable(&self) -> bool {
        matches!(self.pause, Pause::Blocked(_))
    }

    /// Whether the system takes nothing.
    pub(crate) const fn is_failing(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Sends what is in line until all is out or something is in the way.
    ///
    /// `unreachable` hears of every address that the system says it cannot reach. Ends because each
    /// round takes a datagram out of line, closes the way, or counts towards [`REPEATS`].
    pub(crate) fn flush(
        &mut self,
        io: &mut impl Io,
        now: Instant,
        stats: &mut IoStats,
        mut unreachable: impl FnMut(SocketAddr),
    ) {
        let mut repeats = 0;
        while self.head < self.outgoing.len() && self.is_open(now) {
            let (Some(buffers), Some(outgoing)) =
                (self.buffers.get(self.head..self.outgoing.len()), self.outgoing.get(self.head..))
            else {
                unreachable!("head and the number of datagrams stay within the arena")
            };
            let sent = io.send_batch(buffers, outgoing);
            let taken = sent.taken.min(outgoing.len());
            if taken > 0 {
                self.succeeded(taken);
                stats.sent += taken as u64;
                repeats = 0;
            }
            let Some(&stuck) = self.outgoing.get(self.head) else { break };
            match sent.fault {
                // A short send names no reason: the next round learns it.
                None if taken > 0 => {}
                None | Some(Fault::WouldBlock) => self.block(now, stats),
                Some(Fault::NoBuffers) => self.no_buffers(now, stats),
                Some(Fault::TooBig) => {
                    stats.too_big += 1;
                    self.head += 1;
                }
                Some(Fault::Unreachable) => {
                    stats.unreachable += 1;
                    self.lose();
                    unreachable(stuck.to);
                }
                Some(fault @ (Fault::Interrupted | Fault::Refused(_))) => {
                    // The call failed because of a signal or of an earlier datagram, so this
                    // datagram has not been tried yet.
                    if let Fault::Refused(about) = fault {
                        stats.refused += 1;
                        about.into_iter().for_each(&mut unreachable);
                    }
                    repeats += 1;
                    if repeats == REPEATS {
                        self.block(now, stats);
                    }
                }
                Some(Fault::Other(_)) => {
                    stats.send_errors += 1;
                    self.lose();
                }
            }
        }
        if self.head >= self.outgoing.len() {
            self.head = 0;
            self.outgoing.clear();
        }
        self.check_invariants();
    }

    /// The next `taken` datagrams are out.
    const fn succeeded(&mut self, taken: usize) {
        self.no_buffers_tries = 0;
        self.failures = 0;
        self.head += taken;
    }

    /// The next datagram will never leave.
    const fn lose(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.head += 1;
    }

    fn block(&mut self, now: Instant, stats: &mut IoStats) {
        stats.send_blocked += 1;
        self.pause = Pause::Blocked(now + BLOCKED_RETRY);
    }

    fn no_buffers(&mut self, now: Instant, stats: &mut IoStats) {
        stats.no_buffers += 1;
        self.no_buffers_tries += 1;
        if self.no_buffers_tries >= NO_BUFFERS_TRIES {
            stats.no_buffers_dropped += 1;
            self.no_buffers_tries = 0;
            self.lose();
        }
        let pause = NO_BUFFERS_PAUSE * (1 << self.no_buffers_tries.min(NO_BUFFERS_TRIES));
        self.pause = Pause::NoBuffers(now + pause);
    }

    pub(crate) fn check_invariants(&self) {
        debug_assert!(self.outgoing.len() <= SLOTS, "the arena is bounded");
        debug_assert!(self.head <= self.outgoing.len(), "only datagrams in line are sent");
        debug_assert!(self.no_buffers_tries < NO_BUFFERS_TRIES, "a hopeless datagram is dropped");
    }
}

#[cfg(test)]
mod tests;
