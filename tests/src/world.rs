//! The simulated network as the tests of the core use it: hosts at addresses that a test names,
//! known by the order in which they were added, and every invariant watched for.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::request::{Event, Lookup, LookupId, Outcome};
use dht_proto::time::Instant;
use dht_proto::wire::{Body, decode};
use dht_proto::{Dht, Networks};
use dht_sim::check::{self, Checker, Happening};
use dht_sim::choices::{Choices, Ratio};
use dht_sim::host::{Actor, Addrs, Stage};
use dht_sim::{HostId, Profile, Setup};

use crate::script::{Heard, Script};

/// A [`dht_sim::World`] whose datagrams take 20 to 80 ms, and none gets lost unless a test says so.
#[derive(Debug)]
pub struct World(dht_sim::World);

/// Every component's own invariants, whenever a node has done something.
#[derive(Debug)]
struct Components;

impl Checker for Components {
    fn name(&self) -> &'static str {
        "components"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        if let Happening::Drained { dht, .. } = what {
            dht.check_invariants();
        }
        Ok(())
    }
}

/// A host that answers queries by script.
struct Scripted(Script);

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Actor for Scripted {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Ok(message) = decode(bytes) else { return };
        let Body::Query(query) = message.body else { return };
        for answer in (self.0)(&Heard { now: stage.now, from, to, message, query }) {
            stage.send(to, from, answer);
        }
    }
}

impl World {
    /// An empty network whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let delay = (Duration::from_millis(20), Duration::from_millis(80));
        let mut profile = Profile::simple(delay, Ratio::ZERO);
        // Nodes of other makes, and liars, send what they like.
        profile.mtu = usize::MAX;
        let mut world = dht_sim::World::new(Setup::new(profile), Choices::seeded(seed.into()));
        world.watch(Box::new(Components));
        for checker in check::all() {
            world.watch(checker);
        }
        Self(world)
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

    /// A configuration for servers that do not limit what they send.
    #[must_use]
    pub fn generous_config(bootstrap: &[SocketAddr]) -> Config {
        let mut config = Self::server_config(bootstrap);
        config.total_bytes_per_sec = u32::MAX;
        config.subnet_bytes_per_sec = u32::MAX;
        config.subnet_burst_bytes = u32::MAX;
        config
    }

    /// Datagrams get lost from now on, so many per thousand.
    pub fn lose(&mut self, per_mille: u32) {
        self.0.net_mut().adjust(|profile| profile.loss = Ratio::per_mille(per_mille));
    }

    /// Datagrams take at least and at most this long from now on.
    pub fn delay(&mut self, least: Duration, most: Duration) {
        self.0.net_mut().adjust(|profile| profile.delay = (least, most));
    }

    /// Adds a node that listens on the given addresses (one per family).
    pub fn add(&mut self, addrs: &[SocketAddr], config: Config) -> usize {
        let networks = match addrs {
            [addr] if addr.is_ipv4() => Networks::V4,
            [_] => Networks::V6,
            _ => Networks::Both,
        };
        let host = self.0.add_node_at(Addrs::of(addrs), &Arc::new(config), networks);
        self.check();
        host.index()
    }

    /// Adds a node that exists already.
    pub fn add_dht(&mut self, addrs: &[SocketAddr], dht: Dht) -> usize {
        let host = self.0.add_dht(Addrs::of(addrs), dht);
        self.check();
        host.index()
    }

    /// Adds a host that answers queries by script, see [`script`](crate::script).
    pub fn script(&mut self, addr: SocketAddr, script: Script) {
        self.0.add_actor(Addrs::of(&[addr]), Box::new(Scripted(script)));
    }

    /// Somebody whom nobody answers sends a datagram.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.0.post(from, to, bytes);
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
        self.0.now()
    }

    /// A hash over everything that happened: equal for equal runs.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.0.trace().hash()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Dht {
        self.0.node(host(index)).expect("a node")
    }

    /// Stops a node: it neither receives nor sends.
    pub fn stop(&mut self, index: usize) {
        self.0.suspend(host(index));
    }

    /// Lets a stopped node go on.
    pub fn resume(&mut self, index: usize) {
        self.0.resume(host(index));
        self.check();
    }

    /// Calls an operation of a node, then drives it.
    pub fn with<T>(&mut self, index: usize, call: impl FnOnce(&mut Dht, Instant) -> T) -> T {
        let result = self.0.with(host(index), call).expect("a node");
        self.check();
        result
    }

    /// Starts a lookup.
    pub fn start(&mut self, index: usize, lookup: &Lookup) -> LookupId {
        let started = self.0.start(host(index), lookup).expect("a node");
        self.check();
        started.expect("room for a lookup")
    }

    /// The events of a node so far, and none of them again.
    pub fn take_events(&mut self, index: usize) -> Vec<Event> {
        self.0.take_events(host(index))
    }

    /// Runs until virtual time has advanced by `duration`.
    pub fn run_for(&mut self, duration: Duration) {
        self.0.run_for(duration);
        self.check();
    }

    /// Runs one lookup to its end, for at most three minutes, and returns its events and outcome.
    pub fn look_up(&mut self, index: usize, lookup: &Lookup) -> (Vec<Event>, Outcome) {
        let found = self.0.look_up(host(index), lookup);
        self.check();
        found.expect("a lookup that ends")
    }

    /// A node without its world, and the time.
    #[must_use]
    pub fn into_node(mut self, index: usize) -> (Dht, Instant) {
        (self.0.crash(host(index)).expect("a node"), self.now())
    }

    /// A broken invariant ends the world, and with it the test.
    fn check(&self) {
        if let Some(violation) = self.0.violation() {
            panic!("{violation}");
        }
    }
}

const fn host(index: usize) -> HostId {
    HostId(index as u32)
}
