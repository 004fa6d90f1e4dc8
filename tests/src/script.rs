//! Nodes that answer by script: the peers of other implementations, and liars.
//!
//! Their messages are written byte by byte, not with the encoder under test, so that they may break
//! every rule.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dht_proto::MAX_DATAGRAM;
use dht_proto::id::{NodeId, Target};
use dht_proto::item::Item;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Message, Method, Query, Want, decode};
use ed25519_dalek::SigningKey;

use crate::world::World;

/// A query that reached a scripted node.
#[derive(Debug)]
pub struct Heard<'h> {
    /// When.
    pub now: Instant,
    /// Who asks.
    pub from: SocketAddr,
    /// Whom it asks.
    pub to: SocketAddr,
    /// The message.
    pub message: Message<'h>,
    /// Its body.
    pub query: Query<'h>,
}

/// What a scripted node sends back, whole datagrams; none for silence.
pub type Script = Box<dyn FnMut(&Heard<'_>) -> Vec<Vec<u8>> + Send>;

/// The parts of a reply. What is empty or `None` is left out.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `id`
    pub id: NodeId,
    /// `nodes` and `nodes6`, by family.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// `token`
    pub token: Option<Vec<u8>>,
    /// `values`, of either family.
    pub values: Vec<SocketAddr>,
    /// `v`, `k`, `sig` and `seq`.
    pub item: Option<Stored>,
    /// Bencoded pairs that go to the end of `r`, for what no reply should have.
    pub extra: Vec<u8>,
    /// Top-level `ip`.
    pub ip: Option<SocketAddr>,
}

/// The parts of an item in a reply, true or forged.
#[derive(Clone, Debug)]
pub struct Stored {
    /// `v`
    pub v: Vec<u8>,
    /// `k`, `sig`
    pub signed: Option<([u8; 32], [u8; 64])>,
    /// `seq`
    pub seq: Option<i64>,
}

impl Stored {
    /// The item as an honest node returns it.
    #[must_use]
    pub fn of(item: &Item) -> Self {
        let signed = item.signed();
        Self {
            v: item.value().to_vec(),
            signed: signed.map(|signed| (signed.public_key, signed.signature)),
            seq: signed.map(|signed| signed.seq),
        }
    }
}

impl Answer {
    /// A reply with an id and a token.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            nodes: Vec::new(),
            token: Some(b"tokn".to_vec()),
            values: Vec::new(),
            item: None,
            extra: Vec::new(),
            ip: None,
        }
    }

    /// The datagram that answers the query with transaction id `tid`.
    #[must_use]
    pub fn encode(&self, tid: &[u8]) -> Vec<u8> {
        let mut out = b"d".to_vec();
        if let Some(ip) = self.ip {
            string(&mut out, b"ip");
            string(&mut out, &compact(ip));
        }
        out.extend(b"1:rd2:id20:");
        out.extend(self.id.as_bytes());
        let item = self.item.as_ref();
        let signed = item.and_then(|item| item.signed);
        if let Some((key, _)) = signed {
            out.extend(b"1:k");
            string(&mut out, &key);
        }
        for (key, is_v4) in [(&b"nodes"[..], true), (b"nodes6", false)] {
            let family = self.nodes.iter().filter(|(_, addr)| addr.is_ipv4() == is_v4);
            let list = family.map(|(id, addr)| [&id.as_bytes()[..], &compact(*addr)].concat());
            let list: Vec<_> = list.collect();
            if !list.is_empty() {
                string(&mut out, key);
                string(&mut out, &list.concat());
            }
        }
        if let Some(seq) = item.and_then(|item| item.seq) {
            out.extend(format!("3:seqi{seq}e").as_bytes());
        }
        if let Some((_, signature)) = signed {
            out.extend(b"3:sig");
            string(&mut out, &signature);
        }
        if let Some(token) = &self.token {
            out.extend(b"5:token");
            string(&mut out, token);
        }
        if let Some(item) = item {
            out.extend(b"1:v");
            out.extend(&item.v);
        }
        if !self.values.is_empty() {
            out.extend(b"6:valuesl");
            self.values.iter().for_each(|peer| string(&mut out, &compact(*peer)));
            out.push(b'e');
        }
        out.extend(&self.extra);
        out.extend(b"e1:t");
        string(&mut out, tid);
        out.extend(b"1:y1:re");
        out
    }
}

/// The datagram that refuses a query.
#[must_use]
pub fn refusal(tid: &[u8], code: i64) -> Vec<u8> {
    let mut out = format!("d1:eli{code}e2:noe1:t").into_bytes();
    string(&mut out, tid);
    out.extend(b"1:y1:ee");
    out
}

/// A query as bytes, from a node with this id.
///
/// # Panics
/// If it does not fit a datagram.
#[must_use]
pub fn query(id: NodeId, tid: &[u8], read_only: bool, method: Method<'_>) -> Vec<u8> {
    let body = Body::Query(Query { id, want: Want::default(), method });
    encode(&Message { tid, version: None, ip: None, read_only, unsorted: false, body })
}

/// A message as bytes.
///
/// # Panics
/// If it does not fit a datagram.
#[must_use]
pub fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = vec![0; MAX_DATAGRAM];
    let len = message.encode(&mut out).expect("it fits");
    out.truncate(len);
    out
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("{}:", bytes.len()).as_bytes());
    out.extend(bytes);
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut out = match addr {
        SocketAddr::V4(addr) => addr.ip().octets().to_vec(),
        SocketAddr::V6(addr) => addr.ip().octets().to_vec(),
    };
    out.extend(addr.port().to_be_bytes());
    out
}

/// A mutable item, signed with the key that this byte makes.
///
/// # Panics
/// If the value or salt is no item's.
#[must_use]
pub fn signed(key: u8, salt: &[u8], seq: i64, value: &[u8]) -> Item {
    Item::sign(&SigningKey::from_bytes(&[key; 32]), salt, seq, value).expect("an item")
}

/// An id with these first bytes, then zeros.
#[must_use]
pub fn id(prefix: &[u8]) -> NodeId {
    let mut bytes = [0; 20];
    bytes[..prefix.len()].copy_from_slice(prefix);
    NodeId::from_bytes(bytes)
}

/// A record of what scripted nodes heard, shared with their scripts.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Entry>>>);

/// One query of a [`Log`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it arrived.
    pub now: Instant,
    /// Who asked.
    pub from: SocketAddr,
    /// Whom.
    pub to: SocketAddr,
    /// The datagram.
    pub bytes: Vec<u8>,
}

impl Log {
    /// All entries so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().expect("no script panicked").clone()
    }

    fn push(&self, heard: &Heard<'_>) {
        let bytes = encode(&heard.message);
        let Heard { now, from, to, .. } = *heard;
        let entry = Entry { now, from, to, bytes };
        self.0.lock().expect("no script panicked").push(entry);
    }
}

impl Entry {
    /// The query.
    ///
    /// # Panics
    /// Never: only queries are recorded.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        decode(&self.bytes).expect("only queries are recorded")
    }

    /// Its method.
    ///
    /// # Panics
    /// Never: only queries are recorded.
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        let Body::Query(query) = self.message().body else { panic!("only queries are recorded") };
        query.method
    }
}

impl World {
    /// A network of `n` scripted nodes, the i-th at [`World::v4`]`(i)` with [`World::scripted_id`]`(i)`.
    /// Each knows two thirds of the others, and they answer what `answer` makes of the reply that an honest node
    /// without stored data would give. `None` is silence.
    pub fn scripted(
        &mut self,
        n: usize,
        answer: impl Fn(usize, &Heard<'_>, Answer) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Log {
        let nodes: Vec<_> = (0..n).map(|i| (Self::scripted_id(i), Self::v4(i))).collect();
        let (log, answer) = (Log::default(), Arc::new(answer));
        for i in 0..n {
            let (nodes, log, answer) = (nodes.clone(), log.clone(), answer.clone());
            self.script(
                Self::v4(i),
                Box::new(move |heard| {
                    log.push(heard);
                    let mut honest = Answer::new(Self::scripted_id(i));
                    if let Some(target) = target(heard.query.method) {
                        let mut nodes = nodes.clone();
                        let mut index = 0..;
                        nodes.retain(|_| {
                            index.next().is_some_and(|j: usize| !(i + 2 * j).is_multiple_of(3))
                        });
                        nodes.sort_by_key(|(id, _)| id.distance(target));
                        nodes.truncate(8);
                        honest.nodes = nodes;
                    }
                    answer(i, heard, honest).into_iter().collect()
                }),
            );
        }
        log
    }

    /// Which of `n` scripted nodes are the `k` nearest to a target, nearest first.
    #[must_use]
    pub fn nearest(n: usize, target: Target, k: usize) -> Vec<usize> {
        let mut nodes: Vec<_> = (0..n).collect();
        nodes.sort_by_key(|i| Self::scripted_id(*i).distance(target));
        nodes.truncate(k);
        nodes
    }

    /// A silent host that records the queries it hears.
    pub fn eavesdrop(&mut self, addr: SocketAddr) -> Log {
        let log = Log::default();
        let record = log.clone();
        self.script(
            addr,
            Box::new(move |heard| {
                record.push(heard);
                Vec::new()
            }),
        );
        log
    }

    /// The id of the i-th node of [`World::scripted`].
    #[must_use]
    pub const fn scripted_id(i: usize) -> NodeId {
        NodeId::from_bytes([(i as u8).wrapping_mul(37).wrapping_add(1); 20])
    }
}

/// What a query looks for; `None` for those that get only an acknowledgement.
fn target(method: Method<'_>) -> Option<Target> {
    match method {
        Method::FindNode { target } | Method::SampleInfohashes { target } => Some(target),
        Method::GetPeers { info_hash, .. } => Some(info_hash.target()),
        Method::Get { target, .. } => Some(target.target()),
        _ => None,
    }
}
