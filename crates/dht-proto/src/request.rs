//! What a user asks of the DHT, what comes back on the way, and how it ended.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::addr::Family;
use crate::config::Config;
use crate::footprint;
use crate::id::{InfoHash, ItemId, NodeId, Target};
use crate::item::Item;

/// How many times k nodes one lookup asks to store, at most.
pub(crate) const MAX_STORES: usize = 4;

/// An operation, to be started with [`Dht::start`](crate::Dht::start).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookup {
    /// Asks one address for its id (BEP 5 `ping`).
    Ping {
        /// Whom to ask.
        addr: SocketAddr,
    },
    /// Finds the k nodes closest to an id (BEP 5 `find_node`).
    FindNode {
        /// The id.
        target: NodeId,
    },
    /// Finds peers; they arrive as [`Event::Peers`] (BEP 5 `get_peers`).
    GetPeers {
        /// What they share.
        info_hash: InfoHash,
        /// Also asks for the bloom filters and estimates seeds and downloaders (BEP 33).
        scrape: bool,
        /// Asks nodes to leave seeds out (BEP 33).
        noseed: bool,
    },
    /// Finds peers and the k closest nodes, then announces there (BEP 5 `announce_peer`).
    Announce {
        /// What we share.
        info_hash: InfoHash,
        /// Where we listen.
        port: AnnouncePort,
        /// We have everything (BEP 33).
        seed: bool,
    },
    /// Finds an item; ever newer versions arrive as [`Event::Item`] (BEP 44 `get`).
    GetItem {
        /// The item's id.
        target: ItemId,
        /// The salt, which nodes do not return; empty for none and for immutable items.
        salt: Vec<u8>,
        /// Only a version newer than this is wanted.
        newer_than: Option<i64>,
    },
    /// Stores an item at the k closest nodes (BEP 44 `put`).
    PutItem {
        /// The item, already signed if mutable.
        item: Box<Item>,
        /// Store only where the present seq is this. Sent only to nodes that returned a value.
        cas: Option<i64>,
    },
    /// Asks one node for a sample of its infohashes (BEP 51).
    Sample {
        /// Whom to ask.
        addr: SocketAddr,
        /// Neighbourhood of the nodes returned beside the samples.
        target: Target,
    },
}

/// The port that an announce carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "BEP 5 knows these two")]
pub enum AnnouncePort {
    /// This port. Zero is refused by [`Dht::start`](crate::Dht::start).
    Explicit(u16),
    /// The UDP port that our query is seen to come from (`implied_port`).
    Implied,
}

/// Names a running lookup. Never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl LookupId {
    /// A small number, unique among running lookups: an index for side tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// Why a lookup was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// [`Config::max_lookups`](crate::config::Config::max_lookups) are running.
    AtCapacity,
    /// The address is of a family that this DHT does not speak.
    NoSuchFamily(Family),
    /// Port 0 cannot be announced or asked.
    BadPort,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtCapacity => f.write_str("too many lookups are running"),
            Self::NoSuchFamily(family) => write!(f, "this DHT has no {family} socket"),
            Self::BadPort => f.write_str("port 0 is not a port"),
        }
    }
}

impl core::error::Error for StartError {}

/// A node: its id and where it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a node has nothing else")]
pub struct NodeInfo {
    /// The id.
    pub id: NodeId,
    /// The UDP address.
    pub addr: SocketAddr,
}

/// Something the caller should know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Peers told by one node; may repeat what other nodes told.
    Peers {
        /// The lookup.
        lookup: LookupId,
        /// Who told.
        from: NodeInfo,
        /// The peers (TCP addresses).
        peers: Vec<SocketAddr>,
    },
    /// An item that passed every check and [supersedes](Item::supersedes) all that this lookup
    /// reported before, on either network.
    Item {
        /// The lookup.
        lookup: LookupId,
        /// Who had it.
        from: NodeInfo,
        /// The item.
        item: Box<Item>,
    },
    /// A sample of infohashes.
    Samples {
        /// The lookup.
        lookup: LookupId,
        /// Who answered.
        from: NodeInfo,
        /// The infohashes.
        samples: Vec<InfoHash>,
        /// How many the node stores in all, if it said so.
        total: Option<u64>,
        /// When another sample makes sense, if it said so: at most 6 h (BEP 51).
        interval: Option<Duration>,
        /// Nodes near the target, of either network, that a crawler asks next; nobody has heard from
        /// them yet.
        nodes: Vec<NodeInfo>,
    },
    /// The lookup ended: exactly once per lookup that was not cancelled.
    Done {
        /// The lookup.
        lookup: LookupId,
        /// How it went.
        outcome: Box<Outcome>,
    },
    /// Enough nodes agree on the address that they see us at.
    ExternalAddress(IpAddr),
    /// The node of this family began or ceased to answer queries.
    Serving {
        /// Which network.
        family: Family,
        /// Whether it answers.
        serving: bool,
    },
}

impl Event {
    /// The bytes of the heap that it takes up.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Peers { peers, .. } => footprint::room::<SocketAddr>(peers.capacity()),
            Self::Item { item, .. } => item.memory(),
            Self::Samples { samples, nodes, .. } => {
                let nodes = footprint::room::<NodeInfo>(nodes.capacity());
                footprint::room::<InfoHash>(samples.capacity()) + nodes
            }
            Self::Done { outcome, .. } => size_of::<Outcome>() + outcome.heap_bytes(),
            Self::ExternalAddress(_) | Self::Serving { .. } => 0,
        }
    }

    /// The lookup that the event belongs to, if it does.
    #[must_use]
    pub const fn lookup(&self) -> Option<LookupId> {
        match self {
            Self::Peers { lookup, .. }
            | Self::Item { lookup, .. }
            | Self::Samples { lookup, .. }
            | Self::Done { lookup, .. } => Some(*lookup),
            Self::ExternalAddress(_) | Self::Serving { .. } => None,
        }
    }
}

/// Why a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ended {
    /// It converged, and what it had to store was sent.
    #[default]
    Completed,
    /// [`Config::lookup_timeout`](crate::config::Config::lookup_timeout) passed.
    TimedOut,
    /// Nobody to ask: no contacts and no bootstrap addresses.
    NoContacts,
    /// Everybody was asked and nobody answered.
    NoAnswer,
    /// Everybody was asked, and the only answers were errors.
    OnlyErrors,
}

/// How a lookup went.
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended.
    pub ended: Ended,
    /// The closest nodes that answered, nearest first, at most k per family.
    pub closest: Vec<NodeInfo>,
    /// Hops from our own table to the nearest node that answered.
    pub depth: u8,
    /// Queries sent.
    pub queries: u32,
    /// Queries answered with a reply.
    pub replies: u32,
    /// Queries answered with an error. Those that met an announce or put are in
    /// [`refusals`](Self::refusals).
    pub errors: u32,
    /// Queries not answered in time.
    pub timeouts: u32,
    /// Time until the first peers, item or samples.
    pub first_value: Option<Duration>,
    /// Time until the closest nodes were known.
    pub converged: Option<Duration>,
    /// Time until the end.
    pub duration: Duration,
    /// Distinct peers found.
    pub peers: u32,
    /// Estimates from the bloom filters, if asked for and answered (BEP 33).
    pub scrape: Option<Scrape>,
    /// The newest item found; for a put, what was there before.
    pub item: Option<Box<Item>>,
    /// Nodes that returned that very item.
    pub holders: u32,
    /// Nodes that acknowledged the announce or put.
    pub stored: u32,
    /// Nodes that refused the announce or put.
    pub refusals: Vec<Refusal>,
}

impl Outcome {
    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        footprint::room::<NodeInfo>(self.closest.capacity())
            + footprint::room::<Refusal>(self.refusals.capacity())
            + self.item.as_ref().map_or(0, |item| item.memory())
    }

    /// The most bytes that the outcome on one network can take up, itself included.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        footprint::sum(&[
            size_of::<Self>(),
            footprint::list::<NodeInfo>(config.k),
            footprint::list::<Refusal>(MAX_STORES * config.k),
            Item::MEMORY_CEILING,
        ])
    }

    /// The outcome of one lookup on both networks.
    #[must_use]
    pub(crate) fn merge(mut self, other: Self) -> Self {
        let earlier = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        self.ended = self.ended.merge(other.ended);
        self.closest.extend(other.closest);
        self.depth = self.depth.max(other.depth);
        self.queries += other.queries;
        self.replies += other.replies;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.first_value = earlier(self.first_value, other.first_value);
        self.converged = self.converged.max(other.converged);
        self.duration = self.duration.max(other.duration);
        self.peers += other.peers;
        self.scrape = match (self.scrape, other.scrape) {
            (Some(a), Some(b)) => Some(Scrape {
                seeds: a.seeds + b.seeds,
                downloaders: a.downloaders + b.downloaders,
            }),
            (a, b) => a.or(b),
        };
        (self.item, self.holders) = match (self.item, other.item) {
            (Some(a), Some(b)) if a == b => (Some(a), self.holders + other.holders),
            (Some(a), Some(b)) if b.supersedes(&a) => (Some(b), other.holders),
            (None, b @ Some(_)) => (b, other.holders),
            (a, _) => (a, self.holders),
        };
        self.stored += other.stored;
        self.refusals.extend(other.refusals);
        self
    }
}

impl Ended {
    /// The better of two: a network without contacts does not spoil the other one's success.
    const fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Completed, _) | (_, Self::Completed) => Self::Completed,
            (Self::TimedOut, _) | (_, Self::TimedOut) => Self::TimedOut,
            (Self::OnlyErrors, _) | (_, Self::OnlyErrors) => Self::OnlyErrors,
            (Self::NoAnswer, _) | (_, Self::NoAnswer) => Self::NoAnswer,
            (Self::NoContacts, Self::NoContacts) => Self::NoContacts,
        }
    }
}

/// How many peers a torrent has, by the merged bloom filters of all nodes asked (BEP 33).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scrape {
    /// Estimated seeds.
    pub seeds: f64,
    /// Estimated downloaders.
    pub downloaders: f64,
}

/// A node's refusal to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Who refused.
    pub node: NodeInfo,
    /// The error code (BEP 5, BEP 44), see [`code`](crate::wire::code); 0 if none was given.
    pub code: i64,
}

impl Refusal {
    /// What a node answered.
    #[must_use]
    pub const fn new(node: NodeInfo, code: i64) -> Self {
        Self { node, code }
    }
}
