//! [`Testnet`]: thousands of nodes behind a gateway.

use core::net::SocketAddr;
use core::num::NonZeroU32;
use std::sync::Arc;

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_proto::config::{Config, Mode};
use dht_sim::churn::Churn;
use dht_sim::population::{Census, settle_in};
use dht_sim::profile::Profile;
use dht_sim::{Choices, HostId, Ratio, Setup, World};

use crate::namespace::Namespace;
use crate::{Cidr, Error, Gateway, Listen, Stats};

/// Nodes of each family to start from.
const BOOTSTRAP: u32 = 8;
/// Ports of each external address, where a NAT does not keep those of the hosts behind it.
const NAT_PORTS: u16 = 64;
/// What a node takes in memory for each network that it is in.
const NODE_BYTES: u64 = 6_500;
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
    /// Where they are. Those in both networks have a table in each.
    pub networks: Networks,
    /// Addresses of the nodes. Real programs have the first of them: [`Cidr::reserved`]. IPv6
    /// addresses are always of [`cidr::network_v6`](crate::cidr::network_v6).
    pub range: Cidr,
    /// The port of all nodes; 0 picks a free one.
    pub port: u16,
    /// The network namespace of the nodes: see [`namespace::enter`](crate::namespace::enter).
    pub namespace: Option<Namespace>,
    /// What the network does to datagrams.
    pub profile: Profile,
    /// Share of dead contacts in the nodes' tables.
    pub dead: Ratio,
    /// How much shorter than the profile says nodes stay, if they come and go.
    pub churn: Option<NonZeroU32>,
    /// What addresses, ids, tables and faults follow from.
    pub seed: u64,
}

impl Spec {
    /// So many nodes in 127.0.0.0/8, on any port, with the network's default profile.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        Self {
            nodes,
            networks: Networks::V4,
            range: Cidr::LOOPBACK,
            port: 0,
            namespace: None,
            profile: Profile::default(),
            dead: Ratio::ZERO,
            churn: None,
            seed: 1,
        }
    }

    /// Sets what the network is like, and the share of dead contacts, by the name of a
    /// [`Profile`].
    ///
    /// # Errors
    /// [`Error::UnknownProfile`], which lists those there are.
    pub fn set_profile(&mut self, name: &str) -> Result<(), Error> {
        self.profile = Profile::named(name).map_err(Error::UnknownProfile)?;
        self.dead = self.profile.dead;
        Ok(())
    }

    /// Which addresses and ports the network takes.
    #[must_use]
    pub fn listen(&self) -> Listen {
        let mut listen = Listen::new(self.range);
        (listen.networks, listen.port) = (self.networks, self.port);
        listen.namespace.clone_from(&self.namespace);
        // A NAT that keeps ports needs none but that of all hosts.
        if !self.profile.mix.behind.iter().all(|(_, nat)| nat.keeps_port()) {
            listen.ports = NAT_PORTS;
        }
        listen
    }

    /// Looks whether there can be such a network, without making it.
    ///
    /// # Errors
    /// If there are no nodes, or more hosts than addresses or memory.
    pub fn check(&self) -> Result<(), Error> {
        if self.nodes == 0 {
            return Err(Error::NoNodes);
        }
        let addresses = World::new(self.setup(1), Choices::seeded(self.seed)).capacity();
        let hosts = self.hosts();
        if hosts > addresses {
            return Err(Error::TooMany { hosts, addresses, range: self.range });
        }
        let families = if self.networks == Networks::Both { 2 } else { 1 };
        let needed = u64::from(self.nodes) * families * NODE_BYTES;
        match free_memory() {
            Some(free) if free < needed => return Err(Error::TooLarge { needed, free }),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// All hosts, dead contacts included.
    fn hosts(&self) -> u64 {
        let alive = u64::from(self.dead.den.saturating_sub(self.dead.num).max(1));
        u64::from(self.nodes) * u64::from(self.dead.den) / alive
    }

    fn setup(&self, port: u16) -> Setup {
        let mut setup = self.listen().setup(port);
        setup.profile = self.profile.clone();
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

    fn build(&self, port: u16) -> (World, Option<Churn>, Vec<SocketAddr>) {
        let mut world = World::new(self.setup(port), Choices::seeded(self.seed));
        let config = Arc::new(self.config());
        let census = Census { nodes: self.nodes, dead: self.dead, config: Arc::clone(&config) };
        let oracles = settle_in(&mut world, &census, self.networks);
        let mut bootstrap = Vec::new();
        for family in [Family::V4, Family::V6] {
            let nodes = oracles.of(family).nodes();
            let count = BOOTSTRAP.min(nodes.len() as u32);
            // Spread over the ids, so that they know different parts of the network.
            bootstrap.extend((0..count).filter_map(|i| {
                let place = u64::from(i) * nodes.len() as u64 / u64::from(count.max(1));
                let (_, host): &(_, HostId) = nodes.get(place as usize)?;
                let addrs = world.addrs(*host);
                let addr = match family {
                    Family::V4 => addrs.v4.map(SocketAddr::V4)?,
                    Family::V6 => addrs.v6.map(SocketAddr::V6)?,
                };
                Some((*host, addr))
            }));
        }
        let churn = self.churn.map(|faster| {
            let mut turnover = self.profile.turnover;
            turnover.scale /= faster.get();
            let mut churn = Churn::new(&mut world, &turnover, &config, self.networks, oracles);
            for (host, _) in &bootstrap {
                churn.spare(*host);
            }
            churn
        });
        (world, churn, bootstrap.into_iter().map(|(_, addr)| addr).collect())
    }
}

/// Bytes of memory that the system could give to us, if it tells.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
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
        let (gateway, bootstrap) = Gateway::start(&spec.listen(), build)?;
        Ok(Self { gateway, bootstrap })
    }

    /// The addresses that the gateway is bound to: see [`Gateway::local_addrs`].
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.gateway.local_addrs()
    }

    /// Some nodes to start from, those of IPv4 first.
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
