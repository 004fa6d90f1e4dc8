//! The networks of the suite: the same seed makes the same one in every setting.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_proto::id::NodeId;
use dht_sim::net::Profile;
use dht_sim::population::{Census, settle};
use dht_sim::{Choices, Range, Ratio, Setup, World, check};

/// The port of every host where no real socket decides it.
const PORT: u16 = 6_881;
/// Nodes to start from.
const BOOTSTRAP: usize = 8;

/// What network to build.
#[derive(Clone, Debug)]
pub struct Terrain {
    /// What everything follows from.
    pub seed: u64,
    /// Nodes that answer.
    pub nodes: u32,
    /// Share of dead contacts in their tables.
    pub dead: Ratio,
    /// What becomes of datagrams.
    pub profile: Profile,
}

impl Terrain {
    /// A hundred nodes close to each other, where nothing goes wrong.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        let mut profile = Profile::default();
        profile.delay = (Duration::from_micros(100), Duration::from_millis(1));
        Self { seed, nodes: 100, dead: Ratio::ZERO, profile }
    }

    /// The same, but a fifth of all contacts is dead.
    #[must_use]
    pub fn haunted(seed: u64) -> Self {
        Self { dead: Ratio::percent(20), ..Self::calm(seed) }
    }

    /// Datagrams get lost, come twice and overtake each other, and a tenth of all contacts is dead.
    #[must_use]
    pub fn rough(seed: u64) -> Self {
        let mut terrain = Self { dead: Ratio::percent(10), ..Self::calm(seed) };
        terrain.profile.delay = (Duration::from_millis(1), Duration::from_millis(30));
        terrain.profile.loss = Ratio::percent(4);
        terrain.profile.duplicated = Ratio::percent(5);
        terrain
    }

    /// Builds it, with all hosts on `port` and all checkers watching, for programs outside the
    /// simulation.
    #[must_use]
    pub fn build(&self, port: u16) -> (World, Places) {
        let mut setup = Setup::default();
        setup.range = Range::Network { base: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };
        setup.reserved = 1 << 16;
        setup.port = port;
        setup.profile = self.profile.clone();
        setup.outside = 1 << 16;
        let mut world = World::new(setup, Choices::seeded(self.seed));
        for checker in check::all() {
            world.watch(checker);
        }
        let mut config = Config::default();
        (config.mode, config.extended_buckets) = (Mode::Server, false);
        let census = Census { nodes: self.nodes, dead: self.dead, config: Arc::new(config) };
        let oracle = settle(&mut world, &census);
        let addr = |host| world.addrs(host).v4.map(SocketAddr::V4).expect("all have IPv4");
        let nodes: Vec<_> = oracle.nodes().iter().map(|(id, host)| (*id, addr(*host))).collect();
        let step = (nodes.len() / BOOTSTRAP).max(1);
        let bootstrap = nodes.iter().step_by(step).map(|(_, addr)| *addr).collect();
        let addrs = world.next_addrs(Networks::V4);
        world.add_nobody(addrs);
        let nobody = addrs.v4.map(SocketAddr::V4).expect("asked for");
        (world, Places { nodes, bootstrap, nobody })
    }

    /// The same where no real socket is involved.
    #[must_use]
    pub fn build_inside(&self) -> (World, Places) {
        self.build(PORT)
    }

    /// The address of a node of ours, one of those that no simulated host can have.
    #[must_use]
    pub fn client(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, number, 1)
    }

    /// The same where no real socket decides the port.
    #[must_use]
    pub fn client_addr(number: u8) -> SocketAddr {
        SocketAddr::from((Self::client(number), PORT))
    }
}

/// Who is in a network.
#[derive(Clone, Debug)]
pub struct Places {
    /// The nodes that answer, by id.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// Some of them, to start from.
    pub bootstrap: Vec<SocketAddr>,
    /// Where nobody answers.
    pub nobody: SocketAddr,
}

impl Places {
    /// The nodes closest to an id, nearest first.
    #[must_use]
    pub fn closest(&self, id: NodeId, count: usize) -> Vec<(NodeId, SocketAddr)> {
        let mut nodes = self.nodes.clone();
        let apart = |node: &NodeId| {
            let pairs = node.as_bytes().iter().zip(id.as_bytes());
            pairs.map(|(a, b)| a ^ b).collect::<Vec<u8>>()
        };
        nodes.sort_by_cached_key(|(node, _)| apart(node));
        nodes.truncate(count);
        nodes
    }
}
