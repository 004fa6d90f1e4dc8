//! A small deterministic network in memory: real [`Dht`]s, encoded datagrams, virtual time.
//!
//! Every step checks the contract of `dht-proto` on the node that took it: after
//! `handle_timeout(now)` and a full drain, `poll_timeout` is later than `now`, and every component's
//! invariants hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::request::{Event, Lookup, LookupId, Outcome};
use dht_proto::seed::{Domain, PrfKey, Seed};
use dht_proto::time::Instant;
use dht_proto::wire::{Body, decode};
use dht_proto::{Dht, MAX_DATAGRAM, Networks};

use crate::script::{Heard, Script};

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Instant,
    seq: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// One host: a node and the addresses it listens on.
#[derive(Debug)]
struct Host {
    dht: Dht,
    addrs: Vec<SocketAddr>,
    events: Vec<Event>,
    up: bool,
}

/// The network.
pub struct World {
    hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, usize>,
    scripts: BTreeMap<SocketAddr, Script>,
    queue: BinaryHeap<Reverse<InFlight>>,
    dice: PrfKey,
    sent: u64,
    now: Instant,
    /// Datagrams lost, per thousand.
    pub loss_per_mille: u64,
    /// Shortest and longest one-way delay.
    pub delay: (Duration, Duration),
    /// Hash over everything delivered: equal for equal runs.
    pub trace: u64,
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "World({} hosts, {:?})", self.by_addr.len() + self.scripts.len(), self.now)
    }
}

impl World {
    /// An empty network whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self {
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            scripts: BTreeMap::new(),
            queue: BinaryHeap::new(),
            dice: Seed::from_bytes([seed; 32]).key(Domain::Jitter),
            sent: 0,
            now: Instant::from_secs(1),
            loss_per_mille: 0,
            delay: (Duration::from_millis(20), Duration::from_millis(80)),
            trace: 0,
        }
    }

    /// A configuration for servers of a test network.
    #[must_use]
    pub fn server_config(bootstrap: &[SocketAddr]) -> Config {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.bootstrap = bootstrap.to_vec();
        config
    }

    /// A configuration for read-only clients of a test network.
    #[must_use]
    pub fn client_config(bootstrap: &[SocketAddr]) -> Config {
        let mut config = Self::server_config(bootstrap);
        config.mode = Mode::Client;
        config
    }

    /// Adds a node that listens on the given addresses (one per family).
    pub fn add(&mut self, addrs: &[SocketAddr], config: Config) -> usize {
        let networks = match addrs {
            [addr] if addr.is_ipv4() => Networks::V4,
            [_] => Networks::V6,
            _ => Networks::Both,
        };
        let index = self.hosts.len();
        let mut seed = [0; 32];
        let word = self.dice.hash(&[b"node", &index.to_le_bytes()]);
        seed[..8].copy_from_slice(&word.to_le_bytes());
        let dht = Dht::new(Arc::new(config), networks, &Seed::from_bytes(seed), self.now);
        self.add_dht(addrs, dht)
    }

    /// Adds a node that exists already.
    pub fn add_dht(&mut self, addrs: &[SocketAddr], dht: Dht) -> usize {
        let index = self.hosts.len();
        self.hosts.push(Host { dht, addrs: addrs.to_vec(), events: Vec::new(), up: true });
        for addr in addrs {
            assert!(self.by_addr.insert(*addr, index).is_none(), "{addr} is taken");
        }
        self.drive(index);
        index
    }

    /// Adds a host that answers queries by script, see [`script`](crate::script).
    pub fn script(&mut self, addr: SocketAddr, script: Script) {
        assert!(!self.by_addr.contains_key(&addr), "{addr} is taken");
        assert!(self.scripts.insert(addr, script).is_none(), "{addr} is taken");
    }

    /// Puts a datagram on its way, from any address.
    pub fn post(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.send(from, to, bytes);
    }

    /// A network of `n` servers on global addresses, each in its own /24, joined through the first.
    /// They know their addresses, so that their ids are valid (BEP 42) from the start.
    #[must_use]
    pub fn of_servers(seed: u8, n: usize) -> Self {
        let mut world = Self::new(seed);
        let first = Self::v4(0);
        for i in 0..n {
            let bootstrap = [first];
            let bootstrap = if i == 0 { &[][..] } else { &bootstrap };
            let mut config = Self::server_config(bootstrap);
            config.public_ips = vec![Self::v4(i).ip()];
            world.add(&[Self::v4(i)], config);
        }
        world
    }

    /// The address of the i-th host of a test network.
    #[must_use]
    pub fn v4(i: usize) -> SocketAddr {
        SocketAddr::from(([20 + (i >> 16) as u8, (i >> 8) as u8, i as u8, 1], 6881))
    }

    /// The IPv6 address of the i-th host of a test network.
    #[must_use]
    pub fn v6(i: usize) -> SocketAddr {
        SocketAddr::from(([0x2600 + i as u16, 1, 0, 0, 0, 0, 0, 1], 6881))
    }

    /// The present time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Dht {
        &self.hosts[index].dht
    }

    /// Stops a node: it neither receives nor sends.
    pub fn stop(&mut self, index: usize) {
        self.hosts[index].up = false;
    }

    /// Lets a stopped node go on.
    pub fn resume(&mut self, index: usize) {
        self.hosts[index].up = true;
        self.drive(index);
    }

    /// Calls an operation of a node, then drives it.
    pub fn with<T>(&mut self, index: usize, call: impl FnOnce(&mut Dht, Instant) -> T) -> T {
        let result = call(&mut self.hosts[index].dht, self.now);
        self.drive(index);
        result
    }

    /// Starts a lookup.
    pub fn start(&mut self, index: usize, lookup: &Lookup) -> LookupId {
        self.with(index, |dht, now| dht.start(now, lookup)).expect("room for a lookup")
    }

    /// The events of a node so far, and none of them again.
    pub fn take_events(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.hosts[index].events)
    }

    /// Runs until virtual time has advanced by `duration`.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs one lookup to its end, for at most three minutes, and returns its events and outcome.
    pub fn look_up(&mut self, index: usize, lookup: &Lookup) -> (Vec<Event>, Outcome) {
        let id = self.start(index, lookup);
        let end = self.now + Duration::from_secs(180);
        let mut events = Vec::new();
        loop {
            for event in self.take_events(index) {
                match event {
                    Event::Done { lookup, outcome } if lookup == id => return (events, *outcome),
                    event if event.lookup() == Some(id) => events.push(event),
                    _ => {}
                }
            }
            assert!(self.step(end), "the lookup never ended");
        }
    }

    /// Delivers a datagram at once, from anywhere, and returns the answer.
    pub fn inject(&mut self, to: SocketAddr, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let index = *self.by_addr.get(&to)?;
        let mut reply = [0; MAX_DATAGRAM];
        let sent = self.hosts[index].dht.handle_datagram(self.now, from, bytes, &mut reply);
        self.drive(index);
        sent.map(|sent| {
            assert_eq!(sent.to, from, "a reply goes to the source");
            reply[..sent.len].to_vec()
        })
    }

    /// One event: the next datagram or the next timeout. `false` if there is none before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let datagram = self.queue.peek().map(|Reverse(datagram)| datagram.at);
        let timeout = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.up)
            .filter_map(|(index, host)| host.dht.poll_timeout().map(|at| (at, index)))
            .min();
        let next = datagram.into_iter().chain(timeout.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        if datagram == Some(next) {
            self.deliver();
        } else if let Some((_, index)) = timeout {
            self.hosts[index].dht.handle_timeout(self.now);
            self.drive(index);
        }
        true
    }

    fn deliver(&mut self) {
        let Some(Reverse(datagram)) = self.queue.pop() else { return };
        let Some(&index) = self.by_addr.get(&datagram.to) else {
            self.deliver_to_script(&datagram);
            return;
        };
        let host = &mut self.hosts[index];
        if !host.up {
            return;
        }
        let (at, to) = (datagram.at.as_micros().to_le_bytes(), datagram.to.to_string());
        let trace = self.trace.to_le_bytes();
        let parts: [&[u8]; 4] = [&trace, &at, to.as_bytes(), &datagram.bytes];
        self.trace = self.dice.hash(&parts);
        let mut reply = [0; MAX_DATAGRAM];
        let sent = host.dht.handle_datagram(self.now, datagram.from, &datagram.bytes, &mut reply);
        if let Some(sent) = sent {
            assert_eq!(sent.to, datagram.from, "a reply goes to the source");
            self.send(datagram.to, sent.to, reply[..sent.len].to_vec());
        }
        self.drive(index);
    }

    fn deliver_to_script(&mut self, datagram: &InFlight) {
        let (now, from, to) = (self.now, datagram.from, datagram.to);
        let Some(script) = self.scripts.get_mut(&to) else { return };
        let Ok(message) = decode(&datagram.bytes) else { return };
        let Body::Query(query) = message.body else { return };
        for answer in script(&Heard { now, from, to, message, query }) {
            self.send(to, from, answer);
        }
    }

    /// Lets a node do what is due and drains it; then checks the progress rule: another
    /// `handle_timeout` at the same time finds nothing to do.
    fn drive(&mut self, index: usize) {
        let now = self.now;
        if self.hosts[index].dht.poll_timeout().is_some_and(|at| at <= now) {
            self.hosts[index].dht.handle_timeout(now);
        }
        self.drain(index);
        self.hosts[index].dht.handle_timeout(now);
        self.drain(index);
        let dht = &self.hosts[index].dht;
        assert!(dht.poll_timeout().is_none_or(|at| at > now), "progress rule");
        dht.check_invariants();
    }

    fn drain(&mut self, index: usize) {
        loop {
            let (now, host) = (self.now, &mut self.hosts[index]);
            let mut buf = [0; MAX_DATAGRAM];
            if let Some(event) = host.dht.poll_event() {
                host.events.push(event);
            } else if let Some(sent) = host.dht.poll_transmit(now, &mut buf) {
                let from = host.addrs.iter().find(|addr| addr.is_ipv4() == sent.to.is_ipv4());
                let from = *from.expect("a node sends only on its own networks");
                self.send(from, sent.to, buf[..sent.len].to_vec());
            } else {
                break;
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let seq = self.sent;
        self.sent += 1;
        let dice = self.dice.hash(&[b"send", &seq.to_le_bytes()]);
        if dice % 1000 < self.loss_per_mille {
            return;
        }
        let spread = self.delay.1.saturating_sub(self.delay.0).as_micros() as u64;
        let extra = Duration::from_micros((dice >> 16) % spread.max(1));
        let at = self.now + self.delay.0 + extra;
        self.queue.push(Reverse(InFlight { at, seq, from, to, bytes }));
    }
}
