//! The suite through `dht-mio`: threads, and a handle whose calls block.

use std::net::SocketAddr;
use std::time::Duration;

use dht_mio::{Dht, LookupHandle};
use dht_proto::addr::Family;
use dht_proto::health::Health;
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Lookup, Outcome};
use dht_proto::stats::Stats;

use super::sockets::Lab;
use super::{Found, Places, Recipe, Setting, Subject, Terrain};

/// How long calls wait: longer than any lookup is allowed to take, on a machine that is far too busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// A simulated network that nodes of `dht-mio` join over loopback sockets.
#[derive(Debug)]
pub struct Mio(Lab);

/// Such a node.
#[derive(Debug)]
pub struct MioNode {
    dht: Dht,
    number: u8,
}

impl Setting for Mio {
    type Subject = MioNode;

    fn open(terrain: &Terrain) -> Self {
        Self(Lab::open(terrain))
    }

    fn places(&self) -> &Places {
        self.0.places()
    }

    fn start(&self, recipe: &Recipe) -> MioNode {
        let dht: Dht = self.0.builder::<dht_mio::Mio>(recipe).spawn().expect("a node");
        MioNode { dht: dht.with_timeout(PATIENCE), number: recipe.number }
    }

    fn restart(&self, subject: MioNode) -> MioNode {
        subject.dht.shutdown().expect("an end, and the state is saved");
        self.start(&Recipe { number: subject.number, bootstrap: Vec::new() })
    }

    fn close(self) {
        self.0.close();
    }
}

impl Subject for MioNode {
    type Running = LookupHandle;

    fn begin(&self, lookup: Lookup) -> LookupHandle {
        self.dht.start(lookup).expect("room for a lookup")
    }

    fn finish(&self, mut running: LookupHandle) -> Found {
        let events = running.by_ref().collect();
        Found { events, outcome: running.outcome().expect("an end") }
    }

    fn cancel(&self, running: LookupHandle) {
        running.cancel();
    }

    fn addr(&self) -> SocketAddr {
        self.dht.local_addrs()[0]
    }

    fn node_id(&self) -> NodeId {
        self.dht.node_id(Family::V4).expect("a node that runs").expect("it speaks IPv4")
    }

    fn stats(&self) -> Stats {
        self.dht.stats().expect("a node that runs").node
    }

    fn health(&self) -> Health {
        self.dht.health().expect("a node that runs").node
    }

    fn ping(&self, addr: SocketAddr) -> Outcome {
        self.dht.ping(addr).expect("an end")
    }

    fn find_node(&self, target: NodeId) -> Outcome {
        self.dht.find_node(target).expect("an end")
    }

    fn get_peers(&self, info_hash: InfoHash) -> Vec<SocketAddr> {
        let mut peers: Vec<_> = self.dht.get_peers(info_hash).expect("room").collect();
        peers.sort_unstable();
        peers
    }

    fn announce(&self, info_hash: InfoHash, port: AnnouncePort) -> Outcome {
        self.dht.announce(info_hash, port, false).expect("an end")
    }

    fn get(&self, target: ItemId, salt: &[u8]) -> Outcome {
        self.dht.get_item(target, salt).expect("an end")
    }

    fn put(&self, item: &Item, cas: Option<i64>) -> Outcome {
        self.dht.put_item(item.clone(), cas).expect("an end")
    }

    fn sample(&self, addr: SocketAddr, target: Target) -> Vec<InfoHash> {
        self.dht.sample(addr, target).expect("an end").samples
    }
}
