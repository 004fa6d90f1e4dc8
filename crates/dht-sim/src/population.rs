//! A network in equilibrium: many nodes whose tables are as full as years of running would make
//! them.

use std::net::{SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::{NodeId, bep42};
use dht_proto::seed::{Domain, Stream};
use dht_proto::time::Instant;
use dht_proto::{Dht, Networks};

use crate::choices::{About, Ratio};
use crate::oracle::Oracle;
use crate::world::{HostId, World};

mod tables;

use tables::{Directory, Listed, Tables};

/// Virtual time at which a population has been running for long enough.
const SETTLED: Instant = Instant::from_secs(24 * 60 * 60);

/// Who lives in a network.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever builds a network")]
pub struct Census {
    /// Nodes that answer.
    pub nodes: u32,
    /// Share of all contacts in tables that are dead.
    pub dead: Ratio,
    /// What every node runs with.
    pub config: Arc<Config>,
}

/// Who is truly there, one oracle for each family.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there are two families")]
pub struct Oracles {
    /// Of the IPv4 network.
    pub v4: Oracle,
    /// Of the IPv6 network.
    pub v6: Oracle,
}

impl Oracles {
    /// The bytes that both take up beside themselves.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }

    /// The one of a family.
    #[must_use]
    pub const fn of(&self, family: Family) -> &Oracle {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The one of a family.
    pub const fn of_mut(&mut self, family: Family) -> &mut Oracle {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Of all nodes of a world that answer whoever asks, as they are now.
    #[must_use]
    pub fn look(world: &World) -> Self {
        let mut all = Self::default();
        for host in (0..world.len() as u32).map(HostId) {
            for family in FAMILIES {
                if let Some(id) = public_id(world, host, family) {
                    all.of_mut(family).insert(id, host);
                }
            }
        }
        all
    }
}

/// Both families.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The id of a node that answers whoever asks.
pub(crate) fn public_id(world: &World, host: HostId, family: Family) -> Option<NodeId> {
    let dht = world.node(host)?;
    let id = dht.node_id(family)?;
    let health = dht.health(world.local_time(host));
    let answers = match family {
        Family::V4 => health.v4,
        Family::V6 => health.v6,
    };
    (world.net().is_reachable(host) && answers.is_some_and(|health| health.answers)).then_some(id)
}

/// Builds IPv4 nodes with honest tables, see [`settle_in`]. Returns who is there for everybody.
///
/// # Panics
/// If the world's range of addresses is too small.
pub fn settle(world: &mut World, census: &Census) -> Oracle {
    settle_in(world, census, Networks::V4).v4
}

/// Builds nodes with honest tables: each bucket holds a random choice, as large as it has room for,
/// of all nodes that belong in it, dead ones included. Nodes behind a NAT or firewall, where the
/// profile has them, are in nobody's table but have one. Returns who is there for everybody.
///
/// # Panics
/// If the world's range of addresses is too small.
pub fn settle_in(world: &mut World, census: &Census, networks: Networks) -> Oracles {
    let Census { nodes, dead, config } = census;
    world.run_until(SETTLED);
    let alive = u64::from(dead.den.saturating_sub(dead.num).max(1));
    let dead_among = |living: usize| living as u64 * u64::from(dead.num) / alive;
    world.reserve(*nodes as usize + dead_among(*nodes as usize) as usize);
    let mut ids = world.choices().node_seed(u64::MAX).stream(Domain::NodeId);
    let living: Vec<_> = (0..*nodes)
        .map(|_| {
            let addrs = world.next_addrs(networks);
            let host = world.add_nobody(addrs);
            world.draw_access(host);
            (host, ids_of(world, host, &mut ids))
        })
        .collect();
    let mut listed = Everybody::default();
    let reachable = |world: &World, host| world.net().is_reachable(host);
    for (host, own) in living.iter().filter(|(host, _)| reachable(world, *host)) {
        listed.add(world, *host, own);
    }
    let oracles = listed.oracles();
    for _ in 0..dead_among(listed.v4.len().max(listed.v6.len())) {
        let addrs = world.next_addrs(networks);
        let host = world.add_nobody(addrs);
        listed.add(world, host, &ids_of(world, host, &mut ids));
    }
    let (v4, v6) = (Directory::new(listed.v4), Directory::new(listed.v6));
    let (mut v4, mut v6) = (Tables::new(&v4, config), Tables::new(&v6, config));
    for (host, own) in living {
        let seed = world.choices().node_seed(u64::from(host.0));
        let mut dht = Dht::new(world.config_for(host, config), networks, &seed, SETTLED);
        v4.settle(world, &mut dht, host, own);
        v6.settle(world, &mut dht, host, own);
        // What it would tell its user now it told him long ago.
        let told = world.events_waiting();
        world.install(host, dht);
        world.forget_events(told);
    }
    oracles
}

/// The ids of a host in both families.
type Ids = [Option<NodeId>; 2];

fn ids_of(world: &World, host: HostId, stream: &mut Stream) -> Ids {
    FAMILIES.map(|family| world.external(host, family).map(|ip| bep42::derive(ip, stream)))
}

/// Whom tables may hold.
#[derive(Default)]
struct Everybody {
    v4: Vec<Listed<SocketAddrV4>>,
    v6: Vec<Listed<SocketAddrV6>>,
}

impl Everybody {
    fn add(&mut self, world: &World, host: HostId, own: &Ids) {
        let addrs = world.addrs(host);
        self.v4.extend(Listed::of(host, own, addrs.v4));
        self.v6.extend(Listed::of(host, own, addrs.v6));
    }

    fn oracles(&self) -> Oracles {
        let v4 = self.v4.iter().map(|listed| (listed.id, listed.host)).collect();
        let v6 = self.v6.iter().map(|listed| (listed.id, listed.host)).collect();
        Oracles { v4: Oracle::new(v4), v6: Oracle::new(v6) }
    }
}

/// A network that comes into being by itself.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever builds a network")]
pub struct Founding {
    /// Nodes in all.
    pub nodes: u32,
    /// How many of them are there from the start, public, and known to the rest.
    pub introducers: u32,
    /// The time over which the others arrive, each at a random moment.
    pub over: Duration,
    /// What every node runs with; its bootstrap addresses are replaced.
    pub config: Arc<Config>,
    /// Where they take part.
    pub networks: Networks,
}

/// Has nodes join through a few introducers, as on the internet, while time passes. Returns the
/// hosts, introducers first.
///
/// # Panics
/// If the world's range of addresses is too small.
pub fn cold(world: &mut World, founding: &Founding) -> Vec<HostId> {
    let Founding { nodes, introducers, over, config, networks } = founding;
    let mut config = Config::clone(config);
    config.bootstrap.clear();
    let mut hosts = Vec::with_capacity(*nodes as usize);
    for _ in 0..*introducers {
        let host = world.add_public_node(&Arc::new(config.clone()), *networks);
        config.bootstrap.extend(world.addrs(host).iter());
        hosts.push(host);
    }
    let config = Arc::new(config);
    let millis = u32::try_from(over.as_millis()).unwrap_or(u32::MAX - 1);
    let mut joins: Vec<u32> = (*introducers..*nodes)
        .map(|_| world.choices().below(About::Churn, millis.saturating_add(1)))
        .collect();
    joins.sort_unstable();
    let start = world.now();
    for join in joins {
        world.run_until(start + Duration::from_millis(u64::from(join)));
        hosts.push(world.add_node(&config, *networks));
    }
    world.run_until(start + *over);
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Choices;
    use crate::world::Setup;
    use dht_proto::config::Mode;
    use dht_proto::request::Lookup;

    #[test]
    fn lookups_in_a_settled_network_find_the_true_closest() {
        let mut config = Config::default();
        (config.mode, config.extended_buckets) = (Mode::Server, false);
        let mut world = World::new(Setup::default(), Choices::seeded(2));
        let census = Census { nodes: 1_000, dead: Ratio::percent(20), config: Arc::new(config) };
        let oracle = settle(&mut world, &census);
        assert_eq!((oracle.nodes().len(), world.len()), (1_000, 1_250));
        let mut found = 0;
        for i in 0..50 {
            let (target, _) = oracle.nodes()[i * 20];
            let host = HostId(i as u32 * 7);
            let (_, outcome) = world.look_up(host, &Lookup::FindNode { target }).unwrap();
            let truth = oracle.closest(target.target(), 8, |other| other != host);
            found += truth.iter().filter(|n| outcome.closest.iter().any(|c| c.id == n.0)).count();
        }
        assert!(found >= 376, "{found} of 400");
    }

    /// Shares of the true eight closest that lookups of these hosts find.
    fn recall(world: &mut World, oracle: &Oracle, hosts: &[HostId]) -> f64 {
        let (mut found, mut all) = (0, 0);
        let nodes = oracle.nodes();
        for (i, host) in hosts.iter().enumerate() {
            let (target, _) = nodes[i * 37 % nodes.len()];
            let Some((_, outcome)) = world.look_up(*host, &Lookup::FindNode { target }) else {
                continue;
            };
            let truth = oracle.closest(target.target(), 8, |other| other != *host);
            found += truth.iter().filter(|n| outcome.closest.iter().any(|c| c.id == n.0)).count();
            all += 8;
        }
        assert!(all > 0);
        f64::from(found as u32) / f64::from(all)
    }

    fn server() -> Config {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config
    }

    #[test]
    fn no_two_contacts_of_a_bucket_share_a_network() {
        let config = Arc::new(server());
        // In 2,000 addresses of 254 networks some bucket of every table would hold two.
        let base = std::net::Ipv4Addr::new(5, 5, 0, 0);
        let range = crate::Range::Network { base, prefix: 16 };
        let setup = Setup { range, ..Setup::default() };
        let mut world = World::new(setup, Choices::seeded(3));
        settle(&mut world, &Census { nodes: 2_000, dead: Ratio::ZERO, config });
        for host in (0..2_000).map(HostId) {
            let dht = world.node(host).unwrap();
            assert_eq!(crate::check::table::check(dht), Ok(()), "{host}");
        }
    }

    #[test]
    fn ipv6_settles_like_ipv4() {
        let mut world = World::new(Setup::default(), Choices::seeded(4));
        let config = Arc::new(server());
        let census = Census { nodes: 400, dead: Ratio::percent(20), config };
        let oracles = settle_in(&mut world, &census, Networks::V6);
        assert_eq!((oracles.v4.len(), oracles.v6.len(), world.len()), (0, 400, 500));
        let hosts: Vec<_> = (0..20).map(|i| HostId(i * 11)).collect();
        let share = recall(&mut world, &oracles.v6, &hosts);
        assert!(share > 0.94, "{share}");
    }

    #[test]
    fn dual_stack_nodes_have_a_table_in_both_networks() {
        let mut world = World::new(Setup::default(), Choices::seeded(5));
        let census = Census { nodes: 300, dead: Ratio::ZERO, config: Arc::new(server()) };
        let oracles = settle_in(&mut world, &census, Networks::Both);
        assert_eq!((oracles.v4.len(), oracles.v6.len(), world.len()), (300, 300, 300));
        for host in (0..300).map(HostId) {
            let health = world.node(host).unwrap().health(world.now());
            let (v4, v6) = (health.v4.unwrap(), health.v6.unwrap());
            assert!(v4.contacts > 40 && v6.contacts > 40, "{v4:?} {v6:?}");
        }
        let target = oracles.v6.nodes()[7].0;
        let (_, outcome) = world.look_up(HostId(9), &Lookup::FindNode { target }).unwrap();
        assert!(outcome.closest.iter().any(|c| c.id == target && c.addr.is_ipv6()));
    }

    #[test]
    fn who_is_behind_a_nat_looks_up_but_is_in_no_table() {
        let setup = Setup::new(crate::Profile::internet());
        let mut world = World::new(setup, Choices::seeded(6));
        let census =
            Census { nodes: 600, dead: Ratio::percent(20), config: Arc::new(Config::default()) };
        let oracle = settle(&mut world, &census);
        assert!((220..320).contains(&oracle.len()), "{}", oracle.len());
        assert!(oracle.iter().all(|(_, host)| world.net().nat(*host).is_none()));
        let hidden: Vec<_> =
            (0..600).map(HostId).filter(|host| world.net().nat(*host).is_some()).take(20).collect();
        let share = recall(&mut world, &oracle, &hidden);
        assert!(share > 0.6, "{share}");
    }

    #[test]
    fn a_network_founds_itself_through_few_introducers() {
        let mut world = World::new(Setup::default(), Choices::seeded(7));
        let over = Duration::from_secs(600);
        let founding = Founding {
            nodes: 150,
            introducers: 3,
            over,
            config: Arc::new(server()),
            networks: Networks::V4,
        };
        let start = world.now();
        let hosts = cold(&mut world, &founding);
        assert_eq!((hosts.len(), world.now()), (150, start + over));
        world.run_for(Duration::from_secs(600));
        let oracles = Oracles::look(&world);
        assert_eq!((oracles.v4.len(), oracles.v6.len()), (150, 0));
        let share = recall(&mut world, &oracles.v4, &hosts[100..130]);
        assert!(share > 0.94, "{share}");
    }

    #[test]
    fn settled_nodes_stay_quiet_but_not_silent() {
        let mut world = World::new(Setup::default(), Choices::seeded(3));
        let census = Census { nodes: 200, dead: Ratio::ZERO, config: Arc::new(Config::default()) };
        settle(&mut world, &census);
        world.run_for(Duration::from_secs(60));
        let per_node = world.traffic().sent / 200;
        assert!((1..120).contains(&per_node), "{per_node} datagrams a minute");
    }
}
