//! A second decoder, written for being evidently right: bendy parses, then fields are looked up.
//!
//! It allocates a tree for every message and accepts canonical bencode only.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use bendy::decoding::{Decoder, Object};
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::wire::{Body, ErrorReply, Message, Method, Put, PutMutable, Query, Reply, Want};

/// Peers of a `values` list.
pub(crate) type Peers = Vec<SocketAddr>;

/// A bencoded value, beside the bytes that it was read from.
#[derive(Debug)]
pub(crate) struct Tree {
    raw: Vec<u8>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// `None` beyond `i64`.
    Int(Option<i64>),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

/// What is done about a datagram that is no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal<'t> {
    /// Nothing.
    Drop,
    /// An error 203 with this transaction id is sent.
    Answer(&'t [u8]),
}

/// Reads one canonical dictionary at the start of `data`.
pub(crate) fn parse(data: &[u8]) -> Option<Tree> {
    let mut decoder = Decoder::new(data).with_max_depth(16);
    let tree = tree(decoder.next_object().ok()??)?;
    matches!(tree.value, Value::Dict(_)).then_some(tree)
}

fn tree(object: Object<'_, '_>) -> Option<Tree> {
    Some(match object {
        Object::Integer(text) => {
            Tree { raw: format!("i{text}e").into_bytes(), value: Value::Int(text.parse().ok()) }
        }
        Object::Bytes(bytes) => {
            let mut raw = format!("{}:", bytes.len()).into_bytes();
            raw.extend_from_slice(bytes);
            Tree { raw, value: Value::Bytes(bytes.to_vec()) }
        }
        Object::List(mut list) => {
            let mut items = Vec::new();
            while let Some(item) = list.next_object().ok()? {
                items.push(tree(item)?);
            }
            Tree { raw: list.into_raw().ok()?.to_vec(), value: Value::List(items) }
        }
        Object::Dict(mut dict) => {
            let mut pairs = BTreeMap::new();
            while let Some((key, value)) = dict.next_pair().ok()? {
                pairs.insert(key.to_vec(), tree(value)?);
            }
            Tree { raw: dict.into_raw().ok()?.to_vec(), value: Value::Dict(pairs) }
        }
    })
}

impl Tree {
    fn get(&self, key: &str) -> Option<&Self> {
        let Value::Dict(pairs) = &self.value else { return None };
        pairs.get(key.as_bytes())
    }

    fn int(&self, key: &str) -> Option<i64> {
        let Value::Int(value) = self.get(key)?.value else { return None };
        value
    }

    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.get(key)?.as_bytes()
    }

    fn array<const N: usize>(&self, key: &str) -> Option<&[u8; N]> {
        self.bytes(key)?.try_into().ok()
    }

    fn hash(&self, key: &str) -> Option<[u8; 20]> {
        self.array(key).copied()
    }

    fn records(&self, key: &str, len: usize) -> Option<&[u8]> {
        let bytes = self.bytes(key)?;
        bytes.get(..bytes.len() - bytes.len() % len)
    }

    fn list(&self, key: &str) -> Option<&[Self]> {
        let Value::List(items) = &self.get(key)?.value else { return None };
        Some(items)
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        let Value::Bytes(bytes) = &self.value else { return None };
        Some(bytes)
    }

    fn is_dict(&self) -> bool {
        matches!(self.value, Value::Dict(_))
    }
}

/// The message, its values apart and read.
pub(crate) fn message(top: &Tree) -> Result<(Message<'_>, Option<Peers>), Refusal<'_>> {
    let tid = top.bytes("t").ok_or(Refusal::Drop)?;
    let mut read_only = top.int("ro") == Some(1);
    let mut peers = None;
    let body = match top.bytes("y").ok_or(Refusal::Drop)? {
        b"q" => {
            read_only |= top.get("a").and_then(|args| args.int("ro")) == Some(1);
            Body::Query(query(top).ok_or(Refusal::Answer(tid))?)
        }
        b"r" => {
            peers = top.get("r").and_then(|fields| fields.get("values")).and_then(read_peers);
            Body::Reply(reply(top).ok_or(Refusal::Drop)?)
        }
        b"e" => Body::Error(error(top)),
        _ => return Err(Refusal::Drop),
    };
    let ip = top.bytes("ip").and_then(address);
    let version = top.bytes("v");
    Ok((Message { tid, version, ip, read_only, unsorted: false, body }, peers))
}

fn query(top: &Tree) -> Option<Query<'_>> {
    let name = top.bytes("q")?;
    let a = top.get("a").filter(|args| args.is_dict())?;
    let id = NodeId::from_bytes(a.hash("id")?);
    let target = || a.hash("target").map(Target::from_bytes);
    let info_hash = || a.hash("info_hash").map(InfoHash::from_bytes);
    let is_one = |key| a.int(key) == Some(1);
    let method = match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode { target: target()? },
        b"get_peers" => Method::GetPeers {
            info_hash: info_hash()?,
            noseed: is_one("noseed"),
            scrape: is_one("scrape"),
        },
        b"announce_peer" => {
            let implied_port = a.int("implied_port").unwrap_or(0) != 0;
            let port = match a.int("port") {
                Some(port @ 1..=65_535) => u16::try_from(port).ok()?,
                _ if implied_port => 0,
                _ => return None,
            };
            let (info_hash, token) = (info_hash()?, a.bytes("token")?);
            Method::AnnouncePeer { info_hash, port, implied_port, seed: is_one("seed"), token }
        }
        b"get" => Method::Get { target: ItemId::from_bytes(a.hash("target")?), seq: a.int("seq") },
        b"put" => Method::Put(put(a)?),
        b"sample_infohashes" => Method::SampleInfohashes { target: target()? },
        _ => {
            Method::Unknown { name, target: target().or_else(|| info_hash().map(InfoHash::target)) }
        }
    };
    let wants = |family: &[u8]| {
        let mut want = a.list("want").unwrap_or_default().iter();
        want.any(|item| item.as_bytes() == Some(family))
    };
    Some(Query { id, want: Want { n4: wants(b"n4"), n6: wants(b"n6") }, method })
}

fn put(a: &Tree) -> Option<Put<'_>> {
    let (token, v) = (a.bytes("token")?, &a.get("v")?.raw[..]);
    if a.get("k").is_none() {
        return Some(Put { token, v, mutable: None });
    }
    let mutable = PutMutable {
        public_key: a.array("k")?,
        salt: if a.get("salt").is_some() { a.bytes("salt")? } else { b"" },
        seq: a.int("seq")?,
        signature: a.array("sig")?,
        cas: if a.get("cas").is_some() { Some(a.int("cas")?) } else { None },
    };
    Some(Put { token, v, mutable: Some(mutable) })
}

fn reply(top: &Tree) -> Option<Reply<'_>> {
    let r = top.get("r").filter(|fields| fields.is_dict())?;
    Some(Reply {
        id: NodeId::from_bytes(r.hash("id")?),
        nodes: r.records("nodes", 26),
        nodes6: r.records("nodes6", 38),
        token: r.bytes("token"),
        values: None,
        v: r.get("v").map(|v| &v.raw[..]),
        public_key: r.array("k"),
        signature: r.array("sig"),
        seq: r.int("seq"),
        // Both names at once is nobody's habit; sorted, `BFsd` comes first.
        seeds_filter: r.array(if r.get("BFsd").is_some() { "BFsd" } else { "BFse" }),
        peers_filter: r.array("BFpe"),
        samples: r.records("samples", 20),
        num: r.int("num"),
        interval: r.int("interval"),
    })
}

fn error(top: &Tree) -> ErrorReply<'_> {
    if let Some(message) = top.bytes("e") {
        return ErrorReply { code: 0, message };
    }
    let list = top.list("e").unwrap_or_default();
    let code = match list.first().map(|code| &code.value) {
        Some(Value::Int(code)) => code.unwrap_or(0),
        _ => 0,
    };
    let message = list.get(1).and_then(Tree::as_bytes).unwrap_or_default();
    ErrorReply { code, message }
}

fn address(bytes: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    Some(match bytes.len() {
        4 => (<[u8; 4]>::try_from(bytes).ok()?.into(), None),
        16 => (<[u8; 16]>::try_from(bytes).ok()?.into(), None),
        6 | 18 => {
            let peer = endpoint(bytes)?;
            (peer.ip(), Some(peer.port()))
        }
        _ => return None,
    })
}

/// A compact peer of 6 or 18 bytes.
fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some((ip, u16::from_be_bytes(*port)).into())
}

fn read_peers(values: &Tree) -> Option<Peers> {
    let peers: Peers = match &values.value {
        Value::Bytes(bytes) => bytes.chunks_exact(6).filter_map(endpoint).collect(),
        Value::List(items) => {
            let strings: Vec<_> = items.iter().map(Tree::as_bytes).collect();
            match strings[..] {
                [Some(lone)] if lone.len() % 6 == 0 && lone.len() != 18 => {
                    lone.chunks_exact(6).filter_map(endpoint).collect()
                }
                _ => strings.into_iter().flatten().filter_map(endpoint).collect(),
            }
        }
        Value::Int(_) | Value::Dict(_) => return None,
    };
    Some(peers.into_iter().filter(|peer| peer.port() != 0).collect())
}
