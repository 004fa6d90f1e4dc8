//! The network of the demonstration.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::Mode;
use dht_mio::proto::id::NodeId;
use dht_mio::{Dht, ErrorKind};

use super::StepError;
use crate::failure::Failure;

/// First number of the second byte of the nodes' addresses.
const FIRST_NODE: u8 = 20;
/// The same for clients; there are at most 100 nodes.
const FIRST_CLIENT: u8 = 200;
/// The client that sees whether the network has come together.
const SCOUT: u8 = 9;
/// Nodes that a lookup finds (BEP 5: k).
const K: usize = 8;
/// The network gets this long to come together.
const PATIENCE: Duration = Duration::from_secs(60);
/// New nodes ask this many of the older ones.
const INTRODUCERS: usize = 3;
const POLL: Duration = Duration::from_millis(50);

/// Real nodes with real sockets, each with a loopback address of its own if there are enough.
#[derive(Debug)]
pub(super) struct Network {
    nodes: Vec<Dht>,
    addrs: Vec<SocketAddr>,
    one_address: bool,
}

impl Network {
    /// Starts the nodes and waits until they know each other.
    pub(super) fn start(size: usize, timeout: Duration) -> Result<(Self, String), StepError> {
        let mut network = Self { nodes: Vec::new(), addrs: Vec::new(), one_address: false };
        for index in 0..size as u8 {
            network.add(FIRST_NODE + index)?;
        }
        let scout = network.client(SCOUT, timeout)?;
        let ids = network.ids()?;
        let mut lost = ids.clone();
        let deadline = Instant::now() + PATIENCE;
        // The scout does not ask again for what it found: nodes answer less to who asks a lot.
        while let Some(id) = lost.last() {
            let found = scout.find_node(*id)?.closest;
            if found.iter().map(|node| node.id).eq(nearest(&ids, *id)) {
                lost.pop();
            } else if Instant::now() >= deadline {
                return Err(StepError::Failure(Failure::no_contact(
                    format!("{} of {size} nodes cannot be found", lost.len()),
                    "see that no firewall blocks UDP on loopback",
                )));
            } else {
                thread::sleep(POLL);
            }
        }
        let addresses = if network.one_address { "127.0.0.1" } else { "127.x.0.1" };
        Ok((network, format!("{size} nodes on {addresses} find each other")))
    }

    /// A read-only client of the network, with an address of its own.
    pub(super) fn client(&self, index: u8, timeout: Duration) -> Result<Dht, Failure> {
        Ok(self.spawn(FIRST_CLIENT + index, Mode::Client)?.0.with_timeout(timeout))
    }

    /// Where the nodes are.
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    fn ids(&self) -> Result<Vec<NodeId>, StepError> {
        let mut ids = Vec::new();
        for node in &self.nodes {
            ids.extend(node.node_id(Family::V4)?);
        }
        Ok(ids)
    }

    fn add(&mut self, number: u8) -> Result<(), Failure> {
        let (dht, own_address) = self.spawn(number, Mode::Server)?;
        self.one_address |= !own_address;
        self.addrs.extend(dht.local_addrs());
        self.nodes.push(dht);
        Ok(())
    }

    /// Starts a node at 127.`number`.0.1, so that no two share a network prefix, or at 127.0.0.1
    /// where the system has no other loopback address. Also tells which.
    fn spawn(&self, number: u8, mode: Mode) -> Result<(Dht, bool), Failure> {
        let node = |ip: Ipv4Addr| {
            let mut builder =
                Dht::builder().mode(mode).no_bootstrap().bind((IpAddr::V4(ip), 0).into());
            for addr in self.addrs.iter().take(INTRODUCERS) {
                builder = builder.bootstrap(addr.to_string());
            }
            builder.spawn()
        };
        match node(Ipv4Addr::new(127, number, 0, 1)) {
            Ok(dht) => Ok((dht, true)),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                Ok((node(Ipv4Addr::LOCALHOST)?, false))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The nodes that a lookup should find, nearest first.
fn nearest(ids: &[NodeId], target: NodeId) -> impl Iterator<Item = NodeId> {
    let mut ids = ids.to_vec();
    ids.sort_by_key(|id| id.distance(target.target()));
    ids.into_iter().take(K)
}
