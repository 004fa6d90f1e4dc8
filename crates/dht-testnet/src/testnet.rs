//! [`Testnet`]: thousands of nodes behind a gateway.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use dht_proto::config::{Config, Mode};
use dht_sim::population::{Census, settle};
use dht_sim::profile::{Mapping, Profile};
use dht_sim::{Choices, HostId, Ratio, Setup, World};

use crate::{Cidr, Error, Gateway, Stats};

/// Nodes to start from.
const BOOTSTRAP: u32 = 8;
/// Datagrams waiting to leave the world, at most.
const MAX_OUTSIDE: usize = 65_536;
/// Nodes that may be as busy as nodes of the internet are.
const BUSY: u32 = 10_000;
/// How much quieter than those a node may be, at most: contacts are then pinged once an hour.
const MAX_QUIET: u32 = 6;

/// What network to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Spec {
    /// Nodes that answer.
    pub nodes: u32,
    /// Addresses of the nodes. Real programs have the first of them: [`Cidr::reserved`].
    pub range: Cidr,
    /// Where the gateway's socket is bound: the wildcard, and the port of all nodes. Port 0 picks a
    /// free one.
    pub bind: SocketAddrV4,
    /// What the network does to datagrams.
    pub profile: Profile,
    /// Share of dead contacts in the nodes' tables.
    pub dead: Ratio,
    /// What addresses, ids, tables and faults follow from.
    pub seed: u64,
}

impl Spec {
    /// So many nodes in 127.0.0.0/8, on any port, with the network's default profile.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        Self {
            nodes,
            range: Cidr::LOOPBACK,
            bind: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            profile: Profile::default(),
            dead: Ratio::ZERO,
            seed: 1,
        }
    }

    /// Sets what the network is like, and the share of dead contacts, by the name of a
    /// [`Profile`].
    ///
    /// Every NAT in it keeps ports: the gateway sends all datagrams from one port.
    ///
    /// # Errors
    /// [`Error::UnknownProfile`], which lists those there are.
    pub fn set_profile(&mut self, name: &str) -> Result<(), Error> {
        self.profile = Profile::named(name).map_err(Error::UnknownProfile)?;
        self.dead = self.profile.dead;
        for (_, nat) in &mut self.profile.mix.behind {
            nat.mapping = nat.mapping.map(|_| Mapping::EndpointIndependent);
            (nat.preserves_port, nat.sharing) = (true, 1);
        }
        Ok(())
    }

    /// Looks whether there can be such a network, without making it.
    ///
    /// # Errors
    /// If there are no nodes, or more hosts than addresses.
    pub fn check(&self) -> Result<(), Error> {
        if self.nodes == 0 {
            return Err(Error::NoNodes);
        }
        let addresses = World::new(self.setup(1), Choices::seeded(self.seed)).capacity();
        let hosts = self.hosts();
        if hosts > addresses {
            return Err(Error::TooMany { hosts, addresses, range: self.range });
        }
        Ok(())
    }

    /// All hosts, dead contacts included.
    fn hosts(&self) -> u64 {
        let alive = u64::from(self.dead.den.saturating_sub(self.dead.num).max(1));
        u64::from(self.nodes) * u64::from(self.dead.den) / alive
    }

    fn setup(&self, port: u16) -> Setup {
        let mut setup = Setup::default();
        setup.range = self.range.range();
        setup.reserved = self.range.reserved();
        setup.port = port;
        setup.profile = self.profile.clone();
        setup.outside = MAX_OUTSIDE;
        setup
    }

    /// What the nodes run with: servers whose tables are as large as those of most nodes of the
    /// internet.
    ///
    /// Pings and refreshes of 10,000 nodes and more would be most of the work: a node of such a
    /// network does them up to six times less often, so that 100,000 nodes still run in real time.
    fn config(&self) -> Config {
        let quiet = (self.nodes / BUSY).clamp(1, MAX_QUIET);
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.extended_buckets = false;
        for period in
            [&mut config.ping_after, &mut config.refresh_after, &mut config.self_lookup_interval]
        {
            *period *= quiet;
        }
        config
    }

    fn build(&self, port: u16) -> (World, Vec<SocketAddr>) {
        let mut world = World::new(self.setup(port), Choices::seeded(self.seed));
        let census = Census { nodes: self.nodes, dead: self.dead, config: Arc::new(self.config()) };
        let oracle = settle(&mut world, &census);
        let nodes = oracle.nodes();
        let count = BOOTSTRAP.min(nodes.len() as u32);
        // Spread over the ids, so that they know different parts of the network.
        let bootstrap = (0..count).filter_map(|i| {
            let place = u64::from(i) * nodes.len() as u64 / u64::from(count.max(1));
            let (_, host): &(_, HostId) = nodes.get(place as usize)?;
            world.addrs(*host).v4.map(SocketAddr::V4)
        });
        let bootstrap = bootstrap.collect();
        (world, bootstrap)
    }
}

/// A network of simulated nodes that real programs can join. Dropping it ends it.
#[derive(Debug)]
pub struct Testnet {
    gateway: Gateway,
    bootstrap: Vec<SocketAddr>,
}

impl Testnet {
    /// Builds a network and runs it.
    ///
    /// # Errors
    /// If there are more hosts than addresses, or the gateway cannot start.
    pub fn start(spec: &Spec) -> Result<Self, Error> {
        spec.check()?;
        let build = {
            let spec = spec.clone();
            move |port| spec.build(port)
        };
        let (gateway, bootstrap) = Gateway::start(spec.bind, spec.range, build)?;
        Ok(Self { gateway, bootstrap })
    }

    /// Where the gateway's socket is bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    /// Some nodes to start from.
    #[must_use]
    pub fn bootstrap(&self) -> &[SocketAddr] {
        &self.bootstrap
    }

    /// What the gateway has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.gateway.stats()
    }

    /// Whether it is still running: see [`Gateway::is_running`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.gateway.is_running()
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// If its thread has panicked.
    pub fn stop(self) -> Result<Stats, Error> {
        self.gateway.stop()
    }
}
