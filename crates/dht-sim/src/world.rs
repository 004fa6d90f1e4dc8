//! [`World`]: hosts, the network between them, and virtual time.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::Config;
use dht_proto::request::{Event, Lookup, LookupId, Outcome, StartError};
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM, Networks};

use crate::address::{Plan, Range};
use crate::check::{Checker, Happening, Violation};
use crate::choices::Choices;
use crate::host::{Actor, Addrs, Body, Clock, Hosts};
use crate::net::{Network, Ports};
use crate::packets::{PacketId, Packets};
use crate::profile::Profile;
use crate::queue::Queue;
use crate::trace::Trace;

mod access;
mod ahead;
mod book;
mod drive;

use book::Book;

/// A host of a world: they are numbered in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain number")]
pub struct HostId(pub u32);

impl HostId {
    /// As an index for tables beside the world.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the queue holds.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A datagram, and whom it is for unless something stands before them.
    Arrival(PacketId, Option<HostId>),
    Timer(HostId),
}

/// A datagram to or from somebody outside the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a datagram has nothing else")]
pub struct Datagram {
    /// The source.
    pub from: SocketAddr,
    /// The destination.
    pub to: SocketAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How a world is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Which addresses hosts get.
    pub range: Range,
    /// How many addresses at the start of a network no host gets: programs outside the simulation
    /// have them.
    pub reserved: u32,
    /// The port of every host; 0 gives each its own.
    pub port: u16,
    /// The ports that NATs map to.
    pub nat_ports: Ports,
    /// What the network does to datagrams.
    pub profile: Profile,
    /// Datagrams to addresses that no host ever had are kept for [`World::take_outside`] instead
    /// of getting lost; at most this many.
    pub outside: usize,
}

impl Setup {
    /// Public addresses and nobody outside, with this network.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self {
            range: Range::Internet,
            reserved: 0,
            port: 0,
            nat_ports: Ports::ALL,
            profile,
            outside: 0,
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new(Profile::default())
    }
}

/// What moved in a world so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Datagrams that set out.
    pub sent: u64,
    /// Datagrams that reached a host.
    pub delivered: u64,
    /// Datagrams that the network lost.
    pub lost: u64,
    /// Datagrams that arrived where nobody is.
    pub nobody: u64,
    /// Timers that went off.
    pub timers: u64,
    /// Those of them that had been put off meanwhile: what they were set for had come.
    pub put_off: u64,
    /// Entries of the queue for timers that had been set anew meanwhile, to an earlier time.
    pub stale: u64,
}

/// A network of hosts in virtual time, where every step follows from [`Choices`].
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use dht_proto::{Networks, config::{Config, Mode}, request::Lookup, addr::Family};
/// use dht_sim::{Choices, Setup, World};
///
/// let mut world = World::new(Setup::default(), Choices::seeded(1));
/// let mut config = Config::default();
/// config.mode = Mode::Server;
/// let first = world.add_node(&Arc::new(config.clone()), Networks::V4);
/// config.bootstrap = world.addrs(first).iter().collect();
/// let second = world.add_node(&Arc::new(config), Networks::V4);
/// world.run_for(Duration::from_secs(5));
/// let target = world.node(first).and_then(|dht| dht.node_id(Family::V4)).unwrap();
/// let (_, outcome) = world.look_up(second, &Lookup::FindNode { target }).unwrap();
/// assert_eq!(outcome.closest[0].id, target);
/// ```
#[derive(Debug)]
pub struct World {
    now: Instant,
    queue: Queue<What>,
    packets: Packets,
    hosts: Hosts,
    book: Book,
    net: Network,
    choices: Choices,
    trace: Trace,
    checkers: Vec<Box<dyn Checker>>,
    violation: Option<Violation>,
    events: VecDeque<(HostId, Event)>,
    outside: VecDeque<Datagram>,
    max_outside: usize,
    traffic: Traffic,
    shuffles_polls: bool,
    /// A place for one datagram, and for what an actor sends: kept, so that a step allocates nothing.
    buf: Option<Box<[u8; MAX_DATAGRAM]>>,
    acts: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// The configuration last used for a read-only node, beside the one it was made from.
    read_only: Option<(Arc<Config>, Arc<Config>)>,
}

impl World {
    /// An empty world, one second after the origin of time.
    #[must_use]
    pub fn new(setup: Setup, choices: Choices) -> Self {
        let plan = Plan::new(setup.range, setup.port, choices.seed()).reserving(setup.reserved);
        Self {
            now: Instant::from_secs(1),
            queue: Queue::new(),
            packets: Packets::default(),
            hosts: Hosts::default(),
            book: Book::new(plan),
            net: Network::new(setup.profile, setup.nat_ports),
            choices,
            trace: Trace::default(),
            checkers: Vec::new(),
            violation: None,
            events: VecDeque::new(),
            outside: VecDeque::new(),
            max_outside: setup.outside,
            traffic: Traffic::default(),
            shuffles_polls: false,
            buf: None,
            acts: Vec::new(),
            read_only: None,
        }
    }

    // Hosts.

    /// Adds a node at the next free addresses.
    ///
    /// # Panics
    /// If the range of addresses is used up.
    pub fn add_node(&mut self, config: &Arc<Config>, networks: Networks) -> HostId {
        let addrs = self.next_addrs(networks);
        self.add_node_at(addrs, config, networks)
    }

    /// Adds a node at the next free addresses that everybody can reach, whatever the profile says
    /// of others: one to start from.
    ///
    /// # Panics
    /// If the range of addresses is used up.
    pub fn add_public_node(&mut self, config: &Arc<Config>, networks: Networks) -> HostId {
        let addrs = self.next_addrs(networks);
        let seed = self.choices.node_seed(self.hosts.len() as u64);
        let dht = Dht::new(config.clone(), networks, &seed, self.now);
        self.add_dht(addrs, dht)
    }

    /// Adds a node at given addresses, behind what the profile draws for it.
    ///
    /// # Panics
    /// If one of them is taken.
    pub fn add_node_at(
        &mut self,
        addrs: Addrs,
        config: &Arc<Config>,
        networks: Networks,
    ) -> HostId {
        let seed = self.choices.node_seed(self.hosts.len() as u64);
        let host = self.add_nobody(addrs);
        self.draw_access(host);
        let config = self.config_for(host, config);
        self.install(host, Dht::new(config, networks, &seed, self.now));
        host
    }

    /// Adds a node that exists already.
    ///
    /// # Panics
    /// If one of the addresses is taken.
    pub fn add_dht(&mut self, addrs: Addrs, dht: Dht) -> HostId {
        let host = self.add(addrs, Body::Node(dht));
        self.announce_birth(host);
        self.drive(host);
        host
    }

    /// Adds somebody who acts, and wakes it.
    ///
    /// # Panics
    /// If one of the addresses is taken.
    pub fn add_actor(&mut self, addrs: Addrs, actor: Box<dyn Actor>) -> HostId {
        let host = self.add(addrs, Body::Actor(actor));
        self.act(host, None);
        host
    }

    /// Adds an address at which nobody is: a dead contact.
    ///
    /// # Panics
    /// If one of the addresses is taken.
    pub fn add_nobody(&mut self, addrs: Addrs) -> HostId {
        self.add(addrs, Body::Nobody)
    }

    /// The next addresses that nobody had yet.
    ///
    /// # Panics
    /// If the range is used up: [`World::capacity`] tells how many there are.
    pub fn next_addrs(&mut self, networks: Networks) -> Addrs {
        let number = self.book.next_number();
        #[expect(
            clippy::expect_used,
            reason = "documented: worlds are built by programs that count"
        )]
        let number = number.expect("no address is left in this range");
        let (v4, v6) = (self.book.plan().v4(number), self.book.plan().v6(number));
        let mut addrs = Addrs::of(&[v4, v6]);
        match networks {
            Networks::V4 => addrs.v6 = None,
            Networks::V6 => addrs.v4 = None,
            Networks::Both => {}
        }
        addrs
    }

    /// How many hosts the range of addresses has room for.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.book.plan().size()
    }

    fn add(&mut self, addrs: Addrs, body: Body) -> HostId {
        let host = self.hosts.push(&addrs);
        assert!(self.book.enter(host, &addrs, false), "an address of {addrs:?} is taken");
        self.net.attach(&mut self.choices);
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.body = body;
        }
        host
    }

    /// Makes room for so many more hosts, and no more than that.
    pub(crate) fn reserve(&mut self, hosts: usize) {
        self.hosts.reserve(hosts);
        self.book.reserve(hosts);
        self.net.reserve(hosts);
    }

    /// Ends a node without a word. Its address stays its own.
    pub fn crash(&mut self, host: HostId) -> Option<Dht> {
        let entry = self.hosts.get_mut(host)?;
        let Body::Node(_) = entry.body else { return None };
        entry.disarm();
        let Body::Node(dht) = core::mem::replace(&mut entry.body, Body::Nobody) else {
            return None;
        };
        if entry.has_events() {
            entry.clear_events();
            self.events.retain(|(at, _)| *at != host);
        }
        self.check(|| Happening::Died { host });
        Some(dht)
    }

    /// Turns a node into somebody who acts, at the same addresses, and wakes it.
    pub fn replace(&mut self, host: HostId, actor: Box<dyn Actor>) {
        self.crash(host);
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.body = Body::Actor(actor);
            entry.disarm();
        }
        self.act(host, None);
    }

    /// Has whoever acts at a host leave for good.
    pub fn retire(&mut self, host: HostId) {
        if let Some(entry) = self.hosts.get_mut(host)
            && let Body::Actor(_) = entry.body
        {
            entry.body = Body::Nobody;
        }
    }

    /// Starts a node where one was, from a snapshot if there is one, with the `life`-th seed of
    /// this host.
    pub fn restart(
        &mut self,
        host: HostId,
        config: &Arc<Config>,
        networks: Networks,
        snapshot: Option<&Snapshot>,
        life: u32,
    ) {
        let seed = self.choices.node_seed(u64::from(life) << 32 | u64::from(host.0));
        let config = self.config_for(host, config);
        let local = self.local_time(host);
        let dht = match snapshot {
            Some(snapshot) => Dht::restore(config, networks, &seed, local, snapshot),
            None => Dht::new(config, networks, &seed, local),
        };
        self.install(host, dht);
    }

    /// Puts a node where nobody is, or in place of whoever is there.
    pub fn install(&mut self, host: HostId, dht: Dht) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.disarm();
        entry.body = Body::Node(dht);
        self.announce_birth(host);
        self.drive(host);
    }

    /// Gives a host other addresses. It does not notice, as on the internet. If it was behind a NAT
    /// it is behind another such now, which knows nothing of it yet.
    ///
    /// # Panics
    /// If one of them is taken.
    pub fn relocate(&mut self, host: HostId, addrs: Addrs) {
        if self.hosts.get(host).is_none() {
            return;
        }
        self.book.leave(&self.hosts.addrs(host));
        self.hosts.set_addrs(host, &addrs);
        let nat = self.net.nat(host).copied();
        let is_free = self.book.enter(host, &addrs, nat.is_some());
        assert!(is_free, "an address of {addrs:?} is taken");
        if let Some(nat) = nat {
            self.net.guard(host, addrs, &nat, None);
        }
    }

    /// Freezes a host: it neither runs nor receives.
    pub fn suspend(&mut self, host: HostId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.suspended = true;
        }
    }

    /// Lets a frozen host go on.
    pub fn resume(&mut self, host: HostId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.suspended = false;
            entry.disarm();
        }
        self.drive(host);
    }

    /// Has a host's clock err from now on.
    pub fn set_clock(&mut self, host: HostId, clock: Clock) {
        self.hosts.set_clock(host, clock);
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.disarm();
        }
        self.drive(host);
    }

    /// Number of hosts, whoever they are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no hosts.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hosts.len() == 0
    }

    /// The node at a host, if a node is there.
    #[must_use]
    pub fn node(&self, host: HostId) -> Option<&Dht> {
        match &self.hosts.get(host)?.body {
            Body::Node(dht) => Some(dht),
            Body::Actor(_) | Body::Nobody => None,
        }
    }

    /// A host's addresses; none for a host that does not exist.
    #[must_use]
    pub fn addrs(&self, host: HostId) -> Addrs {
        self.hosts.addrs(host)
    }

    /// The host at an address.
    #[must_use]
    pub fn host_at(&self, addr: SocketAddr) -> Option<HostId> {
        self.book.host(addr)
    }

    // What users do.

    /// Calls an operation of a node, at the time of its own clock, then lets it act. `None` if no node
    /// is there, or it is frozen.
    pub fn with<T>(
        &mut self,
        host: HostId,
        call: impl FnOnce(&mut Dht, Instant) -> T,
    ) -> Option<T> {
        let local = self.local_time(host);
        let entry = self.hosts.get_mut(host).filter(|entry| !entry.suspended)?;
        let Body::Node(dht) = &mut entry.body else { return None };
        let result = call(dht, local);
        self.drive(host);
        Some(result)
    }

    /// Starts a lookup. `None` if no node is there, or it is frozen.
    pub fn start(&mut self, host: HostId, lookup: &Lookup) -> Option<Result<LookupId, StartError>> {
        let local = self.local_time(host);
        let entry = self.hosts.get_mut(host).filter(|entry| !entry.suspended)?;
        let Body::Node(dht) = &mut entry.body else { return None };
        let started = dht.start(local, lookup);
        if let Ok(id) = started {
            self.check(|| Happening::Started { host, local, id, lookup });
        }
        self.drive(host);
        Some(started)
    }

    /// Cancels a lookup. Whether it was running.
    pub fn cancel(&mut self, host: HostId, id: LookupId) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        let Body::Node(dht) = &mut entry.body else { return false };
        let was_running = dht.cancel(id);
        if entry.has_events() {
            self.events.retain(|(at, event)| {
                let stays = *at != host || event.lookup() != Some(id);
                if !stays {
                    entry.take_event();
                }
                stays
            });
        }
        if was_running {
            self.check(|| Happening::Cancelled { host, id });
        }
        self.drive(host);
        was_running
    }

    /// Runs one lookup to its end, for at most three minutes. Its events and outcome; `None` if no
    /// node is there, it could not start or never ended. Events of others are kept.
    pub fn look_up(&mut self, host: HostId, lookup: &Lookup) -> Option<(Vec<Event>, Outcome)> {
        let id = self.start(host, lookup)?.ok()?;
        let end = self.now + Duration::from_secs(180);
        let mut events = Vec::new();
        let mut seen = 0;
        loop {
            while let Some((at, event)) = self.events.get(seen) {
                if *at != host || event.lookup() != Some(id) {
                    seen += 1;
                    continue;
                }
                let event = self.events.remove(seen)?.1;
                if let Some(entry) = self.hosts.get_mut(host) {
                    entry.take_event();
                }
                if let Event::Done { outcome, .. } = event {
                    return Some((events, *outcome));
                }
                events.push(event);
            }
            if !self.step(end) {
                return None;
            }
        }
    }

    /// The next event that a node had for its user.
    pub fn next_event(&mut self) -> Option<(HostId, Event)> {
        let (host, event) = self.events.pop_front()?;
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.take_event();
        }
        Some((host, event))
    }

    /// How many events wait for their users.
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.events.len()
    }

    /// Forgets the latest events until only so many wait.
    pub(crate) fn forget_events(&mut self, left: usize) {
        while self.events.len() > left {
            let Some((host, _)) = self.events.pop_back() else { return };
            if let Some(entry) = self.hosts.get_mut(host) {
                entry.take_event();
            }
        }
    }

    /// The waiting events of one node.
    pub fn take_events(&mut self, host: HostId) -> Vec<Event> {
        match self.hosts.get_mut(host) {
            Some(entry) if entry.has_events() => entry.clear_events(),
            Some(_) | None => return Vec::new(),
        }
        let (mine, others) = self.events.drain(..).partition(|(at, _)| *at == host);
        self.events = others;
        let mine: VecDeque<(HostId, Event)> = mine;
        mine.into_iter().map(|(_, event)| event).collect()
    }

    // Datagrams from and to the outside.

    /// Puts a datagram on its way from any address.
    pub fn post(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let sender = self.book.host(from);
        self.send(sender, from, (to, None), bytes);
    }

    /// The next datagram to somebody outside the simulation whose time has come.
    pub fn take_outside(&mut self) -> Option<Datagram> {
        self.outside.pop_front()
    }

    // Time.

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// When the next thing happens by itself.
    pub fn next_at(&mut self) -> Option<Instant> {
        self.queue.peek()
    }

    /// Runs until virtual time has advanced by `duration`, or an invariant is broken.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Runs until `end`, or an invariant is broken.
    pub fn run_until(&mut self, end: Instant) {
        while self.step(end) {}
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    /// Lets one thing happen: an arrival or a timer. `false` if nothing does before `end`, or an
    /// invariant is broken.
    pub fn step(&mut self, end: Instant) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, what)) = self.queue.pop(end) else { return false };
        self.now = self.now.max(at);
        self.look_ahead();
        match what {
            What::Arrival(packet, host) => self.arrive(packet, host),
            What::Timer(host) => self.wake(host, at),
        }
        true
    }

    // Watching.

    /// Adds a checker, which sees everything from now on.
    pub fn watch(&mut self, checker: Box<dyn Checker>) {
        self.checkers.push(checker);
    }

    /// The first invariant that was broken; the world stands still since.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The trace so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The trace, to have it recorded.
    pub const fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// What moved so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Datagrams on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.packets.len()
    }

    /// The network.
    #[must_use]
    pub const fn net(&self) -> &Network {
        &self.net
    }

    /// The network, to break it.
    pub const fn net_mut(&mut self) -> &mut Network {
        &mut self.net
    }

    /// The source of choices.
    pub const fn choices(&mut self) -> &mut Choices {
        &mut self.choices
    }

    /// From now on outputs are polled in random order and amounts, as the contract allows.
    pub const fn shuffle_polls(&mut self) {
        self.shuffles_polls = true;
    }
}

#[cfg(test)]
mod tests;
