//! A network in equilibrium: many nodes whose tables are as full as years of running would make
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::{NodeId, bep42};
use dht_proto::seed::Domain;
use dht_proto::time::Instant;
use dht_proto::{Acquaintance, Dht, Networks};

use crate::choices::{About, Ratio};
use crate::oracle::{Oracle, bit_of, split};
use crate::world::{HostId, World};

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

/// Builds IPv4 nodes with honest tables: each bucket holds a random choice, as large as it has room
/// for, of all nodes that belong in it, dead ones included. Returns who is alive.
///
/// # Panics
/// If the world's range of addresses is too small.
pub fn settle(world: &mut World, census: &Census) -> Oracle {
    let Census { nodes, dead, config } = census;
    world.run_until(SETTLED);
    let alive = u64::from(dead.den.saturating_sub(dead.num).max(1));
    let total = (u64::from(*nodes) * u64::from(dead.den) / alive) as u32;
    let first = world.len() as u32;
    let mut ids = world.choices().node_seed(u64::MAX).stream(Domain::NodeId);
    let mut all = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let addrs = world.next_addrs(Networks::V4);
        let host = world.add_nobody(addrs);
        let ip = addrs.iter().next().map(|addr| addr.ip());
        all.push((ip.map_or(NodeId::from_bytes([0; 20]), |ip| bep42::derive(ip, &mut ids)), host));
    }
    // Hosts are in no order of their ids, so the first ones are as good as any.
    let is_alive = |host: HostId| host.0 - first < *nodes;
    let living: Vec<_> = all.iter().copied().filter(|(_, host)| is_alive(*host)).collect();
    all.sort_unstable();
    let mut table = TableBuilder { all: &all, config, known: Vec::new() };
    for &(id, host) in &living {
        table.build(world, id, host);
        let seed = world.choices().node_seed(u64::from(host.0));
        let mut dht = Dht::new(config.clone(), Networks::V4, &seed, SETTLED);
        let external = world.addrs(host).iter().next().map(|addr| addr.ip());
        dht.settle(SETTLED, Family::V4, id, external, &table.known);
        world.install(host, dht);
    }
    Oracle::new(living)
}

struct TableBuilder<'a> {
    all: &'a [(NodeId, HostId)],
    config: &'a Config,
    known: Vec<Acquaintance>,
}

impl TableBuilder<'_> {
    /// Chooses the contacts of one node, from the farthest bucket to the nearest.
    fn build(&mut self, world: &mut World, own: NodeId, me: HostId) {
        self.known.clear();
        let mut near = self.all;
        for bit in 0..160 {
            if near.len() <= 1 {
                break;
            }
            let (zeros, ones) = split(near, bit);
            let bucket = if bit_of(own, bit) { zeros } else { ones };
            near = if bit_of(own, bit) { ones } else { zeros };
            let room = dht_proto::table::bucket_capacity(bit, self.config);
            self.fill(world, me, bucket, room);
        }
    }

    /// Chooses at most `room` different nodes of a bucket.
    fn fill(&mut self, world: &mut World, me: HostId, bucket: &[(NodeId, HostId)], room: usize) {
        let n = bucket.len();
        if n <= room {
            for node in bucket {
                self.know(world, me, *node);
            }
            return;
        }
        // Floyd's sampling: each subset is as likely as any other.
        let mut chosen: Vec<usize> = Vec::with_capacity(room);
        for last in n - room..n {
            let pick = world.choices().below(About::Topology, last as u32 + 1) as usize;
            let pick = if chosen.contains(&pick) { last } else { pick };
            chosen.push(pick);
            if let Some(node) = bucket.get(pick) {
                self.know(world, me, *node);
            }
        }
    }

    fn know(&mut self, world: &mut World, me: HostId, (id, host): (NodeId, HostId)) {
        let Some(addr) = world.addrs(host).v4 else { return };
        let rtt = world.net().round_trip(me, host);
        let period = self.config.ping_after.as_micros() as u32;
        let ago = world.choices().below(About::Topology, period);
        let heard = SETTLED - Duration::from_micros(u64::from(ago));
        self.known.push(Acquaintance { id, addr: SocketAddr::V4(addr), rtt, heard });
    }
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
