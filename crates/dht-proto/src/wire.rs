//! KRPC messages (BEP 5, 32, 33, 42, 43, 44, 51): borrowed values, decoded and encoded in one pass.
//!
//! [`decode()`] never panics, allocates nothing and takes time linear in the datagram. A decoded
//! [`Message`] cannot hold an illegal query: what is missing or has the wrong type is a
//! [`DecodeError`], which knows whether an answer is due.
//!
//! Syntax is strict, order is not: real nodes send unsorted dictionaries. Unknown keys are skipped,
//! the first of two equal keys wins, and a BEP 44 `v` stays the raw span that it arrived in.

mod bencode;
mod compact;
mod decode;
mod encode;

use core::net::IpAddr;

pub use self::compact::{Values, nodes, write_node};
pub(crate) use self::compact::{value_len, write_value};
pub(crate) use self::decode::peek;
pub use self::decode::{DecodeError, MAX_DATAGRAM_READ, decode};
pub(crate) use self::encode::{Head, Part};
use crate::id::{InfoHash, ItemId, NodeId, Target};

/// The longest `interval` of a sample, in seconds (BEP 51: "between 0 and 21600").
pub(crate) const MAX_INTERVAL_SECS: u64 = 21_600;

/// A KRPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct Message<'a> {
    /// `t`: transaction id, of any length.
    pub tid: &'a [u8],
    /// `v`: client version.
    pub version: Option<&'a [u8]>,
    /// `ip`: the address that the sender sees us at, with the port if it was given (BEP 42).
    pub ip: Option<(IpAddr, Option<u16>)>,
    /// `ro`: the sender answers no queries (BEP 43). Read at the top level or inside `a`.
    pub read_only: bool,
    /// Keys were out of order or doubled. Never encoded.
    pub unsorted: bool,
    /// What `y` says this is.
    pub body: Body<'a>,
}

/// The three kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "KRPC has three message kinds")]
pub enum Body<'a> {
    /// `y` = `q`.
    Query(Query<'a>),
    /// `y` = `r`.
    Reply(Reply<'a>),
    /// `y` = `e`.
    Error(ErrorReply<'a>),
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct Query<'a> {
    /// The sender's node id.
    pub id: NodeId,
    /// `want`: families of the nodes asked for (BEP 32).
    pub want: Want,
    /// Method and arguments.
    pub method: Method<'a>,
}

/// Which node lists a query asks for (BEP 32). Neither means: the family of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct Want {
    /// `n4`
    pub n4: bool,
    /// `n6`
    pub n6: bool,
}

/// Methods and their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method<'a> {
    /// BEP 5.
    Ping,
    /// BEP 5.
    FindNode {
        /// Whose neighbours are asked for.
        target: Target,
    },
    /// BEP 5, BEP 33.
    GetPeers {
        /// What is looked for.
        info_hash: InfoHash,
        /// `noseed`: leave seeds out of `values` (BEP 33).
        noseed: bool,
        /// `scrape`: add the bloom filters (BEP 33).
        scrape: bool,
    },
    /// BEP 5.
    AnnouncePeer {
        /// What is announced.
        info_hash: InfoHash,
        /// Port of the peer; never 0 unless `implied_port`.
        port: u16,
        /// The peer's port is the one the query came from.
        implied_port: bool,
        /// `seed`: the peer has everything (BEP 33).
        seed: bool,
        /// From an earlier reply of the same node.
        token: &'a [u8],
    },
    /// BEP 44.
    Get {
        /// What is looked for.
        target: ItemId,
        /// Leave the value out unless it is newer than this.
        seq: Option<i64>,
    },
    /// BEP 44.
    Put(Put<'a>),
    /// BEP 51.
    SampleInfohashes {
        /// Neighbourhood of the nodes returned beside the samples.
        target: Target,
    },
    /// A method that we do not know.
    Unknown {
        /// `q`.
        name: &'a [u8],
        /// `target` or `info_hash`, if there was one: then it is answered like find_node.
        target: Option<Target>,
    },
}

/// Arguments of a `put` (BEP 44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct Put<'a> {
    /// From an earlier reply of the same node.
    pub token: &'a [u8],
    /// The raw bencoded value, of whatever length it came in.
    pub v: &'a [u8],
    /// Present if the item is mutable.
    pub mutable: Option<PutMutable<'a>>,
}

/// Arguments of a mutable `put` (BEP 44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct PutMutable<'a> {
    /// `k`
    pub public_key: &'a [u8; 32],
    /// `salt`, of whatever length it came in; empty if absent.
    pub salt: &'a [u8],
    /// `seq`
    pub seq: i64,
    /// `sig`
    pub signature: &'a [u8; 64],
    /// `cas`: store only if the stored seq is this.
    pub cas: Option<i64>,
}

/// A reply. Which fields mean anything depends on the query that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct Reply<'a> {
    /// The sender's node id.
    pub id: NodeId,
    /// `nodes`: whole 26-byte records.
    pub nodes: Option<&'a [u8]>,
    /// `nodes6`: whole 38-byte records.
    pub nodes6: Option<&'a [u8]>,
    /// `token`
    pub token: Option<&'a [u8]>,
    /// `values`
    pub values: Option<Values<'a>>,
    /// `v` of an item, raw.
    pub v: Option<&'a [u8]>,
    /// `k` of an item.
    pub public_key: Option<&'a [u8; 32]>,
    /// `sig` of an item.
    pub signature: Option<&'a [u8; 64]>,
    /// `seq` of an item.
    pub seq: Option<i64>,
    /// `BFsd` (or `BFse`): seeds (BEP 33).
    pub seeds_filter: Option<&'a [u8; 256]>,
    /// `BFpe`: downloaders (BEP 33).
    pub peers_filter: Option<&'a [u8; 256]>,
    /// `samples`: whole 20-byte infohashes (BEP 51).
    pub samples: Option<&'a [u8]>,
    /// `num`: how many infohashes the node stores (BEP 51).
    pub num: Option<i64>,
    /// `interval`: seconds until another sample makes sense (BEP 51).
    pub interval: Option<i64>,
}

impl Reply<'_> {
    /// A reply that carries nothing but the id.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Reply {
            id,
            nodes: None,
            nodes6: None,
            token: None,
            values: None,
            v: None,
            public_key: None,
            signature: None,
            seq: None,
            seeds_filter: None,
            peers_filter: None,
            samples: None,
            num: None,
            interval: None,
        }
    }
}

/// An error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by whoever encodes a message")]
pub struct ErrorReply<'a> {
    /// The code; see [`code`]. 0 if the sender gave none.
    pub code: i64,
    /// Text for people, not necessarily UTF-8.
    pub message: &'a [u8],
}

/// Error codes (BEP 5 "Errors", BEP 44 "Error codes").
pub mod code {
    /// Generic error.
    pub const GENERIC: i64 = 201;
    /// Server error.
    pub const SERVER: i64 = 202;
    /// Malformed packet, invalid arguments or bad token.
    pub const PROTOCOL: i64 = 203;
    /// Method unknown.
    pub const METHOD_UNKNOWN: i64 = 204;
    /// `v` too big.
    pub const VALUE_TOO_BIG: i64 = 205;
    /// Invalid signature.
    pub const BAD_SIGNATURE: i64 = 206;
    /// Salt too big.
    pub const SALT_TOO_BIG: i64 = 207;
    /// The `cas` number did not match.
    pub const CAS_MISMATCH: i64 = 301;
    /// The sequence number is less than the current.
    pub const SEQ_TOO_OLD: i64 = 302;
}
