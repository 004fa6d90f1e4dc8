//! Sockets and clock in virtual time, and what systems do to both.
//!
//! [`SimIo`] is an [`Io`] whose datagrams come from and go to a simulated world. [`FaultyIo`] goes
//! around any `Io` and has calls fail in the ways in which systems have them fail.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use dht_driver::{Fault, Incoming, Io, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers, Sent};
use dht_proto::MAX_DATAGRAM;
use dht_proto::time::Instant;
use dht_sim::{About, Choices, Ratio};

/// What is between a socket and the world, for both to reach.
#[derive(Debug, Default)]
pub struct Port {
    /// The world's time.
    pub now: Instant,
    /// Datagrams that arrived and were not received yet, with their sources.
    pub inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Datagrams that were sent and are not on their way yet, with their destinations.
    pub outbox: Vec<(SocketAddr, Vec<u8>)>,
}

/// A socket on a [`Port`].
#[derive(Clone, Debug, Default)]
pub struct SimIo(pub Rc<RefCell<Port>>);

impl Io for SimIo {
    fn now(&mut self) -> Instant {
        self.0.borrow().now
    }

    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        let mut port = self.0.borrow_mut();
        let mut count = 0;
        for (buffer, entry) in buffers.iter_mut().zip(incoming) {
            let Some((from, bytes)) = port.inbox.pop_front() else { break };
            buffer[..bytes.len()].copy_from_slice(&bytes);
            *entry = Incoming { from, local: None, len: bytes.len() };
            count += 1;
        }
        if count == 0 { Err(Fault::WouldBlock) } else { Ok(count) }
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], outgoing: &[Outgoing]) -> Sent {
        let mut port = self.0.borrow_mut();
        for (buffer, entry) in buffers.iter().zip(outgoing) {
            port.outbox.push((entry.to, buffer[..entry.len].to_vec()));
        }
        Sent { taken: outgoing.len(), fault: None }
    }
}

/// How often calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A send takes only some of the datagrams, and does not say why.
    pub short: Ratio,
    /// A send finds the buffer full, after some of the datagrams.
    pub full: Ratio,
    /// A send finds no buffers in the system, after some of the datagrams.
    pub no_buffers: Ratio,
    /// A call is interrupted by a signal.
    pub interrupted: Ratio,
    /// A call tells of an ICMP message about some datagram.
    pub refused: Ratio,
    /// A receive finds nothing although something is there; readiness is reported again later.
    pub empty: Ratio,
    /// A receive fails because the system has no memory.
    pub no_memory: Ratio,
    /// A datagram is cut.
    pub truncated: Ratio,
    /// The loop is woken for nothing.
    pub spurious: Ratio,
    /// The clock leaps, at one of its readings.
    pub leap: Ratio,
    /// How far it leaps, at most.
    pub max_leap: Duration,
}

impl Faults {
    /// None at all.
    pub const NONE: Self = Self {
        short: Ratio::ZERO,
        full: Ratio::ZERO,
        no_buffers: Ratio::ZERO,
        interrupted: Ratio::ZERO,
        refused: Ratio::ZERO,
        empty: Ratio::ZERO,
        no_memory: Ratio::ZERO,
        truncated: Ratio::ZERO,
        spurious: Ratio::ZERO,
        leap: Ratio::ZERO,
        max_leap: Duration::ZERO,
    };

    /// All that a loop must not let its user feel, often.
    pub const OFTEN: Self = Self {
        short: Ratio::percent(20),
        full: Ratio::percent(10),
        no_buffers: Ratio::percent(10),
        interrupted: Ratio::percent(10),
        refused: Ratio::percent(5),
        empty: Ratio::percent(10),
        no_memory: Ratio::percent(2),
        truncated: Ratio::percent(1),
        spurious: Ratio::percent(10),
        leap: Ratio::ZERO,
        max_leap: Duration::ZERO,
    };

    /// Some of those, each with a rate of its own.
    #[must_use]
    pub fn some(choices: &mut Choices) -> Self {
        let mut rate = || {
            let (wanted, percent) =
                (choices.below(About::Options, 2), choices.between(About::Options, 1, 30));
            Ratio::percent(wanted * percent)
        };
        Self {
            short: rate(),
            full: rate(),
            no_buffers: rate(),
            interrupted: rate(),
            refused: rate(),
            empty: rate(),
            no_memory: rate(),
            truncated: rate(),
            spurious: rate(),
            leap: Ratio { den: 10_000, ..rate() },
            max_leap: Duration::from_secs(60),
        }
    }
}

/// How often calls did fail, for tests to see that they test something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Faults of send calls.
    pub send: u64,
    /// Faults of receive calls.
    pub recv: u64,
    /// Datagrams that were cut.
    pub cut: u64,
    /// Leaps of the clock.
    pub leaps: u64,
}

/// An [`Io`] with faults.
#[derive(Debug)]
pub struct FaultyIo<I> {
    inner: I,
    choices: Choices,
    /// From now on.
    pub faults: Faults,
    /// So far.
    pub injected: Injected,
    /// Microseconds that the clock is ahead.
    ahead: i64,
}

impl<I: Io> FaultyIo<I> {
    /// Goes around `inner`; which call fails follows from `choices`.
    pub const fn new(inner: I, choices: Choices, faults: Faults) -> Self {
        let injected = Injected { send: 0, recv: 0, cut: 0, leaps: 0 };
        Self { inner, choices, faults, injected, ahead: 0 }
    }

    /// When, by the inner clock, this one shows `at`, if it does not leap before.
    #[must_use]
    pub const fn inner_time(&self, at: Instant) -> Instant {
        shifted(at, -self.ahead)
    }

    /// Whether the loop shall be woken for nothing now.
    pub fn wakes_for_nothing(&mut self) -> bool {
        self.happens(|faults| faults.spurious)
    }

    /// The inner one.
    pub const fn inner(&self) -> &I {
        &self.inner
    }

    fn happens(&mut self, rate: impl Fn(&Faults) -> Ratio) -> bool {
        self.choices.chance(About::Fault, rate(&self.faults))
    }

    /// How a send ends before all is sent, if it does.
    fn send_fault(&mut self) -> Option<Sent> {
        let fault = if self.happens(|f| f.short) {
            None
        } else if self.happens(|f| f.full) {
            Some(Fault::WouldBlock)
        } else if self.happens(|f| f.no_buffers) {
            Some(Fault::NoBuffers)
        } else if self.happens(|f| f.interrupted) {
            Some(Fault::Interrupted)
        } else if self.happens(|f| f.refused) {
            Some(Fault::Refused(None))
        } else {
            return None;
        };
        self.injected.send += 1;
        Some(Sent { taken: 0, fault })
    }

    fn recv_fault(&mut self) -> Option<Fault> {
        let fault = if self.happens(|f| f.interrupted) {
            Fault::Interrupted
        } else if self.happens(|f| f.refused) {
            Fault::Refused(None)
        } else if self.happens(|f| f.empty) {
            Fault::WouldBlock
        } else if self.happens(|f| f.no_memory) {
            Fault::NoBuffers
        } else {
            return None;
        };
        self.injected.recv += 1;
        Some(fault)
    }
}

const fn shifted(at: Instant, by: i64) -> Instant {
    Instant::from_micros(at.as_micros().saturating_add_signed(by))
}

impl<I: Io> Io for FaultyIo<I> {
    fn now(&mut self) -> Instant {
        if self.happens(|faults| faults.leap) {
            let most = self.faults.max_leap.as_micros() as u32;
            let by = i64::from(self.choices.below(About::Fault, most));
            // Forwards as after a suspension, or back, which no clock should do and some did.
            let back = self.choices.chance(About::Fault, Ratio::percent(50));
            self.ahead += if back { -(by / 8) } else { by };
            self.injected.leaps += 1;
        }
        shifted(self.inner.now(), self.ahead)
    }

    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        if let Some(fault) = self.recv_fault() {
            return Err(fault);
        }
        let count = self.inner.recv_batch(buffers, incoming)?;
        for entry in incoming.iter_mut().take(count) {
            if self.happens(|faults| faults.truncated) {
                self.injected.cut += 1;
                entry.len = RECV_LEN;
            }
        }
        Ok(count)
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], outgoing: &[Outgoing]) -> Sent {
        let Some(failed) = self.send_fault() else {
            return self.inner.send_batch(buffers, outgoing);
        };
        // Fewer than all, or there would be nothing that the fault is about.
        let taken = self.choices.below(About::Fault, outgoing.len() as u32) as usize;
        if taken == 0 {
            return failed;
        }
        let sent = self.inner.send_batch(&buffers[..taken], &outgoing[..taken]);
        if sent.taken < taken { sent } else { Sent { taken, ..failed } }
    }
}
