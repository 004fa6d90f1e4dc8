//! What the keys of a message mean (BEP 5, 32, 33, 42, 43, 44, 51).

use core::net::{SocketAddrV4, SocketAddrV6};

use dht_mio::proto::addr::Addr;
use dht_mio::proto::id::ID_LEN;
use dht_mio::proto::wire::nodes;

use super::tree::{Branch, Value};
use crate::parse::to_hex;

/// Adds meanings to the parts of a message, and finds packed values of impossible length.
pub(super) fn annotate(root: &mut Branch, kind: Option<&str>, problems: &mut Vec<String>) {
    let Value::Dict(items) = &mut root.value else { return };
    for item in items {
        let Some(key) = item.key.clone() else { continue };
        item.meaning = top(&key, kind).map(str::to_owned);
        match key.as_str() {
            "ip" => endpoint(item, problems),
            "a" | "r" => body(item, problems),
            _ => {}
        }
    }
}

fn body(body: &mut Branch, problems: &mut Vec<String>) {
    let is_reply = body.key.as_deref() == Some("r");
    let Value::Dict(items) = &mut body.value else { return };
    for item in items {
        let Some(key) = item.key.clone() else { continue };
        item.meaning = argument(&key, is_reply).map(str::to_owned);
        match key.as_str() {
            "nodes" => packed_nodes::<SocketAddrV4>(item, problems),
            "nodes6" => packed_nodes::<SocketAddrV6>(item, problems),
            "samples" => samples(item, problems),
            "values" => values(item, problems),
            "id" | "target" | "info_hash" => id(item, problems),
            _ => {}
        }
    }
}

fn top(key: &str, kind: Option<&str>) -> Option<&'static str> {
    Some(match (key, kind) {
        ("t", Some("query")) => "transaction id; the answer repeats it",
        ("t", _) => "transaction id of the query that this answers",
        ("y", _) => "kind: q is a query, r a reply, e an error",
        ("q", _) => "method",
        ("a", _) => "arguments",
        ("r", _) => "reply",
        ("e", _) => "error: code and text",
        ("v", _) => "client and its version",
        ("ip", _) => "where the sender sees the receiver (BEP 42)",
        ("ro", _) => "read-only: the sender answers no queries (BEP 43)",
        _ => return None,
    })
}

fn argument(key: &str, is_reply: bool) -> Option<&'static str> {
    Some(match key {
        "id" => "node id of the sender",
        "target" => "the id looked for",
        "info_hash" => "the torrent",
        "port" if is_reply => "port that the query was seen to come from",
        "port" => "port where the sender listens for peers",
        "p" => "port that the query was seen to come from",
        "implied_port" => "1: the peer's port is the one that this query comes from",
        "token" => "write token, from get_peers or get to announce_peer or put",
        "seed" => "1: the sender has everything (BEP 33)",
        "noseed" => "1: leave seeds out (BEP 33)",
        "scrape" => "1: add bloom filters (BEP 33)",
        "want" => "n4: IPv4 nodes wanted, n6: IPv6 nodes (BEP 32)",
        "nodes" => "nodes closest to the target, 26 bytes each",
        "nodes6" => "IPv6 nodes closest to the target, 38 bytes each (BEP 32)",
        "values" => "peers, 6 or 18 bytes each",
        "BFsd" | "BFse" => "bloom filter of seeds (BEP 33)",
        "BFpe" => "bloom filter of downloaders (BEP 33)",
        "samples" => "infohashes that the sender stores, 20 bytes each (BEP 51)",
        "num" => "how many infohashes the sender stores (BEP 51)",
        "interval" => "seconds until another sample makes sense (BEP 51)",
        "k" => "ed25519 public key (BEP 44)",
        "sig" => "signature over salt, seq and v (BEP 44)",
        "seq" => "version of the item (BEP 44)",
        "cas" => "replace only this version (BEP 44)",
        "salt" => "tells items of one key apart (BEP 44)",
        "v" => "value of the item (BEP 44)",
        _ => return None,
    })
}

fn endpoint(item: &mut Branch, problems: &mut Vec<String>) {
    let Some(bytes) = item.bytes() else { return };
    match bytes.len() {
        4 | 16 => {}
        6 | 18 => item.contents.extend(peer(&bytes)),
        len => problems.push(format!("ip has {len} bytes, and 4, 6, 16 or 18 are expected")),
    }
}

fn id(item: &Branch, problems: &mut Vec<String>) {
    let len = item.bytes().map(|bytes| bytes.len());
    if len != Some(ID_LEN) {
        let key = item.key.as_deref().unwrap_or_default();
        problems.push(format!("{key} is not a string of {ID_LEN} bytes"));
    }
}

fn packed_nodes<A: Addr>(item: &mut Branch, problems: &mut Vec<String>) {
    let Some(bytes) = item.bytes() else { return };
    whole(item, bytes.len(), A::NODE_LEN, problems);
    item.contents = nodes::<A>(&bytes).map(|(id, addr)| format!("{id} {addr}")).collect();
}

fn samples(item: &mut Branch, problems: &mut Vec<String>) {
    let Some(bytes) = item.bytes() else { return };
    whole(item, bytes.len(), ID_LEN, problems);
    item.contents = bytes.chunks_exact(ID_LEN).map(to_hex).collect();
}

fn values(item: &mut Branch, problems: &mut Vec<String>) {
    let Value::List(peers) = &mut item.value else {
        problems.push("values is not a list of strings".to_owned());
        return;
    };
    for branch in peers {
        let bytes = branch.bytes().unwrap_or_default();
        match peer(&bytes) {
            Some(peer) => branch.meaning = Some(peer),
            None => problems.push(format!(
                "a peer in values has {} bytes, and 6 or 18 are expected",
                bytes.len()
            )),
        }
    }
}

fn whole(item: &Branch, len: usize, record: usize, problems: &mut Vec<String>) {
    if !len.is_multiple_of(record) {
        let key = item.key.as_deref().unwrap_or_default();
        problems.push(format!("{key} has {len} bytes, which is no multiple of {record}"));
    }
}

fn peer(bytes: &[u8]) -> Option<String> {
    SocketAddrV4::read_compact(bytes)
        .map(|addr| addr.to_string())
        .or_else(|| SocketAddrV6::read_compact(bytes).map(|addr| addr.to_string()))
}
