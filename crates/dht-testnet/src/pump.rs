//! The thread of a gateway: datagrams in, virtual time on, datagrams out.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant as Clock;

use dht_driver::{Fault, Incoming, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers};
use dht_proto::MAX_DATAGRAM;
use dht_proto::time::Instant;
use dht_sim::churn::Churn;
use dht_sim::{Datagram, World};

use crate::Listen;
use crate::gateway::Shared;
use crate::sockets::Sockets;

/// Things that happen in the world between two looks at the sockets, at most.
const MAX_STEPS: u32 = 4_096;
/// As how many of them somebody who comes or goes counts.
const COMING_AND_GOING: u32 = 64;
/// Batches received between two looks at the world, at most.
const MAX_BATCHES: u32 = 32;
/// Datagrams sent at a time.
const SEND_BATCH: usize = 32;
/// It looks whether it shall stop at least this often, in milliseconds.
const MAX_WAIT: u16 = 50;
/// Lateness is the worst of one such period.
const PERIOD: Duration = Duration::from_secs(1);

pub(crate) struct Pump {
    sockets: Sockets,
    listen: Listen,
    world: World,
    churn: Option<Churn>,
    /// Virtual time at `started`.
    origin: Instant,
    started: Clock,
    buffers: Box<RecvBuffers>,
    incoming: Box<[Incoming; RECV_BATCH]>,
    /// Datagrams on their way out of the process, the sockets that they take, and their bytes.
    outgoing: Vec<Outgoing>,
    through: Vec<usize>,
    bytes: Vec<[u8; MAX_DATAGRAM]>,
    /// The worst lateness of this period, and when the period ends.
    late: Duration,
    period_ends: Instant,
    shared: Arc<Shared>,
}

impl Pump {
    pub(crate) fn new(
        sockets: Sockets,
        listen: Listen,
        world: World,
        churn: Option<Churn>,
        shared: Arc<Shared>,
    ) -> Self {
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else {
            unreachable!("the vector has the length of the array")
        };
        let origin = world.now();
        Self {
            sockets,
            listen,
            world,
            churn,
            origin,
            started: Clock::now(),
            buffers,
            incoming: Box::new([Incoming::EMPTY; RECV_BATCH]),
            outgoing: Vec::with_capacity(SEND_BATCH),
            through: Vec::with_capacity(SEND_BATCH),
            bytes: vec![[0; MAX_DATAGRAM]; SEND_BATCH],
            late: Duration::ZERO,
            period_ends: origin + PERIOD,
            shared,
        }
    }

    /// Runs until it is told to stop, or an invariant of the world is broken.
    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Relaxed) && self.world.violation().is_none() {
            let present = self.origin + self.started.elapsed();
            let caught_up = self.advance(present);
            let more_to_read = self.receive();
            let more_to_send = self.send();
            self.report(present);
            let is_idle = caught_up && !more_to_read && !more_to_send;
            let millis = if is_idle { self.time_left() } else { 0 };
            self.sockets.wait(millis);
        }
        self.publish();
    }

    /// When the next thing happens by itself.
    fn next_at(&mut self) -> Option<Instant> {
        let churn = self.churn.as_ref().map(Churn::next_at);
        self.world.next_at().into_iter().chain(churn).min()
    }

    /// Lets happen in the world what was due by now. Whether that was all.
    fn advance(&mut self, present: Instant) -> bool {
        if let Some(next) = self.next_at() {
            self.late = self.late.max(present.since(next));
        }
        let mut steps = 0;
        loop {
            // Whoever comes or goes does so at its time: what is due before happens before.
            let turn = self.churn.as_ref().map(Churn::next_at).filter(|at| *at <= present);
            let until = turn.unwrap_or(present);
            while steps < MAX_STEPS && self.world.step(until) {
                steps += 1;
            }
            // What nodes tell their users has no reader here.
            while self.world.next_event().is_some() {}
            if steps >= MAX_STEPS || self.world.violation().is_some() {
                return false;
            }
            self.world.run_until(until);
            let Some(churn) = self.churn.as_mut().filter(|_| turn.is_some()) else { return true };
            churn.apply(&mut self.world);
            steps += COMING_AND_GOING;
        }
    }

    /// Brings into the world what real programs have sent. Whether there may be more.
    fn receive(&mut self) -> bool {
        for _ in 0..MAX_BATCHES {
            let received = self.sockets.recv(&mut self.buffers, &mut self.incoming);
            let Some((count, port)) = received else { return false };
            for (buffer, incoming) in self.buffers.iter().zip(&*self.incoming).take(count) {
                let to = incoming.local.filter(|ip| self.listen.contains(*ip));
                let bytes = buffer.get(..incoming.len).filter(|_| incoming.len < RECV_LEN);
                let (Some(to), Some(bytes)) = (to, bytes) else {
                    self.shared.dropped.fetch_add(1, Relaxed);
                    continue;
                };
                self.world.post(incoming.from, SocketAddr::new(to, port), bytes);
            }
            self.shared.datagrams_in.fetch_add(count as u64, Relaxed);
        }
        true
    }

    /// Sends what the world has for real programs. Whether some is left.
    fn send(&mut self) -> bool {
        loop {
            while self.outgoing.len() < SEND_BATCH {
                let Some(datagram) = self.world.take_outside() else { break };
                self.enqueue(&datagram);
            }
            let Some(&socket) = self.through.first() else { return false };
            // Those of one NAT's port after the other's: each port has a socket of its own.
            let run = self.through.iter().take_while(|number| **number == socket).count();
            let bytes = self.bytes.get(..run).unwrap_or_default();
            let outgoing = self.outgoing.get(..run).unwrap_or_default();
            let taken = match self.sockets.send(socket, bytes, outgoing) {
                Ok(sent) => {
                    self.shared.datagrams_out.fetch_add(sent as u64, Relaxed);
                    sent
                }
                Err(Fault::Refused(_) | Fault::Interrupted) => continue,
                Err(Fault::WouldBlock | Fault::NoBuffers) => return true,
                Err(_) => {
                    self.shared.dropped.fetch_add(1, Relaxed);
                    1
                }
            };
            self.outgoing.drain(..taken);
            self.through.drain(..taken);
            self.bytes.rotate_left(taken);
        }
    }

    fn enqueue(&mut self, datagram: &Datagram) {
        let Datagram { from, to, bytes } = datagram;
        let place = self.bytes.get_mut(self.outgoing.len());
        let place = place.and_then(|place| place.get_mut(..bytes.len()));
        // To a port of ours it is for an address of the range where nobody is: a socket would hear
        // another, or itself.
        let is_allowed = self.listen.may_reach(to.ip()) && !self.sockets.owns(*to);
        let (Some(place), Some(socket), true) = (place, self.sockets.number(*from), is_allowed)
        else {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        };
        place.copy_from_slice(bytes);
        self.outgoing.push(Outgoing { to: *to, local: Some(from.ip()), len: bytes.len() });
        self.through.push(socket);
    }

    /// Milliseconds until the next thing happens, at most [`MAX_WAIT`].
    fn time_left(&mut self) -> u16 {
        let present = self.origin + self.started.elapsed();
        let wait = self.next_at().map_or(Duration::MAX, |due| due.since(present));
        // Rounded up: things that are due within one millisecond happen together.
        wait.as_micros().div_ceil(1_000).min(u128::from(MAX_WAIT)) as u16
    }

    fn report(&mut self, present: Instant) {
        if present < self.period_ends {
            return;
        }
        self.period_ends = present + PERIOD;
        let late = u64::try_from(core::mem::take(&mut self.late).as_micros()).unwrap_or(u64::MAX);
        self.shared.lateness.store(late, Relaxed);
        self.shared.max_lateness.fetch_max(late, Relaxed);
        self.publish();
    }

    fn publish(&self) {
        self.shared.hosts.store(self.world.len() as u64, Relaxed);
        self.shared.simulated.store(self.world.traffic().sent, Relaxed);
        if let Some(churn) = &self.churn {
            let tally = churn.tally();
            self.shared.left.store(tally.left, Relaxed);
            self.shared.came.store(tally.came, Relaxed);
        }
    }
}
