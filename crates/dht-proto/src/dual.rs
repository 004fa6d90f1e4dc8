//! [`Dht`]: a v4 and a v6 node under one set of verbs (BEP 32: two networks, side by side).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use crate::MAX_DATAGRAM;
use crate::addr::{Addr, Family};
use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::footprint;
use crate::health::{Health, Trouble};
use crate::id::NodeId;
use crate::item::Item;
use crate::lookup::WalkRef;
use crate::node::{Node, Sibling};
use crate::request::{AnnouncePort, Event, Lookup, LookupId, NodeInfo, Outcome, StartError};
use crate::seed::{Domain, Seed};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::time::Instant;

/// A datagram to send: its bytes are the first `len` of the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_structs, reason = "a datagram has nothing else")]
pub struct Transmit {
    /// Where to send it.
    pub to: SocketAddr,
    /// How many bytes of the buffer to send.
    pub len: usize,
}

/// A node that counts as a verified contact from the start, see [`Dht::settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever knows the network")]
pub struct Acquaintance {
    /// Its id.
    pub id: NodeId,
    /// Where it answers.
    pub addr: SocketAddr,
    /// Its round-trip time.
    pub rtt: Duration,
    /// When it last answered.
    pub heard: Instant,
}

/// Which networks a [`Dht`] takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two networks")]
pub enum Networks {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

/// A lookup as the user knows it: one walk per network.
#[derive(Debug)]
struct Slot {
    generation: u32,
    v4: Option<WalkRef>,
    v6: Option<WalkRef>,
    /// What the network that finished first had to say.
    outcome: Option<Box<Outcome>>,
    running: bool,
    /// An item is looked for, not stored.
    gets_item: bool,
    /// The newest item reported: each network knows only what it found itself.
    reported: Option<Box<Item>>,
}

/// The DHT as a state machine: datagrams and time in, datagrams and events out.
///
/// **The contract.** Feed every input with the present time; then take transmits and events, in any
/// order, as much or as little as your budget allows; then sleep until
/// [`poll_timeout`](Self::poll_timeout) or the next input. `poll_timeout` is never later than the
/// last `now` while output waits, so a loop that obeys it forgets nothing. A query's clock starts
/// when [`poll_transmit`](Self::poll_transmit) builds it: a socket that is full makes no node look
/// dead, as long as nobody asks for datagrams that cannot be sent.
///
/// No input makes it panic. Time that goes backwards is taken as standing still.
#[derive(Debug)]
pub struct Dht {
    // Boxed, so that a node on one network does not pay for the other.
    v4: Option<Box<Node<SocketAddrV4>>>,
    v6: Option<Box<Node<SocketAddrV6>>>,
    /// Whose turn it is to send.
    v6_first: bool,
    /// Lookups that run; an idle node has nothing here.
    running: Option<Box<Running>>,
    /// That of the latest lookup, whatever its slot.
    generation: u32,
    max_lookups: usize,
}

/// The slots of the lookups that run, and which of them are free.
#[derive(Debug, Default)]
struct Running {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Dht {
    /// A node that knows nobody but the bootstrap addresses of its configuration.
    ///
    /// Values outside their ranges are taken as the nearest inside ([`Config::check`]).
    #[must_use]
    pub fn new(config: Arc<Config>, networks: Networks, seed: &Seed, now: Instant) -> Self {
        // A million nodes may share one configuration.
        let sane = config.check().is_ok();
        let config = if sane { config } else { Arc::new(config.clamped()) };
        let max_lookups = config.max_lookups;
        let v4 = (networks != Networks::V6)
            .then(|| Box::new(Node::new(config.clone(), &seed.child(Domain::NodeV4), now)));
        let v6 = (networks != Networks::V4)
            .then(|| Box::new(Node::new(config, &seed.child(Domain::NodeV6), now)));
        Self { v4, v6, v6_first: false, running: None, generation: 0, max_lookups }
    }

    /// A node that continues an earlier run: same ids (unless our address changed), known contacts
    /// to start from, stored items.
    #[must_use]
    pub fn restore(
        config: Arc<Config>,
        networks: Networks,
        seed: &Seed,
        now: Instant,
        snapshot: &Snapshot,
    ) -> Self {
        let mut dht = Self::new(config, networks, seed, now);
        if let (Some(node), Some(saved)) = (&mut dht.v4, &snapshot.v4) {
            node.restore(now, saved);
        }
        if let (Some(node), Some(saved)) = (&mut dht.v6, &snapshot.v6) {
            node.restore(now, saved);
        }
        dht
    }

    /// Steps that [`read_ahead`](Self::read_ahead) takes.
    pub const READ_AHEAD_STEPS: u32 = 5;

    /// Says what will be read when time passes or the datagram `coming` is handled. Changes nothing.
    ///
    /// For programs with so many nodes that none of them is in the processor's caches when its next
    /// datagram comes, and that know some datagrams ahead which nodes are next: a simulator. Each step,
    /// from 0 on, reads what the one before named: leave time between them, in which others take theirs.
    pub fn read_ahead(
        &self,
        step: u32,
        coming: Option<(SocketAddr, &[u8])>,
        ahead: &mut impl ReadAhead,
    ) {
        if let Some(node) = &self.v4 {
            node.read_ahead(step, coming, ahead);
        }
        if let Some(node) = &self.v6 {
            node.read_ahead(step, coming, ahead);
        }
    }

    // Input.

    /// Takes a datagram that came from `from`. The reply, if there is one, goes back there, and its
    /// bytes are in `reply`: send it or drop it, nobody asks again.
    ///
    /// Datagrams of a family that this DHT does not speak are ignored. There is no error: garbage is
    /// normal input and becomes a counter in [`Stats`].
    #[must_use]
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        reply: &mut [u8; MAX_DATAGRAM],
    ) -> Option<Transmit> {
        let len = if let Some(addr) = SocketAddrV4::from_socket_addr(from) {
            self.v4.as_mut()?.handle_datagram(now, addr, datagram, &mut self.v6, reply)?
        } else {
            let addr = SocketAddrV6::from_socket_addr(from)?;
            self.v6.as_mut()?.handle_datagram(now, addr, datagram, &mut self.v4, reply)?
        };
        Some(Transmit { to: from, len })
    }

    /// The operating system reported that nobody is at `to` (ICMP unreachable).
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        if let (Some(node), Some(to)) = (&mut self.v4, SocketAddrV4::from_socket_addr(to)) {
            node.handle_unreachable(now, to);
        }
        if let (Some(node), Some(to)) = (&mut self.v6, SocketAddrV6::from_socket_addr(to)) {
            node.handle_unreachable(now, to);
        }
    }

    /// Time has passed. Call it when [`poll_timeout`](Self::poll_timeout) is due; more often does no
    /// harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(node) = &mut self.v4 {
            node.handle_timeout(now);
        }
        if let Some(node) = &mut self.v6 {
            node.handle_timeout(now);
        }
    }

    /// [`handle_timeout`](Self::handle_timeout) if a deadline has come or the last lookup has ended, which
    /// gives its memory back then; whether it was. This is what a loop does after its input and before it
    /// takes any output, so that all loops, simulated ones too, do it in the same order.
    pub fn handle_due(&mut self, now: Instant) -> bool {
        let is_due = self.v4.as_ref().is_some_and(|node| node.is_due(now))
            || self.v6.as_ref().is_some_and(|node| node.is_due(now));
        if is_due {
            self.handle_timeout(now);
        }
        is_due
    }

    // Output.

    /// Builds the next query into `buf`. Its timeout starts at `now`. The networks take turns; a
    /// caller whose sockets fill up one by one asks each with
    /// [`poll_transmit_on`](Self::poll_transmit_on).
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<Transmit> {
        let mut turns = [Family::V4, Family::V6];
        if self.v6_first {
            turns.reverse();
        }
        for family in turns {
            if let Some(sent) = self.poll_transmit_on(now, family, buf) {
                // A turn is over when it was used: asking in vain changes nothing.
                self.v6_first = family == Family::V4;
                return Some(sent);
            }
        }
        None
    }

    /// [`poll_transmit`](Self::poll_transmit), for one network only: while the socket of the other
    /// one is full.
    #[must_use]
    #[inline]
    pub fn poll_transmit_on(
        &mut self,
        now: Instant,
        family: Family,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<Transmit> {
        let (to, len) = match family {
            Family::V4 => {
                let (to, len) = self.v4.as_mut()?.poll_transmit(now, self.v6.is_hungry(), buf)?;
                (to.socket_addr(), len)
            }
            Family::V6 => {
                let (to, len) = self.v6.as_mut()?.poll_transmit(now, self.v4.is_hungry(), buf)?;
                (to.socket_addr(), len)
            }
        };
        Some(Transmit { to, len })
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let next = self
                .v4
                .as_mut()
                .and_then(|node| node.poll_event())
                .map(|event| (Family::V4, event));
            let next = next.or_else(|| {
                self.v6.as_mut().and_then(|node| node.poll_event()).map(|event| (Family::V6, event))
            });
            let (family, event) = next?;
            if let Event::Item { lookup, item, .. } = &event
                && !self.is_news(*lookup, item)
            {
                continue;
            }
            let Event::Done { lookup, outcome } = event else { return Some(event) };
            if let Some(outcome) = self.on_walk_done(family, lookup, outcome) {
                return Some(Event::Done { lookup, outcome });
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called next; not later than the last
    /// `now` while [`poll_transmit`](Self::poll_transmit) or [`poll_event`](Self::poll_event) would
    /// return something. Takes constant time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.poll_timeout_on(Family::V4), self.poll_timeout_on(Family::V6)) {
            (Some(v4), Some(v6)) => Some(v4.min(v6)),
            (v4, v6) => v4.or(v6),
        }
    }

    /// [`poll_timeout`](Self::poll_timeout), as far as one network is concerned: what its queries
    /// wait for is no reason to call while its socket is full.
    #[must_use]
    #[inline]
    pub fn poll_timeout_on(&self, family: Family) -> Option<Instant> {
        match family {
            Family::V4 => self.v4.as_ref()?.poll_timeout(),
            Family::V6 => self.v6.as_ref()?.poll_timeout(),
        }
    }

    // Operations.

    /// Starts a lookup on every network that it concerns. It ends with exactly one
    /// [`Event::Done`], unless it is cancelled.
    ///
    /// # Errors
    /// [`StartError::AtCapacity`] if too many lookups run, [`StartError::NoSuchFamily`] if the
    /// address to ask is of a family that this DHT does not speak, [`StartError::BadPort`] for
    /// port 0.
    pub fn start(&mut self, now: Instant, lookup: &Lookup) -> Result<LookupId, StartError> {
        let only = self.family_of(lookup)?;
        let running = self.running.as_ref().map_or(0, |all| all.slots.len() - all.free.len());
        let room = self.v4.as_ref().is_none_or(|node| node.has_room())
            && self.v6.as_ref().is_none_or(|node| node.has_room());
        if running >= self.max_lookups || !room {
            return Err(StartError::AtCapacity);
        }
        let id = self.new_slot();
        let wants = |family| only.is_none_or(|only| only == family);
        let v4 = self.v4.as_mut().filter(|_| wants(Family::V4));
        let v4 = v4.map(|node| node.start(now, id, lookup));
        let v6 = self.v6.as_mut().filter(|_| wants(Family::V6));
        let v6 = v6.map(|node| node.start(now, id, lookup));
        if let Some(slot) = self.slot(id) {
            (slot.v4, slot.v6) = (v4, v6);
            slot.gets_item = matches!(lookup, Lookup::GetItem { .. });
        }
        Ok(id)
    }

    /// Ends a lookup as if its time were up: its [`Event::Done`] comes at once, with all that it has
    /// found and stored so far. Returns whether it was running.
    pub fn finish(&mut self, now: Instant, id: LookupId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let (v4, v6) = (slot.v4, slot.v6);
        if let (Some(node), Some(walk)) = (&mut self.v4, v4) {
            node.expire(now, walk);
        }
        if let (Some(node), Some(walk)) = (&mut self.v6, v6) {
            node.expire(now, walk);
        }
        true
    }

    /// Ends a lookup. No event carries its id after this. Returns whether it was running.
    pub fn cancel(&mut self, id: LookupId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let (v4, v6) = (slot.v4, slot.v6);
        if let Some(node) = &mut self.v4 {
            v4.map(|walk| node.cancel(walk));
            node.forget_events(id);
        }
        if let Some(node) = &mut self.v6 {
            v6.map(|walk| node.cancel(walk));
            node.forget_events(id);
        }
        self.free_slot(id);
        true
    }

    /// Puts the node of one family where hours of running would have brought it: with this id and
    /// external address, and with contacts that count as verified.
    ///
    /// For simulations that start from a network in equilibrium. In a program that talks to the
    /// internet use [`restore`](Self::restore), which believes nobody before he has answered.
    pub fn settle(
        &mut self,
        now: Instant,
        family: Family,
        id: NodeId,
        external: Option<IpAddr>,
        contacts: &[Acquaintance],
    ) {
        match family {
            Family::V4 => self.v4.as_mut().map(|n| n.settle(now, id, external, contacts)),
            Family::V6 => self.v6.as_mut().map(|n| n.settle(now, id, external, contacts)),
        };
    }

    /// Tells of a node that might be alive, with its id if that is known. It is asked before it is
    /// believed.
    pub fn add_contact(&mut self, now: Instant, addr: SocketAddr, id: Option<NodeId>) {
        if let (Some(node), Some(addr)) = (&mut self.v4, SocketAddrV4::from_socket_addr(addr)) {
            node.add_contact(now, addr, id);
        }
        if let (Some(node), Some(addr)) = (&mut self.v6, SocketAddrV6::from_socket_addr(addr)) {
            node.add_contact(now, addr, id);
        }
    }

    /// Adds an address to start from, as if it had been in [`Config::bootstrap`].
    pub fn add_bootstrap(&mut self, now: Instant, addr: SocketAddr) {
        if let (Some(node), Some(addr)) = (&mut self.v4, SocketAddrV4::from_socket_addr(addr)) {
            node.add_bootstrap(now, addr);
        }
        if let (Some(node), Some(addr)) = (&mut self.v6, SocketAddrV6::from_socket_addr(addr)) {
            node.add_bootstrap(now, addr);
        }
    }

    /// What only the runtime can see, for the health report; `None` when it is over.
    pub fn report(&mut self, now: Instant, family: Family, trouble: Option<Trouble>) {
        match (family, &mut self.v4, &mut self.v6) {
            (Family::V4, Some(node), _) => node.report(now, trouble),
            (Family::V6, _, Some(node)) => node.report(now, trouble),
            (Family::V4, None, _) | (Family::V6, _, None) => {}
        }
    }

    /// Our node id on a network, if we take part in it.
    #[must_use]
    pub fn node_id(&self, family: Family) -> Option<NodeId> {
        match family {
            Family::V4 => self.v4.as_ref().map(|node| node.own_id()),
            Family::V6 => self.v6.as_ref().map(|node| node.own_id()),
        }
    }

    /// What the node runs with.
    #[must_use]
    pub fn config(&self) -> Option<&Config> {
        let v4 = self.v4.as_ref().map(|node| node.config());
        v4.or_else(|| self.v6.as_ref().map(|node| node.config()))
    }

    /// The verified contacts on a network, nearest to our own id first.
    #[must_use]
    pub fn contacts(&self, family: Family) -> Vec<NodeInfo> {
        match family {
            Family::V4 => self.v4.as_ref().map(|node| node.contacts()),
            Family::V6 => self.v6.as_ref().map(|node| node.contacts()),
        }
        .unwrap_or_default()
    }

    /// How many contacts each bucket holds, from the farthest, whose contacts share no bit with our id,
    /// to the nearest.
    pub fn bucket_sizes(&self, family: Family) -> impl Iterator<Item = usize> {
        let v4 = self.v4.as_ref().filter(|_| family == Family::V4);
        let v6 = self.v6.as_ref().filter(|_| family == Family::V6);
        let v4 = v4.into_iter().flat_map(|node| node.bucket_sizes());
        v4.chain(v6.into_iter().flat_map(|node| node.bucket_sizes()))
    }

    /// What a restart needs.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.v4 = self.v4.as_ref().map(|node| node.snapshot());
        snapshot.v6 = self.v6.as_ref().map(|node| node.snapshot());
        snapshot
    }

    /// Counters of both networks together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let v4 = self.v4.as_ref().map(|node| node.stats()).unwrap_or_default();
        let v6 = self.v6.as_ref().map(|node| node.stats()).unwrap_or_default();
        v4 + v6
    }

    /// Whether the DHT works, and if not, why.
    #[must_use]
    pub fn health(&self, now: Instant) -> Health {
        Health {
            v4: self.v4.as_ref().map(|node| node.health(now)),
            v6: self.v6.as_ref().map(|node| node.health(now)),
        }
    }

    /// The bytes that the node takes up now, itself included, without the configuration, which many
    /// may share, and without what the allocator adds. B-trees are estimated, so that busy nodes are
    /// off by some per cent. Takes time linear in what is stored and running.
    ///
    /// Never more than [`Config::memory_ceiling`].
    #[must_use]
    pub fn memory(&self) -> usize {
        let running = |all: &Running| {
            let outcomes = all.slots.iter().filter_map(|slot| slot.outcome.as_ref());
            size_of::<Running>()
                + footprint::room::<Slot>(all.slots.capacity())
                + footprint::room::<u32>(all.free.capacity())
                + outcomes.map(|o| size_of::<Outcome>() + o.heap_bytes()).sum::<usize>()
        };
        size_of::<Self>()
            + self.running.as_deref().map_or(0, running)
            + self.v4.as_ref().map_or(0, |node| node.memory())
            + self.v6.as_ref().map_or(0, |node| node.memory())
    }

    /// See [`Config::memory_ceiling`].
    pub(crate) fn memory_ceiling(config: &Config) -> usize {
        let ips = config.public_ips.len() * size_of::<IpAddr>();
        let own_config = config.bootstrap.len() * size_of::<SocketAddr>() + ips;
        footprint::sum(&[
            size_of::<Self>(),
            // A copy, if the caller's had to be corrected.
            size_of::<Config>() + own_config,
            Node::<SocketAddrV4>::memory_ceiling(config),
            Node::<SocketAddrV6>::memory_ceiling(config),
            size_of::<Running>(),
            footprint::list::<Slot>(config.max_lookups),
            footprint::list::<u32>(config.max_lookups),
            // What the network that finished first had to say, both together, and the newest item
            // told.
            config
                .max_lookups
                .saturating_mul(2 * Outcome::memory_ceiling(config) + Item::MEMORY_CEILING),
        ])
    }

    /// Checks every bound and ordering that the parts promise. For tests, simulation and fuzzing.
    ///
    /// # Panics
    /// If one does not hold, which is a bug.
    pub fn check_invariants(&self) {
        if let Some(node) = &self.v4 {
            node.check_invariants();
        }
        if let Some(node) = &self.v6 {
            node.check_invariants();
        }
        if let Some(running) = &self.running {
            assert!(running.slots.len() <= self.max_lookups, "more lookups than allowed");
            assert!(running.free.len() < running.slots.len(), "nothing runs");
        }
    }

    /// The only family that a lookup concerns, if there is just one.
    fn family_of(&self, lookup: &Lookup) -> Result<Option<Family>, StartError> {
        let addr = match lookup {
            Lookup::Ping { addr } | Lookup::Sample { addr, .. } => *addr,
            Lookup::Announce { port: AnnouncePort::Explicit(0), .. } => {
                return Err(StartError::BadPort);
            }
            Lookup::FindNode { .. }
            | Lookup::GetPeers { .. }
            | Lookup::Announce { .. }
            | Lookup::GetItem { .. }
            | Lookup::PutItem { .. } => return Ok(None),
        };
        if addr.port() == 0 {
            return Err(StartError::BadPort);
        }
        let family = Family::of(&addr);
        let spoken = match family {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        };
        if spoken { Ok(Some(family)) } else { Err(StartError::NoSuchFamily(family)) }
    }

    /// Whether an item supersedes what its lookup reported so far, and is reported now.
    fn is_news(&mut self, id: LookupId, item: &Item) -> bool {
        let both = self.v4.is_some() && self.v6.is_some();
        let Some(slot) = self.slot(id).filter(|_| both) else { return true };
        let news = slot.reported.as_ref().is_none_or(|reported| item.supersedes(reported));
        if news {
            slot.reported = Some(Box::new(item.clone()));
        }
        news
    }

    /// One network is done. The user hears of it when all are.
    fn on_walk_done(
        &mut self,
        family: Family,
        id: LookupId,
        outcome: Box<Outcome>,
    ) -> Option<Box<Outcome>> {
        let slot = self.slot(id)?;
        let other = match family {
            Family::V4 => {
                slot.v4 = None;
                slot.v6
            }
            Family::V6 => {
                slot.v6 = None;
                slot.v4
            }
        };
        let immutable = outcome.item.as_ref().is_some_and(|item| item.signed().is_none());
        let proven = slot.gets_item && immutable;
        let Some(other) = other else {
            let earlier = slot.outcome.take();
            self.free_slot(id);
            return Some(match earlier {
                Some(earlier) => Box::new(earlier.merge(*outcome)),
                None => outcome,
            });
        };
        if !proven {
            slot.outcome = Some(outcome);
            return None;
        }
        // An immutable value is its own proof: the other network cannot know better.
        let mut outcome = outcome;
        match family {
            Family::V4 => self.v6.as_mut().map(|node| node.overtaken(other, id, &mut outcome)),
            Family::V6 => self.v4.as_mut().map(|node| node.overtaken(other, id, &mut outcome)),
        };
        self.free_slot(id);
        Some(outcome)
    }

    fn new_slot(&mut self) -> LookupId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let all = self.running.get_or_insert_with(Box::default);
        let index = all.free.pop().unwrap_or_else(|| {
            let (v4, v6, outcome) = (None, None, None);
            let (running, gets_item, reported) = (false, false, None);
            all.slots.push(Slot { generation, v4, v6, outcome, running, gets_item, reported });
            (all.slots.len() - 1) as u32
        });
        if let Some(slot) = all.slots.get_mut(index as usize) {
            slot.generation = generation;
            slot.running = true;
        }
        LookupId { index, generation }
    }

    fn slot(&mut self, id: LookupId) -> Option<&mut Slot> {
        let slot = self.running.as_mut()?.slots.get_mut(id.index())?;
        (slot.running && slot.generation == id.generation).then_some(slot)
    }

    fn free_slot(&mut self, id: LookupId) {
        if let Some(slot) = self.slot(id) {
            slot.running = false;
            slot.outcome = None;
            slot.reported = None;
            if let Some(all) = &mut self.running {
                all.free.push(id.index);
                if all.free.len() == all.slots.len() {
                    self.running = None;
                }
            }
        }
    }
}
