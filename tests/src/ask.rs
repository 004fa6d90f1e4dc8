//! Lookups as tests ask for them, and what they tell.

use std::net::SocketAddr;

use dht_proto::id::{InfoHash, ItemId, NodeId};
use dht_proto::item::Item;
use dht_proto::request::{Event, Lookup};

/// The infohash of this byte twenty times.
#[must_use]
pub const fn info_hash(byte: u8) -> InfoHash {
    InfoHash::from_bytes([byte; 20])
}

/// The nodes nearest to the id of this byte twenty times.
#[must_use]
pub const fn find_node(byte: u8) -> Lookup {
    Lookup::FindNode { target: NodeId::from_bytes([byte; 20]) }
}

/// Any version of an item.
#[must_use]
pub fn get(target: ItemId, salt: &[u8]) -> Lookup {
    Lookup::GetItem { target, salt: salt.to_vec(), newer_than: None }
}

/// Stores an item.
#[must_use]
pub fn put(item: &Item, cas: Option<i64>) -> Lookup {
    Lookup::PutItem { item: Box::new(item.clone()), cas }
}

/// All peers that a lookup told of, sorted.
///
/// # Panics
/// If it told anything else.
#[must_use]
pub fn peers(events: &[Event]) -> Vec<SocketAddr> {
    let lists = events.iter().map(|event| match event {
        Event::Peers { peers, .. } => peers.clone(),
        other => panic!("unexpected {other:?}"),
    });
    let mut peers: Vec<_> = lists.flatten().collect();
    peers.sort_unstable();
    peers
}
