//! The suite through `dht-smol`: futures and streams, on an executor that is not its own.

use std::net::SocketAddr;

use dht_proto::addr::Family;
use dht_proto::health::Health;
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Event, Lookup, Outcome};
use dht_proto::stats::Stats;
use dht_smol::{Dht, LookupHandle};
use futures_lite::StreamExt as _;
use futures_lite::future::{block_on, poll_once};

use super::sockets::Lab;
use super::{Found, Places, Recipe, Setting, Subject, Terrain};

/// A simulated network that nodes of `dht-smol` join over loopback sockets.
#[derive(Debug)]
pub struct Smol(Lab);

/// Such a node.
#[derive(Debug)]
pub struct SmolNode {
    dht: Dht,
    number: u8,
}

/// A lookup, and what it had told when it was started.
#[derive(Debug)]
pub struct SmolLookup {
    handle: LookupHandle,
    first: Option<Event>,
}

impl Setting for Smol {
    type Subject = SmolNode;

    fn open(terrain: &Terrain) -> Self {
        Self(Lab::open(terrain))
    }

    fn places(&self) -> &Places {
        self.0.places()
    }

    fn start(&self, recipe: &Recipe) -> SmolNode {
        SmolNode {
            dht: self.0.builder::<dht_smol::Smol>(recipe).spawn().expect("a node"),
            number: recipe.number,
        }
    }

    fn restart(&self, subject: SmolNode) -> SmolNode {
        block_on(subject.dht.shutdown()).expect("an end, and the state is saved");
        self.start(&Recipe { number: subject.number, bootstrap: Vec::new() })
    }

    fn close(self) {
        self.0.close();
    }
}

impl Subject for SmolNode {
    type Running = SmolLookup;

    fn begin(&self, lookup: Lookup) -> SmolLookup {
        let mut handle = self.dht.start(lookup);
        // It starts when it is polled first.
        let first = block_on(poll_once(handle.next())).flatten();
        SmolLookup { handle, first }
    }

    fn finish(&self, SmolLookup { mut handle, first }: SmolLookup) -> Found {
        block_on(async {
            let mut events: Vec<_> = first.into_iter().collect();
            while let Some(event) = handle.next().await {
                events.push(event);
            }
            Found { events, outcome: handle.outcome().await.expect("an end") }
        })
    }

    fn cancel(&self, running: SmolLookup) {
        drop(running);
    }

    fn addr(&self) -> SocketAddr {
        self.dht.local_addrs()[0]
    }

    fn node_id(&self) -> NodeId {
        block_on(self.dht.node_id(Family::V4)).expect("a node that runs").expect("it speaks IPv4")
    }

    fn stats(&self) -> Stats {
        block_on(self.dht.stats()).expect("a node that runs").node
    }

    fn health(&self) -> Health {
        block_on(self.dht.health()).expect("a node that runs").node
    }

    fn ping(&self, addr: SocketAddr) -> Outcome {
        block_on(self.dht.ping(addr)).expect("an end")
    }

    fn find_node(&self, target: NodeId) -> Outcome {
        block_on(self.dht.find_node(target)).expect("an end")
    }

    fn get_peers(&self, info_hash: InfoHash) -> Vec<SocketAddr> {
        let mut peers: Vec<_> = block_on(self.dht.get_peers(info_hash).collect());
        peers.sort_unstable();
        peers
    }

    fn announce(&self, info_hash: InfoHash, port: AnnouncePort) -> Outcome {
        block_on(self.dht.announce(info_hash, port, false)).expect("an end")
    }

    fn get(&self, target: ItemId, salt: &[u8]) -> Outcome {
        block_on(self.dht.get_item(target, salt).outcome()).expect("an end")
    }

    fn put(&self, item: &Item, cas: Option<i64>) -> Outcome {
        block_on(self.dht.put_item(item.clone(), cas)).expect("an end")
    }

    fn sample(&self, addr: SocketAddr, target: Target) -> Vec<InfoHash> {
        block_on(self.dht.sample(addr, target)).expect("an end").samples
    }
}
