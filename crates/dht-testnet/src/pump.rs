//! The thread of a gateway: datagrams in, virtual time on, datagrams out.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant as Clock;

use dht_driver::{Fault, Incoming, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers};
use dht_net::UdpSocket;
use dht_proto::MAX_DATAGRAM;
use dht_proto::time::Instant;
use dht_sim::{Datagram, World};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Cidr;
use crate::gateway::Shared;

/// Things that happen in the world between two looks at the socket, at most.
const MAX_STEPS: u32 = 4_096;
/// Batches received between two looks at the world, at most.
const MAX_BATCHES: u32 = 32;
/// Datagrams sent at a time.
const SEND_BATCH: usize = 32;
/// It looks whether it shall stop at least this often, in milliseconds.
const MAX_WAIT: u16 = 50;
/// Lateness is the worst of one such period.
const PERIOD: Duration = Duration::from_secs(1);

pub(crate) struct Pump {
    socket: UdpSocket,
    /// Of every host.
    port: u16,
    range: Cidr,
    world: World,
    /// Virtual time at `started`.
    origin: Instant,
    started: Clock,
    buffers: Box<RecvBuffers>,
    incoming: Box<[Incoming; RECV_BATCH]>,
    /// Datagrams on their way out of the process, and their bytes.
    outgoing: Vec<Outgoing>,
    bytes: Vec<[u8; MAX_DATAGRAM]>,
    /// The worst lateness of this period, and when the period ends.
    late: Duration,
    period_ends: Instant,
    shared: Arc<Shared>,
}

impl Pump {
    pub(crate) fn new(
        socket: UdpSocket,
        port: u16,
        range: Cidr,
        world: World,
        shared: Arc<Shared>,
    ) -> Self {
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else {
            unreachable!("the vector has the length of the array")
        };
        let origin = world.now();
        Self {
            socket,
            port,
            range,
            world,
            origin,
            started: Clock::now(),
            buffers,
            incoming: Box::new([Incoming::EMPTY; RECV_BATCH]),
            outgoing: Vec::with_capacity(SEND_BATCH),
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
            if caught_up && !more_to_read && !more_to_send {
                self.wait();
            }
        }
    }

    /// Lets happen in the world what was due by now. Whether that was all.
    fn advance(&mut self, present: Instant) -> bool {
        if let Some(next) = self.world.next_at() {
            self.late = self.late.max(present.since(next));
        }
        let mut steps = 0;
        while steps < MAX_STEPS && self.world.step(present) {
            steps += 1;
        }
        // What nodes tell their users has no reader here.
        while self.world.next_event().is_some() {}
        let caught_up = steps < MAX_STEPS;
        if caught_up {
            self.world.run_until(present);
        }
        caught_up
    }

    /// Brings into the world what real programs have sent. Whether there may be more.
    fn receive(&mut self) -> bool {
        for _ in 0..MAX_BATCHES {
            let count = match self.socket.recv(&mut self.buffers, &mut self.incoming) {
                Ok(count) => count,
                // What ICMP says is what a simulated node would not hear from a real one.
                Err(Fault::Refused(_) | Fault::Interrupted) => continue,
                Err(_) => return false,
            };
            for (buffer, incoming) in self.buffers.iter().zip(&*self.incoming).take(count) {
                let to = incoming.local.filter(|ip| is_in(self.range, *ip));
                let bytes = buffer.get(..incoming.len).filter(|_| incoming.len < RECV_LEN);
                let (Some(to), Some(bytes)) = (to, bytes) else {
                    self.shared.dropped.fetch_add(1, Relaxed);
                    continue;
                };
                self.world.post(incoming.from, SocketAddr::new(to, self.port), bytes);
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
            if self.outgoing.is_empty() {
                return false;
            }
            let bytes = self.bytes.get(..self.outgoing.len()).unwrap_or_default();
            let taken = match self.socket.send(bytes, &self.outgoing) {
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
            self.bytes.rotate_left(taken);
        }
    }

    fn enqueue(&mut self, datagram: &Datagram) {
        let Datagram { from, to, bytes } = datagram;
        let place = self.bytes.get_mut(self.outgoing.len());
        let Some(place) = place.and_then(|place| place.get_mut(..bytes.len())) else {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        };
        let allowed = is_in(self.range, to.ip()) || is_in(Cidr::LOOPBACK, to.ip());
        // With our port it is an address of the range where nobody is: the socket would hear itself.
        if !allowed || to.port() == self.port {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        place.copy_from_slice(bytes);
        self.outgoing.push(Outgoing { to: *to, local: Some(from.ip()), len: bytes.len() });
    }

    /// Waits for a datagram or for the next thing to happen, whichever is first.
    fn wait(&mut self) {
        let present = self.origin + self.started.elapsed();
        let due = self.world.next_at();
        let wait = due.map_or(Duration::MAX, |due| due.since(present));
        // Rounded up: things that are due within one millisecond happen together.
        let millis = wait.as_micros().div_ceil(1_000).min(u128::from(MAX_WAIT)) as u16;
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not, the loop looks at everything again.
        let _: nix::Result<i32> = poll(&mut watched, PollTimeout::from(millis));
    }

    fn report(&mut self, present: Instant) {
        if present < self.period_ends {
            return;
        }
        self.period_ends = present + PERIOD;
        let late = u64::try_from(core::mem::take(&mut self.late).as_micros()).unwrap_or(u64::MAX);
        self.shared.lateness.store(late, Relaxed);
        self.shared.max_lateness.fetch_max(late, Relaxed);
        self.shared.hosts.store(self.world.len() as u64, Relaxed);
        self.shared.simulated.store(self.world.traffic().sent, Relaxed);
    }
}

fn is_in(range: Cidr, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => range.contains(ip),
        IpAddr::V6(_) => false,
    }
}
