//! The network of the demonstration.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use dht_mio::proto::config::Mode;
use dht_mio::{Dht, ErrorKind};

use super::StepError;
use crate::failure::Failure;

/// First number of the second byte of the nodes' addresses.
const FIRST_NODE: u8 = 20;
/// The same for clients; there are at most 100 nodes.
const FIRST_CLIENT: u8 = 200;
/// A node that knows this many others has found its place.
const ENOUGH_CONTACTS: u64 = 8;
/// The network gets this long to come together.
const PATIENCE: Duration = Duration::from_secs(20);
/// New nodes ask this many of the older ones.
const INTRODUCERS: usize = 3;
const POLL: Duration = Duration::from_millis(10);

/// Real nodes with real sockets, each with a loopback address of its own if there are enough.
#[derive(Debug)]
pub(super) struct Network {
    nodes: Vec<Dht>,
    addrs: Vec<SocketAddr>,
    one_address: bool,
}

impl Network {
    /// Starts the nodes and waits until they know each other.
    pub(super) fn start(size: usize) -> Result<(Self, String), StepError> {
        let mut network = Self { nodes: Vec::new(), addrs: Vec::new(), one_address: false };
        for index in 0..size as u8 {
            network.add(FIRST_NODE + index)?;
        }
        let deadline = Instant::now() + PATIENCE;
        let enough = ENOUGH_CONTACTS.min(size as u64 - 1);
        loop {
            let mut fewest = u64::MAX;
            for node in &network.nodes {
                fewest = fewest.min(node.stats()?.node.contacts);
            }
            if fewest >= enough {
                let addresses = if network.one_address { "127.0.0.1" } else { "127.x.0.1" };
                let words = format!("{size} nodes on {addresses}, each knows at least {fewest}");
                return Ok((network, words));
            }
            if Instant::now() >= deadline {
                return Err(StepError::Failure(Failure::no_contact(
                    format!("a node still knows only {fewest} of {size} others"),
                    "see that no firewall blocks UDP on loopback",
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// A read-only client of the network, with an address of its own.
    pub(super) fn client(&self, index: u8, timeout: Duration) -> Result<Dht, Failure> {
        Ok(self.spawn(FIRST_CLIENT + index, Mode::Client)?.0.with_timeout(timeout))
    }

    /// Where the nodes are.
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
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
