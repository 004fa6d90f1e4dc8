//! [`Driver`]: one pass of the loop at a time.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use dht_proto::addr::Family;
use dht_proto::health::Trouble;
use dht_proto::request::{Ended, Event, Lookup, LookupId, Outcome, StartError};
use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM};

use crate::clock::ClockWatch;
use crate::command::{
    Command, CommandQueue, Delivery, External, MAX_COMMANDS, Names, Subscriber, Ticket, View,
};
use crate::io::{Fault, Incoming, Io, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers};
use crate::lookups::Lookups;
use crate::outbound::{Outbound, SEND_BUDGET};
use crate::stats::IoStats;

/// Commands carried out per pass, at most.
const COMMAND_BUDGET: usize = 64;
/// Events delivered per round, at most; a pass has two rounds.
const EVENT_BUDGET: usize = 256;
/// Notices kept for [`Driver::poll_notice`], at most.
const MAX_NOTICES: usize = 64;
/// In the order of their send sides.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Pause after a receive call failed for a reason that may last.
const RECV_PAUSE: Duration = Duration::from_millis(50);

/// The loop around a [`Dht`]: feeds it datagrams, time and commands, and carries out what it wants.
///
/// A runtime calls [`Driver::pass`], waits for what that returns, and calls it again.
#[derive(Debug)]
pub struct Driver<I, S> {
    dht: Dht,
    io: I,
    commands: CommandQueue<S>,
    lookups: Lookups<S>,
    buffers: Box<RecvBuffers>,
    /// For IPv4 and IPv6.
    outbound: [Outbound; 2],
    clock: ClockWatch,
    stats: IoStats,
    notices: VecDeque<Event>,
    external: External,
    recv: Recv,
    names: Names,
    /// Lookups that wait for the first name to have an address; at most [`MAX_COMMANDS`].
    waiting: VecDeque<(Ticket, Lookup, S)>,
    /// What the state machine was last told of each family.
    troubles: [Option<Trouble>; 2],
    shut_down: bool,
}

/// Whether there may be something to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recv {
    /// The last call took what it could; there may be more.
    Ready,
    /// The sockets are empty.
    Drained,
    /// The last call failed; try again then.
    Failed(Instant),
}

/// What to wait for before the next pass: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Wait {
    /// A datagram.
    pub readable: bool,
    /// Room in the buffer of the IPv4 socket; tell [`Driver::set_writable`] when it comes.
    pub writable_v4: bool,
    /// The same for the IPv6 socket.
    pub writable_v6: bool,
    /// This time, on the clock of [`Io::now`]. Not later than now if there is work left.
    pub deadline: Option<Instant>,
}

impl<I: Io, S: Subscriber> Driver<I, S> {
    /// A loop around `dht`, fed by `io` and `commands`.
    pub fn new(dht: Dht, io: I, commands: CommandQueue<S>) -> Self {
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else {
            unreachable!("the vector has the length of the array")
        };
        let outbound = FAMILIES.map(|family| Outbound::new(dht.node_id(family).is_some()));
        Self {
            dht,
            io,
            commands,
            lookups: Lookups::new(),
            buffers,
            outbound,
            clock: ClockWatch::default(),
            stats: IoStats::default(),
            notices: VecDeque::with_capacity(MAX_NOTICES),
            external: External::default(),
            recv: Recv::Ready,
            names: Names::Known,
            waiting: VecDeque::new(),
            troubles: [None; 2],
            shut_down: false,
        }
    }

    /// Does what there is to do, within a budget, and says what to wait for.
    ///
    /// Local work goes first, so that a flood from outside cannot starve it: commands and events,
    /// then at most one batch of datagrams, then timers, then at most [`SEND_BUDGET`] queries per
    /// network.
    pub fn pass(&mut self) -> Wait {
        let reading = self.io.now();
        let now = self.clock.begin(reading, &mut self.stats);
        let commands_left = self.carry_out(now);
        self.start_waiting(now);
        self.deliver_events();
        if !self.shut_down {
            self.flush(now);
            self.receive(now);
            self.dht.handle_due(now);
            self.transmit(now);
            self.report(now);
            self.deliver_events();
        }
        let wait = self.wait(now, commands_left);
        self.clock.end(wait.deadline);
        wait
    }

    /// The socket of this network, which was full, has room.
    pub fn set_writable(&mut self, family: Family) {
        lane(&mut self.outbound, family).set_writable();
    }

    /// A socket has something to receive.
    pub fn set_readable(&mut self) {
        self.recv = Recv::Ready;
    }

    /// The next event that belongs to no lookup: external address, serving.
    ///
    /// The oldest are dropped if nobody asks.
    pub fn poll_notice(&mut self) -> Option<Event> {
        self.notices.pop_front()
    }

    /// The sockets and the clock.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    /// Whether [`Command::Shutdown`] came, or every sender of commands is gone.
    #[must_use]
    pub const fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// The state machine.
    #[must_use]
    pub const fn dht(&self) -> &Dht {
        &self.dht
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> IoStats {
        self.stats
    }

    /// Checks bounds and orderings; for tests.
    ///
    /// # Panics
    /// If one does not hold, which is a bug here.
    pub fn check_invariants(&self) {
        self.outbound.iter().for_each(Outbound::check_invariants);
        self.lookups.check_invariants();
        assert!(self.notices.len() <= MAX_NOTICES, "notices are bounded");
        assert!(self.waiting.len() <= MAX_COMMANDS, "waiting lookups are bounded");
    }

    /// Returns whether commands may be left.
    fn carry_out(&mut self, now: Instant) -> bool {
        for _ in 0..COMMAND_BUDGET {
            let Some(command) = self.commands.next() else { return false };
            match command {
                Command::Start { ticket, lookup, subscriber } => {
                    if needs_contacts(&lookup) && self.waits_for_names() {
                        self.park(ticket, lookup, subscriber);
                    } else {
                        self.start(now, ticket, &lookup, subscriber);
                    }
                }
                Command::Cancel(ticket) => {
                    if let Some(id) = self.lookups.remove(ticket) {
                        self.dht.cancel(id);
                    }
                    self.waiting.retain(|(waits, ..)| *waits != ticket);
                }
                Command::Finish(ticket) => self.finish(now, ticket),
                Command::AddContact { addr, id } => self.dht.add_contact(now, addr, id),
                Command::AddBootstrap(addrs) => {
                    for addr in addrs {
                        self.dht.add_bootstrap(now, addr);
                    }
                    self.names = Names::Known;
                }
                Command::Names(names) => self.names = names,
                Command::Inspect(look) => {
                    look(View { dht: &mut self.dht, now, io: self.stats, external: self.external });
                }
                Command::Shutdown => {
                    self.shut_down = true;
                    // Dropping the subscribers tells them that nothing more will come.
                    self.lookups.clear();
                    self.waiting.clear();
                    return false;
                }
            }
        }
        true
    }

    fn start(&mut self, now: Instant, ticket: Ticket, lookup: &Lookup, subscriber: S) {
        match self.dht.start(now, lookup) {
            Ok(id) => self.lookups.insert(id, ticket, subscriber),
            Err(error) => subscriber.finish(Err(error)),
        }
    }

    fn finish(&mut self, now: Instant, ticket: Ticket) {
        if let Some(id) = self.lookups.id(ticket) {
            self.dht.finish(now, id);
        } else if let Some(at) = self.waiting.iter().position(|(waits, ..)| *waits == ticket)
            && let Some((.., subscriber)) = self.waiting.remove(at)
        {
            let mut outcome = Box::<Outcome>::default();
            outcome.ended = Ended::TimedOut;
            subscriber.finish(Ok(outcome));
        }
    }

    /// Whether a lookup that starts now would find nobody to ask, only because it comes too early.
    fn waits_for_names(&self) -> bool {
        let stats = self.dht.stats();
        self.names == Names::Pending && stats.contacts + stats.candidates == 0
    }

    fn park(&mut self, ticket: Ticket, lookup: Lookup, subscriber: S) {
        if self.waiting.len() < MAX_COMMANDS {
            self.waiting.push_back((ticket, lookup, subscriber));
        } else {
            subscriber.finish(Err(StartError::AtCapacity));
        }
    }

    /// Starts the lookups that waited, once there is somebody to ask or no hope of it.
    fn start_waiting(&mut self, now: Instant) {
        if self.waiting.is_empty() || self.waits_for_names() {
            return;
        }
        for (ticket, lookup, subscriber) in core::mem::take(&mut self.waiting) {
            self.start(now, ticket, &lookup, subscriber);
        }
    }

    fn receive(&mut self, now: Instant) {
        match self.recv {
            Recv::Drained => return,
            Recv::Failed(until) if now < until => return,
            Recv::Failed(_) | Recv::Ready => {}
        }
        let mut incoming = [Incoming::EMPTY; RECV_BATCH];
        let Some(count) = self.receive_batch(now, &mut incoming) else { return };
        // An Io that claims success without a datagram would make the loop spin.
        self.recv = if count == 0 { Recv::Drained } else { Recv::Ready };
        self.stats.received += count.min(RECV_BATCH) as u64;
        for (buffer, datagram) in self.buffers.iter().zip(incoming).take(count) {
            if datagram.is_truncated() {
                self.stats.truncated += 1;
                continue;
            }
            let bytes = buffer.get(..datagram.len).unwrap_or_default();
            let outbound = lane(&mut self.outbound, Family::of(&datagram.from));
            if let Some(slot) = outbound.slot() {
                if let Some(reply) = self.dht.handle_datagram(now, datagram.from, bytes, slot) {
                    outbound.push(Outgoing { local: datagram.local, ..reply.into() });
                }
            } else {
                // The socket is full. What the datagram says still counts; whoever asked asks again.
                let mut scratch = [0; MAX_DATAGRAM];
                if self.dht.handle_datagram(now, datagram.from, bytes, &mut scratch).is_some() {
                    self.stats.replies_dropped += 1;
                }
            }
        }
    }

    /// Receives one batch; `None` if there is none to be had now.
    ///
    /// ICMP messages come one per call, so that a batch's worth of them is taken at a time.
    fn receive_batch(
        &mut self,
        now: Instant,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Option<usize> {
        for _ in 0..RECV_BATCH {
            match self.io.recv_batch(&mut self.buffers, incoming) {
                Ok(count) => return Some(count),
                Err(fault) => self.recv_failed(now, fault),
            }
            if self.recv != Recv::Ready {
                return None;
            }
        }
        None
    }

    fn recv_failed(&mut self, now: Instant, fault: Fault) {
        self.recv = match fault {
            Fault::WouldBlock => Recv::Drained,
            Fault::Interrupted => Recv::Ready,
            Fault::Refused(about) => {
                self.stats.refused += 1;
                if let Some(to) = about {
                    self.dht.handle_unreachable(now, to);
                }
                Recv::Ready
            }
            Fault::TooBig => {
                // Windows reports a cut datagram as an error.
                self.stats.truncated += 1;
                Recv::Ready
            }
            Fault::NoBuffers | Fault::Unreachable | Fault::Other(_) => {
                self.stats.recv_errors += 1;
                Recv::Failed(now + RECV_PAUSE)
            }
        };
    }

    fn transmit(&mut self, now: Instant) {
        for (family, outbound) in FAMILIES.into_iter().zip(&mut self.outbound) {
            // The clock of a query starts when it is built, so none is built for a full socket.
            if !outbound.is_open(now) {
                continue;
            }
            for _ in 0..SEND_BUDGET {
                let Some(slot) = outbound.slot() else { break };
                let Some(transmit) = self.dht.poll_transmit_on(now, family, slot) else { break };
                outbound.push(transmit.into());
            }
        }
        self.flush(now);
    }

    fn flush(&mut self, now: Instant) {
        let Self { outbound, io, stats, dht, .. } = self;
        for outbound in outbound {
            outbound.flush(io, now, stats, |to| dht.handle_unreachable(now, to));
        }
    }

    /// Tells the state machine what only the driver can see, when it changes.
    fn report(&mut self, now: Instant) {
        let lanes = self.outbound.iter().zip(&mut self.troubles);
        for (family, (outbound, told)) in FAMILIES.into_iter().zip(lanes) {
            let trouble = if outbound.is_failing() {
                Some(Trouble::Socket)
            } else {
                (self.names == Names::Failed).then_some(Trouble::Unresolved)
            };
            if *told != trouble {
                *told = trouble;
                self.dht.report(now, family, trouble);
            }
        }
    }

    fn deliver_events(&mut self) {
        for _ in 0..EVENT_BUDGET {
            let Some(event) = self.dht.poll_event() else { return };
            match event {
                Event::Done { lookup, outcome } => self.lookups.finish(lookup, outcome),
                Event::Peers { lookup, .. }
                | Event::Item { lookup, .. }
                | Event::Samples { lookup, .. } => self.deliver(lookup, event),
                Event::ExternalAddress(ip) => {
                    match ip {
                        IpAddr::V4(ip) => self.external.v4 = Some(ip),
                        IpAddr::V6(ip) => self.external.v6 = Some(ip),
                    }
                    self.notice(event);
                }
                other @ (Event::Serving { .. } | _) => self.notice(other),
            }
        }
    }

    fn deliver(&mut self, lookup: LookupId, event: Event) {
        match self.lookups.deliver(lookup, event) {
            Some(Delivery::Accepted) | None => {}
            Some(Delivery::Full) => self.stats.values_dropped += 1,
            Some(Delivery::Gone) => {
                self.lookups.abandon(lookup);
                self.dht.cancel(lookup);
            }
        }
    }

    fn notice(&mut self, event: Event) {
        if self.notices.len() == MAX_NOTICES {
            self.notices.pop_front();
            self.stats.notices_dropped += 1;
        }
        self.notices.push_back(event);
    }

    fn wait(&self, now: Instant, commands_left: bool) -> Wait {
        let lanes = FAMILIES.into_iter().zip(&self.outbound);
        let due = |(family, outbound): (Family, &Outbound)| {
            let due = self.dht.poll_timeout_on(family);
            let Some(retry) = outbound.retry_at() else { return due };
            // With the socket full, `poll_timeout_on` stays in the past because queries are waiting.
            // Obeying it would spin.
            Some(due.filter(|due| *due > now).map_or(retry, |due| due.min(retry)))
        };
        let mut deadline = lanes.filter_map(due).min();
        match self.recv {
            Recv::Ready => deadline = Some(now),
            Recv::Failed(until) => deadline = Some(deadline.map_or(until, |due| due.min(until))),
            Recv::Drained => {}
        }
        if commands_left || self.shut_down {
            deadline = Some(now);
        }
        let [v4, v6] = &self.outbound;
        Wait {
            readable: matches!(self.recv, Recv::Drained),
            writable_v4: v4.wants_writable(),
            writable_v6: v6.wants_writable(),
            deadline,
        }
    }
}

/// Whether a lookup depends on whom we know; a ping names whom to ask.
const fn needs_contacts(lookup: &Lookup) -> bool {
    !matches!(lookup, Lookup::Ping { .. } | Lookup::Sample { .. })
}

/// The send side of a network.
const fn lane([v4, v6]: &mut [Outbound; 2], family: Family) -> &mut Outbound {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

#[cfg(test)]
mod tests;
